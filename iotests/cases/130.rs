//! Requests in flight at once in the same new clusters, over a backing file, lose
//! nothing of each other.
//!
//! group: rw auto quick qcow2 backing
//! supported_fmt: qcow2

use iotests::prelude::*;

const SIZE: u64 = 2 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").without_imgopts().size(SIZE).await?;
    t.write(&base, &[(0xba, 0, SIZE)]).await?;
    let img = t.create(SIZE).backing(&base).await?;
    let mut model = t.disk_model(SIZE);
    model.set(0, SIZE, Some(0xba));

    t.section("neighbours, from both ends");
    let mut commands = Vec::new();
    for n in 0..48u64 {
        let at = if n % 2 == 0 { n / 2 } else { 63 - n / 2 } * 4096 + 512;
        let pattern = u8::try_from(n + 1)?;
        commands.push(format!("aio_write -q -P {pattern} {at} 2048"));
        model.set(at, 2048, Some(pattern));
    }
    commands.push("aio_flush".to_owned());
    t.io(&img, &commands).quiet().await?;
    t.matches(&img, &model).await?;
    t.sound(&img)?;

    t.section("writes, zeroes and discards of different clusters");
    let mut commands = Vec::new();
    for n in 0..24u64 {
        let at = MIB + n * 32 * KIB;
        let pattern = u8::try_from(n + 0x40)?;
        match n % 3 {
            0 => {
                commands.push(format!("aio_write -q -P {pattern} {at} 32k"));
                model.set(at, 32 * KIB, Some(pattern));
            }
            1 => {
                commands.push(format!("aio_write -q -z {at} 32k"));
                model.set(at, 32 * KIB, Some(0));
            }
            _ => {
                commands.push(format!("aio_write -q -P {pattern} {} 1k", at + 15 * KIB));
                model.set(at + 15 * KIB, KIB, Some(pattern));
            }
        }
    }
    commands.push("aio_flush".to_owned());
    t.io(&img, &commands).quiet().await?;
    t.matches(&img, &model).await?;
    t.sound(&img)?;

    t.section("onto each other: one of them wins, sector by sector");
    let both = ["aio_write -q -P 0x71 0 256k", "aio_write -q -P 0x72 0 256k", "aio_flush"];
    t.io(&img, both).quiet().await?;
    let flat = t.image("flat").format("raw").size(0).quiet().await?;
    t.img(format!("convert -O raw {img} {flat}")).quiet().await?;
    let bytes = t.peek_at(&flat, 0, 256 << 10)?;
    let whole = |sector: &[u8]| {
        matches!(sector.first(), Some(0x71 | 0x72)) && sector.iter().all(|b| *b == sector[0])
    };
    t.log(format!("nothing else: {}", bytes.chunks(512).all(whole)));
    model.set(0, 256 * KIB, None);
    t.matches(&img, &model).await?;
    t.check(&img).await?;
    t.sound(&img)
}
