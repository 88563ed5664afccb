//! What becomes of a violation: grouped, made small, written down.

mod group;
pub mod messages;
pub mod minimise;
pub mod stacks;

pub(crate) use group::{DEPTH, DEPTH_EXACT, IN, STUCK};
pub use group::{coarse, coarse_of, name};

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::oracle::{Class, Violation};
use crate::rng::{FNV_START, fnv};

/// What tells a group of findings from the others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The class of its findings.
    pub class: Class,
    /// The site: a failed assertion, frames of a stack, a message.
    pub site: String,
}

impl Key {
    /// The group of `violation`.
    pub fn of(violation: &Violation) -> Self {
        Self {
            class: violation.class,
            site: violation.site.clone(),
        }
    }

    /// Whether a fault of the group `seen` may be one of this group: a hang whose stack
    /// could not be looked at, which is named by its command, is not told from one whose
    /// stack is known.
    pub fn covers(&self, seen: &Self) -> bool {
        let stuck = |key: &Self| key.site.starts_with(STUCK);
        self == seen
            || self.class == Class::Hang
                && seen.class == Class::Hang
                && (stuck(self) != stuck(seen)
                    || self.site == STUCK
                    || seen.site == STUCK
                    || deeper(&self.site, &seen.site)
                    || deeper(&seen.site, &self.site))
    }

    /// Whether a fault of this group is among `seen`.
    pub fn is_among(&self, seen: &[Self]) -> bool {
        seen.iter().any(|seen| self.covers(seen))
    }

    /// The stack that names it, where one does.
    pub fn place(&self) -> Option<&str> {
        self.site.split_once(IN).map(|(_, stack)| stack)
    }

    /// Whether `seen` is a crash by the same signal as this one, wherever.
    pub fn has_signal_of(&self, seen: &Self) -> bool {
        let signal = |key: &Self| {
            let name = key.site.split_once(IN).map_or(&*key.site, |(name, _)| name);
            (key.class == Class::Crash && name.starts_with("SIG")).then(|| name.to_owned())
        };
        signal(self).is_some_and(|name| signal(seen) == Some(name))
    }

    /// Whether `seen` is this crash in another build: by the same signal, and with the same
    /// frames but for those without a name, whose offsets are other ones in each build.
    pub fn is_rebuilt(&self, seen: &Self) -> bool {
        let frames = |key: &Self| -> Vec<String> {
            let place = key.place().unwrap_or_default();
            place.split(" < ").map(str::to_owned).collect()
        };
        let (ours, theirs) = (frames(self), frames(seen));
        let alike = |(one, other): (&String, &String)| match (module(one), module(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        };
        self.has_signal_of(seen)
            && ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(alike)
            && ours
                .iter()
                .any(|frame| !frame.is_empty() && module(frame).is_none())
    }

    /// The name of its folder: the class, what of the site a file name can hold,
    /// and a number that is its own.
    pub fn folder(&self) -> String {
        let mut words = String::new();
        for c in self.site.chars() {
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
            fnv(FNV_START, self.class.word().as_bytes()),
            self.site.as_bytes(),
        );
        let words = words.trim_end_matches('-');
        format!("{}-{words}-{:06x}", self.class, hash & 0xff_ffff)
    }
}

/// The program or library of a frame that has an offset into it and no name.
fn module(frame: &str) -> Option<&str> {
    let (module, offset) = frame.rsplit_once("+0x")?;
    let is_offset = !offset.is_empty() && offset.chars().all(|c| c.is_ascii_hexdigit());
    is_offset.then_some(module)
}

/// Whether `inner` names a hang at the place of `outer`, looked at while a function was
/// called there: all frames but its innermost are the innermost ones of `outer`.
fn deeper(inner: &str, outer: &str) -> bool {
    let frames = |site: &str| site.split_once(IN).map(|(_, frames)| frames.to_owned());
    let (Some(inner), Some(outer)) = (frames(inner), frames(outer)) else {
        return false;
    };
    inner
        .split_once(" < ")
        .is_some_and(|(_, rest)| outer == rest || outer.starts_with(&format!("{rest} < ")))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hang_without_a_stack_may_be_any_that_has_one() {
        let key = |class, site: &str| Key {
            class,
            site: site.into(),
        };
        let plain = key(Class::Hang, "qemu-img convert");
        let one = key(Class::Hang, "stuck in a < b");
        let other = key(Class::Hang, "stuck in c < b");
        assert!(plain.covers(&one) && one.covers(&plain) && one.covers(&one));
        assert!(!one.covers(&other) && coarse_of(&one).covers(&other));
        assert!(!plain.covers(&key(Class::Hang, "qemu-img check")));
        assert!(!one.covers(&key(Class::Crash, "SIGSEGV")));
        let (shallow, deep) = ("stuck in b < c < d", "stuck in a < b < c");
        let (shallow, deep) = (key(Class::Hang, shallow), key(Class::Hang, deep));
        assert!(shallow.covers(&deep) && deep.covers(&shallow));
        assert!(!shallow.covers(&key(Class::Hang, "stuck in b < e < c")));
        let crash = key(Class::Crash, "SIGSEGV");
        assert!(!crash.covers(&key(Class::Crash, "SIGSEGV in a < b")));
    }

    #[test]
    fn a_crash_in_another_build_is_known_by_the_frames_that_have_names() {
        let crash = |site: &str| Key {
            class: Class::Crash,
            site: site.into(),
        };
        let rebuilt = |one: &str, other: &str| {
            let (one, other) = (crash(one), crash(other));
            assert_eq!(one.is_rebuilt(&other), other.is_rebuilt(&one));
            one.is_rebuilt(&other)
        };
        let known = "SIGSEGV in img+0x9c58c < open < img+0x1";
        assert!(rebuilt(known, "SIGSEGV in img+0x77 < open < img+0x2"));
        assert!(!rebuilt(known, "SIGABRT in img+0x77 < open < img+0x2"));
        assert!(!rebuilt(known, "SIGSEGV in img+0x77 < close < img+0x2"));
        assert!(!rebuilt(
            known,
            "SIGSEGV in libc.so.6+0x77 < open < img+0x2"
        ));
        assert!(!rebuilt(known, "SIGSEGV in img+0x77 < open"));
        assert!(!rebuilt("SIGSEGV in img+0x1", "SIGSEGV in img+0x2"));
        assert!(!rebuilt("SIGSEGV", "SIGSEGV"));
        let other = crash("SIGSEGV in img+0x5");
        assert!(crash(known).has_signal_of(&other));
        assert!(!crash("assertion: a in b").has_signal_of(&crash("assertion: a in c")));
        let hang = Key {
            class: Class::Hang,
            ..other.clone()
        };
        assert!(!hang.has_signal_of(&other));
    }

    #[test]
    fn a_folder_is_named_after_its_group() {
        let key = |site: &str| Key {
            class: Class::FalseRepair,
            site: site.into(),
        };
        let name = key("ERROR cluster N refcount=N / \u{e9}..").folder();
        assert!(
            name.starts_with("false-repair-ERROR-cluster-N-refcount-N-"),
            "{name}"
        );
        assert_ne!(key("a").folder(), key("b").folder());
        assert!(key(&"x".repeat(500)).folder().len() < 90);
    }
}
