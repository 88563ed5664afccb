//! Creating an image over an old one replaces it; where it cannot be created,
//! the old one is unchanged.
//!
//! group: rw auto quick create
//! supported_fmt: generic
//! unsupported_fmt: luks
//! unsupported_imgopts: data_file
//! needs: growing

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.write(&img, &[(0xaa, 0, SIZE)]).await?;

    t.section("what cannot be made");
    let lines = [
        format!("create -f IMGFMT -o unknown=1 {img} 4M"),
        format!("create -f IMGFMT {img} 4X"),
        format!("create -f IMGFMT {img} -1"),
        format!("create -f IMGFMT {img} 4M 5M"),
        format!("create -f unknown {img} 4M"),
        format!("create -f IMGFMT -b TEST_DIR/none -F raw {img} 4M"),
        format!("create -f IMGFMT -o size=x {img}"),
    ];
    for line in lines {
        t.img(&line).fails().quiet().await?;
        t.log(format!("refused: {line}"));
    }
    t.verify(&img, &[(0xaa, 0, SIZE)]).await?;
    t.check(&img).await?;

    t.section("over the old one");
    let force = if t.format() == "vpc" { "-o force_size=on" } else { "" };
    t.img(format!("create -q -f IMGFMT {force} {img} {}", SIZE)).quiet().await?;
    let model = t.disk_model(SIZE);
    t.matches(&img, &model).await?;
    t.check(&img).await?;
    t.write(&img, &[(0xbb, 0, 512), (0xbb, SIZE - 512, 512)]).await?;
    t.verify(&img, &[(0xbb, 0, 512), (0, 512, SIZE - 1024), (0xbb, SIZE - 512, 512)]).await?;
    t.check(&img).await
}
