//! Conversion that lets the host copy (`-C`), or so many bytes a second (`-r`), gives the
//! image that any other gives; and `-C` is refused with what only the tool can do.
//!
//! group: rw auto quick convert
//! supported_fmt: generic
//! unsupported_fmt: qed
//! unsupported_proto: nbd fuse ssh
//! unsupported_imgopts: data_file

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").size(SIZE).quiet().await?;
    let mut model = t.disk_model(SIZE);
    let plan = Plan { count: 60, ..Plan::default() };
    t.apply(&src, &mut model, &plan.ops(&mut t.rng(), SIZE)).await?;
    let raw = t.image("raw").format("raw").size(SIZE).quiet().await?;
    t.img(format!("convert -O raw {src} {raw}")).quiet().await?;

    for options in ["-C", "-C -m 1", "-C -W", "-r 256M", "-r 256M -W"] {
        t.section(options);
        let copy = t.image("copy").size(SIZE).quiet().await?;
        t.img(format!("convert {options} -O IMGFMT {src} {copy}")).await?;
        t.same(&src, &copy).await?;
        // Onto what held something else, where every byte counts.
        t.write(&copy, &[(0x77, 0, SIZE)]).await?;
        t.img(format!("convert {options} -n -O IMGFMT {src} {copy}")).quiet().await?;
        t.same(&src, &copy).await?;
        t.check(&copy).await?;
        t.img(format!("convert {options} -O raw {src} TEST_DIR/flat")).quiet().await?;
        t.img(format!("compare -f raw -F raw {raw} TEST_DIR/flat")).quiet().await?;
    }

    t.section("what the host cannot do");
    for options in ["-C -c", "-C -S 64k"] {
        t.img(format!("convert {options} -O qcow2 {src} TEST_DIR/none")).fails().quiet().await?;
        ensure!(!t.path("none").exists(), "{options}: something was made");
        t.log(format!("convert {options}: refused"));
    }
    Ok(())
}
