//! A source that cannot be read makes conversion fail, or with `--salvage` costs
//! what cannot be read and nothing more.
//!
//! group: rw auto quick convert blkdebug
//! supported_fmt: generic
//! needs: driver:blkdebug

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;
/// Which sector cannot be read.
const BAD: u64 = 2 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").format("raw").size(SIZE).quiet().await?;
    t.write(&src, &[(0x31, 0, SIZE)]).await?;
    let file = src.file().to_string_lossy();
    let broken = format!(
        "json:{}",
        json!({"driver": "raw", "file": {
            "driver": "blkdebug",
            "image": {"driver": "file", "filename": file},
            "inject-error": [{"event": "none", "iotype": "read", "errno": 5, "sector": BAD / 512}],
        }})
    );
    let out = t.image("out").size(SIZE).await?;
    let out_name = out.to_string();

    t.section("it fails");
    let line = ["convert", "-f", "raw", "-n", "-O", "IMGFMT", &broken, &out_name];
    let printed = t.img(line).status(1).quiet().await?.text();
    t.log(format!("reports the reason: {}", printed.contains("Input/output error")));
    t.img(["convert", "-f", "raw", "-O", "raw", &broken, "TEST_DIR/none"])
        .status(1)
        .quiet()
        .await?;
    let _ = std::fs::remove_file(t.path("none"));

    t.section("and what can be saved is saved");
    t.write(&out, &[(0xee, 0, SIZE)]).await?;
    let line = ["convert", "--salvage", "-f", "raw", "-n", "-O", "IMGFMT", &broken, &out_name];
    let printed = t.img(line).quiet().await?.text();
    t.log(format!(
        "reports what was lost: {}",
        printed.contains("warning: error while reading offset")
    ));
    t.verify(&out, &[(0x31, 0, BAD), (0, BAD, 512), (0x31, BAD + 512, SIZE - BAD - 512)]).await?;
    t.check(&out).await?;

    t.section("a target that cannot be written");
    let full = format!(
        "json:{}",
        json!({"driver": "raw", "file": {
            "driver": "blkdebug",
            "image": {"driver": "file", "filename": file},
            "inject-error": [{"event": "none", "iotype": "write", "errno": 28, "sector": BAD / 512}],
        }})
    );
    let good = t.image("good").size(SIZE).await?;
    t.write(&good, &[(0x44, 0, SIZE)]).await?;
    let printed =
        t.img(["convert", "-n", "-O", "raw", &good.to_string(), &full]).status(1).quiet().await?;
    t.log(format!("reports the reason: {}", printed.text().contains("No space left on device")));
    t.verify(&good, &[(0x44, 0, SIZE)]).await
}
