//! A backing file may be any block node, named by `json:`: a slice of a file, a
//! device of zeroes, a throttled image.
//!
//! group: rw auto quick backing
//! supported_fmt: qcow2 qed

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let bytes = t.image("bytes").format("raw").size(8 * MIB).quiet().await?;
    t.write(&bytes, &[(1, 0, 2 * MIB), (2, 2 * MIB, 4 * MIB), (3, 6 * MIB, 2 * MIB)]).await?;
    let file = json!({"driver": "file", "filename": bytes.file().to_string_lossy()});

    t.section("a slice of a file");
    let node = json!({"driver": "raw", "offset": MIB, "size": 2 * MIB, "file": file});
    let top = t.image("top").backing_name(format!("json:{node}"), "raw").quiet().await?;
    t.log(format!("as long as the slice: {}", t.virtual_size(&top).await? == 2 * MIB));
    t.verify(&top, &[(1, 0, MIB), (2, MIB, MIB)]).await?;
    t.write(&top, &[(9, MIB - 512, KIB)]).await?;
    t.verify(&top, &[(1, 0, MIB - 512), (9, MIB - 512, KIB), (2, MIB + 512, MIB - 512)]).await?;
    t.check(&top).await?;

    t.section("committed into the slice");
    let node = json!({"driver": "raw", "offset": MIB, "size": 2 * MIB, "file": file});
    let top = t.image("top").backing_name(format!("json:{node}"), "raw").quiet().await?;
    t.write(&top, &[(7, 0, 512), (8, 2 * MIB - 512, 512)]).await?;
    t.img(format!("commit {top}")).quiet().await?;
    t.verify(
        &bytes,
        &[
            (1, 0, MIB),
            (7, MIB, 512),
            (1, MIB + 512, MIB - 512),
            (2, 2 * MIB, MIB - 512),
            (8, 3 * MIB - 512, 512),
            (2, 3 * MIB, 3 * MIB),
        ],
    )
    .await?;

    t.section("nothing but zeroes");
    let zeroes = json!({"driver": "null-co", "size": 4 * MIB, "read-zeroes": true});
    let node = json!({"driver": "raw", "file": zeroes});
    let top = t.image("top").backing_name(format!("json:{node}"), "raw").quiet().await;
    match top {
        Ok(top) => {
            t.write(&top, &[(5, 3 * MIB, 512)]).await?;
            t.verify(&top, &[(0, 0, 3 * MIB), (5, 3 * MIB, 512), (0, 3 * MIB + 512, MIB - 512)])
                .await?;
        }
        Err(error) => bail!("a null device was refused: {error:#}"),
    }

    t.section("not a node");
    for name in ["json:{", "json:[]", "json:{\"driver\": \"none\"}", "json:{\"driver\": \"raw\"}"] {
        t.img(["create", "-f", "IMGFMT", "-b", name, "-F", "raw", "TEST_DIR/none"])
            .fails()
            .quiet()
            .await?;
        t.log(format!("{name}: refused"));
    }
    t.log(format!("a file was made: {}", t.path("none").exists()));
    Ok(())
}
