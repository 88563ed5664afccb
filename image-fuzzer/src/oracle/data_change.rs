//! Commands that must not change what a guest reads: the disk is compared with
//! a copy taken before.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use bstr::ByteSlice as _;

use super::shell::Script;
use super::{Around, Class, Oracle, Probe, Verdict};
use crate::commands::Command;
use crate::exec::{End, Observation};
use crate::signature::Signature;
use image_mutations::base::TEST_IMG;

/// The oracle.
pub(super) struct DataChange;

impl Oracle for DataChange {
    fn verdict(&self, script: &Script<'_>) -> String {
        format!(
            "{} || exit 1\n\
             {} || {{ echo 'the command reports failure'; exit 1; }}\n\
             {}\n\
             [ $? -eq 1 ]\n",
            (script.own)(copy()),
            script.line,
            (script.own)(compare())
        )
    }

    fn around(&self, _signature: &Signature) -> Option<Around> {
        Some(Around {
            before: Some(copy()),
            is_needed: true,
            highest_status: 0,
            after: Some(compare()),
            status: "exit 1: they differ",
            test: "[ $? -ne 1 ] || echo \"the data have changed\"",
        })
    }
}

/// The copy of the guest's data from before the command.
pub const BEFORE: &str = "before.raw";

/// The command that takes the copy.
pub fn copy() -> Command {
    Command::new([
        "qemu-img",
        "convert",
        "-f",
        "qcow2",
        "-O",
        "raw",
        "$test_img",
        BEFORE,
    ])
}

/// The command that compares the disk with the copy.
pub fn compare() -> Command {
    Command::new([
        "qemu-img",
        "compare",
        "-f",
        "raw",
        "-F",
        "qcow2",
        BEFORE,
        "$test_img",
    ])
}

/// Whether the image may be its own backing file or data file: its header is then data, which
/// commands may well change. Both names lie in the first cluster, of at most 2 MiB.
pub fn may_name_itself(image: &Path) -> bool {
    const LONGEST: u64 = 2 << 20;
    let mut start = Vec::new();
    let read = File::open(image).and_then(|file| file.take(LONGEST).read_to_end(&mut start));
    read.is_ok() && start.find(TEST_IMG).is_some()
}

/// Takes the copy; false where the image cannot be read as a whole, or reads otherwise once
/// the copy is there: the data of a folder that is a disk (`fat:.`) has the copy in it.
pub fn remember(probe: &mut dyn Probe) -> bool {
    probe.run(&copy()).end == End::Exit(0) && probe.run(&compare()).end == End::Exit(0)
}

/// Judges a `command` that succeeded by comparing the disk with the copy.
pub fn judge(command: &Command, seen: &Observation, probe: &mut dyn Probe) -> Verdict {
    if seen.end != End::Exit(0) {
        return None;
    }
    let compared = probe.run(&compare());
    // 1 is that they differ; above 1 the comparison itself failed.
    if compared.end != End::Exit(1) {
        return None;
    }
    let said = String::from_utf8_lossy(&compared.stdout).trim().to_owned();
    Some((
        Class::DataChange,
        Signature::verb(command.group_verb()),
        format!("the guest reads other data than before: {said}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that changes when a file comes into the folder, or does not.
    struct Disk {
        shows_the_folder: bool,
        copied: bool,
    }

    impl Probe for Disk {
        fn run(&mut self, command: &Command) -> Observation {
            let status = if *command == copy() {
                self.copied = true;
                0
            } else {
                i32::from(self.shows_the_folder && self.copied)
            };
            Observation {
                end: End::Exit(status),
                ..Observation::not_started(String::new())
            }
        }
    }

    /// What `bitmap --enable` wrote into the header of an image that is its own backing file was
    /// once held for a change of the data.
    #[test]
    fn an_image_that_names_itself_is_not_compared() {
        let folder = tempfile::tempdir().unwrap();
        let named = |name: &str| {
            let image = folder.path().join(TEST_IMG);
            std::fs::write(&image, format!("QFI\u{fb}...{name}...")).unwrap();
            may_name_itself(&image)
        };
        assert!(named("./test.qcow2"));
        assert!(!named("backing.qcow2"));
        assert!(!may_name_itself(&folder.path().join("missing")));
    }

    /// The copy itself was once held for a change of the data.
    #[test]
    fn a_disk_that_shows_the_folder_is_not_compared() {
        let disk = |shows_the_folder| Disk {
            shows_the_folder,
            copied: false,
        };
        assert!(remember(&mut disk(false)));
        assert!(!remember(&mut disk(true)));
    }
}
