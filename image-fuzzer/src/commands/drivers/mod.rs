//! What QEMU's driver of one format knows besides what all drivers know: options of new images
//! and of images that are opened, and requests to the file whose errors it handles.
//!
//! A format is a file with a [`Driver`] and a row of [`DRIVERS`].

mod bochs;
mod cloop;
mod dmg;
mod luks;
mod parallels;
mod qcow;
mod qed;
mod vdi;
mod vhdx;
mod vmdk;
mod vpc;

use image_formats::Format;

use super::Command;
use super::blkdebug::in_file;
use super::image_opts::{behind_blkdebug, named_by};
use super::words::{Words, weighted};
use image_mutations::base::OtherBase;
use image_mutations::rng::Rng;

/// Options of a new image: their weight, the options of `-o`, its size.
type Creation = (u64, &'static str, &'static str);

/// What a driver knows.
struct Driver {
    format: Format,
    /// New images; none where the driver makes none.
    created: &'static [Creation],
    /// Those that it must refuse.
    refused: &'static [Creation],
    /// Options with which an image is opened, each with its weight.
    opened: &'static [(u64, &'static str)],
    /// Whole commands, each with its weight.
    lines: &'static [(u64, &'static str)],
    /// Where the structures of small images are in the file, in sectors.
    sectors: &'static [u64],
}

/// The drivers.
const DRIVERS: [&Driver; 11] = [
    &bochs::DRIVER,
    &cloop::DRIVER,
    &dmg::DRIVER,
    &luks::DRIVER,
    &parallels::DRIVER,
    &qcow::DRIVER,
    &qed::DRIVER,
    &vdi::DRIVER,
    &vhdx::DRIVER,
    &vmdk::DRIVER,
    &vpc::DRIVER,
];

/// Options that all drivers take.
const OPENED: [(u64, &str); 6] = [
    (2, "read-only=on"),
    (2, "auto-read-only=on"),
    (2, "detect-zeroes=on"),
    (3, "discard=unmap,detect-zeroes=unmap"),
    (1, "cache.no-flush=on"),
    (1, "file.locking=off"),
];

/// How often a command is one of these, in percent.
const SHARE: u64 = 50;

/// A command of these for the image of `base`, or `None` where it is to be one that all drivers
/// know. `command` draws one of those, and `script` a script of `qemu-io`.
pub(super) fn one(
    base: &OtherBase,
    rng: &mut Rng,
    command: impl Fn(&mut Rng) -> Command,
    script: impl Fn(&mut Rng) -> Command,
) -> Option<Command> {
    let format = base.spec.format();
    let driver = DRIVERS.iter().find(|driver| driver.format == format)?;
    if !rng.chance(SHARE) {
        return None;
    }
    let has = |has: bool, weight: u64| if has { weight } else { 0 };
    let makes = !driver.created.is_empty();
    let weights = [
        has(makes, 14),
        has(makes, 10),
        has(makes, 6),
        15,
        // Many lines are drawn more often, so that each of them is.
        has(
            !driver.lines.is_empty(),
            10.max(driver.lines.len() as u64 / 2),
        ),
        60,
    ];
    Some(match rng.weighted(&weights) {
        Some(0) => create(driver, rng),
        Some(1) => convert(driver, rng),
        Some(2) => onto(driver, base, rng),
        Some(3) => {
            let option = match rng.chance(30) || driver.opened.is_empty() {
                true => weighted(&OPENED, rng),
                false => weighted(driver.opened, rng),
            };
            let command = command(rng);
            named_by(command, &[], &format!("driver={},{option},", format.name()))
        }
        Some(4) => {
            let line = weighted(driver.lines, rng);
            Command(shlex::split(line).unwrap_or_default())
        }
        _ => {
            let command = match rng.below(20) {
                0..=12 => script(rng),
                13..=14 if makes => onto(driver, base, rng),
                _ => command(rng),
            };
            with_errors(driver, command, rng)
        }
    })
}

/// A new image that has nothing to do with the one under test.
fn create(driver: &Driver, rng: &mut Rng) -> Command {
    let (option, size) = creation(driver, rng);
    let words = Words::new("create").add(["-f", driver.format.name()]);
    let output = if rng.chance(5) {
        "missing/out.img"
    } else {
        "out.img"
    };
    options(words, option).add([output, size]).done()
}

/// Options of a new image and its size, or some that must be refused.
fn creation(driver: &Driver, rng: &mut Rng) -> (&'static str, &'static str) {
    let rows = match rng.chance(25) && !driver.refused.is_empty() {
        true => driver.refused,
        false => driver.created,
    };
    let weights: Vec<u64> = rows.iter().map(|(weight, ..)| *weight).collect();
    let drawn = rng.weighted(&weights).and_then(|at| rows.get(at));
    drawn.map_or(("", "1M"), |(_, option, size)| (option, size))
}

fn options(words: Words, option: &str) -> Words {
    match option {
        "" => words,
        option => words.add(["-o", option]),
    }
}

/// A copy of the image in its own format, with options.
fn convert(driver: &Driver, rng: &mut Rng) -> Command {
    let (option, _) = creation(driver, rng);
    let format = driver.format.name();
    let words = Words::new("convert")
        .maybe(75, rng, ["-f", format])
        .maybe(30, rng, ["-c"])
        .maybe(15, rng, ["-S", "0"])
        .maybe(10, rng, ["-W", "-m", "4"])
        .maybe(10, rng, ["-U"]);
    options(words, option)
        .add(["-O", format, "$test_img", "out.img"])
        .done()
}

/// A disk of zeroes is copied onto the one of the image.
fn onto(driver: &Driver, base: &OtherBase, rng: &mut Rng) -> Command {
    let size = match rng.below(3) {
        0 => 512,
        _ => base.spec.virtual_size(),
    };
    let source = format!("driver=null-co,read-zeroes=on,size={size}");
    let target = format!("driver={},file.filename=$test_img", driver.format.name());
    Words::new("convert")
        .add(["--image-opts", "--target-image-opts", "-n"])
        .maybe(50, rng, ["-S", "0"])
        .maybe(40, rng, ["-c"])
        .maybe(10, rng, ["-W"])
        .maybe(20, rng, ["--target-is-zero"])
        .add([&source, &target])
        .done()
}

/// `command`, some of whose requests to the file fail.
fn with_errors(driver: &Driver, command: Command, rng: &mut Rng) -> Command {
    let named = named_by(command, &[], &format!("driver={},", driver.format.name()));
    let rules = in_file(driver.sectors, rng);
    if driver.format == Format::Vmdk && rng.chance(25) {
        return behind_blkdebug_in_extent(named, &rules);
    }
    behind_blkdebug(named, &rules)
}

/// `command` with the first extent of an image, and not its descriptor, behind the driver that
/// injects errors.
fn behind_blkdebug_in_extent(command: Command, rules: &str) -> Command {
    let file = ",file.filename=";
    let rules = rules.replace("file.", "extents.0.");
    let mut words = command.0;
    if let Some(word) = words.iter_mut().rev().find(|word| word.contains(file)) {
        let extent = format!(",extents.0.driver=blkdebug,{rules}{file}");
        *word = word.replacen(file, &extent, 1);
    }
    Command(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image_mutations::base::{Base, Formats};

    fn base(format: Format, rng: &mut Rng) -> OtherBase {
        match Formats::of(format).draw(rng) {
            Base::Other(base) => base,
            _ => panic!("another format"),
        }
    }

    #[test]
    fn options_are_taken_and_contradictions_refused() {
        let folder = tempfile::tempdir().unwrap();
        let create = |driver: &Driver, option: &str, size: &str| {
            let words = Words::new("create").add(["-q", "-f", driver.format.name()]);
            let words = options(words, option).add(["out.img", size]).done().0;
            let mut program = std::process::Command::new(&words[0]);
            program.args(&words[1..]).current_dir(&folder).output()
        };
        if create(&vdi::DRIVER, "", "1M").is_err() {
            println!("not run: qemu-img is not installed");
            return;
        }
        for driver in DRIVERS {
            for (_, option, size) in driver.created {
                let done = create(driver, option, size).unwrap();
                assert!(done.status.success(), "{option} {size}: {done:?}");
            }
            for (_, option, size) in driver.refused {
                let done = create(driver, option, size).unwrap();
                assert!(!done.status.success(), "{option} {size}: {done:?}");
            }
        }
    }

    #[test]
    fn errors_are_for_the_image_under_test() {
        let mut rng = Rng::from_text("driver errors");
        for driver in DRIVERS {
            let base = base(driver.format, &mut rng);
            for round in 0..200 {
                let script = |rng: &mut Rng| match rng.below(2) {
                    0 => onto(driver, &base, rng),
                    _ => Command::new(["qemu-io", "-c", "write 0 512", "$test_img"]),
                };
                let command = with_errors(driver, script(&mut rng), &mut rng);
                let behind = |word: &&String| {
                    word.contains("driver=blkdebug,") && word.contains("filename=$test_img")
                };
                let count = command.0.iter().filter(behind).count();
                assert_eq!(count, 1, "{round}: {command:?}");
                assert!(command.injects_errors(), "{round}: {command:?}");
                assert!(command.reads().is_empty() && !command.keeps_data());
            }
        }
    }

    /// What the driver knows no event by would be refused before anything is opened.
    #[test]
    fn all_rules_are_known() {
        let mut rng = Rng::from_text("driver rules");
        for round in 0..30 {
            let rules = in_file(&[0, 1], &mut rng).replace("file.", "");
            let file = format!("driver=blkdebug,{rules},image.driver=null-co");
            let mut program = std::process::Command::new("qemu-io");
            program.args(["--image-opts", "-c", "length", &file]);
            let Ok(done) = program.output() else {
                println!("not run: qemu-io is not installed");
                return;
            };
            assert!(done.status.success(), "{round}: {rules}: {done:?}");
        }
    }
}
