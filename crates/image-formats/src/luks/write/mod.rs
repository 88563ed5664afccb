//! The description of a volume, and its builder.

mod features;
mod header1;
mod header2;
mod keys;

use serde::{Deserialize, Serialize};

use super::PAYLOAD_NAME;
use super::cipher::{SECTOR, Scheme, SectorCipher};
use super::hash::Hash;
use super::v2::SIZES;
use crate::arrange::Placement;
use crate::block::{Block, Content, sorted};
use crate::built::BuiltFile;
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;

pub use features::FEATURES;
pub(super) use header1::header as header_1;
pub(super) use keys::Keys;

/// Bytes in a block of the disk, in [`Spec::blocks`].
const BLOCK: u64 = 4096;
/// The longest disk that is laid out, in bytes.
const LONGEST: u64 = 1 << 40;

/// The description of a valid volume. Its key, salts and UUID are derived from the seed: it is
/// for tests and protects nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Bytes the guest sees, a multiple of 512 and of the sector size.
    pub virtual_size: u64,
    /// 1 or 2.
    pub version: u8,
    /// The block cipher: `aes`, `serpent` or `twofish`.
    pub cipher: String,
    /// How its blocks are chained, and the initial vector: `ecb`, `cbc`, `ctr` or `xts`, then
    /// `-plain`, `-plain64` or `-essiv:` and a hash, such as `xts-plain64`.
    pub mode: String,
    /// Bytes in the key: 16, 24 or 32, twice that for `xts`.
    pub key_bytes: u32,
    /// The hash of the digest, of the splitter, and of PBKDF2.
    pub hash: Hash,
    /// Rounds of PBKDF2 for the digest of the key, at least 1.
    pub digest_iterations: u32,
    /// The key slots in use, at least one.
    pub slots: Vec<Slot>,
    /// Whether the payload is in a file of its own, called [`PAYLOAD_NAME`].
    pub detached: bool,
    /// What the blocks of 4096 bytes of the disk hold: data, or zeros that are encrypted; the
    /// others are never written, and read as noise.
    pub blocks: Vec<Block>,
    /// The seed of key, salts, stripes and UUID.
    pub seed: u64,
    /// Where the key material goes, slot by slot as they are numbered, in units of 4096 bytes.
    /// Of version 1 all eight slots have some.
    pub placement: Placement,
    /// The payload starts at a multiple of so many bytes, themselves a multiple of 512.
    pub payload_alignment: u32,
    /// Bytes in each header with its JSON area, of version 2: a power of two, 16 KiB to 4 MiB.
    pub header_size: u64,
    /// Bytes that are encrypted together, of version 2: 512, 1024, 2048 or 4096.
    pub sector_size: u32,
    /// The label of a volume of version 2, up to 47 bytes.
    pub label: String,
    /// The subsystem of a volume of version 2, up to 47 bytes.
    pub subsystem: String,
    /// How often the header of a volume of version 2 was written, at least 1.
    pub sequence: u64,
}

/// A key slot in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Which one: 0 to 7, of version 2 up to 31.
    pub index: u8,
    /// What opens it.
    pub passphrase: String,
    /// Rounds of PBKDF2, or passes of Argon2, at least 1.
    pub iterations: u32,
    /// How the key of the slot is derived; version 1 has PBKDF2 only.
    pub kdf: Kdf,
}

/// A function that derives a key from a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kdf {
    /// PBKDF2 with the hash of the volume.
    Pbkdf2,
    /// Argon2i with so many KiB of memory, at least 8 for each thread.
    Argon2i {
        /// Memory in KiB, up to 256 MiB.
        memory_kib: u32,
        /// Threads, 1 to 4.
        threads: u32,
    },
    /// Argon2id, in the same way.
    Argon2id {
        /// Memory in KiB, up to 256 MiB.
        memory_kib: u32,
        /// Threads, 1 to 4.
        threads: u32,
    },
}

impl Default for Spec {
    /// An empty disk of 64 KiB, and the shortest header, which the passphrase `secret` opens.
    fn default() -> Self {
        Self {
            virtual_size: 64 << 10,
            version: 1,
            cipher: "aes".into(),
            mode: "cbc-plain64".into(),
            key_bytes: 16,
            hash: Hash::Sha256,
            digest_iterations: 1,
            slots: vec![Slot {
                index: 0,
                passphrase: "secret".into(),
                iterations: 1,
                kdf: Kdf::Pbkdf2,
            }],
            detached: false,
            blocks: Vec::new(),
            seed: 1,
            placement: Placement::default(),
            payload_alignment: 4096,
            header_size: SIZES[0],
            sector_size: SECTOR as u32,
            label: String::new(),
            subsystem: String::new(),
            sequence: 1,
        }
    }
}

impl Spec {
    /// What opens the volume: the passphrase of the first slot that is described.
    #[must_use]
    pub fn passphrase(&self) -> &str {
        self.slots.first().map_or("", |slot| &slot.passphrase)
    }

    /// The cipher that is described.
    fn scheme(&self) -> Result<Scheme, SpecError> {
        let (cipher, mode) = (&self.cipher, &self.mode);
        let scheme = Scheme::parse(cipher.as_bytes(), mode.as_bytes());
        scheme.ok_or_else(|| SpecError(format!("the cipher '{cipher}-{mode}' is not known")))
    }

    fn validate(&self) -> Result<(), SpecError> {
        let version = self.version;
        ensure!(matches!(version, 1 | 2), "version {version}: 1 or 2");
        let key = self.key_bytes;
        let fits = self.scheme()?.takes_key_of(key.into());
        ensure!(fits, "a key of {key} bytes does not fit the cipher");
        ensure!(self.digest_iterations > 0, "0 iterations of the digest");
        let align = self.payload_alignment;
        let sectors = align > 0 && align.is_multiple_of(SECTOR as u32);
        ensure!(sectors, "payload alignment {align}: a multiple of 512");
        let size = self.virtual_size;
        let sector = u64::from(self.sector_size()?);
        ensure!(
            size.is_multiple_of(sector) && size <= LONGEST,
            "disk size {size}: a multiple of {sector}, up to 1 TiB"
        );
        self.validate_slots()?;
        if version == 2 {
            let header = self.header_size;
            ensure!(SIZES.contains(&header), "header size {header}");
            ensure!(self.sequence > 0, "the sequence number is 0");
        } else {
            let plain = self.label.is_empty() && self.subsystem.is_empty();
            ensure!(plain, "version 1 has no label and no subsystem");
        }
        let short = |text: &str| text.len() <= 47 && !text.contains('\0');
        let texts = short(&self.label) && short(&self.subsystem);
        ensure!(texts, "label or subsystem: up to 47 bytes, none of them 0");
        Ok(())
    }

    /// Bytes that are encrypted together.
    fn sector_size(&self) -> Result<u32, SpecError> {
        let size = self.sector_size;
        let known = matches!(size, 512 | 1024 | 2048 | 4096);
        ensure!(known, "sector size {size}: 512, 1024, 2048 or 4096");
        ensure!(
            size == 512 || self.version == 2,
            "sectors of {size} bytes in version 1"
        );
        Ok(size)
    }

    fn validate_slots(&self) -> Result<(), SpecError> {
        ensure!(!self.slots.is_empty(), "no key slot is in use");
        let most = if self.version == 1 { 8 } else { 32 };
        for (at, slot) in self.slots.iter().enumerate() {
            let index = slot.index;
            ensure!(index < most, "key slot {index}: there are {most}");
            let mut earlier = self.slots[..at].iter();
            let twice = earlier.any(|other| other.index == index);
            ensure!(!twice, "key slot {index} is described twice");
            ensure!(slot.iterations > 0, "key slot {index}: 0 iterations");
            let (Kdf::Argon2i {
                memory_kib,
                threads,
            }
            | Kdf::Argon2id {
                memory_kib,
                threads,
            }) = slot.kdf
            else {
                continue;
            };
            ensure!(self.version == 2, "Argon2 in version 1");
            let allowed = (1..=4).contains(&threads)
                && (8 * threads..=super::limits::MOST_MEMORY_KIB as u32).contains(&memory_kib);
            ensure!(
                allowed,
                "key slot {index}: {memory_kib} KiB of memory and {threads} threads"
            );
        }
        Ok(())
    }
}

/// The volume that `spec` describes, called `name`, and its payload where that is in a file of
/// its own.
///
/// # Errors
///
/// The parts of `spec` contradict each other or the format.
pub fn build(spec: &Spec, name: &str) -> Result<Vec<BuiltFile>, SpecError> {
    spec.validate()?;
    let keys = Keys::new(spec, spec.scheme()?);
    let header = match spec.version {
        1 => header1::header(spec, &keys),
        _ => header2::header(spec, &keys)?,
    };
    let cipher = keys.payload_cipher()?.of_sectors(spec.sector_size as usize);
    let payload_at = match spec.detached {
        true => 0,
        false => header.payload_at,
    };
    let mut image = Store::new();
    image.write(0, &header.bytes);
    let mut payload = if spec.detached {
        Store::new()
    } else {
        image.clone()
    };
    payload.resize(payload_at + spec.virtual_size);
    write_blocks(spec, &cipher, payload_at, &mut payload)?;
    let file = |name: &str, bytes| BuiltFile {
        name: name.to_owned(),
        bytes,
    };
    Ok(match spec.detached {
        true => vec![file(name, image), file(PAYLOAD_NAME, payload)],
        false => vec![file(name, payload)],
    })
}

/// A header that was built.
pub(super) struct Built {
    /// The bytes up to the end of the key material.
    pub(super) bytes: Vec<u8>,
    /// Where the payload starts, if it is in the same file.
    pub(super) payload_at: u64,
}

fn write_blocks(
    spec: &Spec,
    cipher: &SectorCipher,
    payload_at: u64,
    payload: &mut Store,
) -> Result<(), SpecError> {
    for block in sorted(&spec.blocks, spec.virtual_size.div_ceil(BLOCK))? {
        let at = block.index * BLOCK;
        let len = BLOCK.min(spec.virtual_size - at) as usize;
        let mut data = match &block.content {
            Content::Data(pattern) => pattern.bytes(BLOCK as usize),
            Content::Zero => vec![0; BLOCK as usize],
            Content::Compressed(_) => {
                return Err(SpecError("LUKS has no compressed blocks".to_owned()));
            }
        };
        data.truncate(len);
        cipher.encrypt(at, &mut data);
        payload.write(payload_at + at, &data);
    }
    Ok(())
}
