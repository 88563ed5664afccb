//! A raw file that ends inside a sector is converted whole: its last bytes are
//! there, and zeroes up to the sector's end.
//!
//! group: rw auto quick convert
//! supported_fmt: generic

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for length in [1_u64, 511, 513, 65_537, 1_000_001] {
        t.section(format!("{length} bytes"));
        let file = t.path("bytes");
        std::fs::write(&file, vec![0x6d; usize::try_from(length)?])?;
        let whole = length.next_multiple_of(512);
        let out = t.image("out").size(whole).quiet().await?;
        t.write(&out, &[(0xee, 0, whole)]).await?;
        t.img(format!("convert -n -f raw -O IMGFMT TEST_DIR/bytes {out}")).await?;
        t.verify(&out, &[(0x6d, 0, length)]).await?;
        if whole > length {
            t.verify(&out, &[(0, length, whole - length)]).await?;
        }
        t.check(&out).await?;

        let back = t.image("back").format("raw").size(0).quiet().await?;
        t.img(format!("convert -O raw {out} {back}")).await?;
        let bytes = std::fs::read(back.file())?;
        let (head, tail) = bytes.split_at(usize::try_from(length)?.min(bytes.len()));
        t.log(format!(
            "{} bytes; all there: {}; zeroes behind: {}",
            bytes.len(),
            head.iter().all(|b| *b == 0x6d),
            tail.iter().all(|b| *b == 0)
        ));
        std::fs::remove_file(file)?;
    }
    Ok(())
}
