//! Images are recognised by their contents; a guest cannot turn a raw disk
//! whose format was not given into an image of another format.
//!
//! group: rw auto quick formats img
//! supported_fmt: generic
//! supported_proto: file
//! unsupported_imgopts: data_file

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(4 * MIB).await?;
    t.write(&img, &[(1, 0, 512)]).await?;
    // Under another name, so that nothing but its bytes says what it is.
    std::fs::copy(img.file(), t.path("copy"))?;
    t.tool(Kind::Img, "info TEST_DIR/copy").filter(iotests::filter::img::info).await?;

    t.section("onto a raw disk that was probed");
    let header = t.peek_at(&img, 0, 512)?;
    std::fs::write(t.path("header"), &header)?;
    std::fs::write(t.path("disk"), vec![7; 65536])?;
    let run = t.io("TEST_DIR/disk", ["write -s TEST_DIR/header 0 512", "read -P 7 512 63k"]);
    run.any_status().quiet().await?;
    let reported = t.tool(Kind::Img, "info --output=json TEST_DIR/disk").quiet().await?.json()?;
    t.log(format!("it is still raw: {}", reported["format"] == "raw"));
    ensure!(
        std::fs::read(t.path("disk"))?[512..] == [7; 65024],
        "more than the header has changed"
    );

    t.section("onto one that is declared as raw");
    t.io("TEST_DIR/disk", ["write -P 9 0 512", "read -P 9 0 512"]).options(["-f", "raw"]).await?;
    for file in ["copy", "header", "disk"] {
        std::fs::remove_file(t.path(file))?;
    }
    Ok(())
}
