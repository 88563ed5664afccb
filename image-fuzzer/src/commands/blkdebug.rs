//! Rules for the driver that injects errors into the requests to a file (`blkdebug`), as options
//! of an image whose file is behind it.

use super::Command;
use super::image_opts::behind_blkdebug;
use super::words::weighted;
use image_mutations::base::Qcow2Base;
use image_mutations::rng::Rng;

/// `command`, which names an image by options, with errors in reading and writing its data.
pub(super) fn in_requests(command: Command, rng: &mut Rng) -> Command {
    const EVENTS: [&str; 4] = ["read_aio", "write_aio", "l2_load", "cluster_alloc"];
    let event = rng.pick(&EVENTS).copied().unwrap_or(EVENTS[0]);
    behind_blkdebug(command, &at_event(event, rng))
}

/// Errors from an event on, or from its second or third time on.
pub(super) fn at_event(event: &str, rng: &mut Rng) -> String {
    // With a state, the rule is for the event while that holds.
    let (before, state) = if rng.chance(25) {
        (
            format!(
                "file.set-state.0.event={event},file.set-state.0.state=1,\
                 file.set-state.0.new_state=2,"
            ),
            ",file.inject-error.0.state=2",
        )
    } else {
        (String::new(), "")
    };
    let rule = "file.inject-error.0";
    let kind = match rng.below(6) {
        0 => format!(",{rule}.iotype=write"),
        1 => format!(",{rule}.iotype=write-zeroes"),
        _ => String::new(),
    };
    format!("{before}{rule}.event={event}{state},{}{kind}", ending(rng))
}

/// Errors at a place of the file, or for a kind of request, whatever it is for.
pub(super) fn anywhere(base: &Qcow2Base, rng: &mut Rng) -> String {
    const KINDS: [(u64, &str); 6] = [
        (5, "read"),
        (8, "write"),
        (2, "flush"),
        (1, "discard"),
        (2, "write-zeroes"),
        (1, "block-status"),
    ];
    let rule = "file.inject-error.0";
    let kind = weighted(&KINDS, rng);
    let place = match rng.below(8) {
        _ if matches!(kind, "flush" | "discard" | "write-zeroes") => String::new(),
        0 => String::new(),
        1..=3 if kind == "write" => format!(",{rule}.sector=0"),
        _ => {
            // The metadata of most images is among their first clusters.
            let first = if rng.chance(70) { 8 } else { 30 };
            let sector = rng.below(first) * (base.cluster_size() / 512);
            format!(",{rule}.sector={sector}")
        }
    };
    // Parts of a sector are read and written with all of it.
    format!(
        "file.align=512,{rule}.event=none,{rule}.iotype={kind}{place},{}",
        ending(rng)
    )
}

/// Errors in the requests to the file of an image of any format, some of whose structures are at
/// `sectors`: from the start, at a place, or from one of the first writes on.
pub(super) fn in_file(sectors: &[u64], rng: &mut Rng) -> String {
    const KINDS: [(u64, &str); 6] = [
        (14, "read"),
        (6, "write"),
        (3, "flush"),
        (1, "discard"),
        (2, "write-zeroes"),
        (2, "block-status"),
    ];
    if rng.chance(45) {
        return at_write(rng.below(10), rng);
    }
    let rule = "file.inject-error.0";
    let kind = weighted(&KINDS, rng);
    let place = match rng.below(8) {
        0 => String::new(),
        1 => format!(",{rule}.sector={}", rng.below(64) * 8),
        _ if matches!(kind, "flush" | "discard" | "write-zeroes") => String::new(),
        _ => {
            let sector = rng.pick(sectors).copied().unwrap_or(0);
            format!(",{rule}.sector={sector}")
        }
    };
    format!(
        "{rule}.event=none,{rule}.iotype={kind}{place},{}",
        ending(rng)
    )
}

/// Errors from the write number `number` on, the first being 0: each one before it changes the
/// state by one.
fn at_write(number: u64, rng: &mut Rng) -> String {
    let mut rules = String::new();
    for at in 0..number {
        let (rule, state) = (format!("file.set-state.{at}"), at + 1);
        rules += &format!(
            "{rule}.event=pwritev,{rule}.state={state},{rule}.new_state={},",
            state + 1
        );
    }
    let rule = "file.inject-error.0";
    let state = number + 1;
    format!(
        "{rules}{rule}.event=pwritev,{rule}.state={state},{}",
        ending(rng)
    )
}

/// The error, whether it is one for good, and whether it comes at once.
fn ending(rng: &mut Rng) -> String {
    const ERRORS: [(u64, u32); 3] = [(12, 5), (3, 28), (1, 95)];
    let error = rng.weighted(&ERRORS.map(|(weight, _)| weight)).unwrap_or(0);
    let error = ERRORS[error].1;
    let rule = "file.inject-error.0";
    let mut text = format!("{rule}.errno={error}");
    if rng.chance(60) {
        text += &format!(",{rule}.once=on");
    }
    if rng.chance(30) {
        text += &format!(",{rule}.immediately=on");
    }
    text
}
