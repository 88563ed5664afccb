//! A qemu-nbd that goes to the background is ready when its parent exits,
//! writes its process id, ends on request or with its last client, and reports
//! what failed.
//!
//! group: rw auto quick nbd
//! supported_fmt: generic
//! unsupported_fmt: luks
//! supported_proto: file
//! needs: qemu-nbd not-wrapped

use std::fs::File;
use std::os::fd::AsFd as _;

use iotests::prelude::*;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const URL: &str = "nbd+unix:///?socket=SOCK_DIR/forked";

/// Waits until the process that wrote the file has ended: it locks it as long as it
/// lives.
async fn ended(t: &Test) -> Result<()> {
    let file = File::options().read(true).write(true).open(t.path("pid"))?;
    let wait = tokio::task::spawn_blocking(move || {
        let lock = nix::libc::flock {
            l_type: nix::libc::F_WRLCK as i16,
            l_whence: nix::libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(file.as_fd(), FcntlArg::F_SETLKW(&lock))
    });
    wait.await?.context("failed to wait for the server's end")?;
    Ok(())
}

fn pid(t: &Test) -> Result<Pid> {
    let text = std::fs::read_to_string(t.path("pid"))?;
    Ok(Pid::from_raw(text.trim().parse().with_context(|| format!("no process id: {text}"))?))
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(4 * MIB).await?;
    let other = t.image("other").size(MIB).await?;
    let server = |options: &str, file: &Image, pid: &str| {
        let line = format!(
            "--fork --pid-file=TEST_DIR/{pid} --socket=SOCK_DIR/forked -f IMGFMT {options} {}",
            file.file().display()
        );
        t.tool(Kind::Nbd, line)
    };

    t.section("until it is asked to end");
    server("--persistent", &img, "pid").quiet().await?;
    t.io(URL, ["write -P 1 0 64k", "read -P 1 0 64k"]).await?;
    t.io(URL, ["write -P 2 64k 64k"]).await?;
    let first = pid(t)?;

    t.section("failures are reported by the process that was started");
    for (what, options, file, pid) in [
        ("the socket has no place", "--socket=SOCK_DIR/none/forked", &other, "pid2"),
        ("the id has no place", "", &other, "none/pid"),
        ("no such snapshot", "-l 7", &other, "pid2"),
        ("no such bitmap", "-B marks", &other, "pid2"),
    ] {
        let printed = server(options, file, pid).fails().quiet().await?.text();
        t.log(format!(
            "{what}: {}",
            if printed.trim().is_empty() { "no diagnostic output" } else { "reported" }
        ));
    }
    kill(first, Signal::SIGTERM)?;
    ended(t).await?;
    t.verify(&img, &[(1, 0, 64 * KIB), (2, 64 * KIB, 64 * KIB), (0, 128 * KIB, MIB)]).await?;
    t.io(URL, ["read 0 512"]).fails().quiet().await?;
    t.log("no server listens any more");

    t.section("as long as there are clients");
    let _ = std::fs::remove_file(t.path("pid"));
    server("--shared=2", &img, "pid").quiet().await?;
    let mut one = t.session(URL).await?;
    let mut two = t.session(URL).await?;
    one.run("write -P 3 0 512").await?;
    one.close().await?;
    two.run("read -P 3 0 512").await?;
    two.run("write -P 4 512 512").await?;
    two.close().await?;
    ended(t).await?;
    t.verify(&img, &[(3, 0, 512), (4, 512, 512), (1, KIB, 63 * KIB)]).await?;

    t.section("one client after the other");
    let _ = std::fs::remove_file(t.path("pid"));
    server("--persistent --shared=1", &img, "pid").quiet().await?;
    let mut one = t.session(URL).await?;
    one.run("read -P 3 0 512").await?;
    let first = async {
        one.run("write -P 5 0 512").await?;
        one.close().await
    };
    // The second is let in when the first has gone.
    let (two, gone) = tokio::join!(t.io(URL, ["read -P 5 0 512"]).quiet().into_future(), first);
    two?;
    gone?;
    kill(pid(t)?, Signal::SIGINT)?;
    ended(t).await?;
    for file in ["pid", "pid2"] {
        let _ = std::fs::remove_file(t.path(file));
    }
    t.check(&img).await
}
