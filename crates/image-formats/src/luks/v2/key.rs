//! From a passphrase to the key, and to the segments that it decrypts.

use argon2::{Algorithm, Argon2, Params, Version};

use super::area::{Area, base64, is_backup, names};
use super::json::Json;
use super::layout::{Header, SECOND_MAGIC, SIZES, is_header, second_at};
use crate::disk::DiskError;
use crate::luks::cipher::{SECTOR, Scheme, SectorCipher};
use crate::luks::hash::Hash;
use crate::luks::layout::MAGIC;
use crate::luks::limits::{MOST_MEMORY_KIB, MOST_PASSES_KIB, Rounds};
use crate::luks::split::{self, STRIPES};
use crate::store::Store;

/// A part of the disk.
#[derive(Clone, Debug)]
pub(in crate::luks) struct Part {
    /// Byte offset in the file.
    pub(in crate::luks) offset: u64,
    /// Bytes in it; `None` up to the end of the file.
    pub(in crate::luks) size: Option<u64>,
    /// Added to the number of its sectors, of 512 bytes.
    pub(in crate::luks) first_sector: u64,
    /// Bytes that are encrypted together.
    pub(in crate::luks) sector_size: u64,
    /// What decrypts it; `None` where it is not encrypted.
    pub(in crate::luks) cipher: Option<SectorCipher>,
}

/// The header in use: the intact one with the higher sequence number.
fn newest(source: &Store) -> Result<Header, DiskError> {
    let first = is_header(source, 0, MAGIC).then_some(0);
    let second = second_at(source).filter(|at| is_header(source, *at, SECOND_MAGIC));
    let both = first.into_iter().chain(second);
    let intact = both.filter_map(|at| {
        let header = Header::read(source, at);
        let usable = SIZES.contains(&header.size) && header.is_intact(source);
        (usable && header.json.is_ok()).then_some(header)
    });
    // Of two the first one.
    let newest = intact.reduce(|one, other| {
        let newer = other.sequence(source) > one.sequence(source);
        if newer { other } else { one }
    });
    newest.ok_or_else(|| DiskError::damaged("neither header is intact"))
}

/// The parts of the disk, unlocked, in order.
///
/// # Errors
///
/// The header is damaged, nothing opens with the passphrase, or a feature is not known here.
pub(in crate::luks) fn open(source: &Store, passphrase: &[u8]) -> Result<Vec<Part>, DiskError> {
    let header = newest(source)?;
    let missing = || DiskError::damaged("no object in the JSON area");
    let json = header.json.as_ref().map_err(|_| missing())?;
    refuse_requirements(json)?;
    let (digest, key) = unlock(source, json, passphrase)?;
    let members = json.get("segments").map_or(&[][..], Json::members);
    let mut parts = Vec::new();
    let used = members.iter().filter(|(_, segment)| !is_backup(segment));
    let mut used: Vec<_> = used.collect();
    used.sort_by_key(|(name, _)| name.parse().unwrap_or(u64::MAX));
    for (name, segment) in used {
        let key = names(digest, "segments", name).then_some(&key[..]);
        parts.push(part(segment, key)?);
    }
    if parts.is_empty() {
        return Err(DiskError::damaged("no segments"));
    }
    Ok(parts)
}

fn refuse_requirements(json: &Json) -> Result<(), DiskError> {
    let required = json.get("config").and_then(|config| {
        let required = config.get("requirements")?.get("mandatory")?;
        required.elements().first()?.text()
    });
    match required {
        Some(name) => Err(DiskError::Unsupported(format!("the requirement '{name}'"))),
        None => Ok(()),
    }
}

/// The digest that the key of some keyslot has, and that key.
fn unlock<'j>(
    source: &Store,
    json: &'j Json,
    passphrase: &[u8],
) -> Result<(&'j Json, Vec<u8>), DiskError> {
    let mut rounds = Rounds::new();
    let mut other = None;
    let objects = |name: &str| json.get(name).map_or(&[][..], Json::members);
    for (name, keyslot) in objects("keyslots") {
        let all = objects("digests").iter().map(|(_, digest)| digest);
        let mut digests = all.filter(|digest| names(digest, "keyslots", name));
        let Some(digest) = digests.next() else {
            continue;
        };
        // Another keyslot may open where this one cannot be read.
        match key_in(source, keyslot, passphrase, &mut rounds) {
            Ok(key) if is_digest(digest, &key, &mut rounds)? => return Ok((digest, key)),
            Ok(_) => {}
            Err(error) => other = Some(error),
        }
    }
    source.check_reads()?;
    Err(other.unwrap_or(DiskError::Locked))
}

fn is_digest(digest: &Json, key: &[u8], rounds: &mut Rounds) -> Result<bool, DiskError> {
    let of = || {
        let hash = Hash::from_name(digest.get("hash")?.text()?.as_bytes())?;
        let iterations = digest.get("iterations")?.number()?;
        Some((
            hash,
            iterations,
            base64(digest, "salt")?,
            base64(digest, "digest")?,
        ))
    };
    let missing = || DiskError::damaged("a digest without salt, digest or a known hash");
    let (hash, iterations, salt, wanted) = of().ok_or_else(missing)?;
    if wanted.is_empty() || wanted.len() > 64 {
        return Err(DiskError::damaged("a digest of no known length"));
    }
    let count = rounds.take(iterations)?;
    Ok(hash.pbkdf2(key, &salt, count, wanted.len()) == wanted)
}

/// The key that a keyslot gives with the passphrase, right or not.
fn key_in(
    source: &Store,
    keyslot: &Json,
    passphrase: &[u8],
    rounds: &mut Rounds,
) -> Result<Vec<u8>, DiskError> {
    let of = || {
        let spread = keyslot.get("af")?;
        let hash = Hash::from_name(spread.get("hash")?.text()?.as_bytes())?;
        let stripes = spread.get("stripes")?.number()?;
        let len = keyslot.get("key_size")?.number()?;
        Some((Area::of(keyslot)?, hash, stripes, len, keyslot.get("kdf")?))
    };
    let missing = || DiskError::damaged("a keyslot without its members");
    let (area, hash, stripes, len, kdf) = of().ok_or_else(missing)?;
    let scheme = Scheme::parse_whole(area.encryption.as_bytes());
    let unknown = || DiskError::Unsupported(format!("the cipher '{}'", area.encryption));
    let scheme = scheme.ok_or_else(unknown)?;
    let fits = stripes == STRIPES as u64 && (1..=64).contains(&len);
    if !fits || len * stripes > area.size || !scheme.takes_key_of(area.key_size) {
        return Err(DiskError::damaged("a keyslot of impossible sizes"));
    }
    let from_passphrase = derive(kdf, passphrase, area.key_size as usize, rounds)?;
    let cipher = scheme.keyed(&from_passphrase).ok_or(DiskError::Locked)?;
    let used = len as usize * STRIPES;
    let mut stripes = source.read_vec(area.offset, used.next_multiple_of(SECTOR as usize));
    cipher.decrypt(0, &mut stripes);
    Ok(split::merge(&stripes[..used], len as usize, hash))
}

/// A key of `len` bytes, derived from the passphrase.
fn derive(
    kdf: &Json,
    passphrase: &[u8],
    len: usize,
    rounds: &mut Rounds,
) -> Result<Vec<u8>, DiskError> {
    let text = |name: &str| kdf.get(name).and_then(Json::text).unwrap_or("");
    let number = |name: &str| kdf.get(name).and_then(Json::number).unwrap_or(0);
    let salt = base64(kdf, "salt").ok_or_else(|| DiskError::damaged("a salt in no base64"))?;
    let algorithm = match text("type") {
        "pbkdf2" => {
            let hash = Hash::from_name(text("hash").as_bytes());
            let unknown = || DiskError::Unsupported(format!("the hash '{}'", text("hash")));
            let count = rounds.take(number("iterations"))?;
            return Ok(hash
                .ok_or_else(unknown)?
                .pbkdf2(passphrase, &salt, count, len));
        }
        "argon2i" => Algorithm::Argon2i,
        "argon2id" => Algorithm::Argon2id,
        other => {
            let text = format!("the key derivation '{other}'");
            return Err(DiskError::Unsupported(text));
        }
    };
    let (memory, time, cpus) = (number("memory"), number("time"), number("cpus"));
    if memory > MOST_MEMORY_KIB || memory.saturating_mul(time) > MOST_PASSES_KIB || cpus > 16 {
        let text = format!("{algorithm} with {memory} KiB of memory {time} times");
        return Err(DiskError::Unsupported(text));
    }
    let damaged = |error: argon2::Error| DiskError::Damaged(format!("{algorithm}: {error}"));
    let params = Params::new(memory as u32, time as u32, cpus as u32, Some(len));
    let argon2 = Argon2::new(algorithm, Version::V0x13, params.map_err(damaged)?);
    let mut key = vec![0; len];
    argon2
        .hash_password_into(passphrase, &salt, &mut key)
        .map_err(damaged)?;
    Ok(key)
}

/// A segment, with the key that it is encrypted with, if that is known.
fn part(segment: &Json, key: Option<&[u8]>) -> Result<Part, DiskError> {
    let text = |name: &str| segment.get(name).and_then(Json::text).unwrap_or("");
    let number = |name: &str| segment.get(name).and_then(Json::number_in_text);
    let missing = || DiskError::damaged("a segment without offset or size");
    let mut part = Part {
        offset: number("offset").ok_or_else(missing)?,
        size: match text("size") {
            "dynamic" => None,
            _ => Some(number("size").ok_or_else(missing)?),
        },
        first_sector: number("iv_tweak").unwrap_or(0),
        sector_size: SECTOR,
        cipher: None,
    };
    match text("type") {
        "linear" => return Ok(part),
        "crypt" => {}
        other => {
            return Err(DiskError::Unsupported(format!(
                "a segment of type '{other}'"
            )));
        }
    }
    if segment.get("integrity").is_some() {
        return Err(DiskError::Unsupported(
            "authenticated encryption".to_owned(),
        ));
    }
    let name = text("encryption");
    let scheme = Scheme::parse_whole(name.as_bytes());
    let scheme = scheme.ok_or_else(|| DiskError::Unsupported(format!("the cipher '{name}'")))?;
    let sector = segment.get("sector_size").and_then(Json::number);
    part.sector_size = sector
        .filter(|size| size.is_power_of_two() && (512..=4096).contains(size))
        .ok_or_else(|| DiskError::damaged("the sector size is out of range"))?;
    let cipher = scheme.keyed(key.ok_or(DiskError::Locked)?);
    let fits = || DiskError::damaged("the key does not fit the cipher of the segment");
    let cipher = cipher.ok_or_else(fits)?;
    part.cipher = Some(cipher.of_sectors(part.sector_size as usize));
    Ok(part)
}
