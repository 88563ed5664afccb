//! An NBD client can ask how deep in a backing chain a range is allocated, of
//! `qemu-nbd` and of a storage daemon, and only where that was granted.
//!
//! group: rw auto quick nbd backing qmp
//! supported_fmt: generic
//! supported_proto: file
//! unsupported_imgopts: data_file preallocation
//! needs: backing qemu-nbd qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 16 * MIB;

/// The depths that a client is told. One is shown as no data, two and more as
/// zeroes, none as data: the client takes the numbers for flags of zeroes and holes.
async fn depths(t: &Test, name: &str) -> Result<Vec<String>> {
    let map = t.img(["map", "--output=json", name]).quiet().await?.json()?;
    let mut out: Vec<(u64, &str)> = Vec::new();
    for run in map.as_array().context("map is not a list")? {
        let depth = match (run["data"] == true, run["zero"] == true) {
            (true, false) => "none",
            (false, false) => "1",
            (_, true) => "2 or more",
        };
        let end = run["start"].as_u64().unwrap_or(0) + run["length"].as_u64().unwrap_or(0);
        match out.last_mut() {
            Some((last, kind)) if *kind == depth => *last = end,
            _ => out.push((end, depth)),
        }
    }
    Ok(out.iter().map(|(end, depth)| format!("up to {end}: {depth}")).collect())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    t.write(&base, &[(1, 0, 4 * MIB)]).await?;
    let middle = t.image("middle").backing(&base).await?;
    t.write(&middle, &[(2, 4 * MIB, 4 * MIB)]).await?;
    let top = t.image("top").backing(&middle).await?;
    t.write(&top, &[(3, 8 * MIB, 4 * MIB), (4, 2 * MIB, 2 * MIB)]).await?;
    let by = |url: &str, context: &str| nbd_name(url, &json!({"x-dirty-bitmap": context}));
    const DEPTH: &str = "qemu:allocation-depth";

    t.section("qemu-nbd");
    let server = t.nbd_server(&top, "--persistent --shared=0 -r -A").await?;
    let reported = depths(t, &by(&server.url(""), DEPTH)).await?;
    reported.iter().for_each(|line| t.log(line));
    t.img(["map", &by(&server.url(""), "qemu:dirty-bitmap:none")]).fails().quiet().await?;
    server.end().await?;
    let server = t.nbd_server(&top, "--persistent --shared=0 -r").await?;
    t.img(["map", &by(&server.url(""), DEPTH)]).fails().quiet().await?;
    t.log("not granted: refused");
    server.end().await?;

    t.section("a storage daemon reports the same");
    let mut qsd = t.qsd("").await?;
    qsd.add(&top, "top").await?;
    let url =
        qsd.export_nbd_with("top", json!({"writable": true, "allocation-depth": true})).await?;
    ensure!(depths(t, &by(&url, DEPTH)).await? == reported, "it reports something else");
    t.log("it does");
    t.io(&url, ["write -P 5 6M 2M"]).await?;
    let now = depths(t, &by(&url, DEPTH)).await?;
    t.log("and follows what is written:");
    now.iter().for_each(|line| t.log(line));
    qsd.quit().await?;
    t.verify(
        &top,
        &[
            (1, 0, 2 * MIB),
            (4, 2 * MIB, 2 * MIB),
            (2, 4 * MIB, 2 * MIB),
            (5, 6 * MIB, 2 * MIB),
            (3, 8 * MIB, 4 * MIB),
        ],
    )
    .await?;
    t.check(&top).await
}
