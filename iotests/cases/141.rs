//! Internal snapshots of several disks in one transaction while the guest
//! writes are all of one moment, and where one fails, none is taken.
//!
//! group: rw auto quick qcow2 snapshot transaction qmp
//! supported_fmt: qcow2
//! unsupported_imgopts: data_file refcount_bits=1
//! needs: qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

/// The names of an image's snapshots.
async fn names(t: &Test, img: &Image) -> Result<String> {
    let info = t.info_json(img).await?;
    let names: Vec<String> = info["snapshots"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|s| s["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    Ok(if names.is_empty() { "none".to_owned() } else { names.join(", ") })
}

fn snapshot(device: &str, name: &str) -> (&'static str, Value) {
    ("blockdev-snapshot-internal-sync", json!({"device": device, "name": name}))
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let a = t.image("a").size(SIZE).await?;
    let b = t.image("b").size(SIZE).await?;
    let raw = t.image("raw").format("raw").size(MIB).await?;
    let mut now = [t.disk_model(SIZE), t.disk_model(SIZE)];
    let plan = Plan { count: 25, ..Plan::default() };
    let mut rng = t.rng();
    let mut qsd = t.qsd("").await?;
    qsd.add(&a, "a").await?;
    qsd.add(&b, "b").await?;
    qsd.add(&raw, "raw").await?;
    let disks = [qsd.export_nbd("a").await?, qsd.export_nbd("b").await?];
    let mut then = Vec::new();
    for name in ["one", "two"] {
        for (disk, now) in disks.iter().zip(&mut now) {
            t.apply(disk, now, &plan.ops(&mut rng, SIZE)).await?;
        }
        qsd.transaction([snapshot("a", name), snapshot("b", name)], json!({})).await?;
        then.push((name, now.clone()));
    }

    t.section("where one cannot be made");
    let missing = json!({"node": "a", "name": "none"});
    for (what, actions) in [
        ("the other's name is taken", vec![snapshot("a", "three"), snapshot("b", "two")]),
        ("the other has no snapshots", vec![snapshot("a", "three"), snapshot("raw", "three")]),
        ("there is no other", vec![snapshot("a", "three"), snapshot("c", "three")]),
        (
            "another action fails",
            vec![snapshot("a", "three"), ("block-dirty-bitmap-clear", missing)],
        ),
        ("it has no name", vec![snapshot("a", "three"), snapshot("b", "")]),
    ] {
        let asked = qsd.ask("transaction", transaction(actions, json!({}))).await?;
        ensure!(asked.is_err(), "{what}: done");
        t.log(format!("{what}: refused"));
        for (disk, now) in disks.iter().zip(&mut now) {
            t.apply(disk, now, &plan.ops(&mut rng, SIZE)).await?;
        }
    }
    qsd.quit().await?;

    for (n, (img, now)) in [&a, &b].into_iter().zip(now).enumerate() {
        t.section(img);
        t.log(format!("snapshots: {}", names(t, img).await?));
        t.matches(img, &now).await?;
        t.check(img).await?;
        for (name, models) in then.iter().rev() {
            t.img(format!("snapshot -a {name} {img}")).await?;
            t.matches(img, &models[n]).await?;
            t.img(format!("snapshot -d {name} {img}")).await?;
        }
        t.check(img).await?;
    }
    Ok(())
}
