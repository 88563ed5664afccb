//! Images that tests often make, and chains of them in a running process.

use anyhow::Result;
use serde_json::json;

use crate::create::Builder;
use crate::daemon::Daemon;
use crate::image::Image;
use crate::test::Test;

impl Test {
    /// An image that will be made at `TEST_DIR/NAME.IMGFMT`, with clusters of at most
    /// 2 MiB: jobs copy whole clusters of their target, and those of small VHDX images
    /// have 8 MiB. Not logged.
    pub fn target(&self, name: &str, size: u64) -> Builder {
        let image = self.image(name).size(size).quiet();
        if self.format() == "vhdx" {
            image.options("block_size=2M")
        } else {
            image
        }
    }

    /// Makes an image `TEST_DIR/NAME.IMGFMT` of `size` bytes that holds this pattern
    /// all over; logged.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made or written.
    pub async fn filled(&self, name: &str, size: u64, pattern: u8) -> Result<Image> {
        let image = self.image(name).size(size).await?;
        self.write(&image, &[(pattern, 0, size)]).await?;
        Ok(image)
    }
}

impl Daemon {
    /// Adds a chain of images as nodes of these names, from the base up: each is an
    /// overlay of the one before it, and all but the last are read-only. Logged.
    ///
    /// # Errors
    ///
    /// Fails if QEMU rejects one.
    pub async fn add_chain(&mut self, chain: &[(&Image, &str)]) -> Result<()> {
        for (n, (image, node)) in chain.iter().enumerate() {
            let mut options = json!({});
            if n > 0 {
                options["backing"] = chain[n - 1].1.into();
            }
            if n + 1 < chain.len() {
                options["read-only"] = true.into();
            }
            self.add_with(image, node, options).await?;
        }
        Ok(())
    }
}
