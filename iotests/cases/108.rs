//! Snapshots made, applied and deleted in any order bring back just what the disk
//! was, and leave no cluster behind.
//!
//! group: rw auto quick qcow2 snapshot
//! supported_fmt: qcow2
//! unsupported_imgopts: data_file refcount_bits=1

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB + 1024;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let mut rng = t.rng();
    let mut now = t.disk_model(SIZE);
    let plan = Plan { count: 25, ..Plan::default() };
    let mut kept: Vec<(String, DiskModel)> = Vec::new();
    for step in [
        "make one",
        "make two",
        "back to one",
        "make three",
        "lose one",
        "back to two",
        "lose three",
        "lose two",
    ] {
        t.section(step);
        t.apply(&img, &mut now, &plan.ops(&mut rng, SIZE)).await?;
        let (verb, name) = step.rsplit_once(' ').context("a verb and a name")?;
        match verb {
            "make" => {
                t.img(format!("snapshot -c {name} {img}")).await?;
                kept.push((name.to_owned(), now.clone()));
            }
            "back to" => {
                t.img(format!("snapshot -a {name} {img}")).await?;
                let then = kept.iter().find(|(n, _)| n == name).context("a snapshot")?;
                now = then.1.clone();
            }
            _ => {
                t.img(format!("snapshot -d {name} {img}")).await?;
                kept.retain(|(n, _)| n != name);
            }
        }
        t.matches(&img, &now).await?;
        let last = kept.iter().rev().take(1);
        for (name, then) in last {
            let out = t.image("out").format("raw").size(0).quiet().await?;
            t.img(format!("convert -l {name} -O raw {img} {out}")).quiet().await?;
            t.matches(&out, then).await?;
        }
        t.sound(&img)?;
    }
    t.check(&img).await?;

    t.section("snapshots that are not there");
    for line in ["-a", "-d"] {
        t.img(format!("snapshot {line} one {img}")).fails().await?;
    }
    t.matches(&img, &now).await
}
