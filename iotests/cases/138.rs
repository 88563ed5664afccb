//! What becomes of discarded clusters: given back to the file system or kept, freed
//! or kept as they are, at the guest's request or with a snapshot - as was asked.
//!
//! group: rw auto quick qcow2 snapshot zero
//! supported_fmt: qcow2
//! supported_proto: file
//! unsupported_imgopts: data_file preallocation extended_l2 cluster_size=2M cluster_size=512 refcount_bits=1
//! needs: sparse

use std::os::unix::fs::MetadataExt as _;

use iotests::prelude::*;

const SIZE: u64 = 16 * MIB;

/// The image with these options, and discards handed on to the file.
fn node(img: &Image, options: Value) -> String {
    let mut node = img.node("disk");
    node["discard"] = "unmap".into();
    node["file"]["discard"] = "unmap".into();
    if let (Some(node), Some(options)) = (node.as_object_mut(), options.as_object()) {
        node.extend(options.clone());
    }
    format!("json:{node}")
}

/// How much of the disk's size the file takes on its file system.
fn taken(img: &Image) -> Result<&'static str> {
    Ok(match img.file().metadata()?.blocks() * 512 {
        0..8_388_608 => "little",
        _ => "much",
    })
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let fill = format!("write -P 1 0 {SIZE}");
    let empty = format!("discard 0 {SIZE}");
    let zero = format!("read -P 0 0 {SIZE}");

    for (what, options, ignored) in [
        ("all of it discarded", json!({}), false),
        ("and not handed on", json!({"pass-discard-request": false}), false),
        ("and the image ignores it", json!({"discard": "ignore"}), true),
    ] {
        t.section(what);
        let img = t.create(SIZE).quiet().await?;
        t.io(&img, [&fill]).quiet().await?;
        let read = if ignored { format!("read -P 1 0 {SIZE}") } else { zero.clone() };
        t.io(node(&img, options), [&empty, &read]).quiet().await?;
        t.log(format!("clusters in use: {}", t.clusters(&img).await?.1 > 0));
        t.log(format!("the file takes {}", taken(&img)?));
        t.io(&img, [&fill]).quiet().await?;
        t.verify(&img, &[(1, 0, SIZE)]).await?;
        t.check(&img).await?;
    }

    t.section("a snapshot that is deleted");
    for pass in [true, false] {
        let img = t.create(SIZE).quiet().await?;
        t.io(&img, [&fill]).quiet().await?;
        t.img(format!("snapshot -c one {img}")).quiet().await?;
        t.io(node(&img, json!({"pass-discard-request": true})), [&empty, &zero]).quiet().await?;
        t.log(format!("discarded on the disk, the file takes {}", taken(&img)?));
        let opts = format!(
            "driver=qcow2,pass-discard-snapshot={},file.driver=file,file.discard=unmap,file.filename={}",
            if pass { "on" } else { "off" },
            img.file().display()
        );
        t.img(["snapshot", "--image-opts", "-d", "one", &opts]).quiet().await?;
        t.log(format!("deleted with pass-discard-snapshot={pass}, it takes {}", taken(&img)?));
        t.io(&img, [&zero]).quiet().await?;
        t.check(&img).await?;
    }

    t.section("zeroes, unmapped or not");
    for option in ["-u ", ""] {
        let img = t.create(SIZE).quiet().await?;
        t.io(&img, [&fill]).quiet().await?;
        t.io(node(&img, json!({})), [format!("write -z {option}0 {SIZE}"), zero.clone()])
            .quiet()
            .await?;
        t.check(&img).await?;
        t.log(format!("write -z {option}: it reads as zeroes"));
    }
    Ok(())
}
