//! How often families are drawn in formats whose readers check nearly all of what these
//! families change before they open an image.
//!
//! Images that are refused reach no more than the checks, and a few of them show each check.

use image_formats::Format;

/// The families that are drawn less or more often in a format than their weight says, with how
/// often, in sixteenths.
const SHARES: &[(Format, &[(&str, u64)])] = &[
    (
        Format::Cloop,
        &[
            ("boundary", 10),
            ("pointer", 2),
            ("alias", 2),
            ("table", 10),
            ("length", 8),
            ("entry", 3),
            ("size", 8),
            ("havoc", 8),
        ],
    ),
    (
        Format::Luks,
        &[
            ("boundary", 5),
            ("table", 4),
            ("length", 5),
            ("entry", 4),
            ("text", 6),
            ("havoc", 8),
        ],
    ),
];

/// `weight`, of the family called `family`, for images of `format`.
pub(super) fn of(weight: u64, family: &str, format: Format) -> u64 {
    let row = SHARES.iter().find(|(named, _)| *named == format);
    let families = row.map_or(&[][..], |(_, families)| families);
    match families.iter().find(|(named, _)| *named == family) {
        Some((_, sixteenths)) => weight * sixteenths / 16,
        None => weight,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::FAMILIES;

    #[test]
    fn the_families_exist_and_are_still_drawn() {
        for (format, families) in SHARES {
            for (name, _) in *families {
                let family = FAMILIES.iter().find(|family| family.name == *name);
                let family = family.unwrap_or_else(|| panic!("{format}: {name}"));
                assert!(
                    of(family.weight * 16, name, *format) > 0,
                    "{format}: {name}"
                );
            }
        }
        assert_eq!(of(7, "pointer", Format::Qcow2), 7);
    }
}
