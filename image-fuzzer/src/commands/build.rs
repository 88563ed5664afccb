//! A build of the programs in a folder: a build tree, an installation, or the root of another
//! system with its libraries.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSection as _};
use object_rewrite::Rewriter;
use tempfile::TempDir;

use super::Programs;

/// Where the programs are in a folder: itself (a build tree), a source tree's build folder, an
/// installation below a prefix, a root.
const PROGRAM_FOLDERS: [&str; 5] = ["", "build", "bin", "usr/bin", "usr/local/bin"];

/// Where a root has its libraries, and in these folders in one for each kind of machine.
const LIBRARY_FOLDERS: [&str; 4] = ["lib", "lib64", "usr/lib", "usr/lib64"];

/// A build of programs.
#[derive(Debug)]
pub struct Build {
    /// Where the programs are.
    pub programs: Programs,
    /// Folders that they read.
    pub readable: Vec<PathBuf>,
}

impl Build {
    /// The programs with these names in `folder`.
    ///
    /// Where it has the loader that a program asks for, it is a root: the programs run with
    /// its loader and libraries. They run as copies that name those, since a program that a
    /// loader is told to run has the loader's name, neither a fork server nor symbols.
    ///
    /// # Errors
    ///
    /// There is no such folder, no program in it, or no copy can be made.
    pub fn open(folder: &Path, names: &BTreeSet<&str>) -> Result<Self> {
        let root = folder
            .canonicalize()
            .ok()
            .filter(|root| root.is_dir())
            .with_context(|| format!("there is no folder '{}'", folder.display()))?;
        let mut files = BTreeMap::new();
        let mut copies = None;
        let mut readable = vec![root.clone()];
        for name in names {
            let mut file = find(&root, name)?;
            if let Some(loader) = loader_in(&root, &file) {
                if copies.is_none() {
                    copies = Some(copies_folder()?);
                }
                let copy = copies.as_ref().map_or(Path::new(""), TempDir::path);
                let copy = copy.join(name);
                copy_for(&root, &file, &loader, &copy)
                    .with_context(|| format!("cannot copy '{}'", file.display()))?;
                file = copy;
            }
            files.insert((*name).to_owned(), vec![file.into_os_string()]);
        }
        readable.extend(copies.as_ref().map(|folder| folder.path().to_owned()));
        Ok(Self {
            programs: Programs::from_files(files, copies),
            readable,
        })
    }
}

/// The program `name` below `root`.
///
/// # Errors
///
/// There is none.
pub fn find(root: &Path, name: &str) -> Result<PathBuf> {
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    let places = PROGRAM_FOLDERS
        .iter()
        .map(|place| root.join(place).join(name));
    let mut found = places.filter(is_program);
    found.next().ok_or_else(|| {
        anyhow!("no {name} in it, nor in build, bin, usr/bin or usr/local/bin there")
    })
}

/// The loader that the program asks for, where `root` has it; `None` for other programs, and
/// where it is that of this system.
fn loader_in(root: &Path, program: &Path) -> Option<PathBuf> {
    if root == Path::new("/") {
        return None;
    }
    let bytes = fs::read(program).ok()?;
    let elf = ElfFile64::<Endianness>::parse(&*bytes).ok()?;
    let interpreter = elf.section_by_name(".interp")?.data().ok()?;
    let name = interpreter.split(|byte| *byte == 0).next()?;
    let name = Path::new(OsStr::from_bytes(name)).strip_prefix("/").ok()?;
    // A root that was only unpacked may lack the link from /lib64 to /usr/lib64.
    resolve(root, name).or_else(|| resolve(root, &Path::new("usr").join(name)))
}

/// A file in a root, whose links may be absolute.
fn resolve(root: &Path, name: &Path) -> Option<PathBuf> {
    /// As many as the kernel follows.
    const LINKS: usize = 40;
    let mut name = name.to_owned();
    for _ in 0..LINKS {
        let path = root.join(&name);
        let Ok(target) = fs::read_link(&path) else {
            return path.is_file().then_some(path);
        };
        name = match target.strip_prefix("/") {
            Ok(target) => target.to_owned(),
            Err(_) => name.parent()?.join(target),
        };
    }
    None
}

/// A folder for programs. It is not in `/tmp`, which programs under test have as their own.
fn copies_folder() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("image-fuzzer-");
    builder
        .tempdir_in("/var/tmp")
        .or_else(|_| builder.tempdir())
        .context("cannot create a folder for programs")
}

/// Copies a program of a root so that it is run by that root's loader, with its libraries.
fn copy_for(root: &Path, program: &Path, loader: &Path, copy: &Path) -> Result<()> {
    let bytes = fs::read(program)?;
    let mut rewriter = Rewriter::read(&bytes)?;
    rewriter.elf_set_interpreter(loader.as_os_str().as_bytes().to_vec())?;
    rewriter.elf_set_runpath(library_path(root)?.as_bytes().to_vec())?;
    // Unlike a runpath, an rpath holds for the libraries of libraries too.
    rewriter.elf_use_rpath()?;
    let mut text = Vec::new();
    rewriter.write(&mut text)?;
    fs::write(copy, text)?;
    fs::set_permissions(copy, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The folders of a root that have libraries, separated by colons.
fn library_path(root: &Path) -> Result<OsString> {
    let mut folders = Vec::new();
    for folder in LIBRARY_FOLDERS.iter().map(|folder| root.join(folder)) {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        // The folders of multiarch: x86_64-linux-gnu.
        let machines = entries.flatten().map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().unwrap_or_default().as_bytes();
            path.is_dir() && name.windows(7).any(|part| part == b"-linux-")
        });
        let mut machines: Vec<_> = machines.collect();
        machines.sort();
        folders.extend(machines);
        folders.push(folder);
    }
    if folders.is_empty() {
        bail!("there are no libraries in '{}'", root.display());
    }
    std::env::join_paths(folders).context("the path of a folder has a colon")
}
