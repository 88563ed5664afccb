//! blockdev-create makes a new image out of a file that held something else,
//! and its job's error has what it cannot make.
//!
//! group: rw auto quick create jobs
//! supported_fmt: generic
//! unsupported_fmt: raw vmdk
//! unsupported_imgopts: data_file
//! needs: qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(2 * MIB).await?;
    t.write(&img, &[(9, 0, 2 * MIB)]).await?;
    let mut qsd = t.qsd("").await?;
    qsd.run("blockdev-add", img.protocol_node("bytes")).await?;
    let mut options = json!({"driver": t.format(), "file": "bytes", "size": SIZE});
    match t.format() {
        "luks" => {
            options["key-secret"] = "sec0".into();
            options["iter-time"] = 10.into();
        }
        "vpc" => options["force-size"] = true.into(),
        _ => {}
    }
    let create = |more: Value| {
        let mut options = options.clone();
        if let (Some(options), Some(more)) = (options.as_object_mut(), more.as_object()) {
            options.extend(more.clone());
        }
        options
    };

    t.section("invalid requests");
    for (what, more) in [
        ("a file that is not there", json!({"file": "nowhere"})),
        ("a file that is the image itself", json!({"file": ""})),
    ] {
        qsd.run("blockdev-create", json!({"job-id": "create", "options": create(more)})).await?;
        let end = qsd.conclude_quietly("create").await?;
        t.log(format!("{what}: {}", if end.error.is_some() { "refused" } else { "made" }));
    }
    let unknown = json!({"job-id": "create", "options": {"driver": "null-co", "size": SIZE}});
    let refused = qsd.ask("blockdev-create", unknown).await?;
    t.log(format!(
        "a driver that creates nothing: {}",
        if refused.is_err() { "refused" } else { "begun" }
    ));

    t.section("a new image");
    qsd.create(create(json!({}))).await?;
    qsd.run("blockdev-del", json!({"node-name": "bytes"})).await?;
    qsd.add(&img, "img").await?;
    let export = qsd.export_nbd("img").await?;
    if t.format() != "luks" {
        t.io(&export, [format!("read -P 0 0 {SIZE}")]).quiet().await?;
    }
    t.io(&export, ["write -P 1 64k 64k", "write -P 2 4193792 512"]).await?;
    qsd.quit().await?;
    t.info(&img).await?;
    t.verify(&img, &[(1, 64 * KIB, 64 * KIB), (2, SIZE - 512, 512)]).await?;
    t.check(&img).await
}
