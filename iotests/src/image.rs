//! Disk images: made by format and protocol, named, and gone afterwards.

use std::fmt::{self, Display};
use std::future::{Future, IntoFuture};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::filter;
use crate::test::Ctx;
use crate::tool::{Expect, Output, Spawn, Streams};
use crate::words;
use crate::wrap::Kind;

/// An image: where it is and what it is. Its [`Display`] text is its name in
/// command lines and goldens.
#[derive(Debug, Clone)]
pub struct Image {
    pub(crate) entry: Entry,
}

/// What the library remembers of an image.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its name in command lines and goldens, such as `TEST_DIR/t.IMGFMT`.
    pub(crate) shown: String,
    /// What a tool is given for it: a path or a URL.
    pub(crate) real: String,
    /// Its bytes as a local file.
    pub(crate) local: PathBuf,
    /// Its format.
    pub(crate) format: String,
    /// What its node needs beside driver and file, such as `key-secret`.
    pub(crate) node: Value,
    /// The socket of its NBD server, where it has one.
    pub(crate) socket: Option<PathBuf>,
    /// The node of its bytes, where it is behind an ssh server.
    pub(crate) remote: Option<Value>,
    /// Files to remove at the end.
    pub(crate) files: Vec<PathBuf>,
}

impl Entry {
    /// Whether tools need more than a file name and `-f` to open it.
    pub(crate) fn needs_node(&self) -> bool {
        self.node.as_object().is_some_and(|o| !o.is_empty())
    }

    fn protocol_node(&self) -> Value {
        match (&self.socket, &self.remote) {
            (Some(path), _) => json!({"driver": "nbd", "server": {"type": "unix", "path": path}}),
            (_, Some(node)) => node.clone(),
            _ => json!({"driver": "file", "filename": self.local}),
        }
    }

    /// A node for QMP or a `json:` name, without node name and cache mode.
    fn node(&self) -> Value {
        let mut node = json!({"driver": self.format, "file": self.protocol_node()});
        if let (Some(node), Some(more)) = (node.as_object_mut(), self.node.as_object()) {
            node.extend(more.clone());
        }
        node
    }

    /// The node as the options of `--image-opts`, where no `json:` name is taken.
    pub(crate) fn image_opts(&self) -> String {
        let mut options = Vec::new();
        flatten("", &self.node(), &mut options);
        options.join(",")
    }

    /// What stands for it on a command line.
    fn word(&self) -> String {
        if self.needs_node() {
            format!("json:{}", self.node())
        } else {
            self.real.clone()
        }
    }
}

/// A JSON object as dotted keys; commas in values are doubled.
fn flatten(prefix: &str, value: &Value, options: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{key}"), value, options);
            }
        }
        Value::String(text) => options.push(format!("{prefix}={}", text.replace(',', ",,"))),
        other => options.push(format!("{prefix}={other}")),
    }
}

impl Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.entry.shown)
    }
}

impl Image {
    /// Its bytes as a file on this machine, whatever the protocol.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.entry.local
    }

    /// What a tool is given for it: a path or a URL.
    #[must_use]
    pub fn real(&self) -> &str {
        &self.entry.real
    }

    /// Its format.
    #[must_use]
    pub fn format(&self) -> &str {
        &self.entry.format
    }

    /// The node that opens it over its protocol, for `blockdev-add`: driver,
    /// file, secrets. Options can be added to it as to any JSON object.
    #[must_use]
    pub fn node(&self, name: &str) -> Value {
        let mut node = self.entry.node();
        node["node-name"] = name.into();
        node
    }

    /// The node of its bytes, below the format.
    #[must_use]
    pub fn protocol_node(&self, name: &str) -> Value {
        let mut node = self.entry.protocol_node();
        node["node-name"] = name.into();
        node
    }
}

/// An image about to be made, when it is awaited.
#[must_use = "no image is made until it is awaited"]
pub struct Builder {
    ctx: Rc<Ctx>,
    name: String,
    size: Option<String>,
    options: Vec<String>,
    format: Option<String>,
    backing: Option<(String, String)>,
    imgopts: bool,
    local: bool,
    encrypted: bool,
    quiet: bool,
}

impl Builder {
    pub(crate) fn new(ctx: &Rc<Ctx>, name: &str) -> Self {
        Self {
            ctx: Rc::clone(ctx),
            name: name.to_owned(),
            size: None,
            options: Vec::new(),
            format: None,
            backing: None,
            imgopts: true,
            local: false,
            encrypted: false,
            quiet: false,
        }
    }

    /// Its virtual size, as `qemu-img` reads it: bytes, or with a suffix.
    pub fn size(mut self, size: impl Display) -> Self {
        self.size = Some(size.to_string());
        self
    }

    /// Creation options (`-o`), over those of `IMGOPTS`.
    pub fn options(mut self, options: impl Display) -> Self {
        self.options.push(options.to_string());
        self
    }

    /// Another format than the one under test: the file is local, `IMGOPTS` do
    /// not apply, and its name has no ending.
    pub fn format(mut self, format: &str) -> Self {
        self.format = Some(format.to_owned());
        self
    }

    /// The image it is an overlay of.
    pub fn backing(mut self, image: &Image) -> Self {
        self.backing = Some((image.to_string(), image.format().to_owned()));
        self
    }

    /// A backing file by any name and its format.
    pub fn backing_name(mut self, name: impl Display, format: impl Display) -> Self {
        self.backing = Some((name.to_string(), format.to_string()));
        self
    }

    /// Without the options of `IMGOPTS`, where the test is about others.
    pub fn without_imgopts(mut self) -> Self {
        self.imgopts = false;
        self
    }

    /// A local file whatever the protocol under test.
    pub fn local(mut self) -> Self {
        self.local = true;
        self
    }

    /// With LUKS inside (qcow2).
    pub fn encrypted(mut self) -> Self {
        self.encrypted = true;
        self
    }

    /// Nothing of it is logged.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    async fn go(self) -> Result<Image> {
        let ctx = &self.ctx;
        let format = self.format.as_deref().unwrap_or(&ctx.env.format).to_owned();
        let (shown, file) = match &self.format {
            None => (
                format!("TEST_DIR/{}.IMGFMT", self.name),
                format!("{}.{format}", self.name),
            ),
            Some(_) => (
                format!("TEST_DIR/{}", self.name),
                format!("{}.as-{format}", self.name),
            ),
        };
        if ctx.images.borrow().iter().any(|e| e.shown == shown) {
            ctx.forget(&shown).await?;
        }
        let local = ctx.env.test_dir.join(&file);
        let mut entry = Entry {
            real: local.to_string_lossy().into_owned(),
            local,
            shown,
            node: node_options(&format, self.encrypted),
            format,
            socket: None,
            remote: None,
            files: Vec::new(),
        };
        entry.files.push(entry.local.clone());
        ctx.name(&entry.real, &entry.shown);
        let plain_file = self.local || self.format.is_some();
        if !plain_file {
            ctx.prepare(&mut entry).await?;
        }
        let output = self.run_create(&mut entry).await?;
        if !self.quiet {
            let asked: Vec<&str> = self
                .options
                .iter()
                .flat_map(|o| o.split(','))
                .map(|o| o.split_once('=').map_or(o, |(k, _)| k))
                .collect();
            ctx.log_output(&filter::img::create(&output.all(), &asked));
        }
        if !plain_file {
            ctx.serve(&mut entry).await?;
        }
        ctx.images.borrow_mut().push(entry.clone());
        Ok(Image { entry })
    }

    async fn run_create(&self, entry: &mut Entry) -> Result<Output> {
        let ctx = &self.ctx;
        let mut args: Vec<String> = vec!["create".into()];
        args.extend(ctx.env.img_options.iter().cloned());
        args.extend(["-f".to_owned(), entry.format.clone()]);
        let imgopts = if self.imgopts && self.format.is_none() {
            &ctx.env.imgopts
        } else {
            ""
        };
        let mut options = Options::default();
        for list in std::iter::once(imgopts).chain(self.options.iter().map(String::as_str)) {
            options.add(list);
        }
        if entry.format == "luks" {
            options.add("key-secret=sec0");
            options.0.entry_or("iter-time", "10");
        }
        if entry.format == "vpc" {
            // Without it sizes are rounded to what cylinders, heads and sectors
            // can say.
            options.0.entry_or("force_size", "on");
        }
        if self.encrypted {
            options.add("encrypt.format=luks,encrypt.key-secret=sec0");
            options.0.entry_or("encrypt.iter-time", "10");
        }
        if let Some(file) = options.0.get_mut("data_file") {
            // The name in IMGOPTS is the same for every image; each needs its own.
            if !self.options.iter().any(|o| o.contains("data_file=")) {
                *file = format!("{}.ext", entry.local.display());
            }
            *file = ctx.expand(file);
            ctx.name(&*file, format!("{}.ext", entry.shown));
            entry.files.push(PathBuf::from(&*file));
        }
        if entry.needs_node() {
            args.extend(ctx.secret());
        }
        if !options.0.0.is_empty() {
            args.extend(["-o".to_owned(), options.to_string()]);
        }
        if let Some((name, format)) = &self.backing {
            args.extend(["-b".to_owned(), ctx.expand(name)]);
            args.extend(["-F".to_owned(), ctx.expand(format)]);
        }
        args.push(if entry.socket.is_some() {
            entry.local.to_string_lossy().into_owned()
        } else {
            entry.real.clone()
        });
        args.extend(self.size.clone());
        let shown = format!("qemu-img {}", words::join(&args));
        let spawn = Spawn {
            kind: Kind::Img,
            args: args.into_iter().map(Into::into).collect(),
            stdin: None,
            streams: Streams::Apart,
            env: Vec::new(),
        };
        let output = ctx.spawn(spawn).await?;
        ctx.judge(&shown, Expect::Status(0), &output)?;
        Ok(output)
    }
}

/// What a format's node needs to be opened with the test's pass phrase.
fn node_options(format: &str, encrypted: bool) -> Value {
    match (format, encrypted) {
        ("luks", _) => json!({"key-secret": "sec0"}),
        (_, true) => json!({"encrypt": {"format": "luks", "key-secret": "sec0"}}),
        _ => json!({}),
    }
}

impl IntoFuture for Builder {
    type Output = Result<Image>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.go())
    }
}

/// Creation options in order, a later value in the place of an earlier one.
#[derive(Debug, Default)]
struct Options(OrderedMap);

#[derive(Debug, Default)]
struct OrderedMap(Vec<(String, Option<String>)>);

impl OrderedMap {
    fn get_mut(&mut self, key: &str) -> Option<&mut String> {
        self.0
            .iter_mut()
            .find(|(k, _)| k == key)
            .and_then(|(_, v)| v.as_mut())
    }

    fn entry_or(&mut self, key: &str, value: &str) {
        if self.0.iter().all(|(k, _)| k != key) {
            self.0.push((key.to_owned(), Some(value.to_owned())));
        }
    }
}

impl Options {
    fn add(&mut self, list: &str) {
        for option in list.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = match option.split_once('=') {
                Some((k, v)) => (k, Some(v.to_owned())),
                None => (option, None),
            };
            match self.0.0.iter_mut().find(|(k, _)| k == key) {
                Some(entry) => entry.1 = value,
                None => self.0.0.push((key.to_owned(), value)),
            }
        }
    }
}

impl Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (key, value)) in self.0.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            match value {
                Some(value) => write!(f, "{comma}{key}={value}")?,
                None => write!(f, "{comma}{key}")?,
            }
        }
        Ok(())
    }
}

/// Subcommands of `qemu-img` that take `-f` for the format of what they read.
const TAKES_FORMAT: [&str; 13] = [
    "amend", "bench", "bitmap", "check", "commit", "compare", "convert", "dd", "info", "map",
    "measure", "rebase", "resize",
];

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

    /// The images that a word names, alone or behind `if=`.
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
    /// the test left them out.
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

    /// Forgets an image that is about to be made anew: its server and its files.
    async fn forget(&self, shown: &str) -> Result<()> {
        let gone: Vec<Entry> = {
            let mut images = self.images.borrow_mut();
            let (gone, stay) = images.drain(..).partition(|e| e.shown == shown);
            *images = stay;
            gone
        };
        for entry in gone {
            self.unserve(&entry).await?;
            for file in &entry.files {
                match std::fs::remove_file(file) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(e)
                            .with_context(|| format!("failed to remove {}", file.display()));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_become_dotted_options() {
        let mut options = Vec::new();
        let node = json!({"driver": "luks", "file": {"filename": "a,b", "x": true}});
        flatten("", &node, &mut options);
        options.sort();
        assert_eq!(
            options,
            ["driver=luks", "file.filename=a,,b", "file.x=true"]
        );
    }

    #[test]
    fn later_options_replace_earlier_ones() {
        let mut o = Options::default();
        o.add("compat=0.10,cluster_size=64k");
        o.add("compat=1.1,encryption");
        assert_eq!(o.to_string(), "compat=1.1,cluster_size=64k,encryption");
        o.0.entry_or("compat", "2");
        o.0.entry_or("x", "3");
        assert_eq!(o.to_string(), "compat=1.1,cluster_size=64k,encryption,x=3");
    }
}
