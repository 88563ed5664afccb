//! Refcount tables and L1 tables that have to grow, again and again, move without
//! losing a count or a cluster.
//!
//! group: rw auto qcow2 resize snapshot
//! supported_fmt: qcow2
//! needs: growing

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.section("more and more clusters of 512 bytes, counted in 64 bits");
    let size = 6 * MIB;
    let img = t.create(size).without_imgopts().options("cluster_size=512,refcount_bits=64").await?;
    let mut model = t.disk_model(size);
    let first = t.peek(&img, "header.refcount_table_clusters")?;
    for n in 0..4u64 {
        let write = Op::write(u8::try_from(n + 1)?, n * 1500 * KIB, 1500 * KIB);
        t.apply(&img, &mut model, &[write]).await?;
        t.sound(&img)?;
    }
    t.log(format!(
        "the refcount table grew: {}",
        t.peek(&img, "header.refcount_table_clusters")? > first
    ));
    t.matches(&img, &model).await?;
    t.check(&img).await?;

    t.section("a disk that grows, with snapshots of every size");
    let mut size = 64 * KIB;
    let img = t.create(size).without_imgopts().options("cluster_size=512").await?;
    let mut model = t.disk_model(size);
    let mut kept = Vec::new();
    for n in 0..4u8 {
        let ops = [Op::write(n + 1, 0, 1024), Op::write(n + 0x11, size - 1024, 1024)];
        t.apply(&img, &mut model, &ops).await?;
        t.img(format!("snapshot -c at-{n} {img}")).quiet().await?;
        kept.push(model.clone());
        size *= 4;
        t.img(format!("resize {img} {size}")).quiet().await?;
        model.resize(size);
        t.matches(&img, &model).await?;
    }
    t.sound(&img)?;
    for (n, then) in kept.iter().enumerate().rev() {
        t.img(format!("snapshot -a at-{n} {img}")).quiet().await?;
        t.matches(&img, then).await?;
    }
    t.check(&img).await
}
