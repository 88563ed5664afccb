//! What was flushed is there after the process was killed, and the image can be
//! used at once.
//!
//! group: rw auto quick io
//! supported_fmt: generic
//! unsupported_proto: nbd fuse ssh

use iotests::prelude::*;

const SIZE: u64 = 16 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut model = t.disk_model(SIZE);
    for round in 0..4_u64 {
        t.section(format!("crash {}", round + 1));
        let pattern = round as u8 * 16 + 1;
        let ops = [
            Op::write(pattern, round * MIB, 200 * KIB),
            Op::write(pattern + 1, (round + 8) * MIB - 512, KIB),
            Op::write(pattern + 2, 13 * MIB + round * 512, 512),
            Op::Zero { offset: round * MIB + 64 * KIB, length: 64 * KIB, unmap: round % 2 == 0 },
        ];
        let mut session = t.session(&img).await?;
        for op in &ops {
            session.run(op.to_string()).await?;
            model.apply(op);
        }
        session.run("flush").await?;
        // What is not flushed may be lost, here only.
        session.run("write -P 0xfe 15M 64k").await?;
        model.set(15 * MIB, 64 * KIB, None);
        session.kill().await?;
        t.after_crash(&img).await?;
        // Opened for writing first: what a format repairs, it repairs then.
        t.io(&img, model.reads(0, SIZE)).quiet().await?;
        t.log("what was flushed is there");
        t.matches(&img, &model).await?;
    }

    t.section("in the end");
    t.apply(&img, &mut model, &[Op::write(7, 15 * MIB, 64 * KIB)]).await?;
    t.matches(&img, &model).await?;
    // Room that was given out and not yet used may have leaked; nothing worse.
    let output = t.img(format!("check {img}")).any_status().quiet().await?;
    t.log(format!("errors or corruption: {}", !matches!(output.status, Some(0 | 3 | 63))));
    Ok(())
}
