//! `--review` and `--unused-goldens`.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::{Invocation, say, var};
use crate::environment::test_dir;
use crate::golden::{self, Answers, Keys, Pending};
use crate::model::Combo;
use crate::plan;
use crate::programs::{Programs, default_machine};
use crate::report;
use crate::tree::Tree;

/// Reviews what differed in the last run, and returns a summary.
pub(super) fn review(call: &Invocation, tree: &Tree) -> Result<String> {
    golden::refuse_in_ci("--review")?;
    let memory = call.open_history().take_memory();
    let scratch = test_dir(&call.cwd, &var);
    let mut wanted = BTreeSet::new();
    for word in &call.args.tests {
        wanted.extend(tree.named(word)?.tests.iter().map(|test| &test.name));
    }
    let named = |name: &String| wanted.is_empty() || wanted.contains(name);
    let mut idle = wanted.clone();
    let machine = machine(tree);
    let mut pending = Vec::new();
    for (name, combo) in memory.failed_last() {
        // A test that was removed since has no reference.
        let Ok(test) = tree.find(&name) else { continue };
        if let Some(output) = output_of(&scratch, &name, &combo)
            && named(&name)
            && plan::is_named(&call.args, &combo)
        {
            idle.remove(&name);
            pending.push(Pending::new(test, &combo, &machine, &output));
        }
    }
    for name in idle {
        say::error(&format!(
            "nothing to review of test {name}: its output did not differ in the last run"
        ));
    }
    if pending.is_empty() {
        return Ok("nothing to review: no output of the last run differs\n".to_owned());
    }
    let mut out = std::io::stdout().lock();
    let mut input;
    let mut answers = if std::io::stdin().is_terminal() {
        Answers::Keys(Keys::of_stdin().context("cannot read keys")?)
    } else {
        input = std::io::stdin().lock();
        Answers::Lines(&mut input)
    };
    let paint = report::paint(call.args.color);
    let done = golden::review(&pending, &mut answers, &mut out, paint)
        .context("the review was aborted")?;
    Ok(format!(
        "{} accepted, {} rejected, {} left\n",
        done.accepted, done.rejected, done.skipped
    ))
}

/// The default machine of the emulator, which may have references of its own;
/// empty where there is none to ask.
fn machine(tree: &Tree) -> String {
    let programs = Programs::find(tree.layout, &tree.build, &var).ok();
    let qemu = programs.and_then(|p| p.qemu);
    qemu.and_then(|q| default_machine(&q.path).ok())
        .unwrap_or_default()
}

/// The newest output that a test has left under `combo`. Runs over several cache
/// modes put more behind the names of their directories.
fn output_of(scratch: &Path, name: &str, combo: &Combo) -> Option<PathBuf> {
    let plain = format!("{}-{}-{name}", combo.format, combo.protocol);
    let entries = std::fs::read_dir(scratch).ok()?.flatten();
    let found = entries.filter_map(|entry| {
        let dir = entry.file_name().into_string().ok()?;
        let suffix = dir.strip_prefix(&plain)?;
        let output = entry.path().join(format!("{name}.out.bad"));
        let written = output.metadata().and_then(|m| m.modified()).ok()?;
        let rank: Option<(bool, SystemTime)> = match suffix {
            "" => Some((false, written)),
            s if s.starts_with('-') => Some((s.contains(&combo.cache), written)),
            _ => None,
        };
        Some((rank?, output))
    });
    found.max().map(|(_, output)| output)
}

/// The unused references of `tree`, one per line.
pub(super) fn unused(call: &Invocation, tree: &Tree) -> Result<String> {
    let unused = golden::unused(tree.tests().map(|t| &**t))?;
    let lines = unused.iter().map(|u| {
        let file = u.file.strip_prefix(&call.cwd).unwrap_or(&u.file);
        format!("{}: {}\n", file.display(), u.why)
    });
    Ok(lines.collect())
}
