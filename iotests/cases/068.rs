//! Several sources are converted into one image, one behind the other, however
//! long each is.
//!
//! group: rw auto quick convert
//! supported_fmt: generic

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut sources = Vec::new();
    let mut model = DiskModel::new(MIB + 512 + 4 * MIB + 512 + 70 * KIB);
    let mut at = 0;
    for (n, size) in [MIB + 512, 4 * MIB, 512, 70 * KIB].into_iter().enumerate() {
        let source = t.image(&format!("part{n}")).size(size).await?;
        let pattern = 0x10 + n as u8;
        t.write(
            &source,
            &[(pattern, 0, 512), (0, size / 2 / 512 * 512, 512), (pattern, size - 512, 512)],
        )
        .await?;
        // A fresh LUKS image is not all zeroes.
        let unknown = t.format() == "luks";
        model.set(at, size, if unknown { None } else { Some(0) });
        model.set(at, 512, Some(pattern));
        if size > 512 {
            model.set(at + size / 2 / 512 * 512, 512, Some(0));
        }
        model.set(at + size - 512, 512, Some(pattern));
        at += size;
        sources.push(source.to_string());
    }
    let all = sources.join(" ");

    for options in ["", "-W -m 8", "-S 0"] {
        t.section(format!("all of them {options}"));
        let flat = t.image("flat").format("raw").size(0).quiet().await?;
        t.img(format!("convert {options} -O raw {all} {flat}")).await?;
        t.matches(&flat, &model).await?;
    }

    t.section("onto an image that is there");
    let out = t.image("out").size(model.size()).await?;
    t.img(format!("convert -n -O IMGFMT {all} {out}")).await?;
    t.matches(&out, &model).await?;
    t.check(&out).await?;

    t.section("with a backing file, which several sources cannot have");
    t.img(format!("convert -B {} -F IMGFMT -O IMGFMT {all} TEST_DIR/none", sources[0]))
        .fails()
        .quiet()
        .await?;
    t.log(format!("a file was made: {}", t.path("none").exists()));
    Ok(())
}
