//! Builds of QEMU in folders (`--qemu`), in QEMU's layout and in ours.

use std::path::Path;

use crate::fixture::{CHECK, Suite, bare, said, script};

/// Makes a folder of programs that report `version`; in `sub` of it, with the emulator or
/// without.
fn folder(root: &Path, name: &str, sub: &str, version: &str, emulator: bool) -> String {
    let dir = root.join(name);
    let body = format!("echo qemu-x version {version}\n");
    for tool in ["qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon"] {
        script(&dir.join(sub).join(tool), &body);
    }
    if emulator {
        let machines = "echo 'pc-1  PC (default)'\n";
        script(&dir.join(sub).join("qemu-system-x86_64"), machines);
    }
    let dir = dir.canonicalize().expect("the folder");
    dir.to_str().expect("a name in UTF-8").to_owned()
}

#[test]
fn each_folder_is_a_combination() {
    let suite = Suite::new();
    let old = folder(suite.root(), "old", "bin", "7.2.1", true);
    let new = folder(suite.root(), "new", "usr/bin", "11.1.3", true);
    // Tests see the programs of their folder, whatever the caller's variables say.
    suite.pair(
        "001",
        "$QEMU_IMG_PROG --version | sed 's/11.1.3/7.2.1/'\n",
        "qemu-x version 7.2.1\n",
    );
    suite.pair("002", "$QEMU_IO_PROG --version\n", "qemu-x version 7.2.1\n");
    let events = suite.root().join("events");
    let mut check = suite.check("-qcow2 --qemu ../../old,../../new --json");
    check.arg(&events).env("QEMU_IMG_PROG", "/nowhere");
    let ran = said(&mut check);
    assert_eq!(ran.status, Some(1), "{}{}", ran.out, ran.err);
    for want in [
        "QEMU_VERSION  -- old: 7.2.1",
        "QEMU_VERSION  -- new: 11.1.3",
        "IMGFMT        -- qcow2\n",
        "001  pass            pass\n",
        "002  pass            fail\n",
        "qcow2-file@old  qcow2-file@new",
        "Failed 1 of 4 iotests",
    ] {
        assert!(ran.out.contains(want), "{want}: {}", ran.out);
    }
    let events = std::fs::read_to_string(&events).expect("events");
    assert!(events.contains(&format!("\"qemu\":\"{new}\"")), "{events}");

    assert!(
        ran.out.contains("/qcow2-file-002-new/002.out.bad"),
        "{}",
        ran.out
    );

    // What is run again, and what failed, is about that folder.
    let again = format!("--qemu {new} 002");
    assert!(ran.out.contains(&again), "{again}: {}", ran.out);
    let failed = said(&mut suite.check("--failed"));
    assert_eq!(failed.status, Some(1), "{}{}", failed.out, failed.err);
    assert!(
        failed.out.contains("Failed 1 of 1 iotests"),
        "{}",
        failed.out
    );
    assert!(
        failed.out.contains(&format!("\"{new}/usr/bin/qemu-img\"")),
        "{}",
        failed.out
    );
    let history = said(&mut suite.check("--history --qemu ../../old 002")).fine();
    assert!(history.contains("qcow2-file@old"), "{history}");
    assert!(!history.contains("@new"), "{history}");

    let tap = said(&mut suite.check("-tap -qcow2 --qemu ../../old --qemu ../../new 001"));
    assert!(tap.out.contains("ok qcow2-file@new 001"), "{}", tap.out);
    assert!(old.ends_with("/old"), "{old}");
}

#[test]
fn a_folder_without_an_emulator_has_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let top = dir.path();
    for sub in ["iotests/cases", "goldens", "groups"] {
        std::fs::create_dir_all(top.join(sub)).expect("a directory");
    }
    std::fs::write(top.join("groups/groups"), "rw  reads and writes\n").expect("written");
    let case =
        "# A.\n#\n# group: rw\ncommand -v \"$QEMU_PROG\" || echo none; $QSD_PROG --version\n";
    script(&top.join("iotests/cases/001"), case);
    std::fs::write(top.join("goldens/001.out"), "none\nqemu-x version 9.9\n").expect("written");
    folder(top, "build", "", "9.9", false);
    // As in a build directory of QEMU.
    std::fs::create_dir(top.join("build/storage-daemon")).expect("a directory");
    let built = top.join("build/storage-daemon/qemu-storage-daemon");
    std::fs::rename(top.join("build/qemu-storage-daemon"), built).expect("moved");
    script(&top.join("installed/qemu-system-x86_64"), "");
    let mut check = bare(CHECK.as_ref());
    check
        .args(["-raw", "--qemu", "build", "001"])
        .current_dir(top);
    check.env("QEMU_PROG", top.join("installed/qemu-system-x86_64"));
    let out = said(&mut check).fine();
    assert!(out.contains("QEMU          -- none: "), "{out}");
    assert!(out.contains("Passed all 1 iotests"), "{out}");

    // In QEMU's layout tests need it.
    let suite = Suite::new();
    suite.pair("001", "", "");
    folder(suite.root(), "some", "bin", "9.9", false);
    let err = said(&mut suite.check("--qemu ../../some 001")).failed(1);
    assert!(err.ends_with("/some has no qemu-system-x86_64\n"), "{err}");
}

#[test]
fn what_is_no_folder_of_qemu_is_one_line() {
    let suite = Suite::new();
    suite.pair("001", "", "");
    folder(suite.root(), "old", "bin", "7.2.1", true);
    std::fs::create_dir(suite.root().join("empty")).expect("a directory");
    std::fs::remove_file(suite.root().join("old/bin/qemu-nbd")).expect("removed");
    for (folder, want) in [
        (
            "/no/such",
            "/no/such does not exist; scripts/qemu-version makes such folders",
        ),
        (
            "../../empty",
            "/empty has no qemu-img, in bin or usr/bin or itself",
        ),
        ("../../old", "/old has no qemu-nbd"),
        ("001", "/001 is not a folder"),
    ] {
        let err = said(&mut suite.check(&format!("--qemu {folder} 001"))).failed(1);
        assert!(err.starts_with("check: argument --qemu: /"), "{err}");
        assert!(err.ends_with(&format!("{want}\n")), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    let err = said(&mut suite.check("--qemu /a/x/build,/b/x/build 001")).failed(1);
    assert!(
        err.contains("/a/x/build and /b/x/build have the same name in results, 'x/build'"),
        "{err}"
    );
    let err = said(&mut suite.check("--qemu , 001")).failed(2);
    assert!(
        err.contains("argument --qemu: no folder named in \",\""),
        "{err}"
    );

    folder(suite.root(), "a", "bin", "7.2.1", true);
    folder(suite.root(), "b", "bin", "7.2.1", true);
    let err = said(&mut suite.check("--qemu ../../a,../../b --bless 001")).failed(1);
    let want = "check: argument --bless: runs with one folder of --qemu, not 2\n";
    assert_eq!(err, want);
}
