//! Starting a guest.

use std::collections::VecDeque;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;

use super::{Bus, LinuxGuest, bus};
use crate::ctx::Ctx;
use crate::daemon::Daemon;
use crate::image::{Image, option_value};
use crate::machine::MACHINE;
use crate::test::Test;

/// The guest's memory.
const MEMORY: &str = "256M";

/// The kernel's command line: no console but the serial port, and no waiting after a panic.
const KERNEL_OPTIONS: &str = "console=ttyS0 panic=-1 quiet mitigations=off";

/// A guest that is about to boot, with its disks.
#[must_use = "nothing boots until `boot` is called"]
pub struct Boot {
    ctx: Rc<Ctx>,
    options: Vec<String>,
    disks: Vec<String>,
    shown: Vec<String>,
}

impl Test {
    /// A guest that [`Boot::boot`] boots.
    pub fn linux(&self) -> Boot {
        Boot {
            ctx: Rc::clone(&self.ctx),
            options: Vec::new(),
            disks: Vec::new(),
            shown: Vec::new(),
        }
    }
}

impl Boot {
    /// A disk: `id` is the name of its node, the id of its device, and, in the guest,
    /// `/dev/ID`.
    pub fn disk(self, image: &Image, id: &str, bus: Bus) -> Self {
        self.disk_with(image, id, bus, &json!({}), &json!({}))
    }

    /// A disk with more options of its node, such as `{"discard": "unmap"}`, and properties
    /// of its device, such as `{"werror": "stop"}`.
    pub fn disk_with(
        self,
        image: &Image,
        id: &str,
        bus: Bus,
        node: &Value,
        device: &Value,
    ) -> Self {
        let node = self.ctx.node_with(image, id, node);
        self.node(&node).device(id, bus, device)
    }

    /// A disk of 32 MiB on each bus, with these options of its node; the images, with the ids.
    ///
    /// # Errors
    ///
    /// Fails if an image cannot be made.
    pub async fn disk_on_each_bus(
        mut self,
        t: &Test,
        node: impl Fn(Bus) -> Value,
    ) -> Result<(Self, Vec<(Image, String)>)> {
        let mut disks = Vec::new();
        for bus in Bus::ALL {
            let id = bus.name().replace('-', "");
            let image = t.image(&id).size("32M").await?;
            self = self.disk_with(&image, &id, bus, &node(bus), &json!({}));
            disks.push((image, id));
        }
        Ok((self, disks))
    }

    /// One more node.
    pub fn node(mut self, node: &Value) -> Self {
        self.options
            .extend(["-blockdev".to_owned(), node.to_string()]);
        self
    }

    /// A device for the node `id`.
    pub fn device(mut self, id: &str, bus: Bus, properties: &Value) -> Self {
        let device = bus.device(id, properties).to_string();
        self.options.extend(["-device".to_owned(), device]);
        self.disks.push(id.to_owned());
        self.shown.push(format!("{id} on {}", bus.name()));
        self
    }

    /// More options of the emulator.
    pub fn options<const N: usize>(mut self, options: [&str; N]) -> Self {
        self.options.extend(options.map(str::to_owned));
        self
    }

    /// Boots it, and waits until it takes commands and has its disks; logged.
    ///
    /// # Errors
    ///
    /// Fails if it does not boot.
    pub async fn boot(self) -> Result<LinuxGuest> {
        self.ctx.log(format!("guest: {}", self.shown.join(", ")));
        let disks = self.disks.clone();
        let mut guest = self.start().await?;
        guest.go_on().await?;
        guest.await_ready(&disks).await?;
        Ok(guest)
    }

    /// Starts a machine to which a guest can migrate; not logged.
    ///
    /// # Errors
    ///
    /// Fails if it does not start.
    pub async fn incoming(self) -> Result<LinuxGuest> {
        self.options(["-incoming", "defer"]).start().await
    }

    /// Starts the machine, stopped before its first instruction.
    async fn start(self) -> Result<LinuxGuest> {
        let ctx = &self.ctx;
        let number = ctx.daemons.get() + 1;
        let socket = ctx.env.sock_dir.join(format!("guest-{number}"));
        let console = ctx.env.test_dir.join(format!("console-{number}.log"));
        let file = |name: &str| ctx.env.guest_dir.join(name).display().to_string();
        let mut options = vec!["-m".to_owned(), MEMORY.to_owned()];
        let mut add = |words: [&str; 2]| options.extend(words.map(str::to_owned));
        add(["-machine", MACHINE]);
        add(["-kernel", &file("kernel")]);
        add(["-initrd", &file("initramfs")]);
        add(["-append", KERNEL_OPTIONS]);
        // With -p the console is shown as it comes, with what the emulator prints.
        let shown = format!(
            "file,id=console,path={},append=on",
            match ctx.env.print_qemu {
                true => "/dev/fd/2".to_owned(),
                false => option_value(&console.display().to_string()),
            }
        );
        add(["-chardev", &shown]);
        add(["-serial", "chardev:console"]);
        let port = format!(
            "socket,id=port,path={},server=on,wait=off",
            option_value(&socket.display().to_string())
        );
        add(["-chardev", &port]);
        add(["-device", "virtio-serial-pci"]);
        add(["-device", "virtserialport,chardev=port,name=iotests"]);
        options.extend(["-S", "-no-reboot"].map(str::to_owned));
        options.extend(bus::controllers());
        options.extend(self.options);
        let vm =
            Daemon::emulator(ctx, ctx.running_machine_options(&["kvm", "tcg"]), &options).await?;
        let connected = UnixStream::connect(&socket).await;
        let connected = connected.context("failed to connect to the guest's port")?;
        // The name is not needed any more.
        let _ = std::fs::remove_file(&socket);
        let (output, input) = connected.into_split();
        Ok(LinuxGuest {
            vm,
            lines: BufReader::new(output).lines(),
            input,
            commands: 0,
            events: VecDeque::new(),
            console,
        })
    }
}
