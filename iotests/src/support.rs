//! Whether a test can run here, decided before anything is made.

use std::path::Path;

use testdecl::{Decl, Need};

use crate::env::Env;
use crate::machine::MACHINE;
use crate::probe::Probes;
use crate::protocol::FIXED_FILE_FORMATS;

/// Formats that images can be made of.
pub const GENERIC_FORMATS: [&str; 10] = [
    "raw",
    "qcow2",
    "qcow",
    "qed",
    "vdi",
    "vpc",
    "vhdx",
    "vmdk",
    "parallels",
    "luks",
];

/// Protocols this library reaches images by.
pub const PROTOCOLS: [&str; 4] = ["file", "nbd", "fuse", "ssh"];

/// Why a plain word of `needs:` is not met: `reason`, where nothing more is known.
fn lack(need: Need, reason: &str, e: &Env, p: &Probes) -> Option<String> {
    let met = match need {
        Need::QemuImg => e.programs.img.is_some(),
        Need::QemuIo => e.programs.io.is_some(),
        Need::QemuNbd => e.programs.nbd.is_some(),
        Need::QemuStorageDaemon => e.programs.qsd.is_some(),
        Need::QemuSystem => e.programs.qemu.is_some(),
        Need::Qtest => p.has_machine(e, "pc"),
        Need::Guest => return guest_lacks(e, p),
        Need::Fuse => return p.fuse_lacks(e),
        Need::Backing => has_backing(&e.format),
        Need::Snapshots => e.format == "qcow2",
        Need::Check => has_check(&e.format),
        Need::Resize => has_resize(e, p),
        Need::Growing => has_growing(e, p),
        // Files behind ssh are what they were opened as, and only grow.
        Need::Shrinking | Need::Reopen => e.protocol != "ssh",
        Need::Rebase => has_rebase(&e.format),
        Need::Discard => has_discard(&e.format),
        Need::Compress => matches!(e.format.as_str(), "qcow2" | "qcow"),
        Need::Bitmaps => has_bitmaps(e, p),
        Need::Zstd => p.has_compression(e, "zstd"),
        Need::ExtendedL2 => p.has_option(e, "qcow2", "extended_l2"),
        Need::DataFile => p.has_option(e, "qcow2", "data_file"),
        Need::Luks => return p.luks_lacks(e),
        Need::Ssh => return crate::ssh::lacks(e, p),
        Need::Tls => return p.tls_lacks(e),
        Need::Gdb => which::which("gdb").is_ok(),
        Need::Sparse => sparse_files(&e.test_dir),
        Need::NotWrapped => !e.wrapped(),
    };
    (!met).then(|| reason.to_owned())
}

/// The reason why the test cannot run in this environment; `None` where it can.
#[must_use]
pub fn not_run(decl: &Decl, env: &Env, probes: &Probes) -> Option<String> {
    declared(decl, env)
        .or_else(|| protocol(env, probes))
        .or_else(|| {
            if env.programs.img.is_none() {
                return Some("qemu-img is not installed".to_owned());
            }
            if env.format == "luks" {
                return probes.luks_lacks(env);
            }
            (!probes.has_driver(env, &env.format))
                .then(|| format!("qemu-img has no driver for {}", env.format))
        })
        .or_else(|| decl.all("needs").find_map(|word| need(word, env, probes)))
        .or_else(|| probes.modes_lack(env))
        .or_else(|| room(decl, env))
        .or_else(|| {
            let root = decl.all("privileges").any(|p| p == "root");
            (root && !nix::unistd::geteuid().is_root()).then(|| "it needs root".to_owned())
        })
}

/// What the header alone decides.
fn declared(decl: &Decl, env: &Env) -> Option<String> {
    let listed = |key: &str, value: &str| decl.all(key).any(|w| w == value);
    let lists = |key: &str| decl.get(key).is_some();
    let refuses =
        |what: &str, supported: &str, unsupported: Option<&str>, value: &str, generic: bool| {
            let no = unsupported.is_some_and(|key| listed(key, value))
                || (lists(supported)
                    && !listed(supported, value)
                    && !(generic && listed(supported, "generic")));
            no.then(|| format!("not for {what} {value}"))
        };
    let generic = GENERIC_FORMATS.contains(&env.format.as_str());
    refuses(
        "image format",
        "supported_fmt",
        Some("unsupported_fmt"),
        &env.format,
        generic,
    )
    .or_else(|| {
        let list = ("supported_proto", Some("unsupported_proto"));
        refuses("protocol", list.0, list.1, &env.protocol, true)
    })
    .or_else(|| refuses("cache mode", "supported_cache", None, &env.cache, true))
    .or_else(|| refuses("aio mode", "supported_aio", None, &env.aio, true))
    .or_else(|| {
        let option = decl
            .all("unsupported_imgopts")
            .find(|o| has_imgopt(env, o))?;
        Some(format!("not with image option {option}"))
    })
}

/// Whether `IMGOPTS` has this option: a key, or a key with this value.
fn has_imgopt(env: &Env, option: &str) -> bool {
    match option.split_once('=') {
        Some((key, value)) => env.imgopt(key) == Some(value),
        None => env.imgopt(option).is_some_and(|v| v != "off"),
    }
}

/// What the protocol needs.
fn protocol(env: &Env, probes: &Probes) -> Option<String> {
    let format = env.format.as_str();
    match env.protocol.as_str() {
        "nbd" if env.programs.nbd.is_none() => Some("qemu-nbd is not installed".to_owned()),
        "nbd" if !FIXED_FILE_FORMATS.contains(&format) => Some(format!(
            "{format} needs a file that grows, and an NBD export does not"
        )),
        "fuse" => probes.fuse_lacks(env),
        "ssh" => crate::ssh::lacks(env, probes),
        known if PROTOCOLS.contains(&known) => None,
        other => Some(format!("protocol {other} is not supported")),
    }
}

/// Why a word of `needs:` is not met.
fn need(word: &str, env: &Env, probes: &Probes) -> Option<String> {
    if let Some((need, reason)) = Need::of(word) {
        return lack(need, reason, env, probes);
    }
    if let Some(name) = word.strip_prefix("driver:") {
        return (!probes.has_driver(env, name)).then(|| format!("QEMU has no {name} driver"));
    }
    if let Some(name) = word.strip_prefix("option:") {
        return (!probes.has_option(env, &env.format, name))
            .then(|| format!("{} has no creation option {name}", env.format));
    }
    if let Some(name) = word.strip_prefix("qemu-img:") {
        return (!probes.has_subcommand(env, name))
            .then(|| format!("qemu-img has no subcommand {name}"));
    }
    if let Some(name) = word.strip_prefix("device:") {
        return (!probes.has_device(env, name))
            .then(|| format!("the emulator has no device {name}"));
    }
    if let Some(wanted) = word.strip_prefix("qemu>=") {
        let mut parts = wanted
            .split('.')
            .map(|p| p.parse::<u64>().unwrap_or(u64::MAX));
        let wanted = (parts.next().unwrap_or(u64::MAX), parts.next().unwrap_or(0));
        let have = probes.version(env);
        return (have < wanted).then(|| {
            format!(
                "it needs QEMU {}.{} and this is {}.{}",
                wanted.0, wanted.1, have.0, have.1
            )
        });
    }
    Some(format!("it needs '{word}', which is unknown"))
}

fn has_backing(format: &str) -> bool {
    matches!(format, "qcow2" | "qcow" | "qed" | "vmdk")
}

/// Formats that can name another backing file: for rebase and stream.
fn has_rebase(format: &str) -> bool {
    matches!(format, "qcow2" | "qed")
}

fn has_check(format: &str) -> bool {
    matches!(
        format,
        "qcow2" | "qed" | "vdi" | "vhdx" | "vmdk" | "parallels"
    )
}

fn has_discard(format: &str) -> bool {
    matches!(format, "raw" | "qcow2" | "luks" | "parallels")
}

fn has_resize(env: &Env, probes: &Probes) -> bool {
    matches!(env.format.as_str(), "raw" | "qcow2" | "qed" | "luks") && has_growing(env, probes)
}

/// Raw bytes behind an NBD export stay as many as they are.
fn has_growing(env: &Env, _: &Probes) -> bool {
    env.protocol != "nbd" || env.format == "qcow2"
}

fn has_bitmaps(env: &Env, probes: &Probes) -> bool {
    env.format == "qcow2"
        && !matches!(env.imgopt("compat"), Some("0.10" | "v2"))
        && probes.has_subcommand(env, "bitmap")
}

/// Why no guest can be booted here.
fn guest_lacks(env: &Env, probes: &Probes) -> Option<String> {
    if env.programs.qemu.is_none() {
        return Some("no qemu-system program is installed".to_owned());
    }
    if !["kernel", "initramfs"]
        .iter()
        .all(|name| env.guest_dir.join(name).is_file())
    {
        return Some(format!(
            "no guest in {}; make it with: make guest",
            env.guest_dir.display()
        ));
    }
    (!probes.has_machine(env, MACHINE))
        .then(|| format!("the emulator has no machine {MACHINE}, which the guest is for"))
}

/// Whether a file with a hole takes less space than its length.
fn sparse_files(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(file) = tempfile::tempfile_in(dir).or_else(|_| tempfile::tempfile()) else {
        return false;
    };
    const LENGTH: u64 = 64 << 20;
    file.set_len(LENGTH).is_ok() && file.metadata().is_ok_and(|m| m.blocks() * 512 < LENGTH / 2)
}

/// The free space that a test needs which does not say.
const SPACE: &str = "128M";
/// The length of the largest file of a test that does not say.
const FILE_SIZE: &str = "1G";

/// Why there is too little space in `TEST_DIR`, or none for files as long as the test's.
fn room(decl: &Decl, env: &Env) -> Option<String> {
    let asked = |key: &str, default: &'static str| {
        let word = decl.get(key).and_then(<[String]>::first);
        let text = word.map_or(default, String::as_str).to_owned();
        let wrong = format!("its header has {key}: {text}, which is not a size");
        bytes(&text).map(|bytes| (text, bytes)).ok_or(wrong)
    };
    let (space, file) = match (asked("space", SPACE), asked("file_size", FILE_SIZE)) {
        (Ok(space), Ok(file)) => (space, file),
        (Err(wrong), _) | (_, Err(wrong)) => return Some(wrong),
    };
    let dir = env.test_dir.ancestors().find(|d| d.is_dir())?;
    let stat = nix::sys::statvfs::statvfs(dir).ok()?;
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    // Some file systems do not say how much there is, such as ramfs.
    if free < space.1 && stat.blocks() > 0 {
        let free = free >> 20;
        return Some(format!(
            "it needs {} of free space in TEST_DIR, which has {free}M; free some, or set TEST_DIR \
             to another file system",
            space.0
        ));
    }
    let (limit, _) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE).ok()?;
    if limit < file.1 {
        return Some(format!(
            "it makes a file of {}, and files may have {limit} bytes; set: ulimit -f unlimited",
            file.0
        ));
    }
    let made = tempfile::tempfile_in(dir).and_then(|made| made.set_len(file.1));
    made.err().map(|error| {
        format!(
            "it makes a file of {}, which TEST_DIR does not have: {error}",
            file.0
        )
    })
}

/// A size such as `512M` in bytes.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::of as env;

    fn declared_for(header: &str, vars: &[(&str, &str)]) -> Option<String> {
        declared(&Decl::parse(header), &env(vars))
    }

    #[test]
    fn formats_are_generic_listed_or_refused() {
        let generic = "//! supported_fmt: generic\n//! unsupported_fmt: luks\n";
        assert_eq!(declared_for(generic, &[("IMGFMT", "vdi")]), None);
        assert_eq!(
            declared_for(generic, &[("IMGFMT", "luks")]).as_deref(),
            Some("not for image format luks")
        );
        assert!(declared_for(generic, &[("IMGFMT", "dmg")]).is_some());
        assert!(declared_for("//! supported_fmt: qcow2\n", &[("IMGFMT", "raw")]).is_some());
        assert_eq!(declared_for("//! group: x\n", &[("IMGFMT", "dmg")]), None);
    }

    #[test]
    fn image_options_are_keys_or_values() {
        let header = "//! unsupported_imgopts: compat=0.10 data_file\n";
        assert_eq!(declared_for(header, &[("IMGOPTS", "compat=1.1")]), None);
        assert!(declared_for(header, &[("IMGOPTS", "compat=0.10")]).is_some());
        assert!(declared_for(header, &[("IMGOPTS", "data_file=x")]).is_some());
    }

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(bytes("512M"), Some(512 << 20));
        assert_eq!(bytes("7"), Some(7));
        assert_eq!(bytes("7X"), None);
    }
}
