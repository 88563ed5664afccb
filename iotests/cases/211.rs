//! Whatever alignment, limits and support for zeroes the layer below has, data
//! match the model.
//!
//! group: rw auto quick blkdebug io zero
//! supported_fmt: generic
//! supported_proto: file
//! needs: driver:blkdebug qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut rng = t.rng();
    for options in [
        json!({"align": 4096}),
        json!({"align": 512, "max-transfer": 4096}),
        json!({"align": 4096, "max-transfer": 65536, "opt-write-zero": 65536, "max-write-zero": 1048576}),
        json!({"opt-discard": 65536, "max-discard": 131072}),
        json!({"inject-error": [{"event": "none", "iotype": "write-zeroes", "errno": 95}]}),
    ] {
        t.section(&options);
        let img = t.create(SIZE).await?;
        let mut node = img.node("top");
        let mut file = options.clone();
        file["driver"] = "blkdebug".into();
        file["image"] = node["file"].take();
        node["file"] = file;
        let mut qsd = t.qsd("").await?;
        qsd.run("blockdev-add", node).await?;
        let disk = qsd.export_nbd("top").await?;

        let mut model = t.disk_model(SIZE);
        let ops = Plan { count: 50, longest: 256 * KIB, ..Plan::default() }.ops(&mut rng, SIZE);
        for op in &ops {
            model.apply(op);
        }
        let mut commands: Vec<String> = ops.iter().map(ToString::to_string).collect();
        commands.extend(model.reads(0, SIZE));
        t.io(&disk, commands).quiet().await?;
        qsd.quit().await?;
        t.matches(&img, &model).await?;
        t.check(&img).await?;
    }
    Ok(())
}
