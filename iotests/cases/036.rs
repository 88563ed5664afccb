//! A mirror that meets an error on either side follows its policy: it reports
//! and ends, ignores and tries again, or stops and continues when resumed.
//!
//! group: rw auto quick mirror jobs blkdebug
//! supported_fmt: generic
//! needs: qemu-storage-daemon driver:blkdebug

use iotests::prelude::*;

const SIZE: u64 = 2 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.filled("src", SIZE, 7).await?;
    let dst = t.image("dst").size(SIZE).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&src, "src").await?;
    t.copy_under_policies(&mut qsd, "blockdev-mirror", &dst, AtReady::Cancel).await?;
    qsd.quit().await?;
    t.verify(&src, &[(7, 0, SIZE)]).await
}
