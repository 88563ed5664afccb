//! Source files by a pattern.

use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

/// A pattern for the paths of source files. A relative one matches the end of a path, from any
/// `/` on: `block/qcow2*.c`. `*` and `?` do not match a `/`, `**` does. One that ends with a
/// `/` matches all files below such a folder.
#[derive(Clone, Debug)]
pub struct FileGlob {
    text: String,
    matcher: GlobMatcher,
}

impl FileGlob {
    /// The pattern, as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches the path of a file.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.matcher.is_match(path)
    }
}

impl FromStr for FileGlob {
    type Err = globset::Error;

    fn from_str(glob: &str) -> Result<Self, Self::Err> {
        let start = if glob.starts_with('/') { "" } else { "**/" };
        let end = if glob.ends_with('/') { "**" } else { "" };
        let matcher = GlobBuilder::new(&format!("{start}{glob}{end}"))
            .literal_separator(true)
            .build()
            .map_err(|error| with_glob(glob, error))?
            .compile_matcher();
        Ok(Self {
            text: glob.to_owned(),
            matcher,
        })
    }
}

/// The same error for the glob that the user gave.
fn with_glob(glob: &str, error: globset::Error) -> globset::Error {
    GlobBuilder::new(glob).build().err().unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_matches_the_end_of_a_path() {
        let matches = |glob: &str, path: &str| glob.parse::<FileGlob>().unwrap().matches(path);
        assert!(matches("block/qcow2*.c", "/src/qemu/block/qcow2-cluster.c"));
        assert!(matches("qemu-img.c", "/src/qemu/qemu-img.c"));
        assert!(!matches("img.c", "/src/qemu/qemu-img.c"));
        assert!(!matches("block/*.c", "/src/qemu/block/export/export.c"));
        assert!(matches("block/", "/src/qemu/block/export/export.c"));
        assert!(!matches("block/", "/src/qemu/block.c"));
        assert!(matches("/src/**/a.c", "/src/b/c/a.c"));
        assert!(!matches("/b/**/a.c", "/src/b/c/a.c"));
    }

    #[test]
    fn an_error_names_the_glob_that_was_given() {
        let error = "a[".parse::<FileGlob>().unwrap_err();
        assert_eq!(error.glob(), Some("a["));
    }
}
