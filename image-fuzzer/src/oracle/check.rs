//! What `qemu-img check` says of the image as it is now.

use super::Probe;
use crate::commands::Command;
use crate::exec::{End, Observation};

/// What a check says of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// No errors and no leaks.
    Clean,
    /// Errors; the first complaint.
    Damaged(String),
    /// Leaks alone; the first complaint.
    Leaking(String),
    /// The check could not be made.
    Unknown,
}

/// The command that checks the image.
pub fn check() -> Command {
    Command::new(["qemu-img", "check", "-f", "qcow2", "$test_img"])
}

/// Checks the image as it is now.
pub(super) fn health(probe: &mut dyn Probe) -> Health {
    let seen = probe.run(&check());
    match seen.end {
        End::Exit(0) => Health::Clean,
        End::Exit(2) => Health::Damaged(error(&seen).unwrap_or_else(|| complaint(&seen))),
        // Told to every user who opens the image, as after a downgrade of one with
        // bitmaps, it is no surprise.
        End::Exit(3) if announces_leaks(&seen) => Health::Unknown,
        End::Exit(3) => Health::Leaking(complaint(&seen)),
        _ => Health::Unknown,
    }
}

/// Whether the program said itself that it leaves leaks.
pub(super) fn announces_leaks(seen: &Observation) -> bool {
    String::from_utf8_lossy(&seen.stderr).contains("clusters may be leaked")
}

/// The first error that a check complains of, leaks being none.
fn error(check: &Observation) -> Option<String> {
    let text = String::from_utf8_lossy(&check.stderr);
    let first = text.lines().find(|line| line.starts_with("ERROR"));
    first.map(|line| line.trim().to_owned())
}

/// The first complaint of a check.
pub(super) fn complaint(check: &Observation) -> String {
    let text = String::from_utf8_lossy(&check.stderr).into_owned()
        + &String::from_utf8_lossy(&check.stdout);
    let first = text
        .lines()
        .find(|line| line.starts_with("ERROR") || line.starts_with("Leaked"))
        .or_else(|| text.lines().find(|line| !line.trim().is_empty()));
    first.unwrap_or("no message").trim().to_owned()
}
