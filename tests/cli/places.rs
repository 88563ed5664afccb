//! Every directory that a suite may run in, by names that a shell, JSON, an option string, a URL
//! or a golden takes for something else.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::fixture::{CHECK, Suite, bare, said};

/// Names that are each trouble somewhere, and one with everything that can be.
const NAMES: [&[u8]; 10] = [
    b"a b",
    b"it's",
    b"a\"b",
    b"a,b=c",
    b"a:b",
    b"a%b",
    b"a\\b",
    b"\xff\xfe",
    b"t.qcow2-TEST_DIR-SOCK_DIR-IMGFMT",
    b"it's \"a,b\":%20\\n\xff {TEST_DIR}",
];

#[test]
fn a_test_gets_directories_whose_names_are_plain() {
    let body = "for dir in \"$TEST_DIR\" \"$SOCK_DIR\"; do\n\
                \tcase $dir in *[!A-Za-z0-9/._-]* | *TEST_DIR* | *IMGFMT*) echo \"$dir\" ;; esac\n\
                \techo x >\"$dir/file\"\n\
                done\n\
                [ ${#SOCK_DIR} -lt 67 ] && echo done\n";
    let suite = Suite::new();
    suite.pair("001", body, "done\n");
    let long = [b'x'; 250];
    for name in NAMES.into_iter().chain([&long[..]]) {
        let place = suite.root().join(OsStr::from_bytes(name));
        let mut check = suite.check("-raw --keep 001");
        check.env("TEST_DIR", place.join("t"));
        check.env("SOCK_DIR", place.join("s"));
        let ran = said(&mut check);
        assert_eq!(
            ran.status,
            Some(0),
            "{}: {}{}",
            place.display(),
            ran.out,
            ran.err
        );
        // The files are where they were asked for.
        assert!(
            place.join("t/raw-file-001/file").is_file(),
            "{}",
            place.display()
        );
    }
}

/// Files, backing files and JSON names, snapshots, NBD over sockets, FUSE, machines.
const TELLING: [&str; 8] = ["029", "071", "081", "102", "224", "226", "245", "252"];

#[test]
fn numbered_tests_pass_in_a_directory_of_any_name() {
    let iotest = Path::new(CHECK).with_file_name("iotest");
    if !iotest.exists() || Command::new("qemu-img").arg("--version").output().is_err() {
        // Only `cargo test --workspace` builds the numbered tests.
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    let place = root.path().join(OsStr::from_bytes(NAMES[NAMES.len() - 1]));
    let mut check = bare(Path::new(CHECK));
    check
        .args(["-qcow2", "-tap"])
        .args(TELLING)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("TEST_DIR", place.join("t"))
        .env("SOCK_DIR", place.join("s"));
    let ran = said(&mut check);
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    let passed = |line: &&str| line.starts_with("ok ") && !line.contains("# SKIP");
    assert!(ran.out.lines().filter(passed).count() >= 4, "{}", ran.out);
    assert!(place.join("t").is_dir());
}
