/* Lets a call of the C library fail: the n-th that the program makes of a function. A shared object
 * that LD_PRELOAD puts before the library; inject.py tells it what to do:
 *
 *   FAIL_CALL   the function's name, or one of EXTRA below; none: all calls are counted
 *   FAIL_AT     which call of it fails, from 1
 *   FAIL_HOW    once (that one), on (and all after it), eintr, short (of read: harmless ones)
 *   FAIL_TOLD   a file descriptor for a line when a call failed; where calls are counted, a line of
 *               each fsync and rename, and at the end one of each function that was called
 *
 * Only what the program itself calls is counted, by the place that the call returns to; of what the
 * library calls for its own ends, memory alone is, as `inside`. What goes to stderr is left alone,
 * since the message has to arrive there; and so is what comes after the program's exit handlers,
 * which is the work of gcov where that is built in. Wants glibc.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Which call fails ------------------------------------------------------------------------ */

/* clang-format off */
#define NAMES(_) \
    _(malloc) _(calloc) _(realloc) _(aligned_alloc) _(strdup) _(realpath) _(mmap) _(open) _(close) \
    _(fstat) _(stat) _(lstat) _(access) _(lseek) _(read) _(write) _(fsync) _(fdatasync) _(rename) \
    _(remove) _(unlink) _(dup) _(sysconf) _(pthread_create) _(signal) _(sigaction) _(sigaltstack) \
    _(atexit) _(fopen) _(fdopen) _(fclose) _(fflush) _(fread) _(fwrite) _(fputs) _(fputc) \
    _(fprintf) _(printf)
/* A folder's open and fsync are apart from a file's. */
#define EXTRA(_) _(open_folder) _(fsync_folder) _(inside)
#define AS_ID(name)   ID_##name,
#define AS_TEXT(name) #name,
/* clang-format on */
enum id { NAMES(AS_ID) EXTRA(AS_ID) IDS };
static const char *const name_of[] = {NAMES(AS_TEXT) EXTRA(AS_TEXT)};

static struct {
    bool ready, on, eintr, cut;
    bool begun, over; /* from the program's first call to its last exit handler */
    int id;           /* of what fails; IDS: nothing does */
    long at;
    int told;
    uintptr_t from, to; /* where the program's instructions lie */
    atomic_long calls[IDS];
} plan = {.id = IDS, .told = -1};

static void tell(const char *format, ...) {
    char line[2 * PATH_MAX];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (plan.told >= 0 && write(plan.told, line, (size_t)n) != n) _exit(99);
}

static int find_program(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size, (void)context;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X)) continue;
        plan.from = info->dlpi_addr + part->p_vaddr;
        plan.to = plan.from + part->p_memsz;
    }
    return 1; /* the program is the first */
}

__attribute__((constructor)) static void begin(void) {
    const char *call = getenv("FAIL_CALL"), *at = getenv("FAIL_AT"), *how = getenv("FAIL_HOW");
    const char *told = getenv("FAIL_TOLD");
    if (!told) return;
    for (int i = 0; call && i < IDS; i++)
        if (strcmp(call, name_of[i]) == 0) plan.id = i;
    plan.at = at ? atol(at) : 0;
    plan.on = how && strcmp(how, "on") == 0;
    plan.eintr = how && strcmp(how, "eintr") == 0;
    plan.cut = how && strcmp(how, "short") == 0;
    plan.told = atoi(told);
    dl_iterate_phdr(find_program, NULL);
    plan.ready = true;
}

__attribute__((destructor)) static void finish(void) {
    for (int i = 0; plan.ready && plan.id == IDS && i < IDS; i++)
        if (plan.calls[i]) tell("calls %s %ld\n", name_of[i], (long)plan.calls[i]);
}

static void end(void) { plan.over = true; }

/* Whether this call is the one. */
static bool fails(int id, const void *caller) {
    const uintptr_t from = (uintptr_t)caller;
    const bool own = from >= plan.from && from < plan.to;
    if (!plan.ready || plan.over || (!own && id != ID_inside)) return false;
    if (own && !plan.begun) plan.begun = true, atexit(end); /* after those that it will register */
    const long n = atomic_fetch_add(&plan.calls[id], 1) + 1;
    if (id != plan.id || n < plan.at || (n > plan.at && !plan.on)) return false;
    if (n == plan.at) tell("failed %s %ld\n", name_of[id], n);
    return true;
}

#define FAILS(name) fails(ID_##name, __builtin_return_address(0))

/* The library's own function of that name. */
#define REAL(name)                                                                                 \
    static __typeof__(&name) real;                                                                 \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name)

/* A function that does nothing else than fail, or what the library's does. */
#define WRAP(type, name, id, parameters, arguments, bad, number)                                   \
    type name parameters {                                                                         \
        REAL(name);                                                                                \
        if (!fails(ID_##id, __builtin_return_address(0))) return real arguments;                   \
        errno = number;                                                                            \
        return bad;                                                                                \
    }

/* ---- Memory ------------------------------------------------------------------------------------
 * dlsym may want memory itself, so these go to the library by the names that glibc has for that.
 */
extern void *__libc_malloc(size_t n), *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n), *__libc_memalign(size_t alignment, size_t n);

static bool no_memory(int id, const void *caller) {
    const uintptr_t from = (uintptr_t)caller;
    if (!fails(from >= plan.from && from < plan.to ? id : ID_inside, caller)) return false;
    errno = ENOMEM;
    return true;
}
#define NO_MEMORY(name) no_memory(ID_##name, __builtin_return_address(0))

void *malloc(size_t n) { return NO_MEMORY(malloc) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return NO_MEMORY(calloc) ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return NO_MEMORY(realloc) ? NULL : __libc_realloc(p, n); }
void *aligned_alloc(size_t alignment, size_t n) {
    return NO_MEMORY(aligned_alloc) ? NULL : __libc_memalign(alignment, n);
}

/* ---- Files and threads ----------------------------------------------------------------------- */

/* clang-format off */
WRAP(char *, strdup, strdup, (const char *s), (s), NULL, ENOMEM)
WRAP(char *, realpath, realpath, (const char *path, char *to), (path, to), NULL, ENOMEM)
WRAP(void *, mmap, mmap, (void *at, size_t n, int may, int flags, int file, off_t from),
     (at, n, may, flags, file, from), MAP_FAILED, ENOMEM)
WRAP(int, stat, stat, (const char *path, struct stat *to), (path, to), -1, EIO)
WRAP(int, lstat, lstat, (const char *path, struct stat *to), (path, to), -1, EIO)
WRAP(int, access, access, (const char *path, int what), (path, what), -1, EACCES)
WRAP(off_t, lseek, lseek, (int file, off_t to, int from), (file, to, from), -1, EIO)
WRAP(ssize_t, write, write, (int file, const void *at, size_t n), (file, at, n), -1, ENOSPC)
WRAP(int, fdatasync, fdatasync, (int file), (file), -1, EIO)
WRAP(int, remove, remove, (const char *path), (path), -1, EACCES)
WRAP(int, unlink, unlink, (const char *path), (path), -1, EACCES)
WRAP(int, dup, dup, (int file), (file), -1, EMFILE)
WRAP(long, sysconf, sysconf, (int name), (name), -1, EINVAL)
WRAP(int, pthread_create, pthread_create,
     (pthread_t *to, const pthread_attr_t *how, void *(*run)(void *), void *context),
     (to, how, run, context), EAGAIN, EAGAIN)
WRAP(int, sigaction, sigaction, (int n, const struct sigaction *to, struct sigaction *was),
     (n, to, was), -1, EINVAL)
WRAP(int, sigaltstack, sigaltstack, (const stack_t *to, stack_t *was), (to, was), -1, ENOMEM)
WRAP(sighandler_t, signal, signal, (int n, sighandler_t to), (n, to), SIG_ERR, EINVAL)
extern sighandler_t __sysv_signal(int n, sighandler_t to);
WRAP(sighandler_t, __sysv_signal, signal, (int n, sighandler_t to), (n, to), SIG_ERR, EINVAL)
extern int __cxa_atexit(void (*run)(void *), void *context, void *object);
WRAP(int, __cxa_atexit, atexit, (void (*run)(void *), void *context, void *object),
     (run, context, object), -1, ENOMEM)
/* clang-format on */

int open(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    const unsigned mode = flags & O_CREAT ? va_arg(args, unsigned) : 0;
    va_end(args);
    REAL(open);
    if (!fails(flags & O_DIRECTORY ? ID_open_folder : ID_open, __builtin_return_address(0)))
        return real(path, flags, mode);
    errno = EMFILE;
    return -1;
}

int fstat(int file, struct stat *to) {
    REAL(fstat);
    if (!FAILS(fstat)) return real(file, to);
    errno = EIO;
    return -1;
}

int close(int file) {
    REAL(close);
    if (!FAILS(close)) return real(file);
    (void)real(file); /* as on a file that lies elsewhere: what was written did not arrive */
    errno = EIO;
    return -1;
}

ssize_t read(int file, void *to, size_t n) {
    REAL(read);
    if (!FAILS(read)) return real(file, to, n);
    if (plan.cut) return real(file, to, n < 3 ? n : 3);
    errno = plan.eintr ? EINTR : EIO;
    return -1;
}

/* ---- How a file gets its name: told, so that the order can be judged --------------------------
 */

static long long size_at(const char *path) {
    struct stat s;
    return lstat(path, &s) ? -1 : (long long)s.st_size;
}

int fsync(int file) {
    struct stat s = {0};
    char name[64], path[PATH_MAX] = "";
    REAL(fsync);
    (void)fstat(file, &s);
    const bool folder = S_ISDIR(s.st_mode);
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    if (plan.ready && plan.id == IDS && readlink(name, path, sizeof path - 1) >= 0)
        tell("%s %lld %s\n", folder ? "fsync_folder" : "fsync", (long long)s.st_size, path);
    if (!fails(folder ? ID_fsync_folder : ID_fsync, __builtin_return_address(0))) return real(file);
    errno = EIO;
    return -1;
}

int rename(const char *from, const char *to) {
    REAL(rename);
    if (plan.ready && plan.id == IDS) tell("rename %lld %s\t%s\n", size_at(from), from, to);
    if (!FAILS(rename)) return real(from, to);
    errno = EACCES;
    return -1;
}

/* ---- stdio -------------------------------------------------------------------------------------
 * A write that fails leaves its mark on the stream, as the library's do.
 */
static bool bad_write(int id, FILE *to, const void *caller) {
    if (to == stderr || !fails(id, caller)) return false;
    to->_flags |= 0x20; /* what ferror() asks for: glibc's _IO_ERR_SEEN */
    errno = ENOSPC;
    return true;
}
#define BAD_WRITE(id, to) bad_write(ID_##id, to, __builtin_return_address(0))

FILE *fopen(const char *path, const char *mode) {
    REAL(fopen);
    if (!FAILS(fopen)) return real(path, mode);
    errno = EMFILE;
    return NULL;
}

FILE *fdopen(int file, const char *mode) {
    REAL(fdopen);
    if (!FAILS(fdopen)) return real(file, mode);
    errno = ENOMEM;
    return NULL;
}

int fclose(FILE *f) {
    REAL(fclose);
    if (!FAILS(fclose)) return real(f);
    (void)real(f);
    errno = ENOSPC;
    return EOF;
}

int fflush(FILE *f) {
    REAL(fflush);
    if (!f || !__fpending(f)) return real(f); /* with nothing to write, it does not fail */
    return BAD_WRITE(fflush, f) ? EOF : real(f);
}

size_t fread(void *to, size_t size, size_t n, FILE *from) {
    REAL(fread);
    if (!FAILS(fread)) return real(to, size, n, from);
    from->_flags |= 0x20;
    errno = EIO;
    return 0;
}

size_t fwrite(const void *at, size_t size, size_t n, FILE *to) {
    REAL(fwrite);
    return BAD_WRITE(fwrite, to) ? 0 : real(at, size, n, to);
}

int fputs(const char *s, FILE *to) {
    REAL(fputs);
    return BAD_WRITE(fputs, to) ? EOF : real(s, to);
}

int puts(const char *s) {
    REAL(puts);
    return BAD_WRITE(fputs, stdout) ? EOF : real(s);
}

int fputc(int c, FILE *to) {
    REAL(fputc);
    return BAD_WRITE(fputc, to) ? EOF : real(c, to);
}

#undef putc
int putc(int c, FILE *to) {
    REAL(putc);
    return BAD_WRITE(fputc, to) ? EOF : real(c, to);
}

#undef putchar
int putchar(int c) {
    REAL(putchar);
    return BAD_WRITE(fputc, stdout) ? EOF : real(c);
}

int fprintf(FILE *to, const char *format, ...) {
    va_list args;
    if (BAD_WRITE(fprintf, to)) return -1;
    va_start(args, format);
    const int n = vfprintf(to, format, args);
    va_end(args);
    return n;
}

int printf(const char *format, ...) {
    va_list args;
    if (BAD_WRITE(printf, stdout)) return -1;
    va_start(args, format);
    const int n = vprintf(format, args);
    va_end(args);
    return n;
}
