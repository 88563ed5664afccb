//! `coverage`: which blocks, functions and source files a campaign reached.

mod json;
mod lines;
mod measure;
mod model;
mod page;
mod table;
mod unreached;

use anyhow::{Result, bail, ensure};
use blocks::FileGlob;

use super::args::CoverageArgs;
use super::{OK, print_message};
use crate::campaign::BlockLog;
use crate::output;
use measure::{Wanted, measure};
use model::CoveredProgram;

/// All that is shown.
struct Coverage {
    log: BlockLog,
    programs: Vec<CoveredProgram>,
}

/// Prints tables, a list of what was not reached or JSON, or writes a page.
///
/// # Errors
///
/// The work folder has no log of blocks, or no source file is as the options ask.
pub(super) fn run(args: &CoverageArgs) -> Result<u8> {
    let dir = &args.dir;
    ensure!(dir.is_dir(), "there is no work folder '{}'", dir.display());
    let log = BlockLog::read(dir);
    ensure!(
        !log.files.is_empty(),
        "no blocks were noted in '{}': it was run with --no-coverage, by an earlier version, or \
         on programs whose blocks cannot be noted",
        dir.display()
    );
    let wanted = Wanted {
        globs: &args.files,
        lines: args.list_unreached || args.json || args.html.is_some(),
        debug_dirs: &args.debug_dir,
    };
    let programs = measure(&log, &wanted);
    check_globs(&args.files, &programs)?;
    let coverage = Coverage { log, programs };
    let is_whole = args.all || !args.files.is_empty();
    if let Some(path) = &args.html {
        output::write(path, &page::page(&coverage, dir, args.all))?;
        if !output::is_stdout(path) {
            output::line(&format!("coverage in {}", path.display()))?;
        }
    } else if args.json {
        output::line(&serde_json::to_string_pretty(&json::value(&coverage))?)?;
    } else if args.list_unreached {
        let (list, notes) = unreached::text(&coverage.programs, is_whole);
        notes.iter().for_each(|note| print_message(note));
        output::print(&list)?;
    } else {
        output::print(&table::text(&coverage.programs, is_whole))?;
    }
    Ok(OK)
}

/// Each pattern must match a file, where files are known.
fn check_globs(globs: &[FileGlob], programs: &[CoveredProgram]) -> Result<()> {
    let codes = programs.iter().filter_map(|it| it.code.as_ref().ok());
    let codes: Vec<_> = codes.collect();
    if codes.iter().all(|it| !it.has_files) {
        return match globs.first() {
            Some(glob) => {
                let install = codes.iter().find_map(|it| it.install.as_ref());
                let how = install.map_or_else(String::new, |it| format!("; to install them: {it}"));
                bail!(
                    "cannot select '{}': there are no debug symbols, which name source files{how}",
                    glob.text()
                )
            }
            None => Ok(()),
        };
    }
    let paths = codes.iter().flat_map(|it| &it.files);
    let paths: Vec<&str> = paths.filter_map(|it| it.path.as_deref()).collect();
    for glob in globs {
        ensure!(
            paths.iter().any(|path| glob.matches(path)),
            "no source file of the programs matches '{}'; 'image-fuzzer coverage --all' lists them",
            glob.text()
        );
    }
    Ok(())
}
