//! What an NBD client gets about data and zeroes, and about a dirty bitmap,
//! matches the image.
//!
//! group: rw auto quick nbd bitmap
//! supported_fmt: qcow2
//! supported_proto: file
//! needs: qemu-nbd bitmaps
//! unsupported_imgopts: data_file preallocation

use iotests::prelude::*;

const SIZE: u64 = 16 * MIB;

/// Runs of a map, neighbours that are alike joined, as `start+length what`.
fn runs(map: &[Value], what: impl Fn(&Value) -> String) -> Vec<String> {
    let mut out: Vec<(u64, u64, String)> = Vec::new();
    for run in map {
        let (start, length) =
            (run["start"].as_u64().unwrap_or(0), run["length"].as_u64().unwrap_or(0));
        match out.last_mut() {
            Some((_, last, kind)) if *kind == what(run) => *last += length,
            _ => out.push((start, length, what(run))),
        }
    }
    out.into_iter().map(|(start, length, kind)| format!("{start}+{length} {kind}")).collect()
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.write(&img, &[(1, 0, 2 * MIB), (2, 6 * MIB, 2 * MIB)]).await?;
    t.img(format!("bitmap --add -g 64k {img} marks")).await?;
    t.write(&img, &[(3, 4 * MIB, 2 * MIB), (4, 10 * MIB + 64 * KIB, 512)]).await?;
    t.io(&img, ["write -z 0 2M"]).await?;

    let server = t.nbd_server(&img, "--persistent --shared=0 -r -B marks -A").await?;
    let socket = server.url("").split_once("socket=").map_or(String::new(), |(_, s)| s.to_owned());
    let by = |more: &str| {
        format!(
            r#"json:{{"driver": "nbd", "server": {{"type": "unix", "path": "{socket}"}}{more}}}"#
        )
    };

    t.section("data and zeroes");
    let zero = |r: &Value| {
        if r["zero"] == true { "zero".to_owned() } else { "data".to_owned() }
    };
    let reported = t.img(["map", "--output=json", &by("")]).quiet().await?.json()?;
    let reported = runs(reported.as_array().context("map is not a list")?, zero);
    let own = runs(
        &t.img(["map", "-U", "--output=json", &img.to_string()])
            .quiet()
            .await?
            .json()?
            .as_array()
            .context("map is not a list")?
            .clone(),
        zero,
    );
    ensure!(reported == own, "the image has {own:?} and the client gets {reported:?}");
    // Behind 8 MiB it depends on the size of clusters.
    for run in reported.iter().take_while(|r| !r.starts_with("8388608+")) {
        t.log(run);
    }

    t.section("the bitmap");
    let bitmap = by(r#", "x-dirty-bitmap": "qemu:dirty-bitmap:marks""#);
    let reported = t.img(["map", "--output=json", &bitmap]).quiet().await?.json()?;
    // A dirty range is shown as one that is not data.
    let dirty = |r: &Value| {
        if r["data"] == true { "clean".to_owned() } else { "dirty".to_owned() }
    };
    for run in runs(reported.as_array().context("map is not a list")?, dirty) {
        t.log(run);
    }

    t.section("a bitmap that is not there");
    t.img(["map", &by(r#", "x-dirty-bitmap": "qemu:dirty-bitmap:none""#)]).fails().quiet().await?;
    t.log("refused");
    server.end().await?;
    t.check(&img).await
}
