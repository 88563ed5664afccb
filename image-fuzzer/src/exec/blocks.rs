//! The basic blocks of programs, and which of them runs reach.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coverage::{Code, Map, Module, Obstacle, SharedText};
use object::Endianness;
use object::elf::DT_SONAME;
use object::read::elf::ElfFile64;

use super::NOT_NOTED;
use image_mutations::rng::{FNV_START, fnv};

/// A block, the same in every run of the fuzzer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// The file that it is in: [`BlockFile::id`].
    pub file: u64,
    /// Its address, as in that file.
    pub address: u32,
}

/// A program or library whose blocks are noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockFile {
    /// What identifies it: a hash of its build id, or of its path where it has none.
    pub id: u64,
    /// Its file.
    pub path: PathBuf,
    /// Its build id, in hexadecimal; empty where it has none.
    pub build_id: String,
    /// How many blocks it has.
    pub blocks: usize,
}

/// The blocks of programs, read from their files once, for the executors of all threads.
#[derive(Debug, Default)]
pub struct ProgramBlocks {
    /// Libraries whose blocks are noted too, where a program has loaded them.
    libraries: Vec<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    files: Vec<BlockFile>,
    parts: BTreeMap<PathBuf, Result<Arc<Part>, String>>,
    programs: BTreeMap<PathBuf, Arc<Blocks>>,
}

/// The blocks of one file.
#[derive(Debug)]
struct Part {
    file: u64,
    /// Its name without folders.
    name: CString,
    /// Address and byte of each.
    blocks: Vec<(u32, u8)>,
    /// The code of a program that all its servers share; `None` where each has its own.
    text: Option<SharedText>,
}

/// The blocks of a program and its libraries.
#[derive(Debug)]
pub(super) struct Blocks {
    parts: Vec<Arc<Part>>,
    /// Whether the program cannot have its blocks noted.
    left_alone: AtomicBool,
    /// Why they cannot be, or those of a library, a line each.
    notes: Mutex<Vec<String>>,
    /// What runs that noted all blocks have reached.
    traces: Mutex<Traces>,
}

/// How often blocks are reached by runs that note all, as long as there are few of these.
#[derive(Debug, Default)]
struct Traces {
    runs: u32,
    counts: HashMap<u32, u32>,
    /// The blocks that are not noted in such runs any more, and that nobody was told of.
    common: Vec<BlockId>,
}

/// From so many runs that noted all blocks it is known which most of them reach. Later ones do
/// not note those: that takes many times as long as the run, and tells nothing.
const TRACES: u32 = 24;

impl ProgramBlocks {
    /// Blocks are noted of programs and of these libraries.
    pub fn new(libraries: Vec<PathBuf>) -> Self {
        Self {
            libraries,
            known: Mutex::default(),
        }
    }

    /// The blocks that runs which note all note no more, since most runs reach them; each once.
    pub fn take_common(&self) -> Vec<BlockId> {
        let known = self.known();
        let of = |blocks: &Arc<Blocks>| std::mem::take(&mut blocks.traces().common);
        known.programs.values().flat_map(of).collect()
    }

    /// The same of which none was reached.
    #[must_use]
    pub fn afresh(&self) -> Self {
        Self::new(self.libraries.clone())
    }

    /// The files whose blocks are noted, so far.
    pub fn files(&self) -> Vec<BlockFile> {
        self.known().files.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The blocks of the program at `path`.
    pub(super) fn of(&self, path: &Path) -> Arc<Blocks> {
        let mut known = self.known();
        if let Some(blocks) = known.programs.get(path) {
            return Arc::clone(blocks);
        }
        let (mut parts, mut notes) = (Vec::new(), Vec::new());
        let files = [path].into_iter();
        for (index, file) in files
            .chain(self.libraries.iter().map(PathBuf::as_path))
            .enumerate()
        {
            match known.part(file, index == 0) {
                Ok(part) => parts.push(part),
                Err(why) => notes.push(format!("blocks of {}{NOT_NOTED}{why}", file.display())),
            }
        }
        let blocks = Arc::new(Blocks {
            left_alone: AtomicBool::new(parts.is_empty()),
            parts,
            notes: Mutex::new(notes),
            traces: Mutex::default(),
        });
        known.programs.insert(path.to_owned(), Arc::clone(&blocks));
        blocks
    }
}

impl Known {
    fn part(&mut self, file: &Path, is_program: bool) -> Result<Arc<Part>, String> {
        if let Some(part) = self.parts.get(file) {
            return part.clone();
        }
        let part = self.read(file, is_program);
        self.parts.insert(file.to_owned(), part.clone());
        part
    }

    fn read(&mut self, file: &Path, is_program: bool) -> Result<Arc<Part>, String> {
        let bytes = fs::read(file).map_err(|why| why.to_string())?;
        let program = blocks::Program::read(&bytes).map_err(|why| why.to_string())?;
        let name = match file.file_name() {
            // The loader knows a library by the name that programs ask for, which is not that
            // of the file where it is the name of a link.
            Some(name) if !is_program => soname(&bytes).unwrap_or(name.as_bytes()),
            _ => b"",
        };
        let found: Result<Vec<_>, _> = program
            .blocks
            .iter()
            .map(|block| Ok((u32::try_from(block.address)?, block.byte)))
            .collect();
        let found = found.map_err(|_: std::num::TryFromIntError| "it is too large".to_owned())?;
        let build_id = program.build_id.unwrap_or_default();
        let identity = match build_id.is_empty() {
            true => file.as_os_str().as_bytes(),
            false => &build_id,
        };
        let id = fnv(FNV_START, identity);
        self.files.push(BlockFile {
            id,
            path: file.to_owned(),
            build_id: build_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            blocks: found.len(),
        });
        let code = match *program.segments {
            [only] if is_program => Some(only),
            _ => None,
        };
        let text = code
            .and_then(|it| Code::of_segment(&bytes, it.file_offset, it.address, it.size))
            // Without it each server has its own.
            .and_then(|code| SharedText::new(code, &found).ok());
        Ok(Arc::new(Part {
            text,
            file: id,
            name: CString::new(name).map_err(|why| why.to_string())?,
            blocks: found,
        }))
    }
}

/// The name that a library has for programs that are linked with it.
fn soname(library: &[u8]) -> Option<&[u8]> {
    let elf = ElfFile64::<Endianness>::parse(library).ok()?;
    let table = elf.elf_dynamic_table().ok()?;
    let entry = table.iter().find(|entry| entry.tag == DT_SONAME)?;
    table.string(entry).ok()
}

impl Blocks {
    /// Whether they can be noted.
    pub(super) fn can_be_noted(&self) -> bool {
        !self.left_alone.load(Ordering::Relaxed)
    }

    /// What the user should be told, once.
    pub(super) fn take_notes(&self) -> Vec<String> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *notes)
    }

    /// Has the blocks not noted any more; what the user should be told, the first time.
    pub(super) fn leave_alone(&self, program: &Path, obstacle: Obstacle) -> Option<String> {
        let first = !self.left_alone.swap(true, Ordering::Relaxed);
        let program = program.display();
        first.then(|| format!("blocks of {program}{NOT_NOTED}{}", obstacle.text()))
    }

    fn traces(&self) -> MutexGuard<'_, Traces> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the blocks of a run that noted all; after the last one that is counted, those
    /// that most of them reached have no traps any more.
    fn count(&self, reached: &[u32]) {
        let mut traces = self.traces();
        let part = self.parts.first();
        let Some((part, text)) = part.and_then(|part| Some((part, part.text.as_ref()?))) else {
            return;
        };
        if traces.runs == TRACES {
            return;
        }
        traces.runs += 1;
        for block in reached {
            *traces.counts.entry(*block).or_default() += 1;
        }
        if traces.runs < TRACES {
            return;
        }
        for (block, count) in std::mem::take(&mut traces.counts) {
            let number = usize::try_from(block).unwrap_or(usize::MAX);
            if count >= TRACES / 2
                && let Some(&place) = part.blocks.get(number)
                && text.remove_from_all(place).is_ok()
            {
                traces.common.extend(self.id(block));
            }
        }
    }

    /// Removes traps from the code that the servers share.
    fn remove_traps(&self, blocks: &[u32]) {
        let part = self.parts.first();
        let Some((part, text)) = part.and_then(|part| Some((part, part.text.as_ref()?))) else {
            return;
        };
        for number in blocks
            .iter()
            .filter_map(|&block| usize::try_from(block).ok())
        {
            if let Some(&block) = part.blocks.get(number) {
                // One that stays costs time, and nothing else.
                let _ = text.remove_trap(number, block);
            }
        }
    }

    /// The block with this number, counted through all parts.
    fn id(&self, number: u32) -> Option<BlockId> {
        let mut rest = usize::try_from(number).ok()?;
        for part in &self.parts {
            match part.blocks.get(rest) {
                Some(&(address, _)) => {
                    return Some(BlockId {
                        file: part.file,
                        address,
                    });
                }
                None => rest -= part.blocks.len(),
            }
        }
        None
    }
}

/// The blocks that the runs of one server reach.
pub(super) struct Reached {
    blocks: Arc<Blocks>,
    map: Map,
    /// The numbers of all that were reached.
    all: HashSet<u32>,
    /// Whether the run that was begun last notes all blocks.
    tracing: bool,
    /// What was reached before that run and not taken.
    earlier: Vec<u32>,
}

impl Reached {
    /// None yet.
    pub(super) fn new(blocks: Arc<Blocks>) -> io::Result<Self> {
        let modules: Vec<Module<'_>> = blocks
            .parts
            .iter()
            .map(|part| Module {
                name: &part.name,
                blocks: &part.blocks,
            })
            .collect();
        Ok(Self {
            map: Map::new(&modules)?,
            blocks,
            all: HashSet::new(),
            tracing: false,
            earlier: Vec::new(),
        })
    }

    /// The memory to start a server with.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd()
    }

    /// The code that the server shares with others of the program.
    pub(super) fn text(&self) -> Option<BorrowedFd<'_>> {
        let text = self.blocks.parts.first()?.text.as_ref()?;
        Some(text.fd())
    }

    /// The next run notes every block that it reaches.
    pub(super) fn begin_trace(&mut self) {
        // The next run that is no such one takes them.
        self.earlier.extend(self.map.take_reached());
        self.all.extend(self.earlier.iter().copied());
        self.map.reset();
        self.tracing = true;
    }

    /// The blocks that were reached for the first time by any server of the program, or by a
    /// run that notes all.
    pub(super) fn take(&mut self) -> Vec<BlockId> {
        let mut new = self.map.take_reached();
        self.all.extend(new.iter().copied());
        if std::mem::take(&mut self.tracing) {
            self.map.mark_reached(self.all.iter().copied());
            self.blocks.count(&new);
        } else {
            new.append(&mut self.earlier);
        }
        self.blocks.remove_traps(&new);
        new.into_iter().filter_map(|n| self.blocks.id(n)).collect()
    }

    /// Why blocks are not noted, or not any more.
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        self.map.obstacle()
    }
}
