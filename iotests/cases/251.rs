//! A machine's snapshots bring back disk and state together, are deleted one by
//! one, and are refused for disks that cannot hold them.
//!
//! group: rw quick machine snapshot jobs
//! supported_fmt: qcow2
//! supported_proto: file fuse ssh
//! unsupported_imgopts: refcount_bits=1 data_file
//! needs: qemu-system

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let two = t.image("two").size(SIZE).await?;
    let raw = t.image("raw").format("raw").size(SIZE).await?;
    let mut vm = t.vm("").await?;
    vm.add(&img, "disk").await?;
    vm.add(&two, "two").await?;
    vm.add(&raw, "raw").await?;
    let export = vm.export_nbd("disk").await?;
    let second = vm.export_nbd("two").await?;
    let job = |tag: &str, nodes: &[&str]| json!({"job-id": "snap", "tag": tag, "vmstate": nodes.first(), "devices": nodes});
    let remove =
        |tag: &str, nodes: &[&str]| json!({"job-id": "snap", "tag": tag, "devices": nodes});

    for (n, tag) in [(1u8, "one"), (2, "two"), (3, "three")] {
        t.section(format!("save {tag}"));
        t.io(&export, [format!("write -P {n} 0 1M")]).quiet().await?;
        t.io(&second, [format!("write -P {} 1M 1M", n + 10)]).quiet().await?;
        vm.qmp("snapshot-save", job(tag, &["disk", "two"])).await?;
        vm.conclude("snap", AtReady::Pass).await?;
    }
    t.io(&export, ["write -P 9 0 2M"]).quiet().await?;

    t.section("invalid requests");
    for (command, args) in [
        ("snapshot-save", job("one", &["disk", "two"])),
        ("snapshot-save", job("new", &["disk", "raw"])),
        ("snapshot-save", job("new", &["disk", "nowhere"])),
        (
            "snapshot-save",
            json!({"job-id": "snap", "tag": "new", "vmstate": "raw", "devices": ["disk"]}),
        ),
        ("snapshot-load", job("nowhere", &["disk", "two"])),
        ("snapshot-load", job("one", &["disk", "raw"])),
    ] {
        vm.qmp(command, args).await?;
        let end = vm.conclude_quietly("snap").await?;
        t.log(format!("it is refused: {}", end.error.is_some()));
    }
    t.io(&export, ["read -P 9 0 2M"]).await?;

    t.section("load and delete");
    vm.qmp("snapshot-load", job("one", &["disk", "two"])).await?;
    vm.conclude("snap", AtReady::Pass).await?;
    t.io(&export, ["read -P 1 0 1M", "read -P 0 1M 3M"]).await?;
    t.io(&second, ["read -P 11 1M 1M"]).await?;
    vm.qmp("snapshot-delete", remove("one", &["disk", "two"])).await?;
    vm.conclude("snap", AtReady::Pass).await?;
    vm.qmp("snapshot-load", job("three", &["disk", "two"])).await?;
    vm.conclude("snap", AtReady::Pass).await?;
    t.io(&export, ["read -P 3 0 1M", "write -P 4 2M 64k"]).await?;
    vm.quit().await?;

    t.section("from outside");
    for (img, second) in [(&img, false), (&two, true)] {
        let info = t.info_json(img).await?;
        let names: Vec<&str> = info["snapshots"]
            .as_array()
            .map(|s| s.iter().filter_map(|s| s["name"].as_str()).collect())
            .unwrap_or_default();
        t.log(format!("{img}: {}", names.join(" ")));
        // The state is in the first disk's snapshots only.
        let states = info["snapshots"]
            .as_array()
            .map(|s| s.iter().all(|s| (s["vm-state-size"] == 0) == second));
        t.log(format!("states where they belong: {}", states.unwrap_or_default()));
        t.check(img).await?;
    }
    t.verify(&img, &[(3, 0, MIB), (0, MIB, MIB), (4, 2 * MIB, 64 * KIB)]).await?;
    t.verify(&two, &[(13, MIB, MIB)]).await?;
    t.img(format!("snapshot -a two {img}")).await?;
    t.verify(&img, &[(2, 0, MIB)]).await
}
