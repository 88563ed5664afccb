//! The functions that engines written in C call. All `unsafe` of this crate is here: pointers
//! become slices, and slices pointers. No panic leaves it: the caller gets its input back.

// What the functions are for cannot be had without: their callers are written in C.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::options::Options;

/// The options in the environment. A mistake there ends the program with one line on stderr
/// and exit status 2, as engines do where a mutator cannot start: a campaign would otherwise
/// run for days with other options than were asked for.
#[cfg(any(feature = "afl", feature = "libfuzzer"))]
fn options() -> Options {
    Options::from_vars(|name| std::env::var(name).ok()).unwrap_or_else(|error| {
        eprintln!("image-mutator: {error}");
        std::process::exit(2)
    })
}

/// What `work` gives; `otherwise` where it panics, which is a bug of this crate that must not
/// unwind into C.
fn guarded<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(otherwise)
}

/// The bytes at a pointer; none where there is none.
///
/// # Safety
///
/// A pointer that is not null points to `len` bytes that nobody writes to during `'a`.
unsafe fn bytes<'a>(data: *const u8, len: usize) -> &'a [u8] {
    if data.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: not null, and the caller promises the rest.
    unsafe { std::slice::from_raw_parts(data, len) }
}

/// The buffer at a pointer; none where there is none.
///
/// # Safety
///
/// A pointer that is not null points to `len` initialised bytes that nobody else uses during
/// `'a`.
unsafe fn buffer<'a>(data: *mut u8, len: usize) -> &'a mut [u8] {
    if data.is_null() || len == 0 {
        return &mut [];
    }
    // SAFETY: not null, and the caller promises the rest.
    unsafe { std::slice::from_raw_parts_mut(data, len) }
}

/// `AFL_CUSTOM_MUTATOR_LIBRARY`: see `docs/custom_mutators.md` of AFL++. There is no
/// `afl_custom_splice_optout`: the second input is put to use.
#[cfg(feature = "afl")]
pub mod afl {
    use std::ffi::{CString, c_char, c_int, c_uint, c_void};
    use std::ptr;

    use super::{bytes, guarded, options};
    use crate::mutator::Mutator;
    use crate::repair::{hash, repaired};
    use crate::trim::Trim;

    /// The state of one afl-fuzz, with the buffers that it is given.
    pub struct ImageMutatorAfl {
        mutator: Mutator,
        mutated: Vec<u8>,
        repaired: Vec<u8>,
        trim: Option<Trim>,
        trimmed: Vec<u8>,
        description: CString,
        /// The hash of the last input that was run, where this mutator made it.
        ran: Option<u64>,
    }

    /// Starts the mutator. `afl` is not looked at. Options are in the environment; a mistake
    /// there ends the program with exit status 2.
    #[unsafe(no_mangle)]
    pub extern "C" fn afl_custom_init(_afl: *mut c_void, seed: c_uint) -> *mut ImageMutatorAfl {
        let options = options();
        guarded(ptr::null_mut(), || {
            Box::into_raw(Box::new(ImageMutatorAfl {
                mutator: Mutator::with_options(seed.into(), &options),
                mutated: Vec::new(),
                repaired: Vec::new(),
                trim: None,
                trimmed: Vec::new(),
                description: CString::default(),
                ran: None,
            }))
        })
    }

    /// Ends the mutator.
    ///
    /// # Safety
    ///
    /// `data` is from `afl_custom_init` and not used afterwards, or null.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn afl_custom_deinit(data: *mut ImageMutatorAfl) {
        if !data.is_null() {
            // SAFETY: the pointer was made by Box::into_raw, and nobody else has it.
            let state = unsafe { Box::from_raw(data) };
            guarded((), || drop(state));
        }
    }

    /// Mutates `buf`; `add_buf` is another input, or null. The result is at `out_buf` until the
    /// next call, and at most `max_size` bytes long.
    ///
    /// # Safety
    ///
    /// `data` is from `afl_custom_init` and in no other call, `out_buf` can be written to, and
    /// the buffers have the sizes that are given.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn afl_custom_fuzz(
        data: *mut ImageMutatorAfl,
        buf: *mut u8,
        buf_size: usize,
        out_buf: *mut *mut u8,
        add_buf: *mut u8,
        add_buf_size: usize,
        max_size: usize,
    ) -> usize {
        // SAFETY: the caller's promises: the state is a box's, used by this call alone, and the
        // buffers are as long as it says.
        let (state, input, other) = unsafe {
            let state = data.as_mut();
            (state, bytes(buf, buf_size), bytes(add_buf, add_buf_size))
        };
        let (out, size) = match state {
            None => (buf, buf_size.min(max_size)),
            Some(state) => {
                let other = (!other.is_empty()).then_some(other);
                let mutated = guarded(None, || {
                    Some(state.mutator.mutate_with(input, other, max_size))
                });
                // A panic gives the input back.
                state.mutated =
                    mutated.unwrap_or_else(|| input[..input.len().min(max_size)].to_vec());
                (state.mutated.as_mut_ptr(), state.mutated.len())
            }
        };
        // SAFETY: the caller's promise.
        unsafe { *out_buf = out };
        size
    }

    /// How often `buf` should be mutated.
    ///
    /// # Safety
    ///
    /// As of `afl_custom_fuzz`.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn afl_custom_fuzz_count(
        data: *mut ImageMutatorAfl,
        buf: *const u8,
        buf_size: usize,
    ) -> c_uint {
        // SAFETY: as in afl_custom_fuzz.
        let (state, input) = unsafe { (data.as_mut(), bytes(buf, buf_size)) };
        state.map_or(1, |state| guarded(1, || state.mutator.attempts(input)))
    }

    /// Corrects checksums and copies in most inputs, those of AFL++'s own mutations too. The
    /// same input gives the same. The result is at `out_buf` until the next call, and has
    /// `buf_size` bytes.
    ///
    /// # Safety
    ///
    /// As of `afl_custom_fuzz`.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn afl_custom_post_process(
        data: *mut ImageMutatorAfl,
        buf: *mut u8,
        buf_size: usize,
        out_buf: *mut *mut u8,
    ) -> usize {
        // SAFETY: as in afl_custom_fuzz. The input may be a buffer of the state, which is only
        // read here, and of which no other reference is alive.
        let (state, input) = unsafe { (data.as_mut(), bytes(buf, buf_size)) };
        let mut out = buf;
        if let Some(state) = state {
            let ours = ptr::eq(buf.cast_const(), state.mutated.as_ptr());
            let corrected = guarded(None, || repaired(input));
            state.ran = ours.then(|| hash(corrected.as_deref().unwrap_or(input)));
            if let Some(corrected) = corrected {
                state.repaired = corrected;
                out = state.repaired.as_mut_ptr();
            }
        }
        // SAFETY: the caller's promise.
        unsafe { *out_buf = out };
        buf_size
    }

    /// Begins to trim `buf`, and returns the number of steps.
    ///
    /// # Safety
    ///
    /// As of `afl_custom_fuzz`.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn afl_custom_init_trim(
        data: *mut ImageMutatorAfl,
        buf: *const u8,
        buf_size: usize,
    ) -> c_int {
        // SAFETY: as in afl_custom_fuzz.
        let (state, input) = unsafe { (data.as_mut(), bytes(buf, buf_size)) };
        let Some(state) = state else { return 0 };
        state.trim = guarded(None, || Some(state.mutator.trim(input)));
        state.trim.as_ref().map_or(0, |trim| trim.steps() as c_int)
    }

    /// The next candidate, at `out_buf` until the next call; 0 bytes where no step is left that
    /// changes anything.
    ///
    /// # Safety
    ///
    /// As of `afl_custom_fuzz`.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn afl_custom_trim(
        data: *mut ImageMutatorAfl,
        out_buf: *mut *mut u8,
    ) -> usize {
        // SAFETY: as in afl_custom_fuzz.
        let state = unsafe { data.as_mut() };
        let mut nothing = Vec::new();
        let trimmed = match state {
            None => &mut nothing,
            Some(state) => {
                let trim = state.trim.as_mut();
                let candidate = guarded(None, || Some(trim?.candidate()?.to_vec()));
                state.trimmed = candidate.unwrap_or_default();
                &mut state.trimmed
            }
        };
        // SAFETY: the caller's promise. The pointer is never null, which afl-fuzz takes for a
        // failure, and that of an empty vector is not read from.
        unsafe { *out_buf = trimmed.as_mut_ptr() };
        trimmed.len()
    }

    /// Says whether the candidate did the same. Returns the number of the next step.
    ///
    /// # Safety
    ///
    /// As of `afl_custom_fuzz`.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn afl_custom_post_trim(
        data: *mut ImageMutatorAfl,
        success: u8,
    ) -> c_int {
        // SAFETY: as in afl_custom_fuzz.
        let state = unsafe { data.as_mut() };
        let Some(trim) = state.and_then(|state| state.trim.as_mut()) else {
            return c_int::MAX;
        };
        guarded(c_int::MAX, || trim.outcome(success != 0) as c_int)
    }

    /// The last mutation in at most `max_description_len` bytes of the name of a file. The text
    /// is valid until the next call.
    ///
    /// # Safety
    ///
    /// As of `afl_custom_fuzz`.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn afl_custom_describe(
        data: *mut ImageMutatorAfl,
        max_description_len: usize,
    ) -> *const c_char {
        // SAFETY: as in afl_custom_fuzz.
        let Some(state) = (unsafe { data.as_mut() }) else {
            return ptr::null();
        };
        let mut text = guarded(String::new(), || state.mutator.describe());
        // The words are ASCII, and so is each part of them.
        text.retain(|letter| letter.is_ascii_graphic() && letter != '/');
        text.truncate(max_description_len);
        state.description = CString::new(text).unwrap_or_default();
        state.description.as_ptr()
    }

    /// Takes notice of a new entry of the queue: where this mutator made it, it draws what was
    /// changed in it more often, and can undo its edits when it is trimmed. The files are not
    /// looked at. Returns 0: their contents are as they were.
    ///
    /// # Safety
    ///
    /// As of `afl_custom_fuzz`.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn afl_custom_queue_new_entry(
        data: *mut ImageMutatorAfl,
        _filename_new_queue: *const u8,
        _filename_orig_queue: *const u8,
    ) -> u8 {
        // SAFETY: as in afl_custom_fuzz.
        if let Some(state) = unsafe { data.as_mut() }
            && let Some(hash) = state.ran.take()
        {
            guarded((), || state.mutator.found(hash));
        }
        0
    }
}

/// The hooks of libFuzzer: see `FuzzerInterface.h` of LLVM.
#[cfg(feature = "libfuzzer")]
pub mod libfuzzer {
    use std::ffi::c_uint;

    use super::{buffer, bytes, guarded, options};
    use crate::libfuzzer::{cross_over_with, mutate_with};

    /// Mutates `data` in place and returns its new size, at most `max_size`. Options are in the
    /// environment; a mistake there ends the program with exit status 2.
    ///
    /// # Safety
    ///
    /// `data` has room for the larger of `size` and `max_size` bytes, all initialised, as
    /// libFuzzer promises.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn LLVMFuzzerCustomMutator(
        data: *mut u8,
        size: usize,
        max_size: usize,
        seed: c_uint,
    ) -> usize {
        // SAFETY: the caller's promise.
        let buffer = unsafe { buffer(data, size.max(max_size)) };
        let options = options();
        guarded(size.min(max_size), || {
            mutate_with(&options, buffer, size, max_size, seed)
        })
    }

    /// Writes parts of both inputs to `out` and returns how many bytes, at most `max_out_size`.
    ///
    /// # Safety
    ///
    /// The buffers have the sizes that are given, and `out` is neither of the inputs.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn LLVMFuzzerCustomCrossOver(
        data1: *const u8,
        size1: usize,
        data2: *const u8,
        size2: usize,
        out: *mut u8,
        max_out_size: usize,
        seed: c_uint,
    ) -> usize {
        // SAFETY: the caller's promise.
        let (one, other, out) = unsafe {
            let out = buffer(out, max_out_size);
            (bytes(data1, size1), bytes(data2, size2), out)
        };
        let options = options();
        guarded(0, || cross_over_with(&options, one, other, out, seed))
    }
}

/// The same under names of this crate, for programs that mix mutators.
#[cfg(feature = "c-api")]
pub mod c_api {
    use std::ffi::{CStr, c_char, c_uint};

    use super::{Options, buffer, bytes, guarded};
    use crate::libfuzzer::{cross_over_with, mutate_with};
    use crate::{Format, dictionary, repaired};

    /// Mutates `data` in place and returns its new size, at most `max_size`. The same seed and
    /// bytes give the same.
    ///
    /// # Safety
    ///
    /// `data` has room for the larger of `size` and `max_size` bytes, all initialised.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn image_mutator_mutate(
        data: *mut u8,
        size: usize,
        max_size: usize,
        seed: c_uint,
    ) -> usize {
        // SAFETY: the caller's promise.
        let buffer = unsafe { buffer(data, size.max(max_size)) };
        guarded(size.min(max_size), || {
            mutate_with(&Options::default(), buffer, size, max_size, seed)
        })
    }

    /// Writes the first input with parts of the second to `out` and returns how many bytes, at
    /// most `max_out_size`.
    ///
    /// # Safety
    ///
    /// The buffers have the sizes that are given, and `out` is neither of the inputs.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn image_mutator_cross_over(
        data1: *const u8,
        size1: usize,
        data2: *const u8,
        size2: usize,
        out: *mut u8,
        max_out_size: usize,
        seed: c_uint,
    ) -> usize {
        // SAFETY: the caller's promise.
        let (one, other, out) = unsafe {
            let out = buffer(out, max_out_size);
            (bytes(data1, size1), bytes(data2, size2), out)
        };
        guarded(0, || {
            cross_over_with(&Options::default(), one, other, out, seed)
        })
    }

    /// Corrects checksums and copies in place, as `afl_custom_post_process` does: in most
    /// inputs, decided by their bytes. Returns whether anything was changed.
    ///
    /// # Safety
    ///
    /// `data` has `size` bytes.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn image_mutator_repair(data: *mut u8, size: usize) -> bool {
        // SAFETY: the caller's promise.
        let buffer = unsafe { buffer(data, size) };
        let corrected = guarded(None, || repaired(buffer));
        if let Some(bytes) = corrected
            .as_ref()
            .filter(|bytes| bytes.len() == buffer.len())
        {
            buffer.copy_from_slice(bytes);
        }
        corrected.is_some()
    }

    /// Writes the dictionary of a format (`qcow2`, `vhdx`, ...) to `out`, as text that ends with
    /// a zero, as much of it as `out_size` has room for. Returns the size of the text without
    /// the zero, 0 where there is no such format.
    ///
    /// # Safety
    ///
    /// `format` is a text that ends with a zero, or null; `out` has `out_size` bytes.
    #[unsafe(no_mangle)]
    pub unsafe extern "C" fn image_mutator_dictionary(
        format: *const c_char,
        out: *mut c_char,
        out_size: usize,
    ) -> usize {
        if format.is_null() {
            return 0;
        }
        // SAFETY: the caller's promise.
        let (name, out) = unsafe { (CStr::from_ptr(format), buffer(out.cast(), out_size)) };
        let Some(format) = name.to_str().ok().and_then(Format::from_name) else {
            return 0;
        };
        let text = guarded(String::new(), || dictionary(format));
        if let Some(room) = out.len().checked_sub(1) {
            let count = text.len().min(room);
            out[..count].copy_from_slice(&text.as_bytes()[..count]);
            out[count] = 0;
        }
        text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_does_not_leave() {
        assert_eq!(guarded(7, || panic!("expected in this test")), 7);
        assert_eq!(guarded(7, || 8), 8);
    }
}
