//! What a program under test may reach: its scratch folder, the system's programs and
//! libraries to read, and nothing else; no network.
//!
//! Two mechanisms, each used where it is there. Landlock (landlock(7)) bounds the file
//! system. Name spaces (namespaces(7)) take away the network and other processes, and end
//! whatever is left inside when their first process ends. Neither needs root, though some
//! systems forbid user name spaces to others. What could not be had is said, never hidden.
//!
//! Some programs make files in `/tmp` whatever `TMPDIR` says. Where there are name spaces
//! for mounts, the scratch folder is there in its place.
//!
//! One thing neither bounds: a program may connect to a UNIX socket that has a path, such as
//! that of a daemon in `/run`, if the user who runs the fuzzer may. Images can name such
//! paths (`nbd+unix:`), but those that are made here name the canary's socket alone.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

pub use super::launch::landlock_version;

/// The newest version of Landlock whose rights are asked for; older kernels give fewer.
const NEWEST: ABI = ABI::V6;

/// Folders and files that programs read: themselves, their libraries, their settings.
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

/// Devices without a store behind them.
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// What of the network Landlock is to take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Nothing: a name space of its own does.
    Kept,
    /// Binding and connecting over TCP.
    NoTcp,
}

/// Paths beyond the system's own that a program may reach.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// To read and execute.
    pub read: Vec<PathBuf>,
    /// To read and write, but not to execute.
    pub write: Vec<PathBuf>,
}

/// A Landlock ruleset, not yet in force; `None` where the kernel has no Landlock.
///
/// # Errors
///
/// The kernel refuses a rule. Paths that are not there need no rule, and get none.
pub fn ruleset(reach: &Reach, network: Network) -> Result<Option<OwnedFd>, RulesetError> {
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
    for path in &reach.read {
        rules = allow(rules, path, read)?;
    }
    for path in &reach.write {
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
    // A rule on a file takes only the rights that a file can give.
    let access = if kind.is_dir() {
        access
    } else {
        access & AccessFs::from_file(NEWEST)
    };
    rules.add_rule(PathBeneath::new(fd, access))
}
