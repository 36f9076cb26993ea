/* What stands between the program and the C library: see fuzz.h. */
#undef malloc
#undef calloc
#undef realloc
#undef free
#undef aligned_alloc
#undef mmap
#undef munmap
#undef exit
#undef open
#undef close
#define _XOPEN_SOURCE 700
#include "fuzz.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void *fuzz_calloc(size_t n, size_t size);
void *fuzz_malloc(size_t n);
void *fuzz_realloc(void *p, size_t n);
void *fuzz_aligned_alloc(size_t alignment, size_t n);
void fuzz_free(void *p);
void *fuzz_mmap(void *at, size_t n, int protection, int flags, int file, off_t offset);
int fuzz_munmap(void *p, size_t n);
int fuzz_open(const char *path, int flags, ...);
int fuzz_close(int file);
_Noreturn void fuzz_exit(int status);

_Noreturn void found(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "FOUND: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    fflush(stderr);
    abort();
}

/* ---- Blocks ------------------------------------------------------------------------------------
 *
 * Those of the target at hand, by address: open addressing. Blocks from before it are not there,
 * and neither are those that the C library makes.
 */
enum {
    SLOTS = 1 << 20,
    MULTIPLE = 64 /* bytes that a byte of the input may ask for, beyond those that are free */
};
static struct {
    struct block {
        void *at; /* NULL: free; GONE: was used */
        size_t n;
    } block[SLOTS];
    uint32_t order[SLOTS / 2]; /* [used] slots, as they were taken */
    size_t used, bytes, most;
    int file[16], files; /* that are open */
    bool running;
    jmp_buf out;
    int status;
} now_running;
#define RUN now_running
static char gone;
#define GONE ((void *)&gone)

static struct block *find_block(const void *p) {
    size_t i = ((uintptr_t)p >> 4) * 0x9e3779b97f4a7c15 >> 44;
    while (RUN.block[i].at && RUN.block[i].at != p) i = (i + 1) % SLOTS;
    return &RUN.block[i];
}

static void *noted(void *p, size_t n) {
    if (!RUN.running || !p) return p;
    EXPECT(RUN.used < SLOTS / 2, "%zu blocks of memory for one input", RUN.used);
    struct block *b = find_block(p);
    *b = (struct block){p, n};
    RUN.order[RUN.used++] = (uint32_t)(b - RUN.block);
    return p;
}

static void may_ask(size_t n) {
    if (!RUN.running) return;
    EXPECT(n <= RUN.most && RUN.bytes <= RUN.most - n,
           "%zu bytes are asked for beside %zu, where %zu are in proportion to the input", n,
           RUN.bytes, RUN.most);
    RUN.bytes += n;
}

/* Of a block that was noted, the bytes; they are not asked for any more. */
static size_t forget(void *p) {
    struct block *b = RUN.running && p ? find_block(p) : NULL;
    if (!b || !b->at) return 0;
    const size_t n = b->n;
    *b = (struct block){GONE, 0};
    RUN.bytes -= n;
    return n;
}

void *fuzz_calloc(size_t n, size_t size) {
    may_ask(n && size > SIZE_MAX / n ? SIZE_MAX : n * size);
    return noted(calloc(n, size), n * size);
}

void *fuzz_malloc(size_t n) {
    may_ask(n);
    return noted(malloc(n), n);
}

void *fuzz_aligned_alloc(size_t alignment, size_t n) {
    may_ask(n);
    return noted(aligned_alloc(alignment, n), n);
}

/* Always elsewhere, so that an address kept from before is one that a sanitizer knows as freed. */
void *fuzz_realloc(void *p, size_t n) {
    if (!RUN.running || (p && !find_block(p)->at)) return realloc(p, n);
    may_ask(n);
    const size_t before = forget(p);
    void *grown = noted(malloc(n ? n : 1), n);
    if (grown && p) memcpy(grown, p, before < n ? before : n);
    free(p);
    return grown;
}

void fuzz_free(void *p) {
    forget(p);
    free(p);
}

void *fuzz_mmap(void *at, size_t n, int protection, int flags, int file, off_t offset) {
    (void)at, (void)protection, (void)flags, (void)offset;
    char *copy = fuzz_malloc(n);
    return pread(file, copy, n, 0) == (ssize_t)n ? copy : MAP_FAILED;
}

int fuzz_munmap(void *p, size_t n) {
    (void)n;
    fuzz_free(p);
    return 0;
}

/* For reading. */
int fuzz_open(const char *path, int flags, ...) {
    const int file = open(path, flags, 0600);
    if (RUN.running && file >= 0) {
        EXPECT(RUN.files < 16, "16 files are open");
        RUN.file[RUN.files++] = file;
    }
    return file;
}

int fuzz_close(int file) {
    for (int i = RUN.files; i-- > 0;)
        if (RUN.file[i] == file) RUN.file[i] = RUN.file[--RUN.files];
    return close(file);
}

_Noreturn void fuzz_exit(int status) {
    if (!RUN.running) exit(status);
    RUN.status = status;
    longjmp(RUN.out, 1);
}

int contained(void (*target)(struct span input), struct span input, size_t free_bytes) {
    RUN.most = free_bytes + MULTIPLE * input.n;
    RUN.status = 0;
    RUN.running = true;
    if (setjmp(RUN.out) == 0) target(input);
    RUN.running = false;
    for (size_t i = 0; i < RUN.used; i++) {
        struct block *b = &RUN.block[RUN.order[i]];
        if (b->at != GONE) free(b->at);
        *b = (struct block){0};
    }
    while (RUN.files) close(RUN.file[--RUN.files]);
    RUN.used = RUN.bytes = 0;
    return RUN.status;
}

/* ---- Files ----------------------------------------------------------------------------------- */

static char folder[64];

static void remove_folder(void) {
    char command[96]; /* one that crashes leaves it to run.py */
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command)) fprintf(stderr, "%s stays\n", folder);
}

const char *as_file(const char *name, struct span bytes) {
    static char path[8][128];
    static int turn;
    char *to = path[turn = (turn + 1) % 8];
    if (!*folder) {
        const char *in = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%.40s/lape-fuzz.XXXXXX", in ? in : "/dev/shm");
        if (!mkdtemp(folder)) found("%s cannot be made", folder);
        atexit(remove_folder);
    }
    snprintf(to, sizeof *path, "%s/%s", folder, name);
    const int file = open(to, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || write(file, bytes.at, bytes.n) != (ssize_t)bytes.n || close(file))
        found("%s cannot be written", to);
    return to;
}
