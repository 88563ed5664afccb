//! A seed stands for one test: the same recipe, image bytes and command lines on every
//! machine and in every build. What changes them on purpose changes the numbers below, and
//! the fuzzer's version with them.

use image_fuzzer::campaign::{Plan, fresh};
use image_fuzzer::commands::Command;
use image_fuzzer::input::guard::GuardPlan;
use image_mutations::case::Maker;
use image_mutations::mutate::Intensity;
use image_mutations::rng::{FNV_START, fnv};

/// Hashes of the recipes, of the files and of the command lines of `count` seeds.
fn hashes(count: u32, commands: Option<Vec<Command>>) -> [u64; 3] {
    let plan = Plan {
        formats: image_mutations::base::Formats::default(),
        commands,
        selection: None,
        intensity: Intensity::default(),
        families: Vec::new(),
        guard: GuardPlan::Off,
    };
    let mut maker = Maker::default();
    let mut hashes = [FNV_START; 3];
    for number in 0..count {
        let recipe = fresh(&format!("seed-{number}"), &plan, &mut maker).unwrap();
        hashes[0] = fnv(hashes[0], recipe.to_json().unwrap().as_bytes());
        for file in maker.files(&recipe.base, &recipe.edits).unwrap() {
            hashes[1] = fnv(hashes[1], file.name.as_bytes());
            hashes[1] = fnv(hashes[1], &file.to_vec());
        }
        for word in recipe.commands.iter().flat_map(|command| &command.0) {
            hashes[2] = fnv(hashes[2], word.as_bytes());
        }
    }
    hashes
}

#[test]
fn seeds_give_the_same_tests() {
    assert_eq!(
        hashes(1000, None).map(|hash| format!("{hash:016x}")),
        ["67e6896d699fe213", "71df262b07463a1b", "a7deadd3097e1e8a"]
    );
    let info = Command::new(["qemu-img", "info", "$test_img"]);
    assert_eq!(
        hashes(200, Some(vec![info])).map(|hash| format!("{hash:016x}")),
        ["d2644caf94d83bb4", "46bff7f2efa5d6e1", "df596e37b3512ea5"]
    );
}
