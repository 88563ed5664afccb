//! A program under test and what belongs to it: where it is, what it may reach, its
//! environment, its canaries.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::canary::Coop;
use super::sanitizer::Reports;
use super::served::How;
use super::{ExecError, ExecOptions, Request};
use crate::sandbox::Reach;

/// Where programs find other programs, the same everywhere.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with its surroundings.
pub(super) struct Program {
    path: PathBuf,
    options: ExecOptions,
    env: Vec<(OsString, OsString)>,
    coop: Rc<Coop>,
    reports: Reports,
}

impl Program {
    /// Finds the program and makes its surroundings.
    pub(super) fn new(program: &Path, options: &ExecOptions) -> Result<Self, ExecError> {
        let path = find(program).map_err(|source| ExecError::Program {
            program: program.to_owned(),
            source,
        })?;
        let scratch = &options.scratch;
        fs::create_dir_all(scratch).map_err(|e| ExecError::setup_at("make", scratch, e))?;
        let scratch = scratch
            .canonicalize()
            .map_err(|e| ExecError::setup_at("find", scratch, e))?;
        let next_to = |what: &str| {
            let mut name = scratch.clone().into_os_string();
            name.push(what);
            PathBuf::from(name)
        };
        let (canary, san) = (next_to(".canary"), next_to(".sanitizer"));
        let coop = Coop::shared(canary.clone())
            .map_err(|e| ExecError::setup_at("make canaries in", &canary, e))?;
        let reports =
            Reports::new(&path, san).map_err(|e| ExecError::setup_at("look into", &path, e))?;
        let mut env: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), PATH.into()),
            ("HOME".into(), scratch.clone().into()),
            ("TMPDIR".into(), scratch.clone().into()),
            ("LC_ALL".into(), "C".into()),
        ];
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
            coop,
            reports,
        })
    }

    /// The same once more, for another executor.
    pub(super) fn sibling(&self) -> Result<Self, ExecError> {
        Self::new(&self.path, &self.options)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn scratch(&self) -> &Path {
        &self.options.scratch
    }

    pub(super) fn sandboxed(&self) -> bool {
        self.options.sandbox
    }

    pub(super) fn coop(&self) -> &Coop {
        &self.coop
    }

    pub(super) fn reports(&self) -> &Reports {
        &self.reports
    }

    /// The environment that holds for every run.
    pub(super) fn base_env(&self) -> &[(OsString, OsString)] {
        &self.env
    }

    /// The environment of one run.
    pub(super) fn environment(&self, request: &Request) -> Vec<(OsString, OsString)> {
        let mut env = self.env.clone();
        add(&mut env, &request.env);
        env
    }

    /// What the program may reach beyond the system's own.
    pub(super) fn reach(&self, how: &How) -> Reach {
        let mut read = self.options.readable.clone();
        // Programs that are not installed have their libraries and data beside them.
        read.push(self.path.clone());
        read.extend(self.path.parent().map(Path::to_owned));
        if let How::Fork { library } = how {
            read.push(library.clone());
        }
        let mut write = self.options.writable.clone();
        write.push(self.options.scratch.clone());
        write.push(self.coop.folder().to_owned());
        write.extend(self.reports.folder().map(Path::to_owned));
        Reach { read, write }
    }
}

/// Puts variables into an environment, in place of those of the same name.
fn add(env: &mut Vec<(OsString, OsString)>, more: &[(OsString, OsString)]) {
    for (name, value) in more {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(value),
            None => env.push((name.clone(), value.clone())),
        }
    }
}

/// The file of a program: a name without a slash is looked for in `PATH`.
fn find(program: &Path) -> io::Result<PathBuf> {
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return executable(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    std::env::split_paths(&path)
        .find_map(|folder| executable(&folder.join(program)).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "not found in PATH"))
}

fn executable(path: &Path) -> io::Result<PathBuf> {
    let path = path.canonicalize()?;
    let meta = fs::metadata(&path)?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is no executable file",
        ));
    }
    Ok(path)
}

/// The preloaded library, which the build puts beside our own executable; a test's
/// executable lies one folder below that.
pub(super) fn library() -> io::Result<PathBuf> {
    const NAME: &str = "libpreload.so";
    let exe = std::env::current_exe()?;
    exe.ancestors()
        .skip(1)
        .take(2)
        .flat_map(|folder| [folder.join(NAME), folder.join("deps").join(NAME)])
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let beside = exe.parent().unwrap_or(Path::new("/")).display();
            let text =
                format!("there is no {NAME} in {beside} (`cargo build --workspace` makes it)");
            io::Error::new(io::ErrorKind::NotFound, text)
        })
}

/// Whether a file is a program in itself, not a script for another.
pub(super) fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path)
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut magic))
        .is_ok_and(|()| &magic == b"\x7fELF")
}

/// The name that a program is usually called by.
pub(super) fn usual_name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or(path.as_os_str())
}
