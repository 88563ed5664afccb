//! File systems on the guest's disks, and what a disk holds.

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use super::LinuxGuest;
use crate::image::Image;
use crate::test::Test;

impl LinuxGuest {
    /// Makes an ext4 file system on a disk, and mounts it at `/mnt`.
    ///
    /// # Errors
    ///
    /// Fails if that is not done.
    pub async fn make_file_system(&mut self, id: &str) -> Result<()> {
        self.run(format!("/sbin/mke2fs -q -t ext4 -E nodiscard /dev/{id}"))
            .await?;
        self.mount(id).await
    }

    /// Mounts the file system of a disk at `/mnt`.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be mounted.
    pub async fn mount(&mut self, id: &str) -> Result<()> {
        self.run(format!("mount -t ext4 /dev/{id} /mnt")).await?;
        Ok(())
    }

    /// Unmounts `/mnt`, and checks the file system of the disk, which has to be clean.
    ///
    /// # Errors
    ///
    /// Fails with what `e2fsck` prints if anything is wrong.
    pub async fn unmount(&mut self, id: &str) -> Result<()> {
        self.run("umount /mnt").await?;
        self.check_file_system(id).await
    }

    /// The file system of a disk has no errors, after its journal was replayed.
    ///
    /// # Errors
    ///
    /// Fails with what `e2fsck` prints if anything is wrong.
    pub async fn check_file_system(&mut self, id: &str) -> Result<()> {
        self.quiet(format!("/sbin/e2fsck -fn /dev/{id}")).await?;
        self.vm.ctx.log(format!("e2fsck {id}: no errors"));
        Ok(())
    }

    /// The SHA-256 of a disk or file, read from the disk and not from the guest's memory; not
    /// logged.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read.
    pub async fn hash(&mut self, file: &str) -> Result<String> {
        let command = format!("sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum <{file}");
        first_word(&self.quiet(command).await?)
    }
}

impl Test {
    /// After a crash: an image that was in use may have leaks, and a note that it was in use;
    /// these are repaired. Not logged.
    ///
    /// # Errors
    ///
    /// Fails if anything else is wrong with it.
    pub async fn settle(&self, image: &Image) -> Result<()> {
        self.after_crash(image).await?;
        // These note that they are in use. Whoever opens them for writing does what a repair
        // does, which a check alone takes for damage.
        if matches!(image.format(), "parallels" | "qed" | "vhdx") {
            let words = ["check", "-r", "all", &image.to_string()];
            self.img(words).quiet().any_status().await?;
        }
        let words = ["check", "--output=json", &image.to_string()];
        let found = self.img(words).quiet().any_status().await?;
        // Formats without a check say so in words.
        let Ok(report) = found.json() else {
            return Ok(());
        };
        let count = |key: &str| report[key].as_u64().unwrap_or(0);
        let wrong = count("corruptions") + count("check-errors");
        ensure!(wrong == 0, "{image} is damaged after a crash: {report}");
        if count("leaks") > 0 {
            let words = ["check", "-r", "leaks", &image.to_string()];
            // Not every format can give them back.
            self.img(words).quiet().any_status().await?;
        }
        Ok(())
    }

    /// The images of disks are whole, and have the bytes with these SHA-256, in the same order.
    ///
    /// # Errors
    ///
    /// Fails if one is damaged or has others.
    pub async fn have_hashes(&self, disks: &[(Image, String)], hashes: &[String]) -> Result<()> {
        self.section("the images");
        for ((image, _), hash) in disks.iter().zip(hashes) {
            self.check(image).await?;
            self.has_hash(image, hash).await?;
        }
        Ok(())
    }

    /// An image has the bytes with this SHA-256, from first to last, as
    /// [`LinuxGuest::hash`] had them.
    ///
    /// # Errors
    ///
    /// Fails if it has others, or cannot be read.
    pub async fn has_hash(&self, image: &Image, hash: &str) -> Result<()> {
        let shown = image.to_string();
        let words = ["convert", "-O", "raw", &shown, "TEST_DIR/disk.bytes"];
        self.img(words).quiet().await?;
        let path = self.path("disk.bytes");
        let output = Command::new("sha256sum").arg(&path).output().await;
        let output = output.context("failed to run sha256sum")?.stdout;
        let _ = std::fs::remove_file(path);
        let got = first_word(&String::from_utf8_lossy(&output))?;
        ensure!(
            got == hash,
            "{image} has not what the guest read: {got}, not {hash}"
        );
        self.log(format!("{image} has what the guest read"));
        Ok(())
    }
}

fn first_word(text: &str) -> Result<String> {
    let word = text.split_whitespace().next();
    Ok(word.context("no SHA-256 was printed")?.to_owned())
}
