//! The graph is changed under a guest whose writes are in flight - options, backing
//! files, snapshots, filters - and each write is there afterwards, once.
//!
//! group: rw auto quick backing snapshot stream jobs qmp
//! supported_fmt: generic
//! unsupported_imgopts: data_file
//! unsupported_fmt: qed
//! needs: rebase qemu-storage-daemon driver:copy-on-read driver:throttle reopen

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    let mut model = t.disk_model(SIZE);
    t.apply(&base, &mut model, &[Op::write(255, 0, SIZE)]).await?;
    let top = t.image("top").backing(&base).await?;
    let layers = [
        t.image("one").backing(&top).quiet().await?,
        t.image("two").backing(&top).quiet().await?,
        t.image("three").backing(&top).quiet().await?,
    ];
    let mut qsd = t.qsd("").await?;
    qsd.add_with(&base, "base", json!({"read-only": true})).await?;
    qsd.add_with(&top, "top", json!({"backing": "base"})).await?;
    let group = json!({"qom-type": "throttle-group", "id": "group"});
    qsd.run("object-add", group).await?;
    qsd.qmp("blockdev-add", json!({"driver": "throttle", "node-name": "disk", "throttle-group": "group", "file": "top"}))
        .await?;
    let mut guest = t.guest(qsd.export_nbd("disk").await?, model).await?;

    t.section("options");
    for n in 0..6 {
        guest.write().await?;
        let unmap = if n % 2 == 0 { "unmap" } else { "ignore" };
        let zeroes = if n % 2 == 0 { "unmap" } else { "off" };
        let options = qsd.node_with(
            &top,
            "top",
            &json!({"backing": "base", "discard": unmap, "detect-zeroes": zeroes}),
        );
        qsd.run("blockdev-reopen", json!({"options": [options]})).await?;
        guest.write().await?;
    }
    guest.settle().await?;
    t.log("the guest's disk is intact");

    t.section("snapshots, one upon the other");
    let mut below = "top";
    for (img, name) in layers.iter().zip(["one", "two", "three"]) {
        guest.write().await?;
        qsd.add_with(img, name, json!({"backing": null})).await?;
        qsd.qmp("blockdev-snapshot", json!({"node": below, "overlay": name})).await?;
        guest.write().await?;
        below = name;
    }
    guest.settle().await?;
    t.log("the guest's disk is intact");

    t.section("a filter that is put in and taken out");
    for _ in 0..4 {
        guest.write().await?;
        qsd.run(
            "blockdev-add",
            json!({"driver": "copy-on-read", "node-name": "cor", "file": "three"}),
        )
        .await?;
        for file in ["cor", "three"] {
            let options = json!([{"driver": "throttle", "node-name": "disk", "throttle-group": "group", "file": file}]);
            qsd.run("blockdev-reopen", json!({"options": options})).await?;
            guest.write().await?;
        }
        qsd.run("blockdev-del", json!({"node-name": "cor"})).await?;
    }
    guest.settle().await?;
    t.log("the guest's disk is intact");

    t.section("the chain is flattened again");
    let job =
        qsd.start_job("block-stream", json!({"device": "three", "base-node": "base"})).await?;
    guest.write().await?;
    let end = qsd.conclude(&job, AtReady::Complete).await?;
    ensure!(end.error.is_none(), "{:?}", end.error);
    guest.write().await?;
    for name in ["two", "one", "top"] {
        qsd.run("blockdev-del", json!({"node-name": name})).await?;
        guest.write().await?;
    }
    guest.settle().await?;
    let model = guest.leave().await?;
    qsd.log_backing("three").await?;
    qsd.quit().await?;
    t.matches(&layers[2], &model).await?;
    t.check(&layers[2]).await?;
    t.check(&top).await
}
