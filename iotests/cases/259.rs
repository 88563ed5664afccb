//! A monitor's `commit` brings an overlay's data into its backing file under the
//! machine that has it, grows what is too short, and loses nothing where it fails.
//!
//! group: rw quick machine commit backing
//! supported_fmt: qcow2 qed
//! supported_proto: file
//! unsupported_imgopts: data_file cluster_size=2M
//! needs: qemu-system device:virtio-scsi-pci device:scsi-hd driver:blkdebug

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

/// What the monitor says to `commit`: whether it was done.
async fn commit(t: &Test, vm: &mut Daemon, what: &str) -> Result<()> {
    let line = json!({"command-line": format!("commit {what}")});
    let answer = vm.run("human-monitor-command", line).await?;
    // Since 10.2 what went wrong begins with "Error: ".
    let output = answer.as_str().unwrap_or_default().trim();
    let output = output.strip_prefix("Error: ").unwrap_or(output);
    t.log(format!("commit {what}: {}", if output.is_empty() { "done" } else { output }));
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.filled("base", SIZE, 1).await?;
    let top = t.image("top").size(2 * SIZE).backing(&base).await?;
    t.write(&top, &[(2, MIB, 64 * KIB)]).await?;
    let under = t.filled("under", SIZE, 3).await?;
    let over = t.image("over").backing(&under).await?;
    t.write(&over, &[(4, 0, 64 * KIB)]).await?;

    let mut vm = t
        .vm("-device virtio-scsi-pci,id=bus -drive if=none,id=one,format=IMGFMT,file=TEST_DIR/top.IMGFMT \
             -device scsi-hd,bus=bus.0,drive=one,id=disk0")
        .await?;
    // What is below the second disk can be written to at the second attempt.
    let mut low = under.node("under");
    let rule = json!({"event": "none", "iotype": "write", "errno": 28, "once": true});
    low["file"] =
        json!({"driver": "blkdebug", "image": under.protocol_node("file"), "inject-error": [rule]});
    low["read-only"] = json!(true);
    vm.run("blockdev-add", low).await?;
    vm.add_with(&over, "over", json!({"backing": "under"})).await?;
    vm.run(
        "device_add",
        json!({"driver": "scsi-hd", "id": "disk1", "drive": "over", "bus": "bus.0"}),
    )
    .await?;

    t.section("one of them");
    commit(t, &mut vm, "nowhere").await?;
    vm.guest("disk0", ["write -P 5 2M 64k", "write -z 3M 64k", "write -P 6 7M 64k"]).await?;
    commit(t, &mut vm, "one").await?;
    vm.guest("disk0", ["write -P 7 0 64k"]).await?;
    let shown = [
        (7, 0, 64 * KIB),
        (1, 64 * KIB, MIB - 64 * KIB),
        (2, MIB, 64 * KIB),
        (5, 2 * MIB, 64 * KIB),
        (0, 3 * MIB, 64 * KIB),
        (1, 3 * MIB + 64 * KIB, MIB - 64 * KIB),
        (0, 4 * MIB, 3 * MIB),
        (6, 7 * MIB, 64 * KIB),
        (0, 7 * MIB + 64 * KIB, MIB - 64 * KIB),
    ];

    t.section("all, and one fails");
    commit(t, &mut vm, "all").await?;
    let disk = vm.export_nbd_with("over", json!({"writable": false})).await?;
    t.io(&disk, ["read -P 4 0 64k", "read -P 3 64k 1M"]).options(["-r"]).quiet().await?;
    vm.unexport("nbd-over").await?;

    t.section("all");
    commit(t, &mut vm, "all").await?;
    vm.quit().await?;
    // All of the first disk is in its base by now.
    t.info(&base).await?;
    t.verify(&base, &shown).await?;
    t.verify(&top, &shown).await?;
    t.verify(&under, &[(4, 0, 64 * KIB), (3, 64 * KIB, SIZE - 64 * KIB)]).await?;
    t.verify(&over, &[(4, 0, 64 * KIB), (3, 64 * KIB, SIZE - 64 * KIB)]).await?;
    for img in [&base, &top, &under, &over] {
        t.check(img).await?;
    }
    Ok(())
}
