//! `qemu-nbd` exports what its options say: read-only, a part of the image,
//! a snapshot without a trace, under a name.
//!
//! group: rw auto quick nbd
//! supported_fmt: generic
//! supported_proto: file
//! needs: qemu-nbd

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let data = [(1, 0, MIB), (2, MIB, MIB), (3, 2 * MIB, MIB), (4, 3 * MIB, MIB)];
    t.write(&img, &data).await?;

    t.section("read-only");
    let server = t.nbd_server(&img, "-r --persistent").await?;
    t.io(server.url(""), ["read -P 2 1M 1M", "write 0 512"])
        .options(["-r"])
        .fails()
        .quiet()
        .await?;
    t.io(server.url(""), ["write 0 512"]).fails().quiet().await?;
    t.io(server.url(""), ["read -P 1 0 1M", "read -P 4 3M 1M"]).options(["-r"]).await?;
    server.end().await?;
    t.verify(&img, &data).await?;

    t.section("writes out of range");
    let server = t.nbd_server(&img, "--snapshot --persistent").await?;
    t.io(
        server.url(""),
        [
            "write -P 9 0 1M",
            "write -z 2M 64k",
            "read -P 9 0 1M",
            "read -P 0 2M 64k",
            "read -P 2 1M 1M",
        ],
    )
    .await?;
    server.end().await?;
    t.verify(&img, &data).await?;

    t.section("under a name, and only that");
    let server = t.nbd_server(&img, "-x 'a name' --persistent").await?;
    t.io(server.url("a%20name"), ["read -P 1 0 512", "write -P 5 512 512"]).await?;
    t.io(server.url(""), ["read 0 512"]).fails().quiet().await?;
    server.end().await?;
    t.verify(&img, &[(1, 0, 512), (5, 512, 512), (1, KIB, MIB - KIB)]).await?;

    t.section("at the edges of the export");
    let server = t.nbd_server(&img, "--persistent --discard=unmap --detect-zeroes=unmap").await?;
    t.io(
        server.url(""),
        [
            "length",
            "write -P 6 4193792 512",
            "write -P 0 3M 64k",
            "read -P 0 3M 64k",
            "write 4193792 1024",
            "read 4M 512",
        ],
    )
    .fails()
    .await?;
    server.end().await?;
    t.verify(
        &img,
        &[(0, 3 * MIB, 64 * KIB), (4, 3 * MIB + 64 * KIB, MIB - 66 * KIB), (6, SIZE - 512, 512)],
    )
    .await?;

    t.section("invalid options");
    for options in [
        "--cache=slow",
        "--aio=never",
        "--discard=maybe",
        "--shared=-1",
        "--port=70000",
        "-x",
        "--nothing",
    ] {
        t.tool(Kind::Nbd, format!("{options} TEST_DIR/none")).fails().quiet().await?;
        t.log(format!("{options}: refused"));
    }
    t.check(&img).await
}
