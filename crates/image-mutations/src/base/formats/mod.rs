//! Drawing base images of formats other than qcow2: a file and a row for each.

mod bochs;
mod cloop;
mod common;
mod dmg;
mod luks;
mod parallels;
mod qcow;
mod qed;
mod raw;
mod vdi;
mod vhdx;
mod vmdk;
mod vpc;

use image_formats::{AnySpec, Feature, Format};

use super::other::files_of;
use super::{Base, OtherBase, Qcow2Base, draw};
use crate::rng::Rng;

/// Draws a valid base image of a format.
type Draw = fn(&mut Rng) -> OtherBase;

/// A base image that can be made: some combinations of what is drawn contradict each other.
fn buildable(draw: Draw, rng: &mut Rng) -> OtherBase {
    for _ in 0..64 {
        let base = draw(rng);
        if files_of(&base, "image").is_ok() {
            return base;
        }
    }
    draw(rng)
}

/// The formats that can be drawn besides qcow2.
const FORMATS: &[(Format, Draw)] = &[
    (Format::Qcow, qcow::draw),
    (Format::Vmdk, vmdk::draw),
    (Format::Vhdx, vhdx::draw),
    (Format::Vdi, vdi::draw),
    (Format::Qed, qed::draw),
    (Format::Parallels, parallels::draw),
    (Format::Luks, luks::draw),
    (Format::Bochs, bochs::draw),
    (Format::Cloop, cloop::draw),
    (Format::Vpc, vpc::draw),
    (Format::Dmg, dmg::draw),
    (Format::Raw, raw::draw),
];

/// The features of a format that base images can have.
pub fn features_of(format: Format) -> &'static [Feature] {
    match format {
        Format::Qcow2 => image_formats::qcow2::FEATURES,
        other => AnySpec::all_features(other),
    }
}

/// The formats whose images are mutated: one, or several that share the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formats(Vec<Format>);

impl Default for Formats {
    fn default() -> Self {
        Self(vec![Format::Qcow2])
    }
}

impl Formats {
    /// The word for all of them.
    pub const ALL: &str = "all";

    /// The words that name them.
    pub fn words() -> Vec<&'static str> {
        let others = FORMATS.iter().map(|(format, _)| format.name());
        let words = [Format::Qcow2.name()].into_iter().chain(others);
        words.chain([Self::ALL]).collect()
    }

    /// The words that name one of them.
    pub fn words_of_one() -> Vec<&'static str> {
        let mut words = Self::words();
        words.retain(|word| *word != Self::ALL);
        words
    }

    /// This one alone.
    pub fn of(format: Format) -> Self {
        Self(vec![format])
    }

    /// Those that `word` names.
    pub fn named(word: &str) -> Option<Self> {
        let all = std::iter::once(Format::Qcow2).chain(FORMATS.iter().map(|(format, _)| *format));
        let named: Vec<Format> = all
            .filter(|format| word == Self::ALL || word == format.name())
            .collect();
        (!named.is_empty()).then_some(Self(named))
    }

    /// Whether only qcow2 images are mutated.
    pub fn is_qcow2(&self) -> bool {
        self.0 == [Format::Qcow2]
    }

    /// Their names.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|format| format.name()).collect()
    }

    /// The format, where it is one.
    pub fn single(&self) -> Option<Format> {
        match self.0.as_slice() {
            [format] => Some(*format),
            _ => None,
        }
    }

    /// A random valid base image of one of them, each as likely as the others.
    pub fn draw(&self, rng: &mut Rng) -> Base {
        if self.is_qcow2() {
            return draw(rng);
        }
        let format = rng.pick(&self.0).copied().unwrap_or(Format::Qcow2);
        match FORMATS.iter().find(|(known, _)| *known == format) {
            Some((_, draw)) => Base::Other(buildable(*draw, rng)),
            None => draw(rng),
        }
    }

    /// A plain base image of the first of them.
    pub fn plain(&self) -> Base {
        let first = self.0.first().copied().unwrap_or(Format::Qcow2);
        match AnySpec::plain(first) {
            Some(spec) => Base::Other(OtherBase { spec, parent: None }),
            None => Base::Qcow2(Qcow2Base {
                image: image_formats::qcow2::Spec::default(),
                backing: None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::prepare;

    #[test]
    fn drawn_bases_can_be_made_and_are_valid() {
        let mut problems = Vec::new();
        for (format, draw) in FORMATS {
            let mut rng = Rng::from_text(format.name());
            for _ in 0..40 {
                let base = Base::Other(draw(&mut rng));
                let text = serde_json::to_string(&base).unwrap();
                assert_eq!(serde_json::from_str::<Base>(&text).unwrap(), base, "{text}");
                match prepare(&base).map(|prepared| prepared.image.defects().unwrap()) {
                    Ok(defects) if defects.is_empty() => {}
                    other => problems.push(format!("{format}: {other:?}")),
                }
            }
        }
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    #[test]
    fn formats_are_named_by_a_word() {
        assert_eq!(Formats::named("qcow2"), Some(Formats::default()));
        assert_eq!(Formats::named("nothing"), None);
        let all = Formats::named("all").unwrap();
        assert_eq!(all.names().len(), FORMATS.len() + 1);
        assert!(Formats::words().contains(&"qed"));
    }
}
