//! Interactive review of the differences of the last run.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::{equal, find};
use crate::diff::{Bounds, Diff, Limits, Paint, render};
use crate::model::{Combo, Test};
use crate::words;

/// An output that differs from its reference.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Test and combination, as shown.
    pub title: String,
    /// The output.
    pub output: PathBuf,
    /// The reference that applies; where there is none, the plain one, which an
    /// acceptance makes.
    pub reference: PathBuf,
}

impl Pending {
    /// What is to be reviewed of `test` under `combo`, whose output is at `output`.
    #[must_use]
    pub fn new(test: &Test, combo: &Combo, machine: &str, output: &Path) -> Self {
        let plain = || test.golden_dir.join(format!("{}.out", test.name));
        Self {
            title: format!("{} {}", test.name, words::combo(combo)),
            output: output.to_owned(),
            reference: find(test, combo, machine).unwrap_or_else(plain),
        }
    }
}

/// The result of a review: how many outputs each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reviewed {
    /// Written as references.
    pub accepted: usize,
    /// Rejected; their outputs were removed, so they are not shown again.
    pub rejected: usize,
    /// Left for later.
    pub skipped: usize,
}

const KEYS: &str =
    "[a]ccept, [r]eject, [s]kip, sho[w] everything, [b]ack, [e]dit, [q]uit, [?]help: ";

const HELP: &str = "\
a  accept: write the output as the reference
r  reject: remove the output, so that it is not shown again
s  skip: leave both as they are
w  show all of the difference
b  back to the one before; what was done with it is undone
e  open the output in $VISUAL, $EDITOR or $PAGER
q  quit: leave the rest as it is
?  show this
";

/// Where the answers come from.
pub enum Answers<'a> {
    /// Single keys of a terminal.
    Keys(super::Keys),
    /// Lines.
    Lines(&'a mut dyn BufRead),
}

impl Answers<'_> {
    /// The next answer; `None` at the end of the input. A key is shown on `out`.
    fn next(&mut self, out: &mut dyn Write) -> anyhow::Result<Option<String>> {
        let what = "cannot read an answer";
        match self {
            Self::Lines(input) => {
                let mut line = String::new();
                let len = input.read_line(&mut line).context(what)?;
                if len == 0 {
                    writeln!(out)?;
                }
                Ok((len > 0).then(|| line.trim().to_owned()))
            }
            Self::Keys(keys) => {
                let key = keys.key().context(what)?;
                let key = key.map(|key| key.to_string().trim().to_owned());
                writeln!(out, "{}", key.as_deref().unwrap_or_default())?;
                Ok(key)
            }
        }
    }
}

/// What was done with an output, and what undoes it.
enum Decision {
    /// The reference before, where there was one.
    Accepted(Option<Vec<u8>>),
    /// The output before.
    Rejected(Vec<u8>),
    Skipped,
}

/// Shows each of `pending` on `out` and does what `answers` say: `a` writes the reference,
/// `r` removes the output, `s` leaves both, `w` shows all of the difference, `b` undoes what
/// was done with the one before and shows it again, `e` opens the output in an editor, `?`
/// says what there is, `q` (or the end of the input) leaves the rest. Outputs that are gone,
/// or equal to their reference by now, are passed over.
///
/// # Errors
///
/// A reference cannot be written, an output not read or removed, or the terminal
/// is gone.
pub fn review(
    pending: &[Pending],
    answers: &mut Answers<'_>,
    out: &mut dyn Write,
    paint: Paint,
) -> anyhow::Result<Reviewed> {
    let mut done: Vec<(usize, Decision)> = Vec::new();
    let mut left = 0;
    let mut n = 0;
    while let Some(one) = pending.get(n) {
        let Some(changed) = Changed::read(one)? else {
            n += 1;
            continue;
        };
        writeln!(out, "\n{} ({} of {})", one.title, n + 1, pending.len())?;
        changed.show(one, out, paint, &Bounds::default())?;
        match ask(one, &changed, answers, out, paint)? {
            Answer::Done(decision) => {
                done.push((n, decision));
                n += 1;
            }
            Answer::Again => {}
            Answer::Back => match done.pop() {
                Some((before, decision)) => {
                    undo(&pending[before], decision, out)?;
                    n = before;
                }
                None => writeln!(out, "this is the first one")?,
            },
            Answer::Quit => {
                left = pending.len() - n;
                break;
            }
        }
    }
    let count = |of: fn(&Decision) -> bool| done.iter().filter(|(_, d)| of(d)).count();
    Ok(Reviewed {
        accepted: count(|d| matches!(d, Decision::Accepted(_))),
        rejected: count(|d| matches!(d, Decision::Rejected(_))),
        skipped: count(|d| matches!(d, Decision::Skipped)) + left,
    })
}

/// Puts files back as they were before a decision.
fn undo(one: &Pending, decision: Decision, out: &mut dyn Write) -> anyhow::Result<()> {
    match decision {
        Decision::Skipped => return Ok(()),
        Decision::Accepted(Some(before)) => super::bless::save(&one.reference, &before)?,
        Decision::Accepted(None) => remove(&one.reference)?,
        Decision::Rejected(before) => super::bless::save(&one.output, &before)?,
    }
    writeln!(out, "undone: {}", one.title)?;
    Ok(())
}

fn remove(file: &Path) -> anyhow::Result<()> {
    std::fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))
}

enum Answer {
    /// It is decided.
    Done(Decision),
    /// Show it again, as it is now.
    Again,
    /// Show the one before again.
    Back,
    /// Leave the rest.
    Quit,
}

fn ask(
    one: &Pending,
    changed: &Changed,
    answers: &mut Answers<'_>,
    out: &mut dyn Write,
    paint: Paint,
) -> anyhow::Result<Answer> {
    loop {
        write!(out, "{KEYS}")?;
        out.flush()?;
        let Some(answer) = answers.next(out)? else {
            return Ok(Answer::Quit);
        };
        match answer.as_str() {
            "a" | "accept" => {
                super::bless::save(&one.reference, &changed.actual)?;
                writeln!(out, "reference written: {}", words::path(&one.reference))?;
                let before = (!changed.new).then(|| changed.expected.clone());
                return Ok(Answer::Done(Decision::Accepted(before)));
            }
            "r" | "reject" => {
                remove(&one.output)?;
                return Ok(Answer::Done(Decision::Rejected(changed.actual.clone())));
            }
            "s" | "skip" | "" => return Ok(Answer::Done(Decision::Skipped)),
            "b" | "back" => return Ok(Answer::Back),
            "q" | "quit" => return Ok(Answer::Quit),
            "w" | "show" => {
                let whole = Bounds {
                    lines: usize::MAX,
                    line_bytes: usize::MAX,
                };
                changed.show(one, out, paint, &whole)?;
            }
            "e" | "edit" => {
                let edited = match answers {
                    Answers::Keys(keys) => keys.lend(|| edit(&one.output)),
                    Answers::Lines(_) => edit(&one.output),
                };
                if let Err(error) = edited {
                    writeln!(out, "{error:#}")?;
                }
                return Ok(Answer::Again);
            }
            "?" | "help" => write!(out, "{HELP}")?,
            other => writeln!(
                out,
                "'{}': press one of a/r/s/w/b/e/q, or ? for what they do",
                words::one_line(other)
            )?,
        }
    }
}

/// Opens a file in the user's editor, or pager, and waits for its end.
fn edit(file: &Path) -> anyhow::Result<()> {
    let set = |name: &&&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let Some(name) = ["VISUAL", "EDITOR", "PAGER"].iter().find(set) else {
        anyhow::bail!("no editor is known; set EDITOR");
    };
    // It may be a command with arguments.
    let status = Command::new("/bin/sh")
        .args(["-c", &format!("${name} \"$1\""), name])
        .arg(file)
        .status()
        .with_context(|| format!("cannot start ${name}"))?;
    anyhow::ensure!(status.success(), "${name}: {status}");
    Ok(())
}

/// An output and its reference, which differ.
struct Changed {
    expected: Vec<u8>,
    actual: Vec<u8>,
    new: bool,
}

impl Changed {
    fn read(one: &Pending) -> anyhow::Result<Option<Self>> {
        let read = |path: &Path| match std::fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let Some(actual) = read(&one.output)? else {
            return Ok(None);
        };
        let expected = read(&one.reference)?;
        let new = expected.is_none();
        let expected = expected.unwrap_or_default();
        let same = !new && equal(&expected, &actual);
        Ok((!same).then_some(Self {
            expected,
            actual,
            new,
        }))
    }

    fn show(
        &self,
        one: &Pending,
        out: &mut dyn Write,
        paint: Paint,
        bounds: &Bounds,
    ) -> anyhow::Result<()> {
        let diff = Diff::new(&self.expected, &self.actual, &Limits::default());
        let mut old = words::path(&one.reference);
        if self.new {
            old.push_str(" (new)");
        }
        let (text, left_out) = render(&diff, &old, &words::path(&one.output), paint, bounds);
        out.write_all(text.as_bytes())?;
        if left_out > 0 {
            writeln!(out, "... {left_out} more lines of difference")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn pending(dir: &Path, name: &str, old: Option<&str>, new: &str) -> Pending {
        let mut test = sample::test(name);
        test.golden_dir = dir.join("goldens");
        std::fs::create_dir_all(&test.golden_dir).unwrap();
        if let Some(old) = old {
            std::fs::write(test.golden_dir.join(format!("{name}.out")), old).unwrap();
        }
        let output = dir.join(format!("{name}.out.bad"));
        std::fs::write(&output, new).unwrap();
        Pending::new(&test, &sample::combo("qcow2"), "", &output)
    }

    fn answer(pending: &[Pending], answers: &str) -> (Reviewed, String) {
        let mut out = Vec::new();
        let reviewed = review(
            pending,
            &mut Answers::Lines(&mut answers.as_bytes()),
            &mut out,
            Paint::Plain,
        )
        .unwrap();
        (reviewed, String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_difference_is_accepted_rejected_or_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let all = [
            pending(dir.path(), "001", Some("a\n"), "b\n"),
            pending(dir.path(), "002", None, "new\n"),
            pending(dir.path(), "003", Some("a\n"), "c\n"),
            pending(dir.path(), "004", Some("same\n"), "same \n"),
            pending(dir.path(), "005", Some("a\n"), "d\n"),
        ];
        let (reviewed, text) = answer(&all, "r\na\nhm\nw\ns\nq\n");
        let wanted = Reviewed {
            accepted: 1,
            rejected: 1,
            skipped: 2,
        };
        assert_eq!(reviewed, wanted, "{text}");
        let golden = |name: &str| std::fs::read_to_string(dir.path().join("goldens").join(name));
        assert_eq!(golden("001.out").unwrap(), "a\n");
        assert!(!all[0].output.exists());
        assert_eq!(golden("002.out").unwrap(), "new\n");
        assert_eq!(golden("003.out").unwrap(), "a\n");
        assert!(all[2].output.exists());
        assert!(text.contains("'hm': press one of a/r/s/w/b/e/q"));
        assert!(!text.contains("004 qcow2-file"));
        assert!(text.contains("005 qcow2-file (5 of 5)"));
    }

    #[test]
    fn the_end_of_the_input_leaves_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let all = [pending(dir.path(), "001", Some("a\n"), "b\n")];
        let (reviewed, _) = answer(&all, "");
        assert_eq!(reviewed.skipped, 1);
    }

    #[test]
    fn going_back_undoes_what_was_done() {
        let dir = tempfile::tempdir().unwrap();
        let all = [
            pending(dir.path(), "001", Some("old\n"), "b\n"),
            pending(dir.path(), "002", None, "new\n"),
            pending(dir.path(), "003", Some("c\n"), "d\n"),
        ];
        let (reviewed, text) = answer(&all, "b\na\nr\nb\nb\n?\ns\na\nb\nq\n");
        let wanted = Reviewed {
            skipped: 3,
            ..Reviewed::default()
        };
        // One was skipped, two were left.
        assert_eq!(reviewed, wanted, "{text}");
        assert_eq!(std::fs::read(&all[0].reference).unwrap(), b"old\n");
        assert!(!all[1].reference.exists() && all[1].output.exists());
        assert!(text.contains("this is the first one"), "{text}");
        assert!(text.contains("undone: 002 qcow2-file"), "{text}");
        assert!(text.contains("s  skip: leave both"), "{text}");
    }
}
