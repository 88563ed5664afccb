//! A guest's CD drive follows its medium: what it reads and how large it is, whether the tray is
//! moved by the guest or from outside; and a medium that the guest has locked stays until the
//! guest lets it go.
//!
//! group: rw device
//! supported_fmt: generic
//! needs: qtest

use iotests::prelude::*;
use qtest::drivers::scsi::cdb;

const SIZE: u64 = 64 * KIB;

/// What happened to the medium, and bits of the tray (MMC-6 6.5.2.6).
const EJECT_REQUESTED: u8 = 1;
const NEW_MEDIUM: u8 = 2;
const TRAY_OPEN: u8 = 1;
const MEDIUM_PRESENT: u8 = 2;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.on_each_disk(&Setup::cd_drive(SIZE), |_| true, async |drive| follows(t, drive).await).await
}

async fn follows(t: &Test, drive: &mut DeviceDisk) -> Result<()> {
    let first = drive.model.clone();
    let other = t.image("other").size(2 * SIZE).quiet().await?;
    let size = t.virtual_size(&other).await?;
    let mut model = t.disk_model(size);
    model.set(0, size, Some(7));
    t.io(&other, [format!("write -P 7 0 {size}")]).quiet().await?;
    drive.vm.add_with(&other, "other", json!({"read-only": true})).await?;
    let id = json!({"id": drive.path.disk_id()});
    let medium = |node: &str| json!({"id": drive.path.disk_id(), "node-name": node});
    let (disk, other) = (medium("disk"), medium("other"));

    t.section("the first medium");
    drive.matches()?;
    event(drive)?;

    t.section("locked by the guest");
    drive.scsi(cdb::prevent_removal(true), 0)?.map_err(|why| anyhow!(why))?;
    drive.vm.qmp("blockdev-open-tray", id.clone()).await?;
    let (what, tray) = event(drive)?;
    ensure!((what, tray) == (EJECT_REQUESTED, MEDIUM_PRESENT), "event {what}, tray {tray}");
    ensure!(drive.scsi(cdb::move_tray(true), 0)?.is_err(), "the guest opened a locked tray");
    drive.vm.qmp_fails("blockdev-remove-medium", id.clone()).await?;
    drive.matches()?;

    t.section("let go and exchanged");
    drive.scsi(cdb::prevent_removal(false), 0)?.map_err(|why| anyhow!(why))?;
    drive.scsi(cdb::move_tray(true), 0)?.map_err(|why| anyhow!(why))?;
    moved(t, drive, true).await?;
    ensure!(event(drive)?.1 & TRAY_OPEN != 0, "the tray is not open");
    drive.vm.qmp("blockdev-remove-medium", id.clone()).await?;
    ensure!(drive.refresh_size()? == 0, "there is a size without a medium");
    drive.vm.qmp("blockdev-insert-medium", other).await?;
    drive.vm.qmp("blockdev-close-tray", id.clone()).await?;
    moved(t, drive, false).await?;
    let (what, tray) = event(drive)?;
    ensure!((what, tray) == (NEW_MEDIUM, MEDIUM_PRESENT), "event {what}, tray {tray}");
    has_size(drive, size)?;
    drive.model = model;
    drive.matches()?;

    t.section("exchanged from outside");
    drive.vm.qmp("blockdev-open-tray", id.clone()).await?;
    moved(t, drive, true).await?;
    ensure!(drive.refresh_size()? == 0, "there is a size behind an open tray");
    drive.vm.qmp("blockdev-remove-medium", id.clone()).await?;
    drive.vm.qmp("blockdev-insert-medium", disk).await?;
    drive.vm.qmp("blockdev-close-tray", id).await?;
    moved(t, drive, false).await?;
    has_size(drive, first.size())?;
    drive.model = first;
    drive.matches()
}

/// The drive has a medium of this size. An ATA drive says once that it has none when one is
/// exchanged, so that guests see that there was a change.
fn has_size(drive: &mut DeviceDisk, size: u64) -> Result<()> {
    let size_now = match drive.refresh_size()? {
        0 => drive.refresh_size()?,
        size => size,
    };
    ensure!(size_now == size, "the medium has {size} bytes, and the drive says {size_now}");
    Ok(())
}

/// The tray has moved, as the monitor reports it.
async fn moved(t: &Test, drive: &mut DeviceDisk, open: bool) -> Result<()> {
    let id = drive.path.disk_id();
    let this = |data: &Value| data["id"] == *id && data["tray-open"] == open;
    drive.vm.event_where("DEVICE_TRAY_MOVED", this).await?;
    t.log(if open { "the tray is open" } else { "the tray is closed" });
    Ok(())
}

/// What happened to the medium since this was last asked, and bits of the tray.
fn event(drive: &mut DeviceDisk) -> Result<(u8, u8)> {
    let length = cdb::MEDIA_EVENT_LENGTH.into();
    let bytes = drive.scsi(cdb::media_event(), length)?.map_err(|why| anyhow!(why))?;
    Ok((bytes[4] & 15, bytes[5] & 3))
}
