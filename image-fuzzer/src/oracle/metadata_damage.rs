//! A write, discard or snapshot that reports success must leave an image that
//! checked clean before as clean as it was. One that met I/O errors may leave leaks and
//! nothing worse, whatever it reports: what refers to a cluster is written after what counts
//! the reference, so that a guest's data is safe at any time.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::check::{Health, announces_leaks, check};
use super::false_repair::{CHECK_STATUS, CHECK_TEST};
use super::shell::Script;
use super::{Around, Class, Oracle, Verdict};
use crate::commands::Command;
use crate::exec::{End, Observation};
use crate::signature::Signature;
use crate::signature::message::normalise;

/// The oracle.
pub(super) struct MetadataDamage;

impl Oracle for MetadataDamage {
    fn verdict(&self, script: &Script<'_>) -> String {
        let check = (script.own)(check());
        let (failure, condition) = if after_errors(script.signature) {
            ("echo 'the command reports failure, as it may'", "-eq 2")
        } else {
            ("{ echo 'the command reports failure'; exit 1; }", "-ge 2")
        };
        format!(
            "{check} >/dev/null || {{ echo 'the image was not clean before'; exit 1; }}\n\
             {} || {failure}\n\
             {check}\n\
             status=$?\n\
             echo \"status $status (2: errors, 3: leaks)\"\n\
             [ \"$status\" {condition} ]\n",
            script.line
        )
    }

    fn around(&self, signature: &Signature) -> Option<Around> {
        Some(Around {
            before: Some(check()),
            is_needed: false,
            highest_status: i32::from(after_errors(signature)),
            after: Some(check()),
            status: CHECK_STATUS,
            test: if after_errors(signature) {
                "[ $? -ne 2 ] || echo \"I/O errors damaged the image\""
            } else {
                CHECK_TEST
            },
        })
    }
}

/// What the signatures of damage after I/O errors begin with.
const AFTER_ERRORS: &str = "I/O errors in ";

/// Whether a finding is about a command that met I/O errors.
fn after_errors(signature: &Signature) -> bool {
    signature.to_string().starts_with(AFTER_ERRORS)
}

/// Whether the header of an image says that its refcounts may be wrong, and are rebuilt when it
/// is opened to be written to (the field `incompatible_features`, bit 0).
fn is_dirty(image: &Path) -> bool {
    /// The last byte of the field.
    const AT: u64 = 79;
    let mut byte = [0];
    let read = File::open(image).and_then(|file| file.read_exact_at(&mut byte, AT));
    read.is_ok() && byte[0] & 1 != 0
}

/// Whether `command` is for a format whose driver writes in an order that keeps an image sound
/// whatever request fails. Others write, say, a count and then the table that it counts.
fn is_ordered(command: &Command) -> bool {
    command.0.iter().any(|word| word.contains("driver=qcow2,"))
}

/// Judges a `command` that met I/O errors on an image that was clean; a crash is a finding
/// of its own.
fn judge_errors(command: &Command, seen: &Observation, after: &Health, image: &Path) -> Verdict {
    let (End::Exit(_), Health::Damaged(said)) = (&seen.end, after) else {
        return None;
    };
    if !is_ordered(command) || is_dirty(image) {
        return None;
    }
    Some((
        Class::MetadataDamage,
        Signature::Message {
            verb: Some(format!("{AFTER_ERRORS}{}", command.group_verb())),
            text: normalise(said),
        },
        format!("the image was clean, the command met I/O errors, and now check says: {said}"),
    ))
}

/// Judges a `command` that succeeded on an image that was clean, by the image's
/// health afterwards. A wrong refcount of a cluster past the end of the
/// file is seen by no check until the file grows, so with `changes_refcounts` leaks are
/// not held against the command. `image` is the file of the image.
pub fn judge(
    command: &Command,
    seen: &Observation,
    after: &Health,
    image: &Path,
    changes_refcounts: bool,
) -> Verdict {
    if command.injects_errors() {
        return judge_errors(command, seen, after, image);
    }
    if seen.end != End::Exit(0) {
        return None;
    }
    let said = match after {
        Health::Damaged(said) => said,
        Health::Leaking(said) if !changes_refcounts && !announces_leaks(seen) => said,
        _ => return None,
    };
    Some((
        Class::MetadataDamage,
        Signature::Message {
            verb: Some(command.group_verb()),
            text: normalise(said),
        },
        format!("the image was clean, the command succeeded, and now check says: {said}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str = "qemu-io -c 'write 0 512' $test_img";
    const REFUSED: &str = "qemu-io --image-opts -c 'write 0 512' driver=qcow2,\
                           file.driver=blkdebug,file.inject-error.0.event=l2_load,\
                           file.image.filename=$test_img";

    /// The signature, if any, where `line` ended with a status on an image that is dirty or
    /// not.
    fn judged(line: &str, status: i32, after: &Health, dirty: bool) -> Option<Signature> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        let mut header = [0; 112];
        header[79] = u8::from(dirty);
        std::fs::write(&image, header).unwrap();
        let seen = Observation {
            end: End::Exit(status),
            ..Observation::not_started(String::new())
        };
        let command = Command(shlex::split(line).unwrap());
        let verdict = judge(&command, &seen, after, &image, false);
        verdict.map(|(class, signature, _)| {
            assert_eq!(class.signature(&signature.to_string()), signature);
            signature
        })
    }

    #[test]
    fn after_errors_leaks_are_allowed_and_damage_is_not() {
        let damaged = Health::Damaged("ERROR cluster 5 refcount=0 reference=1".into());
        let leaking = Health::Leaking("Leaked cluster 5 refcount=1 reference=0".into());
        assert!(judged(WRITE, 0, &leaking, false).is_some());
        assert!(judged(WRITE, 1, &damaged, false).is_none());
        assert!(judged(REFUSED, 0, &leaking, false).is_none());
        assert!(judged(REFUSED, 1, &leaking, false).is_none());
        for status in [0, 1] {
            let signature = judged(REFUSED, status, &damaged, false).unwrap();
            assert!(after_errors(&signature), "{signature}");
        }
        assert!(!after_errors(&judged(WRITE, 0, &damaged, false).unwrap()));
    }

    #[test]
    fn other_formats_promise_nothing_after_errors() {
        let damaged = Health::Damaged("ERROR: block index 1 also used by 2".into());
        let refused = REFUSED.replace("qcow2", "vdi");
        assert!(judged(&refused, 1, &damaged, false).is_none());
        assert!(judged(WRITE, 0, &damaged, false).is_some());
    }

    /// Refcounts that are rebuilt when the image is opened again were once held against what
    /// left them.
    #[test]
    fn refcounts_that_are_said_to_be_wrong_may_be() {
        let damaged = Health::Damaged("ERROR cluster 5 refcount=0 reference=1".into());
        assert!(judged(REFUSED, 0, &damaged, true).is_none());
        assert!(judged(WRITE, 0, &damaged, true).is_some());
    }

    #[test]
    fn a_script_tells_damage_after_errors_from_leaks() {
        let folder = tempfile::tempdir().unwrap();
        let shows = |verb: &str, line: &str, checks: [i32; 2]| {
            let signature = Signature::Message {
                verb: Some(verb.into()),
                text: "ERROR".into(),
            };
            let check = format!(
                "(read -r status <{0}; sed -i 1d {0}; exit $status)",
                "checks"
            );
            let text = MetadataDamage.verdict(&Script {
                line,
                signature: &signature,
                summary: "",
                limits: &crate::exec::Limits::default(),
                own: &|_| check.clone(),
            });
            let statuses = checks.map(|status| format!("{status}\n")).concat();
            std::fs::write(folder.path().join("checks"), statuses).unwrap();
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &text]).current_dir(&folder);
            shell.status().unwrap().success()
        };
        let refused = format!("{AFTER_ERRORS}qemu-io");
        assert!(shows(&refused, "false", [0, 2]));
        assert!(!shows(&refused, "false", [0, 3]));
        assert!(!shows(&refused, "false", [2, 2]));
        assert!(!shows("qemu-io", "false", [0, 2]));
        assert!(shows("qemu-io", "true", [0, 3]));
    }
}
