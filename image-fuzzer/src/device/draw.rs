//! Inputs that know nothing of a device but where its registers are, as those of QEMU's generic
//! fuzzer: accesses of registers, and memory filled before the device fetches it.

use image_mutations::rng::Rng;
use qtest::{Op, Width};

use super::program::{Program, Step};
use super::regions::{Region, Space};
use super::surface::{Surface, config_write};

/// The memory that inputs fill and point to: so many pieces of a page each.
const PIECES: u64 = 12;
const PIECE: u64 = 0x1000;
const FIRST_PIECE: u64 = 1 << 20;

/// The most steps of an input that is drawn at once, those of the setup not counted.
const MOST_STEPS: u64 = 24;

/// The longest block of memory that is written, in bytes.
const LONGEST_BLOCK: u64 = 512;

/// What an input does next, with weights.
const KINDS: [(u64, Kind); 7] = [
    (44, Kind::Write),
    (12, Kind::Read),
    (22, Kind::Memory),
    (8, Kind::Burst),
    (6, Kind::Doorbell),
    (4, Kind::Configuration),
    (4, Kind::Fill),
];

#[derive(Clone, Copy)]
enum Kind {
    /// Writes a register.
    Write,
    /// Reads one.
    Read,
    /// Fills memory with values of a pattern.
    Memory,
    /// Writes registers that follow each other.
    Burst,
    /// Fills memory and writes its address to a register.
    Doorbell,
    /// Writes the configuration space.
    Configuration,
    /// Fills memory with one byte.
    Fill,
}

/// Draws an input.
#[must_use]
pub(super) fn program(surface: &Surface, rng: &mut Rng) -> Program {
    let mut steps = surface.setup.clone();
    let most = rng.between(1, MOST_STEPS);
    for _ in 0..rng.between(1, most) {
        steps.extend(draw(surface, rng));
    }
    Program { steps }
}

/// Draws what is done next: a step or a few.
pub(super) fn draw(surface: &Surface, rng: &mut Rng) -> Vec<Step> {
    let weights = KINDS.map(|(weight, _)| weight);
    let kind = rng.weighted(&weights).map_or(Kind::Write, |it| KINDS[it].1);
    match kind {
        Kind::Write => register(surface, rng).map(|it| write(it, value(surface, rng))),
        Kind::Read => register(surface, rng).map(read),
        Kind::Memory => Some(memory(surface, piece(rng), rng)),
        Kind::Burst => return burst(surface, rng),
        Kind::Doorbell => {
            let at = piece(rng);
            let filled = memory(surface, at, rng);
            let doorbell = register(surface, rng).map(|it| write(it, at));
            return [Some(filled), doorbell].into_iter().flatten().collect();
        }
        Kind::Configuration => return configuration(surface, rng),
        Kind::Fill => Some(Step::op(Op::Fill {
            address: piece(rng),
            length: rng.between(1, PIECE),
            byte: [0, 0xff, 1, 0x80][rng.index(4)],
        })),
    }
    .into_iter()
    .collect()
}

/// A place among registers.
#[derive(Clone, Copy)]
struct Place {
    space: Space,
    address: u64,
    width: Width,
}

/// Registers within the first so many bytes are the ones that matter in most devices.
const NEAR: u64 = 0x100;

fn register(surface: &Surface, rng: &mut Rng) -> Option<Place> {
    // The tables of MSI-X are memory like any other.
    let weight = |it: &Region| if it.name.contains("msix") { 1 } else { 8 };
    let weights: Vec<u64> = surface.registers.iter().map(weight).collect();
    let region = &surface.registers[rng.weighted(&weights)?];
    let widths = match region.space {
        Space::Ports => &Width::ALL[..3],
        Space::Memory => &Width::ALL[..],
    };
    let width = if rng.chance(50) {
        Width::L
    } else {
        widths[rng.index(widths.len())]
    };
    let near = if rng.chance(70) { NEAR } else { u64::MAX };
    let mut offset = rng.below(region.len().min(near));
    if rng.chance(85) {
        offset -= offset % u64::from(width.bytes());
    }
    Some(Place {
        space: region.space,
        address: region.start + offset,
        width,
    })
}

/// A write of a register; of one at a port no more than four bytes.
fn write(place: Place, value: u64) -> Step {
    let Place {
        space,
        address,
        width,
    } = place;
    let value = width.truncate(value);
    Step::op(match space {
        Space::Memory => Op::Write {
            width,
            address,
            value,
        },
        Space::Ports => Op::Out {
            width,
            // Ports are numbers of 16 bits, and values of 32.
            port: address as u16,
            value: value as u32,
        },
    })
}

fn read(place: Place) -> Step {
    let Place {
        space,
        address,
        width,
    } = place;
    Step::op(match space {
        Space::Memory => Op::Read { width, address },
        Space::Ports => Op::In {
            width,
            port: address as u16,
        },
    })
}

fn burst(surface: &Surface, rng: &mut Rng) -> Vec<Step> {
    let Some(first) = register(surface, rng) else {
        return Vec::new();
    };
    let stride = if rng.chance(25) {
        0
    } else {
        u64::from(first.width.bytes())
    };
    let count = rng.between(2, 8);
    let places = (0..count).map(|index| Place {
        address: first.address.wrapping_add(index * stride),
        ..first
    });
    places
        .map(|place| write(place, value(surface, rng)))
        .collect()
}

fn configuration(surface: &Surface, rng: &mut Rng) -> Vec<Step> {
    let Some(&function) = rng.pick(&surface.functions) else {
        return Vec::new();
    };
    let width = Width::ALL[rng.index(3)];
    let offset = rng.below(0x100) as u32 & !(width.bytes() - 1);
    let value = width.truncate(value(surface, rng)) as u32;
    // It is no part of what makes the device reachable.
    let unlabelled = |step: Step| match step {
        Step::Op(op, _) => Step::op(op),
        other => other,
    };
    let steps = config_write(function, offset, width, value);
    steps.map(unlabelled).into()
}

fn piece(rng: &mut Rng) -> u64 {
    FIRST_PIECE + PIECE * rng.below(PIECES)
}

/// Fills memory with values of one width; now and then with the same few again and again.
fn memory(surface: &Surface, address: u64, rng: &mut Rng) -> Step {
    let width = [Width::B, Width::W, Width::L, Width::L, Width::Q][rng.index(5)];
    let bytes = width.bytes() as usize;
    let count = rng.between(1, LONGEST_BLOCK / u64::from(width.bytes()));
    let count = rng.between(1, count);
    let period = if rng.chance(50) {
        rng.between(1, 8)
    } else {
        count
    };
    let values: Vec<u64> = (0..period).map(|_| value(surface, rng)).collect();
    let endless = values.iter().cycle().take(count as usize);
    let block = endless.flat_map(|value| value.to_le_bytes().into_iter().take(bytes));
    Step::op(Op::WriteBlock {
        address: address + if rng.chance(80) { 0 } else { rng.below(64) },
        bytes: block.collect(),
    })
}

/// A value: small, at a boundary, an address, or any.
pub(super) fn value(surface: &Surface, rng: &mut Rng) -> u64 {
    match rng.below(100) {
        0..30 => rng.below(17),
        30..50 => boundary(rng),
        50..75 => address(surface, rng),
        75..85 => [u64::MAX, u32::MAX.into(), 0xffff, 0xff][rng.index(4)],
        85..92 => rng.below(256),
        _ => rng.bits(),
    }
}

/// A power of two, or the number before or behind it.
pub(super) fn boundary(rng: &mut Rng) -> u64 {
    let power = 1_u64 << rng.below(64);
    match rng.below(4) {
        0 => power.wrapping_sub(1),
        1 => power.wrapping_add(1),
        _ => power,
    }
}

/// An address: of memory that inputs fill, of a register, of the end of memory, of nothing.
pub(super) fn address(surface: &Surface, rng: &mut Rng) -> u64 {
    match rng.below(20) {
        0 => surface.memory_end.wrapping_sub(rng.below(16)),
        1 | 2 => register(surface, rng).map_or(0, |it| it.address),
        3 => rng.below(PIECE),
        4..8 => piece(rng) + rng.below(PIECE),
        _ => piece(rng),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surface() -> Surface {
        let region = |space, start: u64, length: u64| Region {
            space,
            start,
            last: start + length - 1,
            is_memory: false,
            name: "x".into(),
            owner: String::new(),
        };
        Surface {
            setup: config_write(0x8000_0800, 4, Width::W, 7).into(),
            registers: vec![
                region(Space::Ports, 0xc000, 0x40),
                region(Space::Memory, 0xe000_0000, 0x4000),
            ],
            functions: vec![0x8000_0800],
            memory_end: 128 << 20,
            ..Surface::default()
        }
    }

    #[test]
    fn inputs_are_those_of_their_seed_and_touch_the_fuzzed_registers_alone() {
        let surface = surface();
        for seed in 0..300 {
            let draw = || program(&surface, &mut Rng::from_text(&seed.to_string()));
            let drawn = draw();
            assert_eq!(drawn, draw());
            assert!(drawn.steps.starts_with(&surface.setup));
            let text = drawn.to_string();
            assert_eq!(text.parse::<Program>().as_ref(), Ok(&drawn), "{text}");
            for step in &drawn.steps {
                match *step.as_op().unwrap() {
                    Op::In { port, .. } | Op::Out { port, .. } => {
                        let is_own = (0xc000..0xc080).contains(&port);
                        assert!(is_own || (0xcf8..0xd00).contains(&port), "{step}");
                    }
                    Op::Read { address, .. } | Op::Write { address, .. } => {
                        assert!((0xe000_0000..0xe000_4040).contains(&address), "{step}");
                    }
                    Op::WriteBlock { address, .. } | Op::Fill { address, .. } => {
                        assert!(address < 2 << 20, "{step}");
                    }
                    ref other => panic!("{other}"),
                }
            }
        }
    }
}
