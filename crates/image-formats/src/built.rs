//! What builders make, and what can be said of it.

use crate::store::Store;

/// A file of an image that was built.
#[derive(Clone, Debug)]
pub struct BuiltFile {
    /// Its name, as the image's other files refer to it.
    pub name: String,
    /// What it holds.
    pub bytes: Store,
}

/// A feature of a format, of those that an image can have or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// A short name, which no other feature of the format has.
    pub name: &'static str,
    /// What it is, in a few words.
    pub what: &'static str,
}

impl Feature {
    /// A row of a table of features.
    pub(crate) const fn new(name: &'static str, what: &'static str) -> Self {
        Self { name, what }
    }

    /// The names of those that an image has.
    pub(crate) fn present(all: &[(&'static str, bool)]) -> Vec<&'static str> {
        let present = all.iter().filter(|(_, present)| *present);
        present.map(|(name, _)| *name).collect()
    }
}
