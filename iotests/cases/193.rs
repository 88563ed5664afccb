//! A detached LUKS header that qemu-img creates takes no room for data, and opens the disk beside
//! it.
//!
//! group: create crypto luks quick
//! supported_fmt: luks
//! supported_proto: file
//! needs: luks qemu>=10.2

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let head = t.path("head");
    let secret = "--object secret,id=key,data=word";
    t.tool(
        Kind::Img,
        format!("create -q {secret} -f luks -o key-secret=key,iter-time=10,detached-header=true TEST_DIR/head 2M"),
    )
    .await?;
    let length = std::fs::metadata(&head).context("no header")?.len();
    ensure!(length < 3 * MIB, "the header takes {length} bytes");
    let data = t.path("data");
    std::fs::File::create(&data).and_then(|f| f.set_len(2 * MIB)).context("no data file")?;
    let node = json!({"driver": "luks", "key-secret": "key", "file": {"driver": "file", "filename": data},
        "header": {"driver": "file", "filename": head}});
    let commands = "-c 'write -q -P 7 64k 64k' -c 'read -q -P 7 64k 64k'";
    t.tool(Kind::Io, format!("{secret} {commands} 'json:{node}'")).quiet().await?;
    let bytes = std::fs::read(&data).context("no data file")?;
    ensure!(bytes.len() as u64 == 2 * MIB, "the data file has {} bytes", bytes.len());
    ensure!(!bytes[64 << 10..128 << 10].iter().all(|b| *b == 7), "the data are not encrypted");
    t.log("a header without data, and data without a header");
    Ok(())
}
