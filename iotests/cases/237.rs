//! Who may use a FUSE export follows `allow-other`: with off only the user who
//! made it, with on users that the file's mode allows, with auto whichever of
//! both is possible.
//!
//! group: rw auto quick fuse export
//! supported_fmt: raw
//! supported_proto: file
//! needs: fuse qemu-storage-daemon

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use iotests::prelude::*;

/// Somebody else: no file of anybody's is theirs.
const OTHER: u32 = 65534;

/// Whether somebody else can read the file.
fn other_reads(path: &Path) -> Result<bool> {
    let mut head = std::process::Command::new("head");
    head.args(["-c", "1"]).arg(path).uid(OTHER).gid(OTHER);
    Ok(head.output().context("failed to start head")?.status.success())
}

/// Whether FUSE lets this user open a mount to others.
fn may_allow() -> bool {
    let config = std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    nix::unistd::geteuid().is_root() || config.lines().any(|l| l.trim() == "user_allow_other")
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(MIB).await?;
    t.write(&img, &[(1, 0, MIB)]).await?;
    let mount = t.path("mount");
    std::fs::write(&mount, b"x")?;
    // Who mounts over a file has to be its owner and may write to it.
    std::fs::set_permissions(&mount, std::fs::Permissions::from_mode(0o644))?;
    // Only root can ask as somebody else, and only where folders let them through.
    let can_ask = nix::unistd::geteuid().is_root() && other_reads(&mount)?;
    if !can_ask {
        t.case_not_run("no other user can read a file of TEST_DIR")?;
    }
    let mut qsd = t.qsd("").await?;
    qsd.add(&img, "disk").await?;
    for allow in ["off", "on", "auto"] {
        t.section(allow);
        let export = json!({"type": "fuse", "id": "e", "node-name": "disk", "mountpoint": &mount,
            "writable": true, "allow-other": allow});
        let added = qsd.ask("block-export-add", export).await?.is_ok();
        if allow == "on" && !may_allow() {
            ensure!(!added, "the mount is open to others, which this user may not do");
            t.case_not_run("the user may not open mounts to others (user_allow_other)")?;
            t.log("as the mode specifies");
            continue;
        }
        ensure!(added, "there is no export");
        let others = allow != "off" && may_allow();
        let mode = std::fs::metadata(&mount)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "the mode is {mode:o}");
        ensure!(!can_ask || !other_reads(&mount)?, "somebody else reads what only the owner may");
        let opened =
            std::fs::set_permissions(&mount, std::fs::Permissions::from_mode(0o644)).is_ok();
        ensure!(opened == others, "its mode can be changed: {opened}");
        if can_ask {
            let read = other_reads(&mount)?;
            ensure!(read == others, "somebody else reads it: {read}");
        }
        t.log(if allow == "off" { "no other user" } else { "as the mode specifies" });
        let first = std::fs::read(&mount)?;
        ensure!(first.iter().all(|b| *b == 1), "the owner reads something else");
        qsd.run("block-export-del", json!({"id": "e"})).await?;
        qsd.event_where("BLOCK_EXPORT_DELETED", |d| d["id"] == "e").await?;
    }
    qsd.quit().await?;
    std::fs::remove_file(&mount)?;
    t.verify(&img, &[(1, 0, MIB)]).await
}
