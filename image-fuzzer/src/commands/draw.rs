//! Commands for images of any format.

use super::{Command, drawn, encrypted, other, raw};
use image_formats::Format;
use image_mutations::base::Base;
use image_mutations::rng::Rng;

/// One to a few commands, drawn for an image made from `base`.
pub fn sequence(base: &Base, rng: &mut Rng) -> Vec<Command> {
    match base {
        Base::Qcow2(base) => drawn::sequence(base, rng),
        Base::Other(base) if base.spec.format() == Format::Raw => raw::sequence(base, rng),
        Base::Other(base) => other::sequence(base, rng),
    }
}

/// One command, drawn for an image made from `base`.
pub fn one(base: &Base, rng: &mut Rng) -> Command {
    match base {
        Base::Qcow2(base) => drawn::one(base, rng),
        Base::Other(base) if base.spec.format() == Format::Raw => raw::one(base, rng),
        Base::Other(base) => other::one(base, rng),
    }
}

/// A `command` for a qcow2 image, as it is for the image of `base`: in its format, and with
/// the key where the image is encrypted and the command needs it.
pub fn adapted(base: &Base, command: Command) -> Command {
    match base {
        Base::Qcow2(base) => encrypted::with_key(base, command),
        Base::Other(base) => other::adapted(base, command),
    }
}
