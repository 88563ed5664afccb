//! Places in programs: functions, files and lines, by what users call them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use globset::{GlobBuilder, GlobMatcher};

use super::paths::ends_in;
use super::table::Table;

/// Functions, or parts of them, that tests may reach.
#[derive(Debug, Default)]
pub struct Targets {
    /// Each: file and name.
    all: Vec<Target>,
    known: HashMap<Target, usize>,
    /// For each program its blocks with the targets they are of, by block.
    blocks: Vec<Vec<(u32, usize)>>,
    /// What the user should know of what was asked for, a line each.
    notes: Vec<String>,
}

/// A function, or a line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The source file; empty where it is not known.
    pub file: String,
    /// The function.
    pub name: String,
}

/// What a user asks for.
#[derive(Debug)]
enum Word<'a> {
    Line { file: &'a str, line: u32 },
    File(GlobMatcher),
    Function(GlobMatcher),
}

impl<'a> Word<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        if let Some((file, line)) = text.rsplit_once(':')
            && let Ok(line) = line.parse()
        {
            return Ok(Self::Line { file, line });
        }
        let endings = [".c", ".h", ".inc", ".rs", ".cc", ".cpp"];
        let is_file = text.contains('/') || endings.iter().any(|it| text.ends_with(it));
        let glob = match is_file && !text.starts_with('/') {
            true => format!("{{,**/}}{text}"),
            false => text.to_owned(),
        };
        let glob = GlobBuilder::new(&glob)
            .literal_separator(is_file)
            .build()
            .map_err(|error| format!("'{text}' is not a valid pattern: {}", error.kind()))?
            .compile_matcher();
        Ok(if is_file {
            Self::File(glob)
        } else {
            Self::Function(glob)
        })
    }
}

impl Targets {
    /// Nothing.
    pub(super) fn none(tables: &[Table]) -> Self {
        Self {
            blocks: vec![Vec::new(); tables.len()],
            ..Self::default()
        }
    }

    /// What each of `words` asks for: a function or a pattern of functions, a source file or a
    /// pattern of files (a word with a slash, or with an ending as source files have), or a line
    /// (`block/qcow2.c:1234`).
    ///
    /// # Errors
    ///
    /// A word asks for nothing that a recorded program has, or is not a valid pattern.
    pub fn find(tables: &[Table], words: &[String]) -> Result<Self, String> {
        let mut targets = Self::none(tables);
        for text in words {
            let before = targets.count_blocks();
            match Word::parse(text)? {
                Word::Line { file, line } => targets.add_line(tables, text, file, line),
                Word::File(glob) => {
                    targets.add(tables, &|file, _| glob.is_match(file));
                }
                Word::Function(glob) => {
                    targets.add(tables, &|_, name| glob.is_match(name));
                }
            }
            if targets.count_blocks() == before {
                return Err(nothing(tables, text));
            }
        }
        targets.order();
        Ok(targets)
    }

    /// Adds the functions that `is_meant` holds for, given file and name, those that are
    /// inlined included; all of those.
    pub(super) fn add(
        &mut self,
        tables: &[Table],
        is_meant: &dyn Fn(&str, &str) -> bool,
    ) -> Vec<Target> {
        let mut found: BTreeSet<usize> = BTreeSet::new();
        for (number, table) in tables.iter().enumerate() {
            let mut inlined: BTreeMap<(u32, u32), bool> = BTreeMap::new();
            for function in &table.functions {
                let (file, name) = (table.file_of(function), table.name_of(function));
                let target = is_meant(file, &name).then(|| self.target(file, &name));
                found.extend(target);
                for block in function.blocks.clone() {
                    self.blocks[number].extend(target.map(|target| (block, target)));
                    let frames = table.frames_of(&table.blocks[block as usize]);
                    // The last frame is the function itself.
                    for frame in frames.iter().rev().skip(1) {
                        let key = (frame.file, frame.name);
                        let (file, name) = texts(table, key);
                        if *inlined.entry(key).or_insert_with(|| is_meant(file, name)) {
                            let target = self.target(file, name);
                            found.insert(target);
                            self.blocks[number].push((block, target));
                        }
                    }
                }
            }
            for it in &table.inlined {
                let key = (it.file, it.name);
                let (file, name) = texts(table, key);
                if *inlined.entry(key).or_insert_with(|| is_meant(file, name)) {
                    let target = self.target(file, name);
                    found.insert(target);
                    self.blocks[number].push((it.block, target));
                }
            }
        }
        found.into_iter().map(|it| self.all[it].clone()).collect()
    }

    /// Adds the code of a line; of the nearest one above it that has code, where it has none
    /// itself.
    fn add_line(&mut self, tables: &[Table], text: &str, file: &str, line: u32) {
        let of_file = |table: &Table, frame: u32| {
            let name = table.files.get(frame as usize);
            name.is_some_and(|name| ends_in(name, file))
        };
        let all = || {
            let tables = tables.iter().enumerate();
            tables.flat_map(|(number, table)| {
                let blocks = (0..).zip(&table.blocks);
                let frames = blocks.flat_map(|(block, it)| {
                    let frames = table.frames_of(it).iter();
                    frames.map(move |frame| (block, *frame))
                });
                let frames = frames.filter(|(_, frame)| of_file(table, frame.file));
                frames.map(move |(block, frame)| (number, block, frame))
            })
        };
        // A line that begins no block is part of the one before it, in the same function.
        let above = all().filter(|(_, _, frame)| frame.line <= line);
        let Some((table, _, nearest)) = above.max_by_key(|(_, _, frame)| frame.line) else {
            return;
        };
        let name = texts(&tables[table], (nearest.file, nearest.name)).1;
        if nearest.line != line {
            self.notes.push(format!(
                "{text}: no block of code begins there; that of line {} ({name}) is meant",
                nearest.line
            ));
        }
        for (number, block, frame) in all() {
            if frame.line == nearest.line {
                let (file, name) = texts(&tables[number], (frame.file, frame.name));
                let target = self.target(file, name);
                self.blocks[number].push((block, target));
            }
        }
    }

    fn target(&mut self, file: &str, name: &str) -> usize {
        let target = Target {
            file: file.to_owned(),
            name: name.to_owned(),
        };
        if let Some(known) = self.known.get(&target) {
            return *known;
        }
        let number = self.all.len();
        self.all.push(target.clone());
        self.known.insert(target, number);
        number
    }

    /// To be called when all have been added.
    pub(super) fn order(&mut self) {
        for blocks in &mut self.blocks {
            blocks.sort_unstable();
            blocks.dedup();
        }
    }

    fn count_blocks(&self) -> usize {
        self.blocks.iter().map(Vec::len).sum()
    }

    /// The blocks of a program that are targets.
    pub(super) fn blocks_in(&self, table: usize) -> &[(u32, usize)] {
        self.blocks.get(table).map_or(&[], Vec::as_slice)
    }

    /// Every target.
    #[must_use]
    pub fn all(&self) -> &[Target] {
        &self.all
    }

    /// What the user should know of what was asked for, a line each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

fn texts(table: &Table, (file, name): (u32, u32)) -> (&str, &str) {
    let text = |all: &'_ Vec<String>, number: u32| -> Option<usize> {
        ((number as usize) < all.len()).then_some(number as usize)
    };
    let file = text(&table.files, file).map_or("", |at| table.files[at].as_str());
    let name = text(&table.names, name).map_or("", |at| table.names[at].as_str());
    (file, name)
}

/// Why a word asks for nothing.
fn nothing(tables: &[Table], text: &str) -> String {
    let is_place = text.contains(['/', ':']);
    let names = tables.iter().flat_map(|table| match is_place {
        true => &table.files,
        false => &table.names,
    });
    let near = testdecl::nearest(text, names.map(String::as_str));
    let near = near.map_or(String::new(), |near| format!("; did you mean '{near}'?"));
    format!("no recorded program has code of '{text}'{near}")
}

#[cfg(test)]
mod tests {
    use super::super::recording::tests::recording;
    use super::*;

    fn found(words: &[&str]) -> Result<Vec<(String, u32)>, String> {
        let recording = recording();
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let targets = Targets::find(&recording.tables, &words)?;
        let all = recording.candidates(&targets).into_iter();
        Ok(all.map(|it| (it.test, it.after_ms)).collect())
    }

    #[test]
    fn tests_are_found_by_function_file_and_line() {
        let list = |all: &[(&str, u32)]| -> Vec<(String, u32)> {
            all.iter()
                .map(|(test, after)| ((*test).to_owned(), *after))
                .collect()
        };
        assert_eq!(found(&["rare"]).unwrap(), list(&[("002", 4), ("003", 5)]));
        assert_eq!(found(&["r*e"]).unwrap(), list(&[("002", 4), ("003", 5)]));
        // What every start reaches is reached when the program is started.
        let all = list(&[("001", 3), ("002", 1), ("003", 3)]);
        assert_eq!(found(&["main"]).unwrap(), all);
        // Blocks begin at every tenth line.
        assert_eq!(found(&["a.c:50"]).unwrap(), list(&[("002", 4)]));
        assert_eq!(found(&["block/a.c:69"]).unwrap(), list(&[("003", 5)]));
        assert_eq!(found(&["block/*.c"]).unwrap().len(), 3);
        assert_eq!(
            found(&["rare", "common"]).unwrap()[0],
            ("002".to_owned(), 2)
        );
    }

    #[test]
    fn what_is_nowhere_is_an_error() {
        assert_eq!(
            found(&["rara"]).unwrap_err(),
            "no recorded program has code of 'rara'; did you mean 'rare'?"
        );
        let error = found(&["block/b.c"]).unwrap_err();
        assert!(error.contains("did you mean 'block/a.c'?"), "{error}");
        assert!(found(&["a.c:9"]).is_err());
        let error = found(&["[x"]).unwrap_err();
        assert!(
            error.starts_with("'[x' is not a valid pattern: "),
            "{error}"
        );
    }
}
