//! Data outlive the process that wrote them: the image is opened twenty times,
//! each time changed, and read-only opens change nothing.
//!
//! group: rw auto quick io
//! supported_fmt: generic

use iotests::prelude::*;

const SIZE: u64 = 24 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);
    let mut rng = t.rng();
    let plan = Plan { count: 4, longest: 128 * KIB, ..Plan::default() };
    for _ in 0..20 {
        let ops = plan.ops(&mut rng, SIZE);
        t.apply(&img, &mut model, &ops).await?;
    }
    t.matches(&img, &model).await?;
    t.check(&img).await?;

    t.section("opened read-only");
    let before = std::fs::read(img.file())?;
    t.io(&img, ["write -P 0xff 0 64k", "write -z 0 64k", "discard 0 64k", "read 0 512"])
        .options(["-r"])
        .fails()
        .await?;
    t.log(format!("the file has not changed: {}", std::fs::read(img.file())? == before));
    t.matches(&img, &model).await
}
