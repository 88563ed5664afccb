//! Names, source files and lines of a program's functions and blocks, from its symbol tables
//! and debug symbols.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use addr2line::Loader;
use object::{File, Object as _, ObjectSymbol as _, SymbolKind};

use crate::debug_files::DebugFiles;
use crate::file_glob::FileGlob;
use crate::names::{source_name, source_path};
use crate::program::Program;

/// What is known of the names and lines of a program.
///
/// Where it is stripped and its debug symbols are not found, there is little:
/// [`packages::install_symbols`](crate::packages::install_symbols) says how to get them.
pub struct Symbols {
    program: String,
    base: u64,
    functions: Vec<FunctionSymbol>,
    /// The start of each function, and the address behind it.
    ranges: Vec<(u64, u64)>,
    /// Source files, by path, with the indices of their functions.
    files: Vec<(String, Vec<u32>)>,
    lines: Option<Loader>,
}

/// What is known of one function: the fields are `None` where nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FunctionSymbol {
    /// The name in the source. Parts of a function that the compiler has split, and copies
    /// that it has made of one, have the same.
    pub name: Option<String>,
    /// The name in the symbol table: `qcow2_open.part.0.cold`.
    pub raw_name: Option<String>,
    /// The source file, without `.` and `..`: an absolute path on the machine that the
    /// program was built on.
    pub file: Option<String>,
    /// The line of its first instruction, from 1 on: in an optimised function it may be one
    /// or two behind the line with the name.
    pub line: Option<u32>,
}

/// A function at an address. One that was inlined there has a frame of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its name in the source, or [`Symbols::place`].
    pub function: String,
    /// The source file and line, from 1 on, of the instruction or of the inlined call.
    pub location: Option<(String, u32)>,
}

impl Symbols {
    /// Reads what there is about the functions of `program`, which is at `path`: its own
    /// symbols, else those in a separate debug file, which is looked for in `debug_dirs`, in
    /// `/usr/lib/debug`, and on the servers that `DEBUGINFOD_URLS` names.
    ///
    /// Where `path` has another build by now, only a debug file tells of this one. Symbols
    /// that are missing or damaged are not an error.
    #[must_use]
    pub fn find(path: &Path, program: &Program, debug_dirs: &[&Path]) -> Self {
        let debug_files = DebugFiles::new(debug_dirs.iter().map(PathBuf::from));
        let (own, debug_file) = source(path, program, &debug_files);
        let mut symbols = Self {
            program: path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            base: program.base,
            functions: vec![FunctionSymbol::default(); program.functions.len()],
            ranges: program
                .functions
                .iter()
                .map(|it| (it.start, it.end))
                .collect(),
            files: Vec::new(),
            lines: debug_file
                .as_deref()
                .and_then(|file| debug_files.load(file)),
        };
        if let Some(bytes) = debug_file.and_then(|file| fs::read(file).ok()) {
            symbols.add_names(&bytes);
        }
        // What a stripped program exports has names nevertheless.
        if let Some(bytes) = own {
            symbols.add_names(&bytes);
        }
        symbols.add_lines();
        symbols
    }

    /// Whether any function has a name: else symbols have to be installed first.
    #[must_use]
    pub fn has_names(&self) -> bool {
        self.functions.iter().any(|it| it.name.is_some())
    }

    /// Whether source files and lines are known.
    #[must_use]
    pub fn has_lines(&self) -> bool {
        !self.files.is_empty()
    }

    /// What is known of the function with this index in [`Program::functions`]; `None` where
    /// there is none.
    #[must_use]
    pub fn function(&self, index: u32) -> Option<&FunctionSymbol> {
        self.functions.get(index as usize)
    }

    /// What to call the function with this index: its name, or [`place`](Self::place) of
    /// where it starts.
    #[must_use]
    pub fn name(&self, index: u32) -> Cow<'_, str> {
        let name = self.function(index).and_then(|it| it.name.as_deref());
        name.map_or_else(
            || {
                let start = self.ranges.get(index as usize).map_or(0, |it| it.0);
                Cow::Owned(self.place(start))
            },
            Cow::Borrowed,
        )
    }

    /// An address as the distance from where the program is loaded: `qemu-img+0x1234`.
    #[must_use]
    pub fn place(&self, address: u64) -> String {
        format!("{}+{:#x}", self.program, address.wrapping_sub(self.base))
    }

    /// The source files that functions are in, by path, each with the indices of its
    /// functions, in ascending order.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u32])> {
        let files = self.files.iter();
        files.map(|(path, functions)| (path.as_str(), functions.as_slice()))
    }

    /// The functions in source files that a [`FileGlob`] matches, in ascending order.
    ///
    /// # Errors
    ///
    /// It is not a valid glob.
    pub fn in_files(&self, glob: &str) -> Result<Vec<u32>, globset::Error> {
        let glob: FileGlob = glob.parse()?;
        let files = self.files.iter().filter(|(path, _)| glob.matches(path));
        let mut found: Vec<u32> = files
            .flat_map(|(_, functions)| functions)
            .copied()
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    /// The functions at an address, the innermost first: those that were inlined there, then
    /// the one that they are part of. None where the address is in no function.
    #[must_use]
    pub fn lookup(&self, address: u64) -> Vec<Frame> {
        let frames = self.frames(address);
        if !frames.is_empty() {
            return frames;
        }
        let behind = self.ranges.partition_point(|it| it.0 <= address);
        let index = behind
            .checked_sub(1)
            .filter(|it| address < self.ranges[*it].1);
        let frame = index.map(|index| Frame {
            function: self.functions[index]
                .name
                .clone()
                .unwrap_or_else(|| self.place(address)),
            location: None,
        });
        frame.into_iter().collect()
    }

    /// The functions that are inlined anywhere in this range of addresses: each with the
    /// address of the first instruction of a line of its. What is inlined need not begin a
    /// block: [`lookup`](Self::lookup) of block starts alone does not find all.
    #[must_use]
    pub fn inlined_in(&self, (start, end): (u64, u64)) -> Vec<(u64, Frame)> {
        let mut found = Vec::new();
        let Some(Ok(lines)) = self
            .lines
            .as_ref()
            .map(|it| it.find_location_range(start, end))
        else {
            return found;
        };
        for (address, _, _) in lines {
            let mut frames = self.frames(address.max(start));
            // The last is the function that the range is of.
            frames.pop();
            found.extend(frames.into_iter().map(|frame| (address.max(start), frame)));
        }
        found
    }

    /// What the debug symbols tell.
    fn frames(&self, address: u64) -> Vec<Frame> {
        let mut frames = Vec::new();
        let Some(Ok(mut found)) = self.lines.as_ref().map(|it| it.find_frames(address)) else {
            return frames;
        };
        // Damaged symbols are as good as none.
        while let Ok(Some(frame)) = found.next() {
            let name = frame.function.as_ref().and_then(|it| it.demangle().ok());
            let location = frame.location;
            frames.push(Frame {
                function: name.map_or_else(|| self.place(address), Cow::into_owned),
                location: location.and_then(|it| Some((source_path(it.file?), it.line?))),
            });
        }
        frames
    }

    /// The function itself, without what was inlined, where its first line is.
    fn first_frame(&self, (start, end): (u64, u64)) -> Option<Frame> {
        let frame = self.frames(start).pop();
        if frame.as_ref().is_some_and(|it| it.location.is_some()) {
            return frame;
        }
        // The first instructions may be the compiler's own: counters of coverage, for example.
        let lines = self.lines.as_ref()?.find_location_range(start, end);
        let mut lines = lines.into_iter().flatten();
        let first = lines.find(|(_, _, it)| it.file.is_some() && it.line.is_some());
        first.and_then(|it| self.frames(it.0).pop()).or(frame)
    }

    /// Takes the names of functions that have none yet from the symbol tables of a file.
    fn add_names(&mut self, bytes: &[u8]) {
        let Ok(elf) = File::parse(bytes) else {
            return;
        };
        let mut names: HashMap<u64, (bool, &str)> = HashMap::new();
        for symbol in elf.symbols().chain(elf.dynamic_symbols()) {
            let is_function = symbol.kind() == SymbolKind::Text && symbol.is_definition();
            let Some(name) = symbol
                .name()
                .ok()
                .filter(|it| is_function && !it.is_empty())
            else {
                continue;
            };
            // Of several, the one that the program shows, and the same in every build.
            let ranked = (symbol.is_local(), name);
            let known = names.entry(symbol.address()).or_insert(ranked);
            *known = ranked.min(*known);
        }
        for (function, (start, _)) in self.functions.iter_mut().zip(&self.ranges) {
            if let Some((_, raw)) = names.get(start).filter(|_| function.name.is_none()) {
                let name = addr2line::demangle_auto(source_name(raw).into(), None);
                function.name = Some(name.into_owned());
                function.raw_name = Some((*raw).to_owned());
            }
        }
    }

    /// Takes source files and lines, and names that no symbol table has, from the debug
    /// symbols.
    fn add_lines(&mut self) {
        let mut files: HashMap<String, Vec<u32>> = HashMap::new();
        for index in 0..self.functions.len() {
            let Some(frame) = self.first_frame(self.ranges[index]) else {
                continue;
            };
            let function = &mut self.functions[index];
            function.name.get_or_insert(frame.function);
            let (Some((file, line)), Ok(index)) = (frame.location, u32::try_from(index)) else {
                continue;
            };
            files.entry(file.clone()).or_default().push(index);
            function.file = Some(file);
            function.line = Some(line);
        }
        self.files = files.into_iter().collect();
        self.files.sort_unstable();
    }
}

/// The bytes of the program itself, where it is this build, and where its debug symbols are.
fn source(
    path: &Path,
    program: &Program,
    debug_files: &DebugFiles,
) -> (Option<Vec<u8>>, Option<PathBuf>) {
    let by_build_id = || debug_files.by_build_id(program.build_id.as_deref()?);
    let Ok(bytes) = fs::read(path) else {
        return (None, by_build_id());
    };
    let found = File::parse(&*bytes).ok().and_then(|elf| {
        let same = elf.build_id().ok()? == program.build_id.as_deref();
        same.then(|| debug_files.find(&elf, path))
    });
    match found {
        Some(debug_file) => (Some(bytes), debug_file),
        None => (None, by_build_id()),
    }
}
