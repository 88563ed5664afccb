//! The programs under test: which ones, and where they come from.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{AccessFlags, Pid, access};

use crate::tree::Layout;

/// Looks up a variable of the caller's environment.
pub type Vars<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Where a program was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Its variable names it.
    Variable(&'static str),
    /// The folder that `--qemu` names.
    Folder,
    /// The build tree.
    Build,
    /// The directories of `PATH`.
    Installed,
}

/// A program under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// Where it was found.
    pub origin: Origin,
}

/// The programs under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The emulator; a suite of ours does without.
    pub qemu: Option<Program>,
    /// `qemu-img`.
    pub img: Program,
    /// `qemu-io`.
    pub io: Program,
    /// `qemu-nbd`.
    pub nbd: Program,
    /// `qemu-storage-daemon`; a suite of ours does without.
    pub qsd: Option<Program>,
}

/// A tool: its variable, its file in a build tree, its installed name and the
/// packages of Debian it may be in.
struct Tool {
    variable: &'static str,
    built: &'static str,
    name: &'static str,
    packages: &'static str,
}

impl Tool {
    /// One of the package with most of them.
    const fn of_utils(variable: &'static str, name: &'static str) -> Self {
        Self {
            variable,
            built: name,
            name,
            packages: "qemu-utils",
        }
    }
}

const IMG: Tool = Tool::of_utils("QEMU_IMG_PROG", "qemu-img");
const IO: Tool = Tool::of_utils("QEMU_IO_PROG", "qemu-io");
const NBD: Tool = Tool::of_utils("QEMU_NBD_PROG", "qemu-nbd");
const QSD: Tool = Tool {
    variable: "QSD_PROG",
    built: "storage-daemon/qemu-storage-daemon",
    name: "qemu-storage-daemon",
    packages: "qemu-utils, or qemu-system-common in Debian 12",
};

/// The variable that names the emulator.
const QEMU: &str = "QEMU_PROG";

impl Programs {
    /// Finds the programs: each from its variable, else from the build root (two
    /// levels above `build`), or, if that is not a build tree, from `PATH`.
    ///
    /// # Errors
    ///
    /// One is missing or not executable: which, and what to do. Only an emulator and the
    /// storage daemon may be missing, and only in a layout of ours.
    pub fn find(layout: Layout, build: &Path, vars: Vars<'_>) -> Result<Self> {
        let finder = Finder::new(build, vars);
        let tool = |tool: &Tool| finder.tool(tool);
        let qemu = finder.emulator()?;
        if qemu.is_none() && layout == Layout::Qemu {
            bail!("{}", finder.no_emulator());
        }
        Ok(Self {
            img: tool(&IMG)?,
            io: tool(&IO)?,
            nbd: tool(&NBD)?,
            qemu,
            qsd: finder.storage_daemon(layout)?,
        })
    }

    /// The programs in `folder`, which has them in `bin` or `usr/bin` or itself, as a build
    /// directory of QEMU does.
    ///
    /// # Errors
    ///
    /// As for [`Programs::find`]: what may be missing is the same.
    pub fn in_folder(layout: Layout, folder: &Path) -> Result<Self> {
        let wrong = |what: &str| format!("argument --qemu: {} {what}", folder.display());
        if !folder.is_dir() {
            let what = match folder.exists() {
                true => "is not a folder",
                false => "does not exist; scripts/qemu-version makes such folders",
            };
            bail!(wrong(what));
        }
        let dirs = ["bin", "usr/bin", ""].map(|dir| folder.join(dir));
        let Some(dir) = dirs.into_iter().find(|dir| dir.join(IMG.name).exists()) else {
            bail!(wrong("has no qemu-img, in bin or usr/bin or itself"));
        };
        let program = |name: &str| -> Result<Option<Program>> {
            let path = dir.join(name);
            if !path.exists() {
                return Ok(None);
            }
            if !executable(&path) {
                bail!(wrong(&format!("has a {name} that cannot be executed")));
            }
            Ok(Some(Program {
                path,
                origin: Origin::Folder,
            }))
        };
        let needed = |name: &str| program(name)?.with_context(|| wrong(&format!("has no {name}")));
        let own = format!("qemu-system-{}", machine());
        let found = Self {
            img: needed(IMG.name)?,
            io: needed(IO.name)?,
            nbd: needed(NBD.name)?,
            qemu: match program(&own)? {
                Some(qemu) => Some(qemu),
                None => emulators_in(&dir).into_iter().next().map(|path| Program {
                    path,
                    origin: Origin::Folder,
                }),
            },
            qsd: match program(QSD.built)? {
                Some(built) => Some(built),
                None => program(QSD.name)?,
            },
        };
        if layout == Layout::Qemu {
            found
                .qemu
                .as_ref()
                .with_context(|| wrong(&format!("has no {own}")))?;
            found
                .qsd
                .as_ref()
                .with_context(|| wrong(&format!("has no {}", QSD.name)))?;
        }
        Ok(found)
    }

    /// Whether any program is an installed one, found in `PATH`.
    #[must_use]
    pub fn any_installed(&self) -> bool {
        let tools = [&self.img, &self.io, &self.nbd];
        let mut all = tools.into_iter().chain(&self.qsd).chain(&self.qemu);
        all.any(|p| p.origin == Origin::Installed)
    }

    /// The files of the programs.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let tools = [&self.img, &self.io, &self.nbd];
        let all = tools.into_iter().chain(&self.qsd).chain(&self.qemu);
        all.map(|program| program.path.as_path())
    }

    /// One line that says where the programs come from.
    #[must_use]
    pub fn origins(&self) -> String {
        let all = [
            ("emulator", self.qemu.as_ref()),
            (IMG.name, Some(&self.img)),
            (IO.name, Some(&self.io)),
            (NBD.name, Some(&self.nbd)),
            (QSD.name, self.qsd.as_ref()),
        ];
        let mut places: Vec<(String, Vec<&str>)> = Vec::new();
        for (name, program) in all {
            let place = match program.map(|p| p.origin) {
                None => "missing".to_owned(),
                Some(Origin::Variable(variable)) => variable.to_owned(),
                Some(Origin::Folder) => "--qemu".to_owned(),
                Some(Origin::Build) => "build tree".to_owned(),
                Some(Origin::Installed) => "PATH".to_owned(),
            };
            match places.iter_mut().find(|(p, _)| *p == place) {
                Some((_, names)) => names.push(name),
                None => places.push((place, vec![name])),
            }
        }
        let places = places.into_iter();
        let places: Vec<_> = places
            .map(|(place, names)| format!("{place}: {}", names.join(" ")))
            .collect();
        places.join("; ")
    }
}

/// Where programs are looked for.
struct Finder<'a> {
    vars: Vars<'a>,
    /// The build root.
    root: PathBuf,
    /// Whether the build root holds no programs, so that those installed are
    /// meant.
    installed: bool,
    path: OsString,
}

impl<'a> Finder<'a> {
    fn new(build: &Path, vars: Vars<'a>) -> Self {
        let root = build.parent().and_then(Path::parent);
        let root = root.unwrap_or(Path::new("/")).to_owned();
        let built = [&IMG, &IO, &NBD, &QSD].map(|t| root.join(t.built));
        let installed = built.iter().all(|p| !p.exists())
            && !root.join("config-host.mak").exists()
            && emulators_in(&root).is_empty();
        Self {
            vars,
            root,
            installed,
            path: vars("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
        }
    }

    fn tool(&self, tool: &Tool) -> Result<Program> {
        if let Some(program) = self.named_by(tool.variable)? {
            return Ok(program);
        }
        if !self.installed {
            let path = self.root.join(tool.built);
            require(&path, tool.variable)?;
            return Ok(Program {
                path,
                origin: Origin::Build,
            });
        }
        let path = installed(OsStr::new(tool.name), &self.path).with_context(|| {
            format!(
                "{} is not installed: install it (Debian: {}) or set {}",
                tool.name, tool.packages, tool.variable
            )
        })?;
        Ok(Program {
            path,
            origin: Origin::Installed,
        })
    }

    /// Debian 12 has it in a package that image tools alone do not bring along. Tests that
    /// need it say so.
    fn storage_daemon(&self, layout: Layout) -> Result<Option<Program>> {
        let named = self.named_by(QSD.variable)?.is_some();
        let there = match self.installed {
            true => installed(OsStr::new(QSD.name), &self.path).is_some(),
            false => self.root.join(QSD.built).exists(),
        };
        if layout == Layout::Ours && !named && !there {
            return Ok(None);
        }
        self.tool(&QSD).map(Some)
    }

    fn emulator(&self) -> Result<Option<Program>> {
        if let Some(program) = self.named_by(QEMU)? {
            return Ok(Some(program));
        }
        let name = format!("qemu-system-{}", machine());
        let found = |path, origin| Ok(Some(Program { path, origin }));
        if !self.installed {
            let path = self.root.join(&name);
            if path.exists() {
                require(&path, QEMU)?;
                return found(path, Origin::Build);
            }
            let first = emulators_in(&self.root).into_iter().next();
            return first.map_or(Ok(None), |path| found(path, Origin::Build));
        }
        if let Some(path) = installed(OsStr::new(&name), &self.path) {
            return found(path, Origin::Installed);
        }
        let dirs = std::env::split_paths(&self.path);
        let first = dirs.flat_map(|dir| emulators_in(&dir)).next();
        first.map_or(Ok(None), |path| found(path, Origin::Installed))
    }

    fn no_emulator(&self) -> String {
        if self.installed {
            return format!(
                "no emulator is installed (qemu-system-{}; Debian: apt-get install \
                 qemu-system-x86, or the package for your machine), and {QEMU} is not set",
                machine()
            );
        }
        format!(
            "Not found any Qemu executable binary by pattern '{}'",
            self.root.join("qemu-system-*").display()
        )
    }

    /// The program that `variable` names, where it is set.
    fn named_by(&self, variable: &'static str) -> Result<Option<Program>> {
        let Some(named) = (self.vars)(variable).filter(|v| !v.is_empty()) else {
            return Ok(None);
        };
        let bare = !named.as_bytes().contains(&b'/') && !Path::new(&named).exists();
        let path = match installed(&named, &self.path) {
            Some(path) if bare => path,
            // Tests run elsewhere: a relative path would not hold there.
            _ => std::path::absolute(&named)
                .with_context(|| format!("{variable}: {}", named.to_string_lossy()))?,
        };
        require(&path, variable)?;
        Ok(Some(Program {
            path,
            origin: Origin::Variable(variable),
        }))
    }
}

/// Checks that `path` is a file that can be executed.
fn require(path: &Path, variable: &str) -> Result<()> {
    if !path.exists() {
        bail!("No such file: {} ({variable})", path.display());
    }
    if !executable(path) {
        bail!("Not executable: {} ({variable})", path.display());
    }
    Ok(())
}

/// Whether `path` is a file that may be executed.
#[must_use]
pub fn executable(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

/// The executable `name` in the directories of `path` (a value of `PATH`); a name with a
/// slash is relative to the current directory.
#[must_use]
pub fn installed(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    which::which_in(name, Some(path), ".").ok()
}

/// Executable files `qemu-system-*` in `dir`, sorted.
fn emulators_in(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let emulator = |name: &OsStr| name.as_bytes().starts_with(b"qemu-system-");
    let mut found: Vec<_> = entries
        .filter(|e| emulator(&e.file_name()))
        .map(|e| e.path())
        .filter(|path| executable(path))
        .collect();
    found.sort();
    found
}

/// This machine, as emulators are named after it.
fn machine() -> String {
    let machine = nix::sys::utsname::uname()
        .ok()
        .map(|u| u.machine().to_string_lossy().into_owned());
    match machine {
        Some(m) if m.contains("ppc64") => "ppc64".to_owned(),
        Some(m) => m,
        None => std::env::consts::ARCH.to_owned(),
    }
}

/// How long the emulator may take to list its machines. It is a matter of milliseconds,
/// and of seconds on a machine that is busy.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// The emulator's default machine as `-machine help` lists it: the line marked
/// `(default)`, by its alias where another line says `(alias of NAME)`. Empty
/// where there is none.
///
/// # Errors
///
/// The emulator cannot be run, or fails.
pub fn default_machine(qemu: &Path) -> Result<String> {
    ask(qemu, &["-machine", "help"], ANSWERS_WITHIN).map(|list| parse_machines(&list))
}

/// What a program prints when it is started with `args`.
///
/// # Errors
///
/// It cannot be run, fails, or takes longer than `within`.
pub(crate) fn ask(program: &Path, args: &[&str], within: Duration) -> Result<String> {
    ask_with(program, args, std::env::vars_os().collect(), within)
}

/// The same in another environment.
pub(crate) fn ask_with(
    program: &Path,
    args: &[&str],
    env: Vec<(OsString, OsString)>,
    within: Duration,
) -> Result<String> {
    let shown = format!("{} {}", program.display(), args.join(" "));
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .envs(env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {shown}"))?;
    let group = Pid::from_raw(child.id().cast_signed());
    let (sender, answer) = channel();
    let waiting = std::thread::spawn(move || {
        // The receiver is gone after a time-out.
        let _ = sender.send(child.wait_with_output());
    });
    let answer = answer.recv_timeout(within);
    if answer.is_err() {
        let _ = killpg(group, Signal::SIGKILL);
    }
    // What is forked later must be forked by a program with a single thread.
    let _ = waiting.join();
    let Ok(output) = answer else {
        bail!("{shown}: timed out after {} s", within.as_secs());
    };
    let output = output.with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = match said.trim() {
            "" => "no diagnostic output",
            said => said,
        };
        bail!("{shown}: {}: {said}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse_machines(list: &str) -> String {
    let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let Some(default) = list.lines().find(|line| line.contains(" (default)")) else {
        return String::new();
    };
    let default = first(default);
    let alias_of = format!(" (alias of {default})");
    list.lines()
        .find(|line| line.ends_with(&alias_of))
        .map_or(default, first)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn find(layout: Layout, build: &Path, vars: &[(&str, &Path)]) -> Result<Programs> {
        let vars: HashMap<_, _> = vars.iter().copied().collect();
        let get = |name: &str| vars.get(name).map(|p| p.as_os_str().to_owned());
        Programs::find(layout, build, &get)
    }

    const TOOLS: [&str; 4] = [
        "qemu-img",
        "qemu-io",
        "qemu-nbd",
        "storage-daemon/qemu-storage-daemon",
    ];

    #[test]
    fn what_does_not_answer_has_no_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qemu-img");
        program(&path);
        std::fs::write(&path, "#!/bin/sh\nsleep 1000 & wait\n").unwrap();
        let err = ask(&path, &["--version"], Duration::from_millis(50)).unwrap_err();
        assert!(err.to_string().contains("--version: timed out"), "{err}");
    }

    #[test]
    fn programs_come_from_the_build_root() {
        let root = tempfile::tempdir().unwrap();
        let build = root.path().join("tests/qemu-iotests");
        for tool in TOOLS {
            program(&root.path().join(tool));
        }
        let vars = [("PATH", Path::new("/nowhere"))];
        let err = find(Layout::Qemu, &build, &vars).unwrap_err().to_string();
        assert!(err.starts_with("Not found any Qemu executable"), "{err}");
        program(&root.path().join("qemu-system-zzz"));
        program(&root.path().join("qemu-system-aaa"));
        let found = find(Layout::Qemu, &build, &vars).unwrap();
        let qemu = found.qemu.unwrap();
        assert_eq!(qemu.path, root.path().join("qemu-system-aaa"));
        assert_eq!(qemu.origin, Origin::Build);
        let own = root.path().join(format!("qemu-system-{}", machine()));
        program(&own);
        let found = find(Layout::Qemu, &build, &vars).unwrap();
        assert_eq!(found.qemu.unwrap().path, own);
        let img = root.path().join("qemu-img");
        std::fs::set_permissions(&img, PermissionsExt::from_mode(0o644)).unwrap();
        let err = find(Layout::Qemu, &build, &vars).unwrap_err().to_string();
        assert_eq!(
            err,
            format!("Not executable: {} (QEMU_IMG_PROG)", img.display())
        );
        std::fs::remove_file(&img).unwrap();
        let err = find(Layout::Ours, &build, &vars).unwrap_err().to_string();
        assert_eq!(
            err,
            format!("No such file: {} (QEMU_IMG_PROG)", img.display())
        );
    }

    #[test]
    fn without_a_build_tree_they_are_installed_or_named() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        let build = root.path().join("a/b/c");
        for tool in ["qemu-io", "qemu-nbd", "qemu-storage-daemon"] {
            program(&bin.join(tool));
        }
        let vars = [("PATH", bin.as_path())];
        let err = find(Layout::Ours, &build, &vars).unwrap_err().to_string();
        assert!(err.starts_with("qemu-img is not installed"), "{err}");
        let img = root.path().join("my-img");
        program(&img);
        let vars = [vars[0], ("QEMU_IMG_PROG", img.as_path())];
        let found = find(Layout::Ours, &build, &vars).unwrap();
        assert_eq!(found.qemu, None);
        assert_eq!(
            found.origins(),
            "missing: emulator; QEMU_IMG_PROG: qemu-img; \
             PATH: qemu-io qemu-nbd qemu-storage-daemon"
        );
        let err = find(Layout::Qemu, &build, &vars).unwrap_err().to_string();
        assert!(err.starts_with("no emulator is installed"), "{err}");
        std::fs::remove_file(bin.join("qemu-storage-daemon")).unwrap();
        let found = find(Layout::Ours, &build, &vars).unwrap();
        assert_eq!(
            found.origins(),
            "missing: emulator qemu-storage-daemon; QEMU_IMG_PROG: qemu-img; \
             PATH: qemu-io qemu-nbd"
        );
        program(&bin.join("qemu-system-x86_64"));
        let err = find(Layout::Qemu, &build, &vars).unwrap_err().to_string();
        assert!(
            err.starts_with("qemu-storage-daemon is not installed"),
            "{err}"
        );
        let vars = [vars[0], ("QSD_PROG", Path::new("/no/qsd"))];
        let err = find(
            Layout::Ours,
            &build,
            &[vars[1], vars[0], ("QEMU_IMG_PROG", &img)],
        );
        assert_eq!(
            err.unwrap_err().to_string(),
            "No such file: /no/qsd (QSD_PROG)"
        );
    }

    #[test]
    fn the_default_machine_goes_by_its_alias() {
        let list = "Supported machines are:\n\
            pc                   Standard PC (alias of pc-i440fx-10.0)\n\
            pc-i440fx-10.0       Standard PC (default)\n\
            none                 empty machine\n";
        assert_eq!(parse_machines(list), "pc");
        assert_eq!(parse_machines("virt  x (default)\n"), "virt");
        assert_eq!(parse_machines("virt  x\n"), "");
    }
}
