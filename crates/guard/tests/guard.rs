//! Programs under the guard: what is said of each fault, and that the rest runs as before.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const SIGABRT: i32 = 6;
const SIGSEGV: i32 = 11;

/// The library, which the build puts beside the folder of this test or into it.
fn library() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let modified = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("libguard.so"))
        .filter(|path| path.is_file())
        .max_by_key(modified)
        .expect("libguard.so is built along with its tests")
}

/// A C program, compiled without optimisation, so that its faults are not optimised away.
struct Program {
    folder: TempDir,
}

impl Program {
    fn compile(body: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let text = format!("{HEADERS}{body}");
        fs::write(folder.path().join("program.c"), text).unwrap();
        let compiled = Command::new("cc")
            .args([
                "-O0",
                "-fno-builtin",
                "-w",
                "-pthread",
                "-o",
                "program",
                "program.c",
            ])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(compiled.status.success(), "{compiled:?}");
        fs::write(folder.path().join("image"), [7; 8192]).unwrap();
        Self { folder }
    }

    fn run(&self, mode: &str, fill: &str) -> Output {
        guarded(&self.folder.path().join("program"), mode, fill)
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }
}

fn guarded(program: &Path, mode: &str, fill: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("LD_PRELOAD", library())
        .env("IMAGE_FUZZER_GUARD", mode)
        .env("IMAGE_FUZZER_GUARD_FILL", fill);
    command
}

/// What every program begins with.
const HEADERS: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile char sink;
static int image(void) { return open("image", O_RDONLY); }
"#;

/// Runs the body of `main` after an image was opened as `fd`, and demands its end by `signal`
/// after a line that says `said` and names this program for each of `places`.
#[track_caller]
fn dies(mode: &str, signal: i32, body: &str, said: &str, places: &[&str]) {
    let main = format!("int main(void) {{ int fd = image(); {body} return 0; }}");
    let output = Program::compile(&main).run(mode, "a5");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(signal), "{output:?}");
    let lines: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("image-fuzzer guard: "))
        .collect();
    let [line] = lines[..] else {
        panic!("not one line: {text}");
    };
    let parts: Vec<_> = line.split("; ").collect();
    assert_eq!(parts[0], said);
    let named: Vec<_> = parts[1..]
        .iter()
        .map(|part| {
            let (place, frames) = part.split_once(" at ").unwrap();
            assert!(frames.contains("program+0x"), "{line}");
            place
        })
        .collect();
    assert_eq!(named, places, "{line}");
}

const ALLOCATED: &[&str] = &["accessed", "allocated"];
const FREED: &[&str] = &["accessed", "allocated", "freed"];

#[test]
fn reads_and_writes_past_the_end() {
    let large = "char *p = malloc(65600); sink = p[65600];";
    let said = "read 0 bytes past the end of a block of 65600 bytes";
    dies("ends", SIGSEGV, large, said, ALLOCATED);
    let write = "char *p = calloc(100, 48); p[4800 + 15] = 1;";
    let said = "write 15 bytes past the end of a block of 4800 bytes";
    dies("all", SIGSEGV, write, said, ALLOCATED);
    // Eight bytes that begin inside.
    let small = "char *p = malloc(48); sink = *(uint64_t *)(p + 44);";
    let said = "read 0 bytes past the end of a block of 48 bytes";
    dies("ends", SIGSEGV, small, said, ALLOCATED);
    // By the C library on the program's behalf.
    let copy = "char *p = malloc(32), *q = malloc(64); memcpy(q, p, 64);";
    let said = "read 0 bytes past the end of a block of 32 bytes";
    dies("ends", SIGSEGV, copy, said, ALLOCATED);
}

#[test]
fn accesses_before_the_start() {
    let read = "char *p = malloc(100); sink = p[-1];";
    let said = "read 1 byte before the start of a block of 100 bytes";
    dies("starts", SIGSEGV, read, said, ALLOCATED);
    let write = "char *p = malloc(1 << 20); p[-16] = 1;";
    let said = "write 16 bytes before the start of a block of 1048576 bytes";
    dies("starts", SIGSEGV, write, said, ALLOCATED);
}

#[test]
fn accesses_to_freed_blocks() {
    let large = "char *p = malloc(5000); free(p); p[17] = 1;";
    let said = "write 17 bytes into a freed block of 5000 bytes";
    for mode in ["ends", "starts", "all"] {
        dies(mode, SIGSEGV, large, said, FREED);
    }
    let huge = "char *p = malloc(1 << 20); free(p); sink = p[1 << 19];";
    let said = "read 524288 bytes into a freed block of 1048576 bytes";
    dies("ends", SIGSEGV, huge, said, FREED);
    // Small ones are closed together.
    let small = "char *p = malloc(24); free(p); \
                 for (int i = 0; i < 16; i++) free(malloc(24)); sink = p[3];";
    let said = "read 3 bytes into a freed block of 24 bytes";
    dies("ends", SIGSEGV, small, said, FREED);
    let written = "char *p = malloc(24); free(p); p[5] = 1;";
    let said = "overwritten byte 5 bytes into a freed block of 24 bytes";
    dies("ends", SIGABRT, written, said, FREED);
    // A block that moved is a freed one.
    let moved = "char *p = malloc(6000), *q = p; p = realloc(p, 7000); sink = q[0];";
    let said = "read 0 bytes into a freed block of 6000 bytes";
    dies("ends", SIGSEGV, moved, said, FREED);
}

#[test]
fn wrong_frees() {
    let twice = "char *p = malloc(24); free(p); free(p);";
    dies(
        "ends",
        SIGABRT,
        twice,
        "double free of a freed block of 24 bytes",
        FREED,
    );
    let twice = "char *p = malloc(200000); free(p); p = realloc(p, 10);";
    dies(
        "starts",
        SIGABRT,
        twice,
        "double free of a freed block of 200000 bytes",
        FREED,
    );
    let inside = "char *p = malloc(5000); free(p + 16);";
    let said = "free of an address that is no block 16 bytes into a block of 5000 bytes";
    dies("ends", SIGABRT, inside, said, ALLOCATED);
}

#[test]
fn bytes_between_a_block_and_its_guard_page() {
    let at_free = "char *p = malloc(20); p[21] = 0; free(p);";
    let said = "overwritten byte 1 byte past the end of a block of 20 bytes";
    dies("ends", SIGABRT, at_free, said, ALLOCATED);
    let at_exit = "char *p = malloc(5000); p[-3] = 0;";
    let said = "overwritten byte 3 bytes before the start of a block of 5000 bytes";
    dies("ends", SIGABRT, at_exit, said, ALLOCATED);
    let behind = "char *p = malloc(20); p[20] = 0; free(p);";
    let said = "overwritten byte 0 bytes past the end of a block of 20 bytes";
    dies("starts", SIGABRT, behind, said, ALLOCATED);
}

#[test]
fn system_calls_that_run_into_a_guard_page() {
    let over = "char *p = malloc(4096); pread(fd, p, 5000, 0);";
    let said = "write by pread 0 bytes past the end of a block of 4096 bytes";
    dies("ends", SIGABRT, over, said, ALLOCATED);
    let freed = "char *p = malloc(4096); free(p); read(fd, p, 100);";
    let said = "write by read 0 bytes into a freed block of 4096 bytes";
    dies("ends", SIGABRT, freed, said, FREED);
    let vector = "char *p = malloc(64), *q = malloc(32); \
                  struct iovec v[] = {{p, 64}, {q, 40}}; preadv(fd, v, 2, 0);";
    let said = "write by preadv 0 bytes past the end of a block of 32 bytes";
    dies("ends", SIGABRT, vector, said, ALLOCATED);
    let write = "char *p = malloc(4096); int out = open(\"out\", O_CREAT | O_RDWR, 0600); \
                 pwrite(out, p + 1, 4096, 0);";
    let said = "read by pwrite 0 bytes past the end of a block of 4096 bytes";
    dies("ends", SIGABRT, write, said, ALLOCATED);
}

#[test]
fn three_overflows_through_one_call_site_are_told_apart_by_their_allocations() {
    let program = Program::compile(
        "static void fill(int fd, char *p) { pread(fd, p, 6000, 0); }\n\
         int main(int argc, char **argv) { int fd = image(); char *a = malloc(4096);\n\
         char *b = malloc(4096); char *c = malloc(4096);\n\
         fill(fd, getenv(\"WHICH\")[0] == 'a' ? a : getenv(\"WHICH\")[0] == 'b' ? b : c); }",
    );
    let said: Vec<_> = ["a", "b", "c", "a"]
        .into_iter()
        .map(|which| {
            let path = program.folder.path().join("program");
            let output = guarded(&path, "ends", "a5")
                .current_dir(program.folder.path())
                .env("WHICH", which)
                .output()
                .unwrap();
            String::from_utf8(output.stderr).unwrap()
        })
        .collect();
    assert_eq!(said[0], said[3]);
    assert!(
        said[0] != said[1] && said[1] != said[2] && said[0] != said[2],
        "{said:?}"
    );
    let accessed = |text: &str| {
        text.split("; ")
            .nth(1)
            .unwrap()
            .split(" < ")
            .next()
            .map(str::to_owned)
    };
    assert_eq!(accessed(&said[0]), accessed(&said[1]));
}

/// Runs a body that must go well in every mode.
#[track_caller]
fn runs(body: &str) {
    runs_in(&["off", "ends", "starts", "all"], body);
}

/// Runs a body that must go well in these modes.
#[track_caller]
fn runs_in(modes: &[&str], body: &str) {
    let program = Program::compile(body);
    for mode in modes {
        let output = program.run(mode, "a5");
        assert!(output.status.success(), "{mode}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{mode}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{mode}");
    }
}

#[test]
fn what_is_right_runs_as_before() {
    runs(
        r#"
#define NEED(condition) do { if (!(condition)) { printf("line %d\n", __LINE__); abort(); } } while (0)
int main(void) {
    char *early = malloc(100), *early_large = malloc(10000);
    int fd = image();
    memset(early, 1, 100); free(early); free(early_large);
    for (size_t size = 0; size < 20000; size = size * 5 / 4 + 1) {
        char *p = malloc(size);
        NEED((uintptr_t)p % 16 == 0 && malloc_usable_size(p) >= size);
        memset(p, 2, size);
        p = realloc(p, size + 100);
        for (size_t i = 0; i < size; i++) NEED(p[i] == 2);
        memset(p, 3, size + 100);
        p = realloc(p, size / 2 + 1);
        for (size_t i = 0; i < size / 2 + 1; i++) NEED(p[i] == 3);
        free(p);
        p = calloc(size, 3);
        for (size_t i = 0; i < 3 * size; i++) NEED(p[i] == 0);
        free(p);
        void *q;
        for (size_t align = 8; align <= 65536; align *= 2) {
            NEED(posix_memalign(&q, align, size) == 0 && (uintptr_t)q % align == 0);
            memset(q, 4, size); free(q);
            q = aligned_alloc(align, size); NEED((uintptr_t)q % align == 0); free(q);
            q = memalign(align, size); NEED((uintptr_t)q % align == 0); free(q);
        }
        q = valloc(size); NEED((uintptr_t)q % 4096 == 0); free(q);
        NEED(posix_memalign(&q, 3, size) == EINVAL);
        q = reallocarray(NULL, size, 2); memset(q, 5, 2 * size); free(q);
    }
    errno = 0;
    NEED(calloc(SIZE_MAX / 2, 3) == NULL && errno == ENOMEM);
    NEED(reallocarray(NULL, SIZE_MAX / 2, 3) == NULL);
    NEED(malloc(SIZE_MAX - 100) == NULL);
    free(NULL);
    errno = 77; free(malloc(5000)); NEED(errno == 77);
    /* More small blocks than there are pages prepared, all kept. */
    static char *kept[3000];
    for (int i = 0; i < 3000; i++) { kept[i] = malloc(i + 1); memset(kept[i], i, i + 1); }
    for (int i = 0; i < 3000; i++) { NEED(kept[i][i] == (char)i); free(kept[i]); }
    /* A read that ends early because the file does. */
    char *p = malloc(4096);
    NEED(pread(fd, p, 4096, 8000) == 192 && p[191] == 7);
    free(p);
    puts("done");
    return 0;
}"#,
    );
}

/// Pages are given out round and round: 20 GiB here, of a range of 8.
#[test]
fn freed_pages_are_used_again_when_all_were_used() {
    runs_in(
        &["ends", "starts"],
        r#"
int main(void) {
    char *kept[8]; image();
    for (int i = 0; i < 8; i++) { kept[i] = malloc(70000 + i); memset(kept[i], i, 70000 + i); }
    for (int i = 0; i < 100; i++) {
        char *p = malloc(200 << 20), *q = malloc(100000 + i);
        if (!p || !q) abort();
        p[100 << 20] = 1; memset(q, i, 100000 + i); free(p);
        if (q[99999] != (char)i) abort();
        free(q);
    }
    for (int i = 0; i < 8; i++) {
        for (int k = 0; k < 70000 + i; k++) if (kept[i][k] != i) abort();
        free(kept[i]);
    }
    puts("done");
}"#,
    );
}

#[test]
fn threads_share_it() {
    runs(
        r#"
static void *work(void *seed) {
    sigset_t all; sigfillset(&all); pthread_sigmask(SIG_SETMASK, &all, NULL);
    unsigned state = (uintptr_t)seed; char *mine[32] = {0}; size_t sizes[32] = {0};
    for (int i = 0; i < 5000; i++) {
        state = state * 1103515245 + 12345; int at = state >> 16 & 31;
        for (size_t k = 0; k < sizes[at]; k++) if (mine[at][k] != (char)at) abort();
        free(mine[at]); sizes[at] = state >> 8 & 8191; mine[at] = malloc(sizes[at]);
        memset(mine[at], at, sizes[at]);
    }
    for (int i = 0; i < 32; i++) free(mine[i]);
    return NULL;
}
int main(void) {
    image();
    pthread_t t[4];
    for (long i = 0; i < 4; i++) pthread_create(&t[i], NULL, work, (void *)(i + 1));
    for (int i = 0; i < 50; i++) {
        pid_t pid = fork();
        if (pid == 0) { for (int k = 0; k < 100; k++) free(malloc(k * 100)); _exit(0); }
        int status; waitpid(pid, &status, 0); if (status) abort();
    }
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    puts("done");
}"#,
    );
}

#[test]
fn a_fault_in_a_thread_that_blocks_all_signals_is_told() {
    let program = Program::compile(
        "static void *work(void *x) { sigset_t all; sigfillset(&all);\n\
         pthread_sigmask(SIG_SETMASK, &all, NULL); char *p = malloc(5000); sink = p[5040]; }\n\
         int main(void) { pthread_t t; pthread_create(&t, NULL, work, NULL); pthread_join(t, NULL); }",
    );
    let output = program.run("ends", "a5");
    assert_eq!(output.status.signal(), Some(SIGSEGV));
    let text = String::from_utf8_lossy(&output.stderr);
    let said = "image-fuzzer guard: read 40 bytes past the end of a block of 5000 bytes; ";
    assert!(text.starts_with(said), "{text}");
}

#[test]
fn the_program_keeps_its_own_handler() {
    let program = Program::compile(
        "static void own(int s) { write(1, \"own\\n\", 4); _exit(9); }\n\
         int main(void) { signal(SIGSEGV, own); struct sigaction a; sigaction(SIGSEGV, NULL, &a);\n\
         if (a.sa_handler != own) return 1; char *p = malloc(5000);\n\
         if (getenv(\"WILD\")) sink = *(char *)16; sink = p[5040]; return 2; }",
    );
    let output = program.run("ends", "a5");
    assert_eq!(output.status.code(), Some(9), "{output:?}");
    assert_eq!(output.stdout, b"own\n");
    assert!(
        output
            .stderr
            .starts_with(b"image-fuzzer guard: read 40 bytes past")
    );
    // A fault that has nothing to do with a block is the program's alone.
    let path = program.folder.path().join("program");
    let output = guarded(&path, "ends", "a5")
        .env("WILD", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(9), "{output:?}");
    assert_eq!(
        (&output.stdout[..], &output.stderr[..]),
        (&b"own\n"[..], &b""[..])
    );
}

#[test]
fn fresh_memory_shows_the_chosen_byte_and_freed_memory_its_complement() {
    let program = Program::compile(
        "int main(void) { char *early = malloc(64); image(); char *p = malloc(24), *q = malloc(100000);\n\
         char *z = calloc(1, 24); free(early);\n\
         printf(\"%02hhx %02hhx %02hhx %02hhx %02hhx\\n\", early[40], p[23], q[0], q[99999], z[5]); }",
    );
    let shown = |mode, fill| String::from_utf8(program.run(mode, fill).stdout).unwrap();
    assert_eq!(shown("ends", "a5"), "5a a5 a5 a5 00\n");
    assert_eq!(shown("starts", "3c"), "c3 3c 3c 3c 00\n");
}

/// CVE-2026-2243: a grain whose marker tells more bytes than the buffer has. `qemu-img` alone
/// says `Invalid argument`.
#[test]
fn a_read_past_the_end_in_the_installed_qemu_img() {
    let folder = TempDir::new().unwrap();
    let convert = |mode: &str| {
        let mut command = guarded(Path::new("qemu-img"), mode, "a5");
        command
            .args(["convert", "-O", "raw", "grain.vmdk", "out.img"])
            .current_dir(folder.path());
        command.output().unwrap()
    };
    fs::write(folder.path().join("grain.vmdk"), grain_marker()).unwrap();
    let off = convert("off");
    let text = String::from_utf8_lossy(&off.stderr);
    assert!(text.ends_with("Invalid argument\n"), "{text}");
    for mode in ["ends", "starts", "all"] {
        let output = convert(mode);
        assert_eq!(output.status.signal(), Some(SIGSEGV), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        let said = "image-fuzzer guard: read 0 bytes past the end of a block of 131072 bytes; ";
        assert!(text.starts_with(said), "{text}");
        assert!(text.contains("qemu-img+0x"), "{text}");
    }
}

/// A stream-optimised VMDK of one grain of 64 KiB. Its marker tells 131072 compressed bytes, as
/// many as the buffer has, of which the marker itself takes twelve; they are empty deflate
/// blocks, so that all of them are read.
fn grain_marker() -> Vec<u8> {
    const SECTOR: usize = 512;
    const TOLD: u32 = 131_072;
    let mut image = vmdk_header(u64::MAX);
    let descriptor = "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\n\
                      createType=\"streamOptimized\"\n\nRW 128 SPARSE \"o.vmdk\"\n";
    image.extend(descriptor.bytes());
    image.resize(128 * SECTOR, 0);
    let grain = image.len() / SECTOR;
    image.extend([0; 8]);
    image.extend(TOLD.to_le_bytes());
    image.extend([0x78, 0x01]);
    image.extend([0, 0, 0, 0xff, 0xff].repeat(26_300));
    let table = add_marker(&mut image, 4, 1);
    image.extend((grain as u32).to_le_bytes());
    image.resize(image.len() + 511 * 4, 0);
    let directory = add_marker(&mut image, 1, 2);
    image.extend((table as u32).to_le_bytes());
    add_marker(&mut image, 1, 3);
    image.extend(vmdk_header(directory as u64));
    image.resize(image.len() + SECTOR, 0);
    image
}

/// Adds the marker of so many sectors of metadata; gives the number of the sector behind.
fn add_marker(image: &mut Vec<u8>, sectors: u64, kind: u32) -> usize {
    image.resize(image.len().next_multiple_of(512), 0);
    image.extend(sectors.to_le_bytes());
    image.extend([0; 4]);
    image.extend(kind.to_le_bytes());
    image.resize(image.len().next_multiple_of(512), 0);
    image.len() / 512
}

/// The header of a stream-optimised VMDK of 128 sectors.
fn vmdk_header(directory: u64) -> Vec<u8> {
    let mut header = b"KDMV".to_vec();
    header.extend([3_u32, 0x3_0001].map(u32::to_le_bytes).concat());
    header.extend([128_u64, 128, 1, 1].map(u64::to_le_bytes).concat());
    header.extend(512_u32.to_le_bytes());
    let overhead = 128_u64;
    header.extend([0, directory, overhead].map(u64::to_le_bytes).concat());
    header.extend(b"\0\n \r\n\x01\0");
    header.resize(512, 0);
    header
}
