//! QED images of every table and cluster size keep their data, and one that
//! was in use at a crash is checked and repaired when it is next opened.
//!
//! group: rw auto quick formats repair
//! supported_fmt: qed
//! supported_proto: file
//! unsupported_imgopts: cluster_size table_size

use iotests::prelude::*;

/// The header's feature bits: 8 bytes, little-endian; bit 1 asks for a check.
const FEATURES: u64 = 16;
const NEED_CHECK: u8 = 2;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for (cluster, table) in [(4 * KIB, 2), (4 * KIB, 16), (64 * KIB, 2), (MIB, 4)] {
        let options = format!("cluster_size={cluster},table_size={table}");
        t.section(&options);
        // Two clusters of 4 KiB hold a table that maps 4 MiB: here are ten of them.
        let size = 40 * MIB + 512;
        let img = t.create(size).options(options).await?;
        let reach = (cluster * table / 8 * cluster).min(32 * MIB);
        let edges = [(1, reach - 512, 1024), (2, 8 * MIB - 512, 1024), (3, size - 512, 512)];
        t.write(&img, &edges).await?;
        t.verify(&img, &edges).await?;
        t.verify(&img, &[(0, 0, MIB), (0, 20 * MIB, MIB)]).await?;
        t.check(&img).await?;
    }

    t.section("invalid requests");
    for options in [
        "cluster_size=2k",
        "cluster_size=128M",
        "cluster_size=5000",
        "table_size=3",
        "table_size=32",
    ] {
        t.img(["create", "-f", "IMGFMT", "-o", options, "TEST_DIR/no.IMGFMT", "8M"])
            .fails()
            .quiet()
            .await?;
        t.log(format!("{options}: refused"));
    }

    t.section("a crash");
    let img = t.create(4 * MIB).await?;
    let mut session = t.session(&img).await?;
    session.run("write -P 1 0 64k").await?;
    session.run("write -P 2 1M 64k").await?;
    session.kill().await?;
    let asks =
        |img: &Image| Ok::<_, anyhow::Error>(t.peek_at(img, FEATURES, 1)?[0] & NEED_CHECK != 0);
    t.log(format!("it asks for a check: {}", asks(&img)?));

    t.section("a reader leaves that as it is");
    t.io(&img, ["read -P 1 0 64k"]).options(["-r"]).await?;
    t.log(format!("it asks for a check: {}", asks(&img)?));

    t.section("an unused cluster");
    let length = img.file().metadata()?.len();
    std::fs::File::options().write(true).open(img.file())?.set_len(length + 2 * 64 * KIB)?;
    t.io(&img, ["read -P 1 0 64k", "read -P 0 64k 64k", "read -P 2 1M 64k"]).await?;
    t.log(format!("it asks for a check: {}", asks(&img)?));
    t.check_report(&img, &["-r", "leaks"]).await?;
    t.verify(&img, &[(1, 0, 64 * KIB), (0, 64 * KIB, 64 * KIB), (2, MIB, 64 * KIB)]).await
}
