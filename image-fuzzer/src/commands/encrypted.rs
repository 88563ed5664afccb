//! Commands on encrypted images: with the key that opens them, and on their header,
//! their keys and their data.

use super::image_opts::with_options;
use super::{Command, blkdebug};
use image_mutations::base::Qcow2Base;
use image_mutations::rng::Rng;

/// The encrypted copy of an image that is not encrypted.
const COPY: &str = "encrypted.img";

/// The object that holds the passphrase.
const SECRET: &str = "secret,id=key,data=passphrase";

/// How the copy is named where it needs its key.
const OPEN_COPY: &str = "driver=qcow2,encrypt.key-secret=key,file.filename=encrypted.img";

/// The driver, and with another format of encryption than most of these images have.
const DRIVER: &str = "driver=qcow2,";
const MISMATCH: &str = "driver=qcow2,encrypt.format=luks,";

/// How the image under test is named where it needs its key.
const OPEN: &str = "driver=qcow2,encrypt.key-secret=key,file.filename=$test_img";

/// `command`, with the key where `base` is encrypted and the command needs it.
pub(super) fn with_key(base: &Qcow2Base, command: Command) -> Command {
    if base.image.encryption.is_none() || !command.needs_key() {
        return command;
    }
    with_options(command, &[SECRET], "encrypt.key-secret=key,")
}

/// Makes an encrypted copy and works on it.
pub(super) fn sequence(rng: &mut Rng) -> Vec<Command> {
    // Making a LUKS header takes long on purpose: two seconds, in which hundreds of other
    // commands would be run.
    let luks = rng.chance(12);
    let options = if luks {
        "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10"
    } else {
        "encrypt.format=aes,encrypt.key-secret=key"
    };
    let head = ["qemu-img", "convert", "--object", SECRET];
    let tail = ["-O", "qcow2", "-o", options, "$test_img", COPY];
    let mut commands = vec![words(&[&head[..], &tail[..]])];
    for _ in 0..rng.between(1, 4) {
        let command = one(OPEN_COPY, COPY, luks, rng);
        commands.push(match rng.chance(25) {
            true => blkdebug::in_requests(command, rng),
            false => command,
        });
    }
    commands
}

/// One command on the encrypted image under test that others would have no use for.
pub(super) fn special(rng: &mut Rng) -> Command {
    one(OPEN, "$test_img", true, rng)
}

/// One command on the encrypted image `plain`, with its key `open`.
fn one(open: &str, plain: &str, luks: bool, rng: &mut Rng) -> Command {
    const KEYS: [&str; 6] = [
        "encrypt.state=active,encrypt.new-secret=key,encrypt.iter-time=10",
        "encrypt.state=active,encrypt.new-secret=none",
        "encrypt.state=inactive",
        "encrypt.state=inactive,encrypt.keyslot=0",
        "encrypt.state=inactive,encrypt.old-secret=key",
        "encrypt.state=inactive,encrypt.keyslot=7",
    ];
    let image = |verb: &str, rest: &[&str]| {
        words(&[
            &["qemu-img", verb, "--object", SECRET, "--image-opts"],
            rest,
        ])
    };
    match rng.below(8) {
        0 => image("check", &[open]),
        1 => Command::new(["qemu-img", "info", plain]),
        2 => image("map", &[open]),
        3 if luks || rng.chance(40) => {
            let keys = rng.pick(&KEYS).copied().unwrap_or(KEYS[0]);
            let force: &[&str] = if rng.chance(30) { &["--force"] } else { &[] };
            image("amend", &[force, &["-o", keys, open]].concat())
        }
        3 if rng.chance(50) => image("info", &[&open.replace(DRIVER, MISMATCH)]),
        3 => image("resize", &[open, "+64K"]),
        4 => image("snapshot", &["-c", "new", open]),
        5 => image("measure", &["-O", "qcow2", open]),
        _ => {
            let scripts = ["write -P 7 0 512", "write -z 0 64k", "read 0 512"];
            let scripts = scripts.map(|script| ["-c", script]).concat();
            let options = ["qemu-io", "--object", SECRET, "--image-opts"];
            words(&[&options, &scripts, &[open]])
        }
    }
}

/// A command of these words.
fn words(parts: &[&[&str]]) -> Command {
    Command(parts.concat().into_iter().map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image_formats::luks::Volume;
    use image_formats::qcow2::{Encryption, Spec};
    use image_mutations::base::PASSPHRASE;

    fn encrypted() -> Qcow2Base {
        let volume = Volume {
            passphrase: PASSPHRASE.into(),
            iterations: 1,
            seed: 1,
        };
        Qcow2Base {
            image: Spec {
                encryption: Some(Encryption::Volume(volume)),
                ..Spec::default()
            },
            backing: None,
        }
    }

    #[test]
    fn the_key_is_given_where_it_is_needed() {
        let base = encrypted();
        let unlock = |line: &str| {
            let command = Command(shlex::split(line).unwrap());
            with_key(&base, command).0.join(" ")
        };
        let key = "--object secret,id=key,data=passphrase --image-opts";
        for (line, expected) in [
            (
                "qemu-img check -f qcow2 -r all $test_img",
                format!("qemu-img check {key} -r all {OPEN}"),
            ),
            (
                "qemu-img compare -f raw -F qcow2 before.raw $test_img",
                format!("qemu-img compare {key} driver=raw,file.filename=before.raw {OPEN}"),
            ),
            (
                "qemu-img dd -O raw bs=4096 if=$test_img of=out.img",
                format!("qemu-img dd {key} -O raw bs=4096 if={OPEN} of=out.img"),
            ),
            (
                "qemu-img convert -n -O qcow2 $test_img $test_img",
                format!("qemu-img convert {key} --target-image-opts -n {OPEN} {OPEN}"),
            ),
            (
                "qemu-io --image-opts -c 'read 0 512' driver=qcow2,file.filename=$test_img,x=1",
                format!("qemu-io {key} -c read 0 512 {OPEN},x=1"),
            ),
            ("qemu-img info $test_img", "qemu-img info $test_img".into()),
            ("reader $test_img", "reader $test_img".into()),
        ] {
            assert_eq!(unlock(line), expected, "{line}");
        }
        let plain = Qcow2Base {
            image: Spec::default(),
            backing: None,
        };
        let command = Command::new(["qemu-img", "map", "$test_img"]);
        assert_eq!(with_key(&plain, command.clone()), command);
    }
}
