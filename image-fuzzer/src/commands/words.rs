//! A `qemu-img` command being put together.

use super::Command;
use image_mutations::rng::Rng;

/// The words of a `qemu-img` command so far.
pub(super) struct Words(Vec<String>);

impl Words {
    /// The command `verb` without any options.
    pub(super) fn new(verb: &str) -> Self {
        Self(vec!["qemu-img".into(), verb.into()])
    }

    /// Adds words as they are.
    pub(super) fn add<const N: usize>(mut self, words: [&str; N]) -> Self {
        self.0.extend(words.map(String::from));
        self
    }

    /// Adds words with a chance of `percent` in a hundred.
    pub(super) fn maybe<const N: usize>(
        self,
        percent: u64,
        rng: &mut Rng,
        words: [&str; N],
    ) -> Self {
        if rng.chance(percent) {
            self.add(words)
        } else {
            self
        }
    }

    /// Names the format most of the time; without it the tool probes.
    pub(super) fn format(self, rng: &mut Rng) -> Self {
        self.maybe(75, rng, ["-f", "qcow2"])
    }

    /// Ends with the image under test.
    pub(super) fn image(self) -> Command {
        self.add(["$test_img"]).done()
    }

    /// Ends as it is.
    pub(super) fn done(self) -> Command {
        Command(self.0)
    }
}

/// One of some texts, each with its weight.
pub(super) fn weighted<'a>(rows: &[(u64, &'a str)], rng: &mut Rng) -> &'a str {
    let weights: Vec<u64> = rows.iter().map(|(weight, _)| *weight).collect();
    let drawn = rng.weighted(&weights).and_then(|index| rows.get(index));
    drawn.map_or("", |(_, text)| *text)
}
