//! What was reached of a program: counts, functions and source files.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use blocks::{FileGlob, Program, Symbols, packages};

use crate::campaign::BlockLog;
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

/// What of a program is to be told.
pub(super) struct Wanted<'a> {
    /// The source files; all where there is none.
    pub(super) globs: &'a [FileGlob],
    /// Whether the lines of functions are needed.
    pub(super) lines: bool,
    pub(super) debug_dirs: &'a [PathBuf],
}

impl Count {
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
        functions(&self.functions)
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

/// How many of these functions were reached.
fn functions(all: &[CoveredFunction]) -> Count {
    let mut count = Count::default();
    all.iter().for_each(|it| count.add(it.blocks.is_reached()));
    count
}

/// The programs of a log, in the order of their paths.
pub(super) fn measure(log: &BlockLog, wanted: &Wanted<'_>) -> Vec<CoveredProgram> {
    let mut files: Vec<&BlockFile> = log.files.values().collect();
    files.sort_by(|a, b| (&a.path, &a.build_id).cmp(&(&b.path, &b.build_id)));
    let programs = files.into_iter().map(|file| {
        let reached = log.reached.iter().filter(|it| it.block.file == file.id);
        let reached: HashSet<u64> = reached.map(|it| it.block.address.into()).collect();
        CoveredProgram {
            file: file.clone(),
            blocks: Count {
                reached: reached.len(),
                all: file.blocks,
            },
            code: program(file).map(|program| code(file, &program, &reached, wanted)),
        }
    });
    programs.collect()
}

/// The program of the log, or why it cannot be had any more.
fn program(file: &BlockFile) -> Result<Program, String> {
    let bytes = fs::read(&file.path).map_err(|why| format!("it cannot be read: {why}"))?;
    let program = Program::read(&bytes).map_err(|why| format!("it {why}"))?;
    let build_id = program.build_id.iter().flatten();
    let build_id: String = build_id.map(|byte| format!("{byte:02x}")).collect();
    if build_id != file.build_id || program.blocks.len() != file.blocks {
        return Err("it is another build by now than the one that was tested".into());
    }
    Ok(program)
}

/// The functions of a program, of the source files that are wanted.
fn code(file: &BlockFile, program: &Program, reached: &HashSet<u64>, wanted: &Wanted<'_>) -> Code {
    let folders: Vec<&Path> = wanted.debug_dirs.iter().map(PathBuf::as_path).collect();
    let symbols = Symbols::find(&file.path, program, &folders);
    let (has_names, has_files) = (symbols.has_names(), symbols.has_lines());
    let root = root(symbols.files().map(|(path, _)| path));
    let mut sources: BTreeMap<Option<String>, BTreeMap<(String, u64), CoveredFunction>> =
        BTreeMap::new();
    for index in 0..u32::try_from(program.functions.len()).unwrap_or(u32::MAX) {
        let part = part(program, &symbols, reached, index);
        let symbol = symbols.function(index);
        let source = symbol.and_then(|it| it.file.clone());
        // Two functions of one file have different names; elsewhere they may have the same.
        let is_known = source.is_some() && symbol.is_some_and(|it| it.name.is_some());
        let place = if is_known { 0 } else { part.address };
        let functions = sources.entry(source).or_default();
        match functions.entry((part.name.clone(), place)) {
            Entry::Vacant(new) => drop(new.insert(part)),
            Entry::Occupied(mut known) => known.get_mut().join(part),
        }
    }
    let all = sources.values().flat_map(BTreeMap::values);
    let mut functions = Count::default();
    all.for_each(|it| functions.add(it.blocks.is_reached()));
    let is_wanted = |path: &Option<String>| match path {
        _ if wanted.globs.is_empty() || !has_files => true,
        Some(path) => wanted.globs.iter().any(|glob| glob.matches(path)),
        None => false,
    };
    sources.retain(|path, _| is_wanted(path));
    let mut files: Vec<SourceFile> = sources
        .into_iter()
        .map(|(path, functions)| SourceFile {
            shown: path.as_deref().map_or_else(
                || {
                    if has_files {
                        "(source file unknown)"
                    } else {
                        "functions"
                    }
                    .to_owned()
                },
                |path| path.strip_prefix(&root).unwrap_or(path).to_owned(),
            ),
            path,
            functions: functions.into_values().collect(),
        })
        .collect();
    // Those of the source tree come first, then libraries and what the build made.
    files.sort_by(|a, b| {
        let rank = |it: &SourceFile| (it.path.is_none(), it.shown.starts_with('/'));
        (rank(a), &a.shown).cmp(&(rank(b), &b.shown))
    });
    for file in &mut files {
        file.functions.sort_by_key(|it| (it.line, it.address));
    }
    if wanted.lines && has_files {
        let lines = Lines {
            program,
            symbols: &symbols,
            reached,
        };
        lines.add_to(&mut files);
    }
    let build_id = Some(file.build_id.as_str()).filter(|id| !id.is_empty());
    let missing = !has_files;
    Code {
        functions,
        has_names,
        has_files,
        install: missing
            .then(|| packages::install_symbols(&file.path, build_id))
            .flatten(),
        files,
    }
}

/// A function of the program, or a part of one.
fn part(
    program: &Program,
    symbols: &Symbols,
    reached: &HashSet<u64>,
    index: u32,
) -> CoveredFunction {
    let mut blocks = Count::default();
    for block in program.blocks_of(index) {
        blocks.add(reached.contains(&block.address));
    }
    CoveredFunction {
        name: symbols.name(index).into_owned(),
        line: symbols.function(index).and_then(|it| it.line),
        address: program
            .functions
            .get(index as usize)
            .map_or(0, |it| it.start),
        blocks,
        lines: BTreeMap::new(),
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

/// Finds the lines of blocks.
struct Lines<'a> {
    program: &'a Program,
    symbols: &'a Symbols,
    reached: &'a HashSet<u64>,
}

impl Lines<'_> {
    /// Adds the lines of functions that were reached in part.
    fn add_to(&self, files: &mut [SourceFile]) {
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

/// The folder of the source tree, with a `/` at its end: the one that most files are in, and no
/// folder in it alone has most of them.
fn root<'a>(paths: impl Iterator<Item = &'a str>) -> String {
    /// The share of files that a folder must have, as 3 of 4.
    const MOST: (usize, usize) = (3, 4);
    let paths: Vec<&str> = paths.collect();
    let mut root = String::from("/");
    loop {
        let mut folders: BTreeMap<&str, usize> = BTreeMap::new();
        for path in &paths {
            let rest = path.strip_prefix(&root);
            if let Some((folder, _)) = rest.and_then(|rest| rest.split_once('/')) {
                *folders.entry(folder).or_default() += 1;
            }
        }
        let most = folders.into_iter().max_by_key(|(_, count)| *count);
        match most {
            Some((folder, count)) if count * MOST.1 >= paths.len() * MOST.0 => {
                root.push_str(folder);
                root.push('/');
            }
            _ => return root,
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
    fn the_source_tree_is_where_most_files_are() {
        let files = [
            "/home/a/qemu/block.c",
            "/home/a/qemu/block/qcow2.c",
            "/home/a/qemu/block/raw.c",
            "/home/a/qemu/util/iov.c",
            "/usr/include/glib.h",
        ];
        assert_eq!(root(files.into_iter()), "/home/a/qemu/");
        assert_eq!(root(["a.c"].into_iter()), "/");
        assert_eq!(root(std::iter::empty()), "/");
    }

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
