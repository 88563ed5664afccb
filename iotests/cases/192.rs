//! Images of format qcow: compressed clusters, a backing file below and random
//! writes above them; sizes that its header cannot hold are refused.
//!
//! group: rw auto quick formats backing
//! supported_fmt: qcow
//! supported_proto: file

use iotests::prelude::*;

const SIZE: u64 = MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let flat = t.image("flat").format("raw").size(SIZE).quiet().await?;
    let mut model = t.disk_model(SIZE);
    let plan = Plan { count: 15, longest: 64 * KIB, ..Plan::default() };
    let mut rng = t.rng();
    t.apply(&flat, &mut model, &plan.ops(&mut rng, SIZE)).await?;

    t.section("packed");
    let img = t.create(SIZE).await?;
    t.img(format!("convert -n -O IMGFMT {flat} {img}")).await?;
    t.matches(&img, &model).await?;
    let plain = img.file().metadata()?.len();
    let unit = 4 * KIB;
    let writes = (0..64).map(|n| format!("write -c -P {} {} {unit}", n + 1, n * unit));
    let img = t.create(SIZE).quiet().await?;
    t.io(&img, writes).quiet().await?;
    t.img(format!("convert -O raw {img} {flat}")).await?;
    model = t.disk_model(SIZE);
    (0..64u8).for_each(|n| model.set(u64::from(n) * unit, unit, Some(n + 1)));
    t.matches(&flat, &model).await?;
    t.matches(&img, &model).await?;
    t.log(format!("packed is smaller: {}", img.file().metadata()?.len() < plain.min(64 * unit)));

    t.section("written over");
    t.apply(&img, &mut model, &plan.ops(&mut rng, SIZE)).await?;
    t.matches(&img, &model).await?;

    t.section("below another");
    let top = t.image("top").backing(&img).await?;
    t.matches(&top, &model).await?;
    let below = model.clone();
    t.apply(&top, &mut model, &plan.ops(&mut rng, SIZE)).await?;
    t.matches(&top, &model).await?;
    t.matches(&img, &below).await?;

    t.section("invalid sizes");
    // Byte 24 starts the disk's size, big-endian; bytes 32 and 33 are the bits of
    // a cluster and of a second-level table.
    let header = t.peek_at(&img, 0, 48)?;
    for (what, at, bytes) in [
        ("2^63 bytes", 24, [0x80, 0, 0, 0, 0, 0, 0, 0]),
        ("2^62 bytes", 24, [0x40, 0, 0, 0, 0, 0, 0, 0]),
        ("0 bytes", 24, [0; 8]),
        ("clusters of 2^8 bytes", 32, [8, 9, 0, 0, 0, 0, 0, 0]),
        ("clusters of 2^17 bytes", 32, [17, 9, 0, 0, 0, 0, 0, 0]),
        ("tables of 2^2 entries", 32, [12, 2, 0, 0, 0, 0, 0, 0]),
        ("tables of 2^40 entries", 32, [12, 40, 0, 0, 0, 0, 0, 0]),
        ("version 7", 0, *b"QFI\xfb\0\0\0\x07"),
    ] {
        t.poke_at(&img, at, &bytes)?;
        t.io(&img, ["read 0 512"]).options(["-r"]).fails().quiet().await?;
        t.poke_at(&img, 0, &header)?;
        t.log(format!("{what}: refused"));
    }
    t.matches(&img, &below).await
}
