//! Over TLS with certificates, both ends are verified: a client needs one of
//! the right authority and name, a server one for its host.
//!
//! group: rw auto quick nbd crypto qmp
//! supported_fmt: raw qcow2
//! supported_proto: file
//! needs: tls qemu-storage-daemon

use std::path::Path;

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;
const HOST: &str = "disk.test";

/// The credentials of a client, as an object on its command line.
fn creds(dir: &Path, verify: bool) -> String {
    let verify = if verify { "yes" } else { "no" };
    format!("tls-creds-x509,id=tls0,endpoint=client,verify-peer={verify},dir={}", dir.display())
}

/// The export, asked for under this host name.
fn export(host: &str) -> String {
    format!(
        r#"json:{{"driver": "nbd", "server": {{"type": "unix", "path": "SOCK_DIR/tls"}}, "export": "disk", "tls-creds": "tls0", "tls-hostname": "{host}"}}"#
    )
}

/// Serves the disk to clients with a certificate in this name, or to all.
async fn serve(t: &Test, img: &Image, dir: &Path, name: Option<&str>) -> Result<Daemon> {
    let mut qsd = t.qsd("").await?;
    qsd.add(img, "disk").await?;
    let creds = json!({"qom-type": "tls-creds-x509", "id": "tls0", "endpoint": "server", "dir": dir,
        "verify-peer": name.is_some()});
    qsd.run("object-add", creds).await?;
    let path = t.env().sock_dir.join("tls");
    let mut server = json!({"addr": {"type": "unix", "data": {"path": path}}, "tls-creds": "tls0"});
    if let Some(name) = name {
        let identity = format!("CN={name}");
        qsd.run(
            "object-add",
            json!({"qom-type": "authz-simple", "id": "names", "identity": identity}),
        )
        .await?;
        server["tls-authz"] = "names".into();
    }
    qsd.run("nbd-server-start", server).await?;
    qsd.run(
        "block-export-add",
        json!({"type": "nbd", "id": "e", "node-name": "disk", "writable": true}),
    )
    .await?;
    Ok(qsd)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let ours = t.authority("ours").await?;
    let theirs = t.authority("theirs").await?;
    let server = ours.server(HOST).await?;
    let (good, other) = (ours.client("good").await?, ours.client("other").await?);
    let (untrusted, without) = (theirs.client("good").await?, ours.without_certificate()?);
    let by = |dir: &Path, verify: bool, host: &str, commands: &[&str]| {
        t.io(export(host), commands).options(["--object", &creds(dir, verify)]).quiet()
    };

    t.section("both are asked for their certificates");
    let qsd = serve(t, &img, &server, Some("good")).await?;
    by(
        &good,
        true,
        HOST,
        &["write -P 1 0 3M", "write -P 2 1000 1000", "read -P 2 1000 1000", "read -P 1 2000 64k"],
    )
    .await?;
    t.log("the right ones: written and read");
    for (what, dir, host) in [
        ("another name", &other, HOST),
        ("another authority", &untrusted, HOST),
        ("no certificate", &without, HOST),
        ("a server for another host", &good, "other.test"),
    ] {
        let output = by(dir, true, host, &["write -P 9 0 512"]).fails().await?.text();
        ensure!(!output.contains("wrote"), "{what}: {output}");
        t.log(format!("{what}: refused"));
    }
    let plain = r#"json:{"driver": "nbd", "server": {"type": "unix", "path": "SOCK_DIR/tls"}, "export": "disk"}"#;
    t.io(plain, ["write -P 9 0 512"]).fails().quiet().await?;
    t.log("without TLS: refused");
    by(&good, true, HOST, &["read -P 1 0 1000", "write -P 3 2M 512"]).await?;
    t.log("and the right ones again: written and read");
    qsd.quit().await?;

    t.section("only the server is");
    let qsd = serve(t, &img, &server, None).await?;
    by(&without, true, HOST, &["read -P 3 2M 512", "write -P 4 2M 512"]).await?;
    t.log("no certificate: written and read");
    by(&untrusted, true, HOST, &["read 0 512"]).fails().await?;
    t.log("another authority, and the server is not trusted: refused");
    qsd.quit().await?;

    t.section("a server with the certificate of a client");
    let swapped = t.path("swapped");
    std::fs::create_dir_all(&swapped)?;
    for (from, to) in
        [("ca-cert", "ca-cert"), ("client-cert", "server-cert"), ("client-key", "server-key")]
    {
        std::fs::copy(good.join(format!("{from}.pem")), swapped.join(format!("{to}.pem")))?;
    }
    let mut qsd = t.qsd("").await?;
    let wrong =
        json!({"qom-type": "tls-creds-x509", "id": "tls0", "endpoint": "server", "dir": swapped});
    ensure!(qsd.ask("object-add", wrong).await?.is_err(), "it was taken");
    t.log("refused");
    qsd.quit().await?;
    t.verify(
        &img,
        &[(1, 0, 1000), (2, 1000, 1000), (1, 2000, MIB), (4, 2 * MIB, 512), (0, 3 * MIB, MIB)],
    )
    .await?;
    t.check(&img).await?;
    for dir in ["ours", "theirs", "swapped"] {
        std::fs::remove_dir_all(t.path(dir))?;
    }
    Ok(())
}
