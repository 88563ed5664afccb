//! One disk behind a device, and a model of what it has to hold.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use qtest::block::{self, Disk, Features, Request, Status, Tag};
use qtest::graph::Path;
use qtest::{Buffer, Guest};
use serde_json::{Value, json};

use super::{Lacking, Setup, device_object};
use crate::daemon::Daemon;
use crate::disk_model::{DiskModel, Op};
use crate::image::Image;
use crate::test::Test;
use crate::writelog::WriteLog;

/// A request on its way.
#[derive(Debug)]
pub struct Pending {
    tag: Tag,
    op: Op,
    buffer: Buffer,
}

/// A disk behind a device of a running machine.
pub struct DeviceDisk {
    /// The emulator.
    pub vm: Daemon,
    /// The storage daemon that serves the disk, where one does ([`Setup::served`]).
    pub server: Option<Daemon>,
    /// The machine's memory and registers.
    pub guest: Guest,
    /// The driver.
    pub disk: Box<dyn Disk>,
    /// From the machine to the disk.
    pub path: Path,
    /// What it has to hold.
    pub model: DiskModel,
    /// Its image, which the model is compared with at the end.
    pub image: Image,
    /// What ended while something else was awaited.
    ended: Vec<(Tag, Status)>,
}

impl DeviceDisk {
    pub(super) fn new(
        vm: Daemon,
        guest: Guest,
        disk: Box<dyn Disk>,
        path: Path,
        (model, image): (DiskModel, Image),
    ) -> Self {
        Self {
            vm,
            server: None,
            guest,
            disk,
            path,
            model,
            image,
            ended: Vec::new(),
        }
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.model.size()
    }

    /// What the device can do.
    #[must_use]
    pub fn features(&self) -> &Features {
        self.disk.features()
    }

    /// Leaves this path out where the device does not have what the test is about.
    ///
    /// # Errors
    ///
    /// Where it does not, and only then.
    pub fn needs(&self, what: &'static str, has: impl Fn(&Features) -> bool) -> Result<()> {
        if has(self.features()) {
            return Ok(());
        }
        Err(Lacking(what).into())
    }

    /// Does operations, logs them, and compares what is read with the model. Where the device
    /// has no command for zeroes, they are written; discards are left out.
    ///
    /// # Errors
    ///
    /// Fails if one fails, or something else is read than the model has.
    pub fn run(&mut self, ops: &[Op]) -> Result<()> {
        for op in ops {
            self.vm.ctx.log(op.to_string());
        }
        self.run_quietly(ops)
    }

    /// As [`Self::run`], and nothing is logged.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub fn run_quietly(&mut self, ops: &[Op]) -> Result<()> {
        for op in ops {
            if !self.is_aligned(op) {
                self.run_unaligned(op)?;
                continue;
            }
            for op in self.pieces(op) {
                let Some(pending) = self.start(&op)? else {
                    continue;
                };
                let status = self.end_of(pending)?;
                self.settled(&op, &status)?;
            }
        }
        Ok(())
    }

    /// Whether the device can do it: its blocks may be larger than those of tests.
    fn is_aligned(&self, op: &Op) -> bool {
        let block = u64::from(self.disk.block_size());
        op.range()
            .is_none_or(|(offset, length)| offset % block == 0 && length % block == 0)
    }

    /// As a guest does it: whole blocks are read, changed and written.
    fn run_unaligned(&mut self, op: &Op) -> Result<()> {
        let block = u64::from(self.disk.block_size());
        let value = match *op {
            Op::Write { pattern, .. } => Some(pattern),
            Op::Zero { .. } => Some(0),
            Op::Read { .. } => None,
            Op::Discard { .. } | Op::Flush => return Ok(()),
        };
        let Some((offset, length)) = op.range() else {
            return Ok(());
        };
        let start = offset / block * block;
        let end = (offset + length).next_multiple_of(block);
        let (disk, guest) = (self.disk.as_mut(), &mut self.guest);
        let mut bytes = block::read(disk, guest, start, end - start)?;
        self.compare(start, &bytes)?;
        let Some(value) = value else { return Ok(()) };
        let from = usize::try_from(offset - start)?;
        bytes[from..from + usize::try_from(length)?].fill(value);
        block::write(self.disk.as_mut(), &mut self.guest, start, &bytes)?;
        self.model.set(offset, length, Some(value));
        Ok(())
    }

    /// One operation that has to fail; logged.
    ///
    /// # Errors
    ///
    /// Fails if it succeeds.
    pub fn fails(&mut self, op: &Op) -> Result<()> {
        self.refuses(op)?;
        self.vm.ctx.log(format!("{op}: failed, as it has to"));
        Ok(())
    }

    /// As [`Self::fails`]; not logged.
    ///
    /// # Errors
    ///
    /// Fails if it succeeds.
    pub fn refuses(&mut self, op: &Op) -> Result<()> {
        let Some(pending) = self.start(op)? else {
            bail!("the device has no request for {op}");
        };
        match self.end_of(pending)? {
            Status::Failed { .. } => Ok(()),
            Status::Done => bail!("{op} succeeded (expected a failure)"),
        }
    }

    /// Starts an operation and does not wait; nothing for what the device has no request for.
    /// The model has it when [`Self::finish`] has seen its end.
    ///
    /// # Errors
    ///
    /// Fails if the driver cannot start it.
    pub fn start(&mut self, op: &Op) -> Result<Option<Pending>> {
        self.start_on(0, op)
    }

    /// As [`Self::start`], on one of several queues.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_on(&mut self, queue: usize, op: &Op) -> Result<Option<Pending>> {
        let features = self.features();
        let (zeroes, discard, flush) = (features.write_zeroes, features.discard, features.flush);
        let mut buffer = Buffer::default();
        let request = match *op {
            Op::Write {
                pattern,
                offset,
                length,
            } => {
                buffer = self.filled(pattern, length)?;
                self.write_request(offset, &buffer)
            }
            Op::Zero {
                offset,
                length,
                unmap,
            } if zeroes => Request::WriteZeroes {
                offset,
                length,
                unmap,
            },
            Op::Zero { offset, length, .. } => {
                buffer = self.filled(0, length)?;
                self.write_request(offset, &buffer)
            }
            Op::Discard { offset, length } if discard => Request::Discard { offset, length },
            Op::Flush if flush => Request::Flush,
            Op::Discard { .. } | Op::Flush => return Ok(None),
            Op::Read { offset, length } => {
                buffer = self.filled(0xee, length)?;
                let buffer = buffer.clone();
                Request::Read { offset, buffer }
            }
        };
        let tag = self.disk.submit(&mut self.guest, queue, &request)?;
        let op = *op;
        Ok(Some(Pending { tag, op, buffer }))
    }

    fn filled(&mut self, pattern: u8, length: u64) -> Result<Buffer> {
        let length = u32::try_from(length)?;
        let buffer = self.guest.buffer(&[length], 4096)?;
        for &(address, length) in &buffer.pieces {
            self.guest.fill(address, length.into(), pattern)?;
        }
        Ok(buffer)
    }

    fn write_request(&self, offset: u64, buffer: &Buffer) -> Request {
        let buffer = buffer.clone();
        let fua = false;
        Request::Write {
            offset,
            buffer,
            fua,
        }
    }

    /// Waits for requests; each has to succeed, and what is read to be what the model has.
    ///
    /// # Errors
    ///
    /// Fails if one fails or reads something else, or does not end.
    pub fn finish(&mut self, pending: Vec<Pending>) -> Result<()> {
        for pending in pending {
            let op = pending.op;
            let status = self.end_of(pending)?;
            self.settled(&op, &status)?;
        }
        Ok(())
    }

    /// Waits for a request; its end. What was read is compared with the model.
    ///
    /// # Errors
    ///
    /// Fails if it does not end, or reads something else than the model has.
    pub fn end_of(&mut self, pending: Pending) -> Result<Status> {
        let position = self.ended.iter().position(|(tag, _)| *tag == pending.tag);
        let status = match position {
            Some(at) => self.ended.swap_remove(at).1,
            None => block::wait(
                self.disk.as_mut(),
                &mut self.guest,
                pending.tag,
                &mut self.ended,
            )
            .map_err(|e| anyhow!("{}: {e}", pending.op))?,
        };
        if let (Op::Read { offset, .. }, Status::Done) = (pending.op, &status) {
            let bytes = self.guest.buffer_bytes(&pending.buffer)?;
            self.compare(offset, &bytes)?;
        }
        self.guest.free_buffer(&pending.buffer);
        Ok(status)
    }

    /// Starts up to four writes of 64 KiB at once, with the patterns from `first` on, each 96 KiB
    /// behind the one before, and waits for them.
    ///
    /// # Errors
    ///
    /// Fails if one fails.
    pub fn write_at_once(&mut self, first: u8) -> Result<()> {
        const KIB: u64 = 1 << 10;
        let mut pending = Vec::new();
        for (n, pattern) in (0..self.features().depth.min(4) as u64).zip(first..) {
            pending.extend(self.start(&Op::write(pattern, n * 96 * KIB, 64 * KIB))?);
        }
        self.finish(pending)
    }

    /// An image of the disk's size as node `copy`, for a job to copy to; not logged.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made or added.
    pub async fn add_copy(&mut self, t: &Test) -> Result<Image> {
        let copy = t.image("copy").size(self.size()).quiet().await?;
        let node = self.vm.node_with(&copy, "copy", &json!({}));
        self.vm.run("blockdev-add", node).await?;
        Ok(copy)
    }

    /// What the emulator counts for the device (`query-blockstats`).
    ///
    /// # Errors
    ///
    /// Fails if it counts nothing for it.
    pub async fn statistics(&mut self) -> Result<Value> {
        let all = self.vm.run("query-blockstats", json!({})).await?;
        let of_device = |entry: &&Value| entry["qdev"].as_str().is_some_and(|q| q.contains("dev"));
        let one = all.as_array().and_then(|all| all.iter().find(of_device));
        Ok(one.context("no statistics")?["stats"].clone())
    }

    /// Whether a request has ended, without waiting.
    ///
    /// # Errors
    ///
    /// Fails if the device is not as it has to be.
    pub fn has_ended(&mut self, pending: &Pending) -> Result<bool> {
        self.ended.extend(self.disk.poll(&mut self.guest)?);
        Ok(self.ended.iter().any(|(tag, _)| *tag == pending.tag))
    }

    /// Waits until the machine has stopped, with the request still on its way.
    ///
    /// # Errors
    ///
    /// Fails if the request ends instead.
    pub async fn wait_for_stop(&mut self, pending: &Pending) -> Result<()> {
        loop {
            let status = self.vm.run("query-status", json!({})).await?;
            if status["running"] == false {
                return Ok(());
            }
            ensure!(!self.has_ended(pending)?, "{} ended", pending.op);
        }
    }

    /// Migrates the machine to another emulator, with all that is on its way, and ends the one
    /// that it came from. Both share the image.
    ///
    /// # Errors
    ///
    /// Fails if it does not succeed.
    pub async fn migrate(&mut self, t: &Test, setup: &Setup, image: &Image) -> Result<()> {
        let setup = setup.clone().options(["-incoming", "defer"]);
        let (mut vm, client) = t.start_guest(&setup, &self.path, image).await?;
        let events = json!({"capabilities": [{"capability": "events", "state": true}]});
        for vm in [&mut self.vm, &mut vm] {
            vm.run("migrate-set-capabilities", events.clone()).await?;
        }
        t.migrate(&mut self.vm, &mut vm).await?;
        self.guest.move_to(client);
        std::mem::replace(&mut self.vm, vm).quit().await
    }

    fn settled(&mut self, op: &Op, status: &Status) -> Result<()> {
        if let Status::Failed { why } = status {
            bail!("{op}: {why}");
        }
        if !matches!(op, Op::Discard { .. }) || self.features().discard {
            self.model.apply(op);
        }
        Ok(())
    }

    /// Bytes that were read hold what the model has.
    ///
    /// # Errors
    ///
    /// Fails with the first place that differs.
    pub fn compare(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        for (start, length, value) in self.model.runs(offset, bytes.len() as u64) {
            let Some(value) = value else { continue };
            let from = usize::try_from(start - offset)?;
            let part = &bytes[from..from + usize::try_from(length)?];
            if let Some(at) = part.iter().position(|b| *b != value) {
                bail!(
                    "read at {}: {:#04x}, written was {value:#04x}",
                    start + at as u64,
                    part[at]
                );
            }
        }
        Ok(())
    }

    /// Reads the whole disk and compares it with the model; logs that.
    ///
    /// # Errors
    ///
    /// Fails if something else is read.
    pub fn matches(&mut self) -> Result<()> {
        let op = Op::Read {
            offset: 0,
            length: self.size(),
        };
        self.run_quietly(&[op])?;
        self.vm.ctx.log("the disk matches the model");
        Ok(())
    }

    /// An operation in requests that the device takes.
    fn pieces(&self, op: &Op) -> Vec<Op> {
        const MIB: u64 = 1 << 20;
        let (Some((offset, length)), false) = (op.range(), matches!(op, Op::Discard { .. })) else {
            return vec![*op];
        };
        let step = self.features().longest.min(MIB);
        let starts = (0..length.max(1)).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        starts
            .map(|at| op.over(offset + at, step.min(length - at)))
            .collect()
    }

    /// Asks the device anew how large it is, in bytes.
    ///
    /// # Errors
    ///
    /// Fails if it does not say.
    pub fn refresh_size(&mut self) -> Result<u64> {
        Ok(self.disk.refresh_size(&mut self.guest)?)
    }

    /// Carries out a SCSI command that has `length` bytes of data for the guest; what the device
    /// says if it refuses.
    ///
    /// # Errors
    ///
    /// Fails if the disk takes no SCSI commands, or the device does not answer.
    pub fn scsi(&mut self, cdb: Vec<u8>, length: u32) -> Result<Result<Vec<u8>, String>> {
        Ok(self.disk.scsi(&mut self.guest, cdb, length)?)
    }

    /// Keeps requests waiting from now on ([`super::Setup::holds`]): one write is let through,
    /// so that the next one waits.
    ///
    /// # Errors
    ///
    /// Fails if the emulator does not.
    pub async fn hold(&mut self) -> Result<()> {
        // What goes over a limit of one byte a second is waited for before the next request.
        self.limits(json!({"bps-total": 1})).await
    }

    /// Holds no more requests. Those that are held go on when they are drained: by a reset, a
    /// stop, a change of the graph.
    ///
    /// # Errors
    ///
    /// Fails if the emulator does not.
    pub async fn release(&mut self) -> Result<()> {
        self.limits(json!({"bps-total": 0})).await
    }

    /// The name by which QMP knows the device's use of its image.
    #[must_use]
    pub fn backend_id(&self) -> String {
        let id = self.path.disk_id();
        if self.path.to_string().contains("/virtio-blk-pci") {
            format!("/machine/peripheral/{id}/virtio-backend")
        } else {
            id
        }
    }

    /// What has been written to the file so far ([`Setup::write_log`]).
    ///
    /// # Errors
    ///
    /// Fails if there is no log, or it cannot be read.
    pub fn write_log(&self, t: &Test) -> Result<WriteLog> {
        let file = t.path(super::LOG);
        let bytes =
            std::fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
        WriteLog::parse(&bytes)
    }

    /// Plugs the device that was unplugged in again, and sets the disk up.
    ///
    /// # Errors
    ///
    /// Fails if the emulator refuses it, or the disk is not found.
    pub async fn plug(&mut self, top: &str) -> Result<()> {
        let id = format!("id={}", self.path.disk_id());
        let devices = self.path.devices(top, "", "");
        let device = devices.iter().find(|text| text.split(',').any(|w| w == id));
        let device = device.context("no device of the path has the image")?;
        self.vm.run("device_add", device_object(device)).await?;
        self.reopen()
    }

    /// Limits the device to so many bytes in a second; 0 is no limit.
    ///
    /// # Errors
    ///
    /// Fails if the emulator does not.
    pub async fn set_limit(&mut self, bytes: u64) -> Result<()> {
        let mut limits = json!({"id": self.backend_id(), "bps": bytes});
        for other in ["bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"] {
            limits[other] = 0.into();
        }
        self.vm.run("block_set_io_throttle", limits).await.map(drop)
    }

    async fn limits(&mut self, limits: Value) -> Result<()> {
        let arguments = json!({"path": "/objects/hold", "property": "limits", "value": limits});
        self.vm.run("qom-set", arguments).await.map(drop)
    }

    /// Starts operations that do not end until all requests are drained, after [`Self::hold`].
    ///
    /// # Errors
    ///
    /// Fails if one cannot be started, or ends.
    pub fn start_held(&mut self, ops: &[Op]) -> Result<Vec<Pending>> {
        let mut pending = Vec::new();
        for op in ops {
            self.vm.ctx.log(format!("{op}: started"));
            pending.extend(self.start(op)?);
        }
        for pending in &pending {
            ensure!(!self.has_ended(pending)?, "{} was not held", pending.op);
        }
        Ok(pending)
    }

    /// What becomes of requests that a reset gave up is not known: their range may hold what it
    /// did, or what they wrote.
    pub fn forget(&mut self, pending: Vec<Pending>) {
        for pending in pending {
            if let Op::Write { offset, length, .. } | Op::Zero { offset, length, .. } = pending.op {
                self.model.set(offset, length, None);
            }
        }
    }

    /// Resets the device, as a driver does.
    ///
    /// # Errors
    ///
    /// Fails if it does not come back.
    pub fn reset(&mut self) -> Result<()> {
        self.ended.clear();
        self.disk.reset(&mut self.guest)?;
        Ok(())
    }

    /// Finds the disk again after the machine was reset.
    ///
    /// # Errors
    ///
    /// Fails if it is not there.
    pub fn reopen(&mut self) -> Result<()> {
        self.ended.clear();
        self.guest.free_all();
        self.disk = self.path.open(&mut self.guest)?;
        Ok(())
    }

    /// Ends the emulator; the image is checked and holds what the model has.
    pub(super) async fn end(self, t: &Test) -> Result<()> {
        let Self {
            vm,
            server,
            model,
            image,
            ..
        } = self;
        vm.quit().await?;
        if let Some(server) = server {
            server.quit().await?;
        }
        ensure!(
            t.virtual_size(&image).await? >= model.size(),
            "{image} is smaller than the disk"
        );
        t.check(&image).await?;
        t.io(&image, model.reads(0, model.size()))
            .options(["-r"])
            .quiet()
            .await?;
        t.log(format!("{image}: matches the model"));
        Ok(())
    }
}
