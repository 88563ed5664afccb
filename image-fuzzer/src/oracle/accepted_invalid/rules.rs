//! The rules of formats other than qcow2 that a reader must enforce, by name: when a program
//! must notice that one is broken, or why that is not held against it.

use image_formats::Format;

/// When a program must notice that a rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noticed {
    /// When it opens the image, whatever it is to do.
    Opened,
    /// When it reads data that cannot be found or expanded.
    Read,
}

/// The rules of a format.
pub(super) struct Rules {
    format: Format,
    /// Those that must be noticed when an image is opened.
    opened: &'static [&'static str],
    /// Those that must be noticed when such data is read.
    read: &'static [&'static str],
    /// Those that readers knowingly do not enforce, and why.
    accepted: &'static [(&'static str, &'static str)],
}

/// Why what is past the end of the file is not held against a reader.
const PAST_END: &str = "what is past the end of a file reads as zeros, as from a hole at its end";

/// Why entries that are there twice are not held against a reader.
const ONE_OF_TWO: &str = "entries that are not known and not required are passed over unseen";

/// Why a checksum of data is not held against a reader.
const NOT_COMPUTED: &str = "for the checksum all data would have to be expanded";

/// A row for each format.
#[rustfmt::skip]
const RULES: &[Rules] = &[
    Rules {
        format: Format::Qcow,
        opened: &[
            "magic", "version", "size", "cluster-bits", "l2-bits", "crypt-method",
            "l1-table-inside-file", "backing-name-length", "backing-name-inside-file",
        ],
        read: &["compressed-inside-file"],
        accepted: &[("l2-table-inside-file", PAST_END)],
    },
    Rules {
        format: Format::Vmdk,
        opened: &[
            "descriptor-version", "cid", "parent-cid", "create-type", "extents", "extent-size",
            "disk-size", "extent-type", "extent-file-name", "extent-offset", "version",
            "compression", "compress-algorithm", "capacity", "granularity",
            "descriptor-inside-file", "num-gtes-per-gt", "grain-directory-inside-file", "footer",
            "footer-marker", "end-of-stream-marker", "cowd-version", "cowd-granularity",
            "cowd-directory-entries", "se-version", "se-grain-size", "se-grain-table-size",
            "se-reserved", "se-directory-size", "se-journal",
        ],
        read: &["compressed-grain", "se-entry"],
        accepted: &[
            ("overhead-inside-file", "where the grains begin is not needed to read them"),
            ("redundant-directory-inside-file", "the first directory is enough"),
            ("grain-table-inside-file", PAST_END),
            ("grain-inside-file", PAST_END),
        ],
    },
    Rules {
        format: Format::Vhdx,
        opened: &[
            "signature", "current-header", "version", "log-version", "log-aligned", "log-sequence",
            "log-file-size", "region-table", "region-count", "region-missing", "region-required",
            "metadata-signature", "metadata-count", "item-user-count", "item-required", "item-missing", "block-size",
            "virtual-disk-size-unit", "logical-sector-size", "parent-locator",
            "parent-locator-type", "parent-locator-entry", "parent-locator-key-once",
            "parent-linkage", "parent-path", "bat-size",
        ],
        read: &[
            "payload-state", "partially-present", "sector-bitmap-state", "sector-bitmap-missing",
            "block-inside-file",
        ],
        accepted: &[
            ("log-inside-file", PAST_END),
            ("region-once", ONE_OF_TWO),
            ("item-once", ONE_OF_TWO),
            ("overlap", "parts that share bytes can be read all the same"),
        ],
    },
    Rules {
        format: Format::Vdi,
        opened: &[
            "signature", "version", "image-type", "block-map-inside-file",
            "data-behind-block-map", "sector-size", "disk-size", "block-size", "parent",
            "no-parent",
        ],
        read: &[],
        accepted: &[],
    },
    Rules {
        format: Format::Qed,
        opened: &[
            "magic", "cluster-size", "table-size", "features", "l1-table-aligned",
            "l1-table-inside-file", "image-size-unit", "image-size", "backing-name-inside-header",
        ],
        read: &["l2-table-aligned", "l2-table-inside-file", "cluster-aligned"],
        accepted: &[],
    },
    Rules {
        format: Format::Parallels,
        opened: &[
            "magic", "version", "tracks", "bat-inside-file", "disk-size", "extension-magic",
            "extension-checksum", "feature-inside-extension", "end-of-features",
            "bitmap-granularity", "bitmap-table-inside-feature",
        ],
        read: &[],
        accepted: &[("extension-inside-file", PAST_END)],
    },
    Rules {
        format: Format::Luks,
        opened: &[
            "magic", "version", "text-ends", "key-bytes", "payload-behind-header",
            "payload-inside-file", "digest-iterations", "slot-state", "slot-iterations", "stripes",
            "material-behind-header", "material-before-payload", "material-overlaps",
            "header-size", "header-offset", "label-ends", "checksum-algorithm", "checksum",
            "json-syntax", "json-member", "json-name", "json-reference", "key-size", "priority",
            "area-stripes", "area-inside", "area-size", "area-overlaps", "kdf-cost", "base64",
            "segment-offset", "segment-size", "sector-size", "segment-inside-file", "json-size",
            "keyslots-size", "requirements",
        ],
        read: &[],
        accepted: &[("material-inside-file", "another key slot may open the volume")],
    },
    Rules {
        format: Format::Bochs,
        opened: &[
            "magic", "type", "subtype", "version", "catalog-inside-file", "catalog-size",
            "bitmap-size", "extent-size",
        ],
        read: &[],
        accepted: &[("header-size", "a catalog within the header can be read all the same")],
    },
    Rules {
        format: Format::Cloop,
        opened: &["script", "block-size", "offsets-inside-file", "offsets-rising", "block-length"],
        read: &["block-inside-file", "block-data"],
        accepted: &[],
    },
    Rules {
        format: Format::Vpc,
        opened: &[
            "footer", "version", "data-offset", "type", "fixed-inside-file", "dynamic-version",
            "block-size", "max-table-entries", "table-inside-file", "parent-name",
        ],
        read: &["block-inside-file"],
        accepted: &[("signature", "the copy of the footer is there for that")],
    },
    Rules {
        format: Format::Dmg,
        opened: &[
            "trailer", "version", "trailer-size", "data-fork-inside", "resource-fork-inside",
            "plist-inside", "directory", "sector-count", "some-table", "resources-inside",
            "table-size", "chunk-count", "table-sectors", "chunk-type", "chunk-sectors",
        ],
        read: &["chunk-inside", "raw-length", "chunk-data"],
        accepted: &[
            ("plist-syntax", "readers look for the tables, and for nothing else"),
            ("table-magic", "another resource can have that name"),
            ("table-checksum", NOT_COMPUTED),
        ],
    },
];

/// When a program must notice that the rule `name` of `format` is broken; `None` where it need
/// not.
pub(super) fn noticed(format: Format, name: &str) -> Option<Noticed> {
    let rules = RULES.iter().find(|rules| rules.format == format)?;
    if rules.accepted.iter().any(|(accepted, _)| *accepted == name) {
        return None;
    }
    if rules.opened.contains(&name) {
        return Some(Noticed::Opened);
    }
    rules.read.contains(&name).then_some(Noticed::Read)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use image_formats::Requirement;

    #[test]
    fn each_rule_that_must_be_enforced_is_in_one_list() {
        for format in Format::ALL {
            if format == Format::Qcow2 || format.rules().is_empty() {
                continue;
            }
            let rules = RULES.iter().find(|rules| rules.format == format).unwrap();
            let accepted = rules.accepted.iter().map(|(name, reason)| {
                assert!(!reason.is_empty());
                *name
            });
            let named = rules.opened.iter().chain(rules.read).copied();
            let all: Vec<&str> = named.chain(accepted).collect();
            let must = format.rules().iter();
            let must = must.filter(|rule| rule.requirement == Requirement::Must);
            let wanted: BTreeSet<&str> = must.map(|rule| rule.name).collect();
            let known: BTreeSet<&str> = all.iter().copied().collect();
            assert_eq!(known, wanted, "{format}");
            assert_eq!(all.len(), wanted.len(), "{format}");
        }
    }
}
