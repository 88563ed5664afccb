//! From a passphrase to the key of the payload.

use super::layout::{Header, Slot};
use crate::disk::DiskError;
use crate::luks::cipher::{Scheme, SectorCipher};
use crate::luks::hash::Hash;
use crate::luks::limits::Rounds;
use crate::luks::split::{self, STRIPES};
use crate::store::Store;

/// What decrypts the payload of the volume whose header is at byte `at`.
///
/// # Errors
///
/// No key slot opens with the passphrase, the header is damaged, or what it names is not known
/// here.
pub(crate) fn unlock(bytes: &Store, at: u64, passphrase: &[u8]) -> Result<SectorCipher, DiskError> {
    let header = Header::read(bytes, at);
    let names = || {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        format!("{}-{}", text(&header.cipher), text(&header.mode))
    };
    let scheme = Scheme::parse(&header.cipher, &header.mode);
    let scheme =
        scheme.ok_or_else(|| DiskError::Unsupported(format!("the cipher '{}'", names())))?;
    let hash = Hash::from_name(&header.hash).ok_or_else(|| {
        let name = String::from_utf8_lossy(&header.hash).into_owned();
        DiskError::Unsupported(format!("the hash '{name}'"))
    })?;
    if !scheme.takes_key_of(header.key_bytes) {
        let text = format!("a key of {} bytes for {}", header.key_bytes, names());
        return Err(DiskError::Damaged(text));
    }
    let mut rounds = Rounds::new();
    for slot in header.slots.iter().filter(|slot| slot.is_enabled()) {
        let key = key_in(
            bytes,
            &header,
            slot,
            (scheme, hash),
            passphrase,
            &mut rounds,
        )?;
        let count = rounds.take(header.digest_iterations)?;
        if hash.pbkdf2(&key, &header.digest_salt, count, 20) == header.digest {
            return scheme.keyed(&key).ok_or(DiskError::Locked);
        }
    }
    bytes.check_reads()?;
    Err(DiskError::Locked)
}

/// The key that a slot gives with the passphrase, right or not.
fn key_in(
    bytes: &Store,
    header: &Header,
    slot: &Slot,
    (scheme, hash): (Scheme, Hash),
    passphrase: &[u8],
    rounds: &mut Rounds,
) -> Result<Vec<u8>, DiskError> {
    if slot.stripes != STRIPES as u64 {
        let text = format!("a key slot of {} stripes", slot.stripes);
        return Err(DiskError::Damaged(text));
    }
    // At most 64, as the cipher takes it.
    let len = header.key_bytes as usize;
    let at = slot.material * crate::luks::cipher::SECTOR;
    let mut stripes = bytes.read_vec(header.at.saturating_add(at), len * STRIPES);
    let count = rounds.take(slot.iterations)?;
    let from_passphrase = hash.pbkdf2(passphrase, &slot.salt, count, len);
    let cipher = scheme.keyed(&from_passphrase).ok_or(DiskError::Locked)?;
    cipher.decrypt(0, &mut stripes);
    Ok(split::merge(&stripes, len, hash))
}
