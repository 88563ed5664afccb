//! A guest whose writes are in flight while something else happens to its disk.

use std::fmt::Display;

use anyhow::{Result, ensure};

use crate::disk_model::DiskModel;
use crate::io::Session;
use crate::test::Test;

/// How many writes are in flight at once.
const SLOTS: u64 = 16;
/// The longest of them, in bytes.
const LONGEST: u64 = 28 << 10;

/// A guest that starts writes without waiting for them, with a model of its disk.
///
/// Writes in flight at the same time never overlap: their order would not be defined.
pub struct Guest {
    session: Session,
    model: DiskModel,
    round: u64,
}

impl Test {
    /// A guest on a disk (an image or an export) that holds what `model` does, of
    /// at least 4 MiB. Only its start is logged.
    ///
    /// # Errors
    ///
    /// Fails if the disk is too small or cannot be opened.
    pub async fn guest(&self, disk: impl Display, model: DiskModel) -> Result<Guest> {
        ensure!(
            model.size() / SLOTS >= 8 * LONGEST,
            "a guest needs a disk of 4 MiB or more"
        );
        let mut session = self.session(disk).await?;
        session.quiet();
        Ok(Guest {
            session,
            model,
            round: 0,
        })
    }
}

impl Guest {
    /// Starts writes, each to another place, and waits for none.
    ///
    /// # Errors
    ///
    /// Fails if `qemu-io` has ended.
    pub async fn write(&mut self) -> Result<()> {
        self.round += 1;
        let pattern = u8::try_from(self.round % 255)? + 1;
        for n in 0..SLOTS {
            let at = n * (self.model.size() / SLOTS) + self.round % 8 * LONGEST;
            let length = LONGEST - n * 512;
            self.session
                .run(format!("aio_write -P {pattern} {at} {length}"))
                .await?;
            self.model.set(at, length, Some(pattern));
        }
        Ok(())
    }

    /// Waits for all writes, and reads the whole disk.
    ///
    /// # Errors
    ///
    /// Fails if a write failed, or anything else is read than was written.
    pub async fn settle(&mut self) -> Result<()> {
        let mut commands = vec!["aio_flush".to_owned()];
        commands.extend(self.model.reads(0, self.model.size()));
        for command in commands {
            let output = self.session.run(&command).await?;
            ensure!(!output.contains("failed"), "{command}: {output}");
        }
        Ok(())
    }

    /// Ends it and returns the model of its disk. Call [`Guest::settle`] first.
    ///
    /// # Errors
    ///
    /// Fails if any of its requests failed.
    pub async fn leave(self) -> Result<DiskModel> {
        self.session.close().await?;
        Ok(self.model)
    }
}
