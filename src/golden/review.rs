//! Interactive review of the differences of the last run.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

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

const KEYS: &str = "[a]ccept, [r]eject, [s]kip, sho[w] everything, [q]uit? ";

/// Shows each of `pending` on `out` and does what `input` answers, a line each:
/// `a` writes the reference, `r` removes the output, `s` leaves both, `w` shows all
/// of the difference, `q` (or the end of the input) leaves the rest. Outputs that
/// are gone, or equal to their reference by now, are passed over.
///
/// # Errors
///
/// A reference cannot be written, an output not read or removed, or the terminal
/// is gone.
pub fn review(
    pending: &[Pending],
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    paint: Paint,
) -> anyhow::Result<Reviewed> {
    let mut reviewed = Reviewed::default();
    for (n, one) in pending.iter().enumerate() {
        let Some(changed) = Changed::read(one)? else {
            continue;
        };
        writeln!(out, "\n{} ({} of {})", one.title, n + 1, pending.len())?;
        changed.show(one, out, paint, &Bounds::default())?;
        match ask(one, &changed, input, out, paint)? {
            Answer::Accept => {
                super::bless::save(&one.reference, &changed.actual)?;
                writeln!(out, "reference written: {}", words::path(&one.reference))?;
                reviewed.accepted += 1;
            }
            Answer::Reject => {
                std::fs::remove_file(&one.output)
                    .with_context(|| format!("cannot remove {}", one.output.display()))?;
                reviewed.rejected += 1;
            }
            Answer::Skip => reviewed.skipped += 1,
            Answer::Quit => {
                reviewed.skipped += pending.len() - n;
                break;
            }
        }
    }
    Ok(reviewed)
}

enum Answer {
    Accept,
    Reject,
    Skip,
    Quit,
}

fn ask(
    one: &Pending,
    changed: &Changed,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    paint: Paint,
) -> anyhow::Result<Answer> {
    loop {
        write!(out, "{KEYS}")?;
        out.flush()?;
        let mut line = String::new();
        if input
            .read_line(&mut line)
            .context("cannot read an answer")?
            == 0
        {
            writeln!(out)?;
            return Ok(Answer::Quit);
        }
        match line.trim() {
            "a" | "accept" => return Ok(Answer::Accept),
            "r" | "reject" => return Ok(Answer::Reject),
            "s" | "skip" | "" => return Ok(Answer::Skip),
            "q" | "quit" => return Ok(Answer::Quit),
            "w" | "show" => {
                let whole = Bounds {
                    lines: usize::MAX,
                    line_bytes: usize::MAX,
                };
                changed.show(one, out, paint, &whole)?;
            }
            other => writeln!(out, "'{}': press one of a/r/s/w/q", words::one_line(other))?,
        }
    }
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
        let reviewed = review(pending, &mut answers.as_bytes(), &mut out, Paint::Plain).unwrap();
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
        assert!(text.contains("'hm': press one of a/r/s/w/q"));
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
}
