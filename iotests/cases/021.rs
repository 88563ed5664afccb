//! `qemu-img measure` never reports too little: the converted image is no
//! longer than it reported, and full allocation fits as well.
//!
//! group: rw auto quick img convert
//! supported_fmt: generic

use iotests::prelude::*;

const SIZE: u64 = 6 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let targets = [
        ("raw", ""),
        ("qcow2", ""),
        ("qcow2", "cluster_size=4k"),
        ("qcow2", "cluster_size=2M"),
        ("qcow2", "compat=0.10,refcount_bits=16"),
    ];
    for (what, patches) in [
        ("an empty image", &[][..]),
        ("some data", &[(1, 0, 512), (2, 2 * MIB, MIB + 512), (3, SIZE - KIB, KIB)][..]),
        ("data everywhere", &[(9, 0, SIZE)][..]),
    ] {
        t.section(what);
        t.write(&img, patches).await?;
        for (format, options) in targets {
            compare(t, &img, format, options).await?;
        }
        t.log("required and full sizes hold");
    }

    t.section("of a size alone");
    for (size, format) in [("0", "raw"), ("1G", "raw"), ("513", "raw")] {
        let out = t.img(format!("measure --size {size} -O {format} --output=json")).quiet().await?;
        t.log(format!("{size}: {}", out.json()?["required"]));
    }
    for arguments in ["--size 1x", "--size 1M -O unknown", "", "--size 8E"] {
        t.img(format!("measure {arguments}")).fails().quiet().await?;
        t.log(format!("measure {arguments}: refused"));
    }
    Ok(())
}

/// What was measured against what conversion needs, sparse and fully allocated.
async fn compare(t: &Test, img: &Image, format: &str, options: &str) -> Result<()> {
    let mut line = vec!["measure", "--output=json", "-O", format];
    if !options.is_empty() {
        line.extend(["-o", options]);
    }
    let name = img.to_string();
    line.push(&name);
    let printed = t.img(line).quiet().await?.json()?;
    let number = |key: &str| printed[key].as_u64().unwrap_or(0);
    let (required, full) = (number("required"), number("fully-allocated"));
    ensure!(required <= full, "{format} {options}: {required} of {full}");
    for (preallocation, limit) in [("off", required), ("falloc", full)] {
        let out = t.image("out").format(format).size(0).quiet().await?;
        let all = match options {
            "" => format!("preallocation={preallocation}"),
            _ => format!("{options},preallocation={preallocation}"),
        };
        t.img(format!("convert -O {format} -o {all} {img} {out}")).quiet().await?;
        let length = std::fs::metadata(out.file())?.len();
        // The required size counts allocated bytes: a sparse raw file is longer.
        let sparse_raw = format == "raw" && preallocation == "off";
        ensure!(
            sparse_raw || length <= limit,
            "{format} {all}: {length} bytes, and measured were {limit}"
        );
    }
    Ok(())
}
