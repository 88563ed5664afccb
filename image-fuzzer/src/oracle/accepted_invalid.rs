//! An image that breaks a rule which the specification says a reader must enforce has to be
//! refused, or the part of it that the rule is about; a check has to report it.
//!
//! Here are the rules of qcow2; `other` judges images of other formats, of which `rules` says
//! when a program must notice what is wrong.

mod other;
mod rules;

use image_formats::qcow2::Disk;
use image_formats::{Defect, Format};

use super::shell::Script;
use super::subject::{Decoded, Subject};
use super::{Around, Class, Oracle, Verdict};
use crate::commands::Command;
use crate::exec::{End, Observation};
use crate::signature::Signature;

/// The oracle.
pub(super) struct AcceptedInvalid;

impl Oracle for AcceptedInvalid {
    fn verdict(&self, script: &Script<'_>) -> String {
        format!(
            "{}\nstatus=$?\n\
             echo \"status $status (0: the image was accepted)\"\n\
             [ \"$status\" -eq 0 ]\n",
            script.line
        )
    }

    fn around(&self, _signature: &Signature) -> Option<Around> {
        Some(Around {
            before: None,
            is_needed: false,
            highest_status: 0,
            after: None,
            status: "",
            test: "echo \"the image was accepted\"",
        })
    }
}

/// When a program must notice that a rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noticed {
    /// When it opens the image, whatever it is to do.
    Opened,
    /// As that; but only QEMU's tools use what the rule is about as they open an image.
    OpenedByQemu,
    /// When it opens the image to do more than print what the header says.
    OpenedForData,
    /// When it opens the image to write to it.
    OpenedToWrite,
    /// When it finds out where the data is that the entry is about, also to write there.
    Mapped,
    /// As that, but not when it writes.
    MappedToRead,
    /// When it reads that data.
    Read,
    /// When it reads a snapshot, goes back to it or deletes it.
    Snapshot,
    /// When it checks the image.
    Checked,
}

use Noticed::{
    Checked, Mapped, MappedToRead, Opened, OpenedByQemu, OpenedForData, OpenedToWrite, Read,
    Snapshot,
};

/// The rules that a reader must enforce, by name: when, and whether `check` has to report
/// them too.
const RULES: &[(&str, Noticed, bool)] = &[
    ("magic", Opened, true),
    ("version", Opened, true),
    ("cluster-bits", Opened, true),
    ("subcluster-size", Opened, true),
    ("crypt-method", Opened, true),
    ("backing-name-size", Opened, true),
    ("backing-name-end", Opened, true),
    ("l1-size", Opened, true),
    ("l1-table-aligned", Opened, true),
    ("refcount-table-aligned", OpenedByQemu, true),
    ("refcount-table-clusters", OpenedByQemu, true),
    ("snapshot-table-aligned", OpenedByQemu, true),
    ("incompatible-features", Opened, true),
    ("corrupt", OpenedToWrite, false),
    ("raw-without-data-file", OpenedForData, true),
    ("refcount-order", OpenedByQemu, true),
    ("header-length", Opened, true),
    ("header-length-end", Opened, true),
    ("compression-bit", Opened, true),
    ("compression-type", Opened, true),
    ("extension-length", Opened, true),
    ("bitmaps-extension-length", OpenedByQemu, true),
    ("bitmaps-count", OpenedByQemu, true),
    ("bitmaps-reserved", OpenedByQemu, true),
    ("bitmap-directory-size", OpenedByQemu, true),
    ("bitmap-directory-aligned", OpenedByQemu, true),
    ("encryption-header", Opened, true),
    ("encryption-extension-length", Opened, true),
    ("encryption-header-aligned", Opened, true),
    ("luks-magic", Opened, true),
    ("l2-table-aligned", Mapped, true),
    ("l2-zero-flag", MappedToRead, false),
    ("cluster-aligned", MappedToRead, true),
    ("cluster-in-data-file", MappedToRead, false),
    ("compressed-in-data-file", MappedToRead, true),
    ("compressed-data", Read, false),
    ("subclusters-both", Mapped, false),
    ("subclusters-stored", Mapped, false),
    ("refcount-block-aligned", Checked, true),
    ("snapshot-l1-aligned", Snapshot, true),
    ("bitmap-table-aligned", OpenedByQemu, true),
    ("bitmap-name-once", OpenedByQemu, false),
    ("bitmap-flags", OpenedByQemu, true),
    ("bitmap-type", OpenedByQemu, true),
    ("bitmap-granularity", OpenedByQemu, true),
    ("bitmap-table-size", OpenedByQemu, true),
    ("bitmap-entry-reserved", OpenedByQemu, true),
    ("bitmap-cluster-aligned", OpenedByQemu, true),
];

/// The rules that QEMU knowingly does not enforce, and why that is not held against it.
const ACCEPTED: &[(&str, &str)] = &[
    (
        "header-length-unit",
        "only where the header ends matters to it, and extensions begin there",
    ),
    ("bitmap-name", "a bitmap without a name can still be listed"),
    (
        "snapshot-extra-data",
        "old versions wrote such snapshots, and what is missing is known from the header",
    ),
];

/// Judges a `command` that succeeded on an image that is as its mutations left it.
/// `are_readers` is whether programs other than QEMU's tools are held to be readers.
pub(super) fn judge(
    command: &Command,
    seen: &Observation,
    subject: &Subject<'_>,
    are_readers: bool,
) -> Verdict {
    if seen.end != End::Exit(0) || !subject.is_mutated() {
        return None;
    }
    if subject.format() != Format::Qcow2 {
        return other::judge(command, subject, are_readers);
    }
    let open = Opening::of(command, are_readers)?;
    let decoded = subject.decoded()?;
    if !open.as_qcow2 && (!decoded.is_recognised() || subject.is_ambiguous()) {
        return None;
    }
    let defect = decoded
        .broken
        .iter()
        .find(|defect| open.must_notice(defect, decoded))?;
    let place = without_indices(&defect.path);
    Some(verdict(
        command,
        format!("{place}: {}", defect.name),
        defect,
    ))
}

/// The verdict that `command` had to notice `defect`, under a signature of this text.
fn verdict(command: &Command, text: String, defect: &Defect) -> (Class, Signature, String) {
    let verb = command.group_verb();
    (
        Class::AcceptedInvalid,
        Signature::Message { verb: None, text },
        format!("{verb} succeeded, though the image breaks a rule: {defect}"),
    )
}

/// How a command opens the image under test.
struct Opening<'a> {
    command: &'a Command,
    /// Whether the program is one of QEMU's.
    is_qemu: bool,
    /// Whether the format is named, and not found out by the magic bytes.
    as_qcow2: bool,
    /// The verb of `qemu-img`.
    verb: &'a str,
}

impl<'a> Opening<'a> {
    /// How `command` opens the image; `None` where it does not, or it repairs it.
    fn of(command: &'a Command, are_readers: bool) -> Option<Self> {
        let words: Vec<&str> = command.0.iter().map(String::as_str).collect();
        let is_qemu = matches!(command.program(), "qemu-img" | "qemu-io");
        if !words.iter().any(|word| word.contains("$test_img")) || !(is_qemu || are_readers) {
            return None;
        }
        let verb = match words.as_slice() {
            ["qemu-img", verb, ..] => *verb,
            _ => "",
        };
        // What cannot be read cannot be noticed.
        if verb == "check" && words.contains(&"-r") || command.injects_errors() {
            return None;
        }
        let named = words.windows(2).any(|pair| pair == ["-f", "qcow2"]);
        let in_options = words.iter().any(|word| word.starts_with("driver=qcow2"));
        Some(Self {
            command,
            is_qemu,
            as_qcow2: named || in_options,
            verb,
        })
    }

    /// Whether the command had to notice `defect`.
    fn must_notice(&self, defect: &Defect, decoded: &Decoded) -> bool {
        if ACCEPTED.iter().any(|(name, _)| *name == defect.name) {
            return false;
        }
        let mut rules = RULES.iter();
        let Some((_, noticed, is_checked)) = rules.find(|(name, ..)| *name == defect.name) else {
            return false;
        };
        if self.verb == "check" {
            return *is_checked;
        }
        match noticed {
            Opened => true,
            OpenedByQemu => self.is_qemu,
            // A new image over this one needs no more than its size.
            OpenedForData => self.is_qemu && !["info", "create"].contains(&self.verb),
            OpenedToWrite => {
                // It is opened to read only, or what is written goes elsewhere.
                let options = ["-r", "--read-only", "-s", "--snapshot"];
                let mut words = self.command.0.iter();
                let reads_only = words.any(|word| options.contains(&word.as_str()));
                self.command.is_qemu_writer() && !reads_only
            }
            Mapped => self.reads(defect, decoded, false) || self.writes(defect, decoded),
            MappedToRead => self.reads(defect, decoded, false),
            Read => self.reads(defect, decoded, true),
            Snapshot => self.uses_snapshot(defect, decoded),
            Checked => false,
        }
    }

    /// Whether the command reads where the entry with the defect says; `data` is whether it
    /// has to read the data themselves.
    fn reads(&self, defect: &Defect, decoded: &Decoded, data: bool) -> bool {
        // The entry may have been repaired before.
        if self.command.program() == "qemu-io" && decoded.is_dirty() {
            return false;
        }
        let Some((disk, part)) = decoded.mapped(&defect.path) else {
            return false;
        };
        let size = decoded.size();
        let reads = self.command.reads();
        reads.iter().any(|reads| {
            let range = reads.range.clone().unwrap_or(0..size);
            decoded.disk(reads.snapshot.as_deref()) == Some(disk)
                && range.start.max(part.start) < range.end.min(part.end).min(size)
                && (reads.data || !data)
        })
    }

    /// Whether the command first writes where the entry with the defect says.
    fn writes(&self, defect: &Defect, decoded: &Decoded) -> bool {
        let (Some((disk, part)), Some(range)) =
            (decoded.mapped(&defect.path), self.command.first_write())
        else {
            return false;
        };
        let overlap = range.start.max(part.start) < range.end.min(part.end).min(decoded.size());
        disk == Disk::Active && overlap && !decoded.is_dirty()
    }

    /// Whether the command uses the snapshot with the defect.
    fn uses_snapshot(&self, defect: &Defect, decoded: &Decoded) -> bool {
        let options: &[&str] = match self.verb {
            "convert" => &["-l"],
            "snapshot" => &["-a", "-d"],
            _ => return false,
        };
        let mut pairs = self.command.0.windows(2);
        let Some(pair) = pairs.find(|pair| options.contains(&pair[0].as_str())) else {
            return false;
        };
        let Some(Disk::Snapshot(index)) = decoded.disk(Some(&pair[1])) else {
            return false;
        };
        defect.path.starts_with(&format!("snapshot[{index}]."))
    }
}

/// A path with its indexes left out: `l2[].entry[]`.
fn without_indices(path: &str) -> String {
    let mut inside = false;
    let kept = path.chars().filter(|c| {
        inside = *c == '[' || inside && *c != ']';
        !inside || *c == '['
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::input::recipe::{FUZZER, Recipe};
    use image_formats::Requirement;
    use image_formats::qcow2::{self, Cluster, Content, Pattern, Spec};
    use image_mutations::base::{Base, Qcow2Base};
    use image_mutations::case::Maker;
    use image_mutations::edit::{Edit, Mutation, Number};

    #[test]
    fn each_rule_that_must_be_enforced_is_in_one_table() {
        let must = qcow2::RULES
            .iter()
            .filter(|rule| rule.requirement == Requirement::Must);
        let wanted: BTreeSet<&str> = must.map(|rule| rule.name).collect();
        let known: Vec<&str> = RULES.iter().map(|(name, ..)| *name).collect();
        let accepted = ACCEPTED.iter().map(|(name, reason)| {
            assert!(!reason.is_empty());
            *name
        });
        let all: Vec<&str> = known.into_iter().chain(accepted).collect();
        assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), wanted);
        assert_eq!(all.len(), wanted.len());
    }

    /// What is said of a command that succeeds on a plain image with these fields set.
    fn judged(line: &str, edits: &[(&str, u64)]) -> Option<String> {
        let recipe = Recipe {
            fuzzer: FUZZER.into(),
            seed: String::new(),
            base: Base::Qcow2(Qcow2Base {
                image: Spec {
                    clusters: vec![Cluster {
                        index: 2,
                        content: Content::Data(Pattern::Fill(1)),
                    }],
                    ..Spec::default()
                },
                backing: None,
            }),
            edits: edits
                .iter()
                .map(|(path, value)| Mutation {
                    family: "field".into(),
                    edit: Edit::Set {
                        path: (*path).into(),
                        value: Number(*value),
                    },
                })
                .collect(),
            commands: Vec::new(),
            fresh_copies: false,
            guard: None,
        };
        let files = Maker::default().files(&recipe.base, &recipe.edits).unwrap();
        let seen = Observation {
            end: End::Exit(0),
            ..Observation::not_started(String::new())
        };
        let command = Command(shlex::split(line).unwrap());
        let verdict = judge(&command, &seen, &Subject::new(&recipe, &files), true);
        verdict.map(|(class, signature, _)| {
            assert_eq!(class, Class::AcceptedInvalid);
            assert_eq!(
                Class::AcceptedInvalid.signature(&signature.to_string()),
                signature
            );
            signature.to_string()
        })
    }

    #[test]
    fn what_is_noticed_at_open_is_noticed_by_every_command() {
        let edit = [("header.refcount_order", 7)];
        let name = Some("header.refcount_order: refcount-order".to_owned());
        for line in [
            "qemu-img info $test_img",
            "qemu-img check $test_img",
            "qemu-img resize $test_img 1M",
            "qemu-io -c 'read 0 512' $test_img",
        ] {
            assert_eq!(judged(line, &edit), name, "{line}");
        }
        // A repair may succeed, others need no refcounts, and this opens another image.
        for line in [
            "qemu-img check -r all $test_img",
            "reader $test_img",
            "qemu-img info other.img",
        ] {
            assert_eq!(judged(line, &edit), None, "{line}");
        }
        let edit = [("header.incompatible_features", 1 << 20)];
        assert!(judged("reader $test_img", &edit).is_some());
    }

    /// What was needed to make an image over this one was once thought to be all.
    #[test]
    fn a_data_file_is_not_looked_for_by_every_command() {
        let edit = [("header.autoclear_features.raw_data_file", 1)];
        assert!(judged("qemu-img map $test_img", &edit).is_some());
        for line in [
            "qemu-img info $test_img",
            "qemu-img create -f qcow2 -F qcow2 -b $test_img out.img",
        ] {
            assert_eq!(judged(line, &edit), None, "{line}");
        }
    }

    /// A flush of an image that is opened to read only was once thought to write to it.
    #[test]
    fn a_corrupt_image_may_be_read() {
        let edit = [("header.incompatible_features.corrupt", 1)];
        assert!(judged("qemu-io -c flush $test_img", &edit).is_some());
        for option in ["-r", "-s"] {
            let line = format!("qemu-io {option} -c flush $test_img");
            assert_eq!(judged(&line, &edit), None, "{line}");
        }
    }

    #[test]
    fn without_the_magic_bytes_it_is_an_image_only_where_that_is_said() {
        let edit = [("header.magic", 0)];
        assert_eq!(judged("qemu-img info $test_img", &edit), None);
        assert!(judged("qemu-img info -f qcow2 $test_img", &edit).is_some());
    }

    #[test]
    fn an_entry_must_be_noticed_where_it_is_used() {
        let edit = [("l2[0].entry[2].offset", 0x50200)];
        let name = Some("l2[].entry[]: cluster-aligned".to_owned());
        for (line, wanted) in [
            ("qemu-img convert -O raw $test_img out.img", &name),
            ("qemu-img map $test_img", &name),
            ("qemu-img check $test_img", &name),
            ("qemu-io -c 'read 128k 512' $test_img", &name),
            ("qemu-io -c 'read 0 64k' $test_img", &None),
            ("qemu-img info $test_img", &None),
        ] {
            assert_eq!(&judged(line, &edit), wanted, "{line}");
        }
        let edit = [("l1[0].offset", 0x30200)];
        assert!(judged("qemu-io -c 'write 0 512' $test_img", &edit).is_some());
    }

    #[test]
    fn a_valid_image_and_what_is_only_recommended_may_be_accepted() {
        let line = "qemu-img convert -O raw $test_img out.img";
        assert_eq!(judged(line, &[]), None);
        assert_eq!(judged(line, &[("l1[0].reserved_low", 1)]), None);
        assert_eq!(judged(line, &[("header.header_length", 107)]), None);
    }
}
