//! Dirty bitmaps through every job: the source's count what the guest wrote and
//! nothing of the job, those of what a job writes to miss none of it.
//!
//! group: rw auto bitmap jobs mirror backup commit stream backing
//! supported_fmt: generic
//! unsupported_fmt: qed
//! unsupported_imgopts: cluster_size=2M
//! needs: rebase qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;
const GRAIN: u64 = 64 * KIB;

/// Offset and length of the dirty ranges of a bitmap, as a client is told.
async fn dirty(t: &Test, qsd: &mut Daemon, node: &str) -> Result<Vec<(u64, u64)>> {
    let look = json!({"id": "look", "name": "look", "writable": true, "bitmaps": ["marks"]});
    let url = qsd.export_nbd_with(node, look).await?;
    let url = url.replace(&format!("///{node}?"), "///look?");
    let name = nbd_name(&url, &json!({"x-dirty-bitmap": "qemu:dirty-bitmap:marks"}));
    let map = t.img(["map", "--output=json", &name]).quiet().await?.json()?;
    qsd.unexport("look").await?;
    let number = |r: &Value, key: &str| r[key].as_u64().unwrap_or(0);
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    // A dirty range is shown as one without data.
    for run in map.as_array().into_iter().flatten().filter(|r| r["data"] == false) {
        let (start, length) = (number(run, "start"), number(run, "length"));
        match ranges.last_mut() {
            Some((at, len)) if *at + *len == start => *len += length,
            _ => ranges.push((start, length)),
        }
    }
    Ok(ranges)
}

fn covers(ranges: &[(u64, u64)], wanted: &[Patch]) -> bool {
    wanted.iter().all(|(_, at, len)| {
        ranges.iter().any(|(start, length)| start <= at && at + len <= start + length)
    })
}

async fn marks(qsd: &mut Daemon, nodes: &[&str]) -> Result<()> {
    for node in nodes {
        let add = json!({"node": node, "name": "marks", "granularity": GRAIN});
        qsd.run("block-dirty-bitmap-add", add).await?;
    }
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let below = [(1, 0, MIB), (2, 3 * MIB, 2 * MIB)];
    let above = [(3, MIB, 512 * KIB), (4, 6 * MIB, MIB)];
    // On the grains of the bitmaps, so that their ranges are known.
    let guest = [(5, 2 * MIB, GRAIN), (6, 4 * MIB, 3 * GRAIN), (7, 7 * MIB, GRAIN)];
    let exact: Vec<(u64, u64)> = guest.iter().map(|(_, at, len)| (*at, *len)).collect();
    let writes: Vec<String> =
        guest.iter().map(|(p, at, len)| format!("write -P {p} {at} {len}")).collect();
    for command in ["blockdev-mirror", "blockdev-backup", "block-commit", "block-stream"] {
        t.section(command);
        let base = t.image("base").size(SIZE).quiet().await?;
        t.write(&base, &below).await?;
        let top = t.image("top").backing(&base).quiet().await?;
        t.write(&top, &above).await?;
        let target = t.image("target").size(SIZE).quiet().await?;
        let mut qsd = t.qsd("").await?;
        qsd.add_with(&base, "base", json!({"read-only": command != "block-commit"})).await?;
        qsd.add_with(&top, "top", json!({"backing": "base"})).await?;
        qsd.add(&target, "target").await?;
        let disk = qsd.export_nbd("top").await?;
        let arguments = match command {
            "blockdev-mirror" | "blockdev-backup" => {
                json!({"device": "top", "target": "target", "sync": "full"})
            }
            "block-commit" => json!({"device": "top", "base-node": "base"}),
            _ => json!({"device": "top"}),
        };
        let written = if command == "block-commit" { "base" } else { "target" };
        let marked = ["top", written];
        marks(&mut qsd, if command == "block-stream" { &marked[..1] } else { &marked }).await?;
        let job = qsd.start_job(command, arguments).await?;
        t.io(&disk, &writes).quiet().await?;
        if matches!(command, "blockdev-mirror" | "block-commit") {
            qsd.await_state(&job, "ready").await?;
            let arguments = json!({"device": job});
            qsd.run("block-job-cancel", arguments).await?;
        }
        let end = qsd.conclude_as_told(&job).await?;
        ensure!(end.error.is_none(), "{:?}", end.error);

        let source = dirty(t, &mut qsd, "top").await?;
        if command == "block-stream" {
            t.log(format!("what the guest wrote is dirty: {}", covers(&source, &guest)));
        } else {
            ensure!(source == exact, "the source: {source:?}, and the guest wrote {exact:?}");
            t.log("the source: what the guest wrote");
            let there = dirty(t, &mut qsd, written).await?;
            let copied: Vec<Patch> = match command {
                "block-commit" => [&above[..], &guest].concat(),
                "blockdev-backup" => [&below[..], &above].concat(),
                _ => [&below[..], &above, &guest].concat(),
            };
            t.log(format!("{written}: all that was copied: {}", covers(&there, &copied)));
        }
        qsd.run("block-dirty-bitmap-clear", json!({"node": "top", "name": "marks"})).await?;
        t.io(&disk, [format!("write -P 8 {} 1", 5 * MIB)]).quiet().await?;
        t.log(format!("and it goes on: {:?}", dirty(t, &mut qsd, "top").await?));
        qsd.quit().await?;
        t.check(&top).await?;
    }
    Ok(())
}
