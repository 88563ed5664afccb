//! Writes, snapshots, bitmaps, resizing, amendments and compressed copies over
//! a long time, and the disk always matches the model.
//!
//! group: rw auto qcow2 snapshot bitmap resize
//! supported_fmt: qcow2
//! unsupported_imgopts: compat=0.10 data_file refcount_bits=1 refcount_bits=2
//! needs: bitmaps resize

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut img = t.create(3 * MIB).await?;
    let mut rng = t.rng();
    let mut now = t.disk_model(3 * MIB);
    let mut kept: Vec<(String, DiskModel)> = Vec::new();
    let plan = Plan { count: 20, discards: true, ..Plan::default() };
    let snapshot =
        |kept: &[(String, DiskModel)], n: usize| kept.get(n % kept.len().max(1)).cloned();
    for year in 0..16usize {
        t.section(format!("year {year}"));
        let ops = plan.ops(&mut rng, now.size());
        t.apply(&img, &mut now, &ops).await?;
        match year % 8 {
            0 | 3 => {
                let name = format!("s{year}");
                t.img(format!("snapshot -c {name} {img}")).await?;
                kept.push((name, now.clone()));
            }
            1 => {
                let size = now.size() + 700 * KIB;
                t.img(format!("resize {img} {size}")).await?;
                now.resize(size);
            }
            2 => {
                t.img(format!("bitmap --add -g 64k {img} b{year}")).await?;
                let ops = plan.ops(&mut rng, now.size());
                t.apply(&img, &mut now, &ops).await?;
                t.img(format!("bitmap --remove {img} b{year}")).await?;
            }
            4 => {
                let (name, then) = snapshot(&kept, year / 4).context("a snapshot")?;
                t.img(format!("snapshot -a {name} {img}")).await?;
                now = then;
            }
            5 => {
                let (name, _) = kept.remove(0);
                t.img(format!("snapshot -d {name} {img}")).await?;
            }
            6 => {
                let lazy = if year > 8 { "off" } else { "on" };
                t.img(format!("amend -o lazy_refcounts={lazy} {img}")).await?;
            }
            _ => {
                // A discarded range may read as anything, and be copied as zeroes.
                let copy = t.image(&format!("copy{year}")).size(now.size()).await?;
                t.img(format!("convert -c -n -O IMGFMT {img} {copy}")).await?;
                t.same(&img, &copy).await?;
                img = copy;
                kept.clear();
            }
        }
        t.matches(&img, &now).await?;
        t.sound(&img)?;
    }
    t.check(&img).await
}
