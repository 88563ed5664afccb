//! VMDK descriptors of about ten kilobytes and more: when the content ID is written anew the rest
//! stays, and the image goes on to be read.
//!
//! group: rw auto quick formats
//! supported_fmt: vmdk
//! supported_proto: file

use iotests::prelude::*;

/// As much of a descriptor as QEMU looks at when it writes a content ID, in bytes.
const LOOKED_AT: usize = 20 * 512;

fn without_id(text: &str) -> Vec<&str> {
    text.trim_end_matches('\0').lines().filter(|line| !line.starts_with("CID=")).collect()
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.section("one extent and comments");
    for length in [LOOKED_AT - 600, LOOKED_AT - 1, LOOKED_AT, LOOKED_AT + 1, 2 * LOOKED_AT] {
        let img =
            t.create("4M").quiet().without_imgopts().options("subformat=monolithicFlat").await?;
        let mut text = std::fs::read_to_string(img.file())?;
        let comment = format!("# {}\n", "-".repeat(77));
        while text.len() + comment.len() <= length {
            text += &comment;
        }
        // QEMU takes the last byte for the end where the length is a multiple of a sector.
        text += &"#".repeat(length - text.len() - 1);
        text += "\n";
        std::fs::write(img.file(), &text)?;
        t.write(&img, &[(1, 0, MIB)]).await?;
        t.verify(&img, &[(1, 0, MIB), (0, MIB, 3 * MIB)]).await?;
        let now = std::fs::read_to_string(img.file())?;
        ensure!(without_id(&now) == without_id(&text), "{length}: other lines have changed");
        t.check(&img).await?;
    }

    t.section("many extents");
    for size in [256 * GIB, 640 * GIB, 2 * TIB] {
        let img = t
            .create(size)
            .quiet()
            .without_imgopts()
            .options("subformat=twoGbMaxExtentSparse")
            .await?;
        let text = std::fs::read_to_string(img.file())?;
        t.write(&img, &[(2, 0, MIB), (3, size - MIB, MIB)]).await?;
        t.verify(&img, &[(2, 0, MIB), (3, size - MIB, MIB)]).await?;
        let now = std::fs::read_to_string(img.file())?;
        ensure!(without_id(&now) == without_id(&text), "{size}: other lines have changed");
        ensure!(t.virtual_size(&img).await? == size, "the size is not {size}");
        t.log(format!("{} GiB: as they have to be", size / GIB));
    }
    Ok(())
}
