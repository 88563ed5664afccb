//! `qemu-img bench` writes the bytes it is asked to write, where it is asked to,
//! and no others.
//!
//! group: rw auto quick img
//! supported_fmt: generic
//! unsupported_fmt: luks

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);

    t.section("steps longer than the requests");
    bench(t, &img, "-w --pattern=90 -c 32 -d 8 -s 4096 -S 12288 -o 65536").await?;
    for n in 0..32 {
        model.set(65536 + n * 12288, 4096, Some(90));
    }
    t.matches(&img, &model).await?;

    t.section("one at a time, flushed in between");
    bench(t, &img, "-w --pattern=17 -c 20 -d 1 -s 1536 -o 2097152 --flush-interval=4").await?;
    model.set(2 * MIB, 20 * 1536, Some(17));
    t.matches(&img, &model).await?;

    t.section("flushed without waiting for others");
    bench(t, &img, "-w --pattern=18 -c 40 -d 6 -s 8192 -o 3145728 --flush-interval=8 --no-drain")
        .await?;
    model.set(3 * MIB, 40 * 8192, Some(18));
    t.matches(&img, &model).await?;

    t.section("reads change nothing");
    bench(t, &img, "-c 100 -d 16 -s 65536").await?;
    t.matches(&img, &model).await?;

    t.section("invalid arguments");
    if t.probes().version(t.env()) < (10, 0) {
        t.case_not_run("bench with no depth or no size: QEMU 7.2 takes it, and never ends")?;
    } else {
        for options in ["-d 0", "-s 0"] {
            t.img(format!("bench {options} {img}")).fails().quiet().await?;
        }
    }
    for options in ["-c x", "--pattern=256 -w", "--flush-interval=4 -c 1"] {
        t.img(format!("bench {options} {img}")).fails().quiet().await?;
        t.log(format!("{options}: refused"));
    }
    t.matches(&img, &model).await?;
    t.check(&img).await
}

/// Everything but the time it took.
async fn bench(t: &Test, img: &Image, options: &str) -> Result<()> {
    let kept = |text: &[u8]| {
        let lines = text.split_inclusive(|b| *b == b'\n');
        lines.filter(|l| !l.starts_with(b"Run completed in ")).flatten().copied().collect()
    };
    t.img(format!("bench {options} {img}")).filter(kept).await?;
    Ok(())
}
