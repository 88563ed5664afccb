//! What is in an archive: what it is, and a line for each file.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Component, Path};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::LIST;

/// What is in an archive, as it is written in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Lines for people that say what the archive is.
    pub about: Vec<String>,
    /// Its files, in order; the runner is the first.
    pub(super) files: Vec<Member>,
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Where it is, below the folder that it is unpacked to.
    pub(super) path: String,
    /// Whether it can be executed.
    pub(super) executable: bool,
    /// Its size in bytes.
    pub(super) size: u64,
    /// The hash of its contents.
    pub(super) sha256: [u8; 32],
}

impl Member {
    pub(super) fn new(path: &str, executable: bool, bytes: &[u8]) -> Self {
        Self {
            path: path.to_owned(),
            executable,
            size: bytes.len() as u64,
            sha256: hash(bytes),
        }
    }

    /// Its permissions.
    pub(super) fn mode(&self) -> u32 {
        if self.executable { 0o755 } else { 0o644 }
    }
}

/// The SHA-256 of `bytes`.
pub(super) fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl Contents {
    /// As text: what it is, an empty line, and for each file its hash, `x` or `-`, its size
    /// and its path.
    pub(super) fn encode(&self) -> String {
        let mut text = String::new();
        for line in &self.about {
            let _ = writeln!(text, "{line}");
        }
        text.push('\n');
        for file in &self.files {
            let hash = HEXLOWER.encode(&file.sha256);
            let kind = if file.executable { 'x' } else { '-' };
            let _ = writeln!(text, "{hash} {kind} {} {}", file.size, file.path);
        }
        text
    }

    /// Reads what [`Contents::encode`] makes; `None` where it is anything else, or names a
    /// file outside the folder it is unpacked to.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let (about, files) = text.split_once("\n\n")?;
        let files: Vec<Member> = files.lines().map(member).collect::<Option<_>>()?;
        let mut paths = HashSet::new();
        let good = |file: &Member| is_inside(&file.path) && paths.insert(file.path.clone());
        files.iter().all(good).then(|| Self {
            about: about.lines().map(str::to_owned).collect(),
            files: files.clone(),
        })
    }
}

fn member(line: &str) -> Option<Member> {
    let mut words = line.splitn(4, ' ');
    let sha256 = HEXLOWER.decode(words.next()?.as_bytes()).ok()?;
    Some(Member {
        sha256: sha256.try_into().ok()?,
        executable: match words.next()? {
            "x" => true,
            "-" => false,
            _ => return None,
        },
        size: words.next()?.parse().ok()?,
        path: words.next()?.to_owned(),
    })
}

/// Whether a file of this name can be in an archive: it is below the folder, and is not
/// the list itself.
pub(super) fn is_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    // Components leave out what a plain name does not have: `a//b`, `./a`, `a/`.
    let plain: Vec<_> = Path::new(path).iter().filter_map(|p| p.to_str()).collect();
    parts.all(|part| matches!(part, Component::Normal(_)))
        && plain.join("/") == path
        && path != LIST
        && !path.is_empty()
        && !path.contains(['\n', '\r'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_not_inside() {
        for path in ["check", "goldens/001.out", "a b/.c", "..a/b"] {
            assert!(is_inside(path), "{path}");
        }
        for path in [
            "", "/a", "../a", "a/../b", "a/..", "./a", "a//b", "a/", "a/./b", "a\nb", LIST,
        ] {
            assert!(!is_inside(path), "{path}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let good = Contents {
            about: vec!["x".into()],
            files: vec![Member::new("a", false, b"1"), Member::new("b", true, b"")],
        };
        let text = good.encode();
        assert_eq!(Contents::decode(&text), Some(good));
        for (from, to) in [
            (" b\n", " a\n"),
            (" b\n", " ../b\n"),
            (" x ", " y "),
            (" 1 ", " -1 "),
            ("\n\n", "\n"),
        ] {
            let wrong = text.replacen(from, to, 1);
            assert_ne!(wrong, text, "{from}");
            assert_eq!(Contents::decode(&wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn lists_survive_being_written(
            about in prop::collection::vec("[ -~]{1,20}", 1..4),
            files in prop::collection::btree_map("[a-z]{1,9}(/[a-z. ]{1,5}x)?", any::<(bool, Vec<u8>)>(), 0..9),
        ) {
            let files = files.iter();
            let contents = Contents {
                about,
                files: files.map(|(path, (x, bytes))| Member::new(path, *x, bytes)).collect(),
            };
            prop_assume!(contents.files.iter().all(|file| is_inside(&file.path)));
            prop_assert_eq!(Contents::decode(&contents.encode()), Some(contents));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = Contents::decode(&text);
        }
    }
}
