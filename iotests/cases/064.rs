//! Every way to allocate room beforehand gives an image of the same size and
//! data, new or converted.
//!
//! group: rw auto quick convert create
//! supported_fmt: raw qcow2
//! needs: option:preallocation
//! unsupported_proto: nbd ssh
//! unsupported_imgopts: data_file

use iotests::prelude::*;

const SIZE: u64 = 2 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").format("raw").size(SIZE).quiet().await?;
    let mut model = DiskModel::new(SIZE);
    let plan = Plan { count: 25, longest: 100 * KIB, ..Plan::default() };
    t.apply(&src, &mut model, &plan.ops(&mut t.rng(), SIZE)).await?;

    for mode in ["off", "metadata", "falloc", "full"] {
        t.section(mode);
        let known = match t.format() {
            "qcow2" => true,
            _ => mode != "metadata",
        };
        if !known {
            t.case_not_run(format!("preallocation={mode}: not for {}", t.format()))?;
        }
        let used = if known { mode } else { "off" };
        let img = t.create(SIZE).options(format!("preallocation={used}")).quiet().await?;
        let mut guest = t.disk_model(SIZE);
        t.matches(&img, &guest).await?;
        t.check(&img).await?;
        let ops = plan.ops(&mut t.rng(), SIZE);
        t.apply(&img, &mut guest, &ops).await?;
        t.matches(&img, &guest).await?;
        t.check(&img).await?;
        if known && matches!(mode, "falloc" | "full") {
            let length = img.file().metadata()?.len();
            ensure!(length >= SIZE, "{mode}: {length} bytes for {SIZE}");
        }

        let out = t.image("out").size(SIZE).quiet().await?;
        t.img(format!("convert -o preallocation={used} -O IMGFMT {src} {out}")).quiet().await?;
        t.matches(&out, &model).await?;
        t.check(&out).await?;
    }

    t.section("an unknown mode");
    t.img(format!("convert -o preallocation=some -O IMGFMT {src} TEST_DIR/none"))
        .fails()
        .quiet()
        .await?;
    t.log("refused");
    Ok(())
}
