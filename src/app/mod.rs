//! The program: from the words of the command line to an exit status.

mod command;
mod say;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::args::{self, Action, LowArgs};
use crate::dry_run::dry_run;
use crate::select::select;
use crate::tree::{Tree, locate};
use crate::{exit, install, new_test};

pub use say::say;

/// Runs the program and gives its exit status.
#[must_use]
pub fn main() -> u8 {
    let mut words = std::env::args_os();
    let argv0 = words.next().unwrap_or_else(|| "check".into());
    let args = match args::parse(words) {
        Ok(args) => args,
        Err(error) => {
            say::error(&format!("error: {error}"));
            say::error("see --help for all options");
            return exit::USAGE;
        }
    };
    match dispatch(argv0, args) {
        Ok(status) => status,
        Err(error) => {
            say::error(&format!("{error:#}"));
            exit::FAILED
        }
    }
}

/// What every action may need of the world.
struct World {
    argv0: PathBuf,
    args: LowArgs,
    cwd: PathBuf,
}

impl World {
    fn tree(&self) -> Result<Tree> {
        let places = locate(
            &self.argv0,
            self.args.source_dir.as_deref(),
            self.args.build_dir.as_deref(),
            &self.cwd,
        )?;
        Tree::load(&places)
    }
}

/// A variable of the caller's environment.
fn var(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn dispatch(argv0: OsString, args: LowArgs) -> Result<u8> {
    let cwd = std::env::current_dir().context("cannot tell the current directory")?;
    let world = World {
        argv0: argv0.into(),
        args,
        cwd,
    };
    let args = &world.args;
    match &args.action {
        Action::Help { long } => say(&args::help(*long)),
        Action::Version => say(concat!("check ", env!("CARGO_PKG_VERSION"), "\n")),
        Action::ListGroups => say(&list_groups(&world.tree()?)),
        Action::New(what) => say(&new_test::new_test(&world.tree()?, args, what)?),
        Action::InstallInto(tree) => say(&install::install(tree, &own_program()?)?),
        Action::RemoveFrom(tree) => say(&install::remove(tree)?),
        Action::Run => return run(&world),
        _ => {}
    }
    Ok(exit::OK)
}

fn run(world: &World) -> Result<u8> {
    let args = &world.args;
    if let Some(words) = &args.command {
        return command::run(&world.tree()?, args, &world.cwd, words);
    }
    let tree = world.tree()?;
    let tests = select(&tree, args)?;
    if args.dry_run {
        say(&dry_run(&tests, args)?);
        return Ok(exit::OK);
    }
    Ok(exit::OK)
}

/// This program's own file.
fn own_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
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
