//! Zeroes that a guest writes as data are found where that was asked for: they are
//! stored as zeroes or given back, and what is not all zeroes is left as it is.
//!
//! group: rw auto quick zero io qmp
//! supported_fmt: generic
//! unsupported_fmt: luks
//! unsupported_imgopts: data_file preallocation cluster_size=2M
//! supported_proto: file
//! needs: qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for mode in ["off", "on", "unmap"] {
        t.section(format!("detect-zeroes={mode}"));
        let img = t.create(SIZE).quiet().await?;
        let mut model = t.disk_model(SIZE);
        t.apply(&img, &mut model, &[Op::write(1, 0, SIZE)]).await?;
        let mut qsd = t.qsd("").await?;
        let discard = if mode == "unmap" { "unmap" } else { "ignore" };
        qsd.add_with(&img, "disk", json!({"detect-zeroes": mode, "discard": discard})).await?;
        let disk = qsd.export_nbd("disk").await?;
        let zero = |offset: u64, length: u64| Op::write(0, offset, length);
        let ops = [
            zero(0, MIB),
            zero(MIB + 512, 100 * KIB),
            zero(MIB + 300 * KIB + 7, 70_001),
            zero(SIZE - 1, 1),
            Op::write(2, 2 * MIB, 512 * KIB),
            zero(2 * MIB, 64 * KIB),
            Op::write(3, 64 * KIB, 4 * KIB),
        ];
        t.apply(&disk, &mut model, &ops).await?;
        // Zeroes but for one byte, at the start, in the middle, at the end.
        for at in [0, 32 * KIB, 64 * KIB - 1] {
            let bytes = t.path("bytes");
            let mut data = vec![0; 65536];
            data[usize::try_from(at)?] = 5;
            std::fs::write(&bytes, data)?;
            t.io(&disk, [format!("write -s {} 3M 64k", bytes.display())]).quiet().await?;
            model.set(3 * MIB, 64 * KIB, Some(0));
            model.set(3 * MIB + at, 1, Some(5));
            t.io(&disk, model.reads(3 * MIB, 64 * KIB)).quiet().await?;
        }
        t.io(&disk, model.reads(0, SIZE)).quiet().await?;
        qsd.quit().await?;
        t.matches(&img, &model).await?;
        t.check(&img).await?;
        if t.format() == "qcow2" {
            let map = t.map(&img).await?;
            let start = |r: &Value| r["start"].as_u64().unwrap_or(0).min(MIB);
            let end = |r: &Value| {
                (r["start"].as_u64().unwrap_or(0) + r["length"].as_u64().unwrap_or(0)).min(MIB)
            };
            let data: u64 = map
                .iter()
                .filter(|r| r["data"] == true && r["zero"] == false)
                .map(|r| end(r) - start(r))
                .sum();
            ensure!(
                (data == MIB) == (mode == "off"),
                "{mode}: {data} bytes of data in the first MiB"
            );
        }
    }

    t.section("invalid requests");
    let img = t.create(SIZE).quiet().await?;
    let mut qsd = t.qsd("").await?;
    let node = img.node("disk");
    for (what, detect) in [("no such mode", "maybe"), ("unmap where nothing is discarded", "unmap")]
    {
        let mut node = node.clone();
        node["detect-zeroes"] = detect.into();
        ensure!(qsd.ask("blockdev-add", node).await?.is_err(), "{what}: taken");
        t.log(format!("{what}: refused"));
    }
    std::fs::remove_file(t.path("bytes"))?;
    qsd.quit().await
}
