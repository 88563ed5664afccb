//! What a test logs is made the same on every machine, path and QEMU version.
//!
//! Filters are functions on bytes: no state, no clock, no files. Applying one
//! twice changes nothing more. [`Filter`] holds the names of this run
//! (directories, images, programs, format) and applies all filters in order; each
//! module below is about one kind of text.

pub mod errors;
pub mod format;
pub mod generated_ids;
pub mod img;
pub mod io;
pub mod json;
pub mod names;

use std::borrow::Cow;

use regex::bytes::Regex;

/// The names of one run and what each is called in a golden.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Real text and its replacement, longest real text first.
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The image format whose name becomes `IMGFMT`; empty for none.
    format: String,
}

impl Filter {
    /// A filter for images of this format that knows no names yet.
    #[must_use]
    pub fn new(format: &str) -> Self {
        Self {
            pairs: Vec::new(),
            format: format.to_owned(),
        }
    }

    /// From now on `real` is shown as `shown`. A pair whose real text is empty is
    /// ignored; one that is there already is replaced.
    pub fn name(&mut self, real: impl AsRef<[u8]>, shown: impl AsRef<[u8]>) {
        let real = real.as_ref();
        if real.is_empty() {
            return;
        }
        self.pairs.retain(|(r, _)| r != real);
        let at = self.pairs.partition_point(|(r, _)| r.len() >= real.len());
        self.pairs
            .insert(at, (real.to_vec(), shown.as_ref().to_vec()));
    }

    /// The filters for any text: names, format, generated ids, error texts.
    #[must_use]
    pub fn text(&self, text: &[u8]) -> Vec<u8> {
        let text = names::json_names(text, &self.pairs);
        let text = names::replace(&text, &self.pairs);
        let text = format::hide(&text, &self.format);
        let text = generated_ids::hide(&text);
        errors::unify(&text)
    }
}

/// Patterns, and what each match is replaced by.
struct Rules(Vec<(Regex, &'static [u8])>);

impl Rules {
    /// Takes patterns on bytes; what is not a pattern is left out.
    fn new(rules: &[(&str, &'static [u8])]) -> Self {
        let regex = |re: &str| Regex::new(&format!("(?-u){re}")).ok();
        Self(
            rules
                .iter()
                .filter_map(|(re, to)| Some((regex(re)?, *to)))
                .collect(),
        )
    }

    fn apply(&self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        for (re, to) in &self.0 {
            if let Cow::Owned(new) = re.replace_all(&text, *to) {
                text = new;
            }
        }
        text
    }
}

/// Keeps the lines for which `keep` holds, ends of lines included.
pub(crate) fn keep_lines(text: &[u8], mut keep: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let lines = text.split_inclusive(|b| *b == b'\n');
    lines
        .filter(|line| keep(line.trim_ascii_end()))
        .flatten()
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter() -> Filter {
        let mut f = Filter::new("qcow2");
        f.name("/x/scratch/a", "TEST_DIR");
        f.name("/x/s", "SOCK_DIR");
        f.name("/x/scratch/a/t.qcow2", "TEST_DIR/t.IMGFMT");
        f.name("nbd+unix:///?socket=/x/s/t.nbd", "TEST_DIR/t.IMGFMT");
        f.name("/usr/bin/qemu-img", "qemu-img");
        f
    }

    #[test]
    fn the_longest_name_wins() {
        let text =
            filter().text(b"/usr/bin/qemu-img: /x/scratch/a/t.qcow2 in /x/scratch/a, /x/s/q");
        assert_eq!(text, b"qemu-img: TEST_DIR/t.IMGFMT in TEST_DIR, SOCK_DIR/q");
    }

    #[test]
    fn a_longer_name_is_left() {
        let text = b"/x/scratch/abc /x/sock";
        assert_eq!(filter().text(text), text);
    }

    proptest! {
        #[test]
        fn twice_is_as_once(parts in prop::collection::vec(prop_oneof![
            Just("/x/scratch/a"), Just("/x/s"), Just("/t.qcow2"), Just("qcow2"), Just(" "),
            Just("nbd+unix:///?socket="), Just("\n"), Just("#block12"), Just("json:{"), Just("}"),
            Just("\"filename\":"), Just("pid 17"), Just("2024-01-02 10:00:00"), Just("IMGFMT"), Just("."),
            Just("qemu-img: "), Just("disk size: 3 MiB"), Just("TEST_DIR"), Just("Failed to lock"),
        ], 0..20)) {
            let once = filter().text(parts.concat().as_bytes());
            prop_assert_eq!(filter().text(&once), once);
        }

        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            let once = filter().text(&text);
            prop_assert_eq!(filter().text(&once), once);
        }
    }
}
