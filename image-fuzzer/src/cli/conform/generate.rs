//! `generate`: images of a format in folders, each with what is known of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use clap::builder::PossibleValuesParser;
use data_encoding::HEXLOWER;
use image_formats::AnyImage;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::new_folder;
use crate::campaign::{Plan, fresh};
use crate::conform::data;
use crate::files::write_whole;
use crate::input::guard::GuardPlan;
use crate::input::recipe::Recipe;
use crate::output::{self, counted};
use image_mutations::base::Formats;
use image_mutations::case::{Maker, disk_of};
use image_mutations::mutate::Intensity;
use image_mutations::named_file::NamedFile;

/// The arguments of `generate`.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct GenerateArgs {
    /// Format of the images; 'all' takes turns
    #[arg(value_name = "FORMAT", value_parser = PossibleValuesParser::new(Formats::words()))]
    format: String,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 100)]
    count: u32,
    /// The folder that they are written into, a folder for each
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How much is changed: 0 for valid images, or as for a campaign
    #[arg(long, value_name = "AMOUNT", default_value = "0")]
    intensity: Intensity,
    /// Draw the images from this seed: the same one gives the same files
    #[arg(long, value_name = "STRING", default_value = "generate")]
    campaign_seed: String,
}

/// Writes images.
///
/// # Errors
///
/// The folder is not empty, or cannot be written.
pub(in crate::cli) fn run(args: &GenerateArgs) -> Result<u8> {
    new_folder(&args.out)?;
    let plan = Plan {
        formats: Formats::named(&args.format).unwrap_or_default(),
        intensity: args.intensity,
        guard: GuardPlan::Off,
        ..Plan::default()
    };
    let mut maker = Maker::default();
    let width = args.count.to_string().len();
    for number in 0..args.count {
        let mut recipe = fresh(
            &format!("{}/{number}", args.campaign_seed),
            &plan,
            &mut maker,
        )?;
        recipe.commands.clear();
        let files = maker.files(&recipe.base, &recipe.edits)?;
        write_sample(&args.out.join(format!("{number:0width$}")), &recipe, &files)?;
    }
    let count = counted(args.count.into(), "image");
    output::line(&format!("{count} in {}", args.out.display()))?;
    Ok(super::OK)
}

/// Writes the files of an image into a new folder, with its recipe and `image.json`.
pub(super) fn write_sample(folder: &Path, recipe: &Recipe, files: &[NamedFile]) -> Result<()> {
    let failed = || format!("cannot write '{}'", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    for file in files {
        file.write_into(folder).with_context(failed)?;
    }
    write_whole(&folder.join("recipe.json"), recipe.to_json()?.as_bytes()).with_context(failed)?;
    let mut text = serde_json::to_string_pretty(&description(recipe, files)?)?;
    text.push('\n');
    write_whole(&folder.join("image.json"), text.as_bytes()).with_context(failed)
}

/// What is known of an image.
fn description(recipe: &Recipe, files: &[NamedFile]) -> Result<Value> {
    let base = &recipe.base;
    let format = base.format();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let mut defects = Vec::new();
    if let Some(image) = files.first().filter(|_| !recipe.edits.is_empty()) {
        let image = AnyImage::open(std::sync::Arc::new(image.clone()), format)?;
        defects = image.defects()?;
    }
    let valid = recipe.edits.is_empty();
    let (mut size, mut hash) = (None, None);
    if valid {
        size = disk_of(files, format).ok().map(|disk| disk.size());
        hash = data(files, format).map(|data| HEXLOWER.encode(&Sha256::digest(&data)));
    }
    Ok(json!({
        "format": format,
        "image": names.first(),
        "needs": names.get(1..),
        "seed": recipe.seed,
        "valid": valid,
        "features": base.features(),
        "virtual_size": size,
        "sha256": hash,
        "passphrase": base.is_encrypted().then_some(image_mutations::base::PASSPHRASE),
        "defects": defects,
    }))
}
