//! Where the blocks of a function start: all its instructions are decoded one after another,
//! and its branches looked at.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};

use crate::hash::ContentHasher;
use crate::reason::Reason;

/// A set of places in the text.
#[derive(Default)]
pub(crate) struct Places(Vec<u64>);

impl Places {
    /// A set of places below `size`.
    pub(crate) fn new(size: usize) -> Self {
        Self(vec![0; size.div_ceil(64)])
    }

    pub(crate) fn insert(&mut self, place: usize) {
        if let Some(word) = self.0.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
    }

    pub(crate) fn contains(&self, place: usize) -> bool {
        let word = self.0.get(place / 64);
        word.is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    /// The places within a range, in their order.
    pub(crate) fn within(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            while at < range.end {
                let rest = self.0.get(at / 64)? >> (at % 64);
                if rest == 0 {
                    at = (at / 64 + 1) * 64;
                    continue;
                }
                let found = at + rest.trailing_zeros() as usize;
                at = found + 1;
                return (found < range.end).then_some(found);
            }
            None
        })
    }
}

/// A function to be decoded.
pub(crate) struct Code<'a> {
    pub(crate) range: Range<u64>,
    pub(crate) bytes: &'a [u8],
    /// The place of its first byte.
    pub(crate) place: usize,
}

impl Code<'_> {
    /// The place of an address in this function.
    pub(crate) fn place_of(&self, address: u64) -> usize {
        // A function is within a slice, so that no offset in it is too large.
        self.place + usize::try_from(address - self.range.start).unwrap_or(usize::MAX)
    }
}

/// What decoding has found, in all functions.
#[derive(Default)]
pub(crate) struct Sweep {
    /// Where instructions start, in functions that were decoded to their end.
    pub(crate) starts: Places,
    /// Where blocks start.
    pub(crate) leaders: Places,
    /// Targets of the last function's branches.
    inside: Vec<u64>,
}

/// What may follow the last instruction.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    /// More of the same block.
    Inside,
    /// A block: the last one ended with a branch that may not be taken.
    Block,
    /// Padding and then a block: nothing gets past the last instruction.
    Padding,
}

impl Sweep {
    /// For a text of this many bytes.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            starts: Places::new(size),
            leaders: Places::new(size),
            inside: Vec::new(),
        }
    }

    /// Decodes a function: its blocks become leaders, and `leave` is called with each target
    /// outside of it. Gives the hash of its contents.
    pub(crate) fn function(
        &mut self,
        code: &Code<'_>,
        absolute: &Range<u64>,
        mut leave: impl FnMut(u64),
    ) -> Result<u64, Reason> {
        let mut decoder = Decoder::with_ip(64, code.bytes, code.range.start, DecoderOptions::NONE);
        let mut hasher = ContentHasher::new(&code.range, absolute);
        let mut instruction = Instruction::default();
        let mut next = Next::Block;
        self.inside.clear();
        while decoder.can_decode() {
            let offset = decoder.position();
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                return Err(Reason::Undecodable);
            }
            let constants = decoder.get_constant_offsets(&instruction);
            hasher.add(
                &instruction,
                &code.bytes[offset..decoder.position()],
                &constants,
            );
            let place = code.place + offset;
            self.starts.insert(place);
            let is_leader = match next {
                Next::Inside => instruction.mnemonic() == Mnemonic::Endbr64,
                Next::Block => true,
                Next::Padding if is_padding(&instruction) => continue,
                Next::Padding => true,
            };
            if is_leader {
                self.leaders.insert(place);
            }
            next = follows(&instruction);
            if instruction.op0_kind() == OpKind::NearBranch64 {
                let target = instruction.near_branch_target();
                if code.range.contains(&target) {
                    self.inside.push(target);
                } else {
                    leave(target);
                }
            }
        }
        for target in &self.inside {
            let place = code.place_of(*target);
            if !self.starts.contains(place) {
                return Err(Reason::BranchIntoInstruction);
            }
            self.leaders.insert(place);
        }
        Ok(hasher.finish())
    }
}

/// Whether compilers fill the space up to an aligned address with this instruction.
fn is_padding(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3)
}

fn follows(instruction: &Instruction) -> Next {
    use Mnemonic::{
        Call, Hlt, Iret, Iretd, Iretq, Jmp, Ret, Retf, Sysret, Sysretq, Ud0, Ud1, Ud2, Uiret,
    };
    match instruction.mnemonic() {
        Jmp | Ret | Retf | Iret | Iretd | Iretq | Uiret | Sysret | Sysretq => Next::Padding,
        Hlt | Ud0 | Ud1 | Ud2 => Next::Padding,
        // That a call never comes back cannot be seen here.
        Call => Next::Inside,
        // Conditional jumps, loops, the start of a transaction.
        _ if instruction.op0_kind() == OpKind::NearBranch64 => Next::Block,
        _ => Next::Inside,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 0x1000;

    /// The offsets of the leaders of a function of these bytes, and targets outside of it.
    fn leaders(bytes: &[u8]) -> Result<(Vec<usize>, Vec<u64>), Reason> {
        let code = Code {
            range: START..START + bytes.len() as u64,
            bytes,
            place: 7,
        };
        let mut sweep = Sweep::new(7 + bytes.len());
        let mut outside = Vec::new();
        sweep.function(&code, &(0..0), |target| outside.push(target))?;
        let places = sweep.leaders.within(7..7 + bytes.len());
        Ok((places.map(|place| place - 7).collect(), outside))
    }

    #[test]
    fn branches_start_blocks_where_they_go_and_behind_them() {
        let code = [
            0xf3, 0x0f, 0x1e, 0xfa, // 0: endbr64
            0x85, 0xff, // 4: test edi, edi
            0x74, 0x03, // 6: je 11
            0x31, 0xc0, // 8: xor eax, eax
            0x90, // 10: nop, which runs
            0xc3, // 11: ret
        ];
        assert_eq!(leaders(&code), Ok((vec![0, 8, 11], vec![])));
    }

    #[test]
    fn padding_behind_a_jump_is_no_block() {
        let code = [
            0xeb, 0x0b, // 0: jmp 13
            0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0, // 2: data16 cs nop
            0x0f, 0x0b, // 13: ud2
            0xcc, 0x90, // 15: int3, nop
            0xff, 0xe0, // 17: jmp rax
            0xf4, // 19: hlt
            0x66, 0x90, // 20: xchg ax, ax
        ];
        assert_eq!(leaders(&code), Ok((vec![0, 13, 17, 19], vec![])));
    }

    #[test]
    fn calls_go_on_and_landing_pads_start_a_block() {
        let code = [
            0xe8, 0xfb, 0x0f, 0, 0, // 0: call 0x2000
            0xf3, 0x0f, 0x1e, 0xfa, // 5: endbr64
            0xff, 0xd0, // 9: call rax
            0xf0, 0xff, 0x00, // 11: lock inc [rax]
            0xe9, 0xed, 0x1f, 0, 0, // 14: jmp 0x3000
        ];
        assert_eq!(leaders(&code), Ok((vec![0, 5], vec![0x2000, 0x3000])));
    }

    #[test]
    fn a_function_that_is_not_understood_is_left_out() {
        // A jump past a lock prefix, as in hand-written code.
        let past_prefix = [0x74, 0x01, 0xf0, 0xff, 0x00, 0xc3];
        assert_eq!(leaders(&past_prefix), Err(Reason::BranchIntoInstruction));
        // An opcode that is none in 64-bit mode, and an instruction that is cut off.
        assert_eq!(leaders(&[0xc3, 0x06]), Err(Reason::Undecodable));
        assert_eq!(leaders(&[0xc3, 0xe8, 0x00]), Err(Reason::Undecodable));
    }

    #[test]
    fn contents_are_those_of_a_function_that_moved() {
        let hash = |bytes: &[u8], start: u64, absolute: Range<u64>| {
            let code = Code {
                range: start..start + bytes.len() as u64,
                bytes,
                place: 0,
            };
            let mut sweep = Sweep::new(bytes.len());
            sweep.function(&code, &absolute, |_| {}).unwrap()
        };
        let at = |call: u8, data: u8, jump: u8, number: u8| {
            [
                0xe8, call, 0x10, 0, 0, // call outside
                0x8b, 0x05, data, 0x20, 0, 0, // mov eax, [rip + data]
                0x75, jump, // jne inside
                0xbf, number, 0x10, 0x40, 0, // mov edi, number
                0x90, 0xc3,
            ]
        };
        let plain = hash(&at(1, 2, 5, 4), START, 0..0);
        assert_eq!(hash(&at(9, 8, 5, 4), 0x5550, 0..0), plain);
        assert_ne!(hash(&at(1, 2, 6, 4), START, 0..0), plain);
        assert_ne!(hash(&at(1, 2, 5, 5), START, 0..0), plain);
        // Where a program is not position-independent, numbers may be addresses.
        let image = 0x40_0000..0x41_0000;
        let fixed = hash(&at(1, 2, 5, 4), START, image.clone());
        assert_eq!(hash(&at(1, 2, 5, 5), START, image), fixed);
    }

    proptest! {
        #[test]
        fn any_bytes_give_blocks_at_instructions_or_none(
            bytes in prop::collection::vec(prop_oneof![
                any::<u8>(),
                prop::sample::select(vec![0xeb, 0x74, 0xe8, 0xc3, 0x90, 0x02, 0xfe, 0xf0]),
            ], 1..80)
        ) {
            let Ok((found, _)) = leaders(&bytes) else {
                return Ok(());
            };
            let decoder = Decoder::with_ip(64, &bytes, START, DecoderOptions::NONE);
            let starts: Vec<_> = decoder.into_iter().map(|it| it.ip() - START).collect();
            prop_assert_eq!(found[0], 0);
            for block in found {
                prop_assert!(starts.contains(&(block as u64)), "{block} is inside an instruction");
            }
        }

        #[test]
        fn places_come_in_their_order(
            mut places in prop::collection::vec(0..300_usize, 0..40),
            start in 0..300_usize,
            size in 0..300_usize,
        ) {
            let mut set = Places::new(300);
            places.iter().for_each(|place| set.insert(*place));
            places.sort_unstable();
            places.dedup();
            places.retain(|place| (start..start + size).contains(place));
            prop_assert_eq!(set.within(start..start + size).collect::<Vec<_>>(), places);
        }
    }
}
