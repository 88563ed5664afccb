//! How much work an image can ask for.

use crate::disk::DiskError;

/// Rounds of PBKDF2 that are left. Real volumes ask for some millions.
pub(super) struct Rounds(u64);

impl Rounds {
    /// The most for one volume.
    const MOST: u64 = 1 << 24;

    /// All of them.
    pub(super) fn new() -> Self {
        Self(Self::MOST)
    }

    /// Takes `count` of them.
    ///
    /// # Errors
    ///
    /// There are 0, or more than are left.
    pub(super) fn take(&mut self, count: u64) -> Result<u32, DiskError> {
        if count == 0 {
            return Err(DiskError::damaged("0 iterations"));
        }
        let left = self.0.checked_sub(count);
        let many = || DiskError::Unsupported(format!("more than {} iterations", Self::MOST));
        self.0 = left.ok_or_else(many)?;
        u32::try_from(count).map_err(|_| many())
    }
}

/// The most memory that Argon2 is given, in KiB, times the passes over it.
pub(super) const MOST_MEMORY_KIB: u64 = 1 << 18;
/// The same times the passes over it.
pub(super) const MOST_PASSES_KIB: u64 = 1 << 20;
