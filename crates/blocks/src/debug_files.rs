//! Where the debug symbols of a program are: in the program itself, in a separate file on
//! this machine, or on a server of debuginfod.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use addr2line::Loader;
use data_encoding::HEXLOWER;
use flate2::Crc;
use object::{File, Object as _, ObjectSection as _};

/// Where distributions install debug files.
const SYSTEM_FOLDER: &str = "/usr/lib/debug";

/// The folders that debug files are looked for in.
#[derive(Clone, Debug)]
pub struct DebugFiles {
    folders: Vec<PathBuf>,
}

impl DebugFiles {
    /// Debug files in `folders`, in which they are placed as in `/usr/lib/debug`, in that folder, and
    /// on the servers that the environment variable `DEBUGINFOD_URLS` names.
    pub fn new(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let system = Some(PathBuf::from(SYSTEM_FOLDER));
        Self {
            folders: folders.into_iter().chain(system).collect(),
        }
    }

    /// The file with the debug symbols of the program or library `elf`, which is at `path`:
    /// that file itself, or a separate debug file, by its build id, by the name that it has
    /// for it, or from a server.
    pub fn find(&self, elf: &File<'_>, path: &Path) -> Option<PathBuf> {
        if has_lines(elf) {
            return Some(path.to_owned());
        }
        let build_id = elf.build_id().ok().flatten();
        build_id
            .and_then(|id| self.installed(id))
            .or_else(|| self.by_link(elf, path))
            .or_else(|| build_id.and_then(from_server))
    }

    /// The debug file of a build, which need not be on this machine itself.
    #[must_use]
    pub fn by_build_id(&self, id: &[u8]) -> Option<PathBuf> {
        self.installed(id).or_else(|| from_server(id))
    }

    /// Reads a debug file, and the one that it shares parts with others in, which the section
    /// `.gnu_debugaltlink` names; `None` where it cannot be read.
    #[must_use]
    pub fn load(&self, debug_file: &Path) -> Option<Loader> {
        let bytes = fs::read(debug_file).ok()?;
        let elf = File::parse(&*bytes).ok()?;
        let link = elf.gnu_debugaltlink().ok().flatten();
        let shared = link.and_then(|(name, id)| {
            let beside = debug_file.parent()?.join(OsStr::from_bytes(name));
            self.installed(id)
                .or_else(|| beside.is_file().then_some(beside))
        });
        Loader::new_with_sup(debug_file, shared).ok()
    }

    /// A debug file by build id: `.build-id/3a/6fdf43.debug` in one of the folders.
    fn installed(&self, id: &[u8]) -> Option<PathBuf> {
        let (first, rest) = id.split_first()?;
        let name = format!(".build-id/{first:02x}/{}.debug", HEXLOWER.encode(rest));
        let files = self.folders.iter().map(|folder| folder.join(&name));
        files.into_iter().find(|file| file.is_file())
    }

    /// A debug file by the section `.gnu_debuglink`, which names it and has its checksum:
    /// beside the program, in `.debug` there, or below one of the folders.
    fn by_link(&self, elf: &File<'_>, path: &Path) -> Option<PathBuf> {
        let (name, checksum) = elf.gnu_debuglink().ok()??;
        let name = OsStr::from_bytes(name);
        let folder = path.parent()?;
        let below = |root: &PathBuf| root.join(folder.strip_prefix("/").unwrap_or(folder));
        let places = [folder.to_owned(), folder.join(".debug")];
        let places = places.into_iter().chain(self.folders.iter().map(below));
        places.map(|place| place.join(name)).find(|file| {
            fs::read(file).is_ok_and(|bytes| {
                let mut crc = Crc::new();
                crc.update(&bytes);
                crc.sum() == checksum
            })
        })
    }
}

fn has_lines(elf: &File<'_>) -> bool {
    let section = elf.section_by_name(".debug_info");
    section.is_some_and(|section| section.data().is_ok_and(|data| !data.is_empty()))
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
