//! The machine that is fuzzed: the arguments of the emulator, the disk behind the device, and
//! which registers belong to it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use qtest::firmware;
use qtest::graph::{self, Emulator, Kind};
use serde::{Deserialize, Serialize};

use super::catalogue::Catalogue;
use super::disk::{DiskImage, IMAGE};
use super::regions::Objects;
use crate::exec::process;

/// The firmware, in the folder that the emulator runs in. With it the machine runs, so that
/// timers go on, which `-S` would stop, and nothing but the inputs touches a device.
pub const FIRMWARE: &str = "halt.bin";

/// The size of the disk in bytes, where the device takes any.
const DISK_SIZE: u64 = 64 << 20;

/// Ports that belong to no device of the machine's tree, by the driver that uses them: the command
/// and control blocks of ATA.
const PORTS: [(&str, &str); 1] = [("ata", "ide")];

/// What is fuzzed, as a work folder keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// What it is called: the name of the device, or the arguments.
    pub name: String,
    /// The emulator's file.
    pub program: PathBuf,
    /// Its arguments, without those that connect it.
    pub args: Vec<String>,
    /// Patterns for the objects whose registers are fuzzed.
    pub objects: String,
    /// Paths below which all objects are.
    pub below: Vec<String>,
    /// The format of the image in [`IMAGE`]; none where the disk is nothing but zeroes.
    pub format: Option<String>,
    /// The size of the disk in bytes.
    pub disk_size: u64,
    /// The path of the graph of devices that has a driver for it.
    pub path: Option<String>,
    /// Folders that the emulator may read besides its own and the system's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readable: Vec<PathBuf>,
}

/// What the user asks for.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// A device.
    pub name: Option<&'a str>,
    /// Arguments instead of one.
    pub args: Option<&'a str>,
    /// Patterns for objects.
    pub objects: Option<&'a str>,
    /// The format of the image.
    pub format: Option<&'a str>,
    /// More folders that the emulator may read.
    pub readable: &'a [PathBuf],
}

impl Machine {
    /// Finds out how the emulator is started for what is asked for.
    ///
    /// # Errors
    ///
    /// The emulator has no such device, cannot be asked, or the options do not go together.
    pub fn new(program: &Path, wanted: &Wanted<'_>) -> Result<Self> {
        let mut machine = Self {
            name: wanted.name.unwrap_or("args").to_owned(),
            program: program.to_owned(),
            args: Vec::new(),
            objects: wanted.objects.unwrap_or("").to_owned(),
            below: Vec::new(),
            format: wanted.format.map(str::to_owned),
            disk_size: DISK_SIZE,
            path: None,
            readable: wanted.readable.to_vec(),
        };
        match (wanted.args, wanted.name) {
            (Some(args), _) => machine.given(args, wanted)?,
            (None, Some(name)) => machine.named(name, wanted)?,
            (None, None) => bail!("name a device, or give --args and --objects"),
        }
        Objects::new(&machine.objects, &[])?;
        Ok(machine)
    }

    /// Arguments as they were given, as to QEMU's generic fuzzer.
    fn given(&mut self, args: &str, wanted: &Wanted<'_>) -> Result<()> {
        let words = shlex::split(args)
            .with_context(|| format!("--args '{args}': unclosed quotation mark"))?;
        if wanted.objects.is_none() && wanted.name.is_none() {
            bail!("--args needs --objects, which says what of the machine is fuzzed: 'ide* piix*'");
        }
        if self.objects.is_empty() {
            self.objects.clone_from(&self.name);
        }
        let has = |word: &str| words.iter().any(|it| it == word || it.contains(word));
        self.args = ["-display", "none"].map(str::to_owned).into();
        if !has("accel") {
            self.args.extend(["-accel", "tcg"].map(str::to_owned));
        }
        if !has("-bios") {
            self.args.extend(["-bios", FIRMWARE].map(str::to_owned));
        }
        if wanted.format.is_some() {
            self.args.extend(["-blockdev".to_owned(), self.blockdev()]);
        }
        self.args.extend(words);
        Ok(())
    }

    /// A device by its name: of the graph of devices, where it has a driver, else alone.
    fn named(&mut self, name: &str, wanted: &Wanted<'_>) -> Result<()> {
        let ask = |option: &str, value: &str| {
            process::ask(&self.program, &[option, value])
                .with_context(|| format!("cannot ask '{}' for its devices", self.program.display()))
        };
        let devices = ask("-device", "help")?;
        let emulator = Emulator::from_help(&ask("-M", "help")?, &devices);
        let path = path_to(name, &emulator);
        let machine = if let Some(path) = &path {
            self.path = Some(path.to_string());
            self.disk_size = path.image_size(DISK_SIZE);
            let built_in = path
                .nodes
                .iter()
                .filter(|it| matches!(it.kind, Kind::BuiltIn));
            let globs = built_in.map(|it| format!("*{}*", it.name));
            let ports = PORTS.iter().filter(|(driver, _)| path.has(driver));
            let ports = ports.map(|(_, name)| (*name).to_owned());
            if self.objects.is_empty() {
                self.objects = globs.chain(ports).collect::<Vec<_>>().join(" ");
            }
            path.arguments("disk", "")
        } else {
            let properties = ask("-device", &format!("{name},help")).unwrap_or_default();
            let plugged = Catalogue::parse(&devices).plug(name, &properties)?;
            let devices = plugged.devices.into_iter();
            let devices = devices.flat_map(|it| ["-device".to_owned(), it]);
            ["-M", plugged.machine]
                .map(str::to_owned)
                .into_iter()
                .chain(devices)
                .collect()
        };
        if wanted.objects.is_none() {
            // What the command line adds to a machine.
            self.below = ["/machine/peripheral", "/machine/peripheral-anon"]
                .map(str::to_owned)
                .into();
        }
        self.args = firmware::arguments(FIRMWARE);
        self.args.extend(["-accel", "tcg"].map(str::to_owned));
        if machine.iter().any(|it| it.contains("drive=disk")) {
            self.args.extend(["-blockdev".to_owned(), self.blockdev()]);
        }
        self.args.extend(machine);
        Ok(())
    }

    /// The disk, as `-blockdev` takes it.
    fn blockdev(&self) -> String {
        match &self.format {
            Some(format) => format!(
                "driver={format},node-name=disk,file.driver=file,file.filename={IMAGE},\
                 file.locking=off"
            ),
            None => format!(
                "driver=null-co,node-name=disk,read-zeroes=on,size={}",
                self.disk_size
            ),
        }
    }

    /// Which registers are fuzzed.
    ///
    /// # Errors
    ///
    /// The work folder was changed.
    pub fn fuzzed(&self) -> Result<Objects> {
        let below: Vec<&str> = self.below.iter().map(String::as_str).collect();
        Objects::new(&self.objects, &below)
    }

    /// The path of the graph that has a driver for it.
    #[must_use]
    pub fn graph_path(&self) -> Option<graph::Path> {
        let name = self.path.as_deref()?;
        let mut paths = INTERFACES.into_iter().flat_map(graph::all_paths);
        paths.find(|path| path.to_string() == name)
    }

    /// Writes what the arguments refer to into the folder that the emulator runs in; `image` is
    /// the disk's.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn prepare(&self, folder: &Path, image: Option<&DiskImage>) -> Result<()> {
        let write = || -> std::io::Result<()> {
            if self.args.iter().any(|it| it == FIRMWARE) {
                fs::File::create(folder.join(FIRMWARE))?.write_all(&firmware::halt())?;
            }
            image.map_or(Ok(()), |image| image.put(folder))
        };
        write().with_context(|| format!("cannot write into '{}'", folder.display()))
    }

    /// The command that runs a trace, in a folder with what it needs.
    #[must_use]
    pub fn command(&self, trace: &str) -> String {
        let name = self.program.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        let words = [name.as_ref()]
            .into_iter()
            .chain(self.args.iter().map(String::as_str));
        let words: Vec<String> = words.map(crate::commands::quote).collect();
        format!("{} -qtest stdio < {trace}", words.join(" "))
    }
}

/// What the drivers of a path may give.
const INTERFACES: [&str; 2] = [graph::BLOCK, graph::CD];

/// The shortest path of the graph with this device on it, on the newer machine of two.
fn path_to(name: &str, emulator: &Emulator) -> Option<graph::Path> {
    let paths = INTERFACES.map(|interface| graph::paths(interface, emulator).0);
    let paths = paths.concat();
    let is_named = |path: &&graph::Path| {
        path.nodes.iter().any(|node| match node.kind {
            Kind::Device(text) => node.name == name || text.split(',').next() == Some(name),
            Kind::BuiltIn => node.name == name,
            Kind::Machine(_) | Kind::Global(_) | Kind::Driver(_) => false,
        })
    };
    // Only PCs have the register by which machines are reset.
    let is_pc = |path: &&graph::Path| ["pc", "q35"].contains(&path.machine());
    // What is built in has other names in the emulator.
    let built_in = |path: &graph::Path| {
        let mut nodes = path.nodes.iter();
        nodes.any(|node| matches!(node.kind, Kind::BuiltIn))
    };
    let found = paths.iter().filter(is_pc).filter(is_named);
    found
        .min_by_key(|path| (path.nodes.len(), path.machine() != "q35", built_in(path)))
        .cloned()
}
