//! blkverify takes both copies by its own name as well, passes on errors that both
//! meet, and ends where only one of them meets one.
//!
//! group: rw auto quick blkdebug io
//! supported_fmt: qcow2
//! supported_proto: file
//! unsupported_imgopts: data_file
//! needs: driver:blkverify driver:blkdebug

use iotests::prelude::*;

const SIZE: u64 = MIB;

/// Both copies, each with an error for the first request of this kind where wanted.
fn both(images: [&Image; 2], errors: [Option<(&str, u32)>; 2]) -> String {
    let copy = |n: usize| {
        let file = images[n].protocol_node(["one", "two"][n]);
        let mut node = json!({"driver": "blkdebug", "image": file});
        if let Some((kind, errno)) = errors[n] {
            node["inject-error"] =
                json!([{"event": "none", "iotype": kind, "errno": errno, "once": true}]);
        }
        json!({"driver": "raw", "file": node})
    };
    let node = json!({"driver": "blkverify", "test": copy(0), "raw": copy(1)});
    format!("json:{node}")
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let copy = t.image("copy").format("raw").size(SIZE).quiet().await?;

    t.section("by name");
    let commands = [
        "write -P 1 0 64k",
        "writev -P 2 64k 512 1k 512",
        "read -P 1 0 64k",
        "readv -P 2 64k 1k 1k",
        "flush",
        "read -P 0 66k 100k",
    ];
    t.io("blkverify:TEST_DIR/copy:TEST_DIR/t.qcow2", commands).quiet().await?;
    let asynchronous = [
        "aio_write -P 3 128k 64k",
        "aio_write -P 4 256k 1k",
        "aio_flush",
        "aio_read -P 3 128k 64k",
    ];
    t.io("blkverify:TEST_DIR/copy:TEST_DIR/t.qcow2", asynchronous).quiet().await?;
    let found =
        [(1, 0, 64 * KIB), (2, 64 * KIB, 2 * KIB), (3, 128 * KIB, 64 * KIB), (4, 256 * KIB, KIB)];
    t.verify(&img, &found).await?;
    t.verify(&copy, &found).await?;
    t.same(&img, &copy).await?;
    for name in [
        "blkverify:TEST_DIR/copy",
        "blkverify:TEST_DIR/none:TEST_DIR/t.qcow2",
        "blkverify:TEST_DIR/copy:TEST_DIR/none",
    ] {
        t.io(name, ["read 0 512"]).fails().quiet().await?;
        t.log(format!("{name}: refused"));
    }

    let one = t.image("one").format("raw").size(SIZE).quiet().await?;
    let two = t.image("two").format("raw").size(SIZE).quiet().await?;
    for kind in ["read", "write"] {
        let command = format!("{kind} 0 4k");
        for (why, errors, ends) in [
            ("both", [Some((kind, 5)), Some((kind, 5))], false),
            ("the image alone", [Some((kind, 5)), None], true),
            ("the copy alone", [None, Some((kind, 5))], true),
            ("both, each another one", [Some((kind, 5)), Some((kind, 28))], true),
        ] {
            // QEMU compares what two failed reads left in their buffers.
            if (kind, why) == ("read", "both") {
                continue;
            }
            t.section(format!("a {kind} error: {why}"));
            t.io(&one, ["write -P 5 0 1M"]).quiet().await?;
            t.io(&two, ["write -P 5 0 1M"]).quiet().await?;
            let run = t
                .io(both([&one, &two], errors), [command.as_str(), "read -P 5 64k 4k"])
                .fails()
                .quiet()
                .await?;
            let output = run.text();
            ensure!(output.contains("return value mismatch") == ends, "{output}");
            ensure!(output.contains("read 4096/4096") != ends, "{output}");
            t.log(if ends { "it ends" } else { "it is reported, and the next request is served" });
        }
    }
    t.check(&img).await
}
