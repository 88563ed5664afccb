//! A rebase that compresses copies into compressed clusters what it has to copy,
//! changes nothing that is shown, and touches nothing that is its own already.
//!
//! group: rw auto quick backing rebase
//! supported_fmt: qcow2
//! supported_proto: file
//! unsupported_imgopts: data_file compat=0.10 preallocation extended_l2 cluster_size=2M
//! supported_aio: threads native
//! needs: qemu>=8.2

use iotests::prelude::*;

const SIZE: u64 = 8 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let plan = Plan { count: 40, longest: 200 * KIB, ..Plan::default() };
    let mut rng = t.rng();
    let old = t.image("old").size(SIZE).await?;
    let mut seen = t.disk_model(SIZE);
    t.apply(&old, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    // Alike in its first half, so that little is to be copied there.
    let new = t
        .image("new")
        .options("cluster_size=4k,extended_l2=off")
        .size(SIZE - 100 * KIB - 512)
        .await?;
    let halves = seen.runs(0, SIZE / 2);
    let alike: Vec<Patch> = halves.filter_map(|(at, len, value)| Some((value?, at, len))).collect();
    t.io(&new, alike.iter().map(|(p, at, len)| format!("write -P {p} {at} {len}"))).quiet().await?;
    t.write(&new, &[(0xee, 5 * MIB, MIB)]).await?;

    for (what, onto) in [("onto another backing file", Some(&new)), ("onto none", None)] {
        t.section(what);
        let top = t.image("top").backing(&old).quiet().await?;
        let mut shown = seen.clone();
        let own = Plan { count: 6, zeroes: false, ..plan }.ops(&mut rng, SIZE);
        t.apply(&top, &mut shown, &own).await?;
        let (packed, before) = t.clusters(&top).await?;
        ensure!(packed == 0, "there are compressed clusters already");
        let plain = t.image("plain").backing(&old).quiet().await?;
        t.io(&plain, own.iter().map(ToString::to_string)).quiet().await?;
        for (img, option) in [(&top, "-c"), (&plain, "")] {
            let below = onto.map_or("-b ''".to_owned(), |new| format!("-b {new} -F IMGFMT"));
            t.img(format!("rebase {option} {below} {img}")).await?;
            t.matches(img, &shown).await?;
            t.check(img).await?;
        }
        let (packed, all) = t.clusters(&top).await?;
        t.log(format!("what was copied is compressed: {}", packed > 0 && all - packed <= before));
        let (packed, _) = t.clusters(&plain).await?;
        t.log(format!("without -c: {packed} compressed clusters"));
        let shorter = top.file().metadata()?.len() < plain.file().metadata()?.len();
        t.log(format!("the file is shorter: {shorter}"));
    }

    t.section("where it is not supported");
    let raw = t.image("raw").format("raw").size(MIB).quiet().await?;
    t.img(format!("rebase -c -b '' {raw}")).fails().quiet().await?;
    t.log("a format without it: refused");
    Ok(())
}
