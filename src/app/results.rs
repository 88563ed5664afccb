//! `replay` and `merge-results`: runs of earlier.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::say;
use crate::args::LowArgs;
use crate::exit;
use crate::history::Previous;
use crate::model::{Event, Reporter};
use crate::report::{self, Parts, RunInfo};
use crate::results::{self, Ending, Merged, Source, Survey};

/// Tells the events of a run.
type Tell<'a> = &'a mut dyn FnMut(&Event, Option<Parts>);

/// Shows the run in `file` again, or unpacks its files.
pub(super) fn replay(args: &LowArgs, file: &Path) -> Result<u8> {
    let source = Source::open(file)?;
    if let Some(dir) = &args.extract {
        say(&results::extract(&source, dir)?)?;
        return Ok(exit::OK);
    }
    let survey = Survey::new(&source)?;
    keeps(args, &[file.to_owned()])?;
    if survey.was_killed() {
        say_killed(&source);
    }
    let run = |tell: Tell<'_>| results::replay(&source, &survey, tell);
    show(args, &survey.info, &survey.previous, run)
}

/// Shows the runs in `files` as one.
pub(super) fn merge(args: &LowArgs, files: &[PathBuf]) -> Result<u8> {
    let merged = Merged::open(files)?;
    keeps(args, files)?;
    merged.killed().for_each(say_killed);
    show(args, &merged.info, &merged.previous, |tell| {
        merged.replay(tell)
    })
}

/// Shows a run; gives its exit status.
fn show(
    args: &LowArgs,
    info: &RunInfo,
    previous: &Previous,
    run: impl FnOnce(Tell<'_>) -> Result<Ending>,
) -> Result<u8> {
    let mut reports = report::build_replay(args, info, previous)?;
    let ending = run(&mut |event, parts| reports.replay(event, parts))?;
    let troubles = reports.finish();
    troubles.iter().for_each(|trouble| say::error(trouble));
    for missing in &info.missing_shards {
        say::error(&format!("{missing} is missing: there is no result of it"));
    }
    // What is missing makes a run no success, but nobody interrupted it.
    Ok(if !info.missing_shards.is_empty() {
        exit::FAILED
    } else if ending.interrupted {
        exit::INTERRUPTED
    } else if ending.failed > 0 || (ending.flaky > 0 && !info.flaky_passes) || !troubles.is_empty()
    {
        exit::FAILED
    } else {
        exit::OK
    })
}

fn say_killed(source: &Source) {
    say::error(&format!(
        "{} ends before its run does (killed, or no room left): shown as interrupted",
        source.path().display()
    ));
}

/// Checks that no report replaces one of the files that are read.
fn keeps(args: &LowArgs, files: &[PathBuf]) -> Result<()> {
    let page = args.html.as_ref().map(|dir| dir.join("index.html"));
    let written = [args.json.as_ref(), args.junit.as_ref(), page.as_ref()];
    for path in written.into_iter().flatten() {
        let Ok(place) = path.canonicalize() else {
            continue;
        };
        let read = |file: &PathBuf| file.canonicalize().is_ok_and(|file| file == place);
        if place.is_file() && files.iter().any(read) {
            bail!("{} would be replaced by what is made of it", path.display());
        }
    }
    Ok(())
}
