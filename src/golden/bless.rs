//! Writing references from what tests print.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};

use super::{NO_REFERENCE, equal, find};
use crate::model::{Combo, Failure, Finished, Test, Verdict};
use crate::words;

/// Which of a test's references is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variant {
    /// The one that applies; the plain one where there is none.
    Applies,
    /// `NAME.out`.
    Plain,
    /// `NAME.out.nocache`, for runs with cache mode `none`.
    Nocache,
    /// `NAME.MACHINE.out`, for the emulator's default machine.
    Machine,
    /// `NAME.out.FMT`, for runs with this format.
    Format(String),
}

impl Variant {
    /// Reads the value of `--bless`: none, `plain`, `nocache`, `machine`, or a
    /// format.
    ///
    /// # Errors
    ///
    /// The value is none of these.
    pub fn parse(value: Option<&str>) -> anyhow::Result<Self> {
        Ok(match value {
            None => Self::Applies,
            Some("plain") => Self::Plain,
            Some("nocache") => Self::Nocache,
            Some("machine") => Self::Machine,
            Some(format) if crate::args::FORMATS.contains(&format) => {
                Self::Format(format.to_owned())
            }
            Some(other) => {
                bail!("--bless={other}: unknown variant; use plain, nocache, machine or a format")
            }
        })
    }

    /// The file to write for `test` under `combo`.
    fn file(&self, test: &Test, combo: &Combo, machine: &str) -> Result<PathBuf, String> {
        let name = &test.name;
        let file = match self {
            Self::Applies => {
                if let Some(found) = find(test, combo, machine) {
                    return Ok(found);
                }
                format!("{name}.out")
            }
            Self::Plain => format!("{name}.out"),
            Self::Nocache if combo.cache == "none" => format!("{name}.out.nocache"),
            Self::Nocache => return Err(format!("its cache mode is {}, not none", combo.cache)),
            Self::Machine if machine.is_empty() => {
                return Err("there is no emulator, so no default machine".to_owned());
            }
            Self::Machine => format!("{name}.{machine}.out"),
            Self::Format(format) if *format == combo.format => format!("{name}.out.{format}"),
            Self::Format(format) => {
                return Err(format!("its format is {}, not {format}", combo.format));
            }
        };
        Ok(test.golden_dir.join(file))
    }
}

/// Refuses to write references where `CI` is set.
///
/// # Errors
///
/// `CI` is set and not empty; `option` is named.
pub fn refuse_in_ci(option: &str) -> anyhow::Result<()> {
    if std::env::var_os("CI").is_some_and(|ci| !ci.is_empty()) {
        bail!("{option} does not write references where CI is set: run it locally and commit them");
    }
    Ok(())
}

/// The verdict of a job whose reference was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// `--bless`: it passes.
    Pass,
    /// `QEMU_IOTESTS_REGEN`: it has failed, as in the old runner.
    Fail,
}

/// Writes references as jobs finish.
#[derive(Debug)]
pub struct Bless {
    variant: Variant,
    machine: String,
    then: Then,
    /// Files written by this run, and for which combination.
    written: Mutex<HashMap<PathBuf, String>>,
    /// Whether one that was asked for could not be written.
    failed: AtomicBool,
}

impl Bless {
    /// For `--bless`: writes `variant`, also for tests that have no reference, and
    /// lets them pass. `machine` is the emulator's default machine, or empty.
    #[must_use]
    pub fn new(variant: Variant, machine: &str) -> Self {
        Self {
            variant,
            machine: machine.to_owned(),
            then: Then::Pass,
            written: Mutex::default(),
            failed: AtomicBool::new(false),
        }
    }

    /// For `QEMU_IOTESTS_REGEN`: overwrites references that do not match; the
    /// tests fail all the same.
    #[must_use]
    pub fn regenerate(machine: &str) -> Self {
        Self {
            then: Then::Fail,
            ..Self::new(Variant::Applies, machine)
        }
    }

    /// Writes the reference of a job that has finished, where its output is the
    /// only thing wrong with it, and notes what was done.
    pub fn finished(&self, finished: &mut Finished) {
        let Some(output) = finished.outcome.as_ref().map(|o| o.output.clone()) else {
            return;
        };
        if !self.wanted(finished) {
            return;
        }
        match self.write(finished, &output) {
            Ok(None) => {}
            Ok(Some(file)) => {
                let note = format!("reference written: {}", words::path(&file));
                finished.notes.push(note);
                if self.then == Then::Pass {
                    settle(finished, file);
                }
            }
            Err(why) => finished.notes.push(format!("reference not written: {why}")),
        }
    }

    /// Whether a reference that was asked for could not be written.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether there is anything to write for this verdict.
    fn wanted(&self, finished: &Finished) -> bool {
        match (&finished.verdict, self.then) {
            (Verdict::Fail(failures), Then::Fail) => {
                failures.contains(&Failure::Output) && finished.reference.is_some()
            }
            (Verdict::Fail(_), Then::Pass) => true,
            (Verdict::NotRun(reason), Then::Pass) => reason.starts_with(NO_REFERENCE),
            // A pass may still be asked for as a variant of its own.
            (Verdict::Pass, Then::Pass) => self.variant != Variant::Applies,
            _ => false,
        }
    }

    /// The file written, if one had to be; or why none was.
    fn write(&self, finished: &Finished, output: &Path) -> Result<Option<PathBuf>, String> {
        if let Verdict::Fail(failures) = &finished.verdict {
            let only_output = |f: &&Failure| !matches!(f, Failure::Output | Failure::LeftBehind);
            if let Some(other) = failures.iter().find(only_output) {
                return Err(words::failure(other, finished));
            }
            if !failures.contains(&Failure::Output) && self.variant == Variant::Applies {
                return Ok(None);
            }
        }
        let job = &finished.job;
        let file = self.variant.file(&job.test, &job.combo, &self.machine)?;
        let failed = |why: String| {
            self.failed.store(true, Ordering::Relaxed);
            why
        };
        let bytes = std::fs::read(output)
            .map_err(|e| failed(format!("cannot read {}: {e}", words::path(output))))?;
        let same = |path: &Path| std::fs::read(path).is_ok_and(|old| equal(&old, &bytes));
        if same(&file) {
            return Ok(None);
        }
        // One that is there and differs is wrong, and the plain one serves others too.
        let more_of_the_same = !file.exists() && self.variant != Variant::Plain;
        if finished.verdict == Verdict::Pass && more_of_the_same {
            let applies = find(&job.test, &job.combo, &self.machine);
            if let Some(applies) = applies.filter(|path| same(path)) {
                let applies = words::path(&applies);
                return Err(format!("it would equal {applies}, which is used already"));
            }
        }
        self.claim(&file, &job.combo).map_err(failed)?;
        save(&file, &bytes).map_err(|e| failed(format!("{e:#}")))?;
        Ok(Some(file))
    }

    /// One run writes a file once: combinations that print different things need
    /// variants.
    fn claim(&self, file: &Path, combo: &Combo) -> Result<(), String> {
        let combo = words::combo(combo);
        // A panic elsewhere while this was held changes nothing in the map.
        let mut written = self
            .written
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(first) = written.get(file) {
            return Err(format!(
                "{} was already written by this run for {first} with other contents; give {combo} its own variant (--bless=FMT, --bless=nocache)",
                words::path(file)
            ));
        }
        written.insert(file.to_owned(), combo);
        Ok(())
    }
}

/// Writes a reference in one piece.
pub(super) fn save(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let all = || -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        atomic_write::write(file, |out| out.write_all(bytes))
    };
    all().with_context(|| format!("cannot write {}", file.display()))
}

/// With its reference written, the job has passed, but for what it left behind.
fn settle(finished: &mut Finished, file: PathBuf) {
    let rest = match &finished.verdict {
        Verdict::Fail(failures) => {
            let others = failures.iter().filter(|f| **f != Failure::Output);
            others.cloned().collect()
        }
        _ => Vec::new(),
    };
    finished.verdict = if rest.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Fail(rest)
    };
    finished.mismatch = None;
    finished.retries = None;
    finished.reference = Some(file);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::report::sample;

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { dir }
        }

        fn put(&self, file: &str, text: &str) {
            std::fs::write(self.dir.path().join(file), text).unwrap();
        }

        fn get(&self, file: &str) -> Option<String> {
            std::fs::read_to_string(self.dir.path().join(file)).ok()
        }

        /// A finished 030 that printed `output`.
        fn job(&self, format: &str, output: &str, verdict: Verdict) -> Finished {
            let mut job = sample::job(0, "030", format);
            Arc::get_mut(&mut job.test).unwrap().golden_dir = self.dir.path().join("goldens");
            let mut finished = sample::finished(job, verdict);
            let path = self.dir.path().join(format!("030-{format}.out.bad"));
            std::fs::write(&path, output).unwrap();
            let mut outcome = sample::outcome("030");
            outcome.output = path;
            finished.outcome = Some(outcome);
            finished
        }
    }

    fn mismatch() -> Verdict {
        Verdict::Fail(vec![Failure::Output])
    }

    fn missing() -> Verdict {
        Verdict::NotRun(NO_REFERENCE.into())
    }

    fn variant(value: &str) -> Variant {
        Variant::parse(Some(value)).unwrap()
    }

    #[test]
    fn a_first_reference_is_the_plain_one() {
        let place = Place::new();
        let bless = Bless::new(Variant::Applies, "pc");
        let mut f = place.job("qcow2", "hello\n", missing());
        bless.finished(&mut f);
        assert_eq!(f.verdict, Verdict::Pass);
        assert!(
            f.notes[0].starts_with("reference written: "),
            "{:?}",
            f.notes
        );
        assert_eq!(place.get("goldens/030.out").as_deref(), Some("hello\n"));
    }

    #[test]
    fn the_variant_that_applies_is_overwritten() {
        let place = Place::new();
        std::fs::create_dir(place.dir.path().join("goldens")).unwrap();
        place.put("goldens/030.out", "plain\n");
        place.put("goldens/030.out.qcow2", "old\n");
        let mut f = place.job("qcow2", "new\n", mismatch());
        Bless::new(Variant::Applies, "").finished(&mut f);
        assert_eq!(place.get("goldens/030.out").as_deref(), Some("plain\n"));
        assert_eq!(place.get("goldens/030.out.qcow2").as_deref(), Some("new\n"));

        let mut f = place.job("raw", "plain\n", Verdict::Pass);
        Bless::new(variant("raw"), "").finished(&mut f);
        assert_eq!(place.get("goldens/030.out.raw"), None);
        assert!(f.notes[0].contains("would equal"), "{:?}", f.notes);

        let mut f = place.job("raw", "other\n", mismatch());
        Bless::new(variant("qcow2"), "").finished(&mut f);
        assert!(f.notes[0].contains("its format is raw"), "{:?}", f.notes);
        assert_eq!(f.verdict, mismatch());
        Bless::new(variant("machine"), "pc").finished(&mut f);
        assert_eq!(place.get("goldens/030.pc.out").as_deref(), Some("other\n"));
    }

    #[test]
    fn what_failed_otherwise_is_not_made_a_reference() {
        let place = Place::new();
        let verdict = Verdict::Fail(vec![Failure::ExitStatus(1), Failure::Output]);
        let mut f = place.job("qcow2", "Traceback\n", verdict.clone());
        Bless::new(Variant::Applies, "").finished(&mut f);
        assert_eq!(f.verdict, verdict);
        assert_eq!(f.notes, ["reference not written: failed, exit status 1"]);
        assert_eq!(place.get("goldens/030.out"), None);
    }

    #[test]
    fn combinations_that_differ_do_not_overwrite_each_other() {
        let place = Place::new();
        let bless = Bless::new(Variant::Applies, "");
        let mut a = place.job("qcow2", "a\n", missing());
        let mut b = place.job("raw", "b\n", missing());
        bless.finished(&mut a);
        bless.finished(&mut b);
        assert_eq!(place.get("goldens/030.out").as_deref(), Some("a\n"));
        assert!(
            b.notes[0].contains("for qcow2-file with other contents"),
            "{:?}",
            b.notes
        );
        assert_ne!(b.verdict, Verdict::Pass);
    }

    #[test]
    fn regenerating_leaves_the_test_failed() {
        let place = Place::new();
        std::fs::create_dir(place.dir.path().join("goldens")).unwrap();
        place.put("goldens/030.out", "old\n");
        let mut f = place.job("qcow2", "new\n", mismatch());
        f.reference = Some(place.dir.path().join("goldens/030.out"));
        Bless::regenerate("").finished(&mut f);
        assert_eq!(f.verdict, mismatch());
        assert_eq!(place.get("goldens/030.out").as_deref(), Some("new\n"));

        let mut f = place.job("raw", "x\n", missing());
        Bless::regenerate("").finished(&mut f);
        assert_eq!(f.verdict, missing());
    }

    #[test]
    fn an_unknown_variant_is_refused() {
        let error = Variant::parse(Some("qcow3")).unwrap_err().to_string();
        assert!(error.contains("--bless=qcow3"), "{error}");
    }
}
