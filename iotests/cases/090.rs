//! The map of a chain has the right image for each range, and what is read
//! there agrees.
//!
//! group: rw auto quick backing img
//! supported_fmt: generic
//! needs: backing
//! unsupported_imgopts: data_file extended_l2

use iotests::prelude::*;

/// As much as the largest cluster.
const UNIT: u64 = 2 * MIB;
const SIZE: u64 = 6 * UNIT;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    t.write(&base, &[(1, 0, 3 * UNIT)]).await?;
    let mid = t.image("mid").backing(&base).await?;
    t.write(&mid, &[(2, UNIT, UNIT), (2, 4 * UNIT, UNIT)]).await?;
    let top = t.image("top").backing(&mid).await?;
    t.write(&top, &[(3, 2 * UNIT, UNIT)]).await?;

    t.section("each range in its image");
    let runs = t.map(&top).await?;
    for (n, want) in [Some(2), Some(1), Some(0), None, Some(1), None].into_iter().enumerate() {
        let (from, to) = (n as u64 * UNIT, (n as u64 + 1) * UNIT);
        let number = |run: &Value, key: &str| run[key].as_u64().unwrap_or(0);
        let inside = runs.iter().filter(|run| {
            number(run, "start") < to && number(run, "start") + number(run, "length") > from
        });
        for run in inside {
            match want {
                Some(depth) => ensure!(run["depth"] == depth && run["data"] == true, "{n}: {run}"),
                None => ensure!(run["zero"] == true && run["data"] == false, "{n}: {run}"),
            }
        }
        t.log(match want {
            Some(depth) => format!("{from}: data, {depth} below"),
            None => format!("{from}: zeroes"),
        });
    }
    t.verify(
        &top,
        &[
            (1, 0, UNIT),
            (2, UNIT, UNIT),
            (3, 2 * UNIT, UNIT),
            (0, 3 * UNIT, UNIT),
            (2, 4 * UNIT, UNIT),
            (0, 5 * UNIT, UNIT),
        ],
    )
    .await?;

    t.section("one level lower");
    let runs = t.map(&mid).await?;
    let deepest = runs.iter().filter_map(|run| run["depth"].as_u64()).max();
    t.log(format!("at most {} below", deepest.unwrap_or(0).min(1)));
    Ok(())
}
