//! A stream or commit that meets an error follows its policy, and the chain
//! reads the same before, meanwhile and afterwards.
//!
//! group: rw auto quick stream commit jobs blkdebug backing
//! supported_fmt: generic
//! needs: rebase qemu-storage-daemon driver:blkdebug reopen

use iotests::prelude::*;

const SIZE: u64 = 2 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for command in ["block-stream", "block-commit"] {
        for (policy, errno, stops) in
            [("report", 5, false), ("ignore", 5, false), ("stop", 5, true), ("enospc", 28, true)]
        {
            t.section(format!("{command}, on-error={policy}, errno {errno}"));
            let base = t.image("base").size(SIZE).quiet().await?;
            let mid = t.image("mid").backing(&base).quiet().await?;
            let top = t.image("top").backing(&mid).quiet().await?;
            t.io(&base, ["write -P 1 0 2M"]).quiet().await?;
            t.io(&mid, ["write -P 2 512k 512k"]).quiet().await?;
            let seen = [(1, 0, 512 * KIB), (2, 512 * KIB, 512 * KIB), (1, MIB, MIB)];
            let mut qsd = t.qsd("").await?;
            qsd.add_with(&base, "base", json!({"read-only": true})).await?;
            qsd.add_with(&mid, "mid", json!({"read-only": true, "backing": "base"})).await?;
            // What is read from the middle image fails once.
            qsd.add_failing_once("bad", "mid", "read", errno).await?;
            qsd.add_with(&top, "top", json!({"backing": "bad"})).await?;
            let args = if command == "block-stream" {
                json!({"device": "top", "on-error": policy})
            } else {
                json!({"device": "top", "top-node": "bad", "base-node": "base", "on-error": policy})
            };
            let job = qsd.start_job(command, args).await?;
            qsd.meet_error(&job, stops).await?;
            qsd.conclude(&job, AtReady::Pass).await?;
            let export = qsd.export_nbd("top").await?;
            t.io(&export, seen.map(|(p, at, n)| format!("read -P {p} {at} {n}"))).quiet().await?;
            qsd.quit().await?;
            t.verify(&top, &seen).await?;
            for img in [&base, &mid, &top] {
                t.check(img).await?;
            }
        }
    }
    Ok(())
}
