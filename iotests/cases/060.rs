//! A round trip through any other format loses nothing, not a byte and not a
//! sector of length.
//!
//! group: rw auto convert
//! supported_fmt: generic

use iotests::prelude::*;
use iotests::support::GENERIC_FORMATS;

const SIZE: u64 = 3 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);
    let ends = [Op::write(0xf1, 0, 512), Op::write(0xf2, SIZE - 512, 512)];
    t.apply(&img, &mut model, &ends).await?;
    let plan = Plan { count: 40, longest: 128 * KIB, ..Plan::default() };
    let ops = plan.ops(&mut t.rng(), SIZE - 512);
    t.apply(&img, &mut model, &ops).await?;

    // Making a LUKS image takes seconds, so that one serves all.
    let back = t.image("back").size(SIZE).quiet().await?;
    let onto = if t.format() == "luks" { "-n" } else { "" };
    for (n, format) in GENERIC_FORMATS.into_iter().enumerate() {
        let number = n + 1;
        if !t.probes().has_driver(t.env(), format) {
            t.case_not_run(format!("by way of {format}: there is no such driver here"))?;
            t.log(format!("round trip {number} of {}: nothing lost", GENERIC_FORMATS.len()));
            continue;
        }
        let via = t.image("via").format(format).size(SIZE).quiet().await?;
        let new = if format == "luks" { "-n" } else { "" };
        t.img(format!("convert {new} -O {format} {img} {via}")).quiet().await?;
        let found = exact(t, &via, &model).await;
        found.with_context(|| format!("converted to {format}"))?;
        t.img(format!("convert {onto} -O IMGFMT {via} {back}")).quiet().await?;
        let found = exact(t, &back, &model).await;
        found.with_context(|| format!("converted back from {format}"))?;
        t.img(format!("compare -q {img} {back}")).quiet().await?;
        for image in [&via, &back] {
            let output = t.img(format!("check {image}")).any_status().quiet().await?;
            ensure!(matches!(output.status, Some(0 | 63)), "by {format}: {}", output.text());
        }
        t.log(format!("round trip {number} of {}: nothing lost", GENERIC_FORMATS.len()));
    }
    Ok(())
}

async fn exact(t: &Test, image: &Image, model: &DiskModel) -> Result<()> {
    let size = t.virtual_size(image).await?;
    ensure!(size == model.size(), "{size} bytes instead of {}", model.size());
    t.io(image, model.reads(0, size)).options(["-r"]).quiet().await?;
    Ok(())
}
