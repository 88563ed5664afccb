//! Commands for images of any format.

use super::{Command, drawn, encrypted, imported, other, raw};
use image_formats::Format;
use image_mutations::base::{Base, ImportedBase};
use image_mutations::rng::Rng;

/// One to a few commands, drawn for an image made from `base`.
pub fn sequence(base: &Base, rng: &mut Rng) -> Vec<Command> {
    match base {
        Base::Qcow2(base) => drawn::sequence(base, rng),
        Base::Other(base) if base.spec.format() == Format::Raw => raw::sequence(base, rng),
        Base::Other(base) => other::sequence(base, rng),
        Base::Imported(base) => imported::sequence(base, rng),
    }
}

/// The first commands for an image that was made elsewhere: those that look at all of it, and
/// one that writes.
pub fn survey(base: &ImportedBase, rng: &mut Rng) -> Vec<Command> {
    imported::survey(base, rng)
}

/// One command, drawn for an image made from `base`.
pub fn one(base: &Base, rng: &mut Rng) -> Command {
    match base {
        Base::Qcow2(base) => drawn::one(base, rng),
        Base::Other(base) if base.spec.format() == Format::Raw => raw::one(base, rng),
        Base::Other(base) => other::one(base, rng),
        Base::Imported(base) => imported::one(base, rng),
    }
}

/// A `command` for a qcow2 image, as it is for the image of `base`: in its format, and with
/// the key where the image is encrypted and the command needs it.
pub fn adapted(base: &Base, command: Command) -> Command {
    match base {
        Base::Qcow2(base) => encrypted::with_key(base, command),
        Base::Other(base) => other::adapted(base, command),
        Base::Imported(base) => other::in_format(base.format(), command),
    }
}
