//! A sanitizer had something to say, also where the exit status is an ordinary one.

use super::{Class, Verdict};
use crate::exec::{End, Observation};
use crate::messages::normalise;

/// What the reports of the sanitizers begin with.
const MARKS: [&str; 3] = ["ERROR: ", "runtime error: ", "WARNING: "];

/// Judges by the report the executor collected, or one on the error output.
pub(super) fn judge(seen: &Observation) -> Verdict {
    let own = seen.sanitizer.as_deref();
    let printed = looks_like_report(&seen.stderr).then_some(seen.stderr.as_slice());
    let report = String::from_utf8_lossy(own.or(printed)?).into_owned();
    let (headline, site) = site(&report);
    let end = super::end_word(&seen.end);
    let clean = matches!(seen.end, End::Exit(_));
    let note = if clean { " (an ordinary status)" } else { "" };
    Some((
        Class::Sanitizer,
        site,
        format!("{headline}; {end}{note}"),
    ))
}

/// Whether the error output itself holds a sanitizer's report.
fn looks_like_report(stderr: &[u8]) -> bool {
    let text = String::from_utf8_lossy(stderr);
    text.contains("Sanitizer: ") || text.contains("runtime error: ")
}

/// The report's headline, and the site it is grouped by: the kind of error and
/// the first three frames that are not the sanitizer's or the C library's own.
fn site(report: &str) -> (String, String) {
    let headline = report
        .lines()
        .find(|line| MARKS.iter().any(|mark| line.contains(mark)))
        .unwrap_or_else(|| report.lines().next().unwrap_or_default())
        .trim();
    let kind = headline
        .split_once("Sanitizer: ")
        .or_else(|| headline.split_once("runtime error: "))
        .map_or(headline, |(_, rest)| rest);
    let kind = normalise(kind.split(" on ").next().unwrap_or(kind));
    let frames: Vec<&str> = report
        .lines()
        .filter_map(frame)
        .filter(|name| !is_runtime(name))
        .take(3)
        .collect();
    (normalise(headline), format!("{kind} {}", frames.join(" ")).trim().to_owned())
}

/// The function named in a line `#3 0x55… in FUNCTION FILE:LINE`.
fn frame(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix('#')?;
    let (_, rest) = rest.split_once(" in ")?;
    rest.split_whitespace().next()
}

/// Whether a frame belongs to the sanitizer's runtime or to the C library.
fn is_runtime(name: &str) -> bool {
    name.starts_with("__")
        || name.starts_with("_IO_")
        || ["malloc", "calloc", "realloc", "free", "memcpy", "memset", "memmove", "abort", "raise"]
            .contains(&name)
        || name.starts_with("g_malloc")
        || name.starts_with("g_free")
        || name.starts_with("operator")
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
=================================================================
==12==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x6020 at pc 0x1 bp 0x2
READ of size 8 at 0x6020 thread T0
    #0 0x55d1 in __asan_memcpy (/usr/bin/qemu-img+0x1)
    #1 0x55d2 in qcow2_read_snapshots ../block/qcow2-snapshot.c:12
    #2 0x55d3 in qcow2_do_open ../block/qcow2.c:99
    #3 0x55d4 in bdrv_open ../block.c:1
    #4 0x55d5 in main ../qemu-img.c:1
";

    #[test]
    fn a_report_is_grouped_by_kind_and_frames() {
        let (_, site) = site(REPORT);
        assert_eq!(
            site,
            "heap-buffer-overflow qcow2_read_snapshots qcow2_do_open bdrv_open"
        );
    }

    #[test]
    fn undefined_behaviour_is_a_report_too() {
        let text = b"../block/qcow2.c:1:2: runtime error: shift exponent 65 is too large";
        assert!(looks_like_report(text));
        assert!(!looks_like_report(b"qemu-img: Could not open 'x'"));
    }
}
