//! Triage: violations are grouped, and examples of groups minimised.

mod group;
pub mod judge;
pub mod minimise;
mod reduce;

pub use group::{coarse_keys, full_keys};

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::oracle::{Class, Violation};
use crate::signature::Signature;
use image_mutations::rng::{FNV_START, fnv};

/// What tells a group of findings from the others. Stored as two texts, `class` and
/// `signature`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "StoredKey", into = "StoredKey")]
pub struct Key {
    /// The class of its findings.
    pub class: Class,
    /// What tells them from others of that class.
    pub signature: Signature,
}

/// A key as JSON holds it.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    class: Class,
    // Version 0.2 called it `site`.
    #[serde(alias = "site")]
    signature: String,
}

impl From<StoredKey> for Key {
    fn from(stored: StoredKey) -> Self {
        Self::new(stored.class, &stored.signature)
    }
}

impl From<Key> for StoredKey {
    fn from(key: Key) -> Self {
        Self {
            class: key.class,
            signature: key.signature.to_string(),
        }
    }
}

impl Key {
    /// The group of a class whose signature has this text form.
    pub fn new(class: Class, signature: &str) -> Self {
        Self {
            class,
            signature: class.signature(signature),
        }
    }

    /// The group of `violation`.
    pub fn of(violation: &Violation) -> Self {
        Self {
            class: violation.class,
            signature: violation.signature.clone(),
        }
    }

    /// Whether a finding of the group `seen` may be one of this group, which only a hang may
    /// be without being named the same ([`Signature::may_be_hang`]).
    pub fn covers(&self, seen: &Self) -> bool {
        self == seen
            || self.class == Class::Hang
                && seen.class == Class::Hang
                && self.signature.may_be_hang(&seen.signature)
    }

    /// Whether a finding of this group is among `seen`.
    pub fn is_among(&self, seen: &[Self]) -> bool {
        seen.iter().any(|seen| self.covers(seen))
    }

    /// Whether its findings are about time.
    pub fn is_of_time(&self) -> bool {
        self.class.is_of_time()
    }

    /// What [`coarse_keys`] gives for a finding of this group when timeouts are short.
    #[must_use]
    pub fn coarse(&self) -> Self {
        Self {
            class: match self.class {
                Class::Slow => Class::Hang,
                class => class,
            },
            signature: self.signature.clone().without_stack(),
        }
    }

    /// The name of its folder: the class, the signature as far as a file name can hold it, and
    /// a hash of both. The folder that an earlier version made may have another one.
    pub fn folder_name(&self) -> String {
        let mut words = String::new();
        let signature = self.signature.to_string();
        for c in signature.chars() {
            if words.len() >= 48 {
                break;
            }
            if c.is_ascii_alphanumeric() || c == '_' {
                words.push(c);
            } else if !words.ends_with('-') && !words.is_empty() {
                words.push('-');
            }
        }
        let hash = fnv(
            fnv(FNV_START, self.class.to_string().as_bytes()),
            signature.as_bytes(),
        );
        let words = words.trim_end_matches('-');
        format!("{}-{words}-{:06x}", self.class, hash & 0xff_ffff)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hangs_cover_others() {
        let hang = |text| Key::new(Class::Hang, text);
        assert!(hang("qemu-img convert").covers(&hang("hung in a < b")));
        assert!(!hang("hung in a < b").covers(&hang("hung in c < b")));
        let crash = Key::new(Class::Crash, "SIGSEGV");
        assert!(!hang("hung in a").covers(&crash));
        assert!(!crash.covers(&Key::new(Class::Crash, "SIGSEGV in a < b")));
    }

    #[test]
    fn what_earlier_versions_stored_is_read() {
        let stored = r#"{"class":"hang","site":"stuck in a < b"}"#;
        let key: Key = serde_json::from_str(stored).unwrap();
        assert_eq!(key, Key::new(Class::Hang, "hung in a < b"));
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(text, r#"{"class":"hang","signature":"hung in a < b"}"#);
        assert_eq!(serde_json::from_str::<Key>(&text).unwrap(), key);
    }

    #[test]
    fn a_folder_is_named_after_its_group() {
        let key = |text: &str| Key::new(Class::FalseRepair, text);
        let name = key("ERROR cluster N refcount=N / \u{e9}..").folder_name();
        assert!(
            name.starts_with("false-repair-ERROR-cluster-N-refcount-N-"),
            "{name}"
        );
        assert_ne!(key("a").folder_name(), key("b").folder_name());
        assert!(key(&"x".repeat(500)).folder_name().len() < 90);
    }
}
