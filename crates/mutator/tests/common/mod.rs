//! The built library, loaded as engines load it, and inputs to give it.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::{ptr, slice};

use image_mutations::rng::Rng;
use image_mutator::{Format, Mutator, seeds};
use libloading::Library;

type Init = unsafe extern "C" fn(*mut c_void, c_uint) -> *mut c_void;
type Deinit = unsafe extern "C" fn(*mut c_void);
type Fuzz = unsafe extern "C" fn(
    *mut c_void,
    *const u8,
    usize,
    *mut *const u8,
    *const u8,
    usize,
    usize,
) -> usize;
type PostProcess = unsafe extern "C" fn(*mut c_void, *const u8, usize, *mut *const u8) -> usize;
type InitTrim = unsafe extern "C" fn(*mut c_void, *const u8, usize) -> c_int;
type Trim = unsafe extern "C" fn(*mut c_void, *mut *const u8) -> usize;
type PostTrim = unsafe extern "C" fn(*mut c_void, u8) -> c_int;
type Describe = unsafe extern "C" fn(*mut c_void, usize) -> *const c_char;
type FuzzCount = unsafe extern "C" fn(*mut c_void, *const u8, usize) -> c_uint;
type NewEntry = unsafe extern "C" fn(*mut c_void, *const u8, *const u8) -> u8;
type Mutate = unsafe extern "C" fn(*mut u8, usize, usize, c_uint) -> usize;
type CrossOver =
    unsafe extern "C" fn(*const u8, usize, *const u8, usize, *mut u8, usize, c_uint) -> usize;
/// The function that writes a dictionary.
pub(crate) type Dictionary = unsafe extern "C" fn(*const c_char, *mut c_char, usize) -> usize;

/// The library.
pub(crate) struct Loaded(Library);

impl Loaded {
    /// Loads it.
    pub(crate) fn at(path: &Path) -> Self {
        // SAFETY: the library runs nothing when it is loaded.
        let library = unsafe { Library::new(path) };
        Self(library.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    fn get<T: Copy>(&self, name: &str) -> T {
        // SAFETY: the types above are those of the header, a test of which is in header.rs.
        let symbol = unsafe { self.0.get::<T>(name) };
        *symbol.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The function that writes a dictionary.
    pub(crate) fn dictionary(&self) -> Dictionary {
        self.get("image_mutator_dictionary")
    }

    /// What `LLVMFuzzerCustomMutator` makes of an input.
    pub(crate) fn libfuzzer_mutate(&self, input: &[u8], max_size: usize, seed: u32) -> Vec<u8> {
        let mutate: Mutate = self.get("LLVMFuzzerCustomMutator");
        let mut buffer = input.to_vec();
        buffer.resize(max_size.max(input.len()), 0);
        // SAFETY: the buffer has room for the larger of both sizes.
        let len = unsafe { mutate(buffer.as_mut_ptr(), input.len(), max_size, seed) };
        buffer[..len].to_vec()
    }

    /// What `LLVMFuzzerCustomCrossOver` makes of two inputs.
    pub(crate) fn libfuzzer_cross_over(
        &self,
        one: &[u8],
        other: &[u8],
        max_size: usize,
        seed: u32,
    ) -> Vec<u8> {
        let cross_over: CrossOver = self.get("LLVMFuzzerCustomCrossOver");
        let mut out = vec![0; max_size];
        // SAFETY: the sizes are those of the slices.
        let len = unsafe {
            let (data, size) = (other.as_ptr(), other.len());
            let out = out.as_mut_ptr();
            cross_over(one.as_ptr(), one.len(), data, size, out, max_size, seed)
        };
        out[..len].to_vec()
    }
}

/// The mutator as afl-fuzz uses it.
pub(crate) struct AflMutator<'a> {
    library: &'a Loaded,
    state: *mut c_void,
}

impl<'a> AflMutator<'a> {
    /// Starts it.
    pub(crate) fn new(library: &'a Loaded, seed: u32) -> Self {
        let init: Init = library.get("afl_custom_init");
        // SAFETY: the first argument is not looked at.
        let state = unsafe { init(ptr::null_mut(), seed) };
        assert!(!state.is_null());
        Self { library, state }
    }

    /// One that did not start.
    pub(crate) fn none(library: &'a Loaded) -> Self {
        let state = ptr::null_mut();
        Self { library, state }
    }

    /// What comes of an input.
    pub(crate) fn fuzz(&mut self, input: &[u8], other: Option<&[u8]>, max_size: usize) -> Vec<u8> {
        let fuzz: Fuzz = self.library.get("afl_custom_fuzz");
        let mut out = ptr::null();
        let (data, size) = other.map_or((ptr::null(), 0), |other| (other.as_ptr(), other.len()));
        // SAFETY: the sizes are those of the slices, and the result is copied at once.
        unsafe {
            let state = self.state;
            let len = fuzz(
                state,
                input.as_ptr(),
                input.len(),
                &raw mut out,
                data,
                size,
                max_size,
            );
            copied(out, len)
        }
    }

    /// What is run in the place of what comes of an input, given without a copy between, as
    /// afl-fuzz does.
    pub(crate) fn fuzz_and_run(&mut self, input: &[u8], max_size: usize) -> Vec<u8> {
        let fuzz: Fuzz = self.library.get("afl_custom_fuzz");
        let post_process: PostProcess = self.library.get("afl_custom_post_process");
        let (mut made, mut ran) = (ptr::null(), ptr::null());
        let none = ptr::null();
        let (state, data, size) = (self.state, input.as_ptr(), input.len());
        // SAFETY: as above.
        unsafe {
            let len = fuzz(state, data, size, &raw mut made, none, 0, max_size);
            let len = post_process(state, made, len, &raw mut ran);
            copied(ran, len)
        }
    }

    /// What is run in the place of an input.
    pub(crate) fn post_process(&mut self, input: &[u8]) -> Vec<u8> {
        let post_process: PostProcess = self.library.get("afl_custom_post_process");
        let mut out = ptr::null();
        // SAFETY: as above.
        unsafe {
            let len = post_process(self.state, input.as_ptr(), input.len(), &raw mut out);
            copied(out, len)
        }
    }

    /// How often an input should be mutated.
    pub(crate) fn fuzz_count(&mut self, input: &[u8]) -> u32 {
        let fuzz_count: FuzzCount = self.library.get("afl_custom_fuzz_count");
        // SAFETY: as above.
        unsafe { fuzz_count(self.state, input.as_ptr(), input.len()) }
    }

    /// Says that the last input that was run is a new entry of the queue.
    pub(crate) fn queue_new_entry(&mut self) -> bool {
        let new_entry: NewEntry = self.library.get("afl_custom_queue_new_entry");
        // SAFETY: the names of the files are not looked at.
        let changed = unsafe { new_entry(self.state, ptr::null(), ptr::null()) };
        changed != 0
    }

    /// Begins to trim an input.
    pub(crate) fn init_trim(&mut self, input: &[u8]) -> c_int {
        let init_trim: InitTrim = self.library.get("afl_custom_init_trim");
        // SAFETY: as above.
        unsafe { init_trim(self.state, input.as_ptr(), input.len()) }
    }

    /// The next candidate.
    pub(crate) fn trim(&mut self) -> Vec<u8> {
        let trim: Trim = self.library.get("afl_custom_trim");
        let mut out = ptr::null();
        // SAFETY: as above.
        unsafe {
            let len = trim(self.state, &raw mut out);
            copied(out, len)
        }
    }

    /// Says whether the candidate did the same.
    pub(crate) fn post_trim(&mut self, success: bool) -> c_int {
        let post_trim: PostTrim = self.library.get("afl_custom_post_trim");
        // SAFETY: as above.
        unsafe { post_trim(self.state, success.into()) }
    }

    /// The last mutation.
    pub(crate) fn describe(&mut self, max_len: usize) -> String {
        let describe: Describe = self.library.get("afl_custom_describe");
        // SAFETY: the text is valid until the next call, and copied at once.
        let text = unsafe { CStr::from_ptr(describe(self.state, max_len)) };
        text.to_str().expect("ASCII").to_owned()
    }
}

impl Drop for AflMutator<'_> {
    fn drop(&mut self) {
        let deinit: Deinit = self.library.get("afl_custom_deinit");
        // SAFETY: the state is not used afterwards.
        unsafe { deinit(self.state) }
    }
}

/// The bytes at a pointer that a call gave.
///
/// # Safety
///
/// There are so many.
unsafe fn copied(data: *const u8, len: usize) -> Vec<u8> {
    assert!(!data.is_null());
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(data, len) }.to_vec()
}

/// The longest inputs, so that tests are short.
const SHORT: usize = 32 << 10;

/// Inputs of all kinds: images of each format, valid and damaged over and over, with bytes
/// changed at random, and what is no image.
pub(crate) struct Inputs {
    rng: Rng,
    damage: Mutator,
    pool: Vec<Vec<u8>>,
}

impl Inputs {
    /// Inputs, the same for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        // Of long images only the start is taken.
        let images = Format::ALL.into_iter().flat_map(|format| match format {
            Format::Vhdx => seeds(format, 1, 8 << 20, "inputs"),
            _ => seeds(format, 2, 1 << 20, "inputs"),
        });
        let mut pool: Vec<Vec<u8>> = images.collect();
        for image in &mut pool {
            image.truncate(SHORT);
        }
        pool.extend([Vec::new(), vec![0; 600], b"QFI\xfb".to_vec()]);
        Self {
            rng: Rng::from_text(&format!("inputs {seed}")),
            damage: Mutator::new(seed + 1000),
            pool,
        }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let at = self.rng.index(self.pool.len());
        let mut input = self.pool[at].clone();
        match self.rng.below(4) {
            0 => {}
            1 => input = self.damage.mutate(&input, SHORT),
            2 if !input.is_empty() => {
                for _ in 0..self.rng.between(1, 64) {
                    let place = self.rng.index(input.len().min(4096));
                    input[place] = self.rng.bits() as u8;
                }
            }
            _ => {
                let len = self.rng.below(2000);
                input = (0..len).map(|_| self.rng.bits() as u8).collect();
                // The signature of an image, and hostile bytes behind it.
                let magic = &self.pool[at];
                let count = magic.len().min(16).min(input.len());
                input[..count].copy_from_slice(&magic[..count]);
            }
        }
        // What was damaged is damaged again later.
        if self.rng.chance(10) && !at.is_multiple_of(3) {
            self.pool[at].clone_from(&input);
        }
        input
    }
}
