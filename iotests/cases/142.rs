//! An external data file that is named by a URL is refused, or its name is kept, so that no image is
//! made whose data cannot be found.
//!
//! group: create nbd qcow2 quick
//! supported_fmt: qcow2
//! supported_proto: file
//! needs: qemu-storage-daemon data_file qemu>=10.2
//! unsupported_imgopts: data_file compat=0.10

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let disk = t.image("disk").format("raw").size(MIB).quiet().await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&disk, "disk").await?;
    let url = qsd.export_nbd("disk").await?;
    let made = t
        .tool(Kind::Img, format!("create -q -f qcow2 -o data_file={url} TEST_DIR/i 1M"))
        .any_status()
        .quiet()
        .await?;
    if made.status == Some(0) {
        t.tool(Kind::Io, "-f qcow2 -c 'write -P 7 0 64k' TEST_DIR/i").quiet().await?;
        t.tool(Kind::Io, "-f qcow2 -r -c 'read -P 7 0 64k' TEST_DIR/i").quiet().await?;
    }
    t.log("refused, or it works");
    qsd.unexport("nbd-disk").await?;
    qsd.quit().await
}
