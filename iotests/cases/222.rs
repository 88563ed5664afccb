//! An NBD server that asks for a key over TLS serves clients that have it, and
//! no others; data are right through it.
//!
//! group: rw auto quick nbd crypto
//! supported_fmt: raw qcow2
//! supported_proto: file
//! needs: qemu-nbd

use iotests::prelude::*;

fn creds(dir: &str, end: &str, user: &str) -> String {
    let user = if user.is_empty() { String::new() } else { format!(",username={user}") };
    format!("tls-creds-psk,id=tls0,endpoint={end},dir=TEST_DIR/{dir}{user}")
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(4 * MIB).await?;
    for (dir, key) in [("good", "ab".repeat(32)), ("bad", "cd".repeat(32))] {
        std::fs::create_dir_all(t.path(dir))?;
        std::fs::write(t.path(dir).join("keys.psk"), format!("iotest:{key}\n"))?;
    }
    let server = t
        .nbd_server(
            &img,
            [
                "--persistent",
                "--shared=0",
                "--object",
                &creds("good", "server", ""),
                "--tls-creds=tls0",
            ],
        )
        .await?;
    let url = server.url("");
    let socket = url.split_once("socket=").map_or("", |(_, s)| s).to_owned();
    let tls = format!(
        r#"json:{{"driver": "nbd", "server": {{"type": "unix", "path": "{socket}"}}, "export": "", "tls-creds": "tls0"}}"#
    );
    let by = |object: String, commands: &[&str]| {
        t.io(&tls, commands).options(["--object", &object]).quiet()
    };

    t.section("with the key");
    by(
        creds("good", "client", "iotest"),
        &["write -P 1 64k 64k", "write -P 2 1M 1M", "read -P 1 64k 64k", "read -P 2 1M 1M"],
    )
    .await?;
    t.log("written and read");

    t.section("without");
    by(creds("bad", "client", "iotest"), &["read 0 512"]).fails().await?;
    by(creds("good", "client", "nobody"), &["read 0 512"]).fails().await?;
    t.io(&url, ["read 0 512"]).fails().quiet().await?;
    t.log("another key, another name, none: refused");

    t.section("and still with it");
    by(creds("good", "client", "iotest"), &["read -P 1 64k 64k", "write -P 3 0 512"]).await?;
    server.end().await?;
    t.verify(&img, &[(3, 0, 512), (1, 64 * KIB, 64 * KIB), (2, MIB, MIB)]).await?;

    t.section("a client of a server without TLS");
    let server = t.nbd_server(&img, "--persistent").await?;
    let plain = server.url("");
    let socket = plain.split_once("socket=").map_or("", |(_, s)| s);
    let tls = format!(
        r#"json:{{"driver": "nbd", "server": {{"type": "unix", "path": "{socket}"}}, "export": "", "tls-creds": "tls0"}}"#
    );
    let object = creds("good", "client", "iotest");
    t.io(&tls, ["read 0 512"]).options(["--object", &object]).fails().quiet().await?;
    t.log("it does without the server");
    server.end().await?;
    for dir in ["good", "bad"] {
        std::fs::remove_dir_all(t.path(dir))?;
    }
    Ok(())
}
