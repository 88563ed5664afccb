//! The exit status of the tools shows whether they did what they were asked to,
//! and a wrong pattern never passes for the right one.
//!
//! group: rw auto quick img io
//! supported_fmt: generic

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("1M").await?;
    t.write(&img, &[(0x55, 0, 64 * KIB)]).await?;

    t.section("patterns that are not there");
    for command in [
        "read -P 0x54 0 64k",
        "read -P 0x55 0 65537",
        "read -P 0x55 -s 512 -l 65025 0 65537",
        "read -P 0 65535 512",
        "readv -P 0x56 0 512 512",
    ] {
        t.io(&img, [command]).fails().quiet().await?;
        t.log(format!("{command}: failed"));
    }
    t.io(&img, ["read -P 0x55 -s 1k -l 63k 0 96k"]).await?;

    t.section("qemu-io is asked for what is not there");
    for command in
        ["unknown", "read", "read 0", "read x 512", "read 0 -1", "write -P 256 0 512", "writev 0"]
    {
        let output = t.io(&img, [command]).any_status().quiet().await?;
        let reported = output.status != Some(0) || !output.text().trim().is_empty();
        t.log(format!("{command}: reported {reported}"));
    }
    t.io("TEST_DIR/none", ["read 0 512"]).fails().quiet().await?;
    t.io(&img, ["read 0 512", "read 2M 512", "read 0 512"]).fails().quiet().await?;
    t.log("one failure among others counts");

    t.section("qemu-img is asked for what is not there");
    for line in [
        "unknown",
        "info",
        "info TEST_DIR/none",
        "check TEST_DIR/none",
        "map TEST_DIR/none",
        "compare TEST_DIR/none TEST_DIR/none",
        "convert TEST_DIR/none",
        "convert -O raw TEST_DIR/none TEST_DIR/other",
        "commit TEST_DIR/none",
        "rebase -u TEST_DIR/none",
        "resize TEST_DIR/none 1M",
        "snapshot -l TEST_DIR/none",
        "amend -o x=y TEST_DIR/none",
        "dd if=TEST_DIR/none of=TEST_DIR/other",
        "bench TEST_DIR/none",
        "measure TEST_DIR/none",
        "create -f unknown TEST_DIR/none 1M",
    ] {
        t.img(line).fails().quiet().await?;
        t.log(format!("{line}: failed"));
    }
    for name in ["none", "other"] {
        t.log(format!("{name} is there: {}", t.path(name).exists()));
    }
    t.verify(&img, &[(0x55, 0, 64 * KIB), (0x55, 512, 512)]).await
}
