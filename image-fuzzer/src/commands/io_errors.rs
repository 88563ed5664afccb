//! Commands whose requests to the file of the image fail: a driver between the format and the
//! file (`blkdebug`) refuses some of them.

use super::blkdebug::{anywhere, at_event};
use super::encrypted::with_key;
use super::image_opts::{behind_blkdebug, with_options};
use super::qemu_io::{self, Operation};
use super::words::weighted;
use super::{Command, img};
use image_mutations::base::Qcow2Base;
use image_mutations::rng::Rng;

/// An event that the qcow2 driver raises right before a request, and a script that leads to it.
struct Event {
    name: &'static str,
    weight: u64,
    script: &'static [Operation],
}

/// Shorthand for a row.
const fn event(weight: u64, name: &'static str, script: &'static [Operation]) -> Event {
    Event {
        name,
        weight,
        script,
    }
}

use Operation::{
    Compressed, Discard, Flush, Grow, LoadState, Read, SaveState, Shrink, Write, Zero, ZeroUnmap,
};

/// The events that scripts of `qemu-io` lead to.
const SCRIPTED: [Event; 42] = [
    event(2, "l1_update", &[Write]),
    event(1, "l1_update", &[Zero]),
    event(2, "l1_grow_alloc_table", &[Grow]),
    event(2, "l1_grow_write_table", &[Grow]),
    event(2, "l1_grow_activate_table", &[Grow]),
    event(2, "l1_shrink_write_table", &[Shrink]),
    event(2, "l1_shrink_free_l2_clusters", &[Shrink]),
    event(1, "l2_load", &[Read]),
    event(2, "l2_load", &[Write]),
    event(2, "l2_load", &[Discard]),
    event(2, "l2_load", &[Zero]),
    event(1, "l2_load", &[Shrink]),
    event(1, "l2_update", &[Write, Flush]),
    event(1, "l2_update", &[Discard, Flush]),
    event(2, "l2_update_compressed", &[Compressed]),
    event(2, "l2_alloc_cow_read", &[Write]),
    event(2, "l2_alloc_write", &[Write]),
    event(1, "l2_alloc_write", &[ZeroUnmap]),
    event(2, "cow_read", &[Write]),
    event(2, "cow_write", &[Write]),
    event(2, "read_aio", &[Read]),
    event(1, "read_backing_aio", &[Read]),
    event(2, "read_compressed", &[Read]),
    event(2, "write_aio", &[Write]),
    event(2, "write_compressed", &[Compressed]),
    event(2, "cluster_alloc", &[Write]),
    event(1, "cluster_alloc", &[Grow]),
    event(1, "cluster_alloc", &[Zero]),
    event(3, "cluster_alloc_bytes", &[Compressed, Compressed]),
    event(2, "cluster_alloc_space", &[Write]),
    event(2, "cluster_free", &[Discard]),
    event(1, "cluster_free", &[Shrink]),
    event(2, "flush_to_os", &[Write, Flush]),
    event(2, "flush_to_disk", &[Write, Flush]),
    event(2, "reftable_load", &[Read]),
    event(2, "refblock_load", &[Write]),
    event(1, "refblock_load", &[Discard]),
    event(2, "refblock_load", &[Shrink]),
    event(2, "refblock_update_part", &[Write, Flush]),
    event(2, "refblock_alloc", &[Write]),
    event(2, "vmstate_save", &[SaveState]),
    event(2, "vmstate_load", &[LoadState]),
];

/// The events of the growth of refcount structures, which are raised where there are few.
const GROWTH: [&str; 8] = [
    "refblock_alloc",
    "refblock_alloc_write",
    "refblock_alloc_hookup",
    "refblock_alloc_write_blocks",
    "refblock_alloc_write_table",
    "refblock_alloc_switch_table",
    "reftable_grow",
    "reftable_update",
];

/// The events of `qemu-img commit`.
const EMPTYING: [&str; 8] = [
    "empty_image_prepare",
    "l1_update",
    "l2_load",
    "reftable_update",
    "refblock_alloc",
    "flush_to_disk",
    "cluster_free",
    "refblock_load",
];

/// The events that commands of `qemu-img` lead to, each with its weight.
const OF_IMG: [(u64, &str); 26] = [
    (3, "l1_update"),
    (1, "l1_grow_alloc_table"),
    (1, "l1_grow_write_table"),
    (1, "l1_grow_activate_table"),
    (1, "l1_shrink_write_table"),
    (1, "l1_shrink_free_l2_clusters"),
    (4, "l2_load"),
    (3, "l2_update"),
    (2, "l2_alloc_write"),
    (2, "l2_alloc_cow_read"),
    (1, "read_aio"),
    (1, "read_compressed"),
    (2, "write_aio"),
    (3, "reftable_load"),
    (4, "refblock_load"),
    (3, "refblock_update_part"),
    (3, "refblock_alloc"),
    (1, "refblock_alloc_write"),
    (1, "refblock_alloc_hookup"),
    (1, "refblock_alloc_write_table"),
    (1, "refblock_alloc_switch_table"),
    (4, "cluster_alloc"),
    (2, "cluster_free"),
    (2, "flush_to_os"),
    (2, "flush_to_disk"),
    (2, "reftable_update"),
];

/// A command that meets errors; on an encrypted image, with its key.
pub(super) fn one(base: &Qcow2Base, rng: &mut Rng) -> Command {
    let (command, rules) = match rng.below(20) {
        0..=8 => {
            let weights = SCRIPTED.map(|event| event.weight);
            let event = &SCRIPTED[rng.weighted(&weights).unwrap_or(0)];
            let script = qemu_io::script_of(event.script, base, rng);
            (script, at_event(event.name, rng))
        }
        9 => {
            let event = rng.pick(&GROWTH).copied().unwrap_or(GROWTH[0]);
            let script = qemu_io::script_of(&[Grow, Write], base, rng);
            (script, at_event(event, rng))
        }
        10 => {
            let script = qemu_io::script_of(&[Write, Flush], base, rng);
            (script, anywhere(base, rng))
        }
        11 if base.backing.is_some() => {
            // The overlay is emptied, which rewrites all of its metadata.
            let event = rng.pick(&EMPTYING).copied().unwrap_or(EMPTYING[0]);
            let rules = match rng.chance(70) {
                true => at_event(event, rng),
                false => anywhere(base, rng),
            };
            (img::commit(rng), rules)
        }
        11..=15 => (img::writer(base, rng), anywhere(base, rng)),
        _ => return wrap(base, img::writer(base, rng), rng),
    };
    behind(base, command, &rules)
}

/// `command`, which meets errors that suit it.
pub(super) fn wrap(base: &Qcow2Base, command: Command, rng: &mut Rng) -> Command {
    let event = match command.verb().as_str() {
        "qemu-img commit" => rng.pick(&EMPTYING).copied().unwrap_or(EMPTYING[0]),
        _ => weighted(&OF_IMG, rng),
    };
    let rules = match rng.chance(70) {
        true => at_event(event, rng),
        false => anywhere(base, rng),
    };
    behind(base, command, &rules)
}

/// `command` on the image behind the driver, with its key.
fn behind(base: &Qcow2Base, command: Command, rules: &str) -> Command {
    let named = with_options(command, &[], "");
    with_key(base, behind_blkdebug(named, rules))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_for_the_image_under_test_and_nothing_is_expected_of_what_is_read() {
        let mut rng = Rng::from_text("errors");
        for round in 0..2000 {
            let base = image_mutations::base::draw(&mut rng);
            let base = base.qcow2().expect("a qcow2 image");
            let command = one(base, &mut rng);
            let behind = |word: &&String| {
                word.contains("driver=qcow2,")
                    && word.contains("file.driver=blkdebug,")
                    && word.contains("file.image.filename=$test_img")
            };
            assert_eq!(
                command.0.iter().filter(behind).count(),
                1,
                "{round}: {command:?}"
            );
            assert!(command.injects_errors(), "{round}: {command:?}");
            assert!(command.reads().is_empty() && !command.keeps_data());
            let has_key = command.0.iter().any(|word| word.contains("key-secret=key"));
            assert_eq!(
                has_key,
                base.image.encryption.is_some(),
                "{round}: {command:?}"
            );
        }
    }

    /// What the driver knows no event by would be refused before anything is opened.
    #[test]
    fn the_driver_knows_all_events_and_rules() {
        let qemu_io = |options: &str| {
            let mut program = std::process::Command::new("qemu-io");
            let null = format!("driver=null-co,read-zeroes=on,size=1M,{options}");
            let file = null.replace("driver=null-co", "driver=blkdebug,image.driver=null-co");
            let file = file.replace("read-zeroes", "image.read-zeroes");
            let file = file.replace("size=", "image.size=");
            program
                .args(["--image-opts", "-c", "length", &file])
                .output()
        };
        if qemu_io("").is_err() {
            println!("not run: qemu-io is not installed");
            return;
        }
        let scripted = SCRIPTED.iter().map(|event| event.name);
        let of_img = OF_IMG.iter().map(|(_, event)| *event);
        let mut events: Vec<&str> = scripted.chain(of_img).collect();
        events.extend(GROWTH.iter().chain(&EMPTYING));
        events.sort_unstable();
        events.dedup();
        let mut rng = Rng::from_text("rules");
        let base = image_mutations::base::draw(&mut rng);
        let base = base.qcow2().expect("a qcow2 image");
        let mut rules: Vec<String> = events.iter().map(|it| at_event(it, &mut rng)).collect();
        rules.extend((0..20).map(|_| anywhere(base, &mut rng)));
        for rule in rules {
            // Here the driver is the image itself, and its options have no prefix.
            let options = rule.replace("file.", "");
            let done = qemu_io(&options).unwrap();
            assert!(done.status.success(), "{rule}: {done:?}");
        }
        let done = qemu_io("inject-error.0.event=no_such_event").unwrap();
        assert!(!done.status.success(), "{done:?}");
    }
}
