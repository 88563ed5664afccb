//! Names of functions, files and lines for the addresses in a stack, from debug symbols: those
//! in the program itself, in a separate debug file on this machine, or on a server of
//! debuginfod.
//!
//! They are looked up behind the debugger, which names groups: what is installed does not
//! change the group of a finding.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use addr2line::Loader;
use blocks::debug_files::DebugFiles;
use data_encoding::HEXLOWER;
use object::{File, Object as _, ObjectSegment as _};

use crate::signature::{Address, Frame, Stack, file};

/// Debug symbols, each file of which is read once.
pub struct Symbols {
    debug_files: DebugFiles,
    modules: BTreeMap<PathBuf, Module>,
}

/// A program or library.
struct Module {
    build_id: Option<String>,
    /// The address that its first segment was linked for.
    start: u64,
    lines: Option<Loader>,
}

impl Symbols {
    /// The symbols in `folders`, in which debug files lie as in `/usr/lib/debug`, in that
    /// folder, and on the servers that `DEBUGINFOD_URLS` names.
    pub fn new(folders: &[PathBuf]) -> Self {
        Self {
            debug_files: DebugFiles::new(folders.iter().cloned()),
            modules: BTreeMap::new(),
        }
    }

    /// The stack with what the symbols tell: functions that were inlined have frames of their
    /// own, and stand before the one that they are part of.
    pub fn resolve(&mut self, stack: &Stack) -> Stack {
        let frames = stack.frames.iter().flat_map(|frame| self.frames(frame));
        let frames = frames.collect();
        Stack { frames }.without_start()
    }

    /// Takes in that the program or library at `path` had this build id when a stack was
    /// recorded: where it is another one by now, only its debug file tells of it.
    pub fn expect(&mut self, path: &Path, build_id: Option<&str>) {
        let Some(id) = build_id.filter(|id| self.build_id(path) != Some(id)) else {
            return;
        };
        let module = Module::of_build_id(id, &self.debug_files);
        self.modules.insert(path.to_owned(), module);
    }

    /// The build id of a program or library, in hexadecimal digits, where it has one.
    pub fn build_id(&mut self, module: &Path) -> Option<&str> {
        self.module(module).build_id.as_deref()
    }

    fn frames(&mut self, frame: &Frame) -> Vec<Frame> {
        let known = || vec![frame.clone()];
        let Some(address) = frame.address.as_ref().filter(|_| frame.place.is_none()) else {
            return known();
        };
        let found = self.module(&address.module).frames(address);
        if found.is_empty() { known() } else { found }
    }

    fn module(&mut self, path: &Path) -> &Module {
        let Self {
            debug_files,
            modules,
        } = self;
        modules
            .entry(path.to_owned())
            .or_insert_with(|| Module::read(path, debug_files))
    }
}

impl Module {
    fn read(path: &Path, debug_files: &DebugFiles) -> Self {
        let unknown = Self {
            build_id: None,
            start: 0,
            lines: None,
        };
        let Ok(bytes) = fs::read(path) else {
            return unknown;
        };
        let Ok(elf) = File::parse(&*bytes) else {
            return unknown;
        };
        let build_id = elf.build_id().ok().flatten();
        let debug_file = debug_files.find(&elf, path);
        Self {
            build_id: build_id.map(|id| HEXLOWER.encode(id)),
            start: first_segment(&elf),
            lines: debug_file.and_then(|file| debug_files.load(&file)),
        }
    }

    /// What the debug file tells of a build that is not here itself.
    fn of_build_id(id: &str, debug_files: &DebugFiles) -> Self {
        let bytes = HEXLOWER.decode(id.as_bytes()).unwrap_or_default();
        let found = debug_files.by_build_id(&bytes);
        let text = found.as_ref().and_then(|path| fs::read(path).ok());
        let start = text.as_deref().and_then(|text| File::parse(text).ok());
        Self {
            build_id: Some(id.to_owned()),
            // It has the segments of the program that it is about.
            start: start.map_or(0, |elf| first_segment(&elf)),
            lines: found.and_then(|path| debug_files.load(&path)),
        }
    }

    /// The functions at an address, the innermost first; none where that is not known.
    fn frames(&self, address: &Address) -> Vec<Frame> {
        let Some(lines) = &self.lines else {
            return Vec::new();
        };
        let at = self.start + address.offset - u64::from(address.is_return);
        let mut frames = Vec::new();
        // Damaged symbols are as good as none.
        if let Ok(mut found) = lines.find_frames(at) {
            while let Ok(Some(frame)) = found.next() {
                let name = frame.function.as_ref().and_then(|it| it.demangle().ok());
                let place = frame
                    .location
                    .and_then(|it| Some((file(it.file?), it.line?)));
                let Some(name) = name else {
                    continue;
                };
                frames.push(Frame {
                    name: name.into_owned(),
                    place,
                    address: Some(address.clone()),
                });
            }
        }
        if let Some(name) = lines.find_symbol(at).filter(|_| frames.is_empty()) {
            frames.push(Frame {
                address: Some(address.clone()),
                ..Frame::named(name)
            });
        }
        frames
    }
}

/// The address that the first segment is linked for, to which addresses are relative: 0 in
/// programs that can be loaded anywhere.
fn first_segment(elf: &File<'_>) -> u64 {
    const PAGE: u64 = 4096;
    let first = elf.segments().map(|it| it.address()).min().unwrap_or(0);
    first - first % PAGE
}
