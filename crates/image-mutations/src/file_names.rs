//! File names to put into images.

use crate::rng::Rng;

/// The name of a qcow2 image under test in its scratch folder, which is the working folder of
/// every command.
pub const TEST_IMG: &str = "test.qcow2";

/// File names that a reader of images must be careful with.
const FILES: [&str; 14] = [
    "",
    ".",
    "/",
    "/dev/zero",
    "nosuchfile",
    "nbd:unix:/nosuchsocket",
    "http://127.0.0.1:1/x",
    "ssh://127.0.0.1/x",
    "json:{\"driver\":\"null-co\",\"size\":1073741824}",
    "json:{\"driver\":\"blkdebug\",\"image\":\"test.qcow2\"}",
    "json:{",
    "file:test.qcow2",
    "fat:.",
    "null-co://",
];

/// Names of the canaries: files, a UNIX socket and a TCP port outside the scratch folder
/// where access is noticed, as paths, addresses and options.
const CANARIES: [&str; 9] = [
    "../w.canary/secret.raw",
    "../w.canary/secret.qcow2",
    "file:../w.canary/secret.raw",
    "nbd://127.0.0.1:10809/x",
    "nbd:127.0.0.1:10809",
    "nbd+unix:///x?socket=../w.canary/secret.sock",
    "nbd:unix:../w.canary/secret.sock",
    "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"../w.canary/secret.qcow2\"}}",
    "json:{\"driver\":\"nbd\",\"server\":{\"type\":\"unix\",\"path\":\"../w.canary/secret.sock\"}}",
];

/// The name of a canary.
pub(crate) fn canary(rng: &mut Rng) -> Option<String> {
    rng.pick(&CANARIES).map(|name| (*name).to_owned())
}

/// Any file name, the image itself among them.
pub(crate) fn file_name(rng: &mut Rng) -> Option<String> {
    Some(match rng.below(8) {
        0 => TEST_IMG.to_owned(),
        1 => "x".repeat(rng.between(900, 1100) as usize),
        2..=4 => canary(rng)?,
        _ => (*rng.pick(&FILES)?).to_owned(),
    })
}
