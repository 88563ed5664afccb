//! What the installed tools can do, queried once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::env::Env;
use crate::trial;

/// What the installed tools print about themselves.
#[derive(Debug, Default)]
pub struct Probes {
    outputs: RefCell<HashMap<String, String>>,
    lacks: RefCell<HashMap<String, Option<String>>>,
}

impl Probes {
    /// What a program prints for these arguments; an empty text where it is not
    /// there.
    fn output_of(&self, program: Option<&Path>, args: &[&str]) -> String {
        let Some(program) = program else {
            return String::new();
        };
        let key = format!("{} {}", program.display(), args.join(" "));
        if let Some(output) = self.outputs.borrow().get(&key) {
            return output.clone();
        }
        let result = Command::new(program)
            .args(args)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output();
        let output = result.map_or_else(
            |_| String::new(),
            |o| String::from_utf8_lossy(&[o.stdout, o.stderr].concat()).into_owned(),
        );
        self.outputs.borrow_mut().insert(key, output.clone());
        output
    }

    /// The version of `qemu-img`: major and minor; (0, 0) where it prints none.
    #[must_use]
    pub fn version(&self, env: &Env) -> (u64, u64) {
        let output = self.output_of(env.programs.img.as_deref(), &["--version"]);
        let number = output
            .split_whitespace()
            .find(|w| w.starts_with(|c: char| c.is_ascii_digit()));
        let mut parts = number
            .unwrap_or_default()
            .split('.')
            .map(|p| p.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// Whether `qemu-img` has a block driver of this name, and the library that it needs.
    #[must_use]
    pub fn has_driver(&self, env: &Env, name: &str) -> bool {
        self.lists_driver(env, name) && (name != "luks" || self.luks_lacks(env).is_none())
    }

    fn lists_driver(&self, env: &Env, name: &str) -> bool {
        let output = self.output_of(env.programs.img.as_deref(), &["--help"]);
        drivers(&output).any(|d| d == name)
    }

    /// What `trial` finds, tried once for a run.
    fn lack(
        &self,
        env: &Env,
        what: &str,
        trial: impl FnOnce() -> Option<String>,
    ) -> Option<String> {
        if let Some(found) = self.lacks.borrow().get(what) {
            return found.clone();
        }
        let found = trial::kept(env.found_dir.as_deref(), what, trial);
        self.lacks
            .borrow_mut()
            .insert(what.to_owned(), found.clone());
        found
    }

    /// Why there are no LUKS images here; `None` where there are.
    #[must_use]
    pub fn luks_lacks(&self, env: &Env) -> Option<String> {
        if !self.lists_driver(env, "luks") {
            return Some("QEMU has no luks driver".to_owned());
        }
        self.lack(env, "luks", || trial::luks(env))
    }

    /// Why there are no FUSE exports here; `None` where there are.
    #[must_use]
    pub fn fuse_lacks(&self, env: &Env) -> Option<String> {
        if env.programs.qsd.is_some() && !self.has_export(env, "fuse") {
            return Some("qemu-storage-daemon has no FUSE exports".to_owned());
        }
        self.lack(env, "fuse", || trial::fuse(env))
    }

    /// Why there is no TLS here; `None` where there is.
    #[must_use]
    pub fn tls_lacks(&self, env: &Env) -> Option<String> {
        if which::which("openssl").is_err() {
            return Some("openssl is not installed".to_owned());
        }
        self.lack(env, "tls", || trial::tls(env))
    }

    /// Why files cannot be opened with the cache and aio modes of the run; `None` where they
    /// can.
    #[must_use]
    pub fn modes_lack(&self, env: &Env) -> Option<String> {
        let what = format!("modes-{}-{}", env.cache, env.aio);
        self.lack(env, &what, || trial::modes(env))
    }

    /// Whether `qemu-img` has a subcommand of this name.
    #[must_use]
    pub fn has_subcommand(&self, env: &Env, name: &str) -> bool {
        let output = self.output_of(env.programs.img.as_deref(), &["--help"]);
        output
            .lines()
            .any(|l| l.starts_with(' ') && l.split_whitespace().next() == Some(name))
    }

    /// Whether images of `format` have a creation option of this name.
    #[must_use]
    pub fn has_option(&self, env: &Env, format: &str, name: &str) -> bool {
        let args = ["create", "-f", format, "-o", "help", "x"];
        let output = self.output_of(env.programs.img.as_deref(), &args);
        output.lines().any(|l| {
            l.trim_start()
                .strip_prefix(name)
                .is_some_and(|r| r.starts_with('='))
        })
    }

    /// Whether a new qcow2 image can be compressed by `kind` (`zstd`).
    #[must_use]
    pub fn has_compression(&self, env: &Env, kind: &str) -> bool {
        let Ok(dir) = tempfile::tempdir() else {
            return false;
        };
        let file = dir.path().join("probe").to_string_lossy().into_owned();
        let option = format!("compression_type={kind}");
        let args = ["create", "-q", "-f", "qcow2", "-o", &option, &file, "1M"];
        self.output_of(env.programs.img.as_deref(), &args)
            .trim()
            .is_empty()
            && env.programs.img.is_some()
    }

    /// Whether the ssh driver is there as well as listed: it may be a module in a
    /// package of its own. It is tried on a port where no server listens.
    #[must_use]
    pub fn connects_by_ssh(&self, env: &Env) -> bool {
        let args = ["info", "ssh://127.0.0.1:1/none"];
        self.output_of(env.programs.img.as_deref(), &args)
            .contains("connect")
    }

    /// Whether the storage daemon can export nodes of this type.
    #[must_use]
    pub fn has_export(&self, env: &Env, kind: &str) -> bool {
        self.output_of(env.programs.qsd.as_deref(), &["--help"])
            .contains(&format!("[type=]{kind},"))
    }

    /// Whether the emulator knows this device.
    #[must_use]
    pub fn has_device(&self, env: &Env, name: &str) -> bool {
        let output = self.output_of(env.programs.qemu.as_deref(), &["-device", "help"]);
        output.contains(&format!("\"{name}\""))
    }

    /// What the emulator prints of its machines (`-M help`).
    #[must_use]
    pub fn machines(&self, env: &Env) -> String {
        self.output_of(env.programs.qemu.as_deref(), &["-M", "help"])
    }

    /// What the emulator prints of its devices (`-device help`).
    #[must_use]
    pub fn devices(&self, env: &Env) -> String {
        self.output_of(env.programs.qemu.as_deref(), &["-device", "help"])
    }

    /// Whether the emulator has this machine.
    #[must_use]
    pub fn has_machine(&self, env: &Env, name: &str) -> bool {
        self.machines(env)
            .lines()
            .any(|l| l.split_whitespace().next() == Some(name))
    }

    /// Whether the emulator has this accelerator.
    #[must_use]
    pub fn has_accel(&self, env: &Env, name: &str) -> bool {
        let output = self.output_of(env.programs.qemu.as_deref(), &["-accel", "help"]);
        output.lines().any(|l| l.trim() == name)
    }
}

/// The drivers that `qemu-img --help` lists: on one line up to QEMU 9, in a
/// paragraph of their own since.
fn drivers(help: &str) -> impl Iterator<Item = &str> {
    let list = ["Supported formats:", "Supported image formats:"]
        .iter()
        .find_map(|heading| help.split_once(heading))
        .map_or("", |(_, list)| list.trim_start());
    list.split("\n\n")
        .next()
        .unwrap_or_default()
        .split_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_help_list_the_drivers() {
        for help in [
            "a\nSupported formats: file qcow2 raw\n\nSee more\n",
            "a\nSupported image formats:\n\n  file qcow2\n  raw\n\nSee more\n",
        ] {
            assert_eq!(drivers(help).collect::<Vec<_>>(), ["file", "qcow2", "raw"]);
        }
        assert_eq!(drivers("nothing").count(), 0);
    }
}
