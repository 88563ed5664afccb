//! What was reached, as counts: of programs, source files and functions.

use std::collections::BTreeMap;

use crate::exec::blocks::BlockFile;

/// How many of something were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) reached: usize,
    pub(super) all: usize,
}

/// A program or library of the log.
pub(super) struct CoveredProgram {
    pub(super) file: BlockFile,
    pub(super) blocks: Count,
    /// Its code, or why there are only counts.
    pub(super) code: Result<Code, String>,
}

/// The functions of a program, by source file.
#[derive(Default)]
pub(super) struct Code {
    /// Functions that were reached, of all of the program.
    pub(super) functions: Count,
    /// Whether functions have names.
    pub(super) has_names: bool,
    /// Whether source files are known. Where they are not, there is one without a path.
    pub(super) has_files: bool,
    /// The line that installs what is missing.
    pub(super) install: Option<String>,
    /// Those that were asked for, by path.
    pub(super) files: Vec<SourceFile>,
}

/// A source file and its functions.
pub(super) struct SourceFile {
    /// Its path where the program was built; `None` for functions of which none is known.
    pub(super) path: Option<String>,
    /// Its path in the source tree, for people.
    pub(super) shown: String,
    pub(super) functions: Vec<CoveredFunction>,
}

/// A function, with the parts into which the compiler has split it and its copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CoveredFunction {
    /// Its name, or its distance from where the program is loaded.
    pub(super) name: String,
    pub(super) line: Option<u32>,
    /// Its lowest address in the file.
    pub(super) address: u64,
    pub(super) blocks: Count,
    /// The blocks on each line of the file, where the function was reached in part.
    pub(super) lines: BTreeMap<u32, Count>,
}

impl Count {
    /// Counts those that are true.
    pub(super) fn of(reached: impl IntoIterator<Item = bool>) -> Self {
        let mut count = Self::default();
        reached.into_iter().for_each(|it| count.add(it));
        count
    }

    pub(super) fn add(&mut self, is_reached: bool) {
        self.all += 1;
        self.reached += usize::from(is_reached);
    }

    pub(super) fn sum(counts: impl IntoIterator<Item = Self>) -> Self {
        counts.into_iter().fold(Self::default(), |sum, it| Self {
            reached: sum.reached + it.reached,
            all: sum.all + it.all,
        })
    }

    /// The share that was reached, in percent.
    pub(super) fn percent(self) -> f64 {
        self.reached as f64 * 100.0 / (self.all as f64).max(1.0)
    }

    pub(super) fn is_reached(self) -> bool {
        self.reached > 0
    }

    pub(super) fn is_whole(self) -> bool {
        self.reached >= self.all
    }
}

impl SourceFile {
    pub(super) fn blocks(&self) -> Count {
        Count::sum(self.functions.iter().map(|it| it.blocks))
    }

    pub(super) fn count(&self) -> Count {
        Count::of(self.functions.iter().map(|it| it.blocks.is_reached()))
    }
}

impl CoveredProgram {
    /// Its file name.
    pub(super) fn name(&self) -> String {
        let path = &self.file.path;
        let name = path.file_name().unwrap_or(path.as_os_str());
        name.to_string_lossy().into_owned()
    }
}

impl CoveredFunction {
    /// Adds another part, or a copy, of it.
    pub(super) fn join(&mut self, other: Self) {
        // The part with the first line is the one that the source names.
        self.line = match (self.line, other.line) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.address = self.address.min(other.address);
        self.blocks = Count::sum([self.blocks, other.blocks]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_function_are_one() {
        let part = |line, address, reached| CoveredFunction {
            name: "f".into(),
            line: Some(line),
            address,
            blocks: Count { reached, all: 4 },
            lines: BTreeMap::new(),
        };
        let mut function = part(9, 0x30, 0);
        function.join(part(7, 0x90, 3));
        assert_eq!((function.line, function.address), (Some(7), 0x30));
        assert_eq!(function.blocks, Count { reached: 3, all: 8 });
        assert!(function.blocks.is_reached() && !function.blocks.is_whole());
    }
}
