//! Many requests in flight at once lose nothing, though they share clusters and
//! tables that are being allocated.
//!
//! group: rw auto quick io
//! supported_fmt: generic

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);

    t.section("neighbours in few clusters");
    let mut commands = Vec::new();
    for n in 0..96 {
        let (pattern, offset) = (n as u8 + 1, n * 1536);
        commands.push(format!("aio_write -P {pattern} {offset} 1536"));
        model.set(offset, 1536, Some(pattern));
    }
    t.io(&img, &commands).quiet().await?;
    t.matches(&img, &model).await?;

    t.section("far apart, back to front, with zeroes and flushes");
    // Zeroes among other writes end the program for QED: see known-limits.md.
    let zeroes = t.format() != "qed";
    if !zeroes {
        t.case_not_run("writing zeroes while other requests allocate: not for qed")?;
    }
    let mut commands = Vec::new();
    for n in (0..64).rev() {
        let offset = n * 128 * KIB + 3 * KIB;
        let pattern = if zeroes && n % 5 == 0 { 0 } else { n as u8 + 100 };
        commands.push(match pattern {
            0 => format!("aio_write -z {offset} 70k"),
            _ => format!("aio_write -P {pattern} {offset} 70k"),
        });
        if n % 16 == 0 {
            commands.push("aio_flush".to_owned());
        }
        model.set(offset, 70 * KIB, Some(pattern));
    }
    t.io(&img, &commands).quiet().await?;
    t.matches(&img, &model).await?;

    t.section("reads meet what was written before them");
    let reads: Vec<String> =
        model.reads(0, SIZE).iter().map(|read| format!("aio_{read}")).collect();
    let output = t.io(&img, &reads).quiet().await?.text();
    t.log(format!("patterns that differ: {}", output.matches("verification failed").count()));
    t.check(&img).await
}
