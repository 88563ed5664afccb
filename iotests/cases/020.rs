//! The map of an image covers it without a gap, and calls no zeroes what is
//! data.
//!
//! group: rw auto quick img
//! supported_fmt: generic

use iotests::prelude::*;

const SIZE: u64 = 32 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.section("nothing written");
    judge(t, &img, &[]).await?;

    t.section("some data");
    let patches =
        [(1, 0, 64 * KIB), (2, 5 * MIB - 512, KIB), (3, 16 * MIB, MIB), (4, SIZE - 512, 512)];
    t.write(&img, &patches).await?;
    judge(t, &img, &patches).await?;

    t.section("zeroes over some of it");
    t.write(&img, &[(0, 16 * MIB, 512)]).await?;
    t.io(&img, ["write -z 16M 64k"]).quiet().await?;
    let patches =
        [(1, 0, 64 * KIB), (3, 16 * MIB + 64 * KIB, MIB - 64 * KIB), (4, SIZE - 512, 512)];
    judge(t, &img, &patches).await?;
    t.verify(&img, &patches).await?;

    t.section("parts of the map");
    for (from, most) in
        [(0, 64 * KIB), (16 * MIB, 4 * MIB), (SIZE - 4 * KIB, 4 * KIB), (12 * KIB, SIZE)]
    {
        let runs = t
            .img(format!("map --output=json --start-offset={from} --max-length={most} {img}"))
            .quiet()
            .await?
            .json()?;
        let runs = runs.as_array().cloned().unwrap_or_default();
        tiles(&runs, from, SIZE.min(from + most))?;
        t.log(format!("{most} bytes from {from}: covered"));
    }
    t.img(format!("map --output=yaml {img}")).fails().quiet().await?;
    Ok(())
}

/// The map tiles the image; each patch is data and not zero.
async fn judge(t: &Test, img: &Image, patches: &[(u8, u64, u64)]) -> Result<()> {
    let runs = t.map(img).await?;
    tiles(&runs, 0, SIZE)?;
    t.log("the map covers the image");
    for run in &runs {
        let (start, length) = span(run);
        let zero = run["zero"] == true;
        let hit = |&(_, at, n): &(u8, u64, u64)| at < start + length && start < at + n;
        if let Some(patch) = patches.iter().find(|p| hit(p)) {
            ensure!(!zero && run["data"] == true, "{patch:?} is called {run}");
        }
    }
    t.log(format!("{} patches are data", patches.len()));
    Ok(())
}

fn span(run: &serde_json::Value) -> (u64, u64) {
    let number = |key: &str| run[key].as_u64().unwrap_or(u64::MAX / 4);
    (number("start"), number("length"))
}

/// The runs follow each other from `from` to `end`.
fn tiles(runs: &[serde_json::Value], from: u64, end: u64) -> Result<()> {
    let mut at = from;
    for run in runs {
        let (start, length) = span(run);
        ensure!(start == at && length > 0, "a gap or overlap at {at}: {run}");
        at += length;
    }
    ensure!(at == end, "the map ends at {at}, and should at {end}");
    Ok(())
}
