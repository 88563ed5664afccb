//! The share of the validations missing from the planted reader that a campaign finds: each is
//! missing alone, in a campaign of its own with one worker.
//!
//! `cargo bench -p image-fuzzer --bench recall [-- SECONDS [NAME ...]]`

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use image_fuzzer::campaign::Campaign;
use image_fuzzer::commands::Programs;
use image_fuzzer::exec::Limits;
use image_fuzzer::finding::records;
use image_fuzzer::oracle::runner::Settings;

/// The reader.
const PLANTED: &str = env!("CARGO_BIN_EXE_planted");

/// How often a campaign's folder is looked at for a finding.
const LOOK: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    // Cargo adds options of its own.
    let words: Vec<String> = std::env::args().skip(1).collect();
    let seconds = words.iter().find_map(|word| word.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(20));
    let mut faults = faults()?;
    let named: BTreeSet<&String> = words.iter().filter(|it| faults.contains_key(*it)).collect();
    faults.retain(|name, _| named.is_empty() || named.contains(name));
    println!("{:<30} {:<17} seconds", "missing validation", "class");
    let mut found = 0;
    for (name, class) in &faults {
        let seconds = measure(name, class, time)?;
        let shown = seconds.map_or_else(|| "-".into(), |found| format!("{found:.1}"));
        println!("{name:<30} {class:<17} {shown:>7}");
        found += u32::from(seconds.is_some());
    }
    let all = faults.len();
    println!(
        "found in their class in {} s with one worker: {found} of {all}",
        time.as_secs()
    );
    Ok(())
}

/// The faults and their classes, as the reader lists them.
fn faults() -> Result<BTreeMap<String, String>> {
    let done = Command::new(PLANTED).arg("list").output()?;
    let list = String::from_utf8(done.stdout)?;
    let line = |line: &str| {
        let (name, class) = line.split_once('\t').context("a line without a class")?;
        Ok((name.to_owned(), class.to_owned()))
    };
    list.lines().map(line).collect()
}

/// The time in seconds to the first finding that shows the fault as what it is; `None` where
/// there is none.
fn measure(missing: &str, class: &str, time: Duration) -> Result<Option<f64>> {
    let folder = tempfile::tempdir().context("cannot create a folder for a campaign")?;
    let campaign = campaign(missing, folder.path(), time);
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let seconds = std::thread::scope(|scope| -> Result<Option<f64>> {
        let running = scope.spawn(|| campaign.run(&stop));
        let mut first = None;
        while !running.is_finished() {
            if first.is_none() && is_found(folder.path(), missing, class) {
                first = Some(began.elapsed().as_secs_f64());
                // What else it finds tells nothing of this fault.
                stop.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(LOOK);
        }
        let summary = running
            .join()
            .map_err(|_| anyhow!("the campaign panicked"))??;
        ensure!(summary.error.is_none(), "{:?}", summary.error);
        Ok(first)
    })?;
    // One that is written down as the campaign ends is found at its end.
    let at_end = || is_found(folder.path(), missing, class).then_some(time.as_secs_f64());
    Ok(seconds.or_else(at_end))
}

/// Whether a work folder has a finding of that class. Whatever it misses, the reader does not
/// know all rules, so that of those that it accepts the name of the rule tells.
fn is_found(work: &Path, missing: &str, class: &str) -> bool {
    records(work).unwrap_or_default().iter().any(|(_, record)| {
        let is_accepted = class == "accepted-invalid";
        let of_rule = record.key.signature.to_string().ends_with(missing);
        record.key.class.to_string() == class && (of_rule || !is_accepted)
    })
}

/// A campaign against the reader without that validation.
fn campaign(missing: &str, folder: &Path, time: Duration) -> Campaign {
    let program: Vec<OsString> = [PLANTED, "fault", missing].map(OsString::from).into();
    let settings = Settings {
        limits: Limits {
            wall: Duration::from_secs(5),
            ..Limits::default()
        },
        ..Settings::new(Programs::new(program.clone(), program), folder)
    };
    Campaign {
        seed: Some("recall".into()),
        duration: Some(time),
        workers: 1,
        ..Campaign::new(folder, settings)
    }
}
