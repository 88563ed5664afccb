//! Where nothing was written, a guest must read what the image holds: what a command shows is
//! compared with the model of the image.
//!
//! Findings are told apart by where a qcow2 image stores the data, and in other formats by the
//! field that the reader does as if it had the value of the valid image (`ignored`).

mod ignored;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use image_formats::qcow2::{Disk, Guest, GuestOffset, Source};

use super::shell::Script;
use super::subject::Subject;
use super::{Class, Oracle, Verdict};
use crate::commands::{Command, Reads, Shown};
use crate::exec::{End, Observation};
use crate::signature::Signature;

/// The largest disk that is compared, in bytes.
const MAX_DISK: u64 = 64 << 20;

/// How much is compared at a time, in bytes.
const PIECE: usize = 64 << 10;

/// What `qemu-io` prints where a pattern is not found.
const NOT_FOUND: &[u8] = b"Pattern verification failed";

/// The oracle.
pub(super) struct WrongData;

impl Oracle for WrongData {
    fn verdict(&self, script: &Script<'_>) -> String {
        let line = script.line;
        let Some(Byte { at, wanted, .. }) = Byte::of(script.summary) else {
            // The exit status says whether the pattern was found.
            let is = if script.summary.starts_with(ACCEPTED) {
                "-eq"
            } else {
                "-ne"
            };
            return format!("{line}\n[ $? {is} 0 ]\n");
        };
        format!(
            "{line} || {{ echo 'the command reports failure'; exit 1; }}\n\
             # The byte that the image holds there.\n\
             byte=$(od -A n -t u1 -j {at} -N 1 {OUTPUT})\n\
             echo \"byte {at} is $byte, not {wanted}\"\n\
             [ \"${{byte:-{wanted}}}\" -ne {wanted} ]\n"
        )
    }

    fn is_testable(&self) -> bool {
        false
    }
}

/// The only file that drawn commands write a raw image into.
const OUTPUT: &str = "out.img";

/// How the summary of a pattern begins that was found where it is not.
const ACCEPTED: &str = "found the pattern";

/// A byte that a command showed.
struct Byte {
    at: u64,
    shown: u8,
    wanted: u8,
}

impl Byte {
    /// The sentence about it.
    fn summary(&self) -> String {
        let Self { at, shown, wanted } = self;
        format!("byte {at} of the disk is {wanted} in the image, and {shown} as it was read")
    }

    /// The byte that a [`summary`](Self::summary) is about.
    fn of(summary: &str) -> Option<Self> {
        let words: Vec<&str> = summary.split([' ', ',']).collect();
        let number = |index: usize| words.get(index)?.parse::<u64>().ok();
        let byte = |index| u8::try_from(number(index)?).ok();
        (words.first() == Some(&"byte")).then_some(())?;
        Some(Self {
            at: number(1)?,
            wanted: byte(6)?,
            shown: byte(12)?,
        })
    }
}

/// Judges what `command` showed of an image that is as its mutations left it; `work` is the
/// folder that it worked in.
pub(super) fn judge(
    command: &Command,
    seen: &Observation,
    subject: &Subject<'_>,
    work: &Path,
) -> Verdict {
    let End::Exit(status) = seen.end else {
        return None;
    };
    let reads = command.reads();
    let [reads] = reads.as_slice() else {
        return None;
    };
    // An image is decoded only for what shows its data.
    if matches!(reads.shown, Shown::Nowhere) || !subject.is_opened_as_made(command) {
        return None;
    }
    if let Some(disk) = subject.disk() {
        return other(command, reads, (seen, status), (subject, disk), work);
    }
    match &reads.shown {
        Shown::File(name) if status == 0 && name == OUTPUT => {
            file(command, reads, subject, &work.join(name))
        }
        Shown::Nowhere | Shown::File(_) => None,
        Shown::Pattern(pattern) => {
            let found = is_found(seen, status)?;
            check_pattern(command, reads, subject, *pattern, found)
        }
    }
}

/// Whether a command that looked for a pattern found it; `None` where it failed otherwise.
fn is_found(seen: &Observation, status: i32) -> Option<bool> {
    let refused = seen.stdout.windows(NOT_FOUND.len()).any(|w| w == NOT_FOUND);
    (status == 0).then_some(true).or(refused.then_some(false))
}

/// Judges what `command` showed of the `disk` in an image of another format than qcow2.
fn other(
    command: &Command,
    reads: &Reads,
    (seen, status): (&Observation, i32),
    (subject, mut disk): (&Subject<'_>, Box<dyn image_formats::Disk>),
    work: &Path,
) -> Verdict {
    let size = disk.size() / 512 * 512;
    let (said, aspect) = match &reads.shown {
        Shown::File(name) if status == 0 && name == OUTPUT && reads.snapshot.is_none() => {
            let file = File::open(work.join(name)).ok()?;
            if size > MAX_DISK || file.metadata().ok()?.len() != size {
                return None;
            }
            let byte = first_difference(&file, size, disk.as_mut())?;
            let at = byte.at / 512 * 512;
            let mut shown = [0; 512];
            file.read_exact_at(&mut shown, at).ok()?;
            let cause = ignored::field(subject, &|disk| {
                let mut sector = [0; 512];
                disk.read(at, &mut sector).is_ok() && sector == shown
            });
            let what = if shown == [0; 512] { "zeros" } else { "data" };
            (byte.summary(), cause.unwrap_or_else(|| what.to_owned()))
        }
        Shown::Pattern(pattern) => {
            let range = reads.range.clone()?;
            if range.end > size || range.end - range.start > MAX_DISK {
                return None;
            }
            let found = is_found(seen, status)?;
            let holds = |disk: &mut dyn image_formats::Disk| {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                disk.read(range.start, &mut bytes).ok()?;
                Some(bytes.iter().all(|byte| byte == pattern))
            };
            let said = said_of_pattern(found, holds(disk.as_mut())?, *pattern)?;
            let cause = ignored::field(subject, &|disk| holds(disk) == Some(found));
            (said, cause.unwrap_or_else(|| "pattern".to_owned()))
        }
        _ => return None,
    };
    let aspect = format!("{}:{aspect}", subject.format());
    let signature = Signature::aspect(aspect, command.group_verb());
    Some((Class::WrongData, signature, said))
}

/// The first byte of a raw image that differs from the disk; `None` also where a part cannot
/// be read by the model.
fn first_difference(file: &File, size: u64, disk: &mut dyn image_formats::Disk) -> Option<Byte> {
    let (mut wanted, mut shown) = (vec![0; PIECE], vec![0; PIECE]);
    for at in (0..size).step_by(PIECE) {
        let count = (size - at).min(PIECE as u64) as usize;
        disk.read(at, &mut wanted[..count]).ok()?;
        file.read_exact_at(&mut shown[..count], at).ok()?;
        if let Some(index) = (0..count).find(|index| wanted[*index] != shown[*index]) {
            return Some(Byte {
                at: at + index as u64,
                shown: shown[index],
                wanted: wanted[index],
            });
        }
    }
    None
}

/// What is wrong where a pattern was `found`, or not, and the image `holds` it, or not.
fn said_of_pattern(found: bool, holds: bool, pattern: u8) -> Option<String> {
    match (found, holds) {
        (true, false) => Some(format!(
            "{ACCEPTED} {pattern} where the image holds other data"
        )),
        (false, true) => Some(format!(
            "missed the pattern {pattern}, which the image holds"
        )),
        _ => None,
    }
}

/// Judges a raw image of a disk.
fn file(command: &Command, reads: &Reads, subject: &Subject<'_>, path: &Path) -> Verdict {
    let decoded = subject.decoded()?;
    let size = decoded.size();
    let disk = decoded.disk(reads.snapshot.as_deref())?;
    let file = File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    if size > MAX_DISK || len != size {
        return None;
    }
    let (byte, source) = subject.guest(disk, |guest| {
        // A snapshot may be of another size, and is read as if it were not.
        if guest.size() / 512 * 512 != size {
            return None;
        }
        let (mut wanted, mut shown) = (vec![0; PIECE], vec![0; PIECE]);
        for at in (0..size).step_by(PIECE) {
            let count = (size - at).min(PIECE as u64) as usize;
            // What cannot be read by the model is not judged.
            guest.read(GuestOffset(at), &mut wanted[..count]).ok()?;
            file.read_exact_at(&mut shown[..count], at).ok()?;
            if let Some(index) = (0..count).find(|index| wanted[*index] != shown[*index]) {
                let at = at + index as u64;
                let byte = Byte {
                    at,
                    shown: shown[index],
                    wanted: wanted[index],
                };
                return Some((byte, source_word(guest, at)?));
            }
        }
        None
    })?;
    let snapshot = if disk == Disk::Active {
        ""
    } else {
        "snapshot-"
    };
    Some((
        Class::WrongData,
        Signature::aspect(format!("{snapshot}{source}"), command.group_verb()),
        byte.summary(),
    ))
}

/// Judges whether a pattern was `found` in a part of the active disk.
fn check_pattern(
    command: &Command,
    reads: &Reads,
    subject: &Subject<'_>,
    pattern: u8,
    found: bool,
) -> Verdict {
    let decoded = subject.decoded()?;
    let range = reads.range.clone()?;
    // What is opened to write may be repaired first.
    if range.end > decoded.size() || range.end - range.start > MAX_DISK || decoded.is_dirty() {
        return None;
    }
    let (holds, source) = subject.guest(Disk::Active, |guest| {
        let mut wanted = vec![0; (range.end - range.start) as usize];
        guest.read(GuestOffset(range.start), &mut wanted).ok()?;
        let other = wanted.iter().position(|byte| *byte != pattern);
        let at = range.start + other.unwrap_or(0) as u64;
        Some((other.is_none(), source_word(guest, at)?))
    })?;
    let said = said_of_pattern(found, holds, pattern)?;
    Some((
        Class::WrongData,
        Signature::aspect(source, command.group_verb()),
        said,
    ))
}

/// Where a byte of the disk is stored, in a word.
fn source_word(guest: &Guest<'_>, at: u64) -> Option<&'static str> {
    let extent = guest.extent(GuestOffset(at)).ok()?;
    Some(match extent.source {
        Source::Unallocated => "unallocated",
        Source::Zero { .. } => "zero",
        Source::Host(_) => "data",
        Source::External(_) => "external",
        Source::Compressed { .. } => "compressed",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::recipe::{FUZZER, Recipe};
    use image_formats::qcow2::{Cluster, Content, Spec, build};
    use image_formats::{AnySpec, Pattern, SectorRun, vpc};
    use image_mutations::base::{Base, OtherBase, Qcow2Base, file_of};
    use image_mutations::case::Maker;
    use image_mutations::edit::{Edit, Mutation, Number};
    use image_mutations::named_file::NamedFile;

    /// What is said of a command that leaves `out.img` and ends so, on a disk of 3 KiB whose
    /// second KiB is 7.
    fn judged(line: &str, out: &[u8], status: i32, stdout: &str) -> Option<(String, String)> {
        let image = Spec {
            cluster_bits: 10,
            virtual_size: 3072,
            clusters: vec![Cluster {
                index: 1,
                content: Content::Data(Pattern::Fill(7)),
            }],
            ..Spec::default()
        };
        let files = [file_of(&build(&image).unwrap().image)];
        let backing = None;
        let recipe = recipe(Base::Qcow2(Qcow2Base { image, backing }), &[]);
        judged_on(&recipe, &files, line, out, status, stdout)
    }

    /// A test of this base image with these fields set.
    fn recipe(base: Base, edits: &[(&str, u64)]) -> Recipe {
        let set = |(path, value): &(&str, u64)| Mutation {
            family: String::new(),
            edit: Edit::Set {
                path: (*path).to_owned(),
                value: Number(*value),
            },
        };
        Recipe {
            fuzzer: FUZZER.into(),
            seed: String::new(),
            base,
            edits: edits.iter().map(set).collect(),
            commands: Vec::new(),
            fresh_copies: false,
            guard: None,
        }
    }

    /// What is said of a command that leaves `out.img` and ends so, on that image.
    fn judged_on(
        recipe: &Recipe,
        files: &[NamedFile],
        line: &str,
        out: &[u8],
        status: i32,
        stdout: &str,
    ) -> Option<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(OUTPUT), out).unwrap();
        let seen = Observation {
            end: End::Exit(status),
            stdout: stdout.into(),
            ..Observation::not_started(String::new())
        };
        let command = Command(shlex::split(line).unwrap());
        let subject = Subject::new(recipe, files);
        let verdict = judge(&command, &seen, &subject, folder.path());
        verdict.map(|(_, signature, summary)| {
            assert_eq!(
                Class::WrongData.signature(&signature.to_string()),
                signature
            );
            (signature.to_string(), summary)
        })
    }

    const CONVERT: &str = "qemu-img convert -O raw $test_img out.img";

    #[test]
    fn a_raw_image_is_compared_with_the_model() {
        let mut disk = [[0; 1024], [7; 1024], [0; 1024]].concat();
        assert_eq!(judged(CONVERT, &disk, 0, ""), None);
        disk[1030] = 8;
        let (signature, summary) = judged(CONVERT, &disk, 0, "").unwrap();
        assert_eq!(signature, "data qemu-img convert");
        let byte = Byte::of(&summary).unwrap();
        assert_eq!((byte.at, byte.wanted, byte.shown), (1030, 7, 8));
        // It says itself that it did not succeed, or wrote something else.
        assert_eq!(judged(CONVERT, &disk, 1, ""), None);
        assert_eq!(judged(CONVERT, &disk[..100], 0, ""), None);
        disk[1030] = 7;
        disk[2048] = 1;
        let (signature, _) = judged(CONVERT, &disk, 0, "").unwrap();
        assert_eq!(signature, "unallocated qemu-img convert");
    }

    #[test]
    fn a_pattern_is_found_where_it_is() {
        let read = |pattern: u8, status, stdout: &str| {
            let line = format!("qemu-io -c 'read -P {pattern} 1k 1k' $test_img");
            judged(&line, b"", status, stdout)
        };
        let missed = "Pattern verification failed at offset 1024, 1024 bytes\n";
        assert_eq!(read(7, 0, ""), None);
        assert_eq!(read(8, 1, missed), None);
        assert!(read(8, 0, "").unwrap().1.starts_with(ACCEPTED));
        assert!(read(7, 1, missed).unwrap().1.starts_with("missed"));
        // It failed for another reason.
        assert_eq!(read(7, 1, "read failed: Input/output error\n"), None);
    }

    #[test]
    fn a_script_looks_at_the_byte() {
        let folder = tempfile::tempdir().unwrap();
        let summary = Byte {
            at: 3,
            shown: 0,
            wanted: 9,
        };
        let shows = |command: &str| {
            let text = WrongData.verdict(&Script {
                line: command,
                signature: &Signature::verb("x"),
                summary: &summary.summary(),
                limits: &crate::exec::Limits::default(),
                own: &|command| command.shell(),
            });
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &text]).current_dir(&folder);
            shell.status().unwrap().success()
        };
        assert!(shows("printf 'abc\\000' >out.img"));
        assert!(!shows("printf 'abc\\011' >out.img"));
        assert!(!shows("printf abc >out.img"));
        assert!(!shows("false"));
    }

    /// Blocks of vpc whose bitmaps are ignored once hid all other data that were read wrong.
    #[test]
    fn other_formats_are_told_apart_by_the_field_that_is_ignored() {
        let block = |index| vpc::Block {
            index,
            runs: vec![SectorRun {
                first: 0,
                count: 1,
                data: Pattern::Fill(5),
            }],
            all_sectors: true,
        };
        let spec = vpc::Spec {
            virtual_size: 8192,
            block_size: 4096,
            blocks: vec![block(0), block(1)],
            ..vpc::Spec::default()
        };
        let base = Base::Other(OtherBase {
            spec: AnySpec::Vpc(spec),
            parent: None,
        });
        let judged = |edits: &[(&str, u64)], first: u8| {
            let mut shown = vec![0; 8192];
            shown[..512].fill(first);
            shown[4096..4608].fill(5);
            let recipe = recipe(base.clone(), edits);
            let files = Maker::default().files(&recipe.base, &recipe.edits).unwrap();
            let line = "qemu-img convert -f vpc -O raw $test_img out.img";
            judged_on(&recipe, &files, line, &shown, 0, "").map(|(signature, _)| signature)
        };
        assert_eq!(judged(&[], 5), None);
        let bitmap = [("bitmap[0].entry[0]", 0), ("footer.features", 3)];
        let found = judged(&bitmap, 5).unwrap();
        assert_eq!(found, "vpc:bitmap[].entry[] qemu-img convert");
        // No field alone explains these.
        let found = judged(&bitmap, 6).unwrap();
        assert_eq!(found, "vpc:data qemu-img convert");
        let found = judged(&[("footer.features", 3)], 0).unwrap();
        assert_eq!(found, "vpc:zeros qemu-img convert");
    }
}
