//! Discards, zeroes and writes of the same clusters in flight at once: each sector is what one of
//! them leaves, nothing beside them changes, and the image is whole.
//!
//! group: rw auto quick qcow2 zero
//! supported_fmt: qcow2
//! unsupported_imgopts: data_file

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;
const RACED: u64 = MIB;
const ROUNDS: u64 = 8;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for (what, backed) in [("alone", false), ("over a backing file", true)] {
        t.section(what);
        let base = t.image("base").size(SIZE).quiet().await?;
        t.write(&base, &[(0xba, 0, SIZE)]).await?;
        let img = t.create(SIZE).quiet();
        let img = if backed { img.backing(&base).await? } else { img.await? };
        t.write(&img, &[(0x11, 0, 2 * MIB)]).await?;
        for round in 0..ROUNDS {
            let mut commands = Vec::new();
            for n in 0..16u64 {
                // Whole clusters and parts of them, that overlap those before.
                let at = (n * 5 + round * 3) % 13 * 64 * KIB + n % 3 * 16 * KIB;
                let pattern = 0x40 + n % 4;
                commands.push(format!("aio_write -q -P {pattern} {at} 160k"));
                if n % 4 == 1 {
                    commands.push(format!("aio_write -q -z -u {at} 128k"));
                }
                commands.push(format!("discard -q {} 192k", at / (64 * KIB) * 64 * KIB));
            }
            commands.push("aio_flush".to_owned());
            t.io(&img, &commands).options(["-d", "unmap"]).quiet().await?;
            let flat = t.image("flat").format("raw").size(0).quiet().await?;
            t.img(format!("convert -O raw {img} {flat}")).quiet().await?;
            let bytes = t.peek_at(&flat, 0, usize::try_from(RACED)?)?;
            for (n, sector) in bytes.chunks(512).enumerate() {
                let known = matches!(sector[0], 0 | 0x11 | 0x40..=0x43 | 0xba);
                let whole = sector.iter().all(|byte| *byte == sector[0]);
                ensure!(known && whole, "sector {n} holds {:#x} and others", sector[0]);
            }
            t.defects(&img)?.first().map_or(Ok(()), |defect| Err(anyhow!("{defect}")))?;
        }
        t.log("each sector is what one request leaves");
        t.verify(&img, &[(0x11, 3 * MIB / 2, MIB / 2)]).await?;
        t.verify(&img, &[(if backed { 0xba } else { 0 }, 2 * MIB, 2 * MIB)]).await?;
        t.check(&img).await?;
    }
    Ok(())
}
