//! What a test finds in its environment, and the header that shows it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};
use rand::RngExt as _;

use crate::args::LowArgs;
use crate::model::{Combo, HeaderLine};
use crate::packages::distribution;
use crate::programs::{Programs, Vars, default_machine, installed};
use crate::tree::{Layout, Tree, sets_python_warnings};

/// Where gdbserver listens unless `GDB_OPTIONS` says otherwise.
const GDB_OPTIONS: &str = "localhost:12345";

/// The variable that tells tests of a debugger that is not gdbserver.
const DEBUGGER_VARIABLE: &str = "CHECK_DEBUGGER";

/// A program that is not there: tests look for one that no variable names in `PATH`.
const NO_PROGRAM: &str = "/nonexistent";

/// Formats that images cannot be created in by every test.
const NOT_GENERIC: [&str; 4] = ["bochs", "cloop", "dmg", "vvfat"];

/// Machines of emulators without a usable default, by what their names end in.
const MACHINES: [(&str, &str); 11] = [
    ("arm", "virt"),
    ("aarch64", "virt"),
    ("avr", "mega2560"),
    ("m68k", "virt"),
    ("or1k", "virt"),
    ("riscv32", "virt"),
    ("riscv64", "virt"),
    ("rx", "gdbsim-r5f562n8"),
    ("sh4", "r2d"),
    ("sh4eb", "r2d"),
    ("tricore", "tricore_testboard"),
];

/// The environment of the tests of one run.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The programs under test.
    pub programs: Programs,
    /// The emulator's default machine; empty where there is none.
    pub machine: String,
    /// What Python tests are run by.
    pub python: PathBuf,
    /// `TEST_DIR`, absolute.
    pub test_dir: PathBuf,
    layout: Layout,
    /// Whether the programs are those of a folder, and no others.
    in_folder: bool,
    misalign: bool,
    /// Whether no cache mode was asked for.
    default_cache: bool,
    /// The caller's variables with those of the run put in.
    common: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// Makes the environment that the arguments and the caller's variables ask
    /// for, with the programs in the folder `qemu`; where that is empty, with those that the
    /// variables name.
    ///
    /// # Errors
    ///
    /// A program is missing, or the emulator does not list its machines.
    pub fn new(
        tree: &Tree,
        args: &LowArgs,
        qemu: &str,
        cwd: &Path,
        vars: Vars<'_>,
    ) -> Result<Self> {
        let programs = match qemu {
            "" => Programs::find(tree.layout, &tree.build, vars)?,
            folder => Programs::in_folder(tree.layout, Path::new(folder))?,
        };
        let machine = match &programs.qemu {
            Some(qemu) => default_machine(&qemu.path)?,
            None => String::new(),
        };
        let mut env = Self {
            python: python(tree.layout, vars),
            test_dir: test_dir(cwd, vars),
            layout: tree.layout,
            in_folder: !qemu.is_empty(),
            misalign: args.misalign,
            default_cache: args.cache.is_none() && args.caches.is_empty(),
            common: std::env::vars_os().collect(),
            programs,
            machine,
        };
        env.put_directories(tree, vars)?;
        env.put_programs();
        env.put_switches(args, vars);
        Ok(env)
    }

    fn put(&mut self, name: &str, value: impl Into<OsString>) {
        self.common.insert(name.into(), value.into());
    }

    fn get(&self, name: &str) -> Option<&OsStr> {
        self.common.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    fn put_directories(&mut self, tree: &Tree, vars: Vars<'_>) -> Result<()> {
        let mut python_path = vec![tree.source.clone()];
        if self.layout == Layout::Qemu {
            let top = tree.source.join("../..");
            let library = top.canonicalize().unwrap_or(top).join("python");
            python_path.push(library.canonicalize().unwrap_or(library));
            // Then Python tests show their warnings, which their references hold.
            if sets_python_warnings(&tree.source) {
                self.put("PYTHONWARNINGS", "default");
            }
        }
        let callers = vars("PYTHONPATH").unwrap_or_default();
        python_path.extend(std::env::split_paths(&callers).filter(|p| !p.as_os_str().is_empty()));
        let python_path = std::env::join_paths(python_path)
            .with_context(|| format!("PYTHONPATH: {}", tree.source.display()))?;
        self.put("PYTHONPATH", python_path);
        let samples = vars("SAMPLE_IMG_DIR")
            .unwrap_or_else(|| tree.source.join("sample_images").into_os_string());
        self.put("SAMPLE_IMG_DIR", samples);
        self.put("PYTHON", self.python.clone());
        Ok(())
    }

    fn put_programs(&mut self) {
        let programs = self.programs.clone();
        self.put("QEMU_IMG_PROG", programs.img.path);
        self.put("QEMU_IO_PROG", programs.io.path);
        self.put("QEMU_NBD_PROG", programs.nbd.path);
        if let Some(qsd) = programs.qsd {
            self.put("QSD_PROG", qsd.path);
        } else if self.in_folder {
            self.put("QSD_PROG", NO_PROGRAM);
        }
        let mut options = "-nodefaults -display none -accel qtest".to_owned();
        if let Some(qemu) = programs.qemu {
            if let Some(machine) = needed_machine(&qemu.path) {
                options = format!("{options} -machine {machine}");
            }
            self.put("QEMU_PROG", qemu.path);
        } else if self.in_folder {
            self.put("QEMU_PROG", NO_PROGRAM);
        }
        self.put("QEMU_OPTIONS", options);
        self.put("QEMU_DEFAULT_MACHINE", self.machine.clone());
    }

    fn put_switches(&mut self, args: &LowArgs, vars: Vars<'_>) {
        if args.gdb {
            let options = vars("GDB_OPTIONS").filter(|o| !o.is_empty());
            self.put("GDB_OPTIONS", options.unwrap_or(GDB_OPTIONS.into()));
        } else {
            self.common.remove(OsStr::new("GDB_OPTIONS"));
        }
        // Time-outs inside tests are lifted for a person.
        if args.debugger.is_some() {
            self.put(DEBUGGER_VARIABLE, "y");
        } else {
            self.common.remove(OsStr::new(DEBUGGER_VARIABLE));
        }
        if args.valgrind {
            self.put("VALGRIND_QEMU", "y");
        }
        if args.print {
            self.put("PRINT_QEMU", "y");
        }
        if let Some(options) = &args.options {
            // Also where they are empty, so that the caller's are not used.
            self.put("IMGOPTS", options);
        }
        let is_default = if self.default_cache { "true" } else { "false" };
        self.put("CACHEMODE_IS_DEFAULT", is_default);
        let perturb = vars("MALLOC_PERTURB_").unwrap_or_else(|| {
            let byte: u8 = rand::rng().random_range(1..=254);
            byte.to_string().into()
        });
        self.put("MALLOC_PERTURB_", perturb);
    }

    /// Every variable of a test that runs under `combo`, with its own
    /// directories; nothing else is inherited.
    #[must_use]
    pub fn of(&self, combo: &Combo, test_dir: &Path, sock_dir: &Path) -> Vec<(OsString, OsString)> {
        let mut vars = self.common.clone();
        let mut put = |name: &str, value: &dyn AsRef<OsStr>| {
            vars.insert(name.into(), value.as_ref().to_owned());
        };
        put("TEST_DIR", &test_dir);
        put("SOCK_DIR", &sock_dir);
        put("IMGFMT", &combo.format);
        put("IMGPROTO", &combo.protocol);
        put("CACHEMODE", &combo.cache);
        put("AIOMODE", &combo.aio);
        put("QEMU_IO_OPTIONS", &self.io_options(combo, true));
        put("QEMU_IO_OPTIONS_NO_FMT", &self.io_options(combo, false));
        let generic = !NOT_GENERIC.contains(&combo.format.as_str());
        put("IMGFMT_GENERIC", &if generic { "true" } else { "false" });
        let luks = combo.format == "luks";
        put("IMGOPTSSYNTAX", &if luks { "true" } else { "false" });
        if luks {
            put("IMGKEYSECRET", &"123456");
        }
        if !combo.options.is_empty() {
            put("IMGOPTS", &combo.options);
        }
        vars.into_iter().collect()
    }

    /// The options of `qemu-io` under `combo`; `-f FMT` where a format can be
    /// given so.
    fn io_options(&self, combo: &Combo, with_format: bool) -> String {
        let mut options = format!("--cache {} --aio {}", combo.cache, combo.aio);
        if self.misalign {
            options.push_str(" --misalign");
        }
        if with_format && combo.format != "luks" {
            options = format!("{options} -f {}", combo.format);
        }
        options
    }

    /// The header of a run over `combos`.
    #[must_use]
    pub fn header(&self, combos: &[Arc<Combo>], sock_dir: &Path) -> Vec<HeaderLine> {
        let var = |name: &str| {
            let value = self.get(name).unwrap_or_default();
            value.to_string_lossy().into_owned()
        };
        let program = |path: &str, options: &str| format!("\"{}\" {}", var(path), options);
        // One value where all combinations agree, else each.
        let each = |of: &dyn Fn(&Combo) -> String| {
            let mut values: Vec<String> = Vec::new();
            for combo in combos {
                let value = of(combo);
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            values.join(", ")
        };
        let formats = each(&|c| c.format.clone());
        let io_options = match formats.contains(", ") {
            // Nine formats would repeat all of them nine times.
            true => each(&|c| self.io_options(c, false)) + " [-f IMGFMT]",
            false => each(&|c| self.io_options(c, true)),
        };
        let format = |c: &Combo| match c.options.as_str() {
            "" => c.format.clone(),
            options => format!("{} ({options})", c.format),
        };
        let mut lines = vec![
            ("QEMU", program("QEMU_PROG", &var("QEMU_OPTIONS"))),
            (
                "QEMU_IMG",
                program("QEMU_IMG_PROG", &var("QEMU_IMG_OPTIONS")),
            ),
            ("QEMU_IO", program("QEMU_IO_PROG", &io_options)),
            (
                "QEMU_NBD",
                program("QEMU_NBD_PROG", &var("QEMU_NBD_OPTIONS")),
            ),
            ("IMGFMT", each(&format)),
            ("IMGPROTO", each(&|c| c.protocol.clone())),
            ("PLATFORM", platform()),
            ("TEST_DIR", self.test_dir.display().to_string()),
            ("SOCK_DIR", sock_dir.display().to_string()),
            ("GDB_OPTIONS", var("GDB_OPTIONS")),
            ("VALGRIND_QEMU", var("VALGRIND_QEMU")),
            ("PRINT_QEMU_OUTPUT", var("PRINT_QEMU")),
        ];
        if self.programs.qemu.is_none() {
            lines[0].1 = "none: tests that need an emulator are not run".to_owned();
        }
        let lines = lines.into_iter();
        let mut lines: Vec<_> = lines
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        // QEMU's own build is the rule in its tree, and goes without saying.
        if self.layout == Layout::Ours || self.programs.any_installed() {
            lines.push(("PROGRAMS".to_owned(), self.programs.origins()));
        }
        let mut known = self.programs.identity();
        known.extend(distribution().map(|name| ("DISTRIBUTION", name)));
        lines.extend(
            known
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        lines
    }
}

/// The caller's `TEST_DIR`, else `scratch` in the current directory.
#[must_use]
pub fn test_dir(cwd: &Path, vars: Vars<'_>) -> PathBuf {
    match vars("TEST_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => cwd.join(dir),
        None => cwd.join("scratch"),
    }
}

/// The caller's `SOCK_DIR`, where it names one.
#[must_use]
pub fn sock_dir(cwd: &Path, vars: Vars<'_>) -> Option<PathBuf> {
    let dir = vars("SOCK_DIR").filter(|dir| !dir.is_empty())?;
    Some(cwd.join(dir))
}

/// What Python tests are run by: the caller's `PYTHON`, else the one in `PATH`. A
/// script there chooses one at every start; in QEMU's layout, where most tests are
/// in Python, the one it chooses is started directly.
fn python(layout: Layout, vars: Vars<'_>) -> PathBuf {
    if let Some(python) = vars("PYTHON").filter(|p| !p.is_empty()) {
        return python.into();
    }
    let path = vars("PATH").unwrap_or_default();
    let found = installed(OsStr::new("python3"), &path).unwrap_or_else(|| "python3".into());
    match layout {
        Layout::Qemu if is_script(&found) => chosen_by(&found).unwrap_or(found),
        _ => found,
    }
}

fn is_script(file: &Path) -> bool {
    let mut start = [0; 2];
    std::fs::File::open(file).is_ok_and(|mut f| f.read_exact(&mut start).is_ok()) && start == *b"#!"
}

/// The Python that a script stands for, as it says itself.
fn chosen_by(script: &Path) -> Option<PathBuf> {
    let mut python = Command::new(script);
    python.args(["-c", "import sys; print(sys.executable, end='')"]);
    let said = python.stdin(Stdio::null()).output().ok()?;
    let chosen = PathBuf::from(OsString::from_vec(said.stdout));
    (said.status.success() && chosen.is_absolute() && chosen.is_file()).then_some(chosen)
}

/// The machine that an emulator without a usable default is given.
fn needed_machine(qemu: &Path) -> Option<&'static str> {
    let name = qemu.file_name()?.to_str()?;
    let target = name.rsplit_once("qemu-system-")?.1;
    let (_, machine) = MACHINES.iter().find(|(t, _)| *t == target)?;
    Some(machine)
}

/// `Linux/x86_64 HOST RELEASE`.
fn platform() -> String {
    let Ok(uname) = nix::sys::utsname::uname() else {
        return std::env::consts::OS.to_owned();
    };
    let [system, machine, node, release] = [
        uname.sysname(),
        uname.machine(),
        uname.nodename(),
        uname.release(),
    ]
    .map(OsStr::to_string_lossy);
    format!("{system}/{machine} {node} {release}")
}

/// This host's name; empty where it has none.
#[must_use]
pub fn host() -> String {
    let uname = nix::sys::utsname::uname();
    uname.map_or_else(
        |_| String::new(),
        |u| u.nodename().to_string_lossy().into_owned(),
    )
}
