//! The commands that make their target themselves (snapshot, backup, mirror of a
//! drive) make it as asked, and leave nothing where they are refused.
//!
//! group: rw quick machine backup mirror snapshot jobs
//! supported_fmt: generic
//! supported_proto: file
//! unsupported_fmt: raw luks
//! needs: rebase qemu-system
//! unsupported_imgopts: data_file

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.write(&img, &[(1, 0, SIZE)]).await?;
    let mut vm = t.vm("").await?;
    vm.add(&img, "disk").await?;
    let export = vm.export_nbd("disk").await?;
    // Made once, so that it has a name; QEMU makes it anew.
    let mut made = Vec::new();
    for name in ["overlay", "backup", "mirror", "top"] {
        made.push(t.image(name).size(512).quiet().await?);
    }
    let [overlay, backup, mirror, top] = &made[..] else { bail!("four images") };

    t.section("a snapshot");
    let args = json!({"node-name": "disk", "snapshot-file": overlay.real(), "snapshot-node-name": "over",
        "format": t.format()});
    vm.qmp("blockdev-snapshot-sync", args.clone()).await?;
    vm.qmp_fails("blockdev-snapshot-sync", args).await?;
    t.io(&export, ["write -P 2 1M 64k"]).await?;

    t.section("a backup of all, and one of the overlay alone");
    let drive = |target: &Image, sync: &str| {
        json!({"device": "over", "target": target.real(), "sync": sync,
        "format": target.format()})
    };
    vm.job("drive-backup", drive(backup, "full")).await?;
    vm.job("drive-backup", drive(top, "top")).await?;

    t.section("a mirror");
    let job = vm.start_job("drive-mirror", drive(mirror, "full")).await?;
    t.io(&export, ["write -P 3 2M 64k"]).await?;
    vm.conclude(&job, AtReady::Complete).await?;
    t.io(&export, ["write -P 4 3M 64k"]).await?;

    t.section("invalid requests");
    let mut nowhere = drive(top, "full");
    nowhere["target"] = "/nonexistent/image".into();
    nowhere["job-id"] = "j".into();
    vm.ask("drive-backup", nowhere).await?.err().context("made in a folder that is not there")?;
    let mut missing = drive(top, "full");
    missing["target"] = t.path("missing").to_string_lossy().into();
    missing["mode"] = "existing".into();
    missing["job-id"] = "j".into();
    vm.ask("drive-backup", missing)
        .await?
        .err()
        .context("an image that is not there was opened")?;
    t.log(format!("nothing was left: {}", !t.path("missing").exists()));
    vm.quit().await?;

    for image in [overlay, backup, mirror, top] {
        t.info(image).await?;
        t.check(image).await?;
    }
    t.verify(&img, &[(1, 0, SIZE)]).await?;
    t.verify(
        overlay,
        &[(1, 0, MIB), (2, MIB, 64 * KIB), (3, 2 * MIB, 64 * KIB), (1, 3 * MIB, MIB)],
    )
    .await?;
    t.verify(backup, &[(1, 0, MIB), (2, MIB, 64 * KIB), (1, 2 * MIB, 2 * MIB)]).await?;
    t.verify(top, &[(1, 0, MIB), (2, MIB, 64 * KIB), (1, 2 * MIB, 2 * MIB)]).await?;
    t.verify(mirror, &[(2, MIB, 64 * KIB), (3, 2 * MIB, 64 * KIB), (4, 3 * MIB, 64 * KIB)]).await
}
