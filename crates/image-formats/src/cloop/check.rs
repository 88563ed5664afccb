//! Checking the rules.

use super::disk::{LONGEST_BLOCK, read_block};
use super::layout::{self, LARGEST_BLOCK, Layout, OFFSETS_AT, SCRIPT, SECTOR};
use super::rules::*;
use crate::checker::{Checker, Scope};
use crate::io::ReadAt as _;
use crate::store::Store;

/// The most bytes that are decompressed.
const MOST_DATA: u64 = 16 << 20;

/// Checks the rules of an image.
pub(super) fn check(source: &Store, checker: &mut Checker) {
    let layout = Layout::read(source);
    header(source, layout, checker);
    offsets(source, layout, checker);
    if layout.has_geometry() && checker.scope == Scope::All {
        blocks(source, layout, checker);
    }
}

fn header(source: &Store, layout: Layout, checker: &mut Checker) {
    let script = source.read_vec(0, 128);
    let fits = script.starts_with(SCRIPT);
    checker.require(fits, ("header.script", 0, SCRIPT_RULE), || {
        "must start with #!/bin/sh and a version of the format, a line each".to_owned()
    });
    let version = script.get(SCRIPT.len()..).unwrap_or_default();
    let known = !fits || version.starts_with(layout::VERSION);
    checker.require(known, ("header.script", 0, VERSION), || {
        let is = version[..4].escape_ascii();
        format!("must be of version 2.0, is of {is}")
    });
    let size = layout.block_size;
    let sectors = size.is_multiple_of(SECTOR) && size > 0;
    let place = ("header.block_size", 128, BLOCK_SIZE);
    checker.require(sectors, place, || {
        format!("must be a multiple of 512, not 0, is {size}")
    });
    let place = ("header.block_size", 128, LARGE_BLOCK);
    checker.require(size <= LARGEST_BLOCK, place, || {
        format!("must be at most {LARGEST_BLOCK}, is {size}")
    });
    let end = layout.behind_offsets();
    let place = ("header.n_blocks", 132, OFFSETS_INSIDE);
    checker.require(end <= source.len(), place, || {
        format!("the offsets end at {end:#x}, behind the end of the file")
    });
}

fn offsets(source: &Store, layout: Layout, checker: &mut Checker) {
    let (len, behind) = (source.len(), layout.behind_offsets());
    let offsets = layout.read_offsets(source);
    let budget = checker.scope.budget(1 << 20);
    let mut before = None;
    for (index, is) in (0..budget).zip(offsets) {
        let (path, at) = (format!("offset[{index}]"), OFFSETS_AT + index * 8);
        let place = (path.as_str(), at, BEHIND_OFFSETS);
        checker.require(index > 0 || is >= behind, place, || {
            format!("must be at least {behind:#x}, behind the offsets, is {is:#x}")
        });
        let place = (path.as_str(), at, BLOCK_INSIDE);
        checker.require(is <= len, place, || {
            format!("must be at most {len:#x}, the length of the file, is {is:#x}")
        });
        if let Some(before) = before {
            let place = (path.as_str(), at, RISING);
            checker.require(is >= before, place, || {
                format!("must be at least {before:#x}, the offset before it, is {is:#x}")
            });
            let place = (path.as_str(), at, BLOCK_LENGTH);
            let length = is.saturating_sub(before);
            checker.require(length <= LONGEST_BLOCK, place, || {
                format!("a block of {length} bytes, at most {LONGEST_BLOCK}")
            });
        }
        before = Some(is);
    }
}

/// Expands the first blocks, those whose places are right.
fn blocks(source: &Store, layout: Layout, checker: &mut Checker) {
    let offsets = layout.read_offsets(source);
    let most = MOST_DATA / layout.block_size;
    for (index, pair) in (0..most.max(1)).zip(offsets.windows(2)) {
        let length = pair[1].checked_sub(pair[0]);
        let placed = length.is_some_and(|length| length <= MOST_DATA);
        if !placed || pair[1] > source.len() {
            continue;
        }
        if let Err(error) = read_block(source, layout, index) {
            let path = format!("offset[{index}]");
            let place = (path.as_str(), OFFSETS_AT + index * 8, BLOCK_DATA);
            checker.require(false, place, || error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use crate::block::{Block, Content};
    use crate::cloop::{RULES, Spec, build};
    use crate::format::{AnyImage, Format};
    use crate::io::ReadAt as _;
    use crate::pattern::Pattern;
    use crate::value::Value;

    fn image() -> AnyImage {
        let spec = Spec {
            virtual_size: 4 * 4096,
            block_size: 4096,
            blocks: vec![Block {
                index: 1,
                content: Content::Compressed(Pattern::Count(1)),
            }],
            ..Spec::default()
        };
        let bytes = build(&spec, "i").unwrap().swap_remove(0).bytes;
        AnyImage::open(Arc::new(bytes), Format::Cloop).unwrap()
    }

    /// Each rule, broken by one field.
    #[test]
    fn every_rule_is_noticed() {
        let valid = image();
        assert_eq!(valid.defects().unwrap(), []);
        let end = valid.bytes().len();
        let mut all = BTreeSet::new();
        let cases: [(&str, Value, &str); 16] = [
            ("header.script", "#!/bin/bash\n".into(), "script"),
            (
                "header.script",
                "#!/bin/sh\n#V1.0 Format\n".into(),
                "version",
            ),
            ("header.block_size", 0.into(), "block-size"),
            // Was no defect.
            ("header.block_size", 511.into(), "block-size"),
            ("header.block_size", (65 << 20).into(), "large-block"),
            ("header.block_size", 4608.into(), "block-data"),
            ("header.block_size", 3584.into(), "block-data"),
            ("header.n_blocks", 0xffff_ffff.into(), "offsets-inside-file"),
            ("offset[0]", 0.into(), "behind-offsets"),
            ("offset[1]", 0.into(), "offsets-rising"),
            ("offset[2]", (1 << 40).into(), "offsets-rising"),
            ("offset[1]", u64::MAX.into(), "block-length"),
            ("offset[4]", (end + 1).into(), "block-inside-file"),
            ("offset[4]", (1 << 40).into(), "block-length"),
            ("offset[4]", (end - 1).into(), "block-data"),
            ("offset[0]", 185.into(), "block-data"),
        ];
        for (path, value, rule) in cases {
            let mut image = valid.clone();
            image.set(path, value.clone()).unwrap();
            let defects = image.defects().unwrap();
            let found = defects.iter().any(|defect| defect.name == rule);
            assert!(found, "{path} = {value}: {defects:?}");
            all.insert(rule);
        }
        assert_eq!(all, RULES.iter().map(|rule| rule.name).collect());
    }
}
