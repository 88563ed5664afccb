//! A snapshot can be read without setting the disk to it: by convert, dd and
//! qemu-nbd, by id and by name.
//!
//! group: auto quick qcow2 snapshot convert
//! supported_fmt: qcow2
//! unsupported_imgopts: data_file refcount_bits=1
//! needs: qemu-nbd

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("2M").await?;
    t.write(&img, &[(1, 0, MIB)]).await?;
    t.img(format!("snapshot -c first {img}")).await?;
    t.write(&img, &[(2, 512 * KIB, MIB)]).await?;
    let first = [(1, 0, MIB), (0, MIB, MIB)];
    let now = [(1, 0, 512 * KIB), (2, 512 * KIB, MIB), (0, 1536 * KIB, 512 * KIB)];

    for how in ["first", "1", "snapshot.name=first", "snapshot.id=1"] {
        t.section(format!("convert -l {how}"));
        let out = t.image("out").format("raw").size(0).quiet().await?;
        t.img(format!("convert -l {how} -O raw {img} {out}")).await?;
        t.verify(&out, &first).await?;
    }
    t.section("none of this name");
    for how in ["second", "snapshot.name=second", "snapshot.id=9"] {
        t.img(format!("convert -l {how} -O raw {img} TEST_DIR/none")).fails().await?;
    }

    t.section("qemu-nbd");
    for how in ["first", "snapshot.id=1"] {
        let server = t.nbd_server(&img, format!("-r -l {how}")).await?;
        t.io(server.url(""), ["read -P 1 0 1M", "read -P 0 1M 1M", "write 0 512"])
            .options(["-r"])
            .fails()
            .await?;
        server.end().await?;
    }
    t.verify(&img, &now).await?;
    t.check(&img).await
}
