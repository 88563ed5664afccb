//! A request that is stopped half-way, while it allocates, keeps those it depends on
//! waiting and hinders no others; where it never goes on, no harm is done.
//!
//! group: rw auto quick qcow2 blkdebug backing
//! supported_fmt: qcow2
//! supported_proto: file
//! unsupported_imgopts: data_file extended_l2 preallocation lazy_refcounts
//! needs: driver:blkdebug not-wrapped

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;
const CLUSTER: u64 = 64 * KIB;

/// An image of fixed clusters over a backing file, and `qemu-io` with blkdebug
/// below its format.
async fn guest(t: &Test, base: &Image) -> Result<(Image, Session)> {
    let top = t.image("top").options("cluster_size=64k").backing(base).quiet().await?;
    let mut node = top.node("top");
    let below = node["file"].take();
    node["file"] = json!({"driver": "blkdebug", "image": below});
    let mut session = t.session(format!("json:{node}")).await?;
    session.quiet();
    Ok((top, session))
}

/// Runs commands of which none may fail.
async fn all(session: &mut Session, commands: &[&str]) -> Result<()> {
    for command in commands {
        let printed = session.run(command).await?;
        ensure!(!printed.contains("failed"), "{command}: {printed}");
    }
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").options("cluster_size=64k").size(SIZE).await?;
    t.write(&base, &[(0xbb, 0, SIZE)]).await?;

    t.section("two requests in one new cluster");
    let (top, mut one) = guest(t, &base).await?;
    all(
        &mut one,
        &[
            "break write_aio A",
            "aio_write -P 1 0 4k",
            "wait_break A",
            // In what the first copies around its data.
            "aio_write -P 2 8k 4k",
            "aio_write -P 3 60k 8k",
            // Elsewhere, and not in its way.
            "write -P 4 1M 64k",
            "read -P 4 1M 64k",
            "resume A",
            "aio_flush",
            "read -P 1 0 4k",
            "read -P 0xbb 4k 4k",
            "read -P 2 8k 4k",
            "read -P 3 60k 8k",
            "read -P 0xbb 68k 60k",
        ],
    )
    .await?;
    one.close().await?;
    t.verify(
        &top,
        &[(1, 0, 4 * KIB), (0xbb, 4 * KIB, 4 * KIB), (2, 8 * KIB, 4 * KIB), (3, 60 * KIB, 8 * KIB)],
    )
    .await?;
    t.check(&top).await?;

    t.section("many that wait for one, and for each other");
    let (top, mut one) = guest(t, &base).await?;
    all(&mut one, &["break write_aio A", "aio_write -P 1 0 512k", "wait_break A"]).await?;
    for n in 0..16 {
        one.run(format!("aio_write -P {} {} 40k", n + 2, n * 32 * KIB + 512 * KIB)).await?;
        one.run(format!("aio_write -P {} {} 512", n + 20, n * 32 * KIB)).await?;
    }
    all(&mut one, &["resume A", "aio_flush"]).await?;
    for n in 0..16 {
        // The last of two that overlap may be either.
        let read = format!("read -P {} {} 24k", n + 2, n * 32 * KIB + 520 * KIB);
        all(&mut one, &[&read]).await?;
    }
    one.close().await?;
    t.check(&top).await?;

    t.section("the program is killed while one is stopped");
    for event in
        ["cluster_alloc", "write_aio", "l2_update", "l2_alloc_write", "refblock_update_part"]
    {
        let (top, mut one) = guest(t, &base).await?;
        all(&mut one, &["write -P 5 2M 64k", "flush"]).await?;
        one.run(format!("break {event} A")).await?;
        one.run("aio_write -P 6 0 4k").await?;
        if matches!(event, "cluster_alloc" | "write_aio") {
            one.run("wait_break A").await?;
        }
        one.kill().await?;
        let found =
            t.img(format!("check --output=json {top}")).quiet().any_status().await?.json()?;
        ensure!(found["corruptions"].as_u64().unwrap_or(0) == 0, "{event}: {found}");
        t.verify_quietly(&top, &[(5, 2 * MIB, CLUSTER), (0xbb, 4 * KIB, MIB)]).await?;
        t.img(format!("check -r leaks {top}")).quiet().await?;
        t.log(format!("{event}: leaks at worst"));
    }
    Ok(())
}
