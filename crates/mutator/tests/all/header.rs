//! The header file for C, which cbindgen makes.

use std::path::Path;

/// The header as cbindgen makes it of the source.
fn generated() -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(top.join("cbindgen.toml")).expect("a configuration");
    let builder = cbindgen::Builder::new()
        .with_config(config)
        .with_src(top.join("src/abi.rs"));
    let bindings = builder.generate().expect("bindings");
    let mut text = Vec::new();
    bindings.write(&mut text);
    String::from_utf8(text).expect("text")
}

/// `WRITE_HEADER=1 cargo test -p image-mutator --test all header` writes it anew.
#[test]
fn the_header_is_that_of_the_source() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/image_mutator.h");
    let wanted = generated();
    if std::env::var_os("WRITE_HEADER").is_some() {
        atomic_write::write(&path, |out| out.write_all(wanted.as_bytes())).expect("the header");
    }
    let present = std::fs::read_to_string(&path).expect("the header");
    assert_eq!(
        present, wanted,
        "write it anew: WRITE_HEADER=1 cargo test -p image-mutator --test all header"
    );
    for name in [
        "afl_custom_fuzz",
        "LLVMFuzzerCustomMutator",
        "image_mutator_dictionary",
    ] {
        assert!(present.contains(&format!("{name}(")), "{name}");
    }
}
