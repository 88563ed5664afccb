//! Compressed clusters share host clusters, are rewritten in part and freed one
//! by one, and nothing beside them is lost or leaked.
//!
//! group: rw auto quick qcow2
//! supported_fmt: qcow2
//! supported_aio: threads native
//! unsupported_imgopts: data_file refcount_bits=1 cluster_size=512

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let cluster = 1 << t.peek(&img, "header.cluster_bits")?;
    let clusters = (SIZE / cluster).min(40);
    let mut model = t.disk_model(SIZE);

    t.section("compressed writes of whole clusters");
    for n in 0..clusters {
        model.set(n * cluster, cluster, Some(u8::try_from(n + 1)?));
    }
    let write = |n| format!("write -c -P {} {} {cluster}", n + 1, n * cluster);
    t.io(&img, (0..clusters).map(write)).quiet().await?;
    t.matches(&img, &model).await?;
    t.sound(&img)?;
    let compressed = t.peek(&img, "l2[0].entry[0]")? >> 62 & 1;
    t.log(format!("the first cluster is compressed: {}", compressed == 1));
    // Each pattern packs into less than a sector, so they lie close together.
    let place = |n| t.peek(&img, &format!("l2[0].entry[{n}].compressed_offset"));
    let taken = place(clusters - 1)?.saturating_sub(place(0)?);
    t.log(format!("they take less room than the data: {}", taken < clusters * cluster / 2));

    t.section("not where there is data already, and not in part");
    t.io(&img, [format!("write -c -P 1 {} 512", SIZE / 2)]).fails().quiet().await?;
    t.matches(&img, &model).await?;

    t.section("parts written over");
    let ops: Vec<Op> = (0..clusters)
        .step_by(3)
        .map(|n| Op::write(0xee, n * cluster + cluster / 2 - 512, 1024.min(cluster / 2)))
        .collect();
    for op in &ops {
        model.apply(op);
    }
    t.io(&img, ops.iter().map(ToString::to_string)).quiet().await?;
    t.matches(&img, &model).await?;
    t.sound(&img)?;

    t.section("in a snapshot, then zeroed");
    t.img(format!("snapshot -c one {img}")).await?;
    let then = model.clone();
    let zero = Op::Zero { offset: cluster, length: (clusters - 1) / 2 * cluster, unmap: true };
    t.apply(&img, &mut model, &[zero]).await?;
    t.matches(&img, &model).await?;
    t.sound(&img)?;
    t.img(format!("snapshot -a one {img}")).await?;
    t.matches(&img, &then).await?;
    t.img(format!("snapshot -d one {img}")).await?;
    t.apply(&img, &mut model, &[Op::Zero { offset: 0, length: SIZE, unmap: true }]).await?;
    t.matches(&img, &model).await?;
    t.check(&img).await?;
    t.sound(&img)
}
