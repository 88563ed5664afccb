//! A signal ended the program: a failed assertion, a wild pointer, an abort.

use super::{Class, Verdict};
use crate::exec::{End, Observation};
use crate::signature::{Signature, failure};

/// Judges how the program ended. The site is what the program said as it gave up,
/// else the signal; a stack refines it later.
pub(super) fn judge(seen: &Observation) -> Verdict {
    let End::Signal(number) = seen.end else {
        return None;
    };
    if INTERRUPTS.contains(&number) {
        return None;
    }
    let name = signal_name(number);
    Some(match failure(&seen.stderr) {
        Some(failure) => (
            Class::Crash,
            failure.signature(),
            format!("{name}: {failure}"),
        ),
        None => {
            let summary = format!("{name}, no diagnostic output");
            let signature = Signature::Signal { name, frames: None };
            (Class::Crash, signature, summary)
        }
    })
}

/// Signals that come from a person or from the system, and are no fault of the
/// program: an interrupt at the terminal reaches all that runs there.
const INTERRUPTS: [i32; 4] = [
    nix::libc::SIGINT,
    nix::libc::SIGTERM,
    nix::libc::SIGHUP,
    nix::libc::SIGKILL,
];

/// The name of a signal.
fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number).map_or_else(
        |_| format!("signal {number}"),
        |signal| signal.as_str().to_owned(),
    )
}
