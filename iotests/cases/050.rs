//! Two jobs at once: in different parts of a chain they both do their work, in
//! the same part the second is refused and the first not disturbed.
//!
//! group: rw auto quick stream commit jobs backing
//! supported_fmt: generic
//! unsupported_proto: nbd ssh
//! needs: rebase qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;
/// More than a job copies before it waits.
const UNIT: u64 = MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut qsd = t.qsd("").await?;
    let mut chain: Vec<Image> = Vec::new();
    for n in 0u8..6 {
        let name = format!("n{n}");
        let img = match chain.last() {
            None => t.image(&name).size(SIZE).quiet().await?,
            Some(below) => t.image(&name).backing(below).quiet().await?,
        };
        t.write(&img, &[(n + 1, u64::from(n) * UNIT, 2 * UNIT)]).await?;
        let backing = match n {
            0 => json!({"read-only": true}),
            5 => json!({"backing": "n4"}),
            _ => json!({"read-only": true, "backing": format!("n{}", n - 1)}),
        };
        qsd.add_with(&img, &name, backing).await?;
        chain.push(img);
    }
    let export = qsd.export_nbd("n5").await?;
    let seen: Vec<String> = (0..6u64)
        .map(|n| format!("read -P {} {} {}", n + 1, n * UNIT, if n == 5 { 2 * UNIT } else { UNIT }))
        .collect();
    t.io(&export, &seen).await?;

    t.section("a commit below and a stream above");
    let commit = json!({"job-id": "commit", "device": "n5", "top-node": "n1", "base-node": "n0", "speed": 1});
    qsd.start_job("block-commit", commit).await?;
    // Whatever drains the graph lets a job of any speed go on a little.
    qsd.pause_job("commit").await?;
    let stream = json!({"job-id": "stream", "device": "n4", "base-node": "n2", "speed": 1});
    qsd.start_job("block-stream", stream).await?;
    qsd.pause_job("stream").await?;
    t.io(&export, &seen).quiet().await?;

    t.section("a third one does not interfere");
    for (command, args) in [
        ("block-stream", json!({"job-id": "third", "device": "n5", "base-node": "n3"})),
        ("block-stream", json!({"job-id": "third", "device": "n1"})),
        (
            "block-commit",
            json!({"job-id": "third", "device": "n5", "top-node": "n4", "base-node": "n3"}),
        ),
        ("block-commit", json!({"job-id": "third", "device": "n5", "base-node": "n0"})),
        ("block-stream", json!({"job-id": "stream", "device": "n5"})),
    ] {
        let refused = qsd.ask(command, args.clone()).await?.is_err();
        t.log_json(&args);
        t.log(format!("{command}: {}", if refused { "refused" } else { "begun" }));
    }

    t.section("each goes on to its end");
    for job in ["stream", "commit"] {
        qsd.run("block-job-set-speed", json!({"device": job, "speed": 0})).await?;
        qsd.qmp("job-resume", json!({"id": job})).await?;
        qsd.conclude(job, AtReady::Pass).await?;
        t.io(&export, &seen).quiet().await?;
    }
    qsd.log_backing("n4").await?;
    qsd.log_backing("n2").await?;
    qsd.quit().await?;
    let top = chain.last().context("a chain")?;
    t.io(top, &seen).options(["-r"]).quiet().await?;
    t.verify(&chain[0], &[(1, 0, UNIT), (2, UNIT, 2 * UNIT), (0, 3 * UNIT, SIZE - 3 * UNIT)])
        .await?;
    for n in [0, 2, 4, 5] {
        t.check(&chain[n]).await?;
    }
    Ok(())
}
