//! Reading through copy-on-read copies data into the overlay, from as far down
//! as configured, and changes nothing that is read.
//!
//! group: rw auto quick backing qmp
//! supported_fmt: qcow2 qed
//! supported_proto: file
//! needs: driver:copy-on-read qemu-storage-daemon
//! unsupported_imgopts: data_file cluster_size=2M

use iotests::prelude::*;

const UNIT: u64 = 64 * KIB;
const SIZE: u64 = 16 * UNIT;

/// The units of 64 KiB whose data is in the top image itself.
async fn own(t: &Test, top: &Image) -> Result<String> {
    let runs = t.map(top).await?;
    let units = (0..SIZE / UNIT).map(|n| {
        let at = n * UNIT;
        let own = runs.iter().any(|r| {
            let (start, length) =
                (r["start"].as_u64().unwrap_or(0), r["length"].as_u64().unwrap_or(0));
            r["depth"] == 0 && r["data"] == true && start <= at && at < start + length
        });
        if own { '#' } else { '.' }
    });
    Ok(units.collect())
}

/// A daemon that exports the chain through copy-on-read, and the export's name.
async fn through_copy_on_read(
    t: &Test,
    chain: &[(&Image, &str)],
    bottom: Option<&str>,
) -> Result<(Daemon, String)> {
    let mut qsd = t.qsd("").await?;
    qsd.add_chain(chain).await?;
    let mut node = json!({"driver": "copy-on-read", "node-name": "cor", "file": "top"});
    if let Some(bottom) = bottom {
        node["bottom"] = bottom.into();
    }
    qsd.qmp("blockdev-add", node).await?;
    let disk = qsd.export_nbd("cor").await?;
    Ok((qsd, disk))
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    t.write(&base, &[(1, 0, SIZE / 2)]).await?;
    let mid = t.image("mid").backing(&base).await?;
    t.write(&mid, &[(2, 2 * UNIT, 2 * UNIT), (3, 12 * UNIT, UNIT)]).await?;
    let all = [
        (1, 0, 2 * UNIT),
        (2, 2 * UNIT, 2 * UNIT),
        (1, 4 * UNIT, 4 * UNIT),
        (0, 8 * UNIT, 4 * UNIT),
        (3, 12 * UNIT, UNIT),
        (0, 13 * UNIT, 3 * UNIT),
    ];

    for bottom in [None, Some("mid")] {
        t.section(format!("down to {}", bottom.unwrap_or("the end of the chain")));
        let top = t.image("top").backing(&mid).await?;
        let chain = [(&base, "base"), (&mid, "mid"), (&top, "top")];
        let (qsd, disk) = through_copy_on_read(t, &chain, bottom).await?;
        t.io(&disk, ["read -P 1 0 64k", "read -P 2 128k 64k", "read -P 3 768k 512"]).await?;
        qsd.quit().await?;
        t.log(own(t, &top).await?);
        t.verify(&top, &all).await?;

        let (qsd, disk) = through_copy_on_read(t, &chain, bottom).await?;
        let reads = all.iter().map(|(p, at, len)| format!("read -P {p} {at} {len}"));
        t.io(&disk, reads).quiet().await?;
        t.io(&disk, ["write -P 7 256k 512"]).await?;
        qsd.quit().await?;
        t.log(own(t, &top).await?);
        t.verify(
            &top,
            &[all[0], all[1], (7, 4 * UNIT, 512), (1, 4 * UNIT + 512, 4 * UNIT - 512), all[4]],
        )
        .await?;
        t.check(&top).await?;
    }
    t.verify(&base, &[(1, 0, SIZE / 2), (0, SIZE / 2, SIZE / 2)]).await?;
    t.verify(&mid, &all).await
}
