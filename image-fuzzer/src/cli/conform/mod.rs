//! `generate` and `conform`: images for any reader, and how a reader does on them.

mod generate;
mod page;
mod table;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;
use clap::builder::PossibleValuesParser;
use image_formats::Format;
use serde_json::json;

use super::{FINDINGS, OK};
use crate::conform::{Reader, Row, Sample, Summary, broken, conform, valid};
use crate::files::{existing_path, write_whole};
use crate::output;
use image_mutations::base::Formats;
use image_mutations::case::Maker;

pub(super) use generate::{GenerateArgs, run as run_generate};

/// The arguments of `conform`.
#[derive(Debug, ClapArgs)]
pub(super) struct ConformArgs {
    /// Format of the images
    #[arg(value_name = "FORMAT", value_parser = PossibleValuesParser::new(Formats::words_of_one()))]
    format: String,
    /// The reader and its arguments: $img is the image (added at the end where it is missing),
    /// $out a file that it writes the data of the disk into; without $out it writes them to its
    /// standard output
    #[arg(value_name = "READER", required = true, last = true)]
    reader: Vec<String>,
    /// How many images for each feature and each rule, of rising complexity
    #[arg(long, value_name = "N", default_value_t = 3)]
    count: usize,
    /// Draw the images from this seed
    #[arg(long, value_name = "STRING", default_value = "conform")]
    campaign_seed: String,
    /// Only these features or rules; can be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Leave out broken images
    #[arg(long)]
    valid_only: bool,
    /// Seconds that the reader has for an image
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Let the reader read this folder or file, besides its own folder and the system's: where it
    /// is a script, what that starts; can be repeated
    #[arg(long, value_name = "PATH", value_parser = existing_path)]
    allow_read: Vec<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Write a page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Keep the images that the reader did not do well on in this new or empty folder, a folder
    /// for each, as generate writes them
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Runs a reader on images of a format.
///
/// # Errors
///
/// The reader cannot be started, or the output cannot be written.
pub(super) fn run(args: &ConformArgs) -> Result<u8> {
    let format = Format::from_name(&args.format).context("no such format")?;
    if let Some(keep) = &args.keep {
        new_folder(keep)?;
    }
    let mut reader = Reader::new(
        args.reader.clone(),
        Duration::from_secs(args.timeout),
        &args.allow_read,
    )?;
    let mut maker = Maker::default();
    let (count, seed) = (args.count.max(1), args.campaign_seed.as_str());
    let mut samples = valid(format, count, seed, &mut maker)?;
    // Broken images take most of the time to draw.
    let is_feature = |name: &String| samples.iter().any(|it| it.subject.name() == name);
    let features_alone = !args.only.is_empty() && args.only.iter().all(is_feature);
    if !args.valid_only && !features_alone {
        samples.extend(broken(format, count, seed, &mut maker)?);
    }
    select(&mut samples, &args.only, format)?;
    let mut number = 0;
    let mut problem = None;
    let rows = conform(&mut reader, samples, |sample, outcome| {
        let Some(keep) = args.keep.as_ref().filter(|_| !sample.is_met_by(outcome)) else {
            return;
        };
        number += 1;
        let folder = keep.join(format!("{number:06}"));
        let kept = generate::write_sample(&folder, &sample.recipe, &sample.files);
        problem = problem.take().or(kept.err());
    })?;
    if let Some(problem) = problem {
        return Err(problem);
    }
    if let Some(page) = &args.html {
        let text = page::page(format, &args.reader, &rows);
        write_whole(page, text.as_bytes())
            .with_context(|| format!("cannot write '{}'", page.display()))?;
    }
    if args.json {
        output::line(&serde_json::to_string_pretty(&json!({
            "format": format,
            "reader": args.reader,
            "rows": rows.iter().map(json_row).collect::<Vec<_>>(),
        }))?)?;
    } else {
        output::print(&table::table(format, &args.reader, &rows))?;
    }
    let failed = |row: &Row| matches!(row.summary(), Summary::WrongData | Summary::Fails);
    Ok(if rows.iter().any(failed) {
        FINDINGS
    } else {
        OK
    })
}

/// Leaves the samples of the subjects that are named in `only`, or all where none is.
///
/// # Errors
///
/// There is no sample of a subject that is named.
fn select(samples: &mut Vec<Sample>, only: &[String], format: Format) -> Result<()> {
    let mut names: Vec<&str> = samples.iter().map(|it| it.subject.name()).collect();
    names.dedup();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!(
            "no image of {format} for '{unknown}': --only takes {}",
            names.join(", ")
        );
    }
    samples.retain(|it| only.is_empty() || only.iter().any(|name| name == it.subject.name()));
    Ok(())
}

/// A row with its summary.
fn json_row(row: &Row) -> serde_json::Value {
    json!({
        "subject": row.subject,
        "summary": row.summary(),
        "results": row.results,
    })
}

/// Makes an empty folder, or fails where there is something already.
pub(super) fn new_folder(folder: &std::path::Path) -> Result<()> {
    let name = folder.display();
    fs::create_dir_all(folder).with_context(|| format!("cannot create '{name}'"))?;
    let mut entries = fs::read_dir(folder).with_context(|| format!("cannot read '{name}'"))?;
    anyhow::ensure!(
        entries.next().is_none(),
        "'{name}' is not empty: name another folder"
    );
    Ok(())
}
