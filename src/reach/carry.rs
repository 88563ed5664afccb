//! What stays known when a program is built anew.

use std::collections::HashMap;

use super::reached::Reached;
use super::table::Table;

/// Which blocks of a build are which of a later one.
pub(super) struct Carry {
    build: String,
    /// For each block of the earlier build its number in the later one.
    blocks: Vec<Option<u32>>,
    /// Blocks of the later build that every start reached in the earlier one and no longer does.
    was_startup: Vec<u32>,
}

impl Carry {
    /// From `old` to `new`: functions are the same where name and contents are.
    pub(super) fn new(old: &Table, new: &Table) -> Self {
        let key = |table: &Table, index: usize| {
            let function = &table.functions[index];
            let name = function
                .name
                .and_then(|name| table.names.get(name as usize));
            (name.cloned(), function.content_hash, function.blocks.len())
        };
        // Of several that are the same the order decides.
        let mut known: HashMap<_, Vec<usize>> = HashMap::new();
        for index in (0..new.functions.len()).rev() {
            known.entry(key(new, index)).or_default().push(index);
        }
        let mut blocks = vec![None; old.blocks.len()];
        for (index, function) in old.functions.iter().enumerate() {
            let same = known.get_mut(&key(old, index)).and_then(Vec::pop);
            let Some(same) = same.map(|same| &new.functions[same]) else {
                continue;
            };
            for (from, to) in function.blocks.clone().zip(same.blocks.clone()) {
                if let Some(place) = blocks.get_mut(from as usize) {
                    *place = Some(to);
                }
            }
        }
        let was_startup = old
            .startup
            .iter()
            .filter_map(|block| blocks[*block as usize]);
        let mut was_startup: Vec<u32> = was_startup
            .filter(|block| new.startup.binary_search(block).is_err())
            .collect();
        was_startup.sort_unstable();
        Self {
            build: new.build.clone(),
            blocks,
            was_startup,
        }
    }

    /// Makes a result of the earlier build one of the later; whether it had any of that.
    pub(super) fn apply(&self, reached: &mut Reached, build: &str) -> bool {
        // A result of the later build, from a run at the same time, is better.
        let has_new = reached.programs.iter().any(|it| it.build == self.build);
        let Some(at) = reached.programs.iter().position(|it| it.build == build) else {
            return false;
        };
        if has_new {
            reached.programs.remove(at);
            return true;
        }
        let program = &mut reached.programs[at];
        let old = program.blocks.iter().zip(&program.times_ms);
        let new = old.filter_map(|(block, time)| {
            let block = self.blocks.get(*block as usize).copied().flatten()?;
            Some((block, *time))
        });
        let startup = self
            .was_startup
            .iter()
            .map(|block| (*block, program.first_ms));
        let mut new: Vec<(u32, u32)> = new.chain(startup).collect();
        new.sort_unstable();
        new.dedup_by_key(|(block, _)| *block);
        (program.blocks, program.times_ms) = new.into_iter().unzip();
        program.build.clone_from(&self.build);
        true
    }
}
