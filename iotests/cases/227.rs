//! The log that blklogwrites keeps holds every write with its data: done once
//! more, from the start or from where an older log ends, they give the same image.
//!
//! group: rw auto quick io
//! supported_aio: threads native
//! supported_fmt: generic
//! unsupported_imgopts: data_file
//! supported_proto: file
//! needs: driver:blklogwrites

use std::fs::File;
use std::path::Path;

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

/// The image's node with a log below its format.
fn logging(img: &Image, log: &Path, options: &Value) -> String {
    let mut node = img.node("disk");
    let below = node["file"].take();
    node["file"] = json!({"driver": "blklogwrites", "file": below, "log": {"driver": "file", "filename": log}});
    if let (Some(node), Some(options)) = (node["file"].as_object_mut(), options.as_object()) {
        node.extend(options.clone());
    }
    format!("json:{node}")
}

/// Brings what the file was before, and these writes, to the same length as now.
fn replay(before: &Path, log: &WriteLog, img: &Image) -> Result<()> {
    let length = img.file().metadata()?.len();
    std::fs::copy(before, img.file())?;
    let file = File::options().write(true).open(img.file())?;
    log.replay(&file, log.entries.len())?;
    Ok(file.set_len(length)?)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let before = t.path("before");
    std::fs::copy(img.file(), &before)?;
    let path = t.path("log");
    std::fs::write(&path, b"")?;
    let mut model = t.disk_model(SIZE);
    let plan = Plan { count: 30, ..Plan::default() };
    let mut rng = t.rng();

    t.section("a log of its own");
    let ops = plan.ops(&mut rng, SIZE);
    ops.iter().for_each(|op| model.apply(op));
    let disk = logging(&img, &path, &json!({}));
    t.io(&disk, ops.iter().map(ToString::to_string)).quiet().await?;
    let first = WriteLog::parse(&std::fs::read(&path)?)?;
    t.log(format!("it ends with a flush: {}", first.entries.last().is_some_and(|e| e.flush)));
    t.matches(&img, &model).await?;
    replay(&before, &first, &img)?;
    t.matches(&img, &model).await?;
    t.check(&img).await?;

    t.section("more to the same log");
    let ops = plan.ops(&mut rng, SIZE);
    ops.iter().for_each(|op| model.apply(op));
    let disk = logging(&img, &path, &json!({"log-append": true, "log-super-update-interval": 3}));
    t.io(&disk, ops.iter().map(ToString::to_string)).quiet().await?;
    let both = WriteLog::parse(&std::fs::read(&path)?)?;
    t.log(format!("it goes on where it ended: {}", both.entries.starts_with(&first.entries)));
    replay(&before, &both, &img)?;
    t.matches(&img, &model).await?;
    t.check(&img).await?;

    t.section("not a log");
    std::fs::write(&path, vec![7; 4096])?;
    let disk = logging(&img, &path, &json!({"log-append": true}));
    t.io(&disk, ["read 0 512"]).fails().quiet().await?;
    for size in [0, 511, 513] {
        let disk = logging(&img, &path, &json!({"log-sector-size": size}));
        t.io(&disk, ["read 0 512"]).fails().quiet().await?;
    }
    t.log("neither another file nor invalid sector sizes");
    t.matches(&img, &model).await?;
    for file in [before, path] {
        std::fs::remove_file(file)?;
    }
    Ok(())
}
