//! A raw node with offset and size is a window: what is written through it
//! stays inside, and no request reaches beyond.
//!
//! group: rw auto quick io
//! supported_fmt: raw
//! supported_proto: file

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

fn window(offset: u64, size: Option<u64>) -> String {
    let size = size.map(|s| format!(r#", "size": {s}"#)).unwrap_or_default();
    format!(
        r#"json:{{"driver": "raw", "offset": {offset}{size}, "file": {{"driver": "file", "filename": "TEST_DIR/t.IMGFMT"}}}}"#
    )
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut all = t.disk_model(SIZE);
    t.apply(&img, &mut all, &[Op::write(0xee, 0, SIZE)]).await?;

    t.section("in the middle");
    let (start, size) = (MIB + 512, MIB);
    let name = window(start, Some(size));
    let mut inside = DiskModel::new(size);
    inside.set(0, size, Some(0xee));
    let ops = Plan { count: 60, ..Plan::default() }.ops(&mut t.rng(), size);
    ops.iter().for_each(|op| inside.apply(op));
    let mut commands: Vec<String> = ops.iter().map(ToString::to_string).collect();
    commands.extend(inside.reads(0, size));
    t.io(&name, commands).quiet().await?;
    for (offset, length, value) in inside.runs(0, size) {
        all.set(start + offset, length, value);
    }
    t.matches(&img, &all).await?;

    t.section("at its edges");
    t.io(
        &name,
        [
            "length",
            &format!("write -P 1 {} 512", size - 512),
            &format!("write -P 1 {} 1024", size - 512),
            &format!("write -P 1 {size} 512"),
            &format!("discard {} 1024", size - 512),
            &format!("write -z {} 1024", size - 512),
            "truncate 2M",
        ],
    )
    .fails()
    .await?;
    all.set(start + size - 512, 512, Some(1));
    t.matches(&img, &all).await?;
    ensure!(t.virtual_size(&img).await? == SIZE, "the image has another size");

    t.section("without a size: to the end");
    t.io(window(SIZE - MIB, None), ["length", "write -P 2 1020k 4k", "write -P 2 1M 512"])
        .fails()
        .await?;
    all.set(SIZE - 4 * KIB, 4 * KIB, Some(2));
    t.matches(&img, &all).await?;

    t.section("a window in a window");
    let nested = format!(
        r#"json:{{"driver": "raw", "offset": 4096, "size": 8192, "file": {}}}"#,
        window(MIB, Some(64 * KIB)).trim_start_matches("json:")
    );
    t.io(&nested, ["length", "write -P 3 0 8k", "read -P 3 0 8k"]).await?;
    all.set(MIB + 4096, 8192, Some(3));
    t.matches(&img, &all).await?;

    t.section("invalid windows");
    for (what, offset, size) in [
        ("past the end", SIZE + 512, None),
        ("longer than the rest", SIZE - 512, Some(1024)),
        ("not a whole number of sectors", 0, Some(1000)),
        ("beyond all numbers", u64::MAX >> 1, Some(512)),
    ] {
        t.io(window(offset, size), ["length"]).fails().quiet().await?;
        t.log(format!("{what}: refused"));
    }
    Ok(())
}
