//! What is written in one cache mode is read in every other one.
//!
//! group: rw auto quick io
//! supported_fmt: generic

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;
const MODES: [&str; 5] = ["writeback", "none", "writethrough", "directsync", "unsafe"];

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);
    let direct = t.io(&img, ["length"]).options(["-t", "none"]).any_status().quiet().await?;
    let direct = direct.status == Some(0);
    if !direct {
        t.case_not_run("none, directsync: the file system has no O_DIRECT")?;
    }
    for (n, mode) in MODES.into_iter().enumerate() {
        let used =
            if !direct && matches!(mode, "none" | "directsync") { "writeback" } else { mode };
        let n = n as u64;
        let ops = [
            Op::write(n as u8 + 1, n * MIB + 512, 300 * KIB),
            Op::Zero { offset: n * MIB + 64 * KIB, length: 64 * KIB, unmap: true },
            Op::write(n as u8 + 101, 6 * MIB + n * 1024, 512),
            Op::Flush,
        ];
        for op in &ops {
            model.apply(op);
        }
        t.io(&img, ops.map(|op| op.to_string())).options(["-t", used]).quiet().await?;
        t.log(format!("{mode}: written"));
        for other in MODES {
            let other =
                if !direct && matches!(other, "none" | "directsync") { "writeback" } else { other };
            t.io(&img, model.reads(0, SIZE)).options(["-r", "-t", other]).quiet().await?;
        }
        t.log(format!("{mode}: found in all modes"));
    }
    t.check(&img).await?;

    t.section("an unknown mode");
    t.io(&img, ["read 0 512"]).options(["-t", "fastest"]).fails().quiet().await?;
    t.matches(&img, &model).await
}
