//! Inputs that are made of earlier ones, whether drawn or recorded of a driver: one field of a
//! structure set to another value, a step dropped, doubled or moved, an access of another width.

use image_mutations::rng::Rng;
use qtest::{Op, Width};

use super::draw::{address, boundary, draw, value};
use super::host::go_on;
use super::program::{Program, Step};
use super::surface::Surface;

/// The most steps of an input behind those that are left alone; what is longer is cut.
const MOST_STEPS: usize = 400;

/// The most steps of one that does the same many times.
const MOST_REPEATED: usize = 1200;

/// In so many of a hundred inputs the commands of the monitor stay: an emulator that one of them
/// changed is started anew behind the input, which takes longer than many inputs.
const KEPT_COMMANDS: u64 = 10;

/// One change; whether anything was changed.
type Change = fn(&mut Vec<Step>, &Sources<'_>, &mut Rng) -> bool;

/// What changes are made from.
struct Sources<'a> {
    surface: &'a Surface,
    /// Another input, of which pieces are taken.
    other: &'a Program,
    /// The number of steps at the start that are left alone.
    setup: usize,
}

/// The changes: their names, their weights.
const CHANGES: [(&str, u64, Change); 10] = [
    ("field", 40, |steps, sources, rng| {
        field(steps, sources, rng)
    }),
    ("number", 14, |steps, sources, rng| {
        number(steps, sources, rng)
    }),
    ("drop", 10, drop_steps),
    ("double", 8, double),
    ("swap", 8, swap),
    ("insert", 8, insert),
    ("width", 6, |steps, sources, rng| width(steps, sources, rng)),
    ("splice", 6, splice),
    ("length", 5, |steps, sources, rng| {
        length(steps, sources, rng)
    }),
    ("repeat", 1, repeat),
];

/// An input made from `program` by one change of this name; `None` where there is none, or where
/// it finds nothing to change.
#[must_use]
pub(super) fn change(
    name: &str,
    program: &Program,
    surface: &Surface,
    rng: &mut Rng,
) -> Option<Program> {
    let mut steps = program.steps.clone();
    let sources = Sources {
        surface,
        other: program,
        setup: 0,
    };
    let (_, _, change) = CHANGES.iter().find(|(known, ..)| *known == name)?;
    change(&mut steps, &sources, rng).then_some(Program { steps })
}

/// An input made from `program` by a few changes, mostly behind the `opening` that makes the
/// device ready.
#[must_use]
pub(super) fn mutate(
    program: &Program,
    other: &Program,
    surface: &Surface,
    opening: &[Step],
    rng: &mut Rng,
) -> Program {
    let mut steps = program.steps.clone();
    if !rng.chance(KEPT_COMMANDS) {
        steps.retain(|step| !matches!(step, Step::Monitor(_)));
    }
    // The way to the device is seldom what matters.
    let is_setup = |step: &&Step| step.is_setup();
    let setup = match rng.below(16) {
        0 => 0,
        // An input that leaves a device ready can be run behind another one.
        1..12 if steps.len() > opening.len() && steps.starts_with(opening) => opening.len(),
        _ => steps.iter().take_while(is_setup).count(),
    };
    let sources = Sources {
        surface,
        other,
        setup,
    };
    let weights = CHANGES.map(|(_, weight, _)| weight);
    let wanted = 1 << rng.below(4);
    let mut made = 0;
    for _ in 0..4 * wanted {
        if let Some(index) = rng.weighted(&weights) {
            made += u64::from(CHANGES[index].2(&mut steps, &sources, rng));
        }
        if made >= wanted {
            break;
        }
    }
    let is_repeated = steps.windows(2).filter(|it| it[0] == it[1]).count() > MOST_STEPS;
    let most = if is_repeated {
        MOST_REPEATED
    } else {
        MOST_STEPS
    };
    steps.truncate(setup + most);
    go_on(&mut steps);
    Program { steps }
}

/// A step that may be changed.
fn place(steps: &[Step], sources: &Sources<'_>, rng: &mut Rng) -> Option<usize> {
    let count = steps
        .len()
        .checked_sub(sources.setup)
        .filter(|it| *it > 0)?;
    Some(sources.setup + rng.index(count))
}

/// Any step that may be changed and of which this is true.
fn place_of(
    steps: &[Step],
    sources: &Sources<'_>,
    rng: &mut Rng,
    is: impl Fn(&Op) -> bool,
) -> Option<usize> {
    let fits = |index: &usize| steps[*index].as_op().is_some_and(&is);
    let found: Vec<usize> = (sources.setup.min(steps.len())..steps.len())
        .filter(fits)
        .collect();
    rng.pick(&found).copied()
}

/// Sets a field of a structure in memory, which is 1, 2, 4 or 8 bytes where such fields are.
fn field(steps: &mut [Step], sources: &Sources<'_>, rng: &mut Rng) -> bool {
    let is_block = |op: &Op| matches!(op, Op::WriteBlock { .. });
    let Some(index) = place_of(steps, sources, rng, is_block) else {
        return false;
    };
    let Step::Op(Op::WriteBlock { address: at, bytes }, _) = &mut steps[index] else {
        return false;
    };
    let width = [1, 2, 4, 4, 8][rng.index(5)].min(bytes.len());
    let places = bytes.len() / width;
    if places == 0 {
        return false;
    }
    let start = rng.index(places) * width;
    let field = &mut bytes[start..start + width];
    let mut old = [0; 8];
    old[..width].copy_from_slice(field);
    // A structure that points to itself, or next to itself, is a circle.
    let new = match rng.below(12) {
        // Commands are bytes of many structures.
        0..5 if width == 1 => rng.below(256),
        0 => *at,
        1 => *at + start as u64,
        _ => changed(u64::from_le_bytes(old), sources.surface, rng),
    };
    let new = match rng.below(8) {
        // Several devices have fields with the high byte first.
        0 => new.swap_bytes() >> (64 - 8 * width),
        _ => new,
    };
    field.copy_from_slice(&new.to_le_bytes()[..width]);
    true
}

/// Another value in place of `old`.
fn changed(old: u64, surface: &Surface, rng: &mut Rng) -> u64 {
    match rng.below(10) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 | 3 => old ^ 1 << rng.below(64),
        4 => boundary(rng),
        5 => address(surface, rng),
        6 => 0,
        7 => u64::MAX,
        _ => value(surface, rng),
    }
}

/// Changes the value that a register gets.
fn number(steps: &mut [Step], sources: &Sources<'_>, rng: &mut Rng) -> bool {
    let is_write = |op: &Op| matches!(op, Op::Write { .. } | Op::Out { .. });
    let Some(index) = place_of(steps, sources, rng, is_write) else {
        return false;
    };
    match &mut steps[index] {
        Step::Op(Op::Write { width, value, .. }, _) => {
            *value = width.truncate(changed(*value, sources.surface, rng));
        }
        // Commands of old controllers are bytes at ports.
        Step::Op(
            Op::Out {
                width: Width::B,
                value,
                ..
            },
            _,
        ) if rng.chance(30) => {
            *value = rng.below(256) as u32;
        }
        Step::Op(Op::Out { width, value, .. }, _) => {
            let new = changed((*value).into(), sources.surface, rng);
            *value = width.truncate(new) as u32;
        }
        _ => return false,
    }
    true
}

fn drop_steps(steps: &mut Vec<Step>, sources: &Sources<'_>, rng: &mut Rng) -> bool {
    let Some(index) = place(steps, sources, rng) else {
        return false;
    };
    let most = if rng.chance(80) { 1 } else { 8 };
    let count = rng.between(1, most) as usize;
    steps.drain(index..(index + count).min(steps.len()));
    true
}

fn double(steps: &mut Vec<Step>, sources: &Sources<'_>, rng: &mut Rng) -> bool {
    let Some(index) = place(steps, sources, rng) else {
        return false;
    };
    let end = (index + rng.between(1, 4) as usize).min(steps.len());
    let copy = steps[index..end].to_vec();
    steps.splice(end..end, copy);
    true
}

/// Does the same so often that a buffer overflows, or an index comes round.
fn repeat(steps: &mut Vec<Step>, sources: &Sources<'_>, rng: &mut Rng) -> bool {
    let new;
    let (index, step) = match place_of(steps, sources, rng, Op::is_write) {
        Some(index) if rng.chance(50) => (index, steps[index].clone()),
        index => {
            new = draw(sources.surface, rng);
            match new.first() {
                Some(step) => (index.map_or(steps.len(), |it| it + 1), step.clone()),
                None => return false,
            }
        }
    };
    let times = [4, 16, 64, 256, 600][rng.index(5)];
    steps.splice(index..index, std::iter::repeat_n(step, times));
    true
}

fn swap(steps: &mut Vec<Step>, sources: &Sources<'_>, rng: &mut Rng) -> bool {
    let first = place(steps, sources, rng);
    let Some((one, other)) = first.zip(place(steps, sources, rng)) else {
        return false;
    };
    let step = steps.remove(one);
    steps.insert(other, step);
    one != other
}

fn insert(steps: &mut Vec<Step>, sources: &Sources<'_>, rng: &mut Rng) -> bool {
    let at = match place(steps, sources, rng) {
        Some(index) => index + 1,
        None => steps.len(),
    };
    let new = match rng.below(200) {
        // What comes behind a reset has to make the device reachable again.
        0..5 => [vec![Step::Reset], sources.surface.setup.clone()].concat(),
        5 => sources.surface.host.draw(rng),
        _ => draw(sources.surface, rng),
    };
    let is_new = !new.is_empty();
    steps.splice(at..at, new);
    is_new
}

/// Accesses a register by another width.
fn width(steps: &mut [Step], sources: &Sources<'_>, rng: &mut Rng) -> bool {
    let is_access = |op: &Op| {
        matches!(
            op,
            Op::Write { .. } | Op::Out { .. } | Op::Read { .. } | Op::In { .. }
        )
    };
    let Some(index) = place_of(steps, sources, rng, is_access) else {
        return false;
    };
    let (narrow, any) = (Width::ALL[rng.index(3)], Width::ALL[rng.index(4)]);
    match &mut steps[index] {
        Step::Op(Op::Write { width, value, .. }, _) => {
            (*width, *value) = (any, any.truncate(*value));
        }
        Step::Op(Op::Read { width, .. }, _) => *width = any,
        Step::Op(Op::Out { width, value, .. }, _) => {
            (*width, *value) = (narrow, narrow.truncate((*value).into()) as u32);
        }
        Step::Op(Op::In { width, .. }, _) => *width = narrow,
        _ => return false,
    }
    true
}

/// Takes some steps of the other input.
fn splice(steps: &mut Vec<Step>, sources: &Sources<'_>, rng: &mut Rng) -> bool {
    let others: Vec<&Step> = sources
        .other
        .steps
        .iter()
        .skip_while(|it| it.is_setup())
        .collect();
    if others.is_empty() {
        return false;
    }
    let start = rng.index(others.len());
    let end = (start + rng.between(1, 24) as usize).min(others.len());
    let piece: Vec<Step> = others[start..end].iter().copied().cloned().collect();
    let at = match place(steps, sources, rng) {
        Some(index) => index + 1,
        None => steps.len(),
    };
    steps.splice(at..at, piece);
    true
}

/// Makes a block of memory shorter or longer.
fn length(steps: &mut [Step], sources: &Sources<'_>, rng: &mut Rng) -> bool {
    let is_block = |op: &Op| matches!(op, Op::WriteBlock { .. });
    let Some(index) = place_of(steps, sources, rng, is_block) else {
        return false;
    };
    let Step::Op(Op::WriteBlock { bytes, .. }, _) = &mut steps[index] else {
        return false;
    };
    let old = bytes.len();
    let new = match rng.below(3) {
        0 => old + rng.between(1, 32) as usize,
        1 => old / 2,
        _ => rng.between(1, old as u64) as usize,
    };
    bytes.resize(new.max(1), 0);
    bytes.len() != old
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_device_mostly_stays_and_mutants_are_traces() {
        let setup = super::super::surface::config_write(0x8000_0800, 4, Width::W, 7);
        let block = Step::Op(
            Op::WriteBlock {
                address: 0x10_0000,
                bytes: vec![0; 64],
            },
            "nvme submission entry".into(),
        );
        let doorbell = Step::Op(
            Op::Write {
                width: Width::L,
                address: 0xe000_1000,
                value: 1,
            },
            "nvme doorbell".into(),
        );
        let steps = [setup.to_vec(), vec![block, doorbell]].concat();
        let program = Program { steps };
        let surface = Surface {
            setup: setup.to_vec(),
            memory_end: 1 << 27,
            ..Surface::default()
        };
        let mut rng = Rng::from_text("mutants");
        let (mut kept, mut same, mut labelled) = (0, 0, 0);
        for _ in 0..500 {
            let mutant = mutate(&program, &program, &surface, &setup, &mut rng);
            assert_eq!(mutant.to_string().parse::<Program>().as_ref(), Ok(&mutant));
            kept += usize::from(mutant.steps.starts_with(&setup));
            same += usize::from(mutant == program);
            labelled += usize::from(mutant.steps.iter().any(|it| it.label().starts_with("nvme")));
        }
        assert!(kept > 440, "{kept}");
        assert!(same < 60, "{same}");
        assert!(labelled > 350, "{labelled}");
    }
}
