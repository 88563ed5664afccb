//! What a machine reports about its disks is what was requested of them: how
//! many requests, how many failed or were invalid, how long they took, and
//! which limits there are.
//!
//! group: rw quick machine qmp blkdebug
//! supported_fmt: raw
//! supported_proto: file
//! needs: qemu-system device:virtio-scsi-pci device:scsi-hd driver:blkdebug

use iotests::prelude::*;

const HOUR: u64 = 3_600_000_000_000;

/// A disk whose requests fail in the sector at 2 MiB, and its options of accounting.
fn drive(n: u32, options: &str) -> String {
    format!(
        "-drive if=none,id=drive{n},format=raw,file.driver=blkdebug,file.image.filename=TEST_DIR/d{n}.IMGFMT,\
         file.inject-error.0.event=none,file.inject-error.0.errno=5,file.inject-error.0.sector=4096{options} \
         -device scsi-hd,bus=bus.0,drive=drive{n},id=disk{n} "
    )
}

async fn stats(vm: &mut Daemon, drive: &str) -> Result<Value> {
    let all = vm.run("query-blockstats", json!({})).await?;
    let found = all.as_array().and_then(|a| a.iter().find(|d| d["device"] == drive));
    Ok(found.with_context(|| format!("no {drive}"))?["stats"].clone())
}

async fn human(vm: &mut Daemon, line: &str) -> Result<String> {
    let output = vm.run("human-monitor-command", json!({"command-line": line})).await?;
    Ok(output.as_str().unwrap_or_default().replace('\r', ""))
}

async fn counts(t: &Test, vm: &mut Daemon) -> Result<()> {
    for drive in ["drive0", "drive1"] {
        let s = stats(vm, drive).await?;
        t.section(format!("{drive}: what was asked of it"));
        for kind in ["rd", "wr"] {
            let of = |key: &str| s[format!("{kind}_{key}")].clone();
            let bad = |key: &str| s[format!("{key}_{kind}_operations")].clone();
            let (done, bytes) = (of("operations"), of("bytes"));
            t.log(format!(
                "{kind}: {done} done, {bytes} bytes; {} failed, {} could not be",
                bad("failed"),
                bad("invalid")
            ));
            ensure!(of("total_time_ns").as_u64() > Some(0), "they took no time");
        }
        t.log(format!("flushes: {}", s["flush_operations"]));
        t.log(format!(
            "counted in times: failed {}, could not be {}",
            s["account_failed"], s["account_invalid"]
        ));
        for interval in s["timed_stats"].as_array().into_iter().flatten() {
            let of = |key: &str| interval[key].as_u64().unwrap_or(0);
            for kind in ["rd", "wr"] {
                let [min, avg, max] =
                    ["min", "avg", "max"].map(|m| of(&format!("{m}_{kind}_latency_ns")));
                ensure!(0 < min && min <= avg && avg <= max, "{kind}: {interval}");
            }
            t.log(format!(
                "in {} s the shortest, average and longest are in order",
                interval["interval_length"]
            ));
        }
    }
    let reported = human(vm, "info blockstats").await?;
    let s = stats(vm, "drive0").await?;
    let mut lines = reported.lines().skip_while(|l| !l.starts_with("drive0"));
    let first = lines.next().context("no line for drive0")?;
    let table: Vec<&str> = lines.take_while(|l| !l.starts_with("drive")).collect();
    for (key, row, column) in [
        ("rd_bytes", "Read:", 1),
        ("wr_bytes", "Write:", 1),
        ("rd_operations", "Read:", 2),
        ("wr_operations", "Write:", 2),
        ("flush_operations", "Flush:", 1),
    ] {
        // Before 11.1 all is in one line, since then in a table.
        let in_line = first.contains(&format!(" {key}={}", s[key]));
        let mut rows = table.iter().filter(|l| l.starts_with(row));
        let cell = rows.next().and_then(|l| l.split_whitespace().nth(column));
        ensure!(
            in_line || cell == Some(&s[key].to_string()),
            "{key} is not {}: {reported}",
            s[key]
        );
    }
    t.log("the human monitor reports the same");
    Ok(())
}

async fn histograms(t: &Test, vm: &mut Daemon) -> Result<()> {
    t.section("how long they took");
    let name = "block-latency-histogram-set";
    vm.qmp(name, json!({"id": "disk0", "boundaries": [1, HOUR], "boundaries-write": [HOUR]}))
        .await?;
    vm.guest(
        "disk0",
        ["aio_write -P 3 0 4k", "aio_write -P 4 8k 4k", "aio_read 0 4k", "aio_flush", "aio_flush"],
    )
    .await?;
    let s = stats(vm, "drive0").await?;
    for kind in ["rd", "wr", "flush"] {
        t.log(format!("{kind}: {}", s[format!("{kind}_latency_histogram")]["bins"]));
    }
    for wrong in [json!([5, 5]), json!([7, 3])] {
        vm.qmp_fails(name, json!({"id": "disk0", "boundaries": wrong})).await?;
    }
    ensure!(
        vm.ask(name, json!({"id": "nowhere", "boundaries": [1]})).await?.is_err(),
        "there is a disk 'nowhere'"
    );
    let s = stats(vm, "drive0").await?;
    t.log(format!("rd, after wrong ones: {}", s["rd_latency_histogram"]["bins"]));
    vm.qmp(name, json!({"id": "disk0", "boundaries-read": [1]})).await?;
    let s = stats(vm, "drive0").await?;
    t.log(format!(
        "rd, set again: {}; wr: {}",
        s["rd_latency_histogram"]["bins"], s["wr_latency_histogram"]["bins"]
    ));
    vm.qmp(name, json!({"id": "disk0"})).await?;
    let s = stats(vm, "drive0").await?;
    t.log(format!("none any more: {}", s.get("rd_latency_histogram").is_none()));
    Ok(())
}

async fn limits(t: &Test, vm: &mut Daemon) -> Result<()> {
    t.section("limits");
    let set = |total: u64| {
        json!({"id": "disk1", "bps": total, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": total / 10, "iops_wr": 0,
            "bps_max": total * 2, "bps_max_length": if total == 0 { Value::from(1) } else { Value::from(3) }, "group": "g"})
    };
    vm.run("block_set_io_throttle", set(100 * MIB)).await?;
    let drives = vm.run("query-block", json!({})).await?;
    let reported = drives
        .as_array()
        .and_then(|a| a.iter().find(|d| d["device"] == "drive1"))
        .context("no drive1")?;
    let inserted = &reported["inserted"];
    for key in ["bps", "bps_rd", "bps_max", "bps_max_length", "iops_rd", "group"] {
        t.log(format!("{key}: {}", inserted[key]));
    }
    t.log(format!(
        "removable: {}, locked: {}, read-only: {}",
        reported["removable"], reported["locked"], inserted["ro"]
    ));
    let info = human(vm, "info block -v drive1").await?;
    let throttling =
        info.lines().find(|l| l.contains("I/O throttling")).context("no limits are reported")?;
    let words = ["bps=104857600 ", "bps_max=209715200 ", "iops_rd=10485760 ", "group=g"];
    ensure!(words.iter().all(|w| throttling.contains(w)), "{throttling}");
    ensure!(info.contains("virtual size: 4 MiB (4194304 bytes)"), "{info}");
    t.log("the human monitor reports the same");
    vm.guest("disk1", ["write -P 9 1M 4k"]).await?;
    let mut wrong = set(100 * MIB);
    wrong["bps_rd"] = json!(5);
    ensure!(
        vm.ask("block_set_io_throttle", wrong).await?.is_err(),
        "a total beside its part is taken"
    );
    vm.run("block_set_io_throttle", set(0)).await?;
    let info = human(vm, "info block drive1").await?;
    t.log(format!("none any more: {}", !info.contains("I/O throttling")));
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let first = t.image("d0").size(4 * MIB).await?;
    let second = t.image("d1").size(4 * MIB).await?;
    let options = [
        "-device virtio-scsi-pci,id=bus ".to_owned(),
        drive(0, ",stats-intervals.0=3600,stats-intervals.1=7200"),
        drive(1, ",stats-account-failed=off,stats-account-invalid=off"),
    ];
    let mut vm = t.vm(options.concat()).await?;
    for disk in ["disk0", "disk1"] {
        vm.guest(
            disk,
            [
                "aio_write -P 1 0 64k",
                "aio_write -P 2 64k 4k",
                "aio_flush",
                "aio_read 0 4k",
                "aio_read 4k 4k",
                "aio_read 8k 4k",
                // These fail, and those cannot be.
                "aio_read 2M 512",
                "aio_write 2M 512",
                "aio_write 2M 4k",
                "aio_flush",
                "aio_read 0 4G",
                "aio_write 0 4G",
            ],
        )
        .await?;
    }
    counts(t, &mut vm).await?;
    histograms(t, &mut vm).await?;
    limits(t, &mut vm).await?;
    vm.quit().await?;
    t.verify(
        &first,
        &[(3, 0, 4 * KIB), (1, 4 * KIB, 4 * KIB), (4, 8 * KIB, 4 * KIB), (2, 64 * KIB, 4 * KIB)],
    )
    .await?;
    t.verify(&second, &[(1, 0, 64 * KIB), (2, 64 * KIB, 4 * KIB), (9, MIB, 4 * KIB)]).await
}
