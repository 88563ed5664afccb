//! The program: from the words of the command line to an exit status.

mod archived;
mod command;
mod coverage;
mod goldens;
mod profiles;
mod results;
mod run_tests;
mod say;

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::args::{self, Action, LowArgs};
use crate::dry_run::{json, listing, names, supported};
use crate::model::{Combo, Test};
use crate::select::{Selection, select};
use crate::tree::{Tree, locate};
use crate::{archive, exit, history, install, new_test, plan, run, words};
use archived::Within;

use coverage::Chosen;
pub use say::say;

/// Runs the program and gives its exit status.
#[must_use]
pub fn main() -> u8 {
    let mut words = std::env::args_os();
    let argv0 = words.next().unwrap_or_else(|| "check".into());
    let words: Vec<OsString> = words.collect();
    if words.first().is_some_and(|word| word == run::START) {
        let Err(error) = run::start(&words[1..]);
        say::error(&format!("{error:#}"));
        return exit::FAILED;
    }
    let wrong = |error: String| {
        say::error(&format!("error: {error}"));
        say::error("see --help for all options");
        exit::USAGE
    };
    let args = match args::parse(words.iter().cloned()) {
        Ok(args) => args,
        Err(error) => return wrong(error),
    };
    let archive = match archived::enter(&argv0, &words, &args) {
        Ok(archive) => archive,
        Err(error) => {
            say::error(&format!("{error:#}"));
            return exit::FAILED;
        }
    };
    let source = archive.as_ref().and_then(|archive| archive.dir.clone());
    let args = match &args.profile {
        None => args,
        Some(_) => {
            let source = source.as_deref().or(args.source_dir.as_deref());
            let profiles = profiles::read(argv0.as_ref(), source);
            match profiles.and_then(|all| args::parse_with(words, &all)) {
                Ok(args) => args,
                Err(error) => return wrong(error),
            }
        }
    };
    match dispatch(argv0, args, archive) {
        Ok(status) => status,
        Err(error) => {
            say::error(&format!("{error:#}"));
            exit::FAILED
        }
    }
}

/// What every action may need of the call.
struct Invocation {
    argv0: PathBuf,
    args: LowArgs,
    cwd: PathBuf,
    /// The archive that this program belongs to.
    archive: Option<Within>,
}

impl Invocation {
    /// Where the tests are, where that is said.
    fn source(&self) -> Option<&Path> {
        let archive = self.archive.as_ref();
        let unpacked = archive.and_then(|archive| archive.dir.as_deref());
        unpacked.or(self.args.source_dir.as_deref())
    }

    fn tree(&self) -> Result<Tree> {
        let places = locate(
            &self.argv0,
            self.source(),
            // What runs nothing needs no build.
            self.args
                .build_dir
                .as_deref()
                .filter(|_| !self.args.dry_run),
            &self.cwd,
        )?;
        Tree::load(&places)
    }
}

/// A variable of the caller's environment.
fn var(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn dispatch(argv0: OsString, args: LowArgs, archive: Option<Within>) -> Result<u8> {
    let cwd = std::env::current_dir().context("cannot determine the current directory")?;
    let mut call = Invocation {
        argv0: argv0.into(),
        args,
        cwd,
        archive,
    };
    // The history has them as they are, wherever a run was started.
    for folder in &mut call.args.qemu {
        *folder = full_path(&call.cwd, folder);
    }
    distinct(&call.args.qemu)?;
    let args = &call.args;
    match &args.action {
        Action::Help { long } => say(&args::help(*long))?,
        Action::Version => say(&version(call.archive.as_ref()))?,
        Action::ListGroups => say(&list_groups(&call.tree()?))?,
        Action::New(what) => say(&new_test::new_test(&call.tree()?, args, what)?)?,
        Action::Archive(file) => say(&make_archive(&call, file)?)?,
        Action::InstallInto(tree) => say(&install::install(tree, &own_program()?)?)?,
        Action::RemoveFrom(tree) => say(&install::remove(tree)?)?,
        Action::Run => return run(&call),
        Action::History => say(&show_history(&call)?)?,
        Action::ReachedBy(test) => say(&coverage::reached_by(&call, test)?)?,
        Action::CoverageReport(dir) => coverage::report(&call, dir)?,
        Action::Review => say(&goldens::review(&call, &call.tree()?)?)?,
        Action::Replay(file) => return results::replay(args, file),
        Action::MergeResults(files) => return results::merge(args, files),
        Action::UnusedGoldens => say(&goldens::unused(&call, &call.tree()?)?)?,
    }
    Ok(exit::OK)
}

/// The whole path of a folder, which need not be there. A link to it stays one, since results are
/// named after it.
fn full_path(cwd: &Path, folder: &str) -> String {
    let path: PathBuf = cwd.join(folder).components().collect();
    let path = match path.components().any(|part| part == Component::ParentDir) {
        true => path.canonicalize().unwrap_or(path),
        false => path,
    };
    path.to_str().unwrap_or(folder).to_owned()
}

/// Checks that no two folders of QEMU have the same name in results.
fn distinct(folders: &[String]) -> Result<()> {
    for (n, folder) in folders.iter().enumerate() {
        let name = words::folder_name(folder);
        let same = |other: &&String| *other != folder && words::folder_name(other) == name;
        if let Some(other) = folders[..n].iter().find(same) {
            bail!(
                "argument --qemu: {other} and {folder} have the same name in results, '{name}'; \
                 name one by a symbolic link"
            );
        }
    }
    Ok(())
}

/// What this program is.
fn version(archive: Option<&Within>) -> String {
    match archive {
        Some(archive) => archive.about.join("\n") + "\n",
        None => concat!("check ", env!("CARGO_PKG_VERSION"), "\n").to_owned(),
    }
}

/// Writes the suite to `file`, and says what it is then.
fn make_archive(call: &Invocation, file: &Path) -> Result<String> {
    if call.args.narrows() {
        bail!("archive: an archive holds all tests; select when it is run");
    }
    archive::write(&call.cwd.join(file), &call.tree()?, &own_program()?)
}

fn run(call: &Invocation) -> Result<u8> {
    let args = &call.args;
    if let Some(words) = &args.command {
        return command::run(&call.tree()?, args, &call.cwd, words);
    }
    let tree = call.tree()?;
    plan::suits(args, tree.layout)?;
    let Selection { tests, left_out } = select(&tree, args)?;
    left_out.iter().for_each(|line| say::error(line));
    // Where groups are declared, a name that is none is an error.
    let all = args.groups.iter().chain(&args.exclude_groups);
    let lenient = tree.declared.is_none() && !tests.is_empty();
    for group in all.filter(|_| lenient) {
        if !tree.tests().any(|test| test.groups.contains(group)) {
            say::error(&format!("no test is in group '{group}'"));
        }
    }
    let chosen = match args.selects_by_reach() {
        true => match coverage::choose(call, &tree, &tests)? {
            // Nothing is affected: all is done.
            None => return Ok(exit::OK),
            chosen => chosen,
        },
        false => None,
    };
    if args.list || args.dry_run {
        return list(call, &tree, tests, chosen);
    }
    run_tests::run_tests(call, &tree, &tests, chosen.as_ref())
}

/// Prints the tests that would be run.
fn list(
    call: &Invocation,
    tree: &Tree,
    tests: Vec<Arc<Test>>,
    chosen: Option<Chosen>,
) -> Result<u8> {
    let args = &call.args;
    let (text, tests) = match chosen {
        Some(mut chosen) => {
            run_tests::keep_planned(call, tree, &tests, &mut chosen)?;
            (chosen.listing(&tests, args.list), chosen.tests(&tests))
        }
        None => {
            let tests = supported(run_tests::left_to_run(call, tree, tests)?, args)?;
            let text = match args.list {
                true => listing(&tests),
                false => names(&tests),
            };
            (text, tests)
        }
    };
    say(&text)?;
    if let Some(file) = args.json.as_ref().filter(|_| args.list) {
        std::fs::write(file, json(&tests))
            .with_context(|| format!("cannot write '{}'", file.display()))?;
    }
    Ok(exit::OK)
}

/// How tests did in the past: an overview, or all about those named.
fn show_history(call: &Invocation) -> Result<String> {
    let dir = call.history_dir();
    let named = |combo: &Combo| plan::is_named(&call.args, combo);
    if call.args.tests.is_empty() {
        return history::render(&dir, None, &named);
    }
    let tree = call.tree()?;
    let mut text = String::new();
    for word in &call.args.tests {
        for test in tree.named(word)?.tests {
            text.push_str(&history::render(&dir, Some(&test.name), &named)?);
        }
    }
    Ok(text)
}

/// This program's own file.
fn own_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot determine the path of this program")?;
    Ok(own.canonicalize().unwrap_or(own))
}

/// Every group, what it means, and how many tests are in it.
fn list_groups(tree: &Tree) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for test in tree.tests() {
        for group in &test.groups {
            *counts.entry(group).or_default() += 1;
        }
    }
    let meanings: Vec<(&str, &str)> = match &tree.declared {
        Some(declared) => declared.iter().collect(),
        None => counts.keys().map(|&group| (group, "")).collect(),
    };
    let width = meanings.iter().map(|(g, _)| g.len()).max().unwrap_or(0);
    let lines = meanings.iter().map(|(group, meaning)| {
        let count = counts.get(group).copied().unwrap_or(0);
        let line = format!("{group:width$}  {count:4}  {meaning}");
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}
