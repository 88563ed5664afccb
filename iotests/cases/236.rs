//! Images behind an ssh server are read, written, created and extended by
//! clients that know the host key and may log in; others are refused, and
//! change nothing.
//!
//! group: rw auto quick
//! supported_fmt: raw
//! supported_proto: file
//! needs: ssh qemu-storage-daemon

use iotests::prelude::*;

/// A fingerprint with another first digit.
fn wrong(fingerprint: &str) -> String {
    let first = if fingerprint.starts_with('0') { '1' } else { '0' };
    format!("{first}{}", &fingerprint[1..])
}

/// Expects that the file cannot be opened by this name.
async fn refused(t: &Test, url: String, why: &str) -> Result<()> {
    t.io(&url, ["write -P 9 0 512"]).fails().quiet().await?;
    t.log(format!("{why}: refused"));
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(MIB).await?;
    t.write(&img, &[(1, 0, MIB)]).await?;
    let path = t.path("t.raw");
    let server = t.ssh_server().await?;
    let open = server.url(&path, Some("no"));

    t.section("the host's key");
    for hash in ["md5", "sha1", "sha256"] {
        let right = server.fingerprint(hash).await?;
        let url = server.url(&path, Some(&format!("{hash}:{right}")));
        t.io(&url, ["read -P 1 0 64k"]).quiet().await?;
        t.log(format!("{hash}, the right one: let in"));
        let check = format!("{hash}:{}", wrong(&right));
        refused(t, server.url(&path, Some(&check)), &format!("{hash}, another one")).await?;
    }
    let cut = format!("sha256:{}", &server.fingerprint("sha256").await?[..8]);
    refused(t, server.url(&path, Some(&cut)), "a part of one").await?;
    refused(t, server.url(&path, None), "a host that is not known").await?;
    refused(t, server.url(&path, Some("yes")), "a host that is not known, and is to be").await?;
    refused(t, server.url(&path, Some("maybe")), "an unknown host key check").await?;

    t.section("who, where and what");
    let (user, rest) = open.split_once('@').context("the name has no user")?;
    refused(t, format!("ssh://no-such-user@{rest}"), "another user").await?;
    // A port that was given out just now, and that nobody listens at any more.
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    refused(
        t,
        format!("{user}@127.0.0.1:{port}{}?host_key_check=no", path.display()),
        "a port without a server",
    )
    .await?;
    refused(t, server.url(&t.path("none"), Some("no")), "a file that is not there").await?;
    ensure!(!t.path("none").exists(), "opening made a file");

    t.section("read and written");
    t.io(&open, ["read -P 1 0 1M", "write -P 2 1000 3000", "flush"]).quiet().await?;
    t.io(&open, ["write -P 9 0 512"]).options(["-r"]).fails().quiet().await?;
    t.verify(&img, &[(1, 0, 1000), (2, 1000, 3000), (1, 4000, MIB - 4000)]).await?;

    t.section("made longer, not shorter");
    t.img(format!("resize -f raw {open} 2M")).quiet().await?;
    t.log(format!("{} bytes", std::fs::metadata(&path)?.len()));
    t.img(format!("resize -f raw --shrink {open} 1M")).fails().quiet().await?;
    t.log(format!("{} bytes", std::fs::metadata(&path)?.len()));
    t.verify(&img, &[(2, 1000, 3000), (1, 4000, MIB - 4000), (0, MIB, MIB)]).await?;

    t.section("created again");
    let made = t.path("made");
    let url = server.url(&made, Some("no"));
    t.img(format!("create -f raw {url} 512k")).quiet().await?;
    t.log(format!("{} bytes", std::fs::metadata(&made)?.len()));
    t.io(&url, ["write -P 3 0 512k"]).quiet().await?;
    t.img(format!("create -f raw {url} 1M")).quiet().await?;
    t.io(&url, ["read -P 0 0 1M"]).quiet().await?;
    t.log(format!("{} bytes of zeroes", std::fs::metadata(&made)?.len()));
    let lost = server.url(&t.path("nowhere").join("made"), Some("no"));
    t.img(format!("create -f raw {lost} 1M")).fails().quiet().await?;
    t.log("in a folder that is not there: refused");

    t.section("as a node");
    let mut qsd = t.qsd("").await?;
    let right = server.fingerprint("sha256").await?;
    for (name, check, good) in [
        ("none", json!({"mode": "none"}), true),
        ("hash", json!({"mode": "hash", "type": "sha256", "hash": &right}), true),
        ("wrong", json!({"mode": "hash", "type": "sha256", "hash": wrong(&right)}), false),
        ("unknown", json!({"mode": "known_hosts"}), false),
    ] {
        let mut node = server.node(&path, check);
        node["node-name"] = json!(name);
        node["read-only"] = json!(true);
        let added = qsd.ask("blockdev-add", node).await?.is_ok();
        ensure!(added == good, "{name}: added: {added}");
        t.log(format!("{name}: {}", if added { "there" } else { "refused" }));
    }
    let disk = qsd.export_nbd("hash").await;
    ensure!(disk.is_err(), "a node that is read-only was exported to be written");
    for name in ["none", "hash"] {
        qsd.run("blockdev-del", json!({"node-name": name})).await?;
    }
    qsd.quit().await?;

    t.section("a server that goes away");
    let mut qsd = t.qsd("").await?;
    let mut node = server.node(&path, json!({"mode": "none"}));
    node["node-name"] = json!("held");
    qsd.run("blockdev-add", node).await?;
    let disk = qsd.export_nbd("held").await?;
    t.io(&disk, ["read -P 1 0 512", "write -P 1 512 100"]).quiet().await?;
    server.drop_connections();
    t.io(&disk, ["read -P 1 0 512"]).fails().quiet().await?;
    t.log("a request after that fails");
    qsd.quit().await?;
    t.verify(&img, &[(1, 0, 1000), (2, 1000, 3000), (1, 4000, MIB - 4000), (0, MIB, MIB)]).await?;
    std::fs::remove_file(&made)?;
    Ok(())
}
