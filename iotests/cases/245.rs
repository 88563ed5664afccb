//! A storage daemon does on its command line what it does over QMP: nodes,
//! exports, objects and servers in order, and where one is invalid it reports
//! that and exits.
//!
//! group: rw auto quick qmp nbd export
//! supported_fmt: generic
//! unsupported_imgopts: data_file
//! unsupported_fmt: luks
//! supported_proto: file
//! needs: qemu-storage-daemon not-wrapped

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(4 * MIB).await?;
    t.write(&img, &[(1, 0, MIB)]).await?;
    let file = format!("--blockdev driver=file,node-name=file,filename={}", img.file().display());
    let disk = "--blockdev driver=IMGFMT,node-name=disk,file=file";
    let server = "--nbd-server addr.type=unix,addr.path=SOCK_DIR/line";

    t.section("as options, and as JSON");
    let export = "--export type=nbd,id=e,node-name=disk,writable=on,name=one";
    let mut qsd = t.qsd(format!("{file} {disk} {server} {export}")).await?;
    t.io("nbd+unix:///one?socket=SOCK_DIR/line", ["read -P 1 0 1M", "write -P 2 0 64k"]).await?;
    let nodes = qsd.run("query-named-block-nodes", json!({"flat": true})).await?;
    t.log(format!("nodes: {}", nodes.as_array().map_or(0, Vec::len)));
    qsd.quit().await?;
    let json = [
        "--blockdev".to_owned(),
        json!({"driver": "IMGFMT", "node-name": "disk", "file": {"driver": "file", "filename": img.file()}}).to_string(),
        "--object".to_owned(),
        json!({"qom-type": "throttle-group", "id": "group", "limits": {"iops-total": 100_000}}).to_string(),
        "--blockdev".to_owned(),
        json!({"driver": "throttle", "node-name": "slow", "throttle-group": "group", "file": "disk"}).to_string(),
        "--nbd-server".to_owned(),
        json!({"addr": {"type": "unix", "path": "SOCK_DIR/line"}, "max-connections": 3}).to_string(),
        "--export".to_owned(),
        json!({"type": "nbd", "id": "e", "node-name": "slow", "writable": true}).to_string(),
    ];
    let qsd = t.qsd(&json[..]).await?;
    t.io("nbd+unix:///slow?socket=SOCK_DIR/line", ["read -P 2 0 64k", "write -P 3 64k 64k"])
        .await?;
    qsd.quit().await?;
    t.verify(&img, &[(2, 0, 64 * KIB), (3, 64 * KIB, 64 * KIB), (1, 128 * KIB, MIB - 128 * KIB)])
        .await?;

    t.section("its process id");
    let mut qsd = t.qsd("--pidfile TEST_DIR/pid").await?;
    let pid = std::fs::read_to_string(t.path("pid"))?;
    t.log(format!("is in the file: {}", pid.trim().parse().ok() == qsd.pid()));
    qsd.run("query-version", json!({})).await?;
    qsd.quit().await?;
    t.log(format!("and the file is gone at the end: {}", !t.path("pid").exists()));

    t.section("invalid requests");
    for (what, line) in [
        ("a node upon one that comes later", format!("{disk} {file}")),
        (
            "an export without a server",
            "--blockdev driver=null-co,node-name=x --export type=nbd,id=e,node-name=x".to_owned(),
        ),
        ("a node that is there already", format!("{file} {file}")),
        ("no such driver", "--blockdev driver=none,node-name=x".to_owned()),
        ("no such option", "--blockdev driver=null-co,node-name=x,colour=red".to_owned()),
        ("an export of no node", format!("{server} --export type=nbd,id=e,node-name=none")),
        ("no such kind of export", format!("{file} --export type=tape,id=e,node-name=file")),
        ("two servers", format!("{server} {server}")),
        ("no such object", "--object colour,id=x".to_owned()),
        ("no such monitor", "--monitor chardev=none".to_owned()),
        ("a word too many", "words".to_owned()),
        ("an unknown option", "--colour".to_owned()),
        ("malformed JSON", "--blockdev '{\"driver\": '".to_owned()),
    ] {
        let printed = t.tool(Kind::Qsd, line).status(1).quiet().await?.text();
        ensure!(!printed.trim().is_empty(), "{what}: no diagnostic output");
        t.log(format!("{what}: refused"));
    }
    for word in ["--help", "--version"] {
        let printed = t.tool(Kind::Qsd, word).quiet().await?.text();
        t.log(format!("{word}: {}", printed.contains("qemu-storage-daemon")));
    }
    t.check(&img).await
}
