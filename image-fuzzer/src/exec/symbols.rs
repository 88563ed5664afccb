//! Names of functions, files and lines for the addresses in a stack, from debug symbols: those
//! in the program itself, in a separate debug file on this machine, or on a server of
//! debuginfod.
//!
//! They are looked up behind the debugger, which names groups: what is installed does not
//! change the group of a finding.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use addr2line::Loader;
use data_encoding::HEXLOWER;
use flate2::Crc;
use object::{File, Object as _, ObjectSection as _, ObjectSegment as _};

use crate::signature::{Address, Frame, Stack, file};

/// Where distributions install debug files.
const SYSTEM_FOLDER: &str = "/usr/lib/debug";

/// Debug symbols, each file of which is read once.
pub struct Symbols {
    folders: Vec<PathBuf>,
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
        let system = Some(PathBuf::from(SYSTEM_FOLDER));
        Self {
            folders: folders.iter().cloned().chain(system).collect(),
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
        let module = Module::of_build_id(id, &self.folders);
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
        let Self { folders, modules } = self;
        modules
            .entry(path.to_owned())
            .or_insert_with(|| Module::read(path, folders))
    }
}

impl Module {
    fn read(path: &Path, folders: &[PathBuf]) -> Self {
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
        let debug_file = if has_lines(&elf) {
            Some(path.to_owned())
        } else {
            debug_file(&elf, path, folders)
        };
        Self {
            build_id: build_id.map(|id| HEXLOWER.encode(id)),
            start: first_segment(&elf),
            lines: debug_file.and_then(|file| load(&file, folders)),
        }
    }

    /// What the debug file tells of a build that is not here itself.
    fn of_build_id(id: &str, folders: &[PathBuf]) -> Self {
        let bytes = HEXLOWER.decode(id.as_bytes()).unwrap_or_default();
        let found = by_build_id(&bytes, folders).or_else(|| from_server(&bytes));
        let text = found.as_ref().and_then(|path| fs::read(path).ok());
        let start = text.as_deref().and_then(|text| File::parse(text).ok());
        Self {
            build_id: Some(id.to_owned()),
            // It has the segments of the program that it is about.
            start: start.map_or(0, |elf| first_segment(&elf)),
            lines: found.and_then(|path| load(&path, folders)),
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

fn has_lines(elf: &File<'_>) -> bool {
    let section = elf.section_by_name(".debug_info");
    section.is_some_and(|section| section.data().is_ok_and(|data| !data.is_empty()))
}

/// The address that the first segment is linked for, to which addresses are relative: 0 in
/// programs that can be loaded anywhere.
fn first_segment(elf: &File<'_>) -> u64 {
    const PAGE: u64 = 4096;
    let first = elf.segments().map(|it| it.address()).min().unwrap_or(0);
    first - first % PAGE
}

/// The separate debug file of a program or library: by its build id, by the name that it has
/// for it, or from a server.
fn debug_file(elf: &File<'_>, path: &Path, folders: &[PathBuf]) -> Option<PathBuf> {
    let build_id = elf.build_id().ok().flatten();
    build_id
        .and_then(|id| by_build_id(id, folders))
        .or_else(|| by_link(elf, path, folders))
        .or_else(|| build_id.and_then(from_server))
}

/// A debug file by build id: `.build-id/3a/6fdf43.debug` in one of the folders.
fn by_build_id(id: &[u8], folders: &[PathBuf]) -> Option<PathBuf> {
    let (first, rest) = id.split_first()?;
    let name = format!(".build-id/{first:02x}/{}.debug", HEXLOWER.encode(rest));
    let files = folders.iter().map(|folder| folder.join(&name));
    files.into_iter().find(|file| file.is_file())
}

/// A debug file by the section `.gnu_debuglink`, which names it and has its checksum: beside
/// the program, in `.debug` there, or below one of the folders.
fn by_link(elf: &File<'_>, path: &Path, folders: &[PathBuf]) -> Option<PathBuf> {
    let (name, checksum) = elf.gnu_debuglink().ok()??;
    let name = OsStr::from_bytes(name);
    let folder = path.parent()?;
    let below = |root: &PathBuf| root.join(folder.strip_prefix("/").unwrap_or(folder));
    let places = [folder.to_owned(), folder.join(".debug")];
    let places = places.into_iter().chain(folders.iter().map(below));
    places.map(|place| place.join(name)).find(|file| {
        fs::read(file).is_ok_and(|bytes| {
            let mut crc = Crc::new();
            crc.update(&bytes);
            crc.sum() == checksum
        })
    })
}

/// A debug file from the servers that `DEBUGINFOD_URLS` names, which elfutils'
/// `debuginfod-find` asks and keeps the answers of.
fn from_server(id: &[u8]) -> Option<PathBuf> {
    std::env::var_os("DEBUGINFOD_URLS").filter(|urls| !urls.is_empty())?;
    let found = Command::new("debuginfod-find")
        .args(["debuginfo", &HEXLOWER.encode(id)])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let path = found.stdout.trim_ascii_end();
    let path = PathBuf::from(OsStr::from_bytes(path));
    (found.status.success() && path.is_file()).then_some(path)
}

/// Reads a debug file, and the one that it shares parts with others in, which the section
/// `.gnu_debugaltlink` names.
fn load(debug_file: &Path, folders: &[PathBuf]) -> Option<Loader> {
    let bytes = fs::read(debug_file).ok()?;
    let elf = File::parse(&*bytes).ok()?;
    let link = elf.gnu_debugaltlink().ok().flatten();
    let shared = link.and_then(|(name, id)| {
        let beside = debug_file.parent()?.join(OsStr::from_bytes(name));
        by_build_id(id, folders).or_else(|| beside.is_file().then_some(beside))
    });
    Loader::new_with_sup(debug_file, shared).ok()
}
