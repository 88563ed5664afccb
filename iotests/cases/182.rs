//! A VMDK descriptor made by hand: flat extents that start inside their files
//! are read and written at their offsets, and nothing beside them; wrong ones
//! are refused.
//!
//! group: rw auto quick formats
//! supported_fmt: vmdk
//! supported_proto: file
//! unsupported_imgopts: subformat

use iotests::prelude::*;

/// A descriptor with these lines of extents.
fn descriptor(extents: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
         createType=\"twoGbMaxExtentFlat\"\n\n# Extent description\n{extents}\n\
         # The Disk Data Base\n#DDB\nddb.adapterType = \"ide\"\n"
    )
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let text = |extents: &str| std::fs::write(t.path("d.vmdk"), descriptor(extents));
    let first: Vec<u8> = [vec![0xee; 2048], vec![1; 4096], vec![0xee; 512]].concat();
    std::fs::write(t.path("first"), &first)?;
    std::fs::write(t.path("last"), vec![3; 2048])?;
    text("RW 8 FLAT \"first\" 4\nRW 4 FLAT \"last\" 0")?;

    t.section("read");
    t.io("TEST_DIR/d.vmdk", ["read -P 1 0 4k", "read -P 3 4k 2k", "read 6k 512", "length"])
        .options(["-f", "vmdk"])
        .fails()
        .await?;

    t.section("written");
    t.io("TEST_DIR/d.vmdk", ["write -P 7 0 512", "write -P 8 3584 512", "write -P 9 4k 512"])
        .options(["-f", "vmdk"])
        .await?;
    let mut wanted = first.clone();
    wanted[2048..2560].fill(7);
    wanted[2048 + 3584..2048 + 4096].fill(8);
    ensure!(std::fs::read(t.path("first"))? == wanted, "the first extent's file has other bytes");
    let last = std::fs::read(t.path("last"))?;
    ensure!(
        last[..512] == [9; 512] && last[512..] == [3; 1536],
        "the last extent's file has other bytes"
    );
    t.log("the extents' files hold what was written, and nothing else changed");

    for (what, extents) in [
        ("a missing file", "RW 8 FLAT \"missing\" 0"),
        ("an unknown kind", "RW 8 ROUND \"first\" 0"),
        ("a flat extent without an offset", "RW 8 FLAT \"first\""),
        ("no extent at all", ""),
    ] {
        text(extents)?;
        let run = t
            .io("TEST_DIR/d.vmdk", ["read 0 512"])
            .options(["-f", "vmdk"])
            .any_status()
            .quiet()
            .await?;
        t.log(format!("{what}: {}", if run.status == Some(0) { "opened" } else { "refused" }));
    }
    for file in ["first", "last", "d.vmdk"] {
        std::fs::remove_file(t.path(file))?;
    }
    Ok(())
}
