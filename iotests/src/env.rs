//! The environment of a test: format, protocol, directories, programs.
//!
//! A runner passes everything in environment variables. A test that is started by
//! hand gets defaults: raw images in `./scratch`, the programs in PATH.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// The programs under test. Those that are not there are `None`.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// `qemu-img` (`QEMU_IMG_PROG`).
    pub img: Option<PathBuf>,
    /// `qemu-io` (`QEMU_IO_PROG`).
    pub io: Option<PathBuf>,
    /// `qemu-nbd` (`QEMU_NBD_PROG`).
    pub nbd: Option<PathBuf>,
    /// `qemu-storage-daemon` (`QSD_PROG`).
    pub qsd: Option<PathBuf>,
    /// The emulator (`QEMU_PROG`).
    pub qemu: Option<PathBuf>,
}

/// Which kinds of programs run under valgrind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Valgrind {
    /// The emulator.
    pub vm: bool,
    /// `qemu-img`.
    pub img: bool,
    /// `qemu-io`.
    pub io: bool,
    /// `qemu-nbd`.
    pub nbd: bool,
    /// `qemu-storage-daemon`.
    pub qsd: bool,
}

impl Valgrind {
    /// Whether anything runs under valgrind, so that timeouts are lifted.
    #[must_use]
    pub fn any(self) -> bool {
        self.vm || self.img || self.io || self.nbd || self.qsd
    }
}

/// The environment of one run of one test.
#[derive(Debug, Clone)]
pub struct Env {
    /// Image format (`IMGFMT`), such as `qcow2`.
    pub format: String,
    /// Protocol (`IMGPROTO`): `file`, `nbd`, `fuse`, `ssh`.
    pub protocol: String,
    /// Creation options every image of the format gets (`IMGOPTS`).
    pub imgopts: String,
    /// Cache mode (`CACHEMODE`).
    pub cache: String,
    /// Whether the cache mode is the default one (`CACHEMODE_IS_DEFAULT`).
    pub cache_is_default: bool,
    /// Aio mode (`AIOMODE`).
    pub aio: String,
    /// The directory of the test's files (`TEST_DIR`), absolute.
    pub test_dir: PathBuf,
    /// The directory of its sockets (`SOCK_DIR`), absolute.
    pub sock_dir: PathBuf,
    /// Where tests of one run keep what they have found out about the machine
    /// (`CHECK_FOUND_DIR`), if anywhere.
    pub found_dir: Option<PathBuf>,
    /// Sample images (`SAMPLE_IMG_DIR`), where there are any.
    pub sample_dir: Option<PathBuf>,
    /// The kernel and the initramfs of the guest (`GUEST_DIR`), absolute; they may not be
    /// there.
    pub guest_dir: PathBuf,
    /// The programs.
    pub programs: Programs,
    /// Options for `qemu-img` (`QEMU_IMG_OPTIONS`).
    pub img_options: Vec<String>,
    /// Options for `qemu-nbd` (`QEMU_NBD_OPTIONS`).
    pub nbd_options: Vec<String>,
    /// Options for the emulator (`QEMU_OPTIONS`).
    pub qemu_options: Vec<String>,
    /// Options for `qemu-io` without a format (`QEMU_IO_OPTIONS_NO_FMT`).
    pub io_options: Vec<String>,
    /// The pass phrase of encrypted images (`IMGKEYSECRET`).
    pub key_secret: String,
    /// What runs under valgrind (`VALGRIND_QEMU` and its relatives).
    pub valgrind: Valgrind,
    /// Options for gdbserver (`GDB_OPTIONS`), where the emulator and the storage
    /// daemon run under it.
    pub gdb: Option<Vec<String>>,
    /// Whether a person has one of the programs in a debugger (`CHECK_DEBUGGER`), without
    /// anything in between.
    pub debugger: bool,
    /// Whether the programs' own output is shown (`PRINT_QEMU`).
    pub print_qemu: bool,
    /// Whether to print every command line in full on stderr (`-d`).
    pub debug: bool,
}

impl Env {
    /// Reads the process's own environment.
    ///
    /// # Errors
    ///
    /// Fails if the current directory is needed and not there, or a value is not
    /// UTF-8.
    pub fn from_process(debug: bool) -> Result<Self> {
        Self::from_lookup(|name| std::env::var_os(name), debug)
    }

    /// Reads an environment given as a function from name to value.
    ///
    /// # Errors
    ///
    /// Fails as [`Env::from_process`] does.
    pub fn from_lookup(get: impl Fn(&str) -> Option<OsString>, debug: bool) -> Result<Self> {
        let text = |name: &str| -> Result<Option<String>> {
            match get(name) {
                None => Ok(None),
                Some(v) => match v.into_string() {
                    Ok(s) => Ok(Some(s)),
                    Err(_) => bail!("environment variable {name} is not UTF-8"),
                },
            }
        };
        let or = |name: &str, default: &str| -> Result<String> {
            Ok(text(name)?
                .filter(|v| !v.is_empty())
                .unwrap_or_else(|| default.to_owned()))
        };
        let words = |name: &str| -> Result<Vec<String>> {
            Ok(text(name)?
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect())
        };
        let format = or("IMGFMT", "raw")?;
        let cache = or("CACHEMODE", "writeback")?;
        let aio = or("AIOMODE", "threads")?;
        let io_options = match text("QEMU_IO_OPTIONS_NO_FMT")? {
            Some(v) => v.split_whitespace().map(str::to_owned).collect(),
            None => ["--cache", &cache, "--aio", &aio]
                .map(str::to_owned)
                .to_vec(),
        };
        let path = get("PATH").unwrap_or_default();
        let cwd = std::env::current_dir().unwrap_or_default();
        let program = |var: &str, name: &str| {
            let named = get(var).filter(|v| !v.is_empty());
            which::which_in(named.unwrap_or_else(|| name.into()), Some(&path), &cwd).ok()
        };
        let machine = format!("qemu-system-{}", std::env::consts::ARCH);
        let all = text("VALGRIND_QEMU")?.unwrap_or_default();
        let under =
            |name: &str| -> Result<bool> { Ok(text(name)?.as_deref().unwrap_or(&all) == "y") };
        let test_dir = absolute(&get("TEST_DIR").unwrap_or_else(|| "scratch".into()))?;
        let sock_dir = match get("SOCK_DIR") {
            Some(dir) => absolute(&dir)?,
            None => test_dir.clone(),
        };
        Ok(Self {
            imgopts: match text("IMGOPTS")? {
                Some(v) => v,
                None => default_options(&format).to_owned(),
            },
            protocol: or("IMGPROTO", "file")?,
            cache_is_default: match text("CACHEMODE_IS_DEFAULT")? {
                Some(v) => v == "true",
                None => cache == "writeback",
            },
            found_dir: get("CHECK_FOUND_DIR")
                .filter(|v| !v.is_empty())
                .map(PathBuf::from),
            sample_dir: get("SAMPLE_IMG_DIR").map(PathBuf::from),
            guest_dir: match get("GUEST_DIR").filter(|v| !v.is_empty()) {
                Some(dir) => absolute(&dir)?,
                None => beside_builds("guest"),
            },
            programs: Programs {
                img: program("QEMU_IMG_PROG", "qemu-img"),
                io: program("QEMU_IO_PROG", "qemu-io"),
                nbd: program("QEMU_NBD_PROG", "qemu-nbd"),
                qsd: program("QSD_PROG", "qemu-storage-daemon"),
                qemu: program("QEMU_PROG", &machine),
            },
            img_options: words("QEMU_IMG_OPTIONS")?,
            nbd_options: words("QEMU_NBD_OPTIONS")?,
            qemu_options: words("QEMU_OPTIONS")?,
            key_secret: or("IMGKEYSECRET", "123456")?,
            valgrind: Valgrind {
                vm: under("VALGRIND_QEMU_VM")?,
                img: under("VALGRIND_QEMU_IMG")?,
                io: under("VALGRIND_QEMU_IO")?,
                nbd: under("VALGRIND_QEMU_NBD")?,
                qsd: under("VALGRIND_QSD")?,
            },
            gdb: text("GDB_OPTIONS")?
                .filter(|v| !v.trim().is_empty())
                .map(|v| v.split_whitespace().map(str::to_owned).collect()),
            debugger: text("CHECK_DEBUGGER")?.is_some_and(|v| !v.is_empty()),
            print_qemu: text("PRINT_QEMU")?.is_some_and(|v| !v.is_empty()),
            format,
            cache,
            aio,
            test_dir,
            sock_dir,
            io_options,
            debug,
        })
    }

    /// Whether timeouts inside the test are lifted: a person at a debugger, or
    /// the slowness of valgrind, is not a hang.
    #[must_use]
    pub fn no_timeouts(&self) -> bool {
        self.wrapped() || self.debugger
    }

    /// Whether programs run under another one: gdbserver, valgrind.
    #[must_use]
    pub fn wrapped(&self) -> bool {
        self.gdb.is_some() || self.valgrind.any()
    }

    /// Where the ssh agent of a test listens (`SSH_AUTH_SOCK`).
    #[must_use]
    pub fn ssh_agent_socket(&self) -> PathBuf {
        self.sock_dir.join("ssh-agent")
    }

    /// The value of `key` in `IMGOPTS`; an empty string for a key without one.
    #[must_use]
    pub fn imgopt(&self, key: &str) -> Option<&str> {
        self.imgopts
            .split(',')
            .map(|o| o.split_once('=').unwrap_or((o, "")))
            .filter(|(k, _)| *k == key)
            .map(|(_, v)| v)
            .next_back()
    }
}

/// The creation options a runner would add for this format.
fn default_options(format: &str) -> &'static str {
    match format {
        "luks" => "iter-time=10",
        "vmdk" => "zeroed_grain=on",
        _ => "",
    }
}

/// A folder beside those of the builds: `target/NAME` for a program in `target/PROFILE`.
fn beside_builds(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.parent().and_then(std::path::Path::parent);
    target.unwrap_or(&program).join(name)
}

/// The absolute path of a directory whose name can stand in JSON.
fn absolute(dir: &std::ffi::OsStr) -> Result<PathBuf> {
    let path = std::path::absolute(dir)
        .with_context(|| format!("failed to make {} an absolute path", dir.display()))?;
    if path.to_str().is_none() {
        bail!(
            "the directory {} is not UTF-8, as names in JSON have to be; use another one, or the \
             runner, which gives tests a link to it",
            path.display()
        );
    }
    Ok(path)
}

/// The environment that these variables make, and nothing of the process's own.
#[cfg(test)]
pub(crate) fn of(vars: &[(&str, &str)]) -> Env {
    let get = |name: &str| {
        vars.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| OsString::from(v))
    };
    Env::from_lookup(get, false).expect("a good environment")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::of as env;

    #[test]
    fn defaults_are_raw_files_without_wrappers() {
        let e = env(&[]);
        assert_eq!((e.format.as_str(), e.protocol.as_str()), ("raw", "file"));
        assert_eq!(e.io_options, ["--cache", "writeback", "--aio", "threads"]);
        assert!(!e.no_timeouts() && e.gdb.is_none());
        assert!(e.test_dir.is_absolute());
    }

    #[test]
    fn formats_bring_their_own_options_unless_told() {
        assert_eq!(env(&[("IMGFMT", "luks")]).imgopts, "iter-time=10");
        assert_eq!(env(&[("IMGFMT", "vmdk"), ("IMGOPTS", "")]).imgopts, "");
        let e = env(&[("IMGOPTS", "compat=0.10,cluster_size=4k,compat=1.1")]);
        assert_eq!(e.imgopt("compat"), Some("1.1"));
        assert_eq!(e.imgopt("size"), None);
    }

    #[test]
    fn a_directory_that_json_cannot_name_is_refused() {
        use std::os::unix::ffi::OsStringExt as _;
        let get = |name: &str| (name == "TEST_DIR").then(|| OsString::from_vec(b"/\xff".into()));
        let error = super::Env::from_lookup(get, false).unwrap_err().to_string();
        assert!(error.contains("not UTF-8"), "{error}");
    }

    #[test]
    fn an_empty_switch_leaves_one_kind_out_of_valgrind() {
        let e = env(&[("VALGRIND_QEMU", "y"), ("VALGRIND_QEMU_IO", "")]);
        assert!(e.valgrind.img && e.valgrind.qsd && !e.valgrind.io);
        assert!(e.no_timeouts());
        assert!(!env(&[("VALGRIND_QEMU_IMG", "n")]).valgrind.any());
    }

    #[test]
    fn gdb_options_count_only_when_not_empty() {
        assert!(env(&[("GDB_OPTIONS", "")]).gdb.is_none());
        assert_eq!(
            env(&[("GDB_OPTIONS", "localhost:1 -x")])
                .gdb
                .map(|g| g.len()),
            Some(2)
        );
    }
}
