//! Errors that blkdebug injects reach the requester, with their number, once or
//! always, and at the configured events; the image stays intact.
//!
//! group: rw auto quick blkdebug io
//! supported_fmt: generic
//! unsupported_fmt: parallels
//! unsupported_imgopts: data_file
//! supported_proto: file
//! needs: driver:blkdebug

use iotests::prelude::*;

fn name(t: &Test, options: &str) -> String {
    let secret = if t.format() == "luks" { r#""key-secret": "sec0", "# } else { "" };
    format!(
        r#"json:{{"driver": "IMGFMT", {secret}"file": {{"driver": "blkdebug", {options}, "image": {{"driver": "file", "filename": "TEST_DIR/t.IMGFMT"}}}}}}"#
    )
}

/// Runs commands and logs how each went, without what a format says of itself.
async fn outcome(t: &Test, options: &str, commands: &[&str]) -> Result<()> {
    t.section(options);
    let output = t.io(name(t, options), commands).any_status().quiet().await?.text();
    let results: Vec<&str> = output
        .lines()
        .map(|l| l.trim_start_matches("qemu-io> "))
        .filter(|l| l.contains(" bytes at ") || l.contains(" failed: ") || l.contains("can't open"))
        .collect();
    ensure!(results.len() == commands.len(), "{} results: {output}", results.len());
    for (command, result) in commands.iter().zip(results) {
        t.log(format!("{command}: {result}"));
    }
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(4 * MIB).await?;
    t.write(&img, &[(1, 0, MIB)]).await?;

    let once =
        r#""inject-error": [{"event": "none", "iotype": "write", "errno": 28, "once": true}]"#;
    outcome(t, once, &["write -P 2 64k 512", "write -P 2 64k 512", "read -P 2 64k 512"]).await?;
    let always = r#""inject-error": [{"event": "none", "iotype": "write", "errno": 5}]"#;
    outcome(t, always, &["write -P 3 128k 512", "write -P 3 128k 512", "read -P 1 128k 512"])
        .await?;
    t.verify(
        &img,
        &[(1, 0, 64 * KIB), (2, 64 * KIB, 512), (1, 64 * KIB + 512, MIB - 64 * KIB - 512)],
    )
    .await?;
    t.check(&img).await
}
