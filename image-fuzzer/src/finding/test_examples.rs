//! Examples for the tests of this room.

use std::path::{Path, PathBuf};

use image_formats::qcow2::Spec;

use super::{Example, write_folder};
use crate::commands::Command;
use crate::exec::Limits;
use crate::input::recipe::{FUZZER, Recipe};
use crate::oracle::Class;
use crate::oracle::runner::Outcome;
use crate::triage::Key;
use image_mutations::base::{Base, Qcow2Base};
use image_mutations::case::Maker;
use image_mutations::edit::{Edit, Mutation, Number};

/// A recipe with one command and no edit.
pub(crate) fn recipe(words: &[&str]) -> Recipe {
    Recipe {
        fuzzer: FUZZER.into(),
        seed: "example".into(),
        base: Base::Qcow2(Qcow2Base {
            image: Spec::default(),
            backing: None,
        }),
        edits: Vec::new(),
        commands: vec![Command(words.iter().map(|word| (*word).into()).collect())],
        fresh_copies: true,
        guard: None,
    }
}

/// An example with `edits` mutations, of which nothing else matters.
pub(crate) fn example(key: &Key, recipe: &Recipe, edits: usize, minimised: bool) -> Example {
    let set = |index| Edit::Set {
        path: "header.nb_snapshots".into(),
        value: Number(index as u64),
    };
    Example {
        key: key.clone(),
        minimised,
        ..edited(recipe.clone(), (0..edits).map(set).collect())
    }
}

/// A crash without anything known of it, by a recipe with these edits.
pub(crate) fn edited(mut recipe: Recipe, edits: Vec<Edit>) -> Example {
    let mut maker = Maker::default();
    let family = "boundary";
    recipe.edits = edits
        .into_iter()
        .map(|edit| Mutation {
            family: family.into(),
            edit,
        })
        .collect();
    Example {
        key: Key::new(Class::Crash, "SIGSEGV"),
        files: maker.files(&recipe.base, &recipe.edits).unwrap(),
        prepared: maker.prepared(&recipe.base).unwrap(),
        recipe,
        outcome: Outcome::default(),
        stack: None,
        confirmed: true,
        hits_in_10: 10,
        minimised: true,
        limits: Limits::default(),
        version: None,
        sanitizers: Vec::new(),
        poked: None,
    }
}

/// The folder of a crash, in `root`, that `words` showed in `hits_in_10` of ten runs.
pub(crate) fn folder(root: &Path, words: &[&str], hits_in_10: u8) -> PathBuf {
    let key = Key::new(Class::Crash, "SIGSEGV");
    let mut example = example(&key, &recipe(words), 0, true);
    example.hits_in_10 = hits_in_10;
    let folder = root.join("finding");
    write_folder(&folder, &example).unwrap();
    folder
}
