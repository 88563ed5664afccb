//! A size that is not a multiple of a sector is rounded up to one, never down,
//! and the last sector holds data.
//!
//! group: rw auto quick create
//! supported_fmt: generic

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for size in [1, 511, 512, 513, 65537, 1_000_000, 3 * MIB + 1] {
        t.section(format!("{size} bytes"));
        let img = t.create(size).await?;
        let rounded = size.next_multiple_of(512);
        let got = t.virtual_size(&img).await?;
        t.log(format!("{got} bytes, and {rounded} are right"));
        t.write(&img, &[(0xee, rounded - 512, 512)]).await?;
        t.verify(&img, &[(0xee, rounded - 512, 512)]).await?;
        t.io(&img, [format!("write -P 1 {rounded} 512"), format!("read {} 513", rounded - 512)])
            .fails()
            .await?;
        let mut model = t.disk_model(rounded);
        model.set(rounded - 512, 512, Some(0xee));
        t.matches(&img, &model).await?;
        t.check(&img).await?;
    }
    Ok(())
}
