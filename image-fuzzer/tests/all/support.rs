//! What the tests of findings share.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use image_formats::qcow2::Spec;
use image_fuzzer::input::recipe::{FUZZER, Recipe};
use image_mutations::base::{Base, Qcow2Base};

/// A subcommand of the fuzzer, with the programs in `PATH`.
pub(crate) fn fuzzer(subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
    command.arg(subcommand).stdin(Stdio::null());
    for variable in ["QEMU_IMG", "QEMU_IO"] {
        command.env_remove(variable);
    }
    command
}

/// Writes a recipe with one command on a valid image into a new folder.
pub(crate) fn write_recipe(folder: &Path, words: &[&str]) {
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    let recipe = Recipe {
        commands: vec![image_fuzzer::commands::Command(command)],
        fresh_copies: true,
        base: Base::Qcow2(Qcow2Base {
            backing: None,
            image: Spec::default(),
        }),
        edits: Vec::new(),
        fuzzer: FUZZER.into(),
        guard: None,
        seed: "example".into(),
    };
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("recipe.json"), recipe.to_json().unwrap()).unwrap();
}
