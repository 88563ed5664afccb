//! A transaction that fails half-way leaves everything as it was: bitmaps, their
//! contents, and the graph.
//!
//! group: rw auto quick transaction bitmap snapshot
//! supported_fmt: generic
//! unsupported_fmt: vmdk
//! needs: backing qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.create(SIZE).await?;
    let top = t.image("top").backing(&base).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&base, "base").await?;
    qsd.add_with(&top, "top", json!({"backing": Value::Null})).await?;
    let export = qsd.export_nbd("base").await?;
    for name in ["a", "b"] {
        qsd.run(
            "block-dirty-bitmap-add",
            json!({"node": "base", "name": name, "granularity": 64 * KIB}),
        )
        .await?;
    }
    qsd.run("block-dirty-bitmap-disable", json!({"node": "base", "name": "b"})).await?;
    t.io(&export, ["write -P 1 0 128k"]).quiet().await?;
    qsd.log_bitmaps("base").await?;

    let on = |name: &str| json!({"node": "base", "name": name});
    let actions = vec![
        ("block-dirty-bitmap-add", on("new")),
        ("block-dirty-bitmap-disable", on("a")),
        ("block-dirty-bitmap-enable", on("b")),
        ("block-dirty-bitmap-merge", json!({"node": "base", "target": "b", "bitmaps": ["a"]})),
        ("block-dirty-bitmap-clear", on("a")),
        ("block-dirty-bitmap-remove", on("a")),
        ("blockdev-snapshot", json!({"node": "base", "overlay": "top"})),
    ];
    t.section("the last action fails");
    let mut failing = actions.clone();
    failing.push(("block-dirty-bitmap-add", on("b")));
    qsd.qmp_fails("transaction", transaction(failing, json!({}))).await?;
    qsd.log_bitmaps("base").await?;
    qsd.log_backing("top").await?;
    t.io(&export, ["write -P 2 1M 64k"]).quiet().await?;
    qsd.log_bitmaps("base").await?;

    t.section("an explicit abort");
    let mut failing = actions.clone();
    failing.push(("abort", json!({})));
    qsd.qmp_fails("transaction", transaction(failing, json!({}))).await?;
    qsd.log_bitmaps("base").await?;
    qsd.log_backing("top").await?;

    t.section("all of it");
    qsd.transaction(actions, json!({})).await?;
    qsd.log_bitmaps("base").await?;
    qsd.log_backing("top").await?;
    t.io(&export, ["write -P 3 2M 64k", "read -P 2 1M 64k"]).quiet().await?;
    qsd.log_bitmaps("base").await?;

    t.section("nothing at all");
    qsd.transaction([], json!({})).await?;
    qsd.quit().await?;
    // The last write went into the overlay.
    t.verify(&base, &[(1, 0, 128 * KIB), (2, MIB, 64 * KIB), (0, 2 * MIB, 64 * KIB)]).await?;
    t.check(&base).await?;
    t.check(&top).await
}
