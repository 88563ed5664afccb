//! What both versions share.

use crate::io::ReadAt as _;
use crate::store::Store;

/// `"LUKS\xba\xbe"`.
pub(crate) const MAGIC: &[u8; 6] = b"LUKS\xba\xbe";

/// The most of the payload that is a field, in bytes.
const SHOWN: u64 = 4096;

/// The first bytes of the payload at byte `at`, if it is in the file.
pub(super) fn payload_run(source: &Store, at: u64) -> (u64, u64) {
    match at {
        0 => (0, 0),
        _ => (at, source.len().saturating_sub(at).min(SHOWN)),
    }
}

/// Sections of the specifications.
pub(crate) mod sections {
    /// Version 1.
    pub(crate) const PARTITION_HEADER: &str = "LUKS 1: Partition header";
    pub(crate) const KEY_SLOTS: &str = "LUKS 1: Key slots";
    pub(crate) const SPLITTER: &str = "LUKS 1: Anti-forensic splitter";
    pub(crate) const NAMES: &str = "LUKS 1: Cipher and hash specification registry";
    pub(crate) const PAYLOAD: &str = "Payload";
    /// Version 2.
    pub(crate) const BINARY_HEADER: &str = "LUKS 2: Binary header";
    pub(crate) const JSON_AREA: &str = "LUKS 2: JSON area";
    pub(crate) const KEYSLOTS_AREA: &str = "LUKS 2: Keyslots area";
    pub(crate) const KEYSLOTS: &str = "LUKS 2: Keyslots object";
    pub(crate) const SEGMENTS: &str = "LUKS 2: Segments object";
    pub(crate) const DIGESTS: &str = "LUKS 2: Digests object";
    pub(crate) const CONFIG: &str = "LUKS 2: Config object";
}
