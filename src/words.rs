//! Texts that all reports share: verdicts, reasons, combinations, times.

use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::diff::{Blanks, visible};
use crate::model::{Combo, Failure, Finished, HeaderLine, Job, Kind, Limit, Outcome, Verdict};

/// A number with its noun: `1 job`, `2 jobs`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// A verdict in a word or two.
pub(crate) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Pass => "pass",
        Kind::Fail => "fail",
        Kind::KnownFail => "known fail",
        Kind::NotRun => "not run",
        Kind::Flaky => "flaky",
        Kind::Interrupted => "interrupted",
    }
}

/// A combination in short: format and protocol, and what is not the default.
pub(crate) fn combo(combo: &Combo) -> String {
    let mut text = format!("{}-{}", combo.format, combo.protocol);
    for (mode, default) in [(&combo.cache, "writeback"), (&combo.aio, "threads")] {
        if !mode.is_empty() && mode != default {
            text.push('-');
            text.push_str(mode);
        }
    }
    if !combo.options.is_empty() {
        text.push_str(&format!(" ({})", combo.options));
    }
    if !combo.qemu.is_empty() {
        text.push_str(&format!("@{}", folder_name(&combo.qemu)));
    }
    text
}

/// Names of folders that say nothing of which build of QEMU is in them.
const COMMON_FOLDERS: [&str; 3] = ["bin", "build", "usr"];

/// The folder of a build of QEMU in short: the end of its path, from a name that says something.
/// `bookworm`, `qemu/build`.
pub(crate) fn folder_name(folder: &str) -> &str {
    let path = folder.trim_end_matches('/');
    let mut start = path.len();
    while let Some(slash) = path[..start].rfind('/') {
        if !COMMON_FOLDERS.contains(&path[slash + 1..start].trim_end_matches('/')) {
            return &path[slash + 1..];
        }
        start = slash;
    }
    path
}

/// A test's name, and which repetition of it.
pub(crate) fn name(job: &Job) -> String {
    match job.repetition {
        0 => job.test.name.clone(),
        n => format!("{}#{}", job.test.name, n + 1),
    }
}

/// The description of a result besides its verdict, in one line; empty where
/// there is nothing.
pub(crate) fn description(finished: &Finished) -> String {
    let mut said = Vec::new();
    match &finished.verdict {
        Verdict::Pass => {}
        Verdict::Fail(failures) => {
            said.extend(failures.iter().map(|f| failure(f, finished)));
        }
        Verdict::NotRun(reason) | Verdict::KnownFail(reason) => said.push(one_line(reason)),
        Verdict::Flaky { passed, tries } => {
            said.push(format!(
                "failed first, then passed {passed} of {tries} tries"
            ));
        }
        Verdict::Interrupted => said.push("interrupted by user".to_owned()),
    }
    if let Some((passed, tries)) = finished.retries {
        said.push(format!("passed {passed} of {tries} retries"));
    }
    let told = matches!(&finished.verdict, Verdict::Fail(f) if f.contains(&Failure::LeftBehind));
    // A test that we killed could not clean up.
    if let Some(outcome) = finished.outcome.as_ref().filter(|o| o.ended.is_none())
        && !told
        && let Some(left) = left_behind(outcome)
    {
        said.push(left);
    }
    said.join("; ")
}

/// [`description`], bounded, for the history.
pub(crate) fn short(finished: &Finished) -> String {
    let text = description(finished);
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// The header of a run, a line each behind `prefix`.
pub(crate) fn header(lines: &[HeaderLine], shuffle: Option<u64>, prefix: &str) -> String {
    let order = shuffle.map(|seed| ("ORDER".to_owned(), format!("--shuffle={seed}")));
    let mut text = String::new();
    for (name, value) in lines.iter().chain(&order) {
        // Byte for byte as QEMU's runner, with a blank before what is empty.
        text.push_str(&format!("{prefix}{name:13} -- {value}\n"));
    }
    text
}

/// Why a test failed, in a word for programs: `exit-status`, `time-out`, ...
pub(crate) fn failure_kind(failure: &Failure) -> &'static str {
    match failure {
        Failure::NotStarted(_) => "not-started",
        Failure::TimeOut(_) => "time-out",
        Failure::Limit(Limit::Output(_)) => "output-limit",
        Failure::Limit(Limit::Scratch(_)) => "scratch-limit",
        Failure::Signal(_) => "signal",
        Failure::ExitStatus(_) => "exit-status",
        Failure::Sanitizer => "sanitizer",
        Failure::Output => "output",
        Failure::LeftBehind => "left-behind",
        Failure::Unexpected(_) => "unexpected-pass",
    }
}

/// Why a test failed, in a few words.
pub(crate) fn failure(failure: &Failure, finished: &Finished) -> String {
    let outcome = finished.outcome.as_ref();
    match failure {
        Failure::NotStarted(why) => format!("could not be started: {}", one_line(why)),
        Failure::TimeOut(after) => format!("timed out after {}", seconds(*after)),
        Failure::Limit(Limit::Output(most)) => {
            format!("printed more output than the limit of {}", bytes(*most))
        }
        Failure::Limit(Limit::Scratch(most)) => {
            format!("used more scratch space than the limit of {}", bytes(*most))
        }
        Failure::Signal(n) => format!("killed by signal {n}{}", signal_name(*n)),
        Failure::ExitStatus(n) => format!("failed, exit status {n}"),
        Failure::Sanitizer => {
            let logs = outcome.map_or(&[][..], |o| &o.sanitizer_logs);
            format!("sanitizer report{}", see(logs.first().map(|p| &**p)))
        }
        Failure::Output => {
            format!("output mismatch{}", see(outcome.map(|o| &*o.output)))
        }
        Failure::LeftBehind => outcome
            .and_then(left_behind)
            .unwrap_or_else(|| "left processes or mounts behind".to_owned()),
        Failure::Unexpected(reason) => {
            format!("passed, though known to fail: {}", one_line(reason))
        }
    }
}

/// `left behind: qemu-nbd 4711, mount /scratch/m`; `None` where nothing was.
fn left_behind(outcome: &Outcome) -> Option<String> {
    let processes = outcome.left_behind.iter();
    let processes = processes.map(|p| format!("{} {}", one_line(&p.name), p.pid));
    let mounts = outcome.left_mounts.iter();
    let mounts = mounts.map(|m| format!("mount {}", path(m)));
    let all: Vec<String> = processes.chain(mounts).collect();
    (!all.is_empty()).then(|| format!("left behind: {}", all.join(", ")))
}

fn see(file: Option<&Path>) -> String {
    file.map_or_else(String::new, |file| format!(" (see {})", path(file)))
}

/// A path as it can be shown.
pub(crate) fn path(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// `text` as one line in which nothing is invisible.
pub(crate) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    visible(words.join(" ").as_bytes(), Blanks::Plain)
}

/// `word` as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    // Arguments and variables hold no NUL.
    shlex::try_quote(word).unwrap_or(word.into()).into_owned()
}

/// A command as a shell takes it, in one line.
pub(crate) fn command_line<W: AsRef<[u8]>>(words: &[W]) -> String {
    let quoted = |word: &W| quoted(&String::from_utf8_lossy(word.as_ref()));
    let words: Vec<String> = words.iter().map(quoted).collect();
    visible(words.join(" ").replace('\n', " ").as_bytes(), Blanks::Plain)
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| String::new(), |s| format!(" ({})", s.as_str()))
}

/// A duration in seconds, without needless digits.
pub(crate) fn seconds(time: Duration) -> String {
    let secs = time.as_secs_f64();
    if secs.fract().abs() < 0.05 {
        format!("{secs:.0} s")
    } else {
        format!("{secs:.1} s")
    }
}

/// A duration as a clock shows it: `0:07`, `12:30`, `1:02:03`.
pub(crate) fn clock_span(time: Duration) -> String {
    let secs = time.as_secs();
    let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
    if h > 0 {
        format!("{h}:{m:02}:{s:02}")
    } else {
        format!("{m}:{s:02}")
    }
}

/// A size in the largest unit that leaves a whole number.
pub(crate) fn bytes(n: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units
        .iter()
        .find(|(size, _)| n >= *size && n.is_multiple_of(*size));
    unit.map_or_else(
        || format!("{n} bytes"),
        |(size, unit)| format!("{} {unit}", n / size),
    )
}

fn local(at: SystemTime, format: &str) -> String {
    let Ok(at) = Timestamp::try_from(at) else {
        return "?".to_owned();
    };
    at.to_zoned(TimeZone::system()).strftime(format).to_string()
}

/// The time of day, local: `13:05:59`.
pub(crate) fn time_of_day(at: SystemTime) -> String {
    local(at, "%H:%M:%S")
}

/// Date and time, local, of so many seconds since 1970.
pub(crate) fn date_time(secs: u64) -> String {
    local(
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs),
        "%Y-%m-%d %H:%M",
    )
}

/// Date and time with the zone, for the heads of reports.
pub(crate) fn full_date(at: SystemTime) -> String {
    local(at, "%Y-%m-%d %H:%M:%S %:z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LeftBehind;
    use crate::report::sample;

    #[test]
    fn combinations_name_what_is_not_the_default() {
        let mut c = sample::combo("qcow2");
        assert_eq!(combo(&c), "qcow2-file");
        c.cache = "none".into();
        c.aio = "native".into();
        c.options = "compat=0.10".into();
        assert_eq!(combo(&c), "qcow2-file-none-native (compat=0.10)");
        c.qemu = "/opt/qemu-7.2".into();
        c.options.clear();
        assert_eq!(combo(&c), "qcow2-file-none-native@qemu-7.2");
    }

    #[test]
    fn a_folder_is_named_from_a_name_that_says_something() {
        for (folder, name) in [
            ("/opt/qemu-7.2", "qemu-7.2"),
            ("/src/qemu/build", "qemu/build"),
            ("/q/sid/usr/bin", "sid/usr/bin"),
            ("/usr/bin", "/usr/bin"),
        ] {
            assert_eq!(folder_name(folder), name, "{folder}");
        }
    }

    #[test]
    fn every_failure_has_its_words() {
        let mut f = sample::finished(sample::job(0, "030", "qcow2"), Verdict::Pass);
        let outcome = f.outcome.as_mut().unwrap();
        outcome.sanitizer_logs = vec!["/s/030.out.asan.7".into()];
        outcome.left_behind = vec![LeftBehind {
            name: "qemu-nbd".into(),
            pid: 4711,
        }];
        outcome.left_mounts = vec!["/s/m".into()];
        for (failure, words) in [
            (
                Failure::NotStarted("no\nx bit".into()),
                "could not be started: no x bit",
            ),
            (
                Failure::TimeOut(Duration::from_secs(600)),
                "timed out after 600 s",
            ),
            (
                Failure::TimeOut(Duration::from_millis(1500)),
                "timed out after 1.5 s",
            ),
            (
                Failure::Limit(Limit::Output(64 << 20)),
                "printed more output than the limit of 64 MiB",
            ),
            (
                Failure::Limit(Limit::Scratch(1000)),
                "used more scratch space than the limit of 1000 bytes",
            ),
            (Failure::Signal(11), "killed by signal 11 (SIGSEGV)"),
            (Failure::Signal(60), "killed by signal 60"),
            (Failure::ExitStatus(3), "failed, exit status 3"),
            (
                Failure::Sanitizer,
                "sanitizer report (see /s/030.out.asan.7)",
            ),
            (
                Failure::Output,
                "output mismatch (see /scratch/qcow2-file-030/030.out.bad)",
            ),
            (
                Failure::LeftBehind,
                "left behind: qemu-nbd 4711, mount /s/m",
            ),
        ] {
            f.verdict = Verdict::Fail(vec![failure]);
            let said = description(&f);
            assert!(said.starts_with(words), "{said}");
        }
        f.verdict = Verdict::Pass;
        assert_eq!(description(&f), "left behind: qemu-nbd 4711, mount /s/m");
    }

    #[test]
    fn reasons_are_free_of_control_characters() {
        let verdict = Verdict::NotRun("no\x1b[31m\nKVM".into());
        let f = sample::finished(sample::job(0, "030", "qcow2"), verdict);
        assert_eq!(description(&f), "no␛[31m KVM");
    }

    #[test]
    fn spans_are_shown_as_a_clock_does() {
        assert_eq!(clock_span(Duration::from_secs(7)), "0:07");
        assert_eq!(clock_span(Duration::from_secs(3723)), "1:02:03");
    }
}
