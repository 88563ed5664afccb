//! A raw image whose format is found out by its content must stay raw whatever a guest writes:
//! as an image of another format it would open the files that the guest names in it.

use image_formats::Format;

use super::shell::Script;
use super::subject::Subject;
use super::{Around, Class, Oracle, Probe, Verdict};
use crate::commands::Command;
use crate::exec::{End, Observation};
use crate::signature::Signature;

/// The oracle.
pub(super) struct FormatChange;

impl Oracle for FormatChange {
    fn verdict(&self, script: &Script<'_>) -> String {
        let info = (script.own)(info());
        format!(
            "{info} >before || exit 1\n\
             {}\n\
             {info} >after\n\
             # The format that the content shows; none where the image is opened no more.\n\
             grep '^    \"format\"' before after\n\
             grep -q '^    \"format\": \"raw\"' before && ! grep -q '^    \"format\": \"raw\"' after\n",
            script.line
        )
    }

    fn around(&self, _signature: &Signature) -> Option<Around> {
        Some(Around {
            before: None,
            is_needed: false,
            // A write that is refused is one of several.
            highest_status: 1,
            after: Some(info()),
            status: "",
            test: "echo \"the format is shown above\"",
        })
    }

    fn is_testable(&self) -> bool {
        false
    }
}

/// The word of signatures for a format whose images are refused, as having no more than its
/// signature.
const UNREADABLE: &str = "unreadable";

/// The command that says what a program that is told no format takes the image for.
pub(super) fn info() -> Command {
    Command::new(["qemu-img", "info", "--output=json", "$test_img"])
}

/// Whether `command` writes as a guest to a raw image whose format it is not told.
pub(super) fn concerns(command: &Command, subject: &Subject<'_>) -> bool {
    subject.format() == Format::Raw
        && command.program() == "qemu-io"
        && command.is_qemu_writer()
        && !command.names_format(Format::Raw)
}

/// The format and the size of the disk that `info` told, where it succeeded.
pub(super) fn told(seen: &Observation) -> Option<(String, u64)> {
    if seen.end != End::Exit(0) {
        return None;
    }
    let told: serde_json::Value = serde_json::from_slice(&seen.stdout).ok()?;
    let format = told.get("format")?.as_str()?.to_owned();
    Some((format, told.get("virtual-size")?.as_u64()?))
}

/// The format that the image as it is now is taken for.
pub(super) fn probed(probe: &mut dyn Probe) -> Option<String> {
    told(&probe.run(&info())).map(|(format, _)| format)
}

/// Judges a `command` that ended, on an image that was taken for raw before.
pub(super) fn judge(command: &Command, seen: &Observation, probe: &mut dyn Probe) -> Verdict {
    let End::Exit(_) = seen.end else {
        return None;
    };
    let after = probe.run(&info());
    let (format, said) = match (told(&after), &after.end) {
        (Some((format, _)), _) if format == Format::Raw.name() => return None,
        (Some((format, _)), _) => {
            let said = format!("the raw image is one of format {format} for who is told no format");
            (format, said)
        }
        // A signature without a header that could be read.
        (None, End::Exit(1)) => {
            let said = "the raw image is opened no more by who is told no format".to_owned();
            (UNREADABLE.to_owned(), said)
        }
        (None, _) => return None,
    };
    let signature = Signature::aspect(format, command.group_verb());
    Some((Class::FormatChange, signature, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that takes the image for one of this format, or refuses it.
    struct Taking(&'static str);

    impl Probe for Taking {
        fn run(&mut self, command: &Command) -> Observation {
            assert_eq!(*command, info());
            Observation {
                end: End::Exit((self.0 == UNREADABLE).into()),
                stdout: format!("{{\"virtual-size\": 512, \"format\": \"{}\"}}", self.0).into(),
                ..Observation::not_started(String::new())
            }
        }
    }

    #[test]
    fn a_raw_image_stays_raw() {
        let command = Command::new(["qemu-io", "-c", "write 0 512", "$test_img"]);
        let judged = |end, format| {
            let seen = Observation {
                end,
                ..Observation::not_started(String::new())
            };
            let verdict = judge(&command, &seen, &mut Taking(format));
            verdict.map(|(class, signature, _)| {
                assert_eq!(class.signature(&signature.to_string()), signature);
                signature.to_string()
            })
        };
        assert_eq!(judged(End::Exit(0), "raw"), None);
        let found = Some("qcow2 qemu-io".to_owned());
        assert_eq!(judged(End::Exit(0), "qcow2"), found);
        let unreadable = Some("unreadable qemu-io".to_owned());
        assert_eq!(judged(End::Exit(0), UNREADABLE), unreadable);
        // One of several writes was refused.
        assert_eq!(judged(End::Exit(1), "qcow2"), found);
        assert_eq!(judged(End::TimedOut, "qcow2"), None);
    }

    #[test]
    fn a_script_looks_at_the_format_before_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let shows = |command: &str| {
            let text = FormatChange.verdict(&Script {
                line: command,
                signature: &Signature::verb("x"),
                summary: "",
                limits: &crate::exec::Limits::default(),
                own: &|_| "cat told".to_owned(),
            });
            let told = |format: &str| format!("{{\n    \"format\": \"{format}\"\n}}\n");
            std::fs::write(folder.path().join("told"), told("raw")).unwrap();
            std::fs::write(folder.path().join("other"), told("qed")).unwrap();
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &text]).current_dir(&folder);
            shell.status().unwrap().success()
        };
        assert!(shows("mv other told"));
        assert!(shows("rm told"));
        assert!(!shows("true"));
    }
}
