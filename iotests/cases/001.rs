//! Images of many sizes are created and say what they are.
//!
//! group: rw auto quick create
//! supported_fmt: generic

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("64M").await?;
    t.io(&img, ["write -P 1 0 64k", "read -P 1 0 64k", "read -P 0 64k 64k"]).await?;
    t.info(&img).await?;
    t.check(&img).await
}
