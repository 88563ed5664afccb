//! Every preallocation mode makes an image that reads as zeroes and does not
//! grow when it is written, as measured, and as long as requested.
//!
//! group: rw auto qcow2 create
//! supported_fmt: qcow2
//! supported_proto: file
//! unsupported_imgopts: data_file
//! file_size: 2G

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

fn length(img: &Image) -> Result<u64> {
    Ok(std::fs::metadata(img.file())?.len())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    for mode in ["off", "metadata", "falloc", "full"] {
        t.section(format!("preallocation={mode}"));
        let img = t.create(SIZE).options(format!("preallocation={mode}")).await?;
        t.io(&img, [format!("read -P 0 0 {SIZE}")]).quiet().await?;
        t.check(&img).await?;
        t.sound(&img)?;
        let before = length(&img)?;
        t.write(&img, &[(1, 0, SIZE)]).await?;
        let after = length(&img)?;
        t.log(format!("the file grew by writing: {}", after > before));
        t.check(&img).await?;
        t.sound(&img)?;
    }

    t.section("it takes as much as measure reports");
    for options in ["cluster_size=4k", "refcount_bits=64"] {
        for size in ["512", "1025M"] {
            let line = format!(
                "measure -O qcow2 -o preallocation=metadata,{options} --size {size} --output=json"
            );
            let printed = t.img(line).quiet().await?.json()?;
            let made = t
                .image("made")
                .without_imgopts()
                .size(size)
                .options(format!("preallocation=metadata,{options}"))
                .quiet()
                .await?;
            let full = printed["fully-allocated"].as_u64().context("a number")?;
            let took = length(&made)?;
            t.log(format!(
                "{size} {options}: as measured: {}",
                took <= full && took + 4 * MIB > full
            ));
        }
    }

    t.section("a mode that there is not");
    t.img("create -f qcow2 -o preallocation=some TEST_DIR/wrong 1M").fails().quiet().await?;
    t.log("refused");
    Ok(())
}
