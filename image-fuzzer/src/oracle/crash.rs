//! A signal ended the program: a failed assertion, a wild pointer, an abort.

use super::{Class, Verdict};
use crate::exec::{End, Observation};
use crate::messages::normalise;

/// Judges how the program ended. The site is the failed assertion, where the
/// program named one, else the signal; a stack refines it later.
pub(super) fn judge(seen: &Observation) -> Verdict {
    let End::Signal(number) = seen.end else {
        return None;
    };
    let name = signal_name(number);
    let stderr = String::from_utf8_lossy(&seen.stderr);
    let said = stderr.lines().find(|line| is_last_word(line));
    let site = said.map_or_else(|| name.clone(), assertion_site);
    let summary = match said {
        Some(line) => format!("{name}: {}", line.trim()),
        None => format!("{name}, without a word"),
    };
    Some((Class::Crash, site, summary))
}

/// The name of a signal.
pub fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number).map_or_else(
        |_| format!("signal {number}"),
        |signal| signal.as_str().to_owned(),
    )
}

/// Whether `line` is what a program says when it gives up on itself.
fn is_last_word(line: &str) -> bool {
    [
        "Assertion `",
        "assertion failed",
        "should not be reached",
        "Unexpected error in",
        "malloc():",
        "free():",
        "double free",
        "corrupted ",
        "*** stack smashing",
        "*** buffer overflow",
        "failed to allocate",
        "panicked at",
    ]
    .iter()
    .any(|word| line.contains(word))
}

/// The place and the text of a failed assertion, without line numbers, program
/// name and versions, so that it stays the same from one version to the next.
fn assertion_site(line: &str) -> String {
    // glibc: PROGRAM: FILE:LINE: FUNCTION: Assertion `TEXT' failed.
    if let Some((front, text)) = line.split_once("Assertion `") {
        let function = front
            .trim_end()
            .trim_end_matches(':')
            .rsplit(": ")
            .next()
            .unwrap_or_default();
        let file = front.split(": ").find_map(|part| {
            let (file, number) = part.rsplit_once(':')?;
            let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| file.rsplit('/').next().unwrap_or(file))
        });
        let text = text.rsplit_once('\'').map_or(text, |(text, _)| text);
        return format!("{} {function} {text}", file.unwrap_or_default())
            .trim()
            .to_owned();
    }
    normalise(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glibc_assertion_is_named_by_its_place() {
        let line = "qemu-img: ../../block/qcow2.c:5176: qcow2_get_specific_info: \
                    Assertion `false' failed.";
        assert_eq!(
            assertion_site(line),
            "qcow2.c qcow2_get_specific_info false"
        );
    }

    #[test]
    fn glib_and_malloc_messages_lose_their_numbers() {
        assert_eq!(
            assertion_site("ERROR:../block/x.c:12:f: assertion failed: (a == b)"),
            "ERROR:../block/x.c:N:f: assertion failed: (a == b)"
        );
        assert_eq!(assertion_site("free(): invalid pointer"), "free(): invalid pointer");
    }
}
