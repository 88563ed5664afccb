//! Disks as a guest's drivers see them: the test is the guest.
//!
//! A test is run on each path of `qtest`'s graph that the emulator can make, from the machine
//! to the disk, and logs the same on all of them.

mod disk;
pub mod fits;

use std::fmt::Display;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use qtest::graph::{self, Emulator, Path};
use qtest::{Client, Guest, firmware};
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::env::Env;
use crate::image::{Image, extend_deep, option_value};
use crate::probe::Probes;
use crate::test::Test;

pub use disk::DeviceDisk;

/// How long the emulator may take for one operation, and a device for a request.
const PATIENCE: Duration = Duration::from_secs(60);

/// The node of the disk's image.
pub const NODE: &str = "disk";

/// The node above it, where there is one.
pub const FILTER: &str = "filter";

/// The file with the log of writes, in `TEST_DIR`.
const LOG: &str = "writes.log";

/// What backing files are full of.
pub const BACKING: u8 = 0xba;

/// What the emulator of this environment has.
#[must_use]
pub fn emulator(env: &Env, probes: &Probes) -> Emulator {
    Emulator::from_help(&probes.machines(env), &probes.devices(env))
}

/// A device does not have what a test needs: the path is left out.
#[derive(Debug, thiserror::Error)]
#[error("the device has no {0}")]
struct Lacking(&'static str);

/// What a path is tried with.
#[derive(Debug, Clone)]
pub struct Setup {
    interface: &'static str,
    size: u64,
    properties: String,
    json_properties: Value,
    bus_properties: String,
    options: Vec<String>,
    node: Value,
    filter: Option<Value>,
    image: String,
    backed: bool,
    all_paths: bool,
    write_log: bool,
    encrypted: bool,
}

impl Setup {
    /// A disk of `size` bytes, where the device takes that: floppies and SD cards have sizes of
    /// their own.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self {
            interface: graph::BLOCK,
            size,
            properties: String::new(),
            json_properties: json!({}),
            bus_properties: String::new(),
            options: Vec::new(),
            node: json!({}),
            filter: None,
            image: String::new(),
            backed: false,
            all_paths: false,
            write_log: false,
            encrypted: false,
        }
    }

    /// A CD drive with a medium of `size` bytes.
    #[must_use]
    pub fn cd_drive(size: u64) -> Self {
        Self {
            interface: graph::CD,
            node: json!({"read-only": true}),
            ..Self::new(size)
        }
    }

    /// A disk of `size` bytes that a storage daemon serves to the device by vhost-user
    /// ([`DeviceDisk::server`]); what is said of nodes and filters is for disks in the emulator.
    #[must_use]
    pub fn served(size: u64) -> Self {
        Self {
            interface: graph::SERVED,
            ..Self::new(size)
        }
    }

    /// Properties of the device that has the image, such as `werror=stop`.
    #[must_use]
    pub fn property(mut self, property: impl Display) -> Self {
        self.properties += &format!(",{property}");
        self
    }

    /// Properties of the device that has the image which cannot be given as words, such as lists.
    #[must_use]
    pub fn json_properties(mut self, properties: Value) -> Self {
        self.json_properties = properties;
        self
    }

    /// Properties of the virtio device, be it the disk or the bus of one: `iothread=thread`.
    #[must_use]
    pub fn virtio_property(mut self, property: impl Display) -> Self {
        self.bus_properties += &format!(",{property}");
        self
    }

    /// Options of the emulator: words, as on the command line.
    #[must_use]
    pub fn options<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.options.extend(words.into_iter().map(Into::into));
        self
    }

    /// Options of the disk's node, such as `{"discard": "unmap"}`.
    #[must_use]
    pub fn node(mut self, options: Value) -> Self {
        self.node = options;
        self
    }

    /// On every path, and not only on as many as have every device and driver.
    #[must_use]
    pub const fn all_paths(mut self) -> Self {
        self.all_paths = true;
        self
    }

    /// With a log of what is written to the file ([`DeviceDisk::write_log`]).
    #[must_use]
    pub const fn write_log(mut self) -> Self {
        self.write_log = true;
        self
    }

    /// With LUKS inside the format.
    #[must_use]
    pub const fn encrypted(mut self) -> Self {
        self.encrypted = true;
        self
    }

    /// With a backing file, which is full of a pattern.
    #[must_use]
    pub const fn backed(mut self) -> Self {
        self.backed = true;
        self
    }

    /// A node above the disk's node, which becomes its `file`: `{"driver": "throttle",
    /// "throttle-group": "group"}`; the device gets it, as node [`FILTER`].
    #[must_use]
    pub fn filter(mut self, node: Value) -> Self {
        self.filter = Some(node);
        self
    }

    /// Requests can be kept waiting: by a throttle group `hold`, which has no limits at first
    /// ([`DeviceDisk::hold`]).
    #[must_use]
    pub fn holds(self) -> Self {
        self.options(["-object", "throttle-group,id=hold"])
            .filter(json!({"driver": "throttle", "throttle-group": "hold"}))
    }

    /// The first request of a kind (`read`, `write`, `flush`) that touches `offset` fails with
    /// this error number, once; several times for several errors.
    #[must_use]
    pub fn fails_once(mut self, kind: &str, offset: u64, errno: i32) -> Self {
        let filter = self
            .filter
            .get_or_insert_with(|| json!({"driver": "blkdebug", "inject-error": []}));
        if let Some(rules) = filter["inject-error"].as_array_mut() {
            let mut rule = json!({"event": "none", "iotype": kind, "errno": errno, "once": true});
            if kind != "flush" {
                rule["sector"] = (offset / 512).into();
            }
            rules.push(rule);
        }
        self
    }

    /// Options that the image is created with, in place of `IMGOPTS`.
    #[must_use]
    pub fn image(mut self, options: &str) -> Self {
        options.clone_into(&mut self.image);
        self
    }
}

impl Test {
    /// Does `body` on a few paths that have every device and driver for which `fits` holds
    /// ([`graph::cover`]); on all of them with [`Setup::all_paths`]. Each with an image and an emulator of
    /// its own; afterwards it checks the image and compares it with the model. All have to log
    /// the same; the golden has it once.
    ///
    /// A path whose device has no such feature ([`DeviceDisk::needs`]) is left out. `IOTEST_PATH`
    /// in the environment chooses the paths that have this text in their name.
    ///
    /// # Errors
    ///
    /// Fails with the name of the path where something went wrong or another log came out, and
    /// if there is no path.
    pub async fn on_each_disk(
        &self,
        setup: &Setup,
        fits: impl Fn(&Path) -> bool,
        mut body: impl AsyncFnMut(&mut DeviceDisk) -> Result<()>,
    ) -> Result<()> {
        let chosen = std::env::var("IOTEST_PATH").unwrap_or_default();
        let mut first: Option<(String, Vec<u8>)> = None;
        let emulator = emulator(self.env(), self.probes());
        let mut paths = graph::paths(setup.interface, &emulator).0;
        paths.retain(|path| fits(path) && path.to_string().contains(&chosen));
        if !setup.all_paths && chosen.is_empty() {
            paths = graph::cover(&paths);
        }
        for path in paths {
            let name = path.to_string();
            self.ctx.start_capture();
            let result = self.on_disk(setup, &path, &mut body).await;
            let log = self.ctx.end_capture();
            match result {
                Ok(()) => {}
                Err(error) if error.is::<Lacking>() => {
                    if self.env().debug {
                        eprintln!("{name}: left out: {error}");
                    }
                    continue;
                }
                Err(error) => {
                    self.ctx.log_output(&log);
                    return Err(error.context(name));
                }
            }
            match &first {
                None => {
                    self.ctx.log_output(&log);
                    first = Some((name, log));
                }
                Some((other, expected)) => same_log(&name, &log, other, expected)?,
            }
        }
        ensure!(first.is_some(), "the emulator has no such disk");
        Ok(())
    }

    async fn on_disk(
        &self,
        setup: &Setup,
        path: &Path,
        body: &mut impl AsyncFnMut(&mut DeviceDisk) -> Result<()>,
    ) -> Result<()> {
        self.ctx.daemons.set(0);
        let image = self.disk_image(setup, path).await?;
        let mut disk = self.start_disk(setup, path, &image).await?;
        let result = body(&mut disk).await;
        if let Err(error) = result {
            // Its other errors would hide this one.
            let stderr = disk.vm.stderr();
            disk.vm.kill().await?;
            let stderr = stderr.trim();
            return Err(if stderr.is_empty() {
                error
            } else {
                error.context(stderr.to_owned())
            });
        }
        disk.end(self).await
    }

    /// An image for the disk of a path, `TEST_DIR/t.IMGFMT`; not logged.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made.
    pub async fn disk_image(&self, setup: &Setup, path: &Path) -> Result<Image> {
        let size = path.image_size(setup.size);
        let mut image = self.create(size).quiet();
        if setup.backed {
            let base = self.image("base").size(size).quiet().await?;
            self.io(&base, [format!("write -P {BACKING} 0 {size}")])
                .quiet()
                .await?;
            image = image.backing(&base);
        }
        if setup.encrypted {
            image = image.encrypted();
        }
        if setup.image.is_empty() {
            image.await
        } else {
            image.without_imgopts().options(&setup.image).await
        }
    }

    /// Starts an emulator with the machine of a path, the image as node `disk`, and a guest that
    /// does nothing; the disk is set up by its driver.
    ///
    /// # Errors
    ///
    /// Fails if the emulator does not start or the driver does not find the disk.
    pub async fn start_disk(
        &self,
        setup: &Setup,
        path: &Path,
        image: &Image,
    ) -> Result<DeviceDisk> {
        let server = if setup.interface == graph::SERVED {
            Some(self.serve(image).await?)
        } else {
            None
        };
        let (vm, client) = self.start_guest(setup, path, image).await?;
        let mut guest = Guest::new(client, firmware::RAM);
        guest.set_patience(PATIENCE);
        let disk = match path.open(&mut guest) {
            Ok(disk) => disk,
            Err(qtest::Error::Lacking { what, .. }) => {
                vm.kill().await?;
                return Err(Lacking(what).into());
            }
            Err(error) => bail!("setting the disk up: {error}"),
        };
        self.name(path.disk_id(), "DISK");
        let mut model = self.disk_model(disk.size());
        if setup.backed {
            model.set(0, disk.size(), Some(BACKING));
        }
        let content = (model, image.clone());
        let mut disk = DeviceDisk::new(vm, guest, disk, path.clone(), content);
        disk.server = server;
        Ok(disk)
    }

    /// Starts a storage daemon with the image as node `disk`, which it serves by vhost-user.
    ///
    /// # Errors
    ///
    /// Fails if it does not start, or QEMU refuses the export.
    pub async fn serve(&self, image: &Image) -> Result<Daemon> {
        let mut server = self.qsd("").await?;
        let node = self.ctx.node_with(image, NODE, &json!({}));
        server.run("blockdev-add", node).await?;
        let address = json!({"type": "unix", "path": self.vhost_socket()});
        let export = json!({"type": "vhost-user-blk", "id": "vhost", "node-name": NODE,
            "writable": true, "num-queues": 2, "addr": address});
        server.run("block-export-add", export).await?;
        Ok(server)
    }

    fn vhost_socket(&self) -> PathBuf {
        self.env().sock_dir.join("vhost")
    }

    /// The words by which the emulator becomes a client of [`Test::serve`]: the server maps the
    /// machine's memory, and is connected to again where it was lost.
    fn client_words(&self) -> Vec<String> {
        let socket = option_value(&self.vhost_socket().display().to_string());
        let again = if self.probes().version(self.env()) >= (9, 2) {
            "reconnect-ms=10"
        } else {
            "reconnect=1"
        };
        vec![
            "-object".to_owned(),
            format!(
                "memory-backend-memfd,id=ram,size={},share=on",
                firmware::RAM
            ),
            "-machine".to_owned(),
            "memory-backend=ram".to_owned(),
            "-chardev".to_owned(),
            format!("socket,id=vhost,path={socket},{again}"),
        ]
    }

    /// As [`Test::start_disk`], without a driver; the connection to its QTest server.
    ///
    /// # Errors
    ///
    /// Fails if the emulator does not start.
    pub async fn start_guest(
        &self,
        setup: &Setup,
        path: &Path,
        image: &Image,
    ) -> Result<(Daemon, Client)> {
        let count = self.ctx.daemons.get() + 1;
        let socket = self.env().sock_dir.join(format!("qtest-{count}"));
        let file = self.path("firmware");
        std::fs::write(&file, firmware::halt())
            .with_context(|| format!("failed to write {}", file.display()))?;
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("failed to make the socket {}", socket.display()))?;
        let machine = self.ctx.running_machine_options(&["tcg", "kvm"]);
        let mut words = firmware::arguments(&file.display().to_string());
        words.extend([
            "-chardev".to_owned(),
            format!(
                "socket,id=qtest,path={}",
                option_value(&socket.display().to_string())
            ),
        ]);
        words.extend(["-qtest", "chardev:qtest", "-qtest-log", "/dev/null"].map(str::to_owned));
        if setup.interface == graph::SERVED {
            words.extend(self.client_words());
            words.extend(path.arguments("", &setup.properties));
            return self.connect(machine, &words, &listener, &socket).await;
        }
        let mut node = self.ctx.node_with(image, NODE, &json!({}));
        extend_deep(&mut node, &setup.node);
        if setup.write_log {
            let log = json!({"driver": "file", "filename": self.path(LOG)});
            std::fs::write(self.path(LOG), b"").context("failed to make the log of writes")?;
            node["file"] = json!({"driver": "blklogwrites", "file": node["file"], "log": log,
                "log-super-update-interval": 1});
        }
        words.extend(["-blockdev".to_owned(), node.to_string()]);
        words.extend(setup.options.iter().map(|w| self.ctx.expand(w)));
        let mut top = NODE;
        if let Some(filter) = &setup.filter {
            let mut filter = filter.clone();
            filter["node-name"] = FILTER.into();
            let child = if filter["driver"] == "blkdebug" {
                "image"
            } else {
                "file"
            };
            filter[child] = NODE.into();
            words.extend(["-blockdev".to_owned(), filter.to_string()]);
            top = FILTER;
        }
        for mut word in path.arguments(top, &setup.properties) {
            if word.starts_with("virtio-blk") || word.starts_with("virtio-scsi") {
                word += &setup.bus_properties;
            }
            let has_image = word.contains(&format!("drive={top}"));
            if has_image && setup.json_properties != json!({}) {
                let mut device = device_object(&word);
                extend_deep(&mut device, &setup.json_properties);
                word = device.to_string();
            }
            words.push(word);
        }
        self.connect(machine, &words, &listener, &socket).await
    }

    /// Starts an emulator and takes its connection.
    async fn connect(
        &self,
        machine: Vec<String>,
        words: &[String],
        listener: &UnixListener,
        socket: &std::path::Path,
    ) -> Result<(Daemon, Client)> {
        let vm = Daemon::emulator(&self.ctx, machine, words).await?;
        listener.set_nonblocking(true)?;
        // It has connected before its monitor greeted.
        let (stream, _) = listener
            .accept()
            .context("the emulator has no QTest server")?;
        let _ = std::fs::remove_file(socket);
        Ok((vm, Client::over_socket(stream, PATIENCE)?))
    }
}

/// A device as `device_add` takes it, of what `-device` takes.
fn device_object(text: &str) -> Value {
    let mut words = text.split(',');
    let mut device = json!({"driver": words.next()});
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        device[key] = value.into();
    }
    device
}

fn same_log(name: &str, log: &[u8], other: &str, expected: &[u8]) -> Result<()> {
    let (mut lines, mut wanted) = (log.split(|b| *b == b'\n'), expected.split(|b| *b == b'\n'));
    loop {
        match (lines.next(), wanted.next()) {
            (None, None) => return Ok(()),
            (line, want) if line == want => {}
            (line, want) => bail!(
                "{name} logs '{}', and {other} logs '{}'",
                String::from_utf8_lossy(line.unwrap_or_default()),
                String::from_utf8_lossy(want.unwrap_or_default())
            ),
        }
    }
}
