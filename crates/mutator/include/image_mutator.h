/* Mutations of disk images by their structure: libimage_mutator.a, libimage_mutator.so.
 *
 * Written by cbindgen; see crates/mutator/tests/all/header.rs. */

#ifndef IMAGE_MUTATOR_H
#define IMAGE_MUTATOR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/*
 The state of one afl-fuzz, with the buffers that it is given.
 */
typedef struct ImageMutatorAfl ImageMutatorAfl;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Starts the mutator. `afl` is not looked at. Options are in the environment; a mistake
 there ends the program with exit status 2.
 */
struct ImageMutatorAfl *afl_custom_init(void *_afl, unsigned int seed);

/*
 Ends the mutator.

 # Safety

 `data` is from `afl_custom_init` and not used afterwards, or null.
 */
void afl_custom_deinit(struct ImageMutatorAfl *data);

/*
 Mutates `buf`; `add_buf` is another input, or null. The result is at `out_buf` until the
 next call, and at most `max_size` bytes long.

 # Safety

 `data` is from `afl_custom_init` and in no other call, `out_buf` can be written to, and
 the buffers have the sizes that are given.
 */
size_t afl_custom_fuzz(struct ImageMutatorAfl *data,
                       uint8_t *buf,
                       size_t buf_size,
                       uint8_t **out_buf,
                       uint8_t *add_buf,
                       size_t add_buf_size,
                       size_t max_size);

/*
 How often `buf` should be mutated.

 # Safety

 As of `afl_custom_fuzz`.
 */
unsigned int afl_custom_fuzz_count(struct ImageMutatorAfl *data,
                                   const uint8_t *buf,
                                   size_t buf_size);

/*
 Corrects checksums and copies in most inputs, those of AFL++'s own mutations too. The
 same input gives the same. The result is at `out_buf` until the next call, and has
 `buf_size` bytes.

 # Safety

 As of `afl_custom_fuzz`.
 */
size_t afl_custom_post_process(struct ImageMutatorAfl *data,
                               uint8_t *buf,
                               size_t buf_size,
                               uint8_t **out_buf);

/*
 Begins to trim `buf`, and returns the number of steps.

 # Safety

 As of `afl_custom_fuzz`.
 */
int afl_custom_init_trim(struct ImageMutatorAfl *data, const uint8_t *buf, size_t buf_size);

/*
 The next candidate, at `out_buf` until the next call; 0 bytes where no step is left that
 changes anything.

 # Safety

 As of `afl_custom_fuzz`.
 */
size_t afl_custom_trim(struct ImageMutatorAfl *data, uint8_t **out_buf);

/*
 Says whether the candidate did the same. Returns the number of the next step.

 # Safety

 As of `afl_custom_fuzz`.
 */
int afl_custom_post_trim(struct ImageMutatorAfl *data, uint8_t success);

/*
 The last mutation in at most `max_description_len` bytes of the name of a file. The text
 is valid until the next call.

 # Safety

 As of `afl_custom_fuzz`.
 */
const char *afl_custom_describe(struct ImageMutatorAfl *data, size_t max_description_len);

/*
 Takes notice of a new entry of the queue: where this mutator made it, it draws what was
 changed in it more often, and can undo its edits when it is trimmed. The files are not
 looked at. Returns 0: their contents are as they were.

 # Safety

 As of `afl_custom_fuzz`.
 */
uint8_t afl_custom_queue_new_entry(struct ImageMutatorAfl *data,
                                   const uint8_t *_filename_new_queue,
                                   const uint8_t *_filename_orig_queue);

/*
 Mutates `data` in place and returns its new size, at most `max_size`. Options are in the
 environment; a mistake there ends the program with exit status 2.

 # Safety

 `data` has room for the larger of `size` and `max_size` bytes, all initialised, as
 libFuzzer promises.
 */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

/*
 Writes parts of both inputs to `out` and returns how many bytes, at most `max_out_size`.

 # Safety

 The buffers have the sizes that are given, and `out` is neither of the inputs.
 */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1,
                                 size_t size1,
                                 const uint8_t *data2,
                                 size_t size2,
                                 uint8_t *out,
                                 size_t max_out_size,
                                 unsigned int seed);

/*
 Mutates `data` in place and returns its new size, at most `max_size`. The same seed and
 bytes give the same.

 # Safety

 `data` has room for the larger of `size` and `max_size` bytes, all initialised.
 */
size_t image_mutator_mutate(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

/*
 Writes the first input with parts of the second to `out` and returns how many bytes, at
 most `max_out_size`.

 # Safety

 The buffers have the sizes that are given, and `out` is neither of the inputs.
 */
size_t image_mutator_cross_over(const uint8_t *data1,
                                size_t size1,
                                const uint8_t *data2,
                                size_t size2,
                                uint8_t *out,
                                size_t max_out_size,
                                unsigned int seed);

/*
 Corrects checksums and copies in place, as `afl_custom_post_process` does: in most
 inputs, decided by their bytes. Returns whether anything was changed.

 # Safety

 `data` has `size` bytes.
 */
bool image_mutator_repair(uint8_t *data, size_t size);

/*
 Writes the dictionary of a format (`qcow2`, `vhdx`, ...) to `out`, as text that ends with
 a zero, as much of it as `out_size` has room for. Returns the size of the text without
 the zero, 0 where there is no such format.

 # Safety

 `format` is a text that ends with a zero, or null; `out` has `out_size` bytes.
 */
size_t image_mutator_dictionary(const char *format, char *out, size_t out_size);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* IMAGE_MUTATOR_H */
