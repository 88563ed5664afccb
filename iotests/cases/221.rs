//! Several clients of one NBD export see each other's writes at once; its
//! listing is correct, and a client that sends malformed requests affects no
//! other.
//!
//! group: rw auto quick nbd
//! supported_fmt: generic
//! supported_proto: file
//! needs: qemu-nbd

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.write(&img, &[(1, 0, SIZE)]).await?;
    let server = t.nbd_server(&img, "--persistent --shared=4 -x disk -D words").await?;
    let url = server.url("disk");

    t.section("two at once");
    let mut one = t.session(&url).await?;
    let mut two = t.session(&url).await?;
    for (n, at) in ["0", "65024", "1M", "4194303"].iter().enumerate() {
        let pattern = n + 10;
        one.run(format!("write -P {pattern} {at} 1")).await?;
        two.run(format!("read -P {pattern} {at} 1")).await?;
    }
    two.run("write -z 1M 64k").await?;
    one.run("read -P 0 1M 64k").await?;
    one.close().await?;
    two.run("read -P 10 0 1").await?;
    two.close().await?;

    t.section("one that does not speak the protocol");
    let socket = t.env().sock_dir.join(url.rsplit('/').next().unwrap_or_default());
    for words in [
        &b"GET / HTTP/1.0\r\n\r\n"[..],
        &[0xff; 64],
        b"\0\0\0\x03IHAVEOPT\0\0\0\x07\xff\xff\xff\xff",
    ] {
        let mut stream = UnixStream::connect(&socket)?;
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting)?;
        ensure!(greeting.starts_with(b"NBDMAGICIHAVEOPT"), "the greeting is another one");
        stream.write_all(words)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        // The server hangs up on it; that is all it gets.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    t.io(&url, ["read -P 10 0 1", "read -P 1 1 60k"]).await?;

    t.section("what it reports about itself");
    let list = format!("--list -k {}", url.split_once("socket=").map_or("", |(_, s)| s));
    let output = t.tool(Kind::Nbd, list).quiet().await?.text();
    for line in output.lines().map(str::trim).filter(|l| {
        ["exports available", "export:", "description:", "size:"].iter().any(|w| l.starts_with(w))
    }) {
        t.log(line);
    }
    t.io(server.url("other"), ["read 0 512"]).fails().quiet().await?;
    t.log("another name: refused");
    server.end().await?;
    t.verify(&img, &[(10, 0, 1), (1, 1, 65023), (0, MIB, 64 * KIB), (13, SIZE - 1, 1)]).await?;
    t.check(&img).await
}
