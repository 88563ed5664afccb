//! The objects of a JSON area, as they are used: keyslots, digests and segments.

use data_encoding::BASE64;

use super::json::Json;

/// Where the key material of a keyslot is, and how it is encrypted.
#[derive(Clone, Debug)]
pub(super) struct Area {
    /// In bytes.
    pub(super) offset: u64,
    /// In bytes.
    pub(super) size: u64,
    pub(super) encryption: String,
    /// Bytes in the key that encrypts it.
    pub(super) key_size: u64,
}

impl Area {
    /// That of a keyslot; `None` where a member is missing.
    pub(super) fn of(keyslot: &Json) -> Option<Self> {
        let area = keyslot.get("area")?;
        Some(Self {
            offset: area.get("offset")?.number_in_text()?,
            size: area.get("size")?.number_in_text()?,
            encryption: area.get("encryption")?.text()?.to_owned(),
            key_size: area.get("key_size")?.number()?,
        })
    }
}

/// The bytes that a member has in base64.
pub(super) fn base64(object: &Json, name: &str) -> Option<Vec<u8>> {
    BASE64.decode(object.get(name)?.text()?.as_bytes()).ok()
}

/// Whether an array of names has this one.
pub(super) fn names(object: &Json, array: &str, name: &str) -> bool {
    let elements = object.get(array).map_or(&[][..], Json::elements);
    elements.iter().any(|element| element.text() == Some(name))
}

/// Whether a segment is only kept for a reencryption that is under way.
pub(super) fn is_backup(segment: &Json) -> bool {
    let flags = segment.get("flags").map_or(&[][..], Json::elements);
    let mut names = flags.iter().filter_map(Json::text);
    names.any(|name| name.starts_with("backup-"))
}
