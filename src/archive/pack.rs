//! An archive is made.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use super::contents::{Contents, Member, is_inside};
use super::elf::{self, Keep};
use super::format::{Archive, MARK, Sizes, footer};
use super::{RUNNER, TESTS};
use crate::tree::{CASES, GOLDENS, GROUPS, Layout, Tree};

/// What of a source directory is in an archive, besides the programs. What is not there
/// is left out.
const PARTS: [&str; 5] = [
    CASES,
    GOLDENS,
    GROUPS,
    "sample_images",
    ".config/check.toml",
];

/// Folders that are made anew by whoever needs them.
pub(super) const CACHE: &str = "__pycache__";

/// How hard zstd tries: beyond this it takes much longer for little.
const LEVEL: i32 = 12;

/// The variable that sets the time that an archive shows, in seconds since 1970, so that it
/// is the same wherever it is built.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Writes an archive of `tree` to `file`, with the runner `program` and the program with the
/// tests that is beside it. Gives lines that say what it is.
///
/// # Errors
///
/// The tree is QEMU's; a program is missing or a file cannot be read; `file` cannot be
/// written, or is something other than an archive.
pub fn write(file: &Path, tree: &Tree, program: &Path) -> Result<String> {
    if tree.layout == Layout::Qemu {
        bail!(
            "archive: {} is not a suite in the layout of this project; the tests of a QEMU tree \
             need the rest of that tree and its build",
            tree.source.display()
        );
    }
    let there = |archive: Result<Option<Archive>>| matches!(archive, Ok(Some(_)));
    if file.is_file() && !there(Archive::read(file)) {
        bail!(
            "archive: '{}' exists and is not an archive; remove it, or name another file",
            file.display()
        );
    }
    let mut runner = read_program(program, Keep::Nothing)?;
    runner.extend(MARK);
    let files = collect(tree, program)?;
    let mut members = vec![Member::new(RUNNER, true, &runner)];
    members.extend(
        files
            .iter()
            .map(|(path, (x, bytes))| Member::new(path, *x, bytes)),
    );
    let contents = Contents {
        about: about(tree, program, [&runner, &files[TESTS].1])?,
        files: members,
    };
    let list = contents.encode();
    let cannot = || format!("cannot write '{}'", file.display());
    let tar = tar(&files).with_context(cannot)?;
    let sizes = Sizes {
        runner: runner.len() as u64,
        tar: tar.len() as u64,
        contents: list.len() as u64,
    };
    let parts = [
        &runner,
        &tar,
        list.as_bytes(),
        &footer(sizes, list.as_bytes()),
    ];
    atomic_write::write(file, |out| {
        parts.iter().try_for_each(|part| out.write_all(part))
    })
    .with_context(cannot)?;
    if file.is_file() {
        make_executable(file).with_context(cannot)?;
    }
    let size: usize = parts.iter().map(|part| part.len()).sum();
    let shown = file.display();
    let mut lines = vec![format!("{shown}: {:.1} MB", size as f64 / 1e6)];
    lines.extend(contents.about);
    Ok(lines.join("\n") + "\n")
}

/// Lets everybody execute `file` who may read it.
fn make_executable(file: &Path) -> io::Result<()> {
    let mode = file.metadata()?.permissions().mode();
    std::fs::set_permissions(file, Permissions::from_mode(mode | (mode & 0o444) >> 2))
}

/// What is in the tar: by path, whether it can be executed, and its bytes.
type Files = BTreeMap<String, (bool, Vec<u8>)>;

fn collect(tree: &Tree, program: &Path) -> Result<Files> {
    let mut files = Files::new();
    let tests = program.with_file_name(TESTS);
    files.insert(
        TESTS.to_owned(),
        (true, read_program(&tests, Keep::Symbols)?),
    );
    for part in PARTS {
        add(&tree.source, Path::new(part), &mut files)?;
    }
    Ok(files)
}

fn read_program(program: &Path, keep: Keep) -> Result<Vec<u8>> {
    match std::fs::read(program) {
        Ok(bytes) => Ok(elf::stripped(bytes, keep)),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "archive: {} is missing; build it (cargo build -p check -p iotests)",
            program.display()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", program.display())),
    }
}

/// Adds the file or the folder `path`, below `source`.
fn add(source: &Path, path: &Path, files: &mut Files) -> Result<()> {
    let full = source.join(path);
    let cannot = || format!("cannot read {}", full.display());
    // What a link points to is put in its place.
    let metadata = match full.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound && !full.is_symlink() => return Ok(()),
        Err(error) => return Err(error).with_context(cannot),
    };
    if metadata.is_dir() {
        if path.file_name().is_some_and(|name| name == CACHE) {
            return Ok(());
        }
        for entry in full.read_dir().with_context(cannot)? {
            add(
                source,
                &path.join(entry.with_context(cannot)?.file_name()),
                files,
            )?;
        }
        return Ok(());
    }
    if !metadata.is_file() {
        bail!("archive: {} is neither a file nor a folder", full.display());
    }
    let Some(name) = path.to_str().filter(|name| is_inside(name)) else {
        bail!("archive: {:?} is not a name that an archive can hold", full);
    };
    let executable = metadata.permissions().mode() & 0o111 != 0;
    let bytes = std::fs::read(&full).with_context(cannot)?;
    files.insert(name.to_owned(), (executable, bytes));
    Ok(())
}

/// A tar of `files`, compressed. Nothing in it says when or by whom it was made.
fn tar(files: &Files) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, (executable, bytes)) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(if *executable { 0o755 } else { 0o644 });
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, path, bytes.as_slice())?;
    }
    zstd::bulk::compress(&tar.into_inner()?, LEVEL)
}

/// What an archive says of itself.
fn about(tree: &Tree, program: &Path, programs: [&[u8]; 2]) -> Result<Vec<String>> {
    let count = tree.tests().count();
    let tests = crate::words::count(count, "test");
    let mut lines = vec![
        format!("check {}, archive of {tests}", env!("CARGO_PKG_VERSION")),
        format!("built {}", built(program)?),
    ];
    lines.extend(commit(&tree.source).map(|commit| format!("from commit {commit}")));
    let glibc = programs.into_iter().filter_map(elf::glibc).max();
    let glibc = glibc.map(|(major, minor)| format!(" with glibc {major}.{minor} or newer"));
    lines.push(format!(
        "for {} on {}{}",
        std::env::consts::OS,
        std::env::consts::ARCH,
        glibc.unwrap_or_default()
    ));
    Ok(lines)
}

/// When the programs were built, which is the same each time they are put into an archive.
fn built(program: &Path) -> Result<String> {
    let modified = |program: &Path| {
        let modified = program.metadata().and_then(|m| m.modified());
        modified.with_context(|| format!("cannot read {}", program.display()))
    };
    let mut at = modified(program)?.max(modified(&program.with_file_name(TESTS))?);
    if let Some(seconds) = std::env::var_os(EPOCH).filter(|seconds| !seconds.is_empty()) {
        let seconds = seconds.to_str().and_then(|text| text.parse().ok());
        let seconds = seconds.with_context(|| format!("{EPOCH} is not a number of seconds"))?;
        let epoch = SystemTime::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds));
        at = epoch.with_context(|| format!("{EPOCH} is out of range"))?;
    }
    let at = jiff::Timestamp::try_from(at).context("the time of the build is out of range")?;
    Ok(at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// The commit that is checked out at `source`, where git knows it.
fn commit(source: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(source).args(args);
        let said = git
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8(said.stdout).ok()?.trim().to_owned();
        said.status.success().then_some(text)
    };
    // A suite somewhere within another repository is not of its commit.
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != source.canonicalize().ok()? {
        return None;
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain"])?;
    Some(match changed.is_empty() {
        true => commit,
        false => format!("{commit}, with changes"),
    })
}
