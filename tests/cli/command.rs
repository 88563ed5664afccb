//! `-- COMMAND`: a program in the environment of a test, and that environment.

use std::collections::BTreeMap;

use crate::fixture::{Suite, said, script};

/// What `env` prints when run as a test would be.
fn environment(suite: &Suite, line: &str, vars: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut command = suite.check(&format!("{line} -- env"));
    command.envs(vars.iter().copied());
    let out = said(&mut command).fine();
    let (_, env) = out.split_once("\n\n").expect("a header and an environment");
    env.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

#[test]
fn every_variable_is_there() {
    let suite = Suite::new();
    let env = environment(&suite, "-qcow2 -nbd -nocache -o a=b -misalign -p", &[]);
    let dir = suite.dir();
    let dir = dir.display();
    let root = suite.root().display();
    for (name, want) in [
        ("TEST_DIR", format!("{dir}/scratch")),
        ("SAMPLE_IMG_DIR", format!("{dir}/sample_images")),
        ("PYTHONPATH", format!("{dir}:{root}/python")),
        ("QEMU_PROG", format!("{root}/qemu-system-x86_64")),
        ("QEMU_IMG_PROG", format!("{root}/qemu-img")),
        ("QEMU_IO_PROG", format!("{root}/qemu-io")),
        ("QEMU_NBD_PROG", format!("{root}/qemu-nbd")),
        (
            "QSD_PROG",
            format!("{root}/storage-daemon/qemu-storage-daemon"),
        ),
        (
            "QEMU_OPTIONS",
            "-nodefaults -display none -accel qtest".into(),
        ),
        (
            "QEMU_IO_OPTIONS",
            "--cache none --aio threads --misalign -f qcow2".into(),
        ),
        (
            "QEMU_IO_OPTIONS_NO_FMT",
            "--cache none --aio threads --misalign".into(),
        ),
        ("IMGOPTS", "a=b".into()),
        ("IMGFMT", "qcow2".into()),
        ("IMGPROTO", "nbd".into()),
        ("AIOMODE", "threads".into()),
        ("CACHEMODE", "none".into()),
        ("CACHEMODE_IS_DEFAULT", "false".into()),
        ("IMGFMT_GENERIC", "true".into()),
        ("IMGOPTSSYNTAX", "false".into()),
        ("PRINT_QEMU", "y".into()),
        ("QEMU_DEFAULT_MACHINE", "pc".into()),
    ] {
        assert_eq!(env.get(name), Some(&want), "{name}");
    }
    for name in [
        "IMGKEYSECRET",
        "VALGRIND_QEMU",
        "GDB_OPTIONS",
        "QEMU_IMG_OPTIONS",
    ] {
        assert_eq!(env.get(name), None, "{name}");
    }
    let perturb: u8 = env["MALLOC_PERTURB_"].parse().expect("a byte");
    assert!((1..=254).contains(&perturb));
    assert!(
        !std::path::Path::new(&env["SOCK_DIR"]).exists(),
        "left behind"
    );
}

#[test]
fn what_the_caller_says_is_kept() {
    let suite = Suite::new();
    let said = [
        ("MALLOC_PERTURB_", "7"),
        ("QEMU_IMG_OPTIONS", "-x"),
        ("QEMU_NBD_OPTIONS", "-y"),
        ("PYTHON", "/my/python"),
        ("SAMPLE_IMG_DIR", "/samples"),
    ];
    let env = environment(&suite, "-raw -i native", &said);
    for (name, value) in said {
        assert_eq!(env[name], value);
    }
    assert_eq!(
        env["QEMU_IO_OPTIONS"],
        "--cache writeback --aio native -f raw"
    );
    assert_eq!(env["CACHEMODE_IS_DEFAULT"], "true");
    let env = environment(&suite, "", &[("PYTHONPATH", "/mine"), ("GDB_OPTIONS", "x")]);
    assert!(env["PYTHONPATH"].ends_with(":/mine"));
    assert_eq!(env.get("GDB_OPTIONS"), None, "without -gdb");
    let env = environment(&suite, "-o=", &[("IMGOPTS", "theirs")]);
    assert_eq!(env["IMGOPTS"], "", "-o '' asks for none");
}

#[test]
fn a_script_that_chooses_a_python_is_asked_once() {
    let suite = Suite::new();
    let bin = suite.root().join("bin");
    let chosen = bin.join("python3.real");
    script(&chosen, "");
    script(
        &bin.join("python3"),
        &format!("printf %s {}\n", chosen.display()),
    );
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let env = environment(&suite, "", &[("PATH", &path)]);
    assert_eq!(env["PYTHON"], chosen.to_str().expect("UTF-8"));
}

#[test]
fn formats_and_wrappers_have_variables_of_their_own() {
    let suite = Suite::new();
    let env = environment(&suite, "-luks -gdb -valgrind", &[("GDB_OPTIONS", "")]);
    assert_eq!(env["IMGOPTS"], "iter-time=10");
    assert_eq!(env["IMGOPTSSYNTAX"], "true");
    assert_eq!(env["IMGKEYSECRET"], "123456");
    assert_eq!(env["QEMU_IO_OPTIONS"], "--cache writeback --aio threads");
    assert_eq!(env["GDB_OPTIONS"], "localhost:12345");
    assert_eq!(env["VALGRIND_QEMU"], "y");
    assert_eq!(
        environment(&suite, "-vmdk", &[])["IMGOPTS"],
        "zeroed_grain=on"
    );
    assert_eq!(environment(&suite, "-dmg", &[])["IMGFMT_GENERIC"], "false");
}

#[test]
fn machines_are_given_to_emulators_without_a_default() {
    let suite = Suite::new();
    let arm = suite.root().join("qemu-system-aarch64");
    script(&arm, "echo none\n");
    let env = environment(&suite, "", &[("QEMU_PROG", arm.to_str().expect("UTF-8"))]);
    assert!(env["QEMU_OPTIONS"].ends_with(" -machine virt"));
    assert_eq!(env["QEMU_DEFAULT_MACHINE"], "");
}

#[test]
fn a_command_runs_where_it_lives_with_its_status() {
    let suite = Suite::new();
    script(&suite.root().join("bin/tool"), "pwd; echo \"$@\"; exit 7\n");
    let mut command = suite.check("-qcow2 -d -- ../../bin/tool -raw x");
    let ended = said(&mut command);
    assert_eq!(ended.status, Some(7), "{}", ended.err);
    let bin = suite
        .root()
        .join("bin")
        .canonicalize()
        .expect("a directory");
    let want = format!("\n{}\n-raw x -d\n", bin.display());
    assert!(ended.out.ends_with(&want), "{}", ended.out);
    for (line, want) in [
        ("--", "check: missing command after '--'\n"),
        (
            "-- no-such-program",
            "check: command not found: no-such-program\n",
        ),
    ] {
        assert_eq!(said(&mut suite.check(line)).failed(1), want);
    }
}

#[test]
fn the_header_shows_what_is_used() {
    let suite = Suite::new();
    let out = said(&mut suite.check("-vmdk -nbd -- true")).fine();
    let root = suite.root().display();
    let dir = suite.dir();
    for want in [
        format!(
            "QEMU          -- \"{root}/qemu-system-x86_64\" -nodefaults -display none -accel qtest\n"
        ),
        format!("QEMU_IMG      -- \"{root}/qemu-img\" \n"),
        format!("QEMU_IO       -- \"{root}/qemu-io\" --cache writeback --aio threads -f vmdk\n"),
        "IMGFMT        -- vmdk (zeroed_grain=on)\n".to_owned(),
        "IMGPROTO      -- nbd\n".to_owned(),
        "PLATFORM      -- Linux/".to_owned(),
        format!("TEST_DIR      -- {}/scratch\n", dir.display()),
        "GDB_OPTIONS   -- \n".to_owned(),
        "PRINT_QEMU_OUTPUT -- \n".to_owned(),
    ] {
        assert!(out.contains(&want), "{want}: {out}");
    }
    // What QEMU's runner has comes first.
    let (_, more) = out.split_once("PRINT_QEMU_OUTPUT -- \n").expect("a line");
    assert!(more.starts_with("QEMU_VERSION  -- unknown\n"), "{out}");
}

#[test]
fn a_missing_program_is_named() {
    let suite = Suite::new();
    std::fs::remove_file(suite.root().join("qemu-nbd")).expect("removed");
    let err = said(&mut suite.check("-- true")).failed(1);
    let want = suite.root().join("qemu-nbd");
    assert_eq!(
        err,
        format!("check: No such file: {} (QEMU_NBD_PROG)\n", want.display())
    );
    std::fs::remove_file(suite.root().join("qemu-system-x86_64")).expect("removed");
    let err = said(&mut suite.check("-- true")).failed(1);
    assert!(
        err.starts_with("check: Not found any Qemu executable binary by pattern"),
        "{err}"
    );
}
