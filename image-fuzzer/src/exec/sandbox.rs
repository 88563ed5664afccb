//! What a program under test may access: its scratch folder, the system's programs and
//! libraries to read, and nothing else; no network.
//!
//! Two mechanisms, each used where it is available. Landlock (landlock(7)) restricts access to
//! files. Namespaces (namespaces(7)) hide the network and other processes, and kill all
//! processes inside when their first one ends. Neither needs root, though some systems allow
//! user namespaces to root alone. What is not available is reported.
//!
//! Some programs create files in `/tmp` whatever `TMPDIR` says. Where there are mount
//! namespaces, the scratch folder is mounted there.
//!
//! Neither restricts UNIX sockets that have a path: a program may connect to a daemon in
//! `/run` if the user who runs the fuzzer may. Images can name such paths (`nbd+unix:`), but
//! those of the fuzzer name the canary's socket alone.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

pub use super::launch::landlock_version;

/// The newest version of Landlock whose rights are requested; older kernels know fewer.
const NEWEST: ABI = ABI::V6;

/// Folders and files that programs read: executables, libraries, configuration.
/// Not the whole of `/etc`, where `passwd` is.
const READABLE: [&str; 20] = [
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/gnutls",
    "/etc/ssl",
    "/etc/crypto-policies",
    "/etc/qemu",
    "/etc/gdb",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/proc",
    "/sys/devices/system",
];

/// Devices that store nothing.
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// Which access to the network Landlock is to deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// None: there is a network namespace.
    Kept,
    /// Binding and connecting over TCP.
    NoTcp,
}

/// Paths besides those of the system that a program may access.
#[derive(Debug, Clone, Default)]
pub struct AllowedPaths {
    /// To read and execute.
    pub read: Vec<PathBuf>,
    /// To read and write, but not to execute.
    pub write: Vec<PathBuf>,
}

/// A Landlock ruleset, not yet enforced; `None` where the kernel has no Landlock.
///
/// # Errors
///
/// The kernel rejects a rule. Paths that do not exist need none.
pub fn ruleset(paths: &AllowedPaths, network: Network) -> Result<Option<OwnedFd>, RulesetError> {
    if landlock_version() == 0 {
        return Ok(None);
    }
    let all = AccessFs::from_all(NEWEST);
    let read = AccessFs::from_read(NEWEST);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::from_all(NEWEST))?;
    if network == Network::NoTcp {
        rules = rules.handle_access(AccessNet::from_all(NEWEST))?;
    }
    let mut rules = rules.create()?;
    for path in READABLE.iter().map(Path::new) {
        rules = allow(rules, path, read)?;
    }
    for path in DEVICES.iter().map(Path::new) {
        rules = allow(rules, path, AccessFs::ReadFile | AccessFs::WriteFile)?;
    }
    for path in &paths.read {
        rules = allow(rules, path, read)?;
    }
    for path in &paths.write {
        rules = allow(rules, path, all & !AccessFs::Execute)?;
    }
    Ok(rules.into())
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let (Ok(fd), Ok(kind)) = (PathFd::new(path), std::fs::metadata(path)) else {
        return Ok(rules);
    };
    // A rule for a file may only have the rights that apply to files.
    let access = if kind.is_dir() {
        access
    } else {
        access & AccessFs::from_file(NEWEST)
    };
    rules.add_rule(PathBeneath::new(fd, access))
}
