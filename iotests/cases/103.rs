//! With extended L2 entries, a small write allocates the subclusters it touches
//! and no other.
//!
//! group: rw auto quick qcow2 backing
//! supported_fmt: qcow2
//! needs: extended_l2

use iotests::prelude::*;

const CLUSTER: u64 = 64 * KIB;
const SUB: u64 = CLUSTER / 32;

/// Logs the runs of the map: start and length in subclusters, and whence.
async fn runs(t: &Test, img: &Image) -> Result<()> {
    for run in t.map(img).await? {
        let number = |key: &str| run[key].as_u64().unwrap_or(0);
        let (start, length) = (number("start"), number("length"));
        ensure!(start % SUB == 0 && length % SUB == 0, "no subclusters: {run}");
        let kind = match (run["zero"] == true, run["data"] == true, number("depth")) {
            (true, _, 0) => "zeroes",
            (false, true, 0) => "data",
            (false, true, _) => "data below",
            _ => "other",
        };
        t.log(format!("{:4} + {:4}: {kind}", start / SUB, length / SUB));
    }
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").format("raw").size(MIB).await?;
    t.write(&base, &[(0xaa, 0, MIB)]).await?;
    let img = t
        .create(MIB)
        .without_imgopts()
        .options("extended_l2=on,cluster_size=64k")
        .backing(&base)
        .await?;
    let mut model = t.disk_model(MIB);
    model.set(0, MIB, Some(0xaa));

    t.section("one subcluster, part of two, and the last of a cluster");
    let write = |pattern, offset, length| Op::write(pattern, offset, length);
    let writes =
        [write(1, 4 * SUB, SUB), write(2, 8 * SUB + 512, SUB), write(3, CLUSTER - SUB, 2 * SUB)];
    t.apply(&img, &mut model, &writes).await?;
    t.matches(&img, &model).await?;
    runs(t, &img).await?;
    let bits = t.peek(&img, "l2[0].entry[0].subclusters")?;
    t.log(format!("subclusters of the first cluster: {bits:#018x}"));

    t.section("zeroes over data, over nothing, and over a part");
    let zero = |offset, length| Op::Zero { offset, length, unmap: false };
    let zeroes = [zero(4 * SUB, SUB), zero(5 * CLUSTER + SUB, 3 * SUB), zero(9 * SUB + 512, 512)];
    t.apply(&img, &mut model, &zeroes).await?;
    t.matches(&img, &model).await?;
    runs(t, &img).await?;

    t.section("data over zeroes, and a whole cluster of zeroes");
    let ops = [write(4, 5 * CLUSTER + 2 * SUB, SUB), zero(7 * CLUSTER, CLUSTER)];
    t.apply(&img, &mut model, &ops).await?;
    t.matches(&img, &model).await?;
    runs(t, &img).await?;
    t.sound(&img)?;

    t.section("everything written is one cluster each");
    let all: Vec<Op> = (0..16).map(|n| write(5, n * CLUSTER, CLUSTER)).collect();
    t.apply(&img, &mut model, &all).await?;
    t.matches(&img, &model).await?;
    runs(t, &img).await?;
    t.check(&img).await?;
    t.sound(&img)
}
