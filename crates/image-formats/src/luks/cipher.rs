//! Ciphers of sectors, as headers name them: a block cipher, how it is chained, and how the
//! number of a sector becomes its initial vector.

use std::sync::Arc;

use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use serpent::Serpent;
use twofish::Twofish;

use super::hash::Hash;
use super::split::mix;

/// Bytes in a sector, the unit that is encrypted.
pub const SECTOR: u64 = 512;
/// Bytes in a block of each cipher.
const BLOCK: usize = 16;

type Block = [u8; BLOCK];

/// A block cipher with its key.
trait Keyed: Send + Sync {
    fn encrypt(&self, block: &mut Block);
    fn decrypt(&self, block: &mut Block);
}

impl<C> Keyed for C
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16> + Send + Sync,
{
    fn encrypt(&self, block: &mut Block) {
        let mut state = (*block).into();
        self.encrypt_block(&mut state);
        *block = state.into();
    }

    fn decrypt(&self, block: &mut Block) {
        let mut state = (*block).into();
        self.decrypt_block(&mut state);
        *block = state.into();
    }
}

/// A block cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Aes,
    Serpent,
    Twofish,
}

impl Algorithm {
    fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"aes" => Self::Aes,
            b"serpent" => Self::Serpent,
            b"twofish" => Self::Twofish,
            _ => return None,
        })
    }

    /// With a key of 16, 24 or 32 bytes.
    fn keyed(self, key: &[u8]) -> Option<Arc<dyn Keyed>> {
        fn new<C: KeyInit + Keyed + 'static>(key: &[u8]) -> Option<Arc<dyn Keyed>> {
            Some(Arc::new(C::new_from_slice(key).ok()?))
        }
        match (self, key.len()) {
            (Self::Aes, 16) => new::<Aes128>(key),
            (Self::Aes, 24) => new::<Aes192>(key),
            (Self::Aes, 32) => new::<Aes256>(key),
            (Self::Serpent, 16 | 24 | 32) => new::<Serpent>(key),
            (Self::Twofish, 16 | 24 | 32) => new::<Twofish>(key),
            _ => None,
        }
    }
}

/// How the blocks of a sector are chained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Ecb,
    Cbc,
    Ctr,
    Xts,
}

/// What the initial vector of a sector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vector {
    /// Zeros.
    None,
    /// The lowest 32 bits of its number.
    Plain,
    /// Its number.
    Plain64,
    /// Its number, encrypted with the hash of the key.
    Essiv(Hash),
}

/// A cipher that a header names, such as `aes` and `xts-plain64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scheme {
    algorithm: Algorithm,
    mode: Mode,
    vector: Vector,
}

impl Scheme {
    /// `aes-cbc-plain64`, which has the shortest keys.
    pub(super) const SHORTEST: Self = Self {
        algorithm: Algorithm::Aes,
        mode: Mode::Cbc,
        vector: Vector::Plain64,
    };

    /// That one with a key of 128 bits, which cannot fail.
    pub(super) fn shortest(key: [u8; 16]) -> SectorCipher {
        SectorCipher {
            scheme: Self::SHORTEST,
            sector: SECTOR as usize,
            data: Arc::new(Aes128::new(&key.into())),
            tweak: None,
            vector: None,
        }
    }

    /// The scheme of these names; `None` where it is not known here.
    pub(super) fn parse(cipher: &[u8], mode: &[u8]) -> Option<Self> {
        let algorithm = Algorithm::from_name(cipher)?;
        let mut parts = mode.splitn(2, |byte| *byte == b'-');
        let mode = match parts.next()? {
            b"ecb" => Mode::Ecb,
            b"cbc" => Mode::Cbc,
            b"ctr" => Mode::Ctr,
            b"xts" => Mode::Xts,
            _ => return None,
        };
        let mut parts = parts.next().unwrap_or(b"").splitn(2, |byte| *byte == b':');
        let vector = match (parts.next()?, parts.next()) {
            (b"" | b"null", _) => Vector::None,
            (b"plain", _) => Vector::Plain,
            (b"plain64", _) => Vector::Plain64,
            (b"essiv", Some(hash)) => Vector::Essiv(Hash::from_name(hash)?),
            _ => return None,
        };
        // All but ECB need one.
        let complete = mode == Mode::Ecb || vector != Vector::None;
        let essiv_fits = match vector {
            Vector::Essiv(hash) => matches!(hash.digest(&[]).len(), 16 | 24 | 32),
            _ => true,
        };
        (complete && essiv_fits).then_some(Self {
            algorithm,
            mode,
            vector,
        })
    }

    /// The scheme of one name, such as `aes-xts-plain64`.
    pub(super) fn parse_whole(name: &[u8]) -> Option<Self> {
        let dash = name.iter().position(|byte| *byte == b'-')?;
        Self::parse(&name[..dash], &name[dash + 1..])
    }

    /// Whether its keys can have `bytes` bytes.
    pub(super) fn takes_key_of(self, bytes: u64) -> bool {
        match self.mode {
            Mode::Xts => matches!(bytes, 32 | 48 | 64),
            _ => matches!(bytes, 16 | 24 | 32),
        }
    }

    /// With a key; `None` where its length does not fit.
    pub(super) fn keyed(self, key: &[u8]) -> Option<SectorCipher> {
        let keyed = |key: &[u8]| self.algorithm.keyed(key);
        let (data, tweak) = match self.mode {
            Mode::Xts => key.split_at_checked(key.len() / 2)?,
            _ => (key, &[][..]),
        };
        let helper = match (self.mode, self.vector) {
            (Mode::Xts, _) => Some(keyed(tweak)?),
            _ => None,
        };
        let vector = match self.vector {
            Vector::Essiv(hash) => Some(keyed(&hash.digest(&[key]))?),
            _ => None,
        };
        Some(SectorCipher {
            scheme: self,
            sector: SECTOR as usize,
            data: keyed(data)?,
            tweak: helper,
            vector,
        })
    }
}

/// Encrypts and decrypts sectors, each by itself.
#[derive(Clone)]
pub struct SectorCipher {
    scheme: Scheme,
    /// Bytes that are encrypted together.
    sector: usize,
    data: Arc<dyn Keyed>,
    /// The second key of XTS.
    tweak: Option<Arc<dyn Keyed>>,
    /// The cipher of the initial vector.
    vector: Option<Arc<dyn Keyed>>,
}

impl std::fmt::Debug for SectorCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SectorCipher")
            .field("scheme", &self.scheme)
            .field("sector", &self.sector)
            .finish_non_exhaustive()
    }
}

impl SectorCipher {
    /// `aes-cbc-plain64` with a key of 128 bits.
    pub(crate) fn aes_128_cbc(key: [u8; 16]) -> Self {
        Scheme::shortest(key)
    }

    /// With sectors of so many bytes, a multiple of 512. Numbers of sectors stay in units of
    /// [`SECTOR`] bytes.
    pub(super) fn of_sectors(self, bytes: usize) -> Self {
        Self {
            sector: bytes.max(SECTOR as usize),
            ..self
        }
    }

    /// Encrypts sectors in place, the first one at byte `at`, a multiple of
    /// [`SECTOR`].
    pub fn encrypt(&self, at: u64, data: &mut [u8]) {
        self.each_sector(at, data, |vector, blocks| match self.scheme.mode {
            Mode::Ecb => blocks.iter_mut().for_each(|block| self.data.encrypt(block)),
            Mode::Cbc => {
                let mut chain = vector;
                for block in blocks {
                    mix(block, &chain);
                    self.data.encrypt(block);
                    chain = *block;
                }
            }
            Mode::Ctr => self.count(vector, blocks),
            Mode::Xts => self.tweaked(vector, blocks, |block| self.data.encrypt(block)),
        });
    }

    /// Decrypts sectors in place, the inverse of [`SectorCipher::encrypt`].
    pub fn decrypt(&self, at: u64, data: &mut [u8]) {
        self.each_sector(at, data, |vector, blocks| match self.scheme.mode {
            Mode::Ecb => blocks.iter_mut().for_each(|block| self.data.decrypt(block)),
            Mode::Cbc => {
                let mut chain = vector;
                for block in blocks {
                    let stored = *block;
                    self.data.decrypt(block);
                    mix(block, &chain);
                    chain = stored;
                }
            }
            Mode::Ctr => self.count(vector, blocks),
            Mode::Xts => self.tweaked(vector, blocks, |block| self.data.decrypt(block)),
        });
    }

    fn each_sector(&self, at: u64, data: &mut [u8], mut act: impl FnMut(Block, &mut [Block])) {
        let numbers = (at / SECTOR..).step_by(self.sector / SECTOR as usize);
        for (number, sector) in numbers.zip(data.chunks_mut(self.sector)) {
            act(self.initial_vector(number), sector.as_chunks_mut().0);
        }
    }

    fn initial_vector(&self, sector: u64) -> Block {
        let number = match self.scheme.vector {
            Vector::None => 0,
            Vector::Plain => sector & 0xffff_ffff,
            Vector::Plain64 | Vector::Essiv(_) => sector,
        };
        let mut vector = u128::from(number).to_le_bytes();
        if let Some(cipher) = &self.vector {
            cipher.encrypt(&mut vector);
        }
        vector
    }

    /// Counter mode, which is its own inverse.
    fn count(&self, vector: Block, blocks: &mut [Block]) {
        let mut counter = u128::from_be_bytes(vector);
        for block in blocks {
            let mut stream = counter.to_be_bytes();
            self.data.encrypt(&mut stream);
            mix(block, &stream);
            counter = counter.wrapping_add(1);
        }
    }

    /// XTS: `act` between two exclusive ors with a tweak that is doubled from block to block
    /// in the field of 2^128 elements.
    fn tweaked(&self, vector: Block, blocks: &mut [Block], act: impl Fn(&mut Block)) {
        let mut tweak = vector;
        if let Some(cipher) = &self.tweak {
            cipher.encrypt(&mut tweak);
        }
        for block in blocks {
            mix(block, &tweak);
            act(block);
            mix(block, &tweak);
            let number = u128::from_le_bytes(tweak);
            let carry = if number >> 127 == 1 { 0x87 } else { 0 };
            tweak = (number << 1 ^ carry).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(name: &str, key: &[u8]) -> SectorCipher {
        let scheme = Scheme::parse_whole(name.as_bytes()).unwrap();
        scheme.keyed(key).unwrap()
    }

    #[test]
    fn sectors_are_encrypted_as_published() {
        // NIST SP 800-38A, F.2.1: CBC-AES128, its initial vector mixed into the
        // first block, since sector 0 has none.
        let key = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128.to_be_bytes();
        let vector = 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f_u128;
        let plain = [
            (0x6bc1_bee2_2e40_9f96_e93d_7e11_7393_172a_u128 ^ vector).to_be_bytes(),
            0xae2d_8a57_1e03_ac9c_9eb7_6fac_45af_8e51_u128.to_be_bytes(),
        ]
        .concat();
        let expected = [
            0x7649_abac_8119_b246_cee9_8e9b_12e9_197d_u128.to_be_bytes(),
            0x5086_cb9b_5072_19ee_95db_113a_9176_78b2_u128.to_be_bytes(),
        ]
        .concat();
        let cipher = cipher("aes-cbc-plain64", &key);
        let mut data = plain.clone();
        cipher.encrypt(0, &mut data);
        assert_eq!(data, expected);
        cipher.decrypt(0, &mut data);
        assert_eq!(data, plain);
    }

    #[test]
    fn tweaked_sectors_are_encrypted_as_published() {
        // IEEE 1619-2007, vector 2: XTS-AES-128, sector 0x3333333333.
        let key = [[0x11; 16], [0x22; 16]].concat();
        let mut data = vec![0x44; 32];
        cipher("aes-xts-plain64", &key).encrypt(0x33_3333_3333 * SECTOR, &mut data);
        let expected = [
            0xc454_185e_6a16_936e_3933_4038_acef_838b_u128.to_be_bytes(),
            0xfb18_6fff_7480_adc4_2893_82ec_d6d3_94f0_u128.to_be_bytes(),
        ];
        assert_eq!(data, expected.concat());
    }

    #[test]
    fn every_scheme_is_undone_and_differs_by_sector() {
        let key: Vec<u8> = (0..64).collect();
        for algorithm in ["aes", "serpent", "twofish"] {
            for mode in [
                "cbc-plain",
                "cbc-plain64",
                "cbc-essiv:sha256",
                "ctr-plain64",
                "ecb",
                "ecb-plain64",
                "xts-plain64",
                "xts-essiv:sha256",
            ] {
                let name = format!("{algorithm}-{mode}");
                let scheme = Scheme::parse_whole(name.as_bytes()).unwrap();
                for len in (0..=64).filter(|len| scheme.takes_key_of(*len)) {
                    let cipher = scheme.keyed(&key[..len as usize]).unwrap();
                    let plain = vec![7; 1024];
                    let mut data = plain.clone();
                    cipher.encrypt(4096, &mut data);
                    let same = data[..512] == data[512..];
                    assert_eq!(same, mode.starts_with("ecb"), "{name}");
                    cipher.decrypt(4096, &mut data);
                    assert_eq!(data, plain, "{name}");
                }
            }
        }
    }

    #[test]
    fn unknown_schemes_are_none() {
        for name in [
            "",
            "aes",
            "aes-",
            "des-cbc-plain64",
            "aes-cbc",
            "aes-cbc-essiv",
            "aes-cbc-essiv:sha1",
            "aes-xts-plain128",
            "aes-lrw-benbi",
        ] {
            assert_eq!(Scheme::parse_whole(name.as_bytes()), None, "{name}");
        }
        let scheme = Scheme::parse_whole(b"aes-xts-plain64").unwrap();
        assert!(scheme.keyed(&[0; 33]).is_none() && scheme.keyed(&[]).is_none());
    }
}
