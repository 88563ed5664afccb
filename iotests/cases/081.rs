//! Committing to any level of a chain changes that level only, and the chain
//! shows the same as before.
//!
//! group: rw auto quick backing commit
//! supported_fmt: generic
//! needs: backing reopen
//! unsupported_fmt: vmdk

use iotests::prelude::*;

const UNIT: u64 = 256 * KIB;
const SIZE: u64 = 8 * UNIT;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for (level, name) in ["l0", "l1", "l2"].into_iter().enumerate() {
        t.section(format!("from the top into {name}"));
        let mut chain: Vec<(Image, DiskModel)> = Vec::new();
        for n in 0..4_u64 {
            let builder = t.image(&format!("l{n}")).quiet();
            let (image, mut model) = match chain.last() {
                None => (builder.size(SIZE).await?, DiskModel::new(SIZE)),
                Some((below, seen)) => (builder.backing(below).await?, seen.clone()),
            };
            let pattern = n as u8 + 1;
            let ops = [
                Op::write(pattern, n * UNIT, 2 * UNIT),
                Op::write(pattern, 6 * UNIT + n * 1024, 1536),
                Op::Zero { offset: n * UNIT + 4 * KIB, length: 8 * KIB, unmap: n % 2 == 0 },
            ];
            t.apply(&image, &mut model, &ops).await?;
            chain.push((image, model));
        }
        let (top, shown) = &chain[3];
        let (target, _) = &chain[level];
        t.img(format!("commit -b {target} {top}")).await?;
        t.matches(target, shown).await?;
        for (image, before) in &chain[..level] {
            t.matches(image, before).await?;
        }
        for (image, _) in &chain {
            t.check(image).await?;
        }
    }

    t.section("into what is not below");
    let other = t.image("other").size(SIZE).quiet().await?;
    let base = t.image("base").size(SIZE).quiet().await?;
    let top = t.image("top").backing(&base).quiet().await?;
    t.write(&top, &[(9, 0, 512)]).await?;
    t.img(format!("commit -b {other} {top}")).fails().quiet().await?;
    t.img(format!("commit -b {top} {top}")).fails().quiet().await?;
    t.verify(&other, &[(0, 0, 512)]).await?;
    t.verify(&base, &[(0, 0, 512)]).await?;

    t.section("and kept, or not, in the overlay");
    t.img(format!("commit -d {top}")).await?;
    t.verify(&base, &[(9, 0, 512)]).await?;
    t.verify(&top, &[(9, 0, 512)]).await?;
    t.check(&top).await
}
