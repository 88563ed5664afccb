//! The log of all that recipes of the queue reach: a line for each.
//!
//! `id:000012 COST FEATURE,... FILE:ADDRESS,DISTANCE,... FILE:...`: numbers in hexadecimal but
//! for the cost, of each file the first address and the distances from one to the next.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::exec::blocks::BlockId;

/// What a recipe reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Its CPU time as a multiple of the mean.
    pub(super) cost: u64,
    /// Its messages and exit statuses.
    pub(super) features: Vec<u64>,
    /// Its blocks, sorted.
    pub(super) blocks: Vec<BlockId>,
}

/// The line of the recipe whose name begins with `id`.
pub(super) fn line(id: &str, reach: &Reach) -> String {
    let hex = |feature: &u64| format!("{feature:x}");
    let features: Vec<String> = reach.features.iter().map(hex).collect();
    let mut line = format!("{id} {} {}", reach.cost, features.join(","));
    let mut files: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for BlockId { file, address } in &reach.blocks {
        files.entry(*file).or_default().push(*address);
    }
    for (file, mut addresses) in files {
        addresses.sort_unstable();
        let mut last = 0;
        // Writing to a string cannot fail.
        let _ = write!(line, " {file:x}:");
        for (index, address) in addresses.into_iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(line, "{comma}{:x}", address - last);
            last = address;
        }
    }
    line
}

/// The lines of a log. One that is damaged, as by a kill, is passed over.
pub(super) fn parse(text: &str) -> impl Iterator<Item = (&str, Reach)> {
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .filter_map(|line| parse_line(line.trim_end_matches('\n')))
}

fn parse_line(line: &str) -> Option<(&str, Reach)> {
    let mut words = line.split(' ');
    let id = words.next()?;
    let cost = words.next()?.parse().ok().filter(|cost| *cost > 0)?;
    let features = words.next()?.split(',').filter(|word| !word.is_empty());
    let features = features.map(|word| u64::from_str_radix(word, 16).ok());
    let mut reach = Reach {
        cost,
        features: features.collect::<Option<_>>()?,
        blocks: Vec::new(),
    };
    for part in words {
        let (file, distances) = part.split_once(':')?;
        let file = u64::from_str_radix(file, 16).ok()?;
        let mut address: u32 = 0;
        for distance in distances.split(',') {
            address = address.checked_add(u32::from_str_radix(distance, 16).ok()?)?;
            reach.blocks.push(BlockId { file, address });
        }
    }
    Some((id, reach))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_come_back(
            cost in 1..u64::MAX,
            features: Vec<u64>,
            blocks in proptest::collection::btree_set((0_u64..3, any::<u32>()), 0..20),
        ) {
            let block = |(file, address)| BlockId { file, address };
            let reach = Reach { cost, features, blocks: blocks.into_iter().map(block).collect() };
            let text = line("id:000001", &reach) + "\nid:000002 1 7";
            let read: Vec<_> = parse(&text).collect();
            prop_assert_eq!(read, [("id:000001", reach)]);
        }

        #[test]
        fn any_text_is_read_without_panic(text in "(id:1|[0-9a-f]{0,9}|:|,| |\n){0,30}") {
            parse(&text).count();
        }
    }
}
