//! The names of fields: `header.l1_size`, `l2[3].entry[17].offset`.

use std::fmt;
use std::str::FromStr;

use strsim::levenshtein;

/// One step of a [`Path`]: a name, and for tables the index of the entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Segment {
    /// What the structure or field is called.
    pub(crate) name: String,
    /// Which of several it is, from 0.
    pub(crate) index: Option<u64>,
}

/// The place of a field in the structure of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Path(Vec<Segment>);

/// Why a text is not the path of a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is not a path: {problem}; paths look like header.l1_size or l2[3].entry[17].offset"
)]
pub struct PathSyntax {
    text: String,
    problem: &'static str,
}

impl Path {
    /// The steps from the image down to the field; never empty.
    #[must_use]
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.0
    }
}

impl FromStr for Path {
    type Err = PathSyntax;

    fn from_str(text: &str) -> Result<Self, PathSyntax> {
        let segments: Result<Vec<_>, _> = text.split('.').map(segment).collect();
        segments.map(Self).map_err(|problem| PathSyntax {
            text: text.to_owned(),
            problem,
        })
    }
}

fn segment(text: &str) -> Result<Segment, &'static str> {
    let (name, index) = match text.split_once('[') {
        None => (text, None),
        Some((name, rest)) => {
            let digits = rest.strip_suffix(']').ok_or("']' is missing")?;
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err("an index is a decimal number");
            }
            let index = digits.parse().map_err(|_| "the index is too large")?;
            (name, Some(index))
        }
    };
    if name.is_empty() {
        return Err("a name is empty");
    }
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !name.bytes().all(word) {
        return Err("names have letters, digits and '_' only");
    }
    Ok(Segment {
        name: name.to_owned(),
        index,
    })
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.index {
            Some(index) => write!(f, "[{index}]"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            segment.fmt(f)?;
        }
        Ok(())
    }
}

/// The candidate most like `wanted`, if one is like it at all.
#[must_use]
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best = candidates
        .into_iter()
        .map(|candidate| (levenshtein(wanted, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    (best.0 <= wanted.len().max(4) / 2).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_writes_paths() {
        for text in [
            "header.l1_size",
            "l2[3].entry[17].offset",
            "backing_file_name",
        ] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_invalid_paths() {
        for text in [
            "",
            "a..b",
            "l1[",
            "l1[x]",
            "l1[]",
            "l1[-1]",
            "l1[+1]",
            "a b",
            "l1[99999999999999999999]",
        ] {
            assert!(text.parse::<Path>().is_err(), "{text}");
        }
    }

    #[test]
    fn suggests_the_nearest_name() {
        let names = ["header.l1_size", "header.size", "header.version"];
        assert_eq!(nearest("header.l1size", names), Some("header.l1_size"));
        assert_eq!(nearest("zzzzzzzzzzzz", names), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = text.parse::<Path>();
            let _ = nearest(&text, ["header.size"]);
        }
    }
}
