//! A few images of a format that together show what it has.

use std::collections::BTreeSet;

use image_formats::Format;

use super::{Base, Formats, features_of};
use crate::rng::Rng;

/// How many images are drawn in a row that show nothing new, before the rest is left: some
/// features are never drawn.
const IDLE: u32 = 16;

/// The most images.
const MOST: usize = 16;

/// A plain image of `format`, and drawn ones that each have a feature which those before do not
/// have; always the same.
pub fn showcase(format: Format) -> Vec<Base> {
    let formats = Formats::of(format);
    let mut rng = Rng::from_text(&format!("showcase {format}"));
    let mut missing: BTreeSet<&str> = features_of(format).iter().map(|it| it.name).collect();
    let mut bases = vec![formats.plain()];
    missing.retain(|name| !bases[0].features().contains(name));
    let mut idle = 0;
    while !missing.is_empty() && bases.len() < MOST && idle < IDLE {
        let base = formats.draw(&mut rng);
        let features = base.features();
        let before = missing.len();
        missing.retain(|name| !features.contains(name));
        idle += 1;
        if missing.len() < before {
            bases.push(base);
            idle = 0;
        }
    }
    bases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_features_are_shown() {
        for format in [Format::Vpc, Format::Qed, Format::Parallels] {
            let bases = showcase(format);
            assert!(bases.len() <= MOST);
            assert_eq!(bases, showcase(format));
            let shown: BTreeSet<&str> = bases.iter().flat_map(Base::features).collect();
            let all = features_of(format).len();
            assert!(shown.len() * 2 >= all, "{format}: {shown:?}");
        }
    }
}
