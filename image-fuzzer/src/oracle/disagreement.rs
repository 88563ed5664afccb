//! Two programs, versions or readers must say the same of the same valid image, and show the
//! same data of any image that both are meant to read.

use serde_json::Value;

use super::format_change::info;
use super::readers::{SecondReader, Shown, convert};
use super::shell::Script;
use super::subject::Subject;
use super::{Class, Oracle, Verdict, end_word};
use crate::commands::Command;
use crate::exec::{End, Observation};
use crate::signature::Signature;

/// The oracle.
pub(super) struct Disagreement;

impl Oracle for Disagreement {
    fn verdict(&self, script: &Script<'_>) -> String {
        if let Signature::Command {
            aspect: Some(aspect),
            verb,
        } = script.signature
            && let Some((what, _)) = ASPECTS.iter().find(|(_, word)| word == aspect)
        {
            return data_verdict(*what, verb, script);
        }
        let line = script.line;
        if is_of_size(script.signature) {
            return format!(
                "size=$({} | sed -n 's/^    \"virtual-size\": \\([0-9]*\\),*$/\\1/p')\n\
                 {line} || {{ echo 'the command reports failure'; exit 1; }}\n\
                 echo \"info: $size bytes, convert: $(wc -c <{OUTPUT})\"\n\
                 [ \"$(wc -c <{OUTPUT})\" -ne \"$size\" ]\n",
                (script.own)(info())
            );
        }
        format!(
            "# OTHER_IMG is the qemu-img to compare with.\n\
             [ -n \"${{OTHER_IMG-}}\" ] || {{ echo 'OTHER_IMG names no program' >&2; exit 2; }}\n\
             {line} >one\n\
             echo \"status $?\" >>one\n\
             QEMU_IMG=$OTHER_IMG\n\
             {line} >other\n\
             echo \"status $?\" >>other\n\
             ! diff one other\n"
        )
    }

    fn is_testable(&self) -> bool {
        false
    }
}

/// What two readers do not agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// They show other data.
    Data,
    /// One shows data, and the other refuses the image.
    Refusal,
}

/// The words of signatures.
const ASPECTS: [(What, &str); 2] = [(What::Data, "data"), (What::Refusal, "refusal")];

/// The word of signatures where two commands take the same image for disks of other sizes.
const SIZE: &str = "virtual-size";

/// The raw image that is compared with what `info` says.
const OUTPUT: &str = "out.img";

fn is_of_size(signature: &Signature) -> bool {
    matches!(signature, Signature::Command { aspect: Some(aspect), .. } if aspect == SIZE)
}

/// Whether `command` shows, in `out.img`, the disk of an image whose format it is not told, and
/// which could be one of several.
pub(super) fn shows_probed(command: &Command, subject: &Subject<'_>) -> bool {
    let words: Vec<&str> = command.0.iter().map(String::as_str).collect();
    subject.is_ambiguous() && words == ["qemu-img", "convert", "-O", "raw", "$test_img", OUTPUT]
}

/// Judges a conversion that succeeded by what `info` told of the same image; `len` are the
/// bytes of the disk that it made.
pub(super) fn judge_size(command: &Command, told: (String, u64), len: u64) -> Verdict {
    let (format, size) = told;
    (size != len).then(|| {
        (
            Class::Disagreement,
            Signature::aspect(SIZE, command.group_verb()),
            format!("info tells of a disk of {size} bytes ({format}), and {len} were converted"),
        )
    })
}

/// The lines of a script for two readers, the other one being `name`.
fn data_verdict(what: What, name: &str, script: &Script<'_>) -> String {
    let one = (script.own)(convert("one.raw"));
    let other = match SecondReader::known(name) {
        Some(reader) => format!("{} >other.raw", (script.own)(reader.command())),
        None => format!(
            "# OTHER_IMG is the qemu-img to compare with.\n\
             [ -n \"${{OTHER_IMG-}}\" ] || {{ echo 'OTHER_IMG names no program' >&2; exit 2; }}\n\
             QEMU_IMG=$OTHER_IMG\n\
             {}",
            (script.own)(convert("other.raw"))
        ),
    };
    let condition = match what {
        What::Data => "[ \"$one$other\" = 00 ] && ! cmp one.raw other.raw",
        What::Refusal => "[ $((one != 0)) -ne $((other != 0)) ]",
    };
    format!(
        "{one}\none=$?\n{other}\nother=$?\n\
         echo \"status $one and $other\"\n\
         {condition}\n"
    )
}

/// Judges what two readers made of one disk, `other` being what `reader` did.
pub(super) fn judge_data(reader: &SecondReader, one: Shown, other: Shown) -> Verdict {
    let name = reader.name();
    let (what, said) = match (one, other) {
        (Shown::Data { .. }, Shown::Data { .. }) if one != other => {
            (What::Data, format!("{name} reads other data of the disk"))
        }
        (Shown::Data { .. }, Shown::Refused) if reader.is_equal() => (
            What::Refusal,
            format!("{name} refuses what the first one reads"),
        ),
        (Shown::Refused, Shown::Data { .. }) if reader.is_equal() => (
            What::Refusal,
            format!("{name} reads what the first one refuses"),
        ),
        _ => return None,
    };
    let (_, word) = ASPECTS.iter().find(|(known, _)| *known == what)?;
    let signature = Signature::aspect(*word, name);
    Some((Class::Disagreement, signature, said))
}

/// Judges what two programs made of the same command on equal copies of a valid
/// image: both succeed or both fail, and they print the same.
pub fn judge(command: &Command, one: &Observation, other: &Observation) -> Verdict {
    if one.cannot_run() || other.cannot_run() {
        return None;
    }
    let failed = |seen: &Observation| !matches!(seen.end, End::Exit(0));
    if failed(one) != failed(other) {
        return Some((
            Class::Disagreement,
            Signature::aspect("status", command.group_verb()),
            format!(
                "one ends with {}, the other with {}",
                end_word(&one.end),
                end_word(&other.end)
            ),
        ));
    }
    if failed(one) || one.stdout == other.stdout || say_the_same(&one.stdout, &other.stdout) {
        return None;
    }
    let lines = String::from_utf8_lossy(&one.stdout).into_owned();
    let others = String::from_utf8_lossy(&other.stdout).into_owned();
    let differing = lines.lines().zip(others.lines()).find(|(a, b)| a != b);
    let shown = differing.map_or_else(
        || "one prints more than the other".to_owned(),
        |(a, b)| format!("'{}' against '{}'", a.trim(), b.trim()),
    );
    Some((
        Class::Disagreement,
        Signature::aspect("output", command.group_verb()),
        shown,
    ))
}

/// Whether two texts are JSON that differs in nothing that both tell: a newer version may
/// tell more.
fn say_the_same(one: &[u8], other: &[u8]) -> bool {
    fn same(one: &Value, other: &Value) -> bool {
        match (one, other) {
            (Value::Object(one), Value::Object(other)) => one
                .iter()
                .all(|(name, value)| other.get(name).is_none_or(|other| same(value, other))),
            (Value::Array(one), Value::Array(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b))
            }
            (one, other) => one == other,
        }
    }
    let json = |text| serde_json::from_slice::<Value>(text).ok();
    matches!((json(one), json(other)), (Some(one), Some(other)) if same(&one, &other))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the other one could not run, thousands of images were once findings.
    #[test]
    fn what_cannot_run_says_nothing() {
        let seen = |end| Observation {
            end,
            ..Observation::not_started(String::new())
        };
        let check = Command::new(["qemu-img", "check", "$test_img"]);
        let judge = |one, other| judge(&check, &seen(End::Exit(one)), &seen(End::Exit(other)));
        assert!(judge(0, 2).is_some());
        assert_eq!(judge(0, 126), None);
        assert_eq!(judge(127, 0), None);
    }

    #[test]
    fn other_data_is_a_disagreement_and_a_refusal_among_equals() {
        let data = |hash| Shown::Data { len: 512, hash };
        let other = SecondReader::QemuImg(crate::commands::Programs::new(Vec::new(), Vec::new()));
        let sevenzip = SecondReader::known("7z").unwrap();
        let said = |reader, one, other| {
            let verdict = judge_data(reader, one, other);
            verdict.map(|(_, signature, _)| {
                let text = signature.to_string();
                assert_eq!(Class::Disagreement.signature(&text), signature);
                text
            })
        };
        assert_eq!(said(&sevenzip, data(1), data(1)), None);
        assert_eq!(
            said(&sevenzip, data(1), data(2)).as_deref(),
            Some("data 7z")
        );
        assert_eq!(said(&sevenzip, data(1), Shown::Refused), None);
        let refusal = Some("refusal qemu-img".to_owned());
        assert_eq!(said(&other, data(1), Shown::Refused), refusal);
        assert_eq!(said(&other, Shown::Refused, data(1)), refusal);
        assert_eq!(said(&other, Shown::Refused, Shown::Refused), None);
    }

    #[test]
    fn a_script_compares_two_readers() {
        let folder = tempfile::tempdir().unwrap();
        let reproduces = |signature: &str, own: &dyn Fn(Command) -> String| {
            let text = Disagreement.verdict(&Script {
                line: "false",
                signature: &Class::Disagreement.signature(signature),
                summary: "",
                limits: &crate::exec::Limits::default(),
                own,
            });
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &text]).current_dir(&folder);
            shell.env("OTHER_IMG", "x").status().unwrap().code()
        };
        let shows = |one: &'static str, other: &'static str| {
            move |command: Command| {
                let is_one = command.0.last().is_some_and(|word| word == "one.raw");
                let file = if is_one { one } else { other };
                let wanted = command.0.last().cloned().unwrap_or_default();
                if command.program() == "7z" {
                    return format!("printf {file}");
                }
                match file {
                    "refused" => "false".into(),
                    data => format!("printf {data} >{wanted}"),
                }
            }
        };
        assert_eq!(reproduces("data 7z", &shows("a", "b")), Some(0));
        assert_eq!(reproduces("data 7z", &shows("a", "a")), Some(1));
        assert_eq!(reproduces("data qemu-img", &shows("a", "b")), Some(0));
        assert_eq!(
            reproduces("refusal qemu-img", &shows("refused", "b")),
            Some(0)
        );
        assert_eq!(
            reproduces("refusal qemu-img", &shows("a", "refused")),
            Some(0)
        );
        assert_eq!(reproduces("refusal qemu-img", &shows("a", "b")), Some(1));
    }

    /// What a newer version tells besides was once held against the older.
    #[test]
    fn more_is_no_disagreement_and_other_is() {
        let older = br#"[{"start": 0, "zero": true}]"#;
        let newer = br#"[{"start": 0, "zero": true, "compressed": false}]"#;
        assert!(say_the_same(older, newer) && say_the_same(newer, older));
        assert!(!say_the_same(older, br#"[{"start": 0, "zero": false}]"#));
        assert!(!say_the_same(older, b"[]"));
        assert!(!say_the_same(b"text", b"text"));
    }

    #[test]
    fn two_commands_take_an_image_for_disks_of_the_same_size() {
        let line = "qemu-img convert -O raw $test_img out.img";
        let command = Command(shlex::split(line).unwrap());
        let judged = |size| judge_size(&command, ("qcow2".into(), size), 512);
        assert!(judged(512).is_none());
        let (_, signature, _) = judged(1024).unwrap();
        assert_eq!(signature.to_string(), "virtual-size qemu-img convert");

        let folder = tempfile::tempdir().unwrap();
        let reproduces = |size: u64| {
            let text = Disagreement.verdict(&Script {
                line: "printf abc >out.img",
                signature: &signature,
                summary: "",
                limits: &crate::exec::Limits::default(),
                own: &|_| format!("printf '{{\n    \"virtual-size\": {size},\n}}\n'"),
            });
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &text]).current_dir(&folder);
            shell.status().unwrap().success()
        };
        assert!(reproduces(4));
        assert!(!reproduces(3));
    }
}
