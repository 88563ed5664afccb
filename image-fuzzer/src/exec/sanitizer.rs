//! Reports of sanitizers, which are written into a folder and read from there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bstr::ByteSlice;

/// Symbols of programs built with a sanitizer, and the variable and options that configure it.
const KINDS: [(&str, &str, &str); 4] = [
    (
        "__asan_init",
        "ASAN_OPTIONS",
        "verify_asan_link_order=0:allocator_may_return_null=1",
    ),
    ("__ubsan_handle", "UBSAN_OPTIONS", "print_stacktrace=1"),
    ("__tsan_init", "TSAN_OPTIONS", ""),
    ("__msan_init", "MSAN_OPTIONS", ""),
];

/// How the names of report files begin; the sanitizer adds a process id.
const REPORT: &str = "report";

/// How reports begin in a standard error, where some go in spite of the folder.
const MARKERS: [&str; 5] = [
    "ERROR: AddressSanitizer",
    "ERROR: LeakSanitizer",
    "ERROR: UndefinedBehaviorSanitizer",
    "WARNING: ThreadSanitizer",
    "WARNING: MemorySanitizer",
];

/// What follows the place, `FILE:LINE:COLUMN`, in a report of the one for undefined behaviour.
/// A panic of Go's has the same words behind its own.
const RUNTIME_ERROR: &str = ": runtime error: ";

/// Where the reports of one executor's runs go.
#[derive(Debug)]
pub(super) struct Reports {
    /// The folder, where the program was built with a sanitizer.
    folder: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
}

impl Reports {
    /// Finds out whether the program has a sanitizer, and creates a folder for its reports if
    /// so. `leaks` is whether leaks are reported.
    pub(super) fn new(program: &Path, folder: PathBuf, leaks: bool) -> io::Result<Self> {
        let options = options(program, leaks)?;
        if options.is_empty() {
            return Ok(Self {
                folder: None,
                env: Vec::new(),
            });
        }
        fs::create_dir_all(&folder)?;
        let mut env = Vec::new();
        for (variable, settings) in options {
            let mut value = OsString::from("log_path=");
            value.push(folder.join(REPORT));
            if !settings.is_empty() {
                value.push(":");
                value.push(&settings);
            }
            env.push((OsString::from(variable), value));
        }
        Ok(Self {
            folder: Some(folder),
            env,
        })
    }

    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Variables that make the sanitizer write into the folder.
    pub(super) fn env(&self) -> &[(OsString, OsString)] {
        &self.env
    }

    /// Takes the reports of the last run, or the one in its standard error; at most `bound`
    /// bytes of files.
    pub(super) fn take(&self, stderr: &[u8], bound: usize) -> Option<Vec<u8>> {
        let mut report = self.take_files();
        report.truncate(bound);
        if report.is_empty() || is_warning(&report) {
            report.clear();
            report.extend_from_slice(report_in(stderr)?);
        }
        Some(report)
    }

    fn take_files(&self) -> Vec<u8> {
        let Some(entries) = self.folder.as_ref().and_then(|f| fs::read_dir(f).ok()) else {
            return Vec::new();
        };
        let ours = |entry: &fs::DirEntry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(REPORT.as_bytes())
        };
        let entries = entries.flatten().filter(ours);
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        let mut report = Vec::new();
        for path in paths {
            report.extend(fs::read(&path).unwrap_or_default());
            // One that is left would be taken for the next run's.
            let _ = fs::remove_file(&path);
        }
        report
    }
}

/// The variables that configure the sanitizers a program was built with, and their values but
/// for where reports go. `leaks` is whether leaks are reported.
///
/// # Errors
///
/// The program cannot be read.
pub fn options(program: &Path, leaks: bool) -> io::Result<Vec<(&'static str, String)>> {
    let kinds = KINDS.iter().zip(built_with(program)?);
    let kinds = kinds.filter(|(_, found)| *found);
    Ok(kinds
        .map(|((_, variable, settings), _)| {
            let detect = match *variable {
                "ASAN_OPTIONS" if leaks => "detect_leaks=1:",
                "ASAN_OPTIONS" => "detect_leaks=0:",
                _ => "",
            };
            (*variable, format!("{detect}{settings}"))
        })
        .collect())
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.take_files();
        if let Some(folder) = &self.folder {
            // A folder that stays is harmless.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Which of [`KINDS`] a program was built with. Each program is searched once, for all
/// executors.
pub(super) fn built_with(program: &Path) -> io::Result<[bool; KINDS.len()]> {
    static KNOWN: Mutex<BTreeMap<PathBuf, [bool; KINDS.len()]>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(program) {
        return Ok(*found);
    }
    let file = fs::read(program)?;
    let found = KINDS.map(|(symbol, ..)| file.contains_str(symbol));
    known.insert(program.to_owned(), found);
    Ok(found)
}

/// Whether a sanitizer only warned, as of `swapcontext` or of an allocation that failed: it
/// found no fault, and what the program printed itself counts.
fn is_warning(report: &[u8]) -> bool {
    report.contains_str("WARNING: ") && report_in(report).is_none()
}

/// The part of `stderr` from the line where a report begins.
pub(crate) fn report_in(stderr: &[u8]) -> Option<&[u8]> {
    let has_place = |at: &usize| stderr[..*at].last().is_some_and(u8::is_ascii_digit);
    let at = MARKERS
        .iter()
        .filter_map(|marker| stderr.find(marker))
        .chain(stderr.find_iter(RUNTIME_ERROR).find(has_place))
        .min()?;
    let line = stderr[..at].rfind_byte(b'\n').map_or(0, |end| end + 1);
    stderr.get(line..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_in_standard_error_is_found_from_its_line_on() {
        let text = b"warming up\n==7==ERROR: AddressSanitizer: heap-buffer-overflow\n  #0 x\n";
        assert_eq!(report_in(text), text.get(11..));
        let text = b"a.c:3:4: runtime error: signed integer overflow\n";
        assert_eq!(report_in(text), Some(&text[..]));
        assert_eq!(report_in(b"qemu-img: Could not open\n"), None);
    }

    /// A panic of Go's was taken for a report, and so was no crash.
    #[test]
    fn a_runtime_error_of_go_is_no_report() {
        let panic = b"panic: runtime error: index out of range [9] with length 3\n";
        assert_eq!(report_in(panic), None);
        let both = [&panic[..], b"a.c:3:4: runtime error: division by zero\n"].concat();
        assert_eq!(report_in(&both), both.get(panic.len()..));
    }

    /// A warning of `swapcontext` once hid every failed assertion of a program with
    /// coroutines.
    #[test]
    fn a_warning_hides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let reports = Reports {
            folder: Some(dir.path().to_owned()),
            env: Vec::new(),
        };
        let file = dir.path().join("report.7");
        let warning = "==7==WARNING: ASan doesn't fully support makecontext/swapcontext\n";
        fs::write(&file, warning).unwrap();
        assert_eq!(reports.take(b"Assertion `x' failed.\n", 100), None);
        fs::write(&file, warning).unwrap();
        let error = b"a.c:3:4: runtime error: index 16 out of bounds\n";
        assert_eq!(reports.take(error, 100).as_deref(), Some(&error[..]));
        let text = format!("{warning}==7==ERROR: AddressSanitizer: SEGV\n");
        fs::write(&file, &text).unwrap();
        assert_eq!(reports.take(b"", 200), Some(text.into_bytes()));
    }

    #[test]
    fn reports_are_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let reports = Reports {
            folder: Some(dir.path().join("san")),
            env: Vec::new(),
        };
        fs::create_dir(dir.path().join("san")).unwrap();
        fs::write(dir.path().join("san/report.7"), "==7==ERROR: x\n").unwrap();
        assert_eq!(reports.take(b"", 10).as_deref(), Some(&b"==7==ERROR"[..]));
        assert_eq!(reports.take(b"", 10), None);
    }
}
