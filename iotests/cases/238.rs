//! Bursts, sizes of requests and members of a throttle group: as much passes as
//! the limits allow, and then a request waits, through whichever member it
//! comes.
//!
//! group: rw auto quick throttle qmp
//! supported_fmt: raw
//! supported_proto: file
//! needs: driver:throttle qemu-storage-daemon

use iotests::prelude::*;

/// Adds a group with these limits, and a node in it for each name.
async fn members(qsd: &mut Daemon, limits: &Value, names: &[&str]) -> Result<Vec<String>> {
    let group = json!({"qom-type": "throttle-group", "id": "tg", "limits": limits});
    qsd.run("object-add", group).await?;
    let mut urls = Vec::new();
    for name in names {
        let node = json!({"driver": "throttle", "node-name": name, "throttle-group": "tg", "file": "disk"});
        qsd.run("blockdev-add", node).await?;
        urls.push(qsd.export_nbd(name).await?);
    }
    Ok(urls)
}

/// Takes the members and their group away, clients or none.
async fn disband(qsd: &mut Daemon, names: &[&str]) -> Result<()> {
    for name in names {
        qsd.unexport(&format!("nbd-{name}")).await?;
        qsd.run("blockdev-del", json!({"node-name": name})).await?;
    }
    qsd.run("object-del", json!({"id": "tg"})).await?;
    Ok(())
}

/// These pass, one after the other.
async fn pass(session: &mut Session, commands: &[&str], times: usize) -> Result<()> {
    for command in commands.iter().cycle().take(commands.len() * times) {
        let output = session.run(command).await?;
        ensure!(!output.contains("failed"), "{command}: {output}");
    }
    Ok(())
}

/// A write of this pattern waits - what went before it in the file is there still,
/// after many a request that does not have to - until its member leaves the group.
async fn waits(
    t: &Test,
    qsd: &mut Daemon,
    plain: &str,
    member: &str,
    session: &mut Session,
    pattern: u8,
) -> Result<()> {
    session.run(format!("aio_write -P {pattern} 3M 4k")).await?;
    let old = format!("read -P {} 3M 4k", pattern - 1);
    t.io(plain, std::iter::repeat_n(&old, 50)).options(["-r"]).quiet().await?;
    let free = json!({"driver": "throttle", "node-name": member, "throttle-group": "free", "file": "disk"});
    qsd.run("blockdev-reopen", json!({"options": [free]})).await?;
    session.run("aio_flush").await?;
    t.io(plain, [format!("read -P {pattern} 3M 4k")]).options(["-r"]).quiet().await?;
    t.log("then one waits, until it need not");
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(4 * MIB).await?;
    t.write(&img, &[(0, 0, 4 * MIB)]).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&img, "disk").await?;
    qsd.run("object-add", json!({"qom-type": "throttle-group", "id": "free"})).await?;
    let plain = qsd.export_nbd_with("disk", json!({"writable": false})).await?;
    let burst = 64 * KIB;
    let mut pattern = 0;
    // A request waits when those before it have gone over the burst: the 18th of 4k.
    for (limits, commands, times) in [
        (json!({"bps-write": 1, "bps-write-max": burst}), &["write 0 4k", "read 0 64k"][..], 17),
        (json!({"bps-total": 1, "bps-total-max": burst}), &["read 0 4k"], 17),
        // One request that counts as a thousand.
        (json!({"iops-total": 1, "iops-total-max": 16, "iops-size": 4096}), &["read 0 4M"], 1),
        // Two bursts, and a second for each.
        (
            json!({"bps-write": 1, "bps-write-max": MIB, "bps-write-max-length": 2}),
            &["write 0 1M"],
            2,
        ),
    ] {
        t.section(&limits);
        let urls = members(&mut qsd, &limits, &["a"]).await?;
        let mut session = t.session(&urls[0]).await?;
        session.quiet();
        pass(&mut session, commands, times).await?;
        t.log(format!("{}: pass {times} times", commands.join(", ")));
        pattern += 1;
        waits(t, &mut qsd, &plain, "a", &mut session, pattern).await?;
        session.close().await?;
        disband(&mut qsd, &["a"]).await?;
    }

    let limits = json!({"iops-total": 1, "iops-total-max": 16, "iops-size": MIB});
    t.section(&limits);
    let urls = members(&mut qsd, &limits, &["a"]).await?;
    let mut session = t.session(&urls[0]).await?;
    session.quiet();
    pass(&mut session, &["read 0 1M"], 17).await?;
    t.log("each counts as one");
    session.close().await?;
    disband(&mut qsd, &["a"]).await?;

    t.section("what one member has used is gone for the other");
    let limits = json!({"bps-total": 1, "bps-total-max": burst});
    let urls = members(&mut qsd, &limits, &["a", "b"]).await?;
    let mut first = t.session(&urls[0]).await?;
    first.quiet();
    pass(&mut first, &["write 0 4k"], 16).await?;
    let mut second = t.session(&urls[1]).await?;
    second.quiet();
    pass(&mut second, &["read 0 4k"], 1).await?;
    first.close().await?;
    pattern += 1;
    waits(t, &mut qsd, &plain, "b", &mut second, pattern).await?;
    second.close().await?;
    disband(&mut qsd, &["a", "b"]).await?;

    t.section("limits that are taken away");
    let urls = members(&mut qsd, &limits, &["a"]).await?;
    let mut session = t.session(&urls[0]).await?;
    session.quiet();
    pass(&mut session, &["read 0 64k"], 1).await?;
    let none = json!({"path": "/objects/tg", "property": "limits", "value": {"bps-total": 0, "bps-total-max": 0}});
    qsd.run("qom-set", none).await?;
    pass(&mut session, &["read 0 1M"], 20).await?;
    t.log("nothing waits");
    session.close().await?;
    disband(&mut qsd, &["a"]).await?;
    qsd.quit().await?;
    t.verify(&img, &[(pattern, 3 * MIB, 4 * KIB)]).await
}
