//! Where the inputs that an engine keeps came from.

use std::collections::VecDeque;
use std::sync::Arc;

use image_mutations::edit::Mutation;

use crate::repair::hash;

/// An input and the edits that were made to it.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The input.
    pub(crate) bytes: Arc<Vec<u8>>,
    /// What was changed in it.
    pub(crate) edits: Vec<Mutation>,
}

/// The origins of the inputs kept last, by their hash.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    recent: VecDeque<(u64, Origin)>,
    bytes: usize,
}

impl Origins {
    /// How many are kept, and how many bytes of inputs.
    const MAX_INPUTS: usize = 256;
    const MAX_BYTES: usize = 16 << 20;

    /// Keeps that the input with that hash is `bytes` with `edits`.
    pub(crate) fn insert(&mut self, hash: u64, bytes: Arc<Vec<u8>>, edits: Vec<Mutation>) {
        self.bytes += bytes.len();
        self.recent.push_back((hash, Origin { bytes, edits }));
        while self.recent.len() > Self::MAX_INPUTS || self.bytes > Self::MAX_BYTES {
            let Some((_, oldest)) = self.recent.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes.len();
        }
    }

    /// Where these bytes came from, if it is known.
    pub(crate) fn get(&self, data: &[u8]) -> Option<Origin> {
        if self.recent.is_empty() {
            return None;
        }
        let hash = hash(data);
        let found = self.recent.iter().rev().find(|(known, _)| *known == hash);
        found.map(|(_, origin)| origin.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_bytes_are_kept() {
        let mut origins = Origins::default();
        for number in 0..40_u8 {
            let bytes = Arc::new(vec![number; 1 << 20]);
            origins.insert(hash(&[number]), bytes, Vec::new());
        }
        assert!(origins.get(&[0]).is_none());
        assert_eq!(origins.get(&[39]).map(|origin| origin.bytes[0]), Some(39));
        assert_eq!(origins.recent.len(), 16);
    }
}
