//! Growing an image with each preallocation mode keeps what is there and gives
//! zeroes behind it; shrinking gives clusters back.
//!
//! group: rw auto quick qcow2 resize
//! supported_fmt: qcow2
//! unsupported_proto: ssh
//! needs: resize

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for mode in ["off", "metadata", "falloc", "full"] {
        t.section(mode);
        let img = t.create(MIB + 512).await?;
        let mut model = t.disk_model(MIB + 512);
        t.apply(&img, &mut model, &[Op::write(1, 0, MIB + 512)]).await?;
        for size in [2 * MIB + 1024, 9 * MIB] {
            t.img(format!("resize --preallocation={mode} {img} {size}")).await?;
            model.resize(size);
            t.matches(&img, &model).await?;
            t.sound(&img)?;
        }
        let ops = [
            Op::write(2, 3 * MIB - 512, 3 * MIB),
            Op::Zero { offset: 7 * MIB, length: MIB, unmap: true },
        ];
        t.apply(&img, &mut model, &ops).await?;
        // At a cluster's edge: within one, old data come back (known-limits.md).
        t.img(format!("resize --shrink {img} 4M")).await?;
        model.resize(4 * MIB);
        t.matches(&img, &model).await?;
        t.sound(&img)?;
        t.img(format!("resize {img} 6M")).await?;
        model.resize(6 * MIB);
        t.matches(&img, &model).await?;
        t.check(&img).await?;
    }

    t.section("what is refused");
    let img = t.create("2M").await?;
    t.img(format!("resize {img} 1M")).fails().await?;
    t.img(format!("resize --preallocation=full --shrink {img} 1M")).fails().quiet().await?;
    t.img(format!("resize {img} 0x")).fails().quiet().await?;
    t.log(format!("{} bytes", t.virtual_size(&img).await?));
    t.check(&img).await
}
