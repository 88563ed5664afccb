//! An unknown header extension stays in the image, whatever is changed in its
//! header.
//!
//! group: auto quick qcow2 backing bitmap
//! supported_fmt: qcow2
//! unsupported_imgopts: compat=0.10 data_file refcount_bits=1 cluster_size=512
//! needs: bitmaps

use iotests::prelude::*;

const KIND: u64 = 0x1234_5678;
const DATA: &[u8] = b"what nobody knows";

/// Appends the unknown extension behind the others.
fn append(t: &Test, img: &Image) -> Result<()> {
    let mut at = t.peek(img, "header.header_length")?;
    let mut index = 0;
    while let Ok(length) = t.peek(img, &format!("ext[{index}].length")) {
        if t.peek(img, &format!("ext[{index}].type"))? == 0 {
            break;
        }
        at += 8 + length.next_multiple_of(8);
        index += 1;
    }
    let mut bytes = u32::try_from(KIND)?.to_be_bytes().to_vec();
    bytes.extend(u32::try_from(DATA.len())?.to_be_bytes());
    bytes.extend(DATA);
    bytes.resize(8 + DATA.len().next_multiple_of(8) + 8, 0);
    t.poke_at(img, at, &bytes)
}

/// Logs how often the extension is there with its data.
fn find(t: &Test, img: &Image, when: &str) -> Result<()> {
    let mut found = 0;
    for index in 0..8 {
        if t.peek(img, &format!("ext[{index}].type")).is_ok_and(|k| k == KIND) {
            found += 1;
        }
    }
    let head = t.peek_at(img, 0, 4096)?;
    let data = head.windows(DATA.len()).any(|w| w == DATA);
    t.log(format!("{when}: {found} of it, its data: {data}"));
    t.sound(img)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").without_imgopts().size("4M").await?;
    t.write(&base, &[(1, 0, 64 * KIB)]).await?;
    let img = t.create("4M").await?;
    append(t, &img)?;
    find(t, &img, "put there")?;
    t.io(&img, ["write -P 2 1M 64k"]).quiet().await?;
    find(t, &img, "data written")?;
    t.img(format!("rebase -u -b {base} -F IMGFMT {img}")).quiet().await?;
    find(t, &img, "a backing file named")?;
    t.img(format!("bitmap --add {img} b0")).quiet().await?;
    find(t, &img, "a bitmap added")?;
    t.img(format!("bitmap --remove {img} b0")).quiet().await?;
    find(t, &img, "and removed")?;
    t.img(format!("snapshot -c one {img}")).quiet().await?;
    t.img(format!("snapshot -d one {img}")).quiet().await?;
    find(t, &img, "a snapshot made and deleted")?;
    t.img(format!("resize {img} 8M")).quiet().await?;
    find(t, &img, "resized")?;
    t.img(format!("amend -o lazy_refcounts=on {img}")).quiet().await?;
    find(t, &img, "amended")?;
    t.img(format!("rebase -u -b '' {img}")).quiet().await?;
    find(t, &img, "the backing file unnamed")?;
    t.verify(&img, &[(0, 0, 64 * KIB), (2, MIB, 64 * KIB), (0, 4 * MIB, 4 * MIB)]).await?;
    t.check(&img).await
}
