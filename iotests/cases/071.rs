//! Conversion reads and writes any block node: slices of files, and images named
//! by `json:` or by dotted options.
//!
//! group: rw auto quick convert
//! supported_fmt: generic
//! unsupported_fmt: luks

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let bytes = t.image("bytes").format("raw").size(SIZE).quiet().await?;
    t.write(
        &bytes,
        &[(1, 0, MIB), (2, MIB, 512), (3, MIB + 512, 2 * MIB), (4, 3 * MIB + 512, MIB - 512)],
    )
    .await?;
    let file = json!({"driver": "file", "filename": bytes.file().to_string_lossy()});
    let slice = |offset: u64, size: u64| {
        format!("json:{}", json!({"driver": "raw", "offset": offset, "size": size, "file": file}))
    };

    t.section("a slice is all that is read");
    let out = t.image("out").size(MIB).await?;
    let line = ["convert", "-f", "raw", "-n", "-O", "IMGFMT", &slice(MIB, MIB), &out.to_string()];
    t.img(line).quiet().await?;
    t.verify(&out, &[(2, 0, 512), (3, 512, MIB - 512)]).await?;
    t.check(&out).await?;

    t.section("a slice is all that is written");
    t.write(&out, &[(9, 0, 512), (0, 512, MIB - 512)]).await?;
    t.img(["convert", "-n", "-O", "raw", &out.to_string(), &slice(2 * MIB, MIB)]).quiet().await?;
    t.verify(
        &bytes,
        &[
            (1, 0, MIB),
            (2, MIB, 512),
            (3, MIB + 512, MIB - 512),
            (9, 2 * MIB, 512),
            (0, 2 * MIB + 512, MIB - 512),
            (3, 3 * MIB, 512),
            (4, 3 * MIB + 512, MIB - 512),
        ],
    )
    .await?;

    t.section("dotted options on either side");
    let from = format!(
        "driver=raw,offset=3145728,file.driver=file,file.filename={}",
        bytes.file().display()
    );
    let flat = t.image("flat").format("raw").size(MIB).quiet().await?;
    let to = format!("driver=raw,file.driver=file,file.filename={}", flat.file().display());
    let line = ["convert", "--image-opts", "--target-image-opts", "-n", &from, &to];
    t.img(line).quiet().await?;
    t.verify(&flat, &[(3, 0, 512), (4, 512, MIB - 512)]).await?;

    t.section("invalid arguments");
    for (offset, size) in [(MIB, SIZE), (SIZE + 512, 512), (0, 513)] {
        let name = slice(offset, size);
        t.img(["convert", "-f", "raw", "-O", "raw", &name, "TEST_DIR/none"])
            .fails()
            .quiet()
            .await?;
        t.log(format!("{size} bytes from {offset} of {SIZE}: refused"));
    }
    t.img(["convert", "--target-image-opts", "-O", "raw", &out.to_string(), &to])
        .fails()
        .quiet()
        .await?;
    t.log(format!("a file was made: {}", t.path("none").exists()));
    t.verify(&flat, &[(3, 0, 512), (4, 512, MIB - 512)]).await
}
