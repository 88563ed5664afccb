//! The null drivers have the size they are given, read as zeroes where
//! configured, and keep nothing.
//!
//! group: rw auto quick io
//! supported_fmt: raw
//! supported_proto: file
//! needs: driver:null-co driver:null-aio

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for driver in ["null-co", "null-aio"] {
        t.section(driver);
        let name =
            format!(r#"json:{{"driver": "{driver}", "size": 1049088, "read-zeroes": true}}"#);
        t.io(
            &name,
            [
                "length",
                "read -P 0 0 1049088",
                "write -P 1 0 64k",
                "read -P 0 0 64k",
                "write -z 0 64k",
                "flush",
                "write 1048576 1024",
            ],
        )
        .fails()
        .await?;
        let late = format!(
            r#"json:{{"driver": "{driver}", "size": 65536, "read-zeroes": true, "latency-ns": 1000000}}"#
        );
        t.io(&late, ["aio_read -P 0 0 64k", "aio_write 0 64k", "aio_flush"]).quiet().await?;
        t.img(["map", &name]).quiet().await?;
        let wrong = format!(r#"json:{{"driver": "{driver}", "latency-ns": -1}}"#);
        t.io(&wrong, ["length"]).fails().quiet().await?;
    }
    t.section("by their URL");
    t.img("info null-co://").filter(iotests::filter::img::info).await?;
    Ok(())
}
