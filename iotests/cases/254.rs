//! A machine moves with its storage: its disk is mirrored over NBD to the other
//! process, and every write is there, before, between and after.
//!
//! group: rw quick machine migration mirror jobs nbd
//! supported_fmt: raw qcow2 luks
//! supported_proto: file
//! needs: qemu-system

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.image("src").size(SIZE).await?;
    let copy = t.image("dst").size(SIZE).await?;
    let mut seen = t.disk_model(SIZE);
    let mut rng = t.rng();
    let plan = Plan { count: 20, longest: 128 * KIB, ..Plan::default() };
    t.write(&img, &[(1, 0, SIZE)]).await?;
    seen.set(0, SIZE, Some(1));
    let (mut src, mut dst) = t.two_machines("", &[]).await?;
    src.add(&img, "disk").await?;
    dst.add(&copy, "disk").await?;
    let export = src.export_nbd("disk").await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;

    t.section("the storage");
    let target = dst.export_nbd("disk").await?;
    let socket = target.split_once("SOCK_DIR/").context("a socket")?.1;
    let path = t.env().sock_dir.join(socket);
    let remote = json!({"driver": "nbd", "node-name": "remote", "export": "disk",
        "server": {"type": "unix", "path": path}});
    src.run("blockdev-add", remote).await?;
    let mirror = json!({"device": "disk", "target": "remote", "sync": "full", "copy-mode": "write-blocking"});
    let job = src.start_job("blockdev-mirror", mirror).await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    src.await_state(&job, "ready").await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;

    t.section("the machine");
    src.unexport("nbd-disk").await?;
    src.qmp("block-job-cancel", json!({"device": job})).await?;
    src.conclude(&job, AtReady::Pass).await?;
    src.run("blockdev-del", json!({"node-name": "remote"})).await?;
    dst.unexport("nbd-disk").await?;
    t.migrate(&mut src, &mut dst).await?;
    src.quit().await?;
    dst.resume().await?;
    let then = seen.clone();
    t.matches(&img, &then).await?;
    let export = dst.export_nbd("disk").await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    dst.quit().await?;
    t.matches(&copy, &seen).await?;
    t.check(&copy).await?;
    t.check(&img).await
}
