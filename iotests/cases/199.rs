//! Whatever a header holds, and wherever a file is truncated: the tools read or
//! refuse the image, and neither crash nor hang.
//!
//! group: rw auto formats damage
//! supported_fmt: generic
//! unsupported_fmt: raw luks
//! supported_aio: threads native
//! supported_proto: file
//! unsupported_imgopts: data_file
//! needs: not-wrapped

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(4 * MIB).await?;
    t.write(&img, &[(1, 0, 64 * KIB), (2, 2 * MIB, 64 * KIB)]).await?;
    let good = std::fs::read(img.file())?;
    let read = || t.io(&img, ["read 0 64k", "read 2M 64k"]).options(["-r"]).any_status().quiet();

    t.section("cut off");
    for length in [0, 1, 7, 63, 100, 511, 512, 1000, 1024, 4096, 65536] {
        let length = good.len().min(length);
        std::fs::write(img.file(), &good[..length])?;
        let run = read().await?;
        ensure!(length >= 63 || run.status != Some(0), "{length} bytes are read as an image");
    }
    t.log("what is too short for a header is refused, and the rest ended well");

    t.section("every word of the header at its largest and smallest");
    let mut words: Vec<usize> = (0..80).step_by(4).collect();
    if t.format() == "parallels" && t.probes().version(t.env()) < (10, 0) {
        t.case_not_run("a wild offset of the extension: before 10.0 an assertion fails")?;
        words.retain(|at| !(56..64).contains(at));
    }
    for at in words {
        for value in [[0xff; 4], [0x7f; 4], [0; 4]] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value);
            std::fs::write(img.file(), &bad)?;
            read().await?;
        }
    }
    t.log("none ended by a signal");

    t.section("and the good one");
    std::fs::write(img.file(), &good)?;
    t.verify(&img, &[(1, 0, 64 * KIB), (0, 64 * KIB, MIB), (2, 2 * MIB, 64 * KIB)]).await?;
    t.check(&img).await
}
