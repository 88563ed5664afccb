//! The lines of functions that were reached in part.

use std::collections::{BTreeMap, HashSet};

use blocks::{Program, Symbols};

use super::model::{Count, CoveredFunction, SourceFile};

/// Finds the lines of blocks.
pub(super) struct Lines<'a> {
    pub(super) program: &'a Program,
    pub(super) symbols: &'a Symbols,
    pub(super) reached: &'a HashSet<u64>,
}

impl Lines<'_> {
    /// Adds the lines of functions that were reached in part.
    pub(super) fn add_to(&self, files: &mut [SourceFile]) {
        let indices: BTreeMap<&str, &[u32]> = self.symbols.files().collect();
        for SourceFile {
            path, functions, ..
        } in files
        {
            let Some(path) = path.as_deref() else {
                continue;
            };
            let in_part = functions
                .iter_mut()
                .filter(|it| it.blocks.is_reached() && !it.blocks.is_whole());
            let mut in_part: BTreeMap<String, &mut CoveredFunction> =
                in_part.map(|it| (it.name.clone(), it)).collect();
            for &index in indices.get(path).copied().unwrap_or_default() {
                if let Some(function) = in_part.get_mut(&*self.symbols.name(index)) {
                    self.add(index, path, &mut function.lines);
                }
            }
        }
    }

    /// Adds the lines of a function, or of a part of one, which is in the file `path`. What was
    /// inlined there counts as the line of its call.
    fn add(&self, function: u32, path: &str, lines: &mut BTreeMap<u32, Count>) {
        for block in self.program.blocks_of(function) {
            let frames = self.symbols.lookup(block.address);
            let location = frames.last().and_then(|it| it.location.as_ref());
            if let Some((_, line)) = location.filter(|(file, _)| file == path) {
                let is_reached = self.reached.contains(&block.address);
                lines.entry(*line).or_default().add(is_reached);
            }
        }
    }
}

/// The lines that were not reached, of the lines of a function.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UnreachedLines {
    /// First and last of each range of lines no block of which was reached.
    pub(super) whole: Vec<(u32, u32)>,
    /// Lines that have a block that was reached, and one that was not.
    pub(super) in_part: Vec<u32>,
}

impl UnreachedLines {
    /// A range goes up to the next line with a block that was reached.
    pub(super) fn of(lines: &BTreeMap<u32, Count>) -> Self {
        let mut found = Self::default();
        let mut goes_on = false;
        for (&line, &count) in lines {
            if count.is_reached() {
                goes_on = false;
                if !count.is_whole() {
                    found.in_part.push(line);
                }
                continue;
            }
            match found.whole.last_mut().filter(|_| goes_on) {
                Some((_, last)) => *last = line,
                None => found.whole.push((line, line)),
            }
            goes_on = true;
        }
        found
    }

    /// In words, such as `unreached lines 3-7, 9; partly reached lines 12`; empty where no line is known.
    pub(super) fn text(&self) -> String {
        let ranges = self.whole.iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        let ranges: Vec<String> = ranges.collect();
        let in_part: Vec<String> = self.in_part.iter().map(u32::to_string).collect();
        let parts = [
            ("unreached lines ", ranges),
            ("partly reached lines ", in_part),
        ];
        let parts = parts.into_iter().filter(|(_, list)| !list.is_empty());
        let parts: Vec<String> = parts
            .map(|(name, list)| format!("{name}{}", list.join(", ")))
            .collect();
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_reached_one_between_are_a_range() {
        let count = |reached, all| Count { reached, all };
        let lines = BTreeMap::from([
            (10, count(2, 2)),
            (11, count(0, 1)),
            (14, count(0, 3)),
            (15, count(1, 2)),
            (17, count(0, 1)),
        ]);
        let found = UnreachedLines::of(&lines);
        assert_eq!(
            found.text(),
            "unreached lines 11-14, 17; partly reached lines 15"
        );
        assert_eq!(UnreachedLines::of(&BTreeMap::new()).text(), "");
    }
}
