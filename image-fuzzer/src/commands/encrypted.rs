//! Commands on an encrypted copy of the image: its header, its keys, its data.

use super::Command;
use crate::rng::Rng;

/// The copy.
const COPY: &str = "encrypted.img";

/// The object that holds the passphrase.
const SECRET: &str = "secret,id=key,data=passphrase";

/// How the copy is named where it needs its key.
const OPEN: &str = "driver=qcow2,encrypt.key-secret=key,file.filename=encrypted.img";

/// Makes an encrypted copy and works on it.
pub(super) fn sequence(rng: &mut Rng) -> Vec<Command> {
    // Making a LUKS header takes long on purpose: half a second for each key.
    let luks = rng.chance(30);
    let options = if luks {
        "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10"
    } else {
        "encrypt.format=aes,encrypt.key-secret=key"
    };
    let mut commands = vec![Command::new([
        "qemu-img",
        "convert",
        "--object",
        SECRET,
        "-O",
        "qcow2",
        "-o",
        options,
        "$test_img",
        COPY,
    ])];
    for _ in 0..rng.between(1, 3) {
        commands.push(one(luks, rng));
    }
    commands
}

/// One command on the copy.
fn one(luks: bool, rng: &mut Rng) -> Command {
    let image =
        |verb: &str| Command::new(["qemu-img", verb, "--object", SECRET, "--image-opts", OPEN]);
    match rng.below(8) {
        0 => image("check"),
        1 => Command::new(["qemu-img", "info", COPY]),
        2 => image("map"),
        3 if luks => Command::new([
            "qemu-img",
            "amend",
            "--object",
            SECRET,
            "--image-opts",
            "-o",
            "encrypt.state=active,encrypt.new-secret=key,encrypt.iter-time=10",
            OPEN,
        ]),
        3 => Command::new([
            "qemu-img",
            "resize",
            "--object",
            SECRET,
            "--image-opts",
            OPEN,
            "+64K",
        ]),
        4 => Command::new([
            "qemu-img",
            "snapshot",
            "--object",
            SECRET,
            "--image-opts",
            "-c",
            "new",
            OPEN,
        ]),
        5 => Command::new([
            "qemu-img",
            "measure",
            "--object",
            SECRET,
            "--image-opts",
            "-O",
            "qcow2",
            OPEN,
        ]),
        _ => Command::new([
            "qemu-io",
            "--object",
            SECRET,
            "--image-opts",
            "-c",
            "write -P 7 0 512",
            "-c",
            "write -z 0 64k",
            "-c",
            "read 0 512",
            OPEN,
        ]),
    }
}
