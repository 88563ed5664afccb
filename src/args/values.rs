//! Values of options: what a number, a size or a list looks like.

use testdecl::CACHES;

use super::low::{DEBUGGEES, Debuggee, Share};

/// A whole number of at least `least`.
pub(super) fn number<N>(text: &str, least: N) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number: N = text
        .parse()
        .map_err(|_| format!("invalid int value: '{text}'"))?;
    if number < least {
        return Err(format!("must be at least {least}, not {number}"));
    }
    Ok(number)
}

/// How many tests to run at once. What a number below one means depends on the tree.
pub(super) fn jobs(text: &str) -> Result<i64, String> {
    number(text, i64::MIN)
}

/// The longest time-out, in seconds: a year.
const LONGEST: u64 = 365 * 24 * 60 * 60;

/// A time-out in whole seconds; 0 is none.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= LONGEST);
    seconds.ok_or_else(|| {
        format!("invalid time: '{text}' (whole seconds up to {LONGEST}; 0 for no limit)")
    })
}

/// A cache mode; `off` is QEMU's other word for `none`.
pub(super) fn cache_mode(text: &str) -> Result<String, String> {
    if text != "off" {
        one_of(text, CACHES)?;
    }
    Ok(text.to_owned())
}

/// A size in bytes: digits with an optional `k`, `M`, `G` or `T` (powers of
/// 1024, either case).
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("invalid size: '{text}' (digits, then k, M, G or T)");
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, unit)) if !unit.is_ascii_digit() => {
            let shift = match unit.to_ascii_lowercase() {
                'k' => 10,
                'm' => 20,
                'g' => 30,
                't' => 40,
                _ => return Err(wrong()),
            };
            (&text[..at], shift)
        }
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// `I/N` with I from 1 to N, or `auto`.
pub(super) fn shard(text: &str) -> Result<Share, String> {
    if text == "auto" {
        return Ok(Share::Auto);
    }
    let wrong = || format!("invalid shard: '{text}' (I/N, I from 1 to N, such as 2/3, or auto)");
    let (i, n) = text.split_once('/').ok_or_else(wrong)?;
    let (i, n): (usize, usize) = (
        i.parse().map_err(|_| wrong())?,
        n.parse().map_err(|_| wrong())?,
    );
    if i == 0 || i > n {
        return Err(wrong());
    }
    Ok(Share::Of(i, n))
}

/// What a debugger is for: `test`, or a program under test and which of its starts
/// (`qemu-img:3`).
pub(super) fn debuggee(text: &str) -> Result<Debuggee, String> {
    let (name, nth) = match text.split_once(':') {
        Some((name, nth)) => (name, Some(number(nth, 1)?)),
        None => (text, None),
    };
    if name == "test" && nth.is_none() {
        return Ok(Debuggee::Test);
    }
    // The emulator goes by the name of its file too.
    let name = if name.starts_with("qemu-system-") {
        "qemu"
    } else {
        name
    };
    let program = DEBUGGEES.iter().find(|(program, _)| *program == name);
    let (program, _) = program.ok_or_else(|| {
        let names: Vec<&str> = DEBUGGEES.iter().map(|(program, _)| *program).collect();
        format!(
            "invalid program: '{text}' (test, or {}; :N for its N-th start)",
            names.join(", ")
        )
    })?;
    Ok(Debuggee::Start {
        program: Some(program),
        nth: nth.unwrap_or(1),
    })
}

/// Words between commas; empty ones are dropped.
pub(super) fn list(text: &str) -> Vec<String> {
    let words = text.split(',').map(str::trim).filter(|w| !w.is_empty());
    words.map(str::to_owned).collect()
}

/// Groups between commas. None at all is an empty argument, and as good as no
/// option; commas alone would be taken for that, and run every test.
pub(super) fn groups(text: &str) -> Result<Vec<String>, String> {
    let groups = list(text);
    if groups.is_empty() && !text.is_empty() {
        return Err(format!("no group named in {text:?}"));
    }
    Ok(groups)
}

/// Words between commas, each one of `known`.
pub(super) fn list_of(text: &str, known: &[&str]) -> Result<Vec<String>, String> {
    let words = list(text);
    if words.is_empty() {
        return Err(format!(
            "nothing named in {text:?} (known: {})",
            known.join(", ")
        ));
    }
    for word in &words {
        one_of(word, known)?;
    }
    Ok(words)
}

/// Folders between commas.
pub(super) fn folders(text: &str) -> Result<Vec<String>, String> {
    let folders = list(text);
    match folders.is_empty() {
        true => Err(format!("no folder named in {text:?}")),
        false => Ok(folders),
    }
}

/// That `text` is one of `known`.
pub(super) fn one_of(text: &str, known: &[&str]) -> Result<(), String> {
    if known.contains(&text) {
        return Ok(());
    }
    let known: Vec<_> = known.iter().map(|k| format!("'{k}'")).collect();
    Err(format!(
        "invalid choice: '{text}' (choose from {})",
        known.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("64k"), Ok(65536));
        assert_eq!(size("2G"), Ok(2 << 30));
        for wrong in ["", "k", "1x", "-1", "99999999999T", "1 k", "é"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_shard_lies_within_its_count() {
        assert_eq!(shard("2/3"), Ok(Share::Of(2, 3)));
        assert_eq!(shard("auto"), Ok(Share::Auto));
        for wrong in ["0/3", "4/3", "1", "/", "a/b", "1/0"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_name_what_they_do_not_know() {
        assert_eq!(list("a,,b, c"), ["a", "b", "c"]);
        assert_eq!(groups(""), Ok(Vec::new()));
        assert!(groups(" ,").is_err());
        let err = list_of("raw,qow2", &["raw", "qcow2"]).unwrap_err();
        assert_eq!(err, "invalid choice: 'qow2' (choose from 'raw', 'qcow2')");
    }

    #[test]
    fn a_debugger_is_for_a_start_of_a_program() {
        let start = |program, nth| Ok(Debuggee::Start { program, nth });
        assert_eq!(debuggee("test"), Ok(Debuggee::Test));
        assert_eq!(debuggee("qemu-img:3"), start(Some("qemu-img"), 3));
        assert_eq!(debuggee("qemu-system-x86_64"), start(Some("qemu"), 1));
        assert_eq!(
            Debuggee::default(),
            start(None, 1).unwrap_or(Debuggee::Test)
        );
        for wrong in ["", "qemu-img:0", "qemu-img:", "test:2", "ls", ":2"] {
            assert!(debuggee(wrong).is_err(), "{wrong}");
        }
    }
}
