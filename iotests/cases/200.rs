//! LUKS with its header in a file of its own: the payload is nothing but data, both
//! together are the disk, and neither alone nor with another header is.
//!
//! group: rw auto luks crypto
//! supported_fmt: luks
//! supported_proto: file
//! needs: qemu-storage-daemon qemu>=9.0

use std::path::{Path, PathBuf};

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

/// Makes a header for payloads of `SIZE` bytes, in a file of its own.
async fn header(t: &Test, name: &str) -> Result<PathBuf> {
    let path = t.path(name);
    std::fs::write(&path, b"")?;
    let mut qsd = t.qsd("").await?;
    qsd.run("blockdev-add", json!({"driver": "file", "node-name": "h", "filename": path})).await?;
    let options = json!({"driver": "luks", "header": "h", "size": SIZE, "key-secret": "sec0", "iter-time": 10});
    let done = qsd.job("blockdev-create", json!({"options": options})).await?;
    ensure!(done.error.is_none(), "{:?}", done.error);
    qsd.quit().await?;
    Ok(path)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let own = header(t, "own").await?;
    let other = header(t, "other").await?;
    let payload = t.image("payload").format("raw").size(SIZE).await?;
    let disk = |header: &Path| {
        let file = json!({"driver": "file", "filename": payload.file()});
        let header = json!({"driver": "file", "filename": header});
        format!(
            "json:{}",
            json!({"driver": "luks", "key-secret": "sec0", "file": file, "header": header})
        )
    };
    let by = |header: &Path, commands: Vec<String>| {
        let secret = format!("secret,id=sec0,data={}", t.env().key_secret);
        t.io(disk(header), commands).options(["--object", &secret]).quiet()
    };

    t.section("both together");
    let mut model = t.disk_model(SIZE);
    let ops =
        Plan { count: 40, align: 1, longest: 100 * KIB, ..Plan::default() }.ops(&mut t.rng(), SIZE);
    model.set(0, SIZE, Some(0xaa));
    ops.iter().for_each(|op| model.apply(op));
    let mut commands = vec![format!("write -P 0xaa 0 {SIZE}")];
    commands.extend(ops.iter().map(ToString::to_string));
    by(&own, commands).await?;
    by(&own, model.reads(0, SIZE)).await?;
    t.log("matches the model");

    t.section("the payload is data and nothing else");
    let bytes = std::fs::read(payload.file())?;
    t.log(format!("bytes: {}", bytes.len()));
    t.log(format!("it begins as LUKS does: {}", bytes.starts_with(b"LUKS")));
    t.log(format!("a run of what was written: {}", bytes.chunks(64).any(|run| *run == [0xaa; 64])));
    let bytes = std::fs::read(&own)?;
    t.log(format!("the header does: {}", bytes.starts_with(b"LUKS")));

    t.section("with another header");
    let whole = model.runs(0, SIZE).find(|(_, len, v)| *v == Some(0xaa) && *len >= 4096);
    let read = vec![format!("read -P 0xaa {} 4k", whole.context("nothing to read")?.0)];
    by(&own, read.clone()).await?;
    by(&other, read).fails().await?;
    t.log("it is read as something else");

    t.section("the payload grows, and the header is copied");
    t.img(format!("resize {payload} 6M")).await?;
    model.resize(6 * MIB);
    model.set(SIZE, 2 * MIB, None);
    let copy = t.path("copy");
    std::fs::copy(&own, &copy)?;
    by(&copy, ["write -P 9 5M 1M", "read -P 9 5M 1M"].map(str::to_owned).to_vec()).await?;
    by(&copy, model.reads(0, SIZE)).await?;
    t.log("and all before matches the model");
    for file in [own, other, copy] {
        std::fs::remove_file(file)?;
    }
    Ok(())
}
