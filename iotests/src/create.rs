//! New images: made by format and protocol, with the options of both.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Result;
use serde_json::{Value, json};

use crate::filter;
use crate::image::{Entry, Image};
use crate::protocol::Servers;
use crate::tool::{Expect, Output, Spawn, Streams, awaited};
use crate::words;
use crate::wrap::Kind;

/// An image that is created when the builder is awaited.
#[must_use = "no image is created until it is awaited"]
pub struct Builder {
    servers: Rc<Servers>,
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
    pub(crate) fn new(servers: &Rc<Servers>, name: &str) -> Self {
        Self {
            servers: Rc::clone(servers),
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
    /// not apply, and its name has no extension.
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
        let ctx = &self.servers.ctx;
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
            self.servers.forget(&shown).await?;
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
            self.servers.prepare(&mut entry).await?;
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
            self.servers.serve(&mut entry)?;
        }
        ctx.images.borrow_mut().push(entry.clone());
        Ok(Image { entry })
    }

    async fn run_create(&self, entry: &mut Entry) -> Result<Output> {
        let ctx = &self.servers.ctx;
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
            options.add_default("iter-time", "10");
        }
        if entry.format == "vpc" {
            // Without it sizes are rounded to what cylinders, heads and sectors
            // can represent.
            options.add_default("force_size", "on");
        }
        if self.encrypted {
            options.add("encrypt.format=luks,encrypt.key-secret=sec0");
            options.add_default("encrypt.iter-time", "10");
        }
        if let Some(file) = options.get_mut("data_file") {
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
        if !options.0.is_empty() {
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

awaited!(Builder => Image);

/// Creation options in order, a later value in the place of an earlier one.
#[derive(Debug, Default)]
struct Options(Vec<(String, Option<String>)>);

impl Options {
    fn add(&mut self, list: &str) {
        for option in list.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = match option.split_once('=') {
                Some((k, v)) => (k, Some(v.to_owned())),
                None => (option, None),
            };
            match self.0.iter_mut().find(|(k, _)| k == key) {
                Some(entry) => entry.1 = value,
                None => self.0.push((key.to_owned(), value)),
            }
        }
    }

    /// Adds an option, unless it is there already.
    fn add_default(&mut self, key: &str, value: &str) {
        if self.0.iter().all(|(k, _)| k != key) {
            self.0.push((key.to_owned(), Some(value.to_owned())));
        }
    }

    fn get_mut(&mut self, key: &str) -> Option<&mut String> {
        let found = self.0.iter_mut().find(|(k, _)| k == key);
        found.and_then(|(_, value)| value.as_mut())
    }
}

impl Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (key, value)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            match value {
                Some(value) => write!(f, "{comma}{key}={value}")?,
                None => write!(f, "{comma}{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_options_replace_earlier_ones() {
        let mut o = Options::default();
        o.add("compat=0.10,cluster_size=64k");
        o.add("compat=1.1,encryption");
        assert_eq!(o.to_string(), "compat=1.1,cluster_size=64k,encryption");
        o.add_default("compat", "2");
        o.add_default("x", "3");
        assert_eq!(o.to_string(), "compat=1.1,cluster_size=64k,encryption,x=3");
    }
}
