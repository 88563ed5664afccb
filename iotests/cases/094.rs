//! A rebase in a chain whose images have clusters of different sizes, some larger than its buffer,
//! leaves the disk as it was.
//!
//! group: rw auto quick rebase backing
//! supported_fmt: qcow2
//! unsupported_imgopts: cluster_size data_file compat=0.10
//! needs: qemu>=10.2

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    const SIZE: u64 = 8 * MIB;
    for (middle, upper) in [("1M", "2M"), ("64k", "2M"), ("2M", "512"), ("2M", "1M")] {
        t.section(format!("{middle} below {upper}"));
        let low = t.image("low").size(SIZE).quiet().await?;
        let mid =
            t.image("mid").backing(&low).options(format!("cluster_size={middle}")).quiet().await?;
        let top =
            t.image("top").backing(&mid).options(format!("cluster_size={upper}")).quiet().await?;
        let mut model = t.disk_model(SIZE);
        t.apply(&mid, &mut model, &[Op::write(42, MIB, 2 * MIB), Op::write(7, 5 * MIB + 512, 512)])
            .await?;
        t.img(format!("rebase -F {} -b {low} {top}", t.format())).await?;
        t.matches(&top, &model).await?;
        t.check(&top).await?;
    }
    Ok(())
}
