//! Images of every cluster size keep their data, report the size they were made
//! with, and are laid out as the specification says.
//!
//! group: rw auto qcow2 create
//! supported_fmt: qcow2

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut rng = t.rng();
    for bits in 9..=21 {
        let cluster = 1u64 << bits;
        t.section(format!("clusters of {cluster} bytes"));
        let size = 5 * MIB + 512;
        let img =
            t.create(size).without_imgopts().options(format!("cluster_size={cluster}")).await?;
        let output = t.info_json(&img).await?["cluster-size"].as_u64();
        ensure!(output == Some(cluster), "info reports cluster-size {output:?}");
        let mut model = t.disk_model(size);
        let mut ops: Vec<Op> = (1..)
            .zip([cluster, 2 * cluster, cluster * cluster / 8])
            .filter(|(_, edge)| edge + 512 <= size)
            .map(|(pattern, edge)| Op::write(pattern, edge - 512, 1024))
            .collect();
        let plan = Plan { count: 40, discards: true, ..Plan::default() };
        ops.extend(plan.ops(&mut rng, size));
        t.apply(&img, &mut model, &ops).await?;
        t.matches(&img, &model).await?;
        t.sound(&img)?;
    }

    t.section("invalid sizes");
    for wrong in ["256", "1000", "4M", "0"] {
        let line = format!("create -f qcow2 -o cluster_size={wrong} TEST_DIR/wrong 1M");
        t.img(line).fails().quiet().await?;
        t.log(format!("{wrong}: refused"));
    }
    t.log(format!("a file was left: {}", t.path("wrong").exists()));
    Ok(())
}
