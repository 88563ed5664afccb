//! Commands drawn at random: sequences of operations on the same image, as a
//! person or a management program would run them.

use super::encrypted::{self, with_key};
use super::{Command, creation, fitting, img, io_errors, qemu_io};
use image_mutations::base::Qcow2Base;
use image_mutations::rng::Rng;

/// One to four commands for an image made from `base`. The first one often only
/// looks, since what cannot be opened is not worth more.
pub(super) fn sequence(base: &Qcow2Base, rng: &mut Rng) -> Vec<Command> {
    if base.image.encryption.is_none() && rng.chance(3) {
        return encrypted::sequence(rng);
    }
    let count = match rng.below(10) {
        0..=3 => 1,
        4..=6 => 2,
        7..=8 => 3,
        _ => 4,
    };
    let mut commands: Vec<Command> = (0..count).map(|_| one(base, rng)).collect();
    if rng.chance(45)
        && let Some(command) = fitting::one(base, rng)
    {
        commands[0] = match rng.chance(30) {
            true => io_errors::wrap(base, command, rng),
            false => with_key(base, command),
        };
    }
    if rng.chance(25) {
        commands.push(creation::alone(rng));
    }
    commands
}

/// One command.
pub(super) fn one(base: &Qcow2Base, rng: &mut Rng) -> Command {
    if base.image.encryption.is_some() && rng.chance(15) {
        return encrypted::special(rng);
    }
    let command = match rng.weighted(&[29, 43, 28]) {
        Some(0) => qemu_io::script(base, rng),
        Some(1) => img::one(base, rng),
        _ => return io_errors::one(base, rng),
    };
    with_key(base, command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_names_the_image() {
        let mut rng = Rng::from_text("sequences");
        for round in 0..300 {
            let base = image_mutations::base::draw(&mut rng);
            let base = base.qcow2().expect("a qcow2 image");
            let commands = sequence(base, &mut rng);
            let named = commands[0].0.iter().any(|word| word.contains("$test_img"));
            assert!(named, "round {round}: {commands:?}");
        }
    }
}
