//! A program as its functions and blocks, with names and lines.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use blocks::{Program, Symbols};

use super::codec::{Reader, Writer, unpacked};
use super::paths;

/// The first line of the file of a table.
const FIRST_LINE: &str = "check coverage program 2";

/// Of larger programs only the start of each function is noted, and every block of those in
/// [`WHOLE`]: their blocks are so many that each start would take long.
const MOST_BLOCKS: usize = 120_000;

/// Where the files are of which every block is noted in any program.
const WHOLE: [&str; 4] = ["block", "nbd/", "qemu-", "storage-daemon/"];

/// Whether a source file is about disk images: every block of it is noted in any program.
pub(super) fn is_of_disk_images(file: &str) -> bool {
    WHOLE.iter().any(|part| file.starts_with(part))
}

/// A program under test, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The name of its file: `qemu-img`.
    pub program: String,
    /// Its file.
    pub path: PathBuf,
    /// Where its code is, where that is one segment.
    pub code: Option<Segment>,
    /// What the build is known by, in hexadecimal: its build id, else a hash of the file.
    pub build: String,
    /// Whether every block of it is noted, not the starts of functions alone.
    pub is_whole: bool,
    /// Every source file, relative to the source tree where that is known.
    pub files: Vec<String>,
    /// Every name of a function.
    pub names: Vec<String>,
    /// The functions, by address.
    pub functions: Vec<Function>,
    /// The blocks that are noted, by address.
    pub blocks: Vec<Block>,
    /// What is known of the blocks: see [`Block::frames`].
    pub frames: Vec<Frame>,
    /// Functions that are inlined within blocks, by block: those that begin none there.
    pub inlined: Vec<Inlined>,
    /// The numbers of blocks that every start of the program reaches, in ascending order.
    pub startup: Vec<u32>,
}

/// A function that is inlined in a block, behind its first instruction; where the other blocks
/// of its function are not noted, anywhere in the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inlined {
    /// Which block.
    pub block: u32,
    /// Its name, in [`Table::names`].
    pub name: u32,
    /// Its source file, in [`Table::files`].
    pub file: u32,
}

/// A segment with code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file, in bytes.
    pub file_offset: u64,
    /// Its first address.
    pub address: u64,
    /// Its size, in bytes.
    pub size: u64,
}

/// A function, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name, in [`Table::names`].
    pub name: Option<u32>,
    /// Its source file, in [`Table::files`].
    pub file: Option<u32>,
    /// The line it starts at, from 1 on; 0 where that is not known.
    pub line: u32,
    /// The address of its first byte.
    pub start: u64,
    /// [`blocks::Function::content_hash`].
    pub content_hash: u64,
    /// Which blocks of the table are its.
    pub blocks: Range<u32>,
}

/// A basic block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its address.
    pub address: u32,
    /// The byte there.
    pub byte: u8,
    /// Where its first instruction is from, the innermost inlined function first, in
    /// [`Table::frames`].
    pub frames: Range<u32>,
}

/// A function that is inlined at a block, or that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its name, in [`Table::names`].
    pub name: u32,
    /// The source file, in [`Table::files`].
    pub file: u32,
    /// The line of the instruction or of the inlined call, from 1 on.
    pub line: u32,
}

/// Texts that are stored once.
#[derive(Default)]
struct Texts {
    all: Vec<String>,
    known: HashMap<String, u32>,
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(known) = self.known.get(text) {
            return *known;
        }
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.push(text.to_owned());
        self.known.insert(text.to_owned(), number);
        number
    }
}

impl Table {
    /// Reads the program at `path`. What every start reaches is not known then.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is none whose blocks can be found; a text that finishes a sentence
    /// which names the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
        let program = Program::read(&bytes).map_err(|error| error.to_string())?;
        let symbols = Symbols::find(path, &program, &[]);
        let build = match &program.build_id {
            Some(id) => id.iter().map(|byte| format!("{byte:02x}")).collect(),
            None => format!("{:016x}", hash(&bytes)),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self::new(&name, path, build, &program, &symbols)
    }

    fn new(
        name: &str,
        path: &Path,
        build: String,
        program: &Program,
        symbols: &Symbols,
    ) -> Result<Self, String> {
        let paths: Vec<&str> = symbols.files().map(|(file, _)| file).collect();
        let top = paths::top(&paths);
        let short = |file: &str| file.strip_prefix(&top).unwrap_or(file).to_owned();
        let (mut files, mut names) = (Texts::default(), Texts::default());
        let mut table = Self {
            program: name.to_owned(),
            path: path.to_owned(),
            code: match &*program.segments {
                [only] => Some(Segment {
                    file_offset: only.file_offset,
                    address: only.address,
                    size: only.size,
                }),
                _ => None,
            },
            build,
            is_whole: program.blocks.len() <= MOST_BLOCKS,
            files: Vec::new(),
            names: Vec::new(),
            functions: Vec::with_capacity(program.functions.len()),
            blocks: Vec::new(),
            frames: Vec::new(),
            inlined: Vec::new(),
            startup: Vec::new(),
        };
        for (index, function) in (0..).zip(&program.functions) {
            let symbol = symbols.function(index).cloned().unwrap_or_default();
            let file = symbol.file.as_deref().map(short);
            let is_whole = table.is_whole || file.as_deref().is_some_and(is_of_disk_images);
            let first = number(table.blocks.len());
            let blocks = program.blocks_of(index).iter();
            for block in blocks.take(if is_whole { usize::MAX } else { 1 }) {
                let from = number(table.frames.len());
                for frame in symbols.lookup(block.address) {
                    if let Some((file, line)) = frame.location {
                        table.frames.push(Frame {
                            name: names.number(&frame.function),
                            file: files.number(&short(&file)),
                            line,
                        });
                    }
                }
                table.blocks.push(Block {
                    address: u32::try_from(block.address).map_err(|_| "is too large".to_owned())?,
                    byte: block.byte,
                    frames: from..number(table.frames.len()),
                });
            }
            let blocks = first..number(table.blocks.len());
            for (address, frame) in symbols.inlined_in((function.start, function.end)) {
                let Some((file, _)) = frame.location else {
                    continue;
                };
                let inlined = Inlined {
                    block: table.block_before(&blocks, address),
                    name: names.number(&frame.function),
                    file: files.number(&short(&file)),
                };
                table.add_inlined(inlined);
            }
            table.functions.push(Function {
                name: symbol.name.as_deref().map(|name| names.number(name)),
                file: file.as_deref().map(|file| files.number(file)),
                line: symbol.line.unwrap_or(0),
                start: function.start,
                content_hash: function.content_hash,
                blocks,
            });
        }
        (table.files, table.names) = (files.all, names.all);
        Ok(table)
    }

    /// The last block of `blocks`, which is not empty, that begins at or before an address.
    fn block_before(&self, blocks: &Range<u32>, address: u64) -> u32 {
        let of = &self.blocks[blocks.start as usize..blocks.end as usize];
        let behind = of.partition_point(|it| u64::from(it.address) <= address);
        blocks.start + number(behind.saturating_sub(1))
    }

    /// Adds what is inlined in the block that was added last, or one of the same function,
    /// where that is not known yet.
    fn add_inlined(&mut self, new: Inlined) {
        let block = &self.blocks[new.block as usize];
        let begins = |it: &Frame| (it.name, it.file) == (new.name, new.file);
        if !self.frames_of(block).iter().any(begins)
            && let Err(at) = self.inlined.binary_search(&new)
        {
            self.inlined.insert(at, new);
        }
    }

    /// The frames of a block, the innermost first.
    #[must_use]
    pub fn frames_of(&self, block: &Block) -> &[Frame] {
        let range = block.frames.start as usize..block.frames.end as usize;
        self.frames.get(range).unwrap_or_default()
    }

    /// The blocks of a function.
    #[must_use]
    pub fn blocks_of(&self, function: &Function) -> &[Block] {
        let range = function.blocks.start as usize..function.blocks.end as usize;
        self.blocks.get(range).unwrap_or_default()
    }

    /// The function that a block is in.
    #[must_use]
    pub fn function_of(&self, block: u32) -> Option<usize> {
        let behind = self
            .functions
            .partition_point(|it| it.blocks.start <= block);
        // Some have no blocks.
        let index = behind.checked_sub(1)?;
        self.functions[index]
            .blocks
            .contains(&block)
            .then_some(index)
    }

    /// Whether every block of the function is noted that a block is in.
    #[must_use]
    pub fn has_all_blocks(&self, block: u32) -> bool {
        let function = self.function_of(block);
        self.is_whole
            || function.is_some_and(|it| is_of_disk_images(self.file_of(&self.functions[it])))
    }

    /// The block that a function starts with, of the function that a block is in.
    #[must_use]
    pub fn entry_of(&self, block: u32) -> Option<u32> {
        Some(self.functions[self.function_of(block)?].blocks.start)
    }

    /// The name of a function, or where it is: `qemu-img+0x1234`.
    #[must_use]
    pub fn name_of(&self, function: &Function) -> String {
        let name = function.name.and_then(|name| self.names.get(name as usize));
        name.cloned()
            .unwrap_or_else(|| format!("{}+{:#x}", self.program, function.start))
    }

    /// The source file of a function; empty where it is not known.
    #[must_use]
    pub fn file_of(&self, function: &Function) -> &str {
        let file = function.file.and_then(|file| self.files.get(file as usize));
        file.map_or("", String::as_str)
    }

    /// Whether functions have names.
    #[must_use]
    pub fn has_names(&self) -> bool {
        // Stripped programs export some.
        let named = self.functions.iter().filter(|it| it.name.is_some()).count();
        named * 10 > self.functions.len() * 9
    }

    /// Takes the names and lines of the program, where its debug symbols can be had by now;
    /// whether there are any.
    pub fn find_names(&mut self) -> bool {
        let Ok(new) = Self::read(&self.path) else {
            return false;
        };
        if new.build != self.build || !new.has_names() {
            return false;
        }
        // Which blocks are noted stays, and so what tests have reached.
        let mut frames = Vec::new();
        for block in &mut self.blocks {
            let from = number(frames.len());
            let same = new
                .blocks
                .binary_search_by_key(&block.address, |it| it.address);
            if let Ok(same) = same {
                frames.extend_from_slice(new.frames_of(&new.blocks[same]));
            }
            block.frames = from..number(frames.len());
        }
        for function in &mut self.functions {
            let same = new
                .functions
                .binary_search_by_key(&function.start, |it| it.start);
            if let Ok(same) = same {
                let same = &new.functions[same];
                (function.name, function.file, function.line) = (same.name, same.file, same.line);
            }
        }
        let inlined = new.inlined.iter().map(|it| {
            let address = new.blocks[it.block as usize].address;
            let same = self.blocks.partition_point(|old| old.address <= address);
            let block = number(same.saturating_sub(1));
            Inlined { block, ..*it }
        });
        self.inlined = inlined.collect();
        self.inlined.sort_unstable();
        self.inlined.dedup();
        (self.frames, self.names, self.files) = (frames, new.names, new.files);
        true
    }

    /// Writes it to a file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut to = Writer::default();
        to.text(&self.program);
        to.text(&self.path.to_string_lossy());
        to.text(&self.build);
        let code = self.code.iter();
        let code = code.flat_map(|it| [it.file_offset, it.address, it.size]);
        to.number(u64::from(self.code.is_some()));
        code.for_each(|number| to.number(number));
        to.number(u64::from(self.is_whole));
        for texts in [&self.files, &self.names] {
            to.number(texts.len() as u64);
            texts.iter().for_each(|text| to.text(text));
        }
        let maybe = |number: Option<u32>| number.map_or(0, |number| u64::from(number) + 1);
        to.number(self.functions.len() as u64);
        let mut before = 0;
        for it in &self.functions {
            to.number(maybe(it.name));
            to.number(maybe(it.file));
            to.number(u64::from(it.line));
            to.number(it.start.wrapping_sub(before));
            to.word(it.content_hash);
            to.number(u64::from(it.blocks.end - it.blocks.start));
            before = it.start;
        }
        let addresses: Vec<u32> = self.blocks.iter().map(|it| it.address).collect();
        to.ascending(&addresses);
        for it in &self.blocks {
            to.number(u64::from(it.byte));
            to.number(u64::from(it.frames.end - it.frames.start));
            for frame in self.frames_of(it) {
                to.number(u64::from(frame.name));
                to.number(u64::from(frame.file));
                to.number(u64::from(frame.line));
            }
        }
        to.number(self.inlined.len() as u64);
        let mut before = 0;
        for it in &self.inlined {
            to.number(u64::from(it.block - before));
            to.number(u64::from(it.name));
            to.number(u64::from(it.file));
            before = it.block;
        }
        to.ascending(&self.startup);
        to.save(path, FIRST_LINE)
    }

    /// Reads what [`save`](Self::save) has written.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is none of these.
    pub fn load(path: &Path) -> io::Result<Self> {
        let bytes = unpacked(path, FIRST_LINE)?;
        Self::decode(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let mut table = Self {
            program: from.text()?,
            path: from.text()?.into(),
            build: from.text()?,
            code: match from.number()? {
                0 => None,
                _ => Some(Segment {
                    file_offset: from.number()?,
                    address: from.number()?,
                    size: from.number()?,
                }),
            },
            is_whole: from.number()? == 1,
            files: texts(&mut from)?,
            names: texts(&mut from)?,
            functions: Vec::new(),
            blocks: Vec::new(),
            frames: Vec::new(),
            inlined: Vec::new(),
            startup: Vec::new(),
        };
        let (names, files) = (table.names.len(), table.files.len());
        let below = |number: u32, count: usize| ((number as usize) < count).then_some(number);
        let maybe = |number: u32, count: usize| match number.checked_sub(1) {
            None => Some(None),
            Some(number) => below(number, count).map(Some),
        };
        let (mut start, mut block) = (0_u64, 0_u32);
        for _ in 0..from.count()? {
            let (name, file, line) = (from.small()?, from.small()?, from.small()?);
            start = start.checked_add(from.number()?)?;
            let content_hash = from.word()?;
            let first = block;
            block = block.checked_add(from.small()?)?;
            table.functions.push(Function {
                name: maybe(name, names)?,
                file: maybe(file, files)?,
                line,
                start,
                content_hash,
                blocks: first..block,
            });
        }
        let addresses = from.ascending()?;
        if addresses.len() != block as usize {
            return None;
        }
        for address in addresses {
            let byte = u8::try_from(from.number()?).ok()?;
            let first = number(table.frames.len());
            for _ in 0..from.count()? {
                table.frames.push(Frame {
                    name: below(from.small()?, names)?,
                    file: below(from.small()?, files)?,
                    line: from.small()?,
                });
            }
            let frames = first..number(table.frames.len());
            table.blocks.push(Block {
                address,
                byte,
                frames,
            });
        }
        let mut before = 0_u32;
        for _ in 0..from.count()? {
            before = before.checked_add(from.small()?)?;
            table.inlined.push(Inlined {
                block: below(before, table.blocks.len())?,
                name: below(from.small()?, names)?,
                file: below(from.small()?, files)?,
            });
        }
        table.startup = from.ascending()?;
        let known = table.startup.last().is_none_or(|last| *last < block);
        (from.is_done() && known).then_some(table)
    }
}

fn texts(from: &mut Reader<'_>) -> Option<Vec<String>> {
    (0..from.count()?).map(|_| from.text()).collect()
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// FNV-1a, of a file without a build id.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A table of a program with functions of these names, each with so many blocks, at
    /// every tenth line of a file.
    pub(crate) fn table(program: &str, build: &str, functions: &[(&str, u32)]) -> Table {
        let mut table = Table {
            program: program.to_owned(),
            path: Path::new("/b").join(program),
            code: None,
            build: build.to_owned(),
            is_whole: true,
            files: vec!["block/a.c".to_owned()],
            names: functions
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            functions: Vec::new(),
            blocks: Vec::new(),
            frames: Vec::new(),
            inlined: Vec::new(),
            startup: Vec::new(),
        };
        for (name, (text, count)) in (0..).zip(functions) {
            let first = number(table.blocks.len());
            for line in (0..*count).map(|n| 10 * (first + n + 1)) {
                let at = number(table.frames.len());
                table.frames.push(Frame {
                    name,
                    file: 0,
                    line,
                });
                table.blocks.push(Block {
                    address: 0x1000 + line,
                    byte: 0x55,
                    frames: at..at + 1,
                });
            }
            table.functions.push(Function {
                name: Some(name),
                file: Some(0),
                line: 10 * (first + 1),
                start: u64::from(0x1000 + 10 * (first + 1)),
                content_hash: hash(text.as_bytes()),
                blocks: first..first + count,
            });
        }
        table
    }

    #[test]
    fn this_program_is_stored_and_read_again() {
        let own = std::env::current_exe().unwrap();
        let mut table = Table::read(&own).unwrap();
        table.startup = vec![0, 5];
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("table");
        table.save(&file).unwrap();
        assert!(Table::load(&file).unwrap() == table);
        assert!(table.functions.len() > 1000);
        let function = table.function_of(table.functions[7].blocks.start);
        assert_eq!(function, Some(7));

        // As if debug symbols were installed later.
        let mut stripped = table.clone();
        (stripped.names, stripped.files) = (Vec::new(), Vec::new());
        (stripped.frames, stripped.inlined) = (Vec::new(), Vec::new());
        stripped
            .blocks
            .iter_mut()
            .for_each(|block| block.frames = 0..0);
        for function in &mut stripped.functions {
            (function.name, function.file, function.line) = (None, None, 0);
        }
        assert!(!stripped.has_names());
        assert!(stripped.find_names());
        assert!(stripped == table);
    }

    #[test]
    fn what_is_no_program_is_said() {
        let error = Table::read(Path::new("/etc/passwd")).unwrap_err();
        assert_eq!(error, "is not an ELF file");
        let error = Table::read(Path::new("/nowhere/x")).unwrap_err();
        assert!(error.starts_with("cannot be read: "), "{error}");
    }

    proptest! {
        #[test]
        fn damaged_tables_are_refused_or_read(at in 0..400_usize, byte in any::<u8>()) {
            let table = table("x", "1", &[("a", 3), ("b", 2)]);
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("table");
            table.save(&file).unwrap();
            let mut bytes = unpacked(&file, FIRST_LINE).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Some(read) = Table::decode(&bytes) {
                for block in &read.blocks {
                    prop_assert!(read.frames_of(block).len() <= read.frames.len());
                }
                for function in &read.functions {
                    prop_assert!(!read.name_of(function).is_empty() || function.name.is_some());
                    prop_assert_eq!(read.blocks_of(function).len(), function.blocks.len());
                }
            }
            prop_assert_eq!(Table::decode(&bytes[..at]), None);
        }
    }
}
