//! VDI images, dynamic and static, keep their data; a block map that refers
//! past the end of the file, or twice to one block, is found.
//!
//! group: rw auto quick formats check damage
//! supported_fmt: vdi
//! supported_proto: file
//! unsupported_imgopts: static

use iotests::prelude::*;

/// Where the block map starts: entries of 4 bytes, little-endian.
const MAP: u64 = 512;
const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for fixed in ["off", "on"] {
        t.section(format!("static={fixed}"));
        let size = SIZE + 512;
        let img = t.create(size).options(format!("static={fixed}")).await?;
        t.info(&img).await?;
        let mut model = t.disk_model(size);
        let ops = Plan { count: 60, ..Plan::default() }.ops(&mut t.rng(), size);
        t.apply(&img, &mut model, &ops).await?;
        t.matches(&img, &model).await?;
        t.io(&img, [format!("write -P 4 {} 1024", SIZE)]).fails().await?;
        t.check(&img).await?;
    }

    let img = t.create(SIZE).await?;
    t.write(&img, &[(1, 0, MIB), (2, 3 * MIB, MIB)]).await?;
    let good = t.peek_at(&img, MAP, 32)?;
    t.log(format!(
        "blocks are taken in order: {}",
        good[..4] == [0; 4] && good[12..16] == [1, 0, 0, 0]
    ));
    for (what, entry, value) in [
        ("two blocks of the disk in one of the file", 3, 0u32),
        ("a block past the end", 3, 7),
        ("a block that is far away", 3, 0x1000_0000),
        ("a block that is lost", 3, u32::MAX),
    ] {
        t.section(what);
        t.poke_at(&img, MAP, &good)?;
        t.poke_at(&img, MAP + 4 * entry, &value.to_le_bytes())?;
        let report =
            t.img(["check", "--output=json", &img.to_string()]).any_status().quiet().await?;
        let reported = report.json()?;
        t.log(format!(
            "exit status {}, corruptions {}, errors {}",
            report.status.unwrap_or(-1),
            reported["corruptions"],
            reported["check-errors"]
        ));
        t.verify(&img, &[(1, 0, MIB)]).await?;
    }
    Ok(())
}
