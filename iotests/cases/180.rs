//! Every sub-format of VMDK keeps data across the boundaries of its extents,
//! and reports its files.
//!
//! group: rw auto quick formats create
//! supported_fmt: vmdk
//! supported_proto: file
//! unsupported_imgopts: subformat
//! needs: sparse
//! file_size: 5G

use iotests::prelude::*;

/// Two extents of 2 GiB and a third of 1 MiB.
const SIZE: u64 = 4 * GIB + MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for kind in ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"]
    {
        t.section(kind);
        let img =
            t.image(kind).size(SIZE).options(format!("subformat={kind}")).without_imgopts().await?;
        t.info(&img).await?;
        let reported = t.info_json(&img).await?;
        let reported = &reported["format-specific"]["data"];
        t.log(format!("create type: {}", reported["create-type"]));
        let extents = reported["extents"].as_array().context("info lists no extents")?;
        let mut files = Vec::new();
        for extent in extents {
            let file = extent["filename"].as_str().context("an extent has no file")?;
            t.log(format!("{file}: {} bytes", extent["virtual-size"]));
            files.push(file.to_owned());
        }
        let edges =
            [(1, 0, 512), (2, 2 * GIB - 512, 1024), (3, 4 * GIB - 512, 1024), (4, SIZE - 512, 512)];
        t.write(&img, &edges).await?;
        t.verify(&img, &edges).await?;
        t.verify(
            &img,
            &[(0, 512, 64 * KIB), (0, 2 * GIB + 512, 64 * KIB), (0, SIZE - MIB / 2, 64 * KIB)],
        )
        .await?;
        t.io(&img, [format!("write -P 5 {} 1024", SIZE - 512)]).fails().await?;
        t.check(&img).await?;
        for file in files.iter().map(std::path::Path::new).filter(|f| *f != img.file()) {
            std::fs::remove_file(file).context("an extent is not there")?;
        }
    }
    Ok(())
}
