//! A program under test and its setup: its file, environment, allowed paths and canaries.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use coverage::Obstacle;

use super::blocks::Blocks;
use super::canary::CanarySet;
use super::sandbox::AllowedPaths;
use super::sanitizer::{Reports, built_with};
use super::{ExecError, ExecOptions, Request, watch};
use crate::path::{DEFAULT_PATH, find_program};

/// How a run server starts runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerKind {
    /// By forks of the program, which has this library preloaded.
    Fork {
        /// The library's file.
        library: PathBuf,
        /// Whether the guarding allocator is loaded too.
        guarded: bool,
    },
    /// By executing the program each time.
    Spawn,
}

/// A program with its setup.
pub(super) struct Program {
    path: PathBuf,
    options: ExecOptions,
    env: Vec<(OsString, OsString)>,
    canaries: Rc<CanarySet>,
    reports: Reports,
    /// The library of the guarding allocator, where the program can have it.
    guard: Option<PathBuf>,
    /// Its blocks, where those that runs reach are to be noted.
    blocks: Option<Arc<Blocks>>,
}

impl Program {
    /// Finds the program and sets it up.
    pub(super) fn new(program: &Path, options: &ExecOptions) -> Result<Self, ExecError> {
        let path = locate(program)?;
        let scratch = &options.scratch;
        fs::create_dir_all(scratch).map_err(|e| ExecError::setup_at("create", scratch, e))?;
        let scratch = scratch
            .canonicalize()
            .map_err(|e| ExecError::setup_at("resolve", scratch, e))?;
        let next_to = |what: &str| {
            let mut name = scratch.clone().into_os_string();
            name.push(what);
            PathBuf::from(name)
        };
        let (canary, san) = (next_to(".canary"), next_to(".sanitizer"));
        let canaries = CanarySet::shared(canary.clone())
            .map_err(|e| ExecError::setup_at("create canaries in", &canary, e))?;
        let reports = Reports::new(&path, san, options.leaks)
            .map_err(|e| ExecError::setup_at("read", &path, e))?;
        let mut env: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), DEFAULT_PATH.into()),
            ("HOME".into(), scratch.clone().into()),
            ("TMPDIR".into(), scratch.clone().into()),
            ("LC_ALL".into(), "C".into()),
        ];
        let guard = guard_of(&path).ok();
        let blocks = options.blocks.as_ref().map(|blocks| blocks.of(&path));
        add(&mut env, reports.env());
        add(&mut env, &options.env);
        let options = ExecOptions {
            scratch,
            ..options.clone()
        };
        Ok(Self {
            path,
            options,
            env,
            canaries,
            reports,
            guard,
            blocks,
        })
    }

    /// Its blocks, where those that runs reach are to be noted and can be.
    pub(super) fn blocks(&self) -> Option<Arc<Blocks>> {
        self.blocks.clone().filter(|blocks| blocks.can_be_noted())
    }

    /// Why its blocks are not noted though they should be: what the user is told once.
    pub(super) fn block_notes(&self) -> Vec<String> {
        let blocks = self.blocks.as_ref();
        blocks.map_or_else(Vec::new, |blocks| blocks.take_notes())
    }

    /// Has its blocks not noted any more; what the user is told, the first time.
    pub(super) fn leave_alone(&self, obstacle: Obstacle) -> Option<String> {
        self.blocks.as_ref()?.leave_alone(&self.path, obstacle)
    }

    /// The same program for another executor.
    pub(super) fn sibling(&self) -> Result<Self, ExecError> {
        Self::new(&self.path, &self.options)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A request that only has the program print its version, by which ways of starting it are
    /// compared.
    pub(super) fn version_request(&self) -> Request {
        let name = file_name(&self.path).to_owned();
        Request::new(vec![name, "--version".into()], self.scratch())
    }

    /// How many requests of a kind are made before it has a server that forks late.
    pub(super) fn late_fork(&self) -> Option<u32> {
        self.options.late_fork
    }

    pub(super) fn scratch(&self) -> &Path {
        &self.options.scratch
    }

    /// Bytes allocated in the scratch folder, and in `cwd` where that is another folder that
    /// the program may write in.
    pub(super) fn allocated(&self, cwd: &Path) -> u64 {
        let ExecOptions {
            scratch, writable, ..
        } = &self.options;
        let elsewhere =
            !cwd.starts_with(scratch) && writable.iter().any(|folder| cwd.starts_with(folder));
        let other = if elsewhere { watch::allocated(cwd) } else { 0 };
        watch::allocated(scratch) + other
    }

    /// Whether runs are to be ended.
    pub(super) fn is_stopped(&self) -> bool {
        let stop = self.options.stop.as_ref();
        stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    pub(super) fn sandboxed(&self) -> bool {
        self.options.sandbox
    }

    pub(super) fn canaries(&self) -> &CanarySet {
        &self.canaries
    }

    pub(super) fn reports(&self) -> &Reports {
        &self.reports
    }

    /// The environment that holds for every run.
    pub(super) fn base_env(&self) -> &[(OsString, OsString)] {
        &self.env
    }

    /// The environment of one run.
    pub(super) fn environment(
        &self,
        request: &Request,
        kind: &ServerKind,
    ) -> Vec<(OsString, OsString)> {
        let mut env = self.env.clone();
        add(&mut env, &request.env);
        if let (Some(guard), Some(library)) = (request.guard, &self.guard) {
            add(
                &mut env,
                &guard
                    .variables()
                    .map(|(name, value)| (name.into(), value.into())),
            );
            if *kind == ServerKind::Spawn {
                add(&mut env, &guard_env(library));
            }
        }
        env
    }

    /// The library of the guarding allocator, where the program can have it.
    pub(super) fn guard(&self) -> Option<&Path> {
        self.guard.as_deref()
    }

    /// The folder to mount at `/tmp`: the scratch folder. `None` where a path that the program
    /// needs is in `/tmp`, or there is no sandbox.
    pub(super) fn tmp(&self, kind: &ServerKind) -> Option<CString> {
        let AllowedPaths { read, write } = self.allowed_paths(kind);
        let hidden = |path: &PathBuf| path.starts_with("/tmp");
        if !self.options.sandbox || read.iter().chain(&write).any(hidden) {
            return None;
        }
        CString::new(self.options.scratch.as_os_str().as_bytes()).ok()
    }

    /// What the program may access besides the system's own.
    pub(super) fn allowed_paths(&self, kind: &ServerKind) -> AllowedPaths {
        let mut read = self.options.readable.clone();
        read.extend(own_paths(&self.path));
        if let ServerKind::Fork { library, .. } = kind {
            read.push(library.clone());
        }
        read.extend(self.guard.clone());
        let mut write = self.options.writable.clone();
        write.push(self.options.scratch.clone());
        write.push(self.canaries.folder().to_owned());
        write.extend(self.reports.folder().map(Path::to_owned));
        AllowedPaths { read, write }
    }
}

/// The file of a program, symbolic links followed.
pub(super) fn locate(program: &Path) -> Result<PathBuf, ExecError> {
    find_program(program)
        .and_then(|path| path.canonicalize())
        .map_err(|cause| ExecError::Program {
            program: program.to_owned(),
            cause,
        })
}

/// Where a program's own libraries and data are: in its folder in a build tree, and next to
/// its `bin` folder where it is installed below a prefix.
pub(super) fn own_paths(program: &Path) -> Vec<PathBuf> {
    let mut folders = vec![program.to_owned()];
    let Some(folder) = program.parent() else {
        return folders;
    };
    folders.push(folder.to_owned());
    if let (Some("bin" | "sbin"), Some(prefix)) =
        (folder.file_name().and_then(OsStr::to_str), folder.parent())
    {
        folders.extend(["lib", "lib64", "libexec", "share"].map(|name| prefix.join(name)));
    }
    folders
}

/// Sets variables in an environment.
fn add(env: &mut Vec<(OsString, OsString)>, more: &[(OsString, OsString)]) {
    for (name, value) in more {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(value),
            None => env.push((name.clone(), value.clone())),
        }
    }
}

/// The names of the libraries that are preloaded: the fork server, the guarding allocator.
pub(super) const PRELOAD: &str = "libpreload.so";
pub(super) const GUARD: &str = "libguard.so";

/// The library of the guarding allocator for the program at `path`, or why it cannot have it.
pub(super) fn guard_of(path: &Path) -> Result<PathBuf, String> {
    if let Some(why) = not_preloadable(path) {
        return Err(why.into());
    }
    if built_with(path).is_ok_and(|kinds| kinds.contains(&true)) {
        return Err("it is built with a sanitizer, which has an allocator of its own".into());
    }
    library(GUARD).map_err(|why| why.to_string())
}

/// The variables that load the guarding allocator. GLib has one of its own, which would hide
/// small blocks from it.
pub(super) fn guard_env(library: &Path) -> [(OsString, OsString); 2] {
    [
        ("LD_PRELOAD".into(), library.into()),
        ("G_SLICE".into(), "always-malloc".into()),
    ]
}

/// A preloaded library, which the build puts next to our own executable or into `deps`
/// there, depending on what else is built; a test's executable is one folder below that.
/// The newest is taken: another may be left from an earlier build with another protocol.
pub(super) fn library(name: &str) -> io::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    exe.ancestors()
        .skip(1)
        .take(2)
        .flat_map(|folder| [folder.join(name), folder.join("deps").join(name)])
        .filter(|path| path.is_file())
        .max_by_key(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok())
        .ok_or_else(|| {
            let folder = exe.parent().unwrap_or(Path::new("/")).display();
            let text = format!("no {name} in {folder}; build it with: cargo build --workspace");
            io::Error::new(io::ErrorKind::NotFound, text)
        })
}

/// Why no library can be preloaded into a program: it is a script, or statically linked.
/// `None` where it can, or that cannot be told.
pub(super) fn not_preloadable(path: &Path) -> Option<&'static str> {
    const HEADERS: u64 = 64 << 10;
    let mut head = Vec::new();
    let file = fs::File::open(path).ok()?;
    io::Read::read_to_end(&mut io::Read::take(file, HEADERS), &mut head).ok()?;
    if !head.starts_with(b"\x7fELF") {
        return Some("it is a script");
    }
    (is_dynamic(&head) == Some(false)).then_some("it is statically linked")
}

/// Whether a 64-bit little-endian ELF file names a loader (`PT_INTERP`); `None` for other
/// files. See elf(5).
fn is_dynamic(head: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    if head.get(4..6)? != [2, 1] {
        return None;
    }
    let half = |at: usize| {
        Some(usize::from(u16::from_le_bytes(
            *head.get(at..)?.first_chunk()?,
        )))
    };
    let table = u64::from_le_bytes(*head.get(32..)?.first_chunk()?);
    let (size, count) = (half(54)?, half(56)?);
    for number in 0..count {
        let at = usize::try_from(table).ok()?.checked_add(number * size)?;
        if u32::from_le_bytes(*head.get(at..)?.first_chunk()?) == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

/// The file name of a program.
pub(super) fn file_name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or(path.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_nothing_can_be_preloaded_into() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(not_preloadable(&own), None);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        assert_eq!(not_preloadable(&path), Some("it is a script"));
        // An ELF file without program headers has none that names a loader.
        let mut head = vec![0; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        fs::write(&path, &head).unwrap();
        assert_eq!(not_preloadable(&path), Some("it is statically linked"));
        // One that is truncated, or whose table is past the end of the file, is left to be tried.
        head[56] = 1;
        head[39] = 0xff;
        fs::write(&path, &head).unwrap();
        assert_eq!(not_preloadable(&path), None);
        assert_eq!(is_dynamic(b"\x7fELF\x02\x01"), None);
    }

    #[test]
    fn a_prefix_has_its_libraries_next_to_bin() {
        let tree = own_paths(Path::new("/src/build/qemu-img"));
        assert_eq!(
            tree,
            ["/src/build/qemu-img", "/src/build"].map(PathBuf::from)
        );
        let installed = own_paths(Path::new("/opt/tools/bin/qemu-img"));
        assert!(installed.contains(&PathBuf::from("/opt/tools/lib64")));
        assert!(!installed.contains(&PathBuf::from("/opt/tools")));
    }

    #[test]
    fn later_variables_replace_earlier_ones() {
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let mut env = vec![pair("A", "1"), pair("B", "2")];
        add(&mut env, &[pair("B", "3"), pair("C", "4")]);
        assert_eq!(env, [pair("A", "1"), pair("B", "3"), pair("C", "4")]);
    }
}
