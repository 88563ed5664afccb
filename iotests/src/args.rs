//! The arguments of the programs under test: names, formats, cache mode and
//! secrets put in.

use std::path::Path;

use anyhow::{Result, bail};

use crate::ctx::Ctx;
use crate::filter;
use crate::image::Entry;
use crate::wrap::Kind;

/// Subcommands of `qemu-img` that take `-f` for the format of what they read.
const TAKES_FORMAT: [&str; 13] = [
    "amend", "bench", "bitmap", "check", "commit", "compare", "convert", "dd", "info", "map",
    "measure", "rebase", "resize",
];

/// Accelerators in the order in which they are taken where the one asked for is
/// not in the emulator.
const ACCELERATORS: [&str; 3] = ["qtest", "tcg", "kvm"];

/// Whether this process may use KVM and the processor has what KVM is made for: where it
/// has not, there may still be a KVM, which does not run Linux.
fn kvm_works() -> bool {
    let access = nix::unistd::AccessFlags::R_OK | nix::unistd::AccessFlags::W_OK;
    let features = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    nix::unistd::access("/dev/kvm", access).is_ok()
        && features
            .split_whitespace()
            .any(|w| w == "vmx" || w == "svm")
}

impl Ctx {
    /// The options that define the pass phrase.
    pub(crate) fn secret(&self) -> [String; 2] {
        let object = format!("secret,id=sec0,data={}", self.env.key_secret);
        ["--object".to_owned(), object]
    }

    /// Puts folders, format and images in the place of their names.
    pub(crate) fn expand(&self, word: &str) -> String {
        let images = self.images.borrow();
        if let Some(entry) = images.iter().find(|e| e.shown == word) {
            return entry.word();
        }
        if let Some((key, value)) = word.split_once('=')
            && matches!(key, "if" | "of")
            && let Some(entry) = images.iter().find(|e| e.shown == value)
        {
            return format!("{key}={}", entry.word());
        }
        let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = images
            .iter()
            .map(|e| (e.shown.clone().into_bytes(), e.real.clone().into_bytes()))
            .collect();
        pairs.sort_by_key(|(shown, _)| std::cmp::Reverse(shown.len()));
        let dir = |name: &str, dir: &Path| {
            (
                name.as_bytes().to_vec(),
                dir.as_os_str().as_encoded_bytes().to_vec(),
            )
        };
        pairs.push(dir("TEST_DIR", &self.env.test_dir));
        pairs.push(dir("SOCK_DIR", &self.env.sock_dir));
        pairs.push((b"IMGFMT".to_vec(), self.env.format.clone().into_bytes()));
        let bytes = filter::names::replace(word.as_bytes(), &pairs);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The image that a word names, alone or after `if=`.
    fn named(&self, word: &str) -> Option<Entry> {
        let word = word.strip_prefix("if=").unwrap_or(word);
        self.images
            .borrow()
            .iter()
            .find(|e| e.shown == word)
            .cloned()
    }

    /// The arguments of a tool that is not `qemu-img`.
    pub(crate) fn tool_args(&self, kind: Kind, asked: &[String]) -> Result<Vec<String>> {
        let mut args = Vec::new();
        if asked
            .iter()
            .any(|w| self.named(w).is_some_and(|e| e.needs_node()))
        {
            args.extend(self.secret());
        }
        if kind == Kind::Nbd {
            args.extend(self.env.nbd_options.iter().cloned());
        }
        args.extend(asked.iter().map(|w| self.expand(w)));
        Ok(args)
    }

    /// The arguments of `qemu-img`: format, cache mode and secrets put in where
    /// the test does not give them.
    pub(crate) fn img_args(&self, asked: &[String]) -> Result<Vec<String>> {
        let Some((command, rest)) = asked.split_first() else {
            bail!("qemu-img needs a subcommand");
        };
        let mut args = vec![command.clone()];
        if command.starts_with('-') {
            args.extend(rest.iter().map(|w| self.expand(w)));
            return Ok(args);
        }
        args.extend(self.env.img_options.iter().cloned());
        let has = |flags: &[&str]| rest.iter().any(|w| flags.contains(&w.as_str()));
        let images: Vec<Entry> = rest.iter().filter_map(|w| self.named(w)).collect();
        let to_luks = rest
            .windows(2)
            .any(|w| w[0] == "-O" && self.expand(&w[1]) == "luks");
        if images.iter().any(Entry::needs_node) || to_luks {
            args.extend(self.secret());
        }
        let makes = |format: &str| {
            command == "convert"
                && !has(&["-n"])
                && rest
                    .windows(2)
                    .any(|w| w[0] == "-O" && self.expand(&w[1]) == format)
        };
        if makes("luks") {
            args.extend(["-o".to_owned(), "key-secret=sec0,iter-time=10".to_owned()]);
        }
        if makes("vpc") {
            // As in all other images: sizes are not rounded to a geometry.
            args.extend(["-o".to_owned(), "force_size=on".to_owned()]);
        }
        if !has(&["--image-opts", "-f"]) && TAKES_FORMAT.contains(&command.as_str()) {
            let mut flags = ["-f", "-F"].iter();
            let count = if command == "compare" { 2 } else { 1 };
            for (entry, flag) in images.iter().take(count).zip(flags.by_ref()) {
                if !entry.needs_node() {
                    args.extend([(*flag).to_owned(), entry.format.clone()]);
                }
            }
        }
        if !self.env.cache_is_default && !has(&["-t", "-T"]) {
            let flags: &[&str] = match command.as_str() {
                "convert" | "rebase" => &["-t", "-T"],
                "commit" | "amend" | "bench" => &["-t"],
                "check" | "compare" => &["-T"],
                _ => &[],
            };
            for flag in flags {
                args.extend([(*flag).to_owned(), self.env.cache.clone()]);
            }
        }
        args.extend(rest.iter().map(|w| self.expand(w)));
        // What is about to be made has no node yet: it is a file of that name.
        if makes("luks")
            && let Some(entry) = rest.last().and_then(|w| self.named(w))
        {
            args.pop();
            args.push(entry.real);
        }
        Ok(args)
    }

    /// The arguments that open an image with `qemu-io`.
    pub(crate) fn io_args(&self, shown: &str) -> Vec<String> {
        let mut args = self.env.io_options.clone();
        match self.named(shown) {
            Some(entry) if entry.needs_node() => {
                args.extend(self.secret());
                args.push(entry.word());
            }
            Some(entry) => args.extend(["-f".to_owned(), entry.format.clone(), entry.real]),
            // Anything else that qemu-io opens: `json:`, `blkdebug::`, `null-co://`.
            None => {
                if self.images.borrow().iter().any(Entry::needs_node) {
                    args.extend(self.secret());
                }
                // Bytes behind an export are bytes: probing would only warn.
                if shown.starts_with("nbd+unix:") || shown.starts_with("nbd:") {
                    args.extend(["-f", "raw"].map(str::to_owned));
                }
                args.push(self.expand(shown));
            }
        }
        args
    }

    /// `QEMU_OPTIONS` for a machine whose processors run: with the first of these accelerators
    /// that works (`kvm`, `tcg`), and with another one where the caller named one that runs
    /// processors.
    pub(crate) fn running_machine_options(&self, accelerators: &[&str]) -> Vec<String> {
        let mut options = self.machine_options();
        while let Some(at) = options.iter().position(|w| w == "-machine") {
            options.drain(at..(at + 2).min(options.len()));
        }
        if self
            .env
            .qemu_options
            .windows(2)
            .any(|w| w == ["-accel", "qtest"])
        {
            while let Some(at) = options.iter().position(|w| w == "-accel") {
                options.drain(at..(at + 2).min(options.len()));
            }
        }
        if !options.iter().any(|w| w == "-accel") {
            let works = |name: &&&str| {
                self.probes.has_accel(&self.env, name) && (**name != "kvm" || kvm_works())
            };
            // Where there is none, the emulator says so itself.
            let accel = accelerators.iter().find(works).unwrap_or(&"tcg");
            options.extend(["-accel", accel].map(str::to_owned));
        }
        options
    }

    /// `QEMU_OPTIONS` with an accelerator that the emulator has: distributions
    /// build without qtest.
    pub(crate) fn machine_options(&self) -> Vec<String> {
        let env = &self.env;
        let mut options = env.qemu_options.clone();
        let has = |name: &str| match name {
            "kvm" => Path::new("/dev/kvm").exists() && self.probes.has_accel(env, name),
            _ => self.probes.has_accel(env, name),
        };
        let Some(at) = options.iter().position(|w| w == "-accel") else {
            return options;
        };
        if let Some(asked) = options.get_mut(at + 1)
            && ACCELERATORS.contains(&asked.as_str())
            && !has(asked)
            && let Some(there) = ACCELERATORS.into_iter().find(|a| has(a))
        {
            there.clone_into(asked);
        }
        options
    }
}
