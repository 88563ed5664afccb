//! Steps that many tests take: look at an image, check it, write and verify.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::filter;
use crate::image::Image;
use crate::test::Test;
use crate::tool::{Output, framed};

/// The exit status of `qemu-img check` for formats without a check.
const CHECK_NOT_SUPPORTED: i32 = 63;

/// A pattern in a range: byte value, offset and length in bytes.
pub type Patch = (u8, u64, u64);

impl Test {
    /// Logs what `qemu-img info` prints that is the same for every format: name,
    /// format, virtual size, backing file, snapshots.
    ///
    /// # Errors
    ///
    /// Fails if `info` fails.
    pub async fn info(&self, image: &Image) -> Result<()> {
        let rule = |text: &[u8]| filter::img::snapshots(&filter::img::info(text));
        self.img(["info", &image.to_string()]).filter(rule).await?;
        Ok(())
    }

    /// What `qemu-img info --output=json` prints, not logged.
    ///
    /// # Errors
    ///
    /// Fails if `info` fails.
    pub async fn info_json(&self, image: &Image) -> Result<Value> {
        self.img(["info", "--output=json", &image.to_string()])
            .quiet()
            .await?
            .json()
    }

    /// `qemu-img check` finds nothing wrong. Formats without a check have to report
    /// that; the log is the same.
    ///
    /// # Errors
    ///
    /// Fails if it finds anything, leaks included.
    pub async fn check(&self, image: &Image) -> Result<()> {
        let line = format!("qemu-img check {image}");
        let output = self
            .img(["check", &image.to_string()])
            .quiet()
            .any_status()
            .await?;
        match output.status {
            Some(0) => {}
            Some(CHECK_NOT_SUPPORTED) if output.text().contains("does not support checks") => {}
            status => bail!(
                "exit status {}: {line}\noutput:\n{}",
                status.unwrap_or(-1),
                framed(&output.all())
            ),
        }
        self.log(format!("check {image}: no errors"));
        Ok(())
    }

    /// After a crash: repairs an image that this version of QEMU does not open without
    /// repair, as parallels before 8.2; others are unchanged. Not logged.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started.
    pub async fn after_crash(&self, image: &Image) -> Result<()> {
        if image.format() == "parallels" && self.probes().version(self.env()) < (8, 2) {
            let words = ["check", "-r", "all", &image.to_string()];
            self.img(words).quiet().any_status().await?;
        }
        Ok(())
    }

    /// Logs what `qemu-img check` (with these options, such as `-r all`) prints,
    /// whatever its status, without what depends on the layout.
    ///
    /// # Errors
    ///
    /// Fails if it is ended by a signal.
    pub async fn check_report(&self, image: &Image, options: &[&str]) -> Result<Output> {
        let mut words = vec!["check".to_owned()];
        words.extend(options.iter().map(|o| (*o).to_owned()));
        words.push(image.to_string());
        let output = self
            .img(words)
            .any_status()
            .filter(filter::img::check)
            .await?;
        self.log(format!("exit status {}", output.status.unwrap_or(-1)));
        Ok(output)
    }

    /// How many clusters of the image are compressed, and how many are allocated, as
    /// `qemu-img check` counts them; not logged.
    ///
    /// # Errors
    ///
    /// Fails if `check` finds anything, leaks included.
    pub async fn clusters(&self, image: &Image) -> Result<(u64, u64)> {
        let line = ["check", "--output=json", &image.to_string()];
        let found = self.img(line).quiet().await?.json()?;
        let count = |key: &str| found[key].as_u64().unwrap_or(0);
        Ok((count("compressed-clusters"), count("allocated-clusters")))
    }

    /// Writes patterns in one `qemu-io`, logged as one line each.
    ///
    /// # Errors
    ///
    /// Fails if a write fails.
    pub async fn write(&self, image: &Image, patches: &[Patch]) -> Result<()> {
        self.patterns("write", image, patches).await
    }

    /// Reads in one `qemu-io` and expects these patterns, logged as one line
    /// each.
    ///
    /// # Errors
    ///
    /// Fails if a read fails or finds other bytes.
    pub async fn verify(&self, image: &Image, patches: &[Patch]) -> Result<()> {
        self.patterns("read", image, patches).await
    }

    /// As [`Test::verify`], and logs nothing.
    ///
    /// # Errors
    ///
    /// Fails if a read fails or finds other bytes.
    pub async fn verify_quietly(&self, image: &Image, patches: &[Patch]) -> Result<()> {
        let reads = patches
            .iter()
            .map(|(p, at, len)| format!("read -P {p} {at} {len}"));
        self.io(image, reads).quiet().await?;
        Ok(())
    }

    async fn patterns(&self, verb: &str, image: &Image, patches: &[Patch]) -> Result<()> {
        let commands: Vec<String> = patches
            .iter()
            .map(|(p, at, len)| format!("{verb} -P {p} {at} {len}"))
            .collect();
        self.io(image, &commands).quiet().await?;
        let done = if verb == "write" { "wrote" } else { "found" };
        for (p, at, len) in patches {
            self.log(format!("{image}: {done} {p:#04x} at {at}, {len} bytes"));
        }
        Ok(())
    }

    /// Two images hold the same data; logged.
    ///
    /// # Errors
    ///
    /// Fails if the data differ.
    pub async fn same(&self, a: &Image, b: &Image) -> Result<()> {
        let output = self
            .img(["compare", &a.to_string(), &b.to_string()])
            .quiet()
            .await?;
        ensure!(
            output.text().contains("Images are identical"),
            "qemu-img compare printed: {}",
            output.text()
        );
        self.log(format!("{a} and {b}: identical"));
        Ok(())
    }

    /// The runs of `qemu-img map --output=json`, not logged.
    ///
    /// # Errors
    ///
    /// Fails if `map` fails.
    pub async fn map(&self, image: &Image) -> Result<Vec<Value>> {
        let output = self
            .img(["map", "--output=json", &image.to_string()])
            .quiet()
            .await?
            .json()?;
        let Value::Array(runs) = output else {
            bail!("qemu-img map: not a list")
        };
        Ok(runs)
    }

    /// The virtual size in bytes, not logged.
    ///
    /// # Errors
    ///
    /// Fails if `info` fails.
    pub async fn virtual_size(&self, image: &Image) -> Result<u64> {
        self.info_json(image).await?["virtual-size"]
            .as_u64()
            .context("qemu-img info: no virtual-size")
    }
}
