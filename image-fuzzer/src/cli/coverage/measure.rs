//! The log of blocks, held against the programs' files and symbols.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use blocks::{FileGlob, Program, Symbols, packages};

use super::lines::Lines;
use super::model::{Code, Count, CoveredFunction, CoveredProgram, SourceFile};
use crate::campaign::BlockLog;
use crate::exec::blocks::BlockFile;

/// What of a program is to be told.
pub(super) struct Wanted<'a> {
    /// The source files; all where there is none.
    pub(super) globs: &'a [FileGlob],
    /// Whether the lines of functions are needed.
    pub(super) lines: bool,
    pub(super) debug_dirs: &'a [PathBuf],
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

/// The program of the log, or why it is not available any more.
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
    let mut files = sources(program, &symbols, reached);
    let functions = Count::sum(files.iter().map(SourceFile::count));
    files.retain(|it| match &it.path {
        _ if wanted.globs.is_empty() || !has_files => true,
        Some(path) => wanted.globs.iter().any(|glob| glob.matches(path)),
        None => false,
    });
    if wanted.lines && has_files {
        let lines = Lines {
            program,
            symbols: &symbols,
            reached,
        };
        lines.add_to(&mut files);
    }
    let build_id = Some(file.build_id.as_str()).filter(|id| !id.is_empty());
    let install = || packages::install_symbols(&file.path, build_id);
    Code {
        functions,
        has_names,
        has_files,
        install: if has_files { None } else { install() },
        files,
    }
}

/// The source files of a program: first those of its source tree, then those of libraries and
/// what its build made.
fn sources(program: &Program, symbols: &Symbols, reached: &HashSet<u64>) -> Vec<SourceFile> {
    let mut sources: BTreeMap<Option<String>, BTreeMap<(String, u64), CoveredFunction>> =
        BTreeMap::new();
    for index in 0..u32::try_from(program.functions.len()).unwrap_or(u32::MAX) {
        let part = part(program, symbols, reached, index);
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
    let root = root(symbols.files().map(|(path, _)| path));
    let unknown = match symbols.has_lines() {
        true => "(source file unknown)",
        false => "functions",
    };
    let files = sources.into_iter().map(|(path, functions)| {
        let mut functions: Vec<_> = functions.into_values().collect();
        functions.sort_by_key(|it| (it.line, it.address));
        let shown = path.as_deref();
        SourceFile {
            shown: shown
                .map_or(unknown, |it| it.strip_prefix(&root).unwrap_or(it))
                .to_owned(),
            path,
            functions,
        }
    });
    let mut files: Vec<SourceFile> = files.collect();
    files.sort_by(|a, b| {
        let rank = |it: &SourceFile| (it.path.is_none(), it.shown.starts_with('/'));
        (rank(a), &a.shown).cmp(&(rank(b), &b.shown))
    });
    files
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
}
