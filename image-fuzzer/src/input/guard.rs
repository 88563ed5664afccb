//! How a test is run under the guarding allocator: a part of the recipe, since a finding may
//! show in no other way.

use serde::{Deserialize, Serialize};

use image_mutations::rng::Rng;

/// Where the guard's inaccessible pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuardMode {
    /// Behind blocks: those of 4 KiB and more, and smaller ones once an image is open, until
    /// the pages prepared for them are used up.
    Ends,
    /// Before the same blocks.
    Starts,
    /// Behind every block, however slow that is.
    All,
}

/// The guard of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Where the inaccessible pages are.
    pub mode: GuardMode,
    /// The byte that fresh memory is filled with.
    pub fill: u8,
    /// Whether the commands are run with the complement of that byte too, to compare.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compare: bool,
}

/// What the tests of a campaign are drawn from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuardPlan {
    /// A share of the tests has a guard, of either side of blocks.
    #[default]
    Share,
    /// None has one.
    Off,
    /// Each has one of this mode.
    Always(GuardMode),
}

/// One test in so many has a guard by default. Under it `qemu-img info` takes 20 to 35 % more
/// CPU time, so that this costs a campaign less than a tenth.
const SHARE: u64 = 4;

/// One guarded test in so many compares two fill bytes, which takes three times as long: a
/// few percent of a campaign.
const COMPARED: u64 = 16;

/// The bytes that fresh memory is filled with. Eight of them are no valid address; as a number
/// they are negative, and large.
const FILLS: [u8; 2] = [0xa5, 0x5a];

impl GuardPlan {
    /// The guard of a test of the sweep's first pass that belongs to `seed`: where others have
    /// a share, each of these few telling tests has one, and compares two fill bytes.
    pub fn draw_first(self, seed: &str) -> Option<Guard> {
        let plan = match self {
            Self::Share => Self::Always(GuardMode::Ends),
            other => other,
        };
        let compare = self == Self::Share;
        let guard = plan.draw(seed)?;
        Some(Guard {
            compare: guard.compare || compare,
            ..guard
        })
    }

    /// The guard of the test that belongs to `seed`.
    pub fn draw(self, seed: &str) -> Option<Guard> {
        let mut rng = Rng::from_text(&format!("{seed}/guard"));
        let mode = match self {
            Self::Off => return None,
            Self::Always(mode) => mode,
            Self::Share if rng.below(SHARE) > 0 => return None,
            Self::Share if rng.chance(50) => GuardMode::Starts,
            Self::Share => GuardMode::Ends,
        };
        Some(Guard {
            mode,
            fill: FILLS[rng.index(FILLS.len())],
            compare: rng.below(COMPARED) == 0,
        })
    }
}

impl GuardMode {
    /// Its word, as in recipes and in the guard's variable.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ends => "ends",
            Self::Starts => "starts",
            Self::All => "all",
        }
    }
}

impl Guard {
    /// The variables that a run under it has; the guard must be loaded besides.
    pub fn variables(self) -> [(&'static str, String); 2] {
        [
            ("IMAGE_FUZZER_GUARD", self.mode.word().into()),
            ("IMAGE_FUZZER_GUARD_FILL", format!("{:02x}", self.fill)),
        ]
    }

    /// The same with the other fill byte.
    #[must_use]
    pub fn complement(self) -> Self {
        Self {
            fill: !self.fill,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_survives_json() {
        let guard = Guard {
            mode: GuardMode::Starts,
            fill: 0x5a,
            compare: false,
        };
        let text = serde_json::to_string(&guard).unwrap();
        assert_eq!(text, r#"{"mode":"starts","fill":90}"#);
        assert_eq!(serde_json::from_str::<Guard>(&text).unwrap(), guard);
        assert_eq!(guard.complement().fill, 0xa5);
    }

    #[test]
    fn a_share_of_the_tests_has_a_guard_of_either_side() {
        let guards: Vec<_> = (0..4000)
            .filter_map(|seed| GuardPlan::Share.draw(&seed.to_string()))
            .collect();
        assert!((800..1200).contains(&guards.len()), "{}", guards.len());
        let count = |is: fn(&Guard) -> bool| guards.iter().filter(|guard| is(guard)).count();
        assert!((400..600).contains(&count(|guard| guard.mode == GuardMode::Ends)));
        assert!((400..600).contains(&count(|guard| guard.fill == 0xa5)));
        assert!((40..90).contains(&count(|guard| guard.compare)));
        assert_eq!(GuardPlan::Off.draw("1"), None);
        assert_eq!(GuardPlan::Off.draw_first("1"), None);
        let first = GuardPlan::Share.draw_first("1").unwrap();
        assert!(first.mode == GuardMode::Ends && first.compare);
        let all = GuardPlan::Always(GuardMode::All).draw("1").unwrap();
        assert_eq!(all.mode, GuardMode::All);
    }
}
