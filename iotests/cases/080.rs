//! A chain of twenty images shows through its top what each of them holds.
//!
//! group: rw auto quick backing
//! supported_fmt: generic
//! needs: backing

use iotests::prelude::*;

const DEPTH: u64 = 20;
const UNIT: u64 = 64 * KIB;
const SIZE: u64 = (DEPTH + 2) * UNIT;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut model = DiskModel::new(SIZE);
    let mut below: Option<Image> = None;
    for n in 0..DEPTH {
        let image = t.image(&format!("l{n}")).quiet();
        let image = match &below {
            None => image.size(SIZE),
            Some(below) => image.backing(below),
        };
        let image = image.await?;
        let pattern = n as u8 + 1;
        // A range of its own, one it shares with its neighbours, and the last
        // sector of all.
        let ops = [
            Op::write(pattern, n * UNIT, UNIT + 512),
            Op::write(pattern, SIZE - 512 * (n + 1), 512),
        ];
        for op in &ops {
            model.apply(op);
        }
        t.io(&image, ops.map(|op| op.to_string())).quiet().await?;
        below = Some(image);
    }
    let top = below.context("no image was made")?;
    t.matches(&top, &model).await?;

    t.section("the whole chain is listed");
    let chain = t.img(format!("info --backing-chain --output=json {top}")).quiet().await?.json()?;
    let chain = chain.as_array().cloned().unwrap_or_default();
    t.log(format!("{} images", chain.len()));
    let named = chain.iter().filter(|image| image["backing-filename"].is_string()).count();
    t.log(format!("{named} of them have a backing file"));

    t.section("flattened");
    let flat = t.image("flat").format("raw").size(0).quiet().await?;
    t.img(format!("convert -O raw {top} {flat}")).await?;
    t.matches(&flat, &model).await?;
    t.same(&top, &flat).await?;
    t.check(&top).await
}
