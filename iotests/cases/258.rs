//! A disk whose server hangs is yanked: pending requests fail at once, and the
//! machine and its other disks go on.
//!
//! group: rw quick machine nbd throttle qmp
//! supported_fmt: generic
//! supported_proto: file
//! needs: qemu-system qemu-storage-daemon driver:throttle

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let far = t.image("far").size(SIZE).await?;
    t.write(&far, &[(1, 0, SIZE)]).await?;
    let near = t.image("near").size(SIZE).await?;
    let mut server = t.qsd("").await?;
    server.add(&far, "far").await?;
    let group = json!({"qom-type": "throttle-group", "id": "stuck", "limits": {"bps-write": 1}});
    server.run("object-add", group).await?;
    server
        .run("blockdev-add", json!({"driver": "throttle", "node-name": "slow", "throttle-group": "stuck", "file": "far"}))
        .await?;
    let url = server.export_nbd("slow").await?;
    let socket = t.env().sock_dir.join(url.rsplit('/').next().unwrap_or_default());

    let mut vm = t.vm("").await?;
    let remote = json!({"driver": "nbd", "node-name": "remote", "export": "slow", "reconnect-delay": 0,
        "server": {"type": "unix", "path": socket}});
    vm.run("blockdev-add", remote).await?;
    vm.add(&near, "near").await?;
    let yanks = vm.run("query-yank", json!({})).await?;
    t.log(format!(
        "can be yanked: {}",
        yanks.as_array().is_some_and(|y| y.iter().any(|y| y["node-name"] == "remote"))
    ));
    let disk = vm.export_nbd("remote").await?;
    let local = vm.export_nbd("near").await?;

    t.section("requests that wait for the server");
    let mut client = t.session(&disk).await?;
    client.quiet();
    client.run("read -P 1 0 64k").await?;
    for n in 0..8 {
        client.run(format!("aio_write -P 2 {}k 64k", n * 64)).await?;
    }
    t.io(&local, ["write -P 3 0 64k", "read -P 3 0 64k"]).await?;
    let wrong = json!({"instances": [{"type": "block-node", "node-name": "near"}]});
    ensure!(vm.ask("yank", wrong).await?.is_err(), "a local disk was yanked");
    vm.qmp("yank", json!({"instances": [{"type": "block-node", "node-name": "remote"}]})).await?;
    let output = client.run("aio_flush").await?;
    let later = client.run("read 0 512").await?;
    t.log(format!("they fail: {}", output.contains("failed") || later.contains("failed")));
    client.close_as(Expect::AnyExit).await?;

    t.section("the machine goes on");
    t.io(&local, ["write -P 4 64k 64k", "read -P 3 0 64k", "read -P 4 64k 64k"]).await?;
    t.io(&disk, ["read 0 512"]).fails().quiet().await?;
    vm.unexport("nbd-remote").await?;
    vm.run("blockdev-del", json!({"node-name": "remote"})).await?;
    let status = vm.run("query-status", json!({})).await?;
    t.log(format!("it runs or waits: {}", status["status"].is_string()));
    vm.quit().await?;
    // Its requests wait until it ends.
    server.kill().await?;
    t.verify(&near, &[(3, 0, 64 * KIB), (4, 64 * KIB, 64 * KIB)]).await?;
    t.check(&near).await
}
