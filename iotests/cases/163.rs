//! Bits that are reserved in L1, L2 and refcount table entries are found when they
//! are set, and the data are read all the same or refused.
//!
//! group: auto quick qcow2 damage
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file compat=0.10

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for (path, bit) in [
        ("l1[0]", 1),
        ("l1[0]", 60),
        ("l2[0].entry[0]", 1),
        ("l2[0].entry[0]", 57),
        ("refcount_table[0]", 3),
    ] {
        t.section(format!("{path}, bit {bit}"));
        let img = t.create(MIB).without_imgopts().quiet().await?;
        t.io(&img, ["write -P 1 0 128k"]).quiet().await?;
        let good = t.peek(&img, path)?;
        t.poke_quietly(&img, path, good | 1 << bit)?;
        t.log(format!("a second reader finds it: {}", !t.defects(&img)?.is_empty()));
        t.check_counts(&img, &[]).await?;
        let read = t.io(&img, ["read -P 1 0 128k"]).options(["-r"]).quiet().any_status().await?;
        t.log(format!("reading: {}", if read.status == Some(0) { "the data" } else { "an error" }));
        t.poke_quietly(&img, path, good)?;
        t.check_counts_quietly(&img, &["-r", "all"]).await?;
        t.verify(&img, &[(1, 0, 128 * KIB)]).await?;
        t.sound(&img)?;
    }
    Ok(())
}
