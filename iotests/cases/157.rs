//! A refcount table or block that is lost, past the end of the file or shared
//! is rebuilt by repair, and every count is right again.
//!
//! group: rw auto quick qcow2 damage repair snapshot
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file refcount_bits=1

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for (what, value) in [("gone", 0), ("out of the file", 1 << 26), ("onto the header's data", 1)]
    {
        t.section(format!("the first block is {what}"));
        let img = t.create(SIZE).quiet().await?;
        let mut model = t.disk_model(SIZE);
        let ops = Plan { count: 20, ..Plan::default() }.ops(&mut t.rng(), SIZE);
        t.apply(&img, &mut model, &ops).await?;
        t.img(format!("snapshot -c one {img}")).quiet().await?;
        let then = model.clone();
        t.apply(&img, &mut model, &ops[..10]).await?;
        let value = if value == 1 { t.peek(&img, "l1[0].offset")? } else { value };
        t.poke_quietly(&img, "refcount_table[0]", value)?;
        let found = t.check_counts_quietly(&img, &[]).await?;
        t.log(format!("errors are found: {}, exit status {}", found.corruptions > 0, found.status));
        let all = t.check_counts_quietly(&img, &["-r", "all"]).await?;
        t.log(format!(
            "repaired: {} left, exit status {}",
            all.corruptions + all.leaks,
            all.status
        ));
        t.check(&img).await?;
        t.sound(&img)?;
        t.matches(&img, &model).await?;
        t.img(format!("snapshot -a one {img}")).quiet().await?;
        t.matches(&img, &then).await?;
        t.check(&img).await?;
    }

    t.section("the whole table is zeroes");
    let img = t.create(SIZE).quiet().await?;
    t.write(&img, &[(1, 0, 2 * MIB)]).await?;
    let at = t.peek(&img, "header.refcount_table_offset")?;
    t.poke_at(&img, at, &[0; 512])?;
    t.io(&img, ["read -P 1 0 2M"]).options(["-r"]).quiet().await?;
    let all = t.check_counts_quietly(&img, &["-r", "all"]).await?;
    t.log(format!("repaired: {} left, exit status {}", all.corruptions + all.leaks, all.status));
    t.check(&img).await?;
    t.sound(&img)?;
    t.verify(&img, &[(1, 0, 2 * MIB), (0, 2 * MIB, 2 * MIB)]).await
}
