//! VPC images, dynamic and fixed, have the size that was asked for or the next
//! one that a geometry can represent, and survive the loss of their footer's
//! copy.
//!
//! group: rw auto quick formats create
//! supported_fmt: vpc
//! supported_proto: file
//! unsupported_imgopts: subformat force_size

use iotests::prelude::*;

/// A footer, and the copy of it that a dynamic image starts with.
const FOOTER: u64 = 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for kind in ["dynamic", "fixed"] {
        t.section(format!("{kind}, to the byte"));
        let size = 5 * MIB + 512;
        let img = t.create(size).options(format!("subformat={kind},force_size=on")).await?;
        t.info(&img).await?;
        let edges = [(1, 0, 512), (2, 2 * MIB - 512, 1024), (3, size - 1024, 1024)];
        t.write(&img, &edges).await?;
        t.verify(&img, &edges).await?;
        t.verify(&img, &[(0, 512, 64 * KIB), (0, 3 * MIB, MIB)]).await?;
        t.io(&img, [format!("write -P 4 {size} 512")]).fails().await?;

        t.section(format!("{kind}, by geometry"));
        let img = t.create(size).options(format!("subformat={kind},force_size=off")).await?;
        let got = t.virtual_size(&img).await?;
        t.log(format!("no less than asked for: {}", got >= size));
        t.log(format!("less than a cylinder more: {}", got - size < 4 * 17 * 512));
        t.write(&img, &[(7, size - 512, 512)]).await?;
        t.verify(&img, &[(7, size - 512, 512), (0, size, got - size)]).await?;
        let length = img.file().metadata()?.len();
        let last = t.peek_at(&img, length - FOOTER, 8)?;
        t.log(format!("the file ends in a footer: {}", last == b"conectix"));
    }

    t.section("a dynamic image without its footer");
    let img = t.create(8 * MIB).options("force_size=on").await?;
    t.write(&img, &[(1, 0, MIB), (2, 4 * MIB, MIB)]).await?;
    let length = img.file().metadata()?.len();
    t.poke_at(&img, length - FOOTER, &[0; 512])?;
    t.verify(&img, &[(1, 0, MIB), (0, MIB, 3 * MIB), (2, 4 * MIB, MIB)]).await?;
    t.write(&img, &[(3, 6 * MIB, 512)]).await?;
    t.verify(&img, &[(1, 0, MIB), (2, 4 * MIB, MIB), (3, 6 * MIB, 512), (0, 6 * MIB + 512, MIB)])
        .await?;

    t.section("with a wrong checksum in both");
    let mut footer = t.peek_at(&img, 0, 512)?;
    footer[50] ^= 0xff;
    t.poke_at(&img, 0, &footer)?;
    let length = img.file().metadata()?.len();
    t.poke_at(&img, length - FOOTER, &footer)?;
    t.io(&img, ["read 0 512"]).any_status().quiet().await?;

    t.section("without any");
    t.poke_at(&img, 0, &[0; 512])?;
    t.poke_at(&img, length - FOOTER, &[0; 512])?;
    t.io(&img, ["read 0 512"]).fails().quiet().await?;
    t.log("refused");
    Ok(())
}
