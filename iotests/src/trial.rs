//! What this machine can do, found out by trying: a driver that is listed may lack the library
//! that does the work, and a device that is there may be refused.
//!
//! Each trial gives the reason why something cannot be done, `None` where it can.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{AccessFlags, access};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::env::Env;

/// What a run has kept of something that can be done.
const POSSIBLE: &str = "possible";

/// What `trial` finds, kept in `dir` under the name `what` for the other tests of a run; those
/// that ask at the same time wait. Where nothing can be kept there, it is tried.
pub(crate) fn kept(
    dir: Option<&Path>,
    what: &str,
    trial: impl FnOnce() -> Option<String>,
) -> Option<String> {
    let Some(mut file) = dir.and_then(|dir| record(dir, what)) else {
        return trial();
    };
    let mut text = String::new();
    if file.read_to_string(&mut text).is_ok()
        && let Some(found) = text.strip_suffix('\n')
    {
        return (found != POSSIBLE).then(|| found.to_owned());
    }
    let found = trial();
    let line = format!("{}\n", found.as_deref().unwrap_or(POSSIBLE));
    // What was cut short, or is not kept, is tried again.
    let _ = file
        .rewind()
        .and_then(|()| file.set_len(0))
        .and_then(|()| file.write_all(line.as_bytes()));
    found
}

/// The file of `what`, which nobody else has meanwhile.
fn record(dir: &Path, what: &str) -> Option<Flock<File>> {
    std::fs::create_dir_all(dir).ok()?;
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.open(dir.join(what)).ok()?;
    Flock::lock(file, FlockArg::LockExclusive).ok()
}

/// Why `qemu-img` cannot make LUKS images. Takes seconds where it can: the strength of the key
/// is measured.
pub(crate) fn luks(env: &Env) -> Option<String> {
    let Some(program) = &env.programs.img else {
        return Some("qemu-img is not installed".to_owned());
    };
    let made = tempfile::tempdir().and_then(|dir| {
        Command::new(program)
            .args(["create", "-q", "--object", "secret,id=s,data=x"])
            .args(["-f", "luks", "-o", "key-secret=s,iter-time=10", "t", "64k"])
            .current_dir(dir.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
    });
    let why = failure(made)?;
    Some(format!(
        "QEMU cannot make LUKS images here ({why}); test one that is built with gnutls, gcrypt or \
         nettle"
    ))
}

/// Why FUSE exports cannot be mounted.
pub(crate) fn fuse(env: &Env) -> Option<String> {
    let Some(daemon) = &env.programs.qsd else {
        return Some("qemu-storage-daemon is not installed, which has FUSE exports".to_owned());
    };
    if access("/dev/fuse", AccessFlags::R_OK | AccessFlags::W_OK).is_err() {
        return Some(
            "/dev/fuse is not there or not accessible, which FUSE exports need".to_owned(),
        );
    }
    let why = match mounted(daemon, env) {
        Ok(None) => return None,
        Ok(Some(why)) => why,
        Err(error) => error.to_string(),
    };
    Some(format!(
        "FUSE exports cannot be mounted here ({why}); install fusermount3, or give the right to mount"
    ))
}

/// Exports nothing as a file in `TEST_DIR`; what was wrong with that.
fn mounted(daemon: &Path, env: &Env) -> io::Result<Option<String>> {
    let dir = scratch(env)?;
    let file = dir.path().join("export");
    File::create(&file)?;
    let export = json!({"type": "fuse", "id": "e", "node-name": "n", "mountpoint": file});
    let mut child = Command::new(daemon)
        .args(["--blockdev", "driver=null-co,node-name=n,size=512"])
        .args(["--chardev", "stdio,id=c", "--monitor", "chardev=c"])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut commands) = child.stdin.take() {
        for command in [
            json!({"execute": "qmp_capabilities"}),
            json!({"execute": "block-export-add", "arguments": export}),
            json!({"execute": "quit"}),
        ] {
            // One that has ended says why.
            let _ = writeln!(commands, "{command}");
        }
    }
    let output = child.wait_with_output()?;
    let replies = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    let error = replies
        .filter_map(Result::ok)
        .find_map(|reply| Some(reply.get("error")?.get("desc")?.as_str()?.to_owned()));
    let said = last_line(&output.stderr);
    Ok(match error {
        Some(error) => Some(said.unwrap_or(error)),
        None if output.status.success() => None,
        None => Some(said.unwrap_or_else(|| output.status.to_string())),
    })
}

/// Why QEMU has no TLS.
pub(crate) fn tls(env: &Env) -> Option<String> {
    let Some(program) = &env.programs.img else {
        return Some("qemu-img is not installed".to_owned());
    };
    let asked = tempfile::tempdir().and_then(|dir| {
        std::fs::write(dir.path().join("t"), [0; 512])?;
        Command::new(program)
            .args(["info", "--object", "tls-creds-anon,id=t,endpoint=client"])
            .args(["-f", "raw", "t"])
            .current_dir(dir.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
    });
    let why = failure(asked)?;
    Some(format!(
        "QEMU has no TLS here ({why}); test one that is built with gnutls"
    ))
}

/// Why files in `TEST_DIR` cannot be opened with the cache and aio modes of this run.
pub(crate) fn modes(env: &Env) -> Option<String> {
    let direct = matches!(env.cache.as_str(), "none" | "directsync");
    if !direct && env.aio == "threads" {
        return None;
    }
    let tried = scratch(env).and_then(|dir| {
        let file = dir.path().join("t");
        std::fs::write(&file, [0; 4096])?;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlag::O_DIRECT.bits());
        if direct && options.open(&file).is_err() {
            return Ok(Err(
                "the file system of TEST_DIR has no O_DIRECT; set TEST_DIR to a \
                           directory of another one"
                    .to_owned(),
            ));
        }
        let Some(program) = &env.programs.io else {
            return Ok(Ok(()));
        };
        let output = Command::new(program)
            .args(["--cache", &env.cache, "--aio", &env.aio, "-f", "raw"])
            .args(["-c", "read 0 4k", "t"])
            .current_dir(dir.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output();
        Ok(failure(output).map_or(Ok(()), Err))
    });
    let why = tried.unwrap_or_else(|error| Err(error.to_string())).err()?;
    let (cache, aio) = (&env.cache, &env.aio);
    Some(format!(
        "not with cache mode {cache} and aio mode {aio}: {why}"
    ))
}

/// A directory in `TEST_DIR`, which goes with what is in it.
fn scratch(env: &Env) -> io::Result<TempDir> {
    std::fs::create_dir_all(&env.test_dir)?;
    tempfile::tempdir_in(&env.test_dir)
}

/// What a program said that failed, in a line; `None` where it did not fail.
fn failure(output: io::Result<Output>) -> Option<String> {
    match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let line = last_line(&output.stderr);
            Some(line.unwrap_or_else(|| output.status.to_string()))
        }
        Err(error) => Some(error.to_string()),
    }
}

/// The last line with a text, without the name of the program at its start.
fn last_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().map(str::trim).rfind(|l| !l.is_empty())?;
    let rest = line
        .split_once(": ")
        .filter(|(name, _)| name.starts_with("qemu-"));
    Some(rest.map_or(line, |(_, rest)| rest).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_not_tried_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("not there yet");
        let asked = |what: &str, found: Option<&str>| {
            let found = found.map(str::to_owned);
            kept(Some(&dir), what, || found)
        };
        assert_eq!(asked("a", None), None);
        assert_eq!(asked("b", Some("no b")).as_deref(), Some("no b"));
        for what in ["a", "b"] {
            let again = kept(Some(&dir), what, || panic!("{what} is tried again"));
            assert_eq!(again.is_some(), what == "b");
        }
        // One that was killed has written half a line.
        std::fs::write(dir.join("c"), "no").expect("a file");
        assert_eq!(asked("c", None), None);
        assert_eq!(kept(None, "b", || None), None);
    }

    #[test]
    fn the_reason_is_the_last_line_of_a_failure() {
        let run = |script: &str| failure(Command::new("sh").args(["-c", script]).output());
        assert_eq!(run("echo x >&2"), None);
        assert_eq!(
            run("echo a >&2; echo ' b ' >&2; echo >&2; exit 1").as_deref(),
            Some("b")
        );
        assert_eq!(run("exit 3").as_deref(), Some("exit status: 3"));
        assert_eq!(
            run("echo qemu-img: no: y >&2; exit 1").as_deref(),
            Some("no: y")
        );
    }
}
