//! Which reference applies to a test under a combination.

use std::path::PathBuf;

use crate::model::{Combo, Test};

/// How the not-run reason of a test without a reference begins; reporters list
/// tests with this reason by themselves, so that a missing reference is seen.
pub const NO_REFERENCE: &str = "no reference";

/// The reference that applies, in this order: with cache mode `none`,
/// `NAME.out.nocache` where it exists; else `NAME.out.FMT`; else
/// `NAME.MACHINE.out` (`machine` is the emulator's default machine, empty where
/// there is no emulator); else `NAME.out`. `None` where the test has none.
#[must_use]
pub fn find(test: &Test, combo: &Combo, machine: &str) -> Option<PathBuf> {
    candidates(test, combo, machine)
        .into_iter()
        .find(|path| path.is_file())
}

/// The files that [`find`] looks for, the most special first; the last one is
/// the plain reference.
pub(crate) fn candidates(test: &Test, combo: &Combo, machine: &str) -> Vec<PathBuf> {
    let name = &test.name;
    let mut files = Vec::with_capacity(4);
    if combo.cache == "none" {
        files.push(format!("{name}.out.nocache"));
    }
    files.push(format!("{name}.out.{}", combo.format));
    if !machine.is_empty() {
        files.push(format!("{name}.{machine}.out"));
    }
    files.push(format!("{name}.out"));
    files
        .into_iter()
        .map(|file| test.golden_dir.join(file))
        .collect()
}

/// The not-run reason for a test that has no reference: it names the file that
/// was looked for and how one is made.
#[must_use]
pub fn no_reference(test: &Test) -> String {
    let plain = test.golden_dir.join(format!("{}.out", test.name));
    format!(
        "{NO_REFERENCE} (expected {}; --bless writes one)",
        plain.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_most_special_reference_wins() {
        let dir = tempfile::tempdir().unwrap();
        let mut test = sample::test("030");
        test.golden_dir = dir.path().to_owned();
        let mut combo = sample::combo("qcow2");
        let found = |combo: &Combo| {
            find(&test, combo, "pc").map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!(found(&combo), None);
        for (file, nocache_too) in [
            ("030.out", true),
            ("030.pc.out", true),
            ("030.out.qcow2", true),
            ("030.out.nocache", false),
        ] {
            std::fs::write(dir.path().join(file), "").unwrap();
            if nocache_too {
                assert_eq!(found(&combo).as_deref(), Some(file));
            } else {
                assert_eq!(found(&combo).as_deref(), Some("030.out.qcow2"));
            }
            combo.cache = "none".into();
            assert_eq!(found(&combo).as_deref(), Some(file));
            combo.cache = "writeback".into();
        }
        combo.format = "raw".into();
        assert_eq!(found(&combo).as_deref(), Some("030.pc.out"));
    }

    #[test]
    fn a_directory_is_no_reference() {
        let dir = tempfile::tempdir().unwrap();
        let mut test = sample::test("030");
        test.golden_dir = dir.path().to_owned();
        std::fs::create_dir(dir.path().join("030.out")).unwrap();
        assert_eq!(find(&test, &sample::combo("raw"), ""), None);
        assert!(no_reference(&test).starts_with(NO_REFERENCE));
    }
}
