//! Rules of blkdebug apply to the requests they name and to no others: by kind, by
//! sector, in a state; those in a file are the same rules, and wrong ones are refused.
//!
//! group: rw auto quick blkdebug io
//! supported_fmt: qcow2
//! supported_proto: file
//! supported_cache: writeback none
//! unsupported_imgopts: data_file
//! needs: driver:blkdebug qemu-storage-daemon

use iotests::prelude::*;

/// A node with these rules below a format.
fn name(format: &str, file: &str, rules: &Value) -> String {
    let mut below = json!({"driver": "blkdebug", "image": {"driver": "file", "filename": format!("TEST_DIR/{file}")}});
    for (key, value) in rules.as_object().into_iter().flatten() {
        below[key] = value.clone();
    }
    format!("json:{}", json!({"driver": format, "file": below}))
}

/// Which of these commands fail, each - or each pair - in a process of its own.
async fn failing(t: &Test, name: &str, commands: &[&str]) -> Result<String> {
    let mut failed = Vec::new();
    for command in commands {
        let run =
            t.io(name, command.split("; ")).options(["-d", "unmap"]).any_status().quiet().await?;
        ensure!(!run.text().contains("can't open"), "{}", run.text());
        if run.status != Some(0) {
            failed.push(*command);
        }
    }
    Ok(failed.join(", "))
}

/// How the commands go one after the other in one process: a letter each.
async fn in_turn(t: &Test, name: &str, commands: &[&str]) -> Result<String> {
    let output = t.io(name, commands).any_status().quiet().await?.text();
    let each = output.split("qemu-io> ").skip(1).take(commands.len());
    Ok(each.map(|piece| if piece.contains("failed") { 'x' } else { '.' }).collect())
}

async fn kinds_and_sectors(t: &Test) -> Result<()> {
    t.section("by kind");
    let commands = [
        "read 0 512",
        "write 0 512",
        "write -z 0 64k",
        "discard 0 64k",
        "write 0 512; flush",
        "alloc 0 64k",
    ];
    for kind in ["read", "write", "write-zeroes", "discard", "flush", "block-status"] {
        for immediately in [false, true] {
            let rule =
                json!({"event": "none", "iotype": kind, "errno": 5, "immediately": immediately});
            let name = name("raw", "plain", &json!({"inject-error": [rule]}));
            t.log(format!(
                "{kind}, immediately={immediately}: {}",
                failing(t, &name, &commands).await?
            ));
        }
    }

    t.section("by sector");
    let rule = json!({"inject-error": [{"event": "none", "sector": 8, "errno": 5}]});
    let commands = [
        "read 0 4k",
        "read 4k 512",
        "read 4607 1",
        "read 4608 512",
        "read 0 8k",
        "write 4k 512",
        "write 8k 8k",
        "flush",
    ];
    t.log(failing(t, &name("raw", "plain", &rule), &commands).await?);
    Ok(())
}

async fn states_and_files(t: &Test) -> Result<()> {
    let commands = [
        "read 0 512",
        "write 0 512",
        "read 0 512",
        "write 512 512",
        "read 0 512",
        "read 0 512",
        "write 0 512",
    ];
    t.section("in a state: the read after the second write, once");
    let rules = json!({
        "set-state": [
            {"event": "write_aio", "state": 1, "new_state": 2},
            {"event": "write_aio", "state": 2, "new_state": 3},
        ],
        "inject-error": [{"event": "read_aio", "state": 3, "errno": 5, "once": true}],
    });
    t.log(in_turn(t, &name("qcow2", "t.qcow2", &rules), &commands).await?);

    t.section("the same rules from a file");
    let file = t.path("rules");
    let text = "[set-state]\nevent = \"write_aio\"\nstate = \"1\"\nnew_state = \"2\"\n\
        [set-state]\nevent = \"write_aio\"\nstate = \"2\"\nnew_state = \"3\"\n\
        [inject-error]\nevent = \"read_aio\"\nstate = \"3\"\nerrno = \"5\"\nonce = \"on\"\n";
    std::fs::write(&file, text)?;
    let by_file = name("qcow2", "t.qcow2", &json!({"config": "TEST_DIR/rules"}));
    t.log(in_turn(t, &by_file, &commands).await?);
    t.log(in_turn(t, "blkdebug:TEST_DIR/rules:TEST_DIR/t.qcow2", &commands).await?);

    t.section("files that hold no rules");
    for (why, text) in [
        ("no event", "[inject-error]\nerrno = \"5\"\n"),
        ("an event that there is not", "[inject-error]\nevent = \"no_such_event\"\n"),
        ("a kind that there is not", "[inject-error]\nevent = \"read_aio\"\niotype = \"sing\"\n"),
        ("a state that is not a number", "[set-state]\nevent = \"read_aio\"\nnew_state = \"x\"\n"),
        ("a key that there is not", "[inject-error]\nevent = \"read_aio\"\ncolour = \"blue\"\n"),
        ("a section that there is not", "[rules]\nevent = \"read_aio\"\n"),
        ("no section", "event = \"read_aio\"\n"),
    ] {
        std::fs::write(&file, text)?;
        t.io(&by_file, ["read 0 512"]).fails().quiet().await?;
        t.log(format!("{why}: refused"));
    }
    std::fs::remove_file(&file)?;
    t.io(&by_file, ["read 0 512"]).fails().quiet().await?;
    t.log("no file: refused");
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(MIB).await?;
    t.write(&img, &[(1, 0, MIB)]).await?;
    let plain = t.image("plain").format("raw").size(MIB).quiet().await?;
    t.io(&plain, ["write -P 1 0 1M"]).quiet().await?;
    kinds_and_sectors(t).await?;
    states_and_files(t).await?;

    t.section("a request that is stopped, and its breakpoint taken away");
    // QEMU says that there is no such breakpoint, and lets the request go on.
    let run = t.io(
        name("qcow2", "t.qcow2", &json!({})),
        [
            "break write_aio A",
            "aio_write -P 7 0 4k",
            "wait_break A",
            "read -P 1 64k 4k",
            "remove_break A",
            "aio_flush",
            "read -P 7 0 4k",
            "break write_aio B",
            "remove_break B",
            "write -P 8 4k 4k",
            "read -P 8 4k 4k",
        ],
    );
    let output = run.any_status().quiet().await?.text();
    ensure!(output.matches("wrote 4096/4096").count() == 2, "{output}");
    ensure!(
        output.matches("read 4096/4096").count() == 3 && !output.contains("failed"),
        "{output}"
    );
    t.log("it goes on, and the next is not stopped");
    for wrong in ["break no_such_event A", "resume A", "remove_break A"] {
        t.io(name("qcow2", "t.qcow2", &json!({})), [wrong]).fails().quiet().await?;
        t.log(format!("{wrong}: refused"));
    }

    t.section("what is not shared with others");
    let mut qsd = t.qsd("").await?;
    qsd.run("blockdev-add", plain.protocol_node("file")).await?;
    let jealous = json!({"driver": "blkdebug", "node-name": "jealous", "image": "file", "unshare-child-perms": ["write"]});
    qsd.run("blockdev-add", jealous).await?;
    qsd.run("blockdev-add", json!({"driver": "raw", "node-name": "other", "file": "file"})).await?;
    ensure!(qsd.export_nbd("other").await.is_err(), "two write");
    t.log("another writer is refused");
    qsd.run("blockdev-del", json!({"node-name": "jealous"})).await?;
    let other = qsd.export_nbd("other").await?;
    t.io(other, ["write -P 3 0 512"]).quiet().await?;
    t.log("and let in once the node has gone");
    qsd.quit().await?;
    t.verify(&img, &[(7, 0, 4 * KIB), (8, 4 * KIB, 4 * KIB), (1, 8 * KIB, MIB - 8 * KIB)]).await?;
    t.check(&img).await
}
