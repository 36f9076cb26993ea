/* What all of it stands on: errors, memory, bytes that grow, and files. */
#include "lape.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Errors and memory ----------------------------------------------------------------------- */

int fail(struct error *e, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    for (char *c = e->text; *c; c++) /* names from files may hold anything: keep it one line */
        if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
    return -1;
}

int fail_in(struct error *e, const char *where) {
    struct error inner = *e;
    return fail(e, "%s: %s", where, inner.text);
}

void *new_array(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (p) return p;
    fprintf(stderr, "lape: out of memory: %zu x %zu bytes\n", n, size);
    exit(EXIT_FAILURE);
}

void *grow_array(void *p, size_t n, size_t size) {
    void *grown = n > SIZE_MAX / size ? NULL : realloc(p, n * size);
    if (grown) return grown;
    fprintf(stderr, "lape: out of memory: %zu x %zu bytes\n", n, size);
    exit(EXIT_FAILURE);
}

void span_copy(char *to, size_t room, struct span s) {
    size_t n = s.n < room ? s.n : room - 1;
    for (size_t i = 0; i < n; i++) to[i] = (unsigned char)s.at[i] < ' ' ? '?' : s.at[i];
    to[n] = '\0';
}

bool span_is(struct span s, const char *text) {
    return s.n == strlen(text) && memcmp(s.at, text, s.n) == 0;
}

int brief(struct span s) { return s.n < 64 ? (int)s.n : 64; }

uint64_t hash_on(uint64_t hash, const void *bytes, size_t n) {
    const uint8_t *at = bytes;
    for (size_t i = 0; i < n; i++) hash = (hash ^ at[i]) * 0x100000001b3;
    return hash;
}

void buffer_add(struct buffer *b, const void *bytes, size_t n) {
    if (n > b->room - b->n) {
        b->room += b->room / 2 + n + 64;
        b->at = grow_array(b->at, b->room, 1);
    }
    if (n) memcpy((char *)b->at + b->n, bytes, n);
    b->n += n;
}

/* ---- Files ----------------------------------------------------------------------------------- */

/* Maps a whole regular file for reading. */
int map_file(const char *path, struct span *to, struct error *e) {
    struct stat st;
    int file = open(path, O_RDONLY);
    if (file < 0 || fstat(file, &st) != 0) {
        fail(e, "%s: cannot open: %s", path, strerror(errno));
        if (file >= 0) close(file);
        return -1;
    }
    void *map = MAP_FAILED;
    errno = EFBIG; /* for what is larger than addresses reach */
    if (!S_ISREG(st.st_mode))
        fail(e, "%s: not a regular file", path);
    else if (st.st_size == 0)
        fail(e, "%s: the file is empty", path);
    else if ((uint64_t)st.st_size > SIZE_MAX ||
             (map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, file, 0)) == MAP_FAILED)
        fail(e, "%s: cannot map: %s", path, strerror(errno));
    close(file);
    *to = (struct span){map == MAP_FAILED ? NULL : map, (size_t)st.st_size};
    return map == MAP_FAILED ? -1 : 0;
}

/* A file beside PATH whose name nobody has yet; its name goes to o->temporary. */
static FILE *open_temporary(struct output *o) {
    const size_t room = strlen(o->path) + 48;
    int file = -1;
    o->temporary = new_array(room, 1);
    for (int i = 0; file < 0 && i < 100; i++) { /* a killed run may have left one of this number */
        snprintf(o->temporary, room, "%s.%ld.%d.tmp", o->path, (long)getpid(), i);
        file = open(o->temporary, O_WRONLY | O_CREAT | O_EXCL, 0666);
        if (file < 0 && errno != EEXIST) break;
    }
    if (file < 0) o->temporary[0] = '\0'; /* nothing to remove */
    return file < 0 ? NULL : fdopen(file, "wb");
}

static struct output *unfinished; /* the last one that was opened */

static void discard_unfinished(void) {
    while (unfinished) output_discard(unfinished);
}

/* A link stays one: what it points to is replaced. NULL with errno when that cannot be told. */
static char *target_of(const char *path, bool *plain) {
    struct stat named, file;
    const bool there = lstat(path, &named) == 0;
    if (!there && errno != ENOENT) return NULL;
    const bool link = there && S_ISLNK(named.st_mode);
    if (link && stat(path, &file) != 0) return NULL;
    *plain = !there || S_ISREG((link ? file : named).st_mode);
    if (link && *plain) return realpath(path, NULL);
    return strcpy(new_array(strlen(path) + 1, 1), path);
}

int output_open(struct output *o, const char *path, struct error *e) {
    static bool asked;
    bool plain;
    *o = (struct output){.file = stdout};
    if (!path) return 0;
    if (!asked) asked = atexit(discard_unfinished) == 0;
    hold_signals();
    o->before = unfinished;
    unfinished = o;
    o->path = target_of(path, &plain);
    o->file = !o->path ? NULL : plain ? open_temporary(o) : fopen(path, "wb");
    if (o->file) {
        release_signals();
        return 0;
    }
    fail(e, "%s: cannot write: %s", path, strerror(errno));
    output_discard(o); /* which releases them */
    return -1;
}

/* So that a power cut does not lose a new name. A file system that cannot do that is let be. */
static void sync_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    const size_t n = slash ? (size_t)(slash - path) + 1 : 1;
    char *folder = malloc(n + 1); /* a result that has its name is not lost for want of memory */
    if (!folder) return;
    memcpy(folder, slash ? path : ".", n);
    folder[n] = '\0';
    const int file = open(folder, O_RDONLY | O_DIRECTORY);
    free(folder);
    if (file < 0) return;
    fsync(file);
    close(file);
}

int output_finish(struct output *o, struct error *e) {
    bool bad = ferror(o->file) != 0;
    errno = 0; /* what an earlier write said is not known any more */
    bad |= fflush(o->file) != 0 || (o->temporary && fsync(fileno(o->file)) != 0);
    bad |= o->path && fclose(o->file) != 0;
    o->file = NULL;
    hold_signals();
    bad = bad || (o->temporary && rename(o->temporary, o->path) != 0);
    if (bad)
        fail(e, "%s: cannot write: %s", o->path ? o->path : "standard output",
             errno ? strerror(errno) : "an earlier write failed");
    else if (o->temporary) {
        o->temporary[0] = '\0'; /* nothing to remove */
        sync_folder(o->path);
    }
    output_discard(o); /* which releases them */
    return bad ? -1 : 0;
}

void output_discard(struct output *o) {
    struct output **at = &unfinished;
    hold_signals();
    while (*at && *at != o) at = &(*at)->before;
    if (*at) *at = o->before;
    if (o->file && o->file != stdout) fclose(o->file);
    if (o->temporary && *o->temporary) remove(o->temporary);
    free(o->path);
    free(o->temporary);
    *o = (struct output){0};
    release_signals();
}

/* ---- Signals --------------------------------------------------------------------------------- */

static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
enum { ENDING = sizeof ending / sizeof *ending };

static void mask_ending(int how) {
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < ENDING; i++) sigaddset(&set, ending[i]);
    pthread_sigmask(how, &set, NULL);
}

void hold_signals(void) { mask_ending(SIG_BLOCK); }

void release_signals(void) { mask_ending(SIG_UNBLOCK); }

/* Nothing but what a signal's handler may call, here and below. */
static void unlink_unfinished(void) {
    for (const struct output *o = unfinished; o; o = o->before)
        if (o->temporary && *o->temporary) unlink(o->temporary);
}

static void end_by_signal(int number) {
    unlink_unfinished();
    raise(number); /* what it does by itself, once this returns */
}

static int first_to_close; /* a descriptor: of many threads, one can close it */

static void end_by_cut_file(int number) {
    static const char message[] = "lape: a file was cut short while it was read\n";
    (void)number;
    while (first_to_close >= 0 && close(first_to_close) != 0) pause();
    unlink_unfinished();
    if (write(STDERR_FILENO, message, sizeof message - 1) < 0) _exit(EXIT_FAILURE);
    _exit(EXIT_FAILURE);
}

void handle_signals(void) {
    struct sigaction end = {.sa_handler = end_by_signal, .sa_flags = (int)SA_RESETHAND}, old;
    for (int i = 0; i < ENDING; i++)
        if (sigaction(ending[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(ending[i], &end, NULL);
    first_to_close = dup(STDERR_FILENO);
    sigaction(SIGBUS, &(struct sigaction){.sa_handler = end_by_cut_file}, NULL);
}
