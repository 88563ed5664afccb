//! Where sanitizers write their reports, and finding those.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Sanitizers: the variable with their options, the ending of their logs, and
/// what is set besides where the caller does not say.
const SANITIZERS: [(&str, &str, &str); 3] = [
    ("ASAN_OPTIONS", "asan", "detect_leaks=0"),
    ("UBSAN_OPTIONS", "ubsan", "print_stacktrace=1"),
    ("TSAN_OPTIONS", "tsan", ""),
];

/// Extends the sanitizers' options in `env`: reports go to `NAME.out.asan.PID`
/// and the like in `scratch`, in place of a log path of the caller's, and leaks
/// are ignored unless the caller says otherwise.
pub(super) fn extend(env: &mut Vec<(OsString, OsString)>, scratch: &Path, name: &str) {
    for (variable, ending, default) in SANITIZERS {
        let at = env.iter().position(|(k, _)| k == variable);
        let mut value = at.map(|at| env.remove(at).1).unwrap_or_default();
        let key = default.split('=').next().unwrap_or_default();
        let log = scratch.join(format!("{name}.out.{ending}"));
        if !says(&value, key) {
            add(&mut value, OsStr::new(default));
        }
        let mut path = OsString::from("log_path=");
        path.push(quoted(&log));
        add(&mut value, &path);
        env.push((variable.into(), value));
    }
}

/// Whether options name `key`; true for no key at all.
fn says(options: &OsStr, key: &str) -> bool {
    let mut starts = options
        .as_bytes()
        .split(|b| matches!(b, b':' | b',' | b' ' | b'\t' | b'\n'))
        .filter_map(|option| option.strip_prefix(key.as_bytes()));
    key.is_empty() || starts.any(|rest| rest.first() == Some(&b'='))
}

/// Adds an option at the end, where it has the last word.
fn add(options: &mut OsString, option: &OsStr) {
    if !options.is_empty() && !option.is_empty() {
        options.push(":");
    }
    options.push(option);
}

/// A path as sanitizers read it: in quotes where it holds what separates
/// options.
fn quoted(path: &Path) -> OsString {
    let plain = path
        .as_os_str()
        .as_bytes()
        .iter()
        .all(|b| !b.is_ascii_whitespace() && !matches!(b, b':' | b','));
    if plain {
        return path.into();
    }
    let mut text = OsString::from("'");
    text.push(path);
    text.push("'");
    text
}

/// The reports in `scratch` that say anything, sorted.
pub(super) fn logs(scratch: &Path, name: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(scratch)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let file = entry.file_name();
            let rest = file
                .as_bytes()
                .strip_prefix(name.as_bytes())
                .and_then(|rest| rest.strip_prefix(b".out."));
            let is_log = rest.is_some_and(|rest| {
                SANITIZERS
                    .iter()
                    .filter_map(|(_, ending, _)| rest.strip_prefix(ending.as_bytes()))
                    .any(|behind| behind.is_empty() || behind[0] == b'.')
            });
            is_log && entry.metadata().is_ok_and(|m| m.len() > 0)
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extended(variable: &str, value: Option<&str>, scratch: &str) -> String {
        let mut env: Vec<(OsString, OsString)> = value
            .map(|v| (variable.into(), v.into()))
            .into_iter()
            .collect();
        extend(&mut env, Path::new(scratch), "030");
        assert_eq!(env.len(), 3);
        let (_, value) = env.into_iter().find(|(k, _)| k == variable).unwrap();
        value.into_string().unwrap()
    }

    #[test]
    fn the_callers_options_are_kept_and_extended() {
        let asan = |v| extended("ASAN_OPTIONS", v, "/s");
        assert_eq!(asan(None), "detect_leaks=0:log_path=/s/030.out.asan");
        assert_eq!(
            asan(Some("detect_leaks=1:x=2")),
            "detect_leaks=1:x=2:log_path=/s/030.out.asan"
        );
        assert_eq!(
            asan(Some("no_detect_leaks=1")),
            "no_detect_leaks=1:detect_leaks=0:log_path=/s/030.out.asan"
        );
        assert_eq!(
            extended("TSAN_OPTIONS", Some("a=1"), "/a b"),
            "a=1:log_path='/a b/030.out.tsan'"
        );
    }

    #[test]
    fn only_reports_that_say_anything_are_found() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("030.out.asan.12", "ERROR"),
            ("030.out.asan.13", ""),
            ("030.out.ubsan.9", "runtime error"),
            ("030.out.bad", "text"),
            ("0301.out.asan.1", "another test"),
            ("030.out.asanx", "no log"),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let found = logs(dir.path(), "030");
        let names: Vec<&str> = found
            .iter()
            .map(|p| p.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["030.out.asan.12", "030.out.ubsan.9"]);
    }
}
