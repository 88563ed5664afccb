//! `report`: what was found in a work folder.

mod card;
mod hex;
mod page;
mod sarif;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::OK;
use super::args::ReportArgs;
use crate::campaign::{BlockCounts, BlockLog, NoveltySources, Run, Totals, sweep_progress};
use crate::finding::{Record, counts, records};
use crate::input::recipe::FUZZER;
use crate::output::{self, counted};

/// One group of a report.
struct Row {
    folder: PathBuf,
    record: Record,
    hits: usize,
    /// What it is beside the other work folder, where there is one.
    change: Option<Change>,
}

/// What a group is in a comparison with another work folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// The other folder does not have it.
    New,
    /// Both have it.
    Kept,
    /// Only the other folder has it.
    Gone,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Kept => "still there",
            Self::Gone => "gone",
        }
    }
}

impl Row {
    /// Its title: what the program printed, with its numbers, or else the signature.
    fn title(&self) -> String {
        self.record.key.signature.title(&self.record.summary)
    }

    /// What there is to say of how sure it is.
    fn state(&self) -> &'static str {
        match (self.record.confirmed, self.record.minimised) {
            (true, true) => "",
            (true, false) => "minimisation pending",
            (false, true) => "not reproducible",
            (false, false) => "to be confirmed",
        }
    }
}

/// All that a report is made from.
struct Report {
    dir: PathBuf,
    rows: Vec<Row>,
    /// How many groups the options left out.
    left_out: usize,
    totals: Totals,
    sweep: Option<(u64, u64)>,
    /// The blocks of programs, where they were noted.
    blocks: Option<BlockCounts>,
    runs: Vec<Run>,
    /// Where new blocks and messages came from.
    novelty: NoveltySources,
}

/// Prints a table or JSON, or writes a page or a log in the form of SARIF.
pub(super) fn run(args: &ReportArgs) -> Result<u8> {
    let report = Report::new(args)?;
    if let Some(path) = &args.html {
        let page = std::path::absolute(path)?;
        let folder = page.parent().unwrap_or(&page);
        write(&report, path, &page::page(&report, folder))?;
    } else if let Some(path) = &args.sarif {
        let log = serde_json::to_string_pretty(&sarif::log(&report))?;
        write(&report, path, &format!("{log}\n"))?;
    } else if args.json {
        output::line(&serde_json::to_string_pretty(&as_json(&report))?)?;
    } else {
        output::print(&table::text(&report))?;
    }
    Ok(OK)
}

/// Writes a report to a file, and says so.
fn write(report: &Report, path: &Path, text: &str) -> Result<()> {
    output::write(path, text)?;
    if !output::is_stdout(path) {
        let groups = counted(report.rows.len() as u64, "group");
        output::line(&format!("{groups} in {}", path.display()))?;
    }
    Ok(())
}

impl Report {
    /// The report of the work folder that the options name, the worst findings first.
    ///
    /// # Errors
    ///
    /// A work folder cannot be read, or a finding in it is damaged.
    fn new(args: &ReportArgs) -> Result<Self> {
        let mut rows = rows(&args.dir)?;
        if let Some(other) = &args.against {
            ensure!(
                other.is_dir(),
                "there is no work folder '{}'",
                other.display()
            );
            compare(&mut rows, self::rows(other)?);
        }
        let all = rows.len();
        rows.retain(|row| {
            let record = &row.record;
            let texts = [row.title(), record.key.to_string(), record.command.clone()];
            let class = args.class.is_empty() || args.class.contains(&record.key.class);
            let pattern = args.matching.as_ref();
            class && pattern.is_none_or(|it| texts.iter().any(|text| it.is_match(text)))
        });
        rows.sort_by(|a, b| {
            let (one, other) = (a.record.key.class, b.record.key.class);
            let order = one.severity().cmp(&other.severity());
            order.then(one.cmp(&other)).then(b.hits.cmp(&a.hits))
        });
        Ok(Self {
            dir: args.dir.clone(),
            left_out: all - rows.len(),
            rows,
            totals: Totals::last(&args.dir),
            sweep: sweep_progress(&args.dir),
            blocks: BlockLog::read(&args.dir).counts(),
            runs: Run::all(&args.dir),
            novelty: NoveltySources::read(&args.dir),
        })
    }

    /// What was run, when and how, a name and a value each.
    fn header(&self) -> Vec<(&'static str, String)> {
        let mut header = vec![("work folder", self.dir.display().to_string())];
        if let (Some(first), Some(last)) = (self.runs.first(), self.runs.last()) {
            let times = match self.runs.len() {
                1 => first.time.clone(),
                runs => format!("{} to {}, {runs} runs", first.time, last.time),
            };
            header.push(("started", times));
            header.push(("fuzzer", last.fuzzer.clone()));
            header.push(("command line", last.command_line.clone()));
            header.push(("seed", last.seed.clone()));
            let versions: BTreeMap<&String, &String> =
                self.runs.iter().flat_map(|run| &run.programs).collect();
            let versions: Vec<&str> = versions.values().map(|it| it.as_str()).collect();
            if !versions.is_empty() {
                header.push(("programs", versions.join("; ")));
            }
        }
        let totals = &self.totals;
        if totals.images > 0 {
            header.push((
                "tested",
                format!(
                    "{}, {} in {:.0} s, {:.0} % opened",
                    counted(totals.images, "image"),
                    counted(totals.commands, "command"),
                    totals.seconds,
                    totals.opened_percent()
                ),
            ));
        }
        if let Some(blocks) = &self.blocks {
            header.push(("blocks", blocks.text(totals)));
        }
        if let Some((finished, total)) = self.sweep {
            header.push(("sweep", format!("{finished} of {total}")));
        }
        header
    }
}

/// The groups in a work folder.
fn rows(dir: &Path) -> Result<Vec<Row>> {
    let counts = counts(dir);
    let rows = records(dir)?.into_iter().map(|(folder, record)| Row {
        hits: counts.get(&record.key).copied().unwrap_or(0),
        folder,
        record,
        change: None,
    });
    Ok(rows.collect())
}

/// Marks each row by whether `other` has its group, and adds those that only `other` has.
fn compare(rows: &mut Vec<Row>, other: Vec<Row>) {
    let same = |one: &Row, other: &Row| {
        let (one, other) = (&one.record.key, &other.record.key);
        // In another build the same crash is at another place of a program without symbols.
        one.covers(other) || one.class == other.class && one.signature.is_rebuilt(&other.signature)
    };
    for row in rows.iter_mut() {
        let kept = other.iter().any(|other| same(row, other));
        row.change = Some(if kept { Change::Kept } else { Change::New });
    }
    let mut gone: Vec<Row> = other
        .into_iter()
        .filter(|other| !rows.iter().any(|row| same(row, other)))
        .collect();
    for row in &mut gone {
        row.change = Some(Change::Gone);
    }
    rows.append(&mut gone);
}

/// The groups as JSON.
fn as_json(report: &Report) -> Value {
    let groups = report.rows.iter().map(|row| {
        let mut group = json!({
            "class": row.record.key.class,
            "signature": row.record.key.signature.to_string(),
            "title": row.title(),
            "hits": row.hits,
            "summary": row.record.summary,
            "command": row.record.command,
            "edits": row.record.edits,
            "bytes": row.record.bytes,
            "changes": row.record.changes,
            "steps": row.record.steps,
            "confirmed": row.record.confirmed,
            "stack": row.record.stack,
            "trace": row.record.trace,
            "versions": row.record.versions,
            // JSON has no other names than those of characters.
            "folder": row.folder.to_string_lossy(),
        });
        if let (Some(change), Some(fields)) = (row.change, group.as_object_mut()) {
            fields.insert("change".into(), change.word().into());
        }
        group
    });
    json!({
        "fuzzer": FUZZER,
        "groups": groups.collect::<Vec<_>>(),
        "runs": report.runs,
        "sweep": report.sweep,
        "blocks": report.blocks,
        "novelty": report.novelty,
        "total": report.totals,
    })
}
