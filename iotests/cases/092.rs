//! Zeroes written to an overlay, in whole clusters or in parts of them, hide the
//! data below, and so do they after they were written over, committed or
//! flattened.
//!
//! group: rw auto quick backing zero commit
//! supported_fmt: qcow2 vmdk
//! needs: reopen

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    t.write(&base, &[(0xba, 0, SIZE)]).await?;
    let top = t.image("top").backing(&base).await?;
    let mut model = DiskModel::new(SIZE);
    model.set(0, SIZE, Some(0xba));

    t.section("zeroes");
    let ops = [
        Op::Zero { offset: 0, length: 2 * MIB, unmap: false },
        Op::Zero { offset: 2 * MIB, length: 2 * MIB, unmap: true },
        Op::Zero { offset: 5 * MIB - 512, length: KIB, unmap: false },
        Op::Zero { offset: 6 * MIB + 4 * KIB, length: 300 * KIB, unmap: true },
        Op::Zero { offset: SIZE - 512, length: 512, unmap: true },
    ];
    t.apply(&top, &mut model, &ops).await?;
    t.matches(&top, &model).await?;
    t.check(&top).await?;

    t.section("written over in part");
    let ops = [
        Op::write(1, MIB + 512, 512),
        Op::write(2, 3 * MIB - 512, KIB),
        Op::write(3, 6 * MIB + 64 * KIB + 1, 3),
        Op::write(4, 5 * MIB, 512),
    ];
    t.apply(&top, &mut model, &ops).await?;
    t.matches(&top, &model).await?;

    t.section("flattened");
    let flat = t.image("flat").format("raw").size(0).quiet().await?;
    t.img(format!("convert -O raw {top} {flat}")).await?;
    t.matches(&flat, &model).await?;

    t.section("committed");
    t.img(format!("commit {top}")).await?;
    t.matches(&base, &model).await?;
    t.check(&base).await
}
