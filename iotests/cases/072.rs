//! Nothing but zeroes is converted to nothing but zeroes, whether never written
//! or written as data, and progress is reported.
//!
//! group: rw auto quick convert zero
//! supported_fmt: generic
//! unsupported_fmt: luks

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let empty = t.image("empty").size(SIZE).await?;
    let zeroes = t.image("zeroes").size(SIZE).await?;
    t.write(&zeroes, &[(0, 0, SIZE)]).await?;
    let zero = DiskModel::new(SIZE);
    for source in [&empty, &zeroes] {
        t.section(format!("from {source}"));
        let flat = t.image("flat").format("raw").size(0).quiet().await?;
        let output = t.img(format!("convert -p -O raw {source} {flat}")).quiet().await?.text();
        t.log(format!("comes to its end: {}", output.trim_end().ends_with("(100.00/100%)")));
        t.matches(&flat, &zero).await?;
        let full = t.image("full").size(SIZE).quiet().await?;
        t.write(&full, &[(0xee, 0, SIZE)]).await?;
        t.img(format!("convert -n -O IMGFMT {source} {full}")).await?;
        t.matches(&full, &zero).await?;
        t.same(source, &full).await?;
        let new = t.image("new").size(SIZE).quiet().await?;
        t.img(format!("convert -O IMGFMT {source} {new}")).await?;
        t.matches(&new, &zero).await?;
        t.check(&new).await?;
    }
    Ok(())
}
