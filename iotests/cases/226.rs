//! A FUSE export is a file like any other: read, written, grown, cut, holes
//! punched, and all of it is in the image.
//!
//! group: rw auto quick fuse export
//! supported_fmt: generic
//! unsupported_fmt: qed luks
//! unsupported_imgopts: compat=0.10 cluster_size=2M
//! supported_proto: file
//! needs: fuse qemu-storage-daemon resize qemu>=10.0

use std::os::unix::fs::FileExt as _;

use iotests::prelude::*;
use nix::fcntl::{FallocateFlags, fallocate};

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.write(&img, &[(1, 0, MIB)]).await?;
    let mount = t.path("mount");
    std::fs::write(&mount, b"")?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&img, "disk").await?;
    let export = |id: &str, writable: bool, growable: bool| {
        json!({"type": "fuse", "id": id, "node-name": "disk", "mountpoint": &mount, "writable": writable,
            "growable": growable, "allow-other": "off"})
    };

    t.section("read-only");
    qsd.run("block-export-add", export("ro", false, false)).await?;
    ensure!(std::fs::metadata(&mount)?.len() == SIZE, "the file has another length");
    let file = std::fs::File::open(&mount)?;
    let mut bytes = vec![0; 64 * 1024];
    file.read_exact_at(&mut bytes, 512)?;
    t.log(format!("it reads as the image: {}", bytes.iter().all(|b| *b == 1)));
    drop(file);
    let written =
        std::fs::File::options().write(true).open(&mount).and_then(|f| f.write_all_at(b"x", 0));
    t.log(format!("it is written: {}", written.is_ok()));
    qsd.run("block-export-del", json!({"id": "ro"})).await?;
    qsd.event_where("BLOCK_EXPORT_DELETED", |d| d["id"] == "ro").await?;

    t.section("writable, not growable");
    qsd.run("block-export-add", export("rw", true, false)).await?;
    let file = std::fs::File::options().read(true).write(true).open(&mount)?;
    file.write_all_at(&[2; 1000], 1000)?;
    fallocate(
        &file,
        FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
        512 * 1024,
        128 * 1024,
    )?;
    let mut bytes = vec![9; 128 * 1024];
    file.read_exact_at(&mut bytes, 512 * 1024)?;
    t.log(format!("the hole is of zeroes: {}", bytes.iter().all(|b| *b == 0)));
    t.log(format!("written past the end: {}", file.write_all_at(&[3; 512], SIZE).is_ok()));
    t.log(format!("length as it was: {}", file.metadata()?.len() == SIZE));
    file.sync_all()?;
    drop(file);
    qsd.run("block-export-del", json!({"id": "rw"})).await?;
    qsd.event_where("BLOCK_EXPORT_DELETED", |d| d["id"] == "rw").await?;

    t.section("growable");
    qsd.run("block-export-add", export("grow", true, true)).await?;
    let file = std::fs::File::options().read(true).write(true).open(&mount)?;
    file.write_all_at(&[4; 1024], SIZE)?;
    t.log(format!("written past the end: {} bytes", file.metadata()?.len()));
    file.set_len(8 * MIB)?;
    t.log(format!("made longer: {} bytes", file.metadata()?.len()));
    file.sync_all()?;
    drop(file);
    qsd.run("block-export-del", json!({"id": "grow"})).await?;
    qsd.event_where("BLOCK_EXPORT_DELETED", |d| d["id"] == "grow").await?;
    qsd.quit().await?;
    std::fs::remove_file(&mount)?;

    t.section("the image");
    t.info(&img).await?;
    t.verify(
        &img,
        &[
            (1, 0, 1000),
            (2, 1000, 1000),
            (1, 2000, 512 * KIB - 2000),
            (0, 512 * KIB, 128 * KIB),
            (1, 640 * KIB, 384 * KIB),
            (4, SIZE, 1024),
        ],
    )
    .await?;
    t.check(&img).await
}
