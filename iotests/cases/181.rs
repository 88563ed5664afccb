//! A stream-optimised VMDK image takes whole compressed grains, once; what it
//! took is read back, and what it refuses changes nothing.
//!
//! group: rw auto quick formats convert
//! supported_fmt: vmdk
//! supported_proto: file
//! unsupported_imgopts: subformat

use iotests::prelude::*;

const GRAIN: u64 = 64 * KIB;
const SIZE: u64 = 64 * GRAIN + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let flat = t.image("flat").format("raw").size(SIZE).quiet().await?;
    let mut model = t.disk_model(SIZE);
    let ops = Plan { count: 40, ..Plan::default() }.ops(&mut t.rng(), SIZE);
    t.apply(&flat, &mut model, &ops).await?;

    t.section("made by a conversion");
    t.img(format!("convert -O IMGFMT -o subformat=streamOptimized {flat} TEST_DIR/new.IMGFMT"))
        .await?;
    t.img(format!("compare -f raw -F IMGFMT {flat} TEST_DIR/new.IMGFMT")).await?;
    t.img("check -f IMGFMT TEST_DIR/new.IMGFMT").await?;
    std::fs::remove_file(t.path("new.vmdk"))?;

    t.section("written to");
    let img = t.image("stream").size(SIZE).options("subformat=streamOptimized").await?;
    t.io(
        &img,
        [
            "write -c -P 1 0 64k",
            "write -c -P 2 192k 64k",
            "read -P 1 0 64k",
            "read -P 0 64k 128k",
            "read -P 2 192k 64k",
        ],
    )
    .await?;
    t.section("not in part, not twice");
    for command in ["write -P 3 0 512", "write -c -P 3 0 64k", "write -P 3 192k 64k"] {
        t.io(&img, [command]).fails().quiet().await?;
        t.log(format!("{command}: refused"));
    }
    t.verify(
        &img,
        &[(1, 0, GRAIN), (0, GRAIN, 2 * GRAIN), (2, 3 * GRAIN, GRAIN), (0, 4 * GRAIN, GRAIN)],
    )
    .await?;
    t.check(&img).await
}
