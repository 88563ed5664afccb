//! How much of an image is changed: `--intensity`.

use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::rng::Rng;

/// How many mutations an image gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intensity {
    /// A number of mutations from the first to the second, both included.
    Mutations(u64, u64),
    /// A share of the fields from the first to the second, in percent.
    Share(u64, u64),
}

impl Default for Intensity {
    fn default() -> Self {
        Self::Mutations(1, 3)
    }
}

impl FromStr for Intensity {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = "give a number of edits (2), a range (1-3), or a share of the fields (20%-50%)";
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let share = high.ends_with('%');
        let number = |part: &str| {
            let digits = part.strip_suffix('%').unwrap_or(part);
            digits.parse::<u64>().context(wrong)
        };
        let (low, high) = (number(low)?, number(high)?);
        if low > high || (share && high > 100) || high > 10_000 {
            bail!(wrong);
        }
        Ok(if share {
            Self::Share(low, high)
        } else {
            Self::Mutations(low, high)
        })
    }
}

impl Intensity {
    /// The most edits that an image with `fields` fields gets.
    pub fn max_edits(self, fields: usize) -> usize {
        match self {
            Self::Mutations(_, high) => high as usize,
            Self::Share(_, percent) => fields * percent as usize / 100,
        }
    }

    /// Whether images without mutations are asked for.
    pub fn asks_for_none(self) -> bool {
        matches!(self, Self::Mutations(_, 0) | Self::Share(_, 0))
    }

    /// Whether an image may be without a mutation.
    pub fn allows_none(self) -> bool {
        matches!(self, Self::Mutations(0, _) | Self::Share(0, _))
    }

    /// How many of `fields` fields are changed.
    pub(super) fn count(self, fields: usize, rng: &mut Rng) -> usize {
        match self {
            // The smaller of two draws: few mutations more often than many.
            Self::Mutations(low, high) => {
                rng.between(low, high).min(rng.between(low, high)) as usize
            }
            Self::Share(low, high) => {
                let percent = rng.between(low, high) as usize;
                (fields * percent).div_ceil(100)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intensity_is_a_number_a_range_or_a_share() {
        let read = |text: &str| text.parse::<Intensity>().ok();
        assert_eq!(read("2"), Some(Intensity::Mutations(2, 2)));
        assert_eq!(read("0"), Some(Intensity::Mutations(0, 0)));
        assert_eq!(read("1-3"), Some(Intensity::Mutations(1, 3)));
        assert_eq!(read("20%-50%"), Some(Intensity::Share(20, 50)));
        for bad in ["", "-", "3-1", "x", "101%", "-1", "1-2-3"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
