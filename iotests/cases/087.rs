//! An image of any format can be a backing file, and a commit into it is found
//! there.
//!
//! group: rw auto quick backing commit
//! supported_fmt: qcow2 qed qcow
//! space: 256M

use iotests::prelude::*;
use iotests::support::GENERIC_FORMATS;

const SIZE: u64 = 3 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let formats: Vec<&str> = GENERIC_FORMATS.into_iter().filter(|f| *f != "luks").collect();
    for (n, &format) in formats.iter().enumerate() {
        let number = n + 1;
        let left_out = if !t.probes().has_driver(t.env(), format) {
            Some("there is no such driver here")
        } else if format == "vhdx" && t.env().valgrind.any() {
            Some("QEMU writes undefined bytes to its log")
        } else {
            None
        };
        if let Some(why) = left_out {
            t.case_not_run(format!("over {format}: {why}"))?;
            t.log(format!("{number} of {}: shown and committed", formats.len()));
            continue;
        }
        let done = over(t, format).await;
        done.with_context(|| format!("over {format}"))?;
        t.log(format!("{number} of {}: shown and committed", formats.len()));
    }
    Ok(())
}

async fn over(t: &Test, format: &str) -> Result<()> {
    let base = t.image("base").format(format).size(SIZE).quiet().await?;
    t.io(&base, ["write -P 1 0 1M", "write -P 2 2M 512"]).quiet().await?;
    let top = t.image("top").size(SIZE).backing(&base).quiet().await?;
    t.io(&top, ["write -P 3 1048064 1024", "write -P 4 3145216 512", "write -z 64k 64k"])
        .quiet()
        .await?;
    let shown = [
        (1, 0, 64 * KIB),
        (0, 64 * KIB, 64 * KIB),
        (1, 128 * KIB, MIB - 512 - 128 * KIB),
        (3, MIB - 512, KIB),
        (0, MIB + 512, MIB - 512),
        (2, 2 * MIB, 512),
        (0, 2 * MIB + 512, MIB - KIB),
        (4, SIZE - 512, 512),
    ];
    t.verify_quietly(&top, &shown).await?;
    if format == "parallels" {
        // Its driver cannot be reopened for writing, which a commit has to do.
        t.img(format!("commit {top}")).fails().quiet().await?;
        return t.verify_quietly(&top, &shown).await;
    }
    t.img(format!("commit {top}")).quiet().await?;
    t.verify_quietly(&base, &shown).await?;
    t.verify_quietly(&top, &shown).await?;
    let output = t.img(format!("check {base}")).any_status().quiet().await?;
    ensure!(matches!(output.status, Some(0 | 63)), "qemu-img check printed: {}", output.text());
    Ok(())
}
