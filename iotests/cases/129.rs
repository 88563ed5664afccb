//! Caches of any size, down to the smallest, change how fast metadata are found
//! and not what is found; invalid sizes are refused.
//!
//! group: rw auto quick qcow2
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file extended_l2

use iotests::prelude::*;

const SIZE: u64 = 64 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).without_imgopts().options("cluster_size=4k").await?;
    let opts = |more: &str| format!("driver=qcow2,file.filename={img}{more}");
    let mut rng = t.rng();
    let mut model = t.disk_model(SIZE);
    for more in [
        "",
        ",l2-cache-size=1024",
        ",l2-cache-size=8192,l2-cache-entry-size=512",
        ",refcount-cache-size=1",
        ",cache-size=16384",
        ",cache-size=1M,l2-cache-size=1M",
        ",cache-clean-interval=1",
        ",l2-cache-entry-size=4096,l2-cache-size=16384,refcount-cache-size=16384",
    ] {
        let ops = Plan { count: 60, longest: 32 * KIB, ..Plan::default() }.ops(&mut rng, SIZE);
        t.io(opts(more), model.commands(&ops)).options(["--image-opts"]).quiet().await?;
        t.log(format!("{} operations with '{}'", ops.len(), more.trim_start_matches(',')));
    }
    t.matches(&img, &model).await?;
    t.sound(&img)?;

    t.section("invalid requests");
    for more in [
        ",l2-cache-entry-size=1000",
        ",l2-cache-entry-size=256",
        ",l2-cache-entry-size=8192",
        ",cache-size=1M,l2-cache-size=2M",
        ",cache-size=1M,refcount-cache-size=2M",
        ",cache-size=1M,l2-cache-size=512k,refcount-cache-size=512k",
        ",lazy-refcounts=maybe",
        ",overlap-check=some",
        ",l2-cache-size=-1",
    ] {
        t.io(opts(more), ["read 0 512"]).options(["--image-opts"]).fails().quiet().await?;
        t.log(format!("refused: {}", more.trim_start_matches(',')));
    }
    t.check(&img).await
}
