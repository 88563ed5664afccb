//! VHDX images of every block size, dynamic and fixed, keep data at the edges
//! of their blocks, and sizes to the sector.
//!
//! group: rw auto quick formats create
//! supported_fmt: vhdx
//! supported_proto: file
//! unsupported_imgopts: subformat block_size log_size

use iotests::prelude::*;

const SIZE: u64 = 20 * MIB + 512;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for options in [
        "block_size=1M",
        "block_size=2M,log_size=2M",
        "block_size=16M",
        "block_size=256M",
        "subformat=fixed",
        "block_state_zero=off",
    ] {
        t.section(options);
        let img = t.create(SIZE).options(options).await?;
        t.info(&img).await?;
        let mut model = t.disk_model(SIZE);
        let mut ops = Vec::new();
        for (pattern, edge) in (1..).zip([MIB, 2 * MIB, 16 * MIB, SIZE]) {
            ops.push(Op::write(pattern, edge - 512, 1024.min(SIZE - edge + 512)));
        }
        t.apply(&img, &mut model, &ops).await?;
        t.matches(&img, &model).await?;
        t.check(&img).await?;
    }

    t.section("invalid options are refused or clamped");
    for options in ["block_size=512k", "block_size=512M", "block_size=3M", "subformat=sparse"] {
        let run = t
            .img(["create", "-f", "IMGFMT", "-o", options, "TEST_DIR/no.IMGFMT", "8M"])
            .any_status()
            .quiet();
        if run.await?.status == Some(0) {
            let reported =
                t.img("info -f IMGFMT --output=json TEST_DIR/no.IMGFMT").quiet().await?.json()?;
            t.log(format!("{options}: made with blocks of {}", reported["cluster-size"]));
            std::fs::remove_file(t.path("no.vhdx"))?;
        } else {
            t.log(format!("{options}: refused"));
        }
    }
    Ok(())
}
