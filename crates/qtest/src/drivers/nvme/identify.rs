//! What a controller and a namespace say of themselves (section 5.15).

use super::NAME;
use crate::error::{Error, Result};

/// The length of what Identify gives.
pub(super) const LENGTH: u64 = 4096;

/// What Identify is asked for: Controller or Namespace Structure (figure 244).
pub(super) mod cns {
    pub(in super::super) const NAMESPACE: u32 = 0;
    pub(in super::super) const CONTROLLER: u32 = 1;
    pub(in super::super) const ACTIVE_NAMESPACES: u32 = 2;
}

/// The part of the Identify Controller structure that drivers need (figure 247).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    /// The longest transfer in bytes; none where there is no limit.
    pub(super) longest: Option<u64>,
    pub(super) dataset_management: bool,
    pub(super) write_zeroes: bool,
    /// Whether scatter gather lists can name any memory.
    pub(super) sgl: bool,
}

/// The part of the Identify Namespace structure that drivers need (figure 245).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Namespace {
    pub(super) id: u32,
    /// In blocks.
    pub(super) blocks: u64,
    /// In bytes.
    pub(super) block_size: u32,
}

impl Identity {
    /// From the structure, for a controller with this smallest page size.
    pub(super) fn parse(bytes: &[u8], min_page: u64) -> Self {
        const MDTS: usize = 77;
        const ONCS: usize = 520;
        const SGLS: usize = 536;
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        let mdts = byte(MDTS);
        Self {
            longest: (mdts != 0).then(|| min_page << mdts.min(32)),
            dataset_management: byte(ONCS) & 1 << 2 != 0,
            write_zeroes: byte(ONCS) & 1 << 3 != 0,
            sgl: matches!(byte(SGLS) & 3, 1 | 2),
        }
    }
}

impl Namespace {
    /// From the structure.
    ///
    /// # Errors
    ///
    /// Fails if blocks are of an impossible size, or come with metadata.
    pub(super) fn parse(id: u32, bytes: &[u8]) -> Result<Self> {
        const FLBAS: usize = 26;
        const LBAF: usize = 128;
        if bytes.len() < LENGTH as usize {
            return Err(Error::device(NAME, "the namespace's structure is short"));
        }
        let blocks = u64::from_le_bytes(bytes[..8].try_into().unwrap_or_default());
        let format = LBAF + 4 * usize::from(bytes[FLBAS] & 15);
        let metadata = u16::from_le_bytes([bytes[format], bytes[format + 1]]);
        let shift = bytes[format + 2];
        if !(9..=20).contains(&shift) {
            return Err(Error::device(NAME, format!("blocks of 2^{shift} bytes")));
        }
        if metadata != 0 {
            return Err(Error::device(NAME, "blocks with metadata"));
        }
        let block_size = 1 << shift;
        Ok(Self {
            id,
            blocks,
            block_size,
        })
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_read() {
        let mut bytes = vec![0; 4096];
        bytes[77] = 7;
        bytes[520] = 0xc;
        bytes[536] = 1;
        let identity = Identity::parse(&bytes, 4096);
        assert_eq!(identity.longest, Some(512 << 10));
        assert!(identity.dataset_management && identity.write_zeroes && identity.sgl);
        assert_eq!(Identity::parse(&[], 4096), Identity::default());

        let mut bytes = vec![0; 4096];
        bytes[0] = 20;
        bytes[26] = 1;
        bytes[128 + 4 + 2] = 12;
        let namespace = Namespace::parse(3, &bytes).unwrap();
        assert_eq!((namespace.block_size, namespace.size()), (4096, 81920));
        bytes[128 + 4] = 8;
        assert!(Namespace::parse(3, &bytes).is_err());
        assert!(Namespace::parse(3, &bytes[..100]).is_err());
    }
}
