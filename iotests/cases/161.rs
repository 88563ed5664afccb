//! A compressed cluster that cannot be decompressed is an error there and
//! nowhere else, and salvage saves the rest.
//!
//! group: rw auto quick qcow2 damage convert
//! supported_fmt: qcow2
//! supported_aio: threads native
//! supported_proto: file fuse
//! unsupported_imgopts: data_file refcount_bits=1 refcount_bits=2

use iotests::prelude::*;

const SIZE: u64 = MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let k = 64 * KIB;
    for what in ["garbage", "a stream cut short", "out of the file"] {
        t.section(what);
        let img = t.create_quietly(SIZE, "cluster_size=64k").await?;
        let writes = (0..4u64).map(|n| format!("write -c -P {} {} {k}", n + 1, n * k));
        t.io(&img, writes).quiet().await?;
        let at = t.peek(&img, "l2[0].entry[1].compressed_offset")?;
        match what {
            "garbage" => t.poke_at(&img, at, &[0xff; 16])?,
            "a stream cut short" => t.poke_at(&img, at + 8, &[0; 16])?,
            _ => t.poke_quietly(&img, "l2[0].entry[1].compressed_offset", 1 << 40)?,
        }
        t.io(&img, ["read 64k 64k", "read -P 1 0 64k", "read -P 3 128k 64k"])
            .options(["-r"])
            .any_status()
            .await?;
        t.img(format!("convert -O raw {img} TEST_DIR/out")).fails().quiet().await?;
        let saved = t.image("saved").format("raw").size(SIZE).quiet().await?;
        t.img(format!("convert -n --salvage -O raw {img} {saved}")).quiet().await?;
        t.log("salvaged");
        t.verify(&saved, &[(1, 0, k), (0, k, k), (3, 2 * k, k), (4, 3 * k, k)]).await?;
        let found = t.check_counts_quietly(&img, &[]).await?;
        t.log(format!("check: clean: {}", found.status == 0));

        t.write(&img, &[(9, k, k)]).await?;
        t.verify(&img, &[(1, 0, k), (9, k, k), (3, 2 * k, k), (4, 3 * k, k)]).await?;
        t.check_counts_quietly(&img, &["-r", "all"]).await?;
        t.check(&img).await?;
        t.sound(&img)?;
    }
    let _ = std::fs::remove_file(t.path("out"));
    Ok(())
}
