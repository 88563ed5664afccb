//! The library as engines load it: with `dlopen`, by the names that they look up.

// Calling a loaded function needs it.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};

use image_mutator::{Format, seeds};

use crate::built::library_path;
use crate::common::{AflMutator, Inputs, Loaded};

#[test]
fn twenty_thousand_calls_on_hostile_bytes() {
    let library = Loaded::at(&library_path());
    let mut afl = AflMutator::new(&library, 1);
    let mut inputs = Inputs::new(1);
    let mut last = Vec::new();
    let mut changed = 0;
    for call in 0..20_000 / 8 {
        let input = inputs.next();
        let max_size = [input.len(), input.len() / 2, 1 << 20, 4096, 0][call % 5];
        let other = (call % 3 == 0).then_some(last.as_slice());
        let mutated = afl.fuzz(&input, other, max_size);
        assert!(mutated.len() <= max_size, "{call}");
        let ran = afl.post_process(&mutated);
        assert_eq!(ran.len(), mutated.len(), "{call}");
        assert!(afl.post_process(&ran) == ran, "{call}");
        let description = afl.describe(60);
        assert!(
            description.len() <= 60 && description.starts_with("op:"),
            "{description}"
        );
        assert!(!description.contains(['/', ' ', '\0']), "{description}");
        assert!((1..=512).contains(&afl.fuzz_count(&input)));
        let ran = afl.fuzz_and_run(&input, max_size);
        assert!(ran.len() <= max_size, "{call}");
        assert!(!afl.queue_new_entry(), "{call}");
        changed += usize::from(mutated != input);
        last = input;
    }
    assert!(changed > 2000, "{changed}");
}

#[test]
fn the_same_seed_and_bytes_give_the_same() {
    let library = Loaded::at(&library_path());
    let runs = [7, 7, 8].map(|seed| {
        let mut afl = AflMutator::new(&library, seed);
        let mut inputs = Inputs::new(2);
        let outputs = (0..60).map(|_| afl.fuzz(&inputs.next(), None, 1 << 16));
        outputs.collect::<Vec<_>>()
    });
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);

    let image = seeds(Format::Qcow2, 1, 4096 * 4, "same").remove(0);
    let once = library.libfuzzer_mutate(&image, 1 << 16, 5);
    assert_eq!(once, library.libfuzzer_mutate(&image, 1 << 16, 5));
    let rust = |seed| {
        let mut buffer = image.clone();
        buffer.resize(1 << 16, 0);
        let len = image_mutator::libfuzzer::mutate(&mut buffer, image.len(), 1 << 16, seed);
        buffer[..len].to_vec()
    };
    assert_eq!(once, rust(5));
    let different: BTreeSet<_> = (0..40).map(rust).collect();
    assert!(different.len() > 35, "{}", different.len());
}

#[test]
fn trimming_ends_and_never_grows() {
    let library = Loaded::at(&library_path());
    let mut afl = AflMutator::new(&library, 3);
    let mut inputs = Inputs::new(3);
    for number in 0..40_u64 {
        let input = inputs.next();
        // What afl-fuzz does: it goes on while the index is below what init_trim said.
        let steps = afl.init_trim(&input);
        let (mut index, mut calls) = (0, 0);
        while index < steps {
            let candidate = afl.trim();
            assert!(candidate.len() <= input.len());
            let next = afl.post_trim(!candidate.is_empty() && (number + calls).is_multiple_of(3));
            assert!(next > index, "{next} after {index}");
            index = next;
            calls += 1;
        }
        assert!(calls < 500, "{calls}");
    }
}

#[test]
fn a_mutator_that_did_not_start_gives_inputs_back() {
    let library = Loaded::at(&library_path());
    let mut none = AflMutator::none(&library);
    assert_eq!(none.fuzz(b"abc", None, 2), b"ab");
    assert_eq!(none.post_process(b"abc"), b"abc");
    assert_eq!(none.init_trim(b"abc"), 0);
    assert_eq!(none.trim(), b"");
}

#[test]
fn libfuzzer_gets_sizes_that_it_allows() {
    let library = Loaded::at(&library_path());
    let mut inputs = Inputs::new(4);
    let mut last = Vec::new();
    for seed in 0..400_u32 {
        let input = inputs.next();
        let max_size = [1, 512, 4096, 1 << 16][seed as usize % 4];
        let input = &input[..input.len().min(max_size)];
        assert!(library.libfuzzer_mutate(input, max_size, seed).len() <= max_size);
        let crossed = library.libfuzzer_cross_over(input, &last, max_size, seed);
        assert!(crossed.len() <= max_size);
        last = input.to_vec();
    }
}

#[test]
fn the_dictionary_is_written_as_far_as_there_is_room() {
    let library = Loaded::at(&library_path());
    let dictionary = library.dictionary();
    let name = CString::new("vdi").unwrap();
    // SAFETY: the signature is that of the header, and the buffers have the sizes given.
    let len = unsafe { dictionary(name.as_ptr(), std::ptr::null_mut(), 0) };
    let whole = image_mutator::dictionary(Format::Vdi);
    assert_eq!(len, whole.len());
    let mut room = vec![1; 21];
    // SAFETY: as above.
    unsafe { dictionary(name.as_ptr(), room.as_mut_ptr(), room.len()) };
    // SAFETY: the text was ended within the buffer, as the next line would show.
    let text = unsafe { CStr::from_ptr(room.as_ptr()) };
    assert_eq!(text.to_str().unwrap(), &whole[..20]);
    let unknown = CString::new("ext4").unwrap();
    // SAFETY: as above.
    let len = unsafe { dictionary(unknown.as_ptr(), std::ptr::null_mut(), 0) };
    assert_eq!(len, 0);
}
