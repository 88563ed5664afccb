//! Converting onto an existing image replaces its data, zeroes included, and
//! nothing past the end of the source; a smaller target is refused.
//!
//! group: rw auto quick convert zero
//! supported_fmt: generic

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").format("raw").size(SIZE).quiet().await?;
    let data = [(1, 64 * KIB, 128 * KIB), (2, 2 * MIB - 512, KIB), (3, SIZE - 512, 512)];
    t.write(&src, &data).await?;
    let mut model = DiskModel::new(SIZE);
    for (pattern, at, length) in data {
        model.set(at, length, Some(pattern));
    }

    t.section("old data must go");
    let full = t.image("full").size(SIZE).await?;
    t.write(&full, &[(0xee, 0, SIZE)]).await?;
    t.img(format!("convert -n -O IMGFMT {src} {full}")).await?;
    t.matches(&full, &model).await?;
    t.same(&src, &full).await?;
    t.check(&full).await?;

    t.section("what is past the end of the source stays");
    let long = t.image("long").size(SIZE + MIB).await?;
    t.write(&long, &[(0xdd, 0, SIZE + MIB)]).await?;
    t.img(format!("convert -n -O IMGFMT {src} {long}")).await?;
    t.io(&long, model.reads(0, SIZE)).quiet().await?;
    t.verify(&long, &[(3, SIZE - 512, 512), (0xdd, SIZE, MIB)]).await?;
    t.check(&long).await?;

    t.section("too short");
    let short = t.image("short").size(SIZE - 512).await?;
    t.write(&short, &[(0xcc, 0, MIB)]).await?;
    t.img(format!("convert -n -O IMGFMT {src} {short}")).fails().quiet().await?;
    t.verify(&short, &[(0xcc, 0, MIB)]).await?;

    t.section("not there");
    t.img(format!("convert -n -O IMGFMT {src} TEST_DIR/none")).fails().quiet().await?;
    t.log(format!("a file was made: {}", t.path("none").exists()));

    t.section("a target that is declared to be all zeroes");
    if t.format() == "luks" {
        t.case_not_run("a fresh image that reads as zeroes: not for luks")?;
        t.log("the target is what the source is");
    } else {
        let fresh = t.image("fresh").size(SIZE).quiet().await?;
        t.img(format!("convert -n --target-is-zero -O IMGFMT {src} {fresh}")).quiet().await?;
        t.img(format!("compare -q {src} {fresh}")).quiet().await?;
        t.log("the target is what the source is");
    }
    t.img(format!("convert --target-is-zero -O IMGFMT {src} TEST_DIR/none"))
        .fails()
        .quiet()
        .await?;
    Ok(())
}
