/* Tests of the GGUF reader and writer and of model_open(), over files that are made here byte by
 * byte, sound ones and hostile ones.
 *
 *     cc -std=c11 -I. -o test_gguf test/test_gguf.c model.c -lm -lpthread
 *
 * Prints the checks that fail, then `N passed, N failed`; exits with 1 when one failed. Worth
 * running under -fsanitize=address,undefined, too.
 */
#include "lape.h"

#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct maker; /* of a file, below */

/* ---- Checks ---------------------------------------------------------------------------------- */

static struct {
    char directory[512], path[600], doing[256]; /* the temporary file, and what is tried with it */
    unsigned long passed, failed;
    bool sweeping; /* the checks of a sweep count as one when all of them pass */
    unsigned sum;  /* of all that was read, so that reading is not left out */
    bool ended;
} test;

static void check(bool good, const char *what, const char *seen) {
    test.passed += good && !test.sweeping;
    test.failed += !good;
    if (!good) printf("FAILED: %s: %s%s%s\n", test.doing, what, *seen ? ": " : "", seen);
}

#define CHECK(condition) check(condition, #condition, "")

/* Runs a test that tries thousands of files as one check. */
static void sweep(void (*run)(const char *what, void (*make)(struct maker *m)), const char *what,
                  void (*make)(struct maker *m)) {
    const unsigned long before = test.failed;
    test.sweeping = true;
    run(what, make);
    test.sweeping = false;
    test.passed += test.failed == before;
}

static void clean_up(void) {
    char name[700];
    static const char *const ending[] = {"", ".2", ".link"};
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
        snprintf(name, sizeof name, "%s%s", test.path, ending[i]);
        unlink(name);
    }
    rmdir(test.directory);
}

/* The program ended where it should not have: out of memory, or by a signal. */
static void report_end(void) {
    if (test.ended) return;
    test.ended = true;
    printf("FAILED: the program ended at: %s\n", test.doing);
    printf("%lu passed, %lu failed\n", test.passed, test.failed + 1);
    fflush(stdout);
    clean_up();
}

static void on_signal(int number) {
    (void)number;
    report_end();
    _Exit(EXIT_FAILURE);
}

static void start(void) {
    const char *parent = getenv("TMPDIR");
    const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM};
    snprintf(test.directory, sizeof test.directory, "%s/test_gguf.XXXXXX",
             parent && *parent ? parent : "/tmp");
    if (!mkdtemp(test.directory)) {
        perror(test.directory);
        exit(EXIT_FAILURE);
    }
    snprintf(test.path, sizeof test.path, "%s/file", test.directory);
    atexit(report_end);
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++) signal(crashes[i], on_signal);
    alarm(300); /* a reader that does not end has failed, too */
}

/* Names the case at hand for what is printed. */
#define DOING(...) snprintf(test.doing, sizeof test.doing, __VA_ARGS__)

/* ---- Files in memory ------------------------------------------------------------------------- */

static void add_little(struct buffer *b, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++, v >>= 8) buffer_add(b, &(uint8_t){(uint8_t)v}, 1);
}

static void add_u32(struct buffer *b, uint64_t v) { add_little(b, v, 4); }

static void add_u64(struct buffer *b, uint64_t v) { add_little(b, v, 8); }

static void add_text(struct buffer *b, const char *text) {
    add_u64(b, strlen(text));
    buffer_add(b, text, strlen(text));
}

static void pad(struct buffer *b, size_t alignment) {
    while (b->n % alignment) buffer_add(b, "", 1);
}

static uint64_t bits_of_float(double v) {
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static uint64_t bits_of_double(double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* A file in the making. What is called `without` is left out, so that a test can put another. */
struct maker {
    struct buffer values, infos, data;
    uint64_t n_values, n_tensors;
    size_t alignment; /* 0: 32 */
    const char *without;
};

/* The start of a value; false when it is to be left out. */
static bool key(struct maker *m, const char *name, uint32_t type) {
    if (m->without && strcmp(m->without, name) == 0) return false;
    m->n_values++;
    add_text(&m->values, name);
    add_u32(&m->values, type);
    return true;
}

static void number(struct maker *m, const char *name, uint32_t type, uint64_t v) {
    static const int size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (key(m, name, type)) add_little(&m->values, v, size[type]);
}

static void string(struct maker *m, const char *name, const char *v) {
    if (key(m, name, GGUF_STRING)) add_text(&m->values, v);
}

static void array(struct maker *m, const char *name, uint32_t item, uint64_t n) {
    if (!key(m, name, GGUF_ARRAY)) return;
    add_u32(&m->values, item);
    add_u64(&m->values, n);
}

/* The entry of a tensor, whatever it says. */
static void info(struct maker *m, const char *name, uint32_t dims, const uint64_t *dim,
                 uint32_t type, uint64_t offset) {
    m->n_tensors++;
    add_text(&m->infos, name);
    add_u32(&m->infos, dims);
    for (uint32_t i = 0; i < dims; i++) add_u64(&m->infos, dim[i]);
    add_u32(&m->infos, type);
    add_u64(&m->infos, offset);
}

/* The bits of a multiple of 1/8, at most 1, as binary16. */
static uint32_t half(double v) {
    int exponent;
    double fraction = frexp(fabs(v), &exponent);
    if (v == 0) return 0;
    return (v < 0 ? 0x8000u : 0) | (uint32_t)(exponent + 14) << 10 |
           (uint32_t)((2 * fraction - 1) * 1024);
}

/* The i-th number of a tensor: a multiple of 1/8 from -1 to 1, which every type holds exactly. */
static double weight(uint64_t i) { return (double)((int)(i * 7 % 17) - 8) / 8; }

/* The bytes of n numbers in a type. */
static void add_numbers(struct buffer *b, uint32_t type, uint64_t n, uint64_t seed) {
    for (uint64_t i = 0; i < n; i++) {
        const double v = weight(i + seed);
        switch (type) {
        case TENSOR_F32: add_u32(b, bits_of_float(v)); break;
        case TENSOR_F16: add_little(b, half(v), 2); break;
        case TENSOR_BF16: add_little(b, bits_of_float(v) >> 16, 2); break;
        case TENSOR_I64: add_u64(b, (uint64_t)(int64_t)(v * 8)); break;
        case TENSOR_Q8_0:
            if (i % 32 == 0) add_little(b, half(0.125), 2);
            add_little(b, (uint64_t)(int64_t)(v * 8), 1);
            break;
        default: break; /* a type that is not read: its tensor has no bytes here */
        }
    }
}

/* A tensor with its data behind those that are there; columns alone make a vector. */
static void tensor(struct maker *m, const char *name, uint32_t type, uint64_t rows,
                   uint64_t columns) {
    const uint64_t dim[] = {columns, rows};
    if (m->without && strcmp(m->without, name) == 0) return;
    pad(&m->data, m->alignment ? m->alignment : 32);
    info(m, name, rows ? 2 : 1, dim, type, m->data.n);
    add_numbers(&m->data, type, rows ? rows * columns : columns, m->n_tensors);
}

/* The whole file. It ends with the last tensor's last byte. */
static struct buffer assembled(const struct maker *m) {
    struct buffer b = {0};
    buffer_add(&b, "GGUF", 4);
    add_u32(&b, 3);
    add_u64(&b, m->n_tensors);
    add_u64(&b, m->n_values);
    buffer_add(&b, m->values.at, m->values.n);
    buffer_add(&b, m->infos.at, m->infos.n);
    if (m->n_tensors) pad(&b, m->alignment ? m->alignment : 32);
    buffer_add(&b, m->data.at, m->data.n);
    return b;
}

static void discard(struct maker *m) {
    free(m->values.at);
    free(m->infos.at);
    free(m->data.at);
    *m = (struct maker){0};
}

static void write_file(const void *bytes, size_t n) {
    FILE *f = fopen(test.path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) {
        perror(test.path);
        exit(EXIT_FAILURE);
    }
}

static void write_made(const struct maker *m) {
    struct buffer b = assembled(m);
    write_file(b.at, b.n);
    free(b.at);
}

/* Overwrites bytes of the file that is there. */
static void poke(FILE *f, size_t at, const void *bytes, size_t n) {
    if (fseek(f, (long)at, SEEK_SET) || fwrite(bytes, 1, n, f) != n || fflush(f)) {
        perror(test.path);
        exit(EXIT_FAILURE);
    }
}

static struct buffer read_file(const char *path) {
    struct buffer b = {0};
    char block[4096];
    size_t n;
    FILE *f = fopen(path, "rb");
    while (f && (n = fread(block, 1, sizeof block, f)) > 0) buffer_add(&b, block, n);
    if (f) fclose(f);
    return b;
}

static bool same_bytes(struct buffer a, struct buffer b) {
    return a.n == b.n && memcmp(a.at, b.at, a.n) == 0;
}

static bool exists(const char *ending) {
    char name[700];
    struct stat st;
    snprintf(name, sizeof name, "%s%s", test.path, ending);
    return stat(name, &st) == 0;
}

/* ---- The two sound files --------------------------------------------------------------------- */

/* Every type of value, alone and in an array, and every type of tensor. */
static void make_all_types(struct maker *m) {
    number(m, "u8", GGUF_U8, 255);
    number(m, "i8", GGUF_I8, 127);
    number(m, "u16", GGUF_U16, 65535);
    number(m, "i16", GGUF_I16, 32767);
    number(m, "u32", GGUF_U32, 4294967295);
    number(m, "i32", GGUF_I32, 2147483647);
    number(m, "u64", GGUF_U64, UINT64_MAX);
    number(m, "i64", GGUF_I64, INT64_MAX);
    number(m, "minus.i8", GGUF_I8, (uint64_t)-1);
    number(m, "minus.i16", GGUF_I16, (uint64_t)INT16_MIN);
    number(m, "minus.i32", GGUF_I32, (uint64_t)-40000);
    number(m, "minus.i64", GGUF_I64, (uint64_t)INT64_MIN);
    number(m, "high.u8", GGUF_U8, 128);
    number(m, "high.u16", GGUF_U16, 32768);
    number(m, "high.u32", GGUF_U32, 2147483648);
    number(m, "high.u64", GGUF_U64, (uint64_t)1 << 63);
    number(m, "zero", GGUF_I16, 0);
    number(m, "f32", GGUF_F32, bits_of_float(-0.15625));
    number(m, "f64", GGUF_F64, bits_of_double(3.141592653589793));
    number(m, "yes", GGUF_BOOL, 1);
    number(m, "no", GGUF_BOOL, 0);
    string(m, "string", "a space, \xe2\x96\x81 and\ta tab");
    string(m, "empty", "");
    if (key(m, "zeros", GGUF_STRING)) {
        add_u64(&m->values, 3);
        buffer_add(&m->values, "\0x\0", 3);
    }
    array(m, "array.u8", GGUF_U8, 3);
    buffer_add(&m->values, "\1\2\xff", 3);
    array(m, "array.i16", GGUF_I16, 2);
    add_little(&m->values, 7, 2);
    add_little(&m->values, (uint64_t)-7, 2);
    array(m, "array.i32", GGUF_I32, 2);
    add_u32(&m->values, 1);
    add_u32(&m->values, (uint64_t)-3);
    array(m, "array.f32", GGUF_F32, 1);
    add_u32(&m->values, bits_of_float(0.1));
    array(m, "array.bool", GGUF_BOOL, 2);
    buffer_add(&m->values, "\1\0", 2);
    array(m, "array.u64", GGUF_U64, 2);
    add_u64(&m->values, UINT64_MAX - 1);
    add_u64(&m->values, 5);
    array(m, "array.string", GGUF_STRING, 3);
    add_text(&m->values, "one");
    add_text(&m->values, "");
    add_text(&m->values, "three");
    array(m, "array.empty", GGUF_STRING, 0);
    tensor(m, "t.f32", TENSOR_F32, 2, 3);
    tensor(m, "t.f16", TENSOR_F16, 0, 5);
    tensor(m, "t.bf16", TENSOR_BF16, 1, 7);
    tensor(m, "t.q8_0", TENSOR_Q8_0, 2, 32);
    info(m, "t.iq2_xxs", 2, (uint64_t[]){32, 1}, 16, 0);
    pad(&m->data, m->alignment ? m->alignment : 32);
    info(m, "t.4d", 4, (uint64_t[]){2, 1, 1, 2}, TENSOR_F32, m->data.n);
    add_numbers(&m->data, TENSOR_F32, 4, 1);
    tensor(m, "t.i64", TENSOR_I64, 4, 2);
}

/* The sizes of a llama, and what its matrices are stored as. */
struct sizes {
    uint64_t width, neurons, heads, kv_heads, vocab;
    uint32_t type;
};
static const struct sizes tiny = {4, 3, 2, 1, 8, TENSOR_F32};

/* A llama of one layer that model_open() takes, its last tensor a multiple of 32 bytes long. */
static void make_llama(struct maker *m, const struct sizes *s) {
    const uint64_t D = s->width, F = s->neurons, KV = D / s->heads * s->kv_heads;
    string(m, "general.architecture", "llama");
    string(m, "general.name", "tiny");
    number(m, "llama.block_count", GGUF_U32, 1);
    number(m, "llama.embedding_length", GGUF_U32, D);
    number(m, "llama.feed_forward_length", GGUF_U64, F);
    number(m, "llama.attention.head_count", GGUF_U16, s->heads);
    number(m, "llama.attention.head_count_kv", GGUF_U8, s->kv_heads);
    number(m, "llama.context_length", GGUF_I32, 16);
    number(m, "llama.attention.sliding_window", GGUF_I32, 2);
    number(m, "llama.rope.freq_base", GGUF_F32, bits_of_float(10000));
    number(m, "llama.attention.layer_norm_rms_epsilon", GGUF_F32, bits_of_float(1e-5));
    tensor(m, "output_norm.weight", TENSOR_F32, 0, D);
    tensor(m, "blk.0.attn_norm.weight", TENSOR_F32, 0, D);
    tensor(m, "blk.0.attn_q.weight", s->type, D, D);
    tensor(m, "blk.0.attn_k.weight", s->type, KV, D);
    tensor(m, "blk.0.attn_v.weight", s->type, KV, D);
    tensor(m, "blk.0.attn_output.weight", s->type, D, D);
    tensor(m, "blk.0.ffn_norm.weight", TENSOR_F32, 0, D);
    tensor(m, "blk.0.ffn_gate.weight", s->type, F, D);
    tensor(m, "blk.0.ffn_up.weight", s->type, F, D);
    tensor(m, "blk.0.ffn_down.weight", s->type, D, F);
    tensor(m, "token_embd.weight", s->type, s->vocab, D);
}

/* ---- Using whatever opens -------------------------------------------------------------------- */

static unsigned sum_bytes(struct span s) {
    unsigned sum = 0;
    for (size_t i = 0; i < s.n; i++) sum += (uint8_t)s.at[i];
    return sum;
}

/* Reads all there is in a file that opened, in every way there is. The sum makes it happen. */
static unsigned read_all(const struct gguf *g) {
    struct error e;
    unsigned sum = 0;
    char name[256];
    for (size_t i = 0; i < g->values; i++) {
        const struct gguf_value *v = &g->value[i];
        struct span s;
        int u;
        double d;
        sum += sum_bytes(v->key) + sum_bytes(v->data);
        snprintf(name, sizeof name, "%.*s", (int)(v->key.n < 255 ? v->key.n : 255), v->key.at);
        if (!gguf_int(g, name, 0, INT_MAX, REQUIRED, &u, &e)) sum += (unsigned)u;
        if (!gguf_int(g, name, 0, 1, REQUIRED, &u, &e)) sum += (unsigned)u;
        if (!gguf_float(g, name, -1, 1, REQUIRED, &d, &e)) sum += d > 0;
        if (!gguf_string(g, name, &s, &e)) sum += sum_bytes(s);
        if (v->type != GGUF_ARRAY || v->item != GGUF_STRING) continue;
        struct span *strings = gguf_strings(v);
        for (uint64_t k = 0; k < v->count; k++) sum += sum_bytes(strings[k]);
        free(strings);
    }
    for (size_t i = 0; i < g->tensors; i++)
        sum += sum_bytes(g->tensor[i].name) + sum_bytes(g->tensor[i].data);
    return sum;
}

/* One token through a model that opened: its logits, or NULL where it has no room. */
static real *try_forward(const struct model *m) {
    struct error e;
    struct pool *p = pool_new(1, &e);
    struct run *r = run_new(m, p, (struct room){1, 1, 1, false}, &e);
    real *out = NULL;
    const int32_t token = 1;
    if (r && forward(r, &(struct sequence){&token, 1, 0, 0}, 1, NULL, &e) == 0) {
        out = new_array((size_t)m->config.vocab, sizeof *out);
        logits(r, 0, 1, out, NULL);
    }
    run_free(r);
    pool_free(p);
    return out;
}

/* The message must be one line that starts with the path and holds the culprit. */
static void check_message(const struct error *e, const char *culprit) {
    bool line = true;
    for (const char *c = e->text; *c; c++) line &= (unsigned char)*c >= ' ' && *c != 127;
    check(line, "the message is one line", e->text);
    check(strncmp(e->text, test.path, strlen(test.path)) == 0, "it starts with the path", e->text);
    check(strstr(e->text, culprit) != NULL, culprit, e->text);
}

/* Opens the file both ways and uses what opens. Says whether it opened as GGUF and as a model. */
static void try_file(bool *as_gguf, bool *as_model) {
    struct error e = {""};
    struct gguf g;
    struct model m;
    *as_gguf = gguf_open(&g, test.path, &e) == 0;
    if (*as_gguf)
        test.sum += read_all(&g);
    else
        check(!g.map && !g.value && !g.tensor, "nothing stays open", e.text);
    if (*as_gguf) gguf_close(&g);
    *as_model = model_open(&m, test.path, &e) == 0;
    if (*as_model)
        free(try_forward(&m));
    else
        check_message(&e, "");
    model_close(&m); /* harmless after a failure */
}

/* ---- What a sound file holds ----------------------------------------------------------------- */

static void check_int(const struct gguf *g, const char *name, int expected) {
    struct error e = {""};
    int v = 12345;
    DOING("integer %s", name);
    check(gguf_int(g, name, 0, INT_MAX, REQUIRED, &v, &e) == 0 && v == expected, "its value",
          e.text);
    check(gguf_int(g, name, expected, expected, -1, &v, &e) == 0, "its limits", e.text);
    if (expected < INT_MAX)
        check(gguf_int(g, name, expected + 1, INT_MAX, -1, &v, &e) == -1, "too low", "");
    if (expected > 0) check(gguf_int(g, name, 0, expected - 1, -1, &v, &e) == -1, "too high", "");
}

/* A number that no int holds is refused with what it is. */
static void check_wide(const struct gguf *g, const char *name, const char *shown_as) {
    struct error e = {""};
    int v;
    DOING("integer %s", name);
    check(gguf_int(g, name, 0, INT_MAX, -1, &v, &e) == -1 && strstr(e.text, shown_as), "refused",
          e.text);
}

/* `read` is one of the getters called: it must fail and name the value. */
static void check_refusal(int read, const struct error *e, const char *name) {
    check(read == -1, "refused", "");
    check(strstr(e->text, name) != NULL, "the message names it", e->text);
}

static void check_tensor(const struct gguf *g, const char *name, uint32_t type, uint32_t dims,
                         const uint64_t *dim, uint64_t seed) {
    const struct tensor *t = gguf_tensor(g, name);
    struct buffer b = {0};
    DOING("tensor %s", name);
    CHECK(t != NULL);
    if (!t) return;
    CHECK(span_is(t->name, name));
    CHECK(t->type == type && t->dims == dims);
    CHECK(memcmp(t->dim, dim, 4 * sizeof *dim) == 0);
    add_numbers(&b, type, dim[0] * dim[1] * dim[2] * dim[3], seed);
    CHECK(t->data.n == b.n && (b.n == 0 || memcmp(t->data.at, b.at, b.n) == 0));
    free(b.at);
}

static void test_numbers(const struct gguf *g) {
    struct error e = {""};
    int u;
    double d = 0;
    check_int(g, "u8", 255);
    check_int(g, "i8", 127);
    check_int(g, "u16", 65535);
    check_int(g, "i16", 32767);
    check_wide(g, "u32", " 4294967295, outside 0 to 2147483647");
    check_int(g, "i32", 2147483647);
    check_wide(g, "u64", " 18446744073709551615, outside");
    check_wide(g, "i64", " 9223372036854775807, outside");
    check_int(g, "high.u8", 128);
    check_int(g, "high.u16", 32768);
    check_wide(g, "high.u32", " 2147483648, outside");
    check_wide(g, "high.u64", " 9223372036854775808, outside");
    check_wide(g, "minus.i8", " -1, outside");
    check_wide(g, "minus.i16", " -32768, outside");
    check_wide(g, "minus.i32", " -40000, outside");
    check_wide(g, "minus.i64", " -9223372036854775808, outside");
    check_int(g, "zero", 0);
    static const char *const no_int[] = {"f32", "f64", "yes", "string", "array.u8", "missing"};
    for (size_t i = 0; i < sizeof no_int / sizeof *no_int; i++) {
        DOING("%s as an integer", no_int[i]);
        check_refusal(gguf_int(g, no_int[i], 0, INT_MAX, REQUIRED, &u, &e), &e, no_int[i]);
    }
    DOING("defaults");
    CHECK(gguf_int(g, "missing", 1, 2, -1, &u, &e) == 0 && u == -1);
    CHECK(gguf_float(g, "missing", 1, 2, -1, &d, &e) == 0 && d == -1);
    DOING("floats");
    CHECK(gguf_float(g, "f32", -1, 0, REQUIRED, &d, &e) == 0 && d == -0.15625);
    CHECK(gguf_float(g, "f64", -1, 4, -1, &d, &e) == 0 && d == 3.141592653589793);
    check_refusal(gguf_float(g, "f64", 0, 3, -1, &d, &e), &e, "3.14159265358979");
    check_refusal(gguf_float(g, "f64", 4, 5, -1, &d, &e), &e, "f64");
    check_refusal(gguf_float(g, "u32", 0, 1e30, -1, &d, &e), &e, "u32");
    check_refusal(gguf_float(g, "array.f32", 0, 1e30, -1, &d, &e), &e, "array.f32");
    check_refusal(gguf_float(g, "missing", 0, 1, REQUIRED, &d, &e), &e, "missing");
    DOING("bools");
    CHECK(gguf_int(g, "yes", 0, 1, -1, &u, &e) == 0 && u == 1);
    CHECK(gguf_int(g, "no", 0, 1, -1, &u, &e) == 0 && u == 0);
    check_refusal(gguf_int(g, "u8", 0, 1, -1, &u, &e), &e, "u8");
    check_refusal(gguf_int(g, "yes", 0, 2, -1, &u, &e), &e, "yes");
    DOING("all 64 bits");
    uint64_t all = 1;
    CHECK(gguf_u64(g, "u64", &all, &e) == 0 && all == UINT64_MAX);
    CHECK(gguf_u64(g, "missing", &all, &e) == 0 && all == 0);
    check_refusal(gguf_u64(g, "u32", &all, &e), &e, "u32");
    check_refusal(gguf_u64(g, "array.u64", &all, &e), &e, "array.u64");
    check_refusal(gguf_int(g, "missing", 0, 1, REQUIRED, &u, &e), &e, "missing");
}

static void test_strings(const struct gguf *g) {
    struct error e = {""};
    struct span s = {0};
    DOING("strings");
    CHECK(gguf_string(g, "string", &s, &e) == 0 && span_is(s, "a space, \xe2\x96\x81 and\ta tab"));
    CHECK(gguf_string(g, "empty", &s, &e) == 0 && s.n == 0);
    CHECK(gguf_string(g, "zeros", &s, &e) == 0 && s.n == 3 && memcmp(s.at, "\0x\0", 3) == 0);
    check_refusal(gguf_string(g, "u8", &s, &e), &e, "u8");
    check_refusal(gguf_string(g, "array.string", &s, &e), &e, "array.string");
    check_refusal(gguf_string(g, "missing", &s, &e), &e, "missing");
    CHECK(gguf_find(g, "string") && span_is(gguf_find(g, "string")->key, "string"));
    CHECK(!gguf_find(g, "strin") && !gguf_find(g, "stringy") && !gguf_find(g, ""));
}

static const char *array_bytes(const struct gguf *g, const char *name, enum gguf_type item,
                               uint64_t count) {
    struct error e = {""};
    const struct gguf_value *v = gguf_array(g, name, item, &e);
    DOING("%s", name);
    check(v && v->count == count && v->item == item && v->type == GGUF_ARRAY, "its shape", e.text);
    static const char nothing[64];
    return v ? v->data.at : nothing;
}

static void test_arrays(const struct gguf *g) {
    struct error e = {""};
    CHECK(memcmp(array_bytes(g, "array.u8", GGUF_U8, 3), "\1\2\xff", 3) == 0);
    CHECK(memcmp(array_bytes(g, "array.i16", GGUF_I16, 2), "\7\0\xf9\xff", 4) == 0);
    CHECK(memcmp(array_bytes(g, "array.bool", GGUF_BOOL, 2), "\1\0", 2) == 0);
    const char *at = array_bytes(g, "array.i32", GGUF_I32, 2);
    CHECK(get_u32(at) == 1 && (int32_t)get_u32(at + 4) == -3);
    CHECK(get_f32(array_bytes(g, "array.f32", GGUF_F32, 1)) == 0.1f);
    at = array_bytes(g, "array.u64", GGUF_U64, 2);
    CHECK(get_u64(at) == UINT64_MAX - 1 && get_u64(at + 8) == 5);
    array_bytes(g, "array.string", GGUF_STRING, 3);
    const struct gguf_value *v = gguf_array(g, "array.string", GGUF_STRING, &e);
    struct span *s = gguf_strings(v);
    CHECK(span_is(s[0], "one") && span_is(s[1], "") && span_is(s[2], "three"));
    free(s);
    array_bytes(g, "array.empty", GGUF_STRING, 0);
    free(gguf_strings(gguf_array(g, "array.empty", GGUF_STRING, &e)));
    DOING("arrays that are not");
    CHECK(!gguf_array(g, "array.u8", GGUF_I8, &e) && strstr(e.text, "array.u8"));
    CHECK(!gguf_array(g, "u8", GGUF_U8, &e) && strstr(e.text, "u8"));
    CHECK(!gguf_array(g, "missing", GGUF_U8, &e) && strstr(e.text, "missing"));
}

static void test_tensors(const struct gguf *g) {
    check_tensor(g, "t.f32", TENSOR_F32, 2, (uint64_t[]){3, 2, 1, 1}, 1);
    check_tensor(g, "t.f16", TENSOR_F16, 1, (uint64_t[]){5, 1, 1, 1}, 2);
    check_tensor(g, "t.bf16", TENSOR_BF16, 2, (uint64_t[]){7, 1, 1, 1}, 3);
    check_tensor(g, "t.q8_0", TENSOR_Q8_0, 2, (uint64_t[]){32, 2, 1, 1}, 4);
    check_tensor(g, "t.iq2_xxs", 16, 2, (uint64_t[]){32, 1, 1, 1}, 0);
    check_tensor(g, "t.4d", TENSOR_F32, 4, (uint64_t[]){2, 1, 1, 2}, 1);
    check_tensor(g, "t.i64", TENSOR_I64, 2, (uint64_t[]){2, 4, 1, 1}, 7);
    CHECK(!gguf_tensor(g, "t.i6") && !gguf_tensor(g, "t.i640") && !gguf_tensor(g, ""));
}

static void test_little_endian(void) {
    static const char bytes[] = "\xff\x01\x02\x03\x84\x05\x06\x07\x88\xcd\xcc\xcc\x3d";
    DOING("unaligned little-endian numbers");
    CHECK(get_u32(bytes + 1) == 0x84030201);
    CHECK(get_u64(bytes + 1) == 0x8807060584030201);
    CHECK(get_f32(bytes + 9) == 0.1f);
}

static void test_all_types(void) {
    struct maker m = {0};
    struct gguf g;
    struct error e = {""};
    make_all_types(&m);
    for (int version = 2; version <= 3; version++) {
        struct buffer b = assembled(&m);
        ((char *)b.at)[4] = (char)version;
        write_file(b.at, b.n);
        free(b.at);
        DOING("a file of every type, version %d", version);
        const int bad = gguf_open(&g, test.path, &e);
        check(!bad, "it opens", e.text);
        if (bad) continue;
        CHECK(g.values == m.n_values && g.tensors == m.n_tensors);
        test_numbers(&g);
        test_strings(&g);
        test_arrays(&g);
        test_tensors(&g);
        gguf_close(&g);
        CHECK(!g.map && !g.value && !g.tensor);
    }
    discard(&m);
}

/* The file ends where an item's type stands that is none: it is not looked up. */
static void test_cut_in_type(void) {
    struct maker m = {0};
    struct gguf g;
    struct error e = {""};
    if (key(&m, "a", GGUF_ARRAY)) add_u32(&m.values, UINT32_MAX);
    write_made(&m);
    DOING("a file that ends inside an array's type");
    CHECK(gguf_open(&g, test.path, &e) < 0 && strstr(e.text, "the file ends inside value 'a'"));
    discard(&m);
}

/* Wherever a file is cut, in the padding before its data, too. */
static void test_cut_anywhere(void) {
    struct maker m = {0};
    struct gguf g;
    struct error e = {""};
    tensor(&m, "a name of such a length", TENSOR_I64, 0, 1);
    struct buffer b = assembled(&m);
    for (size_t n = 1; n < b.n; n++) {
        write_file(b.at, n);
        DOING("a file cut after %zu of %zu bytes", n, b.n);
        CHECK(gguf_open(&g, test.path, &e) < 0);
    }
    free(b.at);
    discard(&m);
}

/* The data start at a multiple of the alignment that the file asks for. */
static void test_alignments(void) {
    for (size_t alignment = 1; alignment <= 4096; alignment *= 4) {
        struct maker m = {.alignment = alignment};
        struct gguf g;
        struct error e = {""};
        number(&m, "general.alignment", GGUF_U32, alignment);
        string(&m, "x", "of odd length");
        tensor(&m, "first", TENSOR_F16, 0, 3);
        tensor(&m, "second", TENSOR_I64, 3, 1);
        write_made(&m);
        DOING("alignment %zu", alignment);
        const int bad = gguf_open(&g, test.path, &e);
        check(!bad, "it opens", e.text);
        if (!bad) {
            check_tensor(&g, "first", TENSOR_F16, 1, (uint64_t[]){3, 1, 1, 1}, 1);
            check_tensor(&g, "second", TENSOR_I64, 2, (uint64_t[]){1, 3, 1, 1}, 2);
            gguf_close(&g);
        }
        discard(&m);
    }
}

/* ---- The writer ------------------------------------------------------------------------------ */

static const char *const words[] = {"one", "", "\xe4\xb8\x89"};
static const uint64_t sizes[] = {0, 1, UINT64_MAX};

enum { BIG = 3 * 700 }; /* more than one block of a stream's */

static void put_everything(FILE *to, const int64_t *big) {
    static const int64_t few[] = {INT64_MIN, -1, INT64_MAX};
    const struct {
        const char *name;
        const int64_t *v;
        int rows, columns;
    } tensors[] = {{"few", few, 1, 3}, {"big", big, 3, 700}, {"more", few, 3, 1}};
    struct gguf_writer w = {.to = to};
    put_header(&w, 3, 7);
    put_string(&w, "general.architecture", "test");
    put_u64(&w, "number", UINT64_MAX);
    put_f64(&w, "float", -1e-300);
    put_string(&w, "empty", "");
    put_array(&w, "words", GGUF_STRING, 3);
    for (int i = 0; i < 3; i++) put_text(&w, words[i]);
    put_array(&w, "no.words", GGUF_STRING, 0);
    put_array(&w, "sizes", GGUF_U64, 3);
    for (int i = 0; i < 3; i++) put_number(&w, sizes[i], 8);
    for (int t = 0; t < 3; t++) {
        const uint64_t rows = tensors[t].rows, columns = tensors[t].columns;
        put_tensor(&w, &(struct tensor){.name = {tensors[t].name, strlen(tensors[t].name)},
                                        .type = TENSOR_I64,
                                        .dims = 2,
                                        .dim = {columns, rows, 1, 1},
                                        .data.n = rows * columns * 8});
    }
    for (int t = 0; t < 3; t++) {
        put_padding(&w);
        for (int i = 0; i < tensors[t].rows * tensors[t].columns; i++)
            put_number(&w, (uint64_t)tensors[t].v[i], 8);
    }
    put_padding(&w);
}

/* The same file by our own means. */
static struct buffer expected_file(const int64_t *big) {
    struct maker m = {0};
    string(&m, "general.architecture", "test");
    number(&m, "number", GGUF_U64, UINT64_MAX);
    number(&m, "float", GGUF_F64, bits_of_double(-1e-300));
    string(&m, "empty", "");
    array(&m, "words", GGUF_STRING, 3);
    for (int i = 0; i < 3; i++) add_text(&m.values, words[i]);
    array(&m, "no.words", GGUF_STRING, 0);
    array(&m, "sizes", GGUF_U64, 3);
    for (int i = 0; i < 3; i++) add_u64(&m.values, sizes[i]);
    info(&m, "few", 2, (uint64_t[]){3, 1}, TENSOR_I64, 0);
    for (int i = 0; i < 3; i++)
        add_u64(&m.data, i == 1 ? UINT64_MAX : (uint64_t)INT64_MIN - (i == 2));
    pad(&m.data, 32);
    info(&m, "big", 2, (uint64_t[]){700, 3}, TENSOR_I64, m.data.n);
    for (int i = 0; i < BIG; i++) add_u64(&m.data, (uint64_t)big[i]);
    pad(&m.data, 32);
    info(&m, "more", 2, (uint64_t[]){1, 3}, TENSOR_I64, m.data.n);
    buffer_add(&m.data, m.data.at, 24);
    pad(&m.data, 32);
    struct buffer b = assembled(&m);
    discard(&m);
    return b;
}

static void test_read_back(void) {
    struct gguf g;
    struct error e = {""};
    struct span s = {0};
    double d = 0;
    DOING("a saved file");
    const int bad = gguf_open(&g, test.path, &e);
    check(!bad, "it opens", e.text);
    if (bad) return;
    CHECK(g.values == 7 && g.tensors == 3);
    CHECK(get_u64(gguf_find(&g, "number")->data.at) == UINT64_MAX);
    CHECK(gguf_float(&g, "float", -1, 0, REQUIRED, &d, &e) == 0 && d == -1e-300);
    CHECK(gguf_string(&g, "empty", &s, &e) == 0 && s.n == 0);
    CHECK(gguf_string(&g, "general.architecture", &s, &e) == 0 && span_is(s, "test"));
    const char *at = array_bytes(&g, "sizes", GGUF_U64, 3);
    for (int i = 0; i < 3; i++) CHECK(get_u64(at + 8 * i) == sizes[i]);
    array_bytes(&g, "no.words", GGUF_STRING, 0);
    array_bytes(&g, "words", GGUF_STRING, 3);
    struct span *strings = gguf_strings(gguf_array(&g, "words", GGUF_STRING, &e));
    for (int i = 0; i < 3; i++) CHECK(span_is(strings[i], words[i]));
    free(strings);
    const struct tensor *few = gguf_tensor(&g, "few"), *more = gguf_tensor(&g, "more");
    CHECK(few && few->data.n == 24 && (int64_t)get_u64(few->data.at) == INT64_MIN);
    CHECK(few && few->dims == 2 && few->dim[0] == 3 && few->dim[1] == 1);
    CHECK(more && more->dim[0] == 1 && more->dim[1] == 3);
    CHECK(few && more && memcmp(few->data.at, more->data.at, 24) == 0);
    gguf_close(&g);
}

static int save(const int64_t *big, const char *path, struct error *e) {
    struct output o;
    if (output_open(&o, path, e)) return -1;
    put_everything(o.file, big);
    return output_finish(&o, e);
}

/* Files in the tests' folder that are there for a time only. */
static int temporaries(void) {
    DIR *folder = opendir(test.directory);
    int n = 0;
    for (struct dirent *d; folder && (d = readdir(folder));)
        n += strlen(d->d_name) > 4 && !strcmp(d->d_name + strlen(d->d_name) - 4, ".tmp");
    if (folder) closedir(folder);
    return n;
}

static void test_writer(void) {
    int64_t *big = new_array(BIG, sizeof *big);
    char second[700], nowhere[700];
    struct error e = {""};
    for (int i = 0; i < BIG; i++) big[i] = (i - 1000) * (INT64_C(1) << (i % 53));
    snprintf(second, sizeof second, "%s.2", test.path);
    snprintf(nowhere, sizeof nowhere, "%s.none/file", test.path);
    DOING("saving");
    CHECK(save(big, test.path, &e) == 0);
    CHECK(save(big, second, &e) == 0);
    struct buffer a = read_file(test.path), b = read_file(second), ours = expected_file(big);
    check(same_bytes(a, b), "two saves are the same", "");
    check(same_bytes(a, ours), "the bytes are those of the format", "");
    CHECK(temporaries() == 0);
    test_read_back();

    DOING("saving where one cannot");
    check(save(big, nowhere, &e) == -1 && strstr(e.text, nowhere), "refused", e.text);
    unlink(second);
    CHECK(mkdir(second, 0700) == 0);
    check(save(big, second, &e) == -1 && strstr(e.text, second), "a directory", e.text);
    CHECK(temporaries() == 0);
    rmdir(second);
    free(a.at);
    free(b.at);
    free(ours.at);
    free(big);
}

static void test_output(void) {
    struct output o;
    struct error e = {""};
    DOING("an output that is given up");
    unlink(test.path);
    CHECK(output_open(&o, test.path, &e) == 0);
    fprintf(o.file, "half");
    CHECK(temporaries() == 1 && !exists(""));
    output_discard(&o);
    CHECK(temporaries() == 0 && !exists(""));
    output_discard(&o);
    DOING("an output that is finished");
    CHECK(output_open(&o, test.path, &e) == 0);
    fprintf(o.file, "whole");
    CHECK(!exists(""));
    CHECK(output_finish(&o, &e) == 0);
    output_discard(&o);
    struct buffer b = read_file(test.path);
    CHECK(temporaries() == 0 && b.n == 5 && memcmp(b.at, "whole", 5) == 0);
    free(b.at);
}

static void test_standard_output(void) {
    struct output o;
    struct error e = {""};
    DOING("standard output");
    CHECK(output_open(&o, NULL, &e) == 0 && o.file == stdout);
    output_discard(&o);
    CHECK(fputs("", stdout) >= 0 && !ferror(stdout)); /* it is still open */
}

/* Of two that are to be finished, the one that was opened first is given up first. */
static void test_two_outputs(void) {
    struct output first, second;
    struct error e = {""};
    char other[700];
    DOING("two outputs");
    snprintf(other, sizeof other, "%s.2", test.path);
    CHECK(output_open(&first, test.path, &e) == 0 && output_open(&second, other, &e) == 0);
    fprintf(second.file, "second");
    CHECK(temporaries() == 2);
    output_discard(&first);
    CHECK(temporaries() == 1);
    CHECK(output_finish(&second, &e) == 0 && temporaries() == 0);
    struct buffer b = read_file(other);
    CHECK(b.n == 6 && memcmp(b.at, "second", 6) == 0);
    free(b.at);
}

/* What others left, who had this one's number: their names are passed over, up to a hundred. */
static void test_taken_names(void) {
    struct output o;
    struct error e = {""};
    char name[800];
    DOING("names that are taken");
    unlink(test.path);
    for (int i = 0; i < 100; i++) {
        if (i == 99) {
            CHECK(output_open(&o, test.path, &e) == 0 && temporaries() == 100);
            output_discard(&o);
            CHECK(temporaries() == 99);
        }
        snprintf(name, sizeof name, "%s.%ld.%d.tmp", test.path, (long)getpid(), i);
        FILE *file = fopen(name, "wb");
        if (file) fclose(file);
    }
    check_refusal(output_open(&o, test.path, &e), &e, test.path);
    CHECK(temporaries() == 100 && !exists(""));
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "%s.%ld.%d.tmp", test.path, (long)getpid(), i);
        CHECK(unlink(name) == 0);
    }
}

/* That many bytes are no number: what would be too little is not asked for. */
static void test_memory(void) {
    char said[256] = "";
    int ends[2], status = 0;
    DOING("an array of more bytes than a number can hold");
    fflush(stdout);
    CHECK(pipe(ends) == 0);
    const pid_t child = fork();
    if (child == 0) {
        test.ended = true; /* this one has nothing to report */
        dup2(ends[1], STDERR_FILENO);
        exit(grow_array(NULL, SIZE_MAX / 4 + 2, 4) ? EXIT_SUCCESS : 2);
    }
    close(ends[1]);
    const ssize_t got = read(ends[0], said, sizeof said - 1);
    close(ends[0]);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 1);
    check(got > 0 && strncmp(said, "lape: out of memory: ", 21) == 0, "a line says so", said);
}

static void test_spans(void) {
    char cut[5];
    DOING("spans");
    CHECK(span_is((struct span){"abc", 2}, "ab") && !span_is((struct span){"abc", 3}, "ab"));
    CHECK(brief((struct span){"", 63}) == 63 && brief((struct span){"", 1000}) == 64);
    span_copy(cut, sizeof cut, (struct span){"abcdef", 6});
    CHECK(strcmp(cut, "abcd") == 0);
    span_copy(cut, sizeof cut, (struct span){"a\nb", 3});
    CHECK(strcmp(cut, "a?b") == 0);
}

/* ---- The llama ------------------------------------------------------------------------------- */

static void test_llama(void) {
    struct maker m = {0};
    struct model model;
    struct error e = {""};
    make_llama(&m, &tiny);
    write_made(&m);
    discard(&m);
    DOING("a tiny llama");
    const int bad = model_open(&model, test.path, &e);
    check(!bad, "it opens", e.text);
    if (bad) return;
    const struct config *c = &model.config;
    CHECK(strcmp(c->name, "tiny") == 0 && c->layers == 1 && c->width == 4 && c->neurons == 3);
    CHECK(c->heads == 2 && c->kv_heads == 1 && c->head_dim == 2 && c->vocab == 8);
    CHECK(c->context == 16 && c->window == 2 && c->rope_base == 10000);
    CHECK(c->norm_eps == (double)1e-5f);
    CHECK(model.embedding.rows == 8 && model.embedding.columns == 4);
    CHECK(model.output.at == model.embedding.at);
    real *out = try_forward(&model);
    CHECK(out != NULL);
    for (int i = 0; out && i < c->vocab; i++) CHECK(isfinite(out[i]));
    free(out);
    model_close(&model);
    CHECK(!model.layer && !model.file.map);
}

/* Numbers that every type holds exactly give the same logits in every type. */
static void test_types_of_matrices(void) {
    static const uint32_t type[] = {TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_Q8_0};
    real *first = NULL;
    for (size_t i = 0; i < sizeof type / sizeof *type; i++) {
        const struct sizes s = {64, 96, 4, 2, 10, type[i]};
        struct maker m = {0};
        struct model model;
        struct error e = {""};
        make_llama(&m, &s);
        write_made(&m);
        discard(&m);
        DOING("a llama of type %u", type[i]);
        const int bad = model_open(&model, test.path, &e);
        check(!bad, "it opens", e.text);
        if (bad) continue;
        real *out = try_forward(&model);
        CHECK(out != NULL);
        if (out && first) CHECK(memcmp(out, first, 10 * sizeof *out) == 0);
        if (first) {
            free(out);
        } else {
            first = out;
            for (int v = 0; out && v < 10; v++) CHECK(isfinite(out[v]));
        }
        model_close(&model);
    }
    free(first);
}

/* What a llama may leave out or say otherwise. */
static void accept(const char *what, struct maker *m) {
    struct model model;
    struct error e = {""};
    DOING("%s", what);
    write_made(m);
    const int bad = model_open(&model, test.path, &e);
    check(!bad, "it opens", e.text);
    if (!bad) {
        real *out = try_forward(&model);
        CHECK(out != NULL);
        free(out);
    }
    model_close(&model);
    discard(m);
}

static struct maker llama_without(const char *name) {
    struct maker m = {.without = name};
    make_llama(&m, &tiny);
    m.without = NULL;
    return m;
}

static void test_accepted_llamas(void) {
    static const char *const optional[] = {"general.name", "llama.attention.sliding_window",
                                           "llama.rope.freq_base"};
    struct maker m;
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++) {
        m = llama_without(optional[i]);
        accept(optional[i], &m);
    }
    m = llama_without(NULL);
    string(&m, "llama.rope.scaling.type", "none");
    accept("rope scaling of none", &m);
    m = llama_without(NULL);
    number(&m, "llama.attention.key_length", GGUF_U32, 2);
    number(&m, "llama.attention.value_length", GGUF_U32, 2);
    number(&m, "llama.rope.dimension_count", GGUF_U32, 2);
    accept("head sizes that say what is so anyway", &m);
    m = llama_without("llama.attention.layer_norm_rms_epsilon");
    number(&m, "llama.attention.layer_norm_rms_epsilon", GGUF_F64, bits_of_double(1e-6));
    accept("an epsilon of 64 bits", &m);
    m = llama_without(NULL);
    tensor(&m, "output.weight", TENSOR_F16, 8, 4);
    accept("an output matrix of its own", &m);
    m = llama_without("token_embd.weight");
    tensor(&m, "token_embd.weight", TENSOR_BF16, 2, 4);
    accept("a vocabulary of two", &m);
    const struct sizes whole = {4, 3, 2, 2, 8, TENSOR_F16};
    m = (struct maker){.without = "llama.attention.head_count_kv"};
    make_llama(&m, &whole);
    m.without = NULL;
    accept("as many key-value heads as heads, unsaid", &m);
}

/* ---- Damage ---------------------------------------------------------------------------------- */

/* An unreadable page behind the place where the next mapping of n bytes will lie, on kernels that
 * fill addresses from the top: a read beyond the file crashes then. Elsewhere it does no harm. */
static void *raise_guard(FILE *f) {
    return mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_NONE, MAP_PRIVATE, fileno(f), 0);
}

static void lower_guard(void *guard) {
    if (guard != MAP_FAILED) munmap(guard, (size_t)sysconf(_SC_PAGESIZE));
}

static void check_refused_both(void) {
    bool as_gguf, as_model;
    try_file(&as_gguf, &as_model);
    check(!as_gguf, "refused as GGUF", "");
    check(!as_model, "refused as a model", "");
}

/* Shorter by every number of bytes. */
static void test_truncation(const char *what, void (*make)(struct maker *m)) {
    struct maker m = {0};
    make(&m);
    struct buffer b = assembled(&m);
    write_file(b.at, b.n);
    for (size_t n = b.n; n-- > 0;) {
        DOING("%s cut to %zu of %zu bytes", what, n, b.n);
        if (truncate(test.path, (off_t)n)) perror(test.path);
        check_refused_both();
    }
    free(b.at);
    discard(&m);
}

/* What the maker makes after a string of n bytes, or after an array of them. */
static struct buffer made_after(size_t n, bool as_string, void (*make)(struct maker *m)) {
    struct maker m = {0};
    char *filler = new_array(n + 1, 1);
    memset(filler, 'x', n);
    if (as_string)
        string(&m, "filler", filler);
    else
        array(&m, "filler", GGUF_U8, n);
    if (!as_string) buffer_add(&m.values, filler, n);
    make(&m);
    struct buffer b = assembled(&m);
    free(filler);
    discard(&m);
    return b;
}

/* The same at the end of a page: a string of many a length moves every byte of it there. */
static void test_page_ends(const char *what, void (*make)(struct maker *m)) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct buffer b = made_after(0, true, make);
    const size_t size = b.n;
    free(b.at);
    for (size_t n = page > size ? page - size : 0; n < page; n++) {
        b = made_after(n, true, make);
        if (b.n > page) {
            write_file(b.at, page);
            FILE *f = fopen(test.path, "rb");
            void *guard = raise_guard(f);
            DOING("%s moved by %zu and cut at %zu", what, n, page);
            check_refused_both();
            lower_guard(guard);
            fclose(f);
        }
        free(b.at);
    }
}

/* A whole file whose last byte ends a page, as its size is a multiple of the alignment. */
static void test_last_byte(void (*make)(struct maker *m)) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct buffer b = made_after(0, false, make);
    const size_t n = (page - b.n % page) % page;
    bool as_gguf, as_model;
    free(b.at);
    b = made_after(n, false, make);
    DOING("a llama that ends with a page, moved by %zu", n);
    CHECK(b.n % page == 0);
    write_file(b.at, b.n);
    FILE *f = fopen(test.path, "rb");
    void *guard = raise_guard(f);
    try_file(&as_gguf, &as_model);
    CHECK(as_gguf && as_model);
    lower_guard(guard);
    fclose(f);
    free(b.at);
}

/* One change at every place, one at a time: what comes of it is refused or works. */
static void test_changes(const char *what, void (*make)(struct maker *m)) {
    static const uint64_t wide[] = {0, UINT64_MAX, (uint64_t)1 << 63, (uint64_t)1 << 61,
                                    UINT64_MAX - 31};
    enum { BYTES = 4, WIDE = sizeof wide / sizeof *wide };
    struct maker m = {0};
    bool as_gguf, as_model;
    unsigned long opened = 0;
    make(&m);
    struct buffer b = assembled(&m);
    write_file(b.at, b.n);
    FILE *f = fopen(test.path, "r+b");
    for (size_t i = 0; i < b.n; i++)
        for (int k = 0; k < BYTES + WIDE; k++) {
            const char *old = (char *)b.at + i;
            const uint8_t byte = (uint8_t)*old, one[] = {0, 0xff, byte ^ 1, byte ^ 0x80};
            struct buffer new = {0};
            if (k < BYTES)
                add_little(&new, one[k], 1);
            else
                add_little(&new, wide[k - BYTES], b.n - i < 8 ? (int)(b.n - i) : 8);
            DOING("%s with change %d at byte %zu", what, k, i);
            poke(f, i, new.at, new.n);
            try_file(&as_gguf, &as_model);
            opened += as_gguf;
            poke(f, i, old, new.n);
            free(new.at);
        }
    fclose(f);
    DOING("%s with changes", what);
    struct buffer after = read_file(test.path);
    check(same_bytes(after, b), "the test put back what it changed", "");
    check(opened > b.n && opened < b.n * (BYTES + WIDE), "some open and some do not", "");
    free(after.at);
    free(b.at);
    discard(&m);
}

static void make_tiny_llama(struct maker *m) { make_llama(m, &tiny); }

/* ---- Hostile files --------------------------------------------------------------------------- */

static void refuse_file(const char *what, const char *culprit, bool model) {
    struct error e = {"no message"};
    struct gguf g = {0};
    struct model m = {0};
    DOING("%s", what);
    const int bad = model ? model_open(&m, test.path, &e) : gguf_open(&g, test.path, &e);
    check(bad == -1, "refused", "");
    if (bad) check_message(&e, culprit);
    check(!g.map && !g.value && !g.tensor && !m.layer && !m.file.map, "nothing stays open", "");
    if (!bad) gguf_close(&g);
    if (!bad) model_close(&m);
}

/* As GGUF. */
static void refuse(const char *what, struct maker *m, const char *culprit) {
    write_made(m);
    discard(m);
    refuse_file(what, culprit, false);
}

/* As a model. */
static void refuse_model(const char *what, struct maker m, const char *culprit) {
    write_made(&m);
    discard(&m);
    refuse_file(what, culprit, true);
}

/* A sound file with other bytes at some place of its header. */
static void refuse_header(const char *what, size_t at, uint64_t v, int bytes, const char *culprit) {
    struct maker m = {0};
    struct buffer new = {0};
    make_all_types(&m);
    struct buffer b = assembled(&m);
    add_little(&new, v, bytes);
    memcpy((char *)b.at + at, new.at, new.n);
    write_file(b.at, b.n);
    refuse_file(what, culprit, false);
    free(new.at);
    free(b.at);
    discard(&m);
}

static void test_hostile_headers(void) {
    const uint64_t most = UINT64_MAX, half_most = (uint64_t)1 << 63;
    refuse_header("a magic of zeros", 0, 0, 4, "not a GGUF file");
    refuse_header("the magic gGUF", 0, 'g', 1, "not a GGUF file");
    refuse_header("the magic GGUf", 3, 'f', 1, "not a GGUF file");
    refuse_header("version 0", 4, 0, 4, "version 0");
    refuse_header("version 1", 4, 1, 4, "version 1");
    refuse_header("version 4", 4, 4, 4, "version 4");
    refuse_header("version 3 of a big-endian file", 4, 0x03000000, 4, "big-endian");
    refuse_header("version 2 of a big-endian file", 4, 0x02000000, 4, "big-endian");
    refuse_header("2^63 tensors", 8, half_most, 8, "9223372036854775808 tensors");
    refuse_header("2^64 - 1 tensors", 8, most, 8, "18446744073709551615 tensors");
    refuse_header("2^63 values", 16, half_most, 8, "9223372036854775808 values");
    refuse_header("2^64 - 1 values", 16, most, 8, "18446744073709551615 values");
    refuse_header("one tensor too many", 8, 8, 8, "tensor");
    refuse_header("a key of 2^64 - 1 bytes", 24, most, 8, "metadata");
    refuse_header("a key of 2^63 bytes", 24, half_most, 8, "metadata");
    refuse_header("a key as long as the file", 24, 1 << 20, 8, "metadata");

    write_file("", 0);
    refuse_file("an empty file", "empty", false);
    unlink(test.path);
    refuse_file("no file", "No such file", false);
    CHECK(mkdir(test.path, 0700) == 0);
    refuse_file("a directory", "regular file", false);
    rmdir(test.path);
}

static void test_hostile_values(void) {
    struct maker m = {0};
    key(&m, "culprit", 13);
    add_u64(&m.values, 0);
    refuse("an unknown type", &m, "culprit");
    key(&m, "culprit", UINT32_MAX);
    add_u64(&m.values, 0);
    refuse("type 2^32 - 1", &m, "culprit");
    array(&m, "culprit", 13, 1);
    add_u64(&m.values, 0);
    refuse("an array of an unknown type", &m, "culprit");
    array(&m, "culprit", GGUF_ARRAY, 1);
    add_u32(&m.values, GGUF_U8);
    add_u64(&m.values, 1);
    add_u64(&m.values, 0);
    refuse("an array of arrays", &m, "culprit");
    array(&m, "culprit", GGUF_U64, ((uint64_t)1 << 61) + 1); /* x 8 = 8 */
    add_u64(&m.values, 0);
    refuse("an array whose bytes wrap to 8", &m, "culprit");
    array(&m, "culprit", GGUF_U16, (uint64_t)1 << 63);
    refuse("an array whose bytes wrap to 0", &m, "culprit");
    array(&m, "culprit", GGUF_STRING, UINT64_MAX);
    add_text(&m.values, "");
    refuse("an array of 2^64 - 1 strings", &m, "culprit");
    array(&m, "culprit", GGUF_U8, 100);
    add_u64(&m.values, 0);
    refuse("an array beyond the file", &m, "culprit");
    key(&m, "culprit", GGUF_STRING);
    add_u64(&m.values, UINT64_MAX - 7);
    refuse("a string of 2^64 - 8 bytes", &m, "culprit");
    number(&m, "culprit", GGUF_U8, 1);
    number(&m, "other", GGUF_U8, 1);
    string(&m, "culprit", "again");
    refuse("a key that stands twice", &m, "culprit");
    key(&m, "", GGUF_U32);
    add_u32(&m.values, 1);
    number(&m, "", GGUF_U8, 1);
    refuse("an empty key that stands twice", &m, "''");
    key(&m, "control\n\033[2J", 13);
    refuse("a key with control characters", &m, "control??[2J");
}

static void refuse_tensor(const char *what, uint32_t dims, const uint64_t *dim, uint32_t type,
                          uint64_t offset) {
    struct maker m = {0};
    tensor(&m, "sound", TENSOR_I64, 4, 8); /* 256 bytes */
    info(&m, "culprit", dims, dim, type, offset);
    refuse(what, &m, "culprit");
}

static void test_hostile_tensors(void) {
    const uint64_t one[] = {1, 1, 1, 1, 1}, big = (uint64_t)1 << 63;
    refuse_tensor("no dimensions", 0, one, TENSOR_F32, 0);
    refuse_tensor("five dimensions", 5, one, TENSOR_F32, 0);
    refuse_tensor("a dimension of 0", 2, (uint64_t[]){4, 0}, TENSOR_F32, 0);
    refuse_tensor("a first dimension of 0", 1, (uint64_t[]){0}, TENSOR_F32, 0);
    refuse_tensor("2^32 x 2^32", 2, (uint64_t[]){(uint64_t)1 << 32, (uint64_t)1 << 32}, 0, 0);
    refuse_tensor("2^63 x 2", 2, (uint64_t[]){big, 2}, TENSOR_F32, 0);
    refuse_tensor("2 x 2^63", 2, (uint64_t[]){2, big}, TENSOR_F32, 0);
    refuse_tensor("2^22 four times", 4,
                  (uint64_t[]){1 << 22, 1 << 22, (1 << 22) + 1, (1 << 22) + 1}, TENSOR_F32, 0);
    refuse_tensor("2^64 - 1 twice, whose product is 1", 2, (uint64_t[]){UINT64_MAX, UINT64_MAX},
                  TENSOR_F32, 0);
    refuse_tensor("2^61 of 8 bytes", 1, (uint64_t[]){(uint64_t)1 << 61}, TENSOR_I64, 0);
    refuse_tensor("2^62 of 4 bytes", 1, (uint64_t[]){(uint64_t)1 << 62}, TENSOR_F32, 0);
    refuse_tensor("2^62 of an unread type", 1, (uint64_t[]){(uint64_t)1 << 62}, 2, 0);
    refuse_tensor("an offset of 1", 1, one, TENSOR_F32, 1);
    refuse_tensor("an offset of 16", 1, one, TENSOR_F32, 16);
    refuse_tensor("an offset at the end", 1, one, TENSOR_F32, 256);
    refuse_tensor("an offset beyond the end", 1, one, TENSOR_F32, 1 << 20);
    refuse_tensor("an offset of 2^63", 1, one, TENSOR_F32, big);
    refuse_tensor("an offset that wraps with the size", 1, (uint64_t[]){4}, TENSOR_I64,
                  UINT64_MAX - 31);
    refuse_tensor("an unread type beyond the end", 1, one, 2, 1 << 20);
    refuse_tensor("an unread type at an odd offset", 1, one, 2, 3);
    refuse_tensor("a size beyond the end", 1, (uint64_t[]){33}, TENSOR_I64, 0);
    refuse_tensor("a size beyond the end, from 32", 1, (uint64_t[]){29}, TENSOR_I64, 32);
    refuse_tensor("Q8_0 with rows of 48", 2, (uint64_t[]){48, 2}, TENSOR_Q8_0, 0);
    refuse_tensor("Q8_0 with rows of 1", 2, (uint64_t[]){1, 32}, TENSOR_Q8_0, 0);

    static const uint64_t alignment[] = {0, 3, 24, (uint64_t)1 << 31, (uint64_t)1 << 63};
    for (size_t i = 0; i < sizeof alignment / sizeof *alignment; i++) {
        struct maker m = {0};
        char what[64];
        number(&m, "general.alignment", GGUF_U64, alignment[i]);
        tensor(&m, "sound", TENSOR_I64, 1, 4);
        snprintf(what, sizeof what, "alignment %llu", (unsigned long long)alignment[i]);
        refuse(what, &m, "general.alignment");
    }
    struct maker m = {0};
    string(&m, "general.alignment", "32");
    refuse("alignment as a string", &m, "general.alignment");
    number(&m, "general.alignment", GGUF_I32, (uint64_t)-32);
    refuse("a negative alignment", &m, "general.alignment");
}

/* A llama with another integer under a key. */
static struct maker llama_with(const char *name, uint64_t v) {
    struct maker m = llama_without(name);
    number(&m, name, GGUF_U64, v);
    return m;
}

static struct maker llama_with_float(const char *name, double v) {
    struct maker m = llama_without(name);
    number(&m, name, GGUF_F64, bits_of_double(v));
    return m;
}

static struct maker llama_with_string(const char *name, const char *v) {
    struct maker m = llama_without(name);
    string(&m, name, v);
    return m;
}

static struct maker llama_with_tensor(const char *name, uint32_t type, uint64_t rows,
                                      uint64_t columns) {
    struct maker m = llama_without(name);
    tensor(&m, name, type, rows, columns);
    return m;
}

static void test_missing(void) {
    static const char *const needed[] = {
        "general.architecture",
        "llama.block_count",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.context_length",
        "llama.attention.layer_norm_rms_epsilon",
        "token_embd.weight",
        "output_norm.weight",
        "blk.0.attn_norm.weight",
        "blk.0.attn_q.weight",
        "blk.0.attn_k.weight",
        "blk.0.attn_v.weight",
        "blk.0.attn_output.weight",
        "blk.0.ffn_norm.weight",
        "blk.0.ffn_gate.weight",
        "blk.0.ffn_up.weight",
        "blk.0.ffn_down.weight",
    };
    char what[128];
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        snprintf(what, sizeof what, "no %s", needed[i]);
        refuse_model(what, llama_without(needed[i]), needed[i]);
    }
}

static void test_wrong_types(void) {
    static const char *const integers[] = {
        "llama.block_count",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "llama.attention.key_length",
        "llama.attention.value_length",
        "llama.rope.dimension_count",
        "llama.context_length",
        "llama.attention.sliding_window",
    };
    char what[128];
    struct maker m;
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        snprintf(what, sizeof what, "%s as a string", integers[i]);
        refuse_model(what, llama_with_string(integers[i], "2"), integers[i]);
        snprintf(what, sizeof what, "%s as a float", integers[i]);
        refuse_model(what, llama_with_float(integers[i], 2), integers[i]);
        snprintf(what, sizeof what, "%s negative", integers[i]);
        m = llama_without(integers[i]);
        number(&m, integers[i], GGUF_I16, (uint64_t)-2);
        refuse_model(what, m, integers[i]);
        snprintf(what, sizeof what, "%s of 2^32 + 2", integers[i]);
        refuse_model(what, llama_with(integers[i], ((uint64_t)1 << 32) + 2), integers[i]);
        snprintf(what, sizeof what, "%s as an array", integers[i]);
        m = llama_without(integers[i]);
        array(&m, integers[i], GGUF_U32, 1);
        add_u32(&m.values, 2);
        refuse_model(what, m, integers[i]);
    }
    refuse_model("an integer as epsilon", llama_with("llama.attention.layer_norm_rms_epsilon", 0),
                 "llama.attention.layer_norm_rms_epsilon");
    refuse_model("an integer as rotary base", llama_with("llama.rope.freq_base", 10000),
                 "llama.rope.freq_base");
    refuse_model("an integer as architecture", llama_with("general.architecture", 1),
                 "general.architecture");
}

static void test_wrong_sizes(void) {
    const char *eps = "llama.attention.layer_norm_rms_epsilon", *base = "llama.rope.freq_base";
    struct maker m;
    refuse_model("no layers", llama_with("llama.block_count", 0), "llama.block_count");
    refuse_model("2^20 layers", llama_with("llama.block_count", 1 << 20), "llama.block_count");
    refuse_model("2^63 layers", llama_with("llama.block_count", (uint64_t)1 << 63),
                 "llama.block_count");
    refuse_model("a layer too many", llama_with("llama.block_count", 2), "blk.1.");
    refuse_model("a width of 0", llama_with("llama.embedding_length", 0), "llama.embedding_length");
    refuse_model("another width", llama_with("llama.embedding_length", 8), "token_embd.weight");
    refuse_model("no neurons", llama_with("llama.feed_forward_length", 0),
                 "llama.feed_forward_length");
    refuse_model("another number of neurons", llama_with("llama.feed_forward_length", 4), "ffn_");
    refuse_model("no heads", llama_with("llama.attention.head_count", 0),
                 "llama.attention.head_count");
    refuse_model("heads that the width cannot be shared by",
                 llama_with("llama.attention.head_count", 5), "heads");
    refuse_model("no key-value heads", llama_with("llama.attention.head_count_kv", 0),
                 "llama.attention.head_count_kv");
    refuse_model("more key-value heads than heads", llama_with("llama.attention.head_count_kv", 4),
                 "llama.attention.head_count_kv");
    m = llama_with("llama.attention.head_count", 3);
    m.without = NULL;
    refuse_model("heads of one", m, "1 of 1 numbers of a head");
    m = (struct maker){.without = "llama.attention.head_count"};
    make_llama(&m, &(struct sizes){4, 3, 2, 2, 8, TENSOR_F32});
    m.without = NULL;
    number(&m, "llama.attention.head_count", GGUF_U32, 3);
    refuse_model("3 heads over 2", m, "3 query heads");
    refuse_model("odd heads", llama_with("llama.attention.key_length", 3),
                 "3 of 3 numbers of a head");
    refuse_model("values of another size", llama_with("llama.attention.value_length", 4),
                 "4 values");
    refuse_model("an odd part of a head rotated", llama_with("llama.rope.dimension_count", 1),
                 "dimension_count");
    refuse_model("nothing rotated", llama_with("llama.rope.dimension_count", 0), "dimension_count");
    refuse_model("more than a head rotated", llama_with("llama.rope.dimension_count", 10),
                 "llama.rope.dimension_count");
    refuse_model("a context of 0", llama_with("llama.context_length", 0), "llama.context_length");
    refuse_model("no epsilon", llama_without(eps), "norm_rms_epsilon' is missing");
    refuse_model("a base that rounds to its limit", llama_with_float(base, 1.0000001e30),
                 "1.0000001000000001e+30, outside 1 to 1e+30");
    refuse_model("epsilon no number", llama_with_float(eps, NAN), "norm_rms_epsilon");
    refuse_model("epsilon negative", llama_with_float(eps, -1e-5), "norm_rms_epsilon");
    refuse_model("epsilon infinite", llama_with_float(eps, INFINITY), "norm_rms_epsilon");
    refuse_model("epsilon 1", llama_with_float(eps, 1), "norm_rms_epsilon");
    refuse_model("rotary base no number", llama_with_float(base, NAN), "rope.freq_base");
    refuse_model("rotary base 0", llama_with_float(base, 0), "rope.freq_base");
    refuse_model("rotary base negative", llama_with_float(base, -1e4), "rope.freq_base");
    refuse_model("rotary base infinite", llama_with_float(base, INFINITY), "rope.freq_base");
}

static void test_wrong_families(void) {
    refuse_model("gpt2", llama_with_string("general.architecture", "gpt2"), "gpt2.block_count");
    refuse_model("llama4", llama_with_string("general.architecture", "llama4"), "llama4");
    refuse_model("lla", llama_with_string("general.architecture", "lla"), "lla");
    refuse_model("counts", llama_with_string("general.architecture", "lape-counts"), "counts");
    refuse_model("yarn", llama_with_string("llama.rope.scaling.type", "yarn"), "'yarn'");
    refuse_model("rope scaling by number", llama_with("llama.rope.scaling.type", 1),
                 "llama.rope.scaling.type");
    /* llama.cpp takes a factor without a type as linear scaling, under its old name, too. */
    refuse_model("a rope scaling factor alone", llama_with_float("llama.rope.scaling.factor", 4),
                 "llama.rope.scaling.factor");
    refuse_model("a rope scaling factor, old name", llama_with_float("llama.rope.scale_linear", 4),
                 "llama.rope.scale_linear");
}

/* Keys that mean another computation, in families where llama.cpp or another program heeds them:
 * what nobody reads here is refused. */
static void test_unknown_keys(void) {
    static const char *const number_of[] = {"llama.embedding_scale",
                                            "llama.residual_scale",
                                            "llama.attention.clamp_kqv",
                                            "llama.attention.temperature_scale",
                                            "llama.attention.max_alibi_bias",
                                            "llama.rope.freq_base_swa",
                                            "llama.rope.scaling.attn_factor",
                                            "llama.rope.scaling.yarn_log_multiplier",
                                            "llama.made_up"};
    static const char *const count_of[] = {"llama.expert_count",
                                           "llama.expert_used_count",
                                           "llama.pooling_type",
                                           "llama.attention.sliding_window_pattern",
                                           "llama.attention.layer_norm_epsilon",
                                           "llama.leading_dense_block_count",
                                           "llama.attention.key_length_mla",
                                           "llama."};
    for (size_t i = 0; i < sizeof number_of / sizeof *number_of; i++)
        refuse_model(number_of[i], llama_with_float(number_of[i], 0.5), number_of[i]);
    for (size_t i = 0; i < sizeof count_of / sizeof *count_of; i++)
        refuse_model(count_of[i], llama_with(count_of[i], 8), count_of[i]);
    static const char *const harmless[] = {"llama.vocab_size", "llamas.expert_count",
                                           "llama.rope.scaling.original_context_length",
                                           "general.file_type"};
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        struct maker m = llama_with(harmless[i], 8);
        accept(harmless[i], &m);
    }
    refuse_model("a part of a split model", llama_with("split.count", 3), "part 1 of 3");
}

/* Only what the forward pass adds may be there: norms by root mean square add no bias. */
static void test_biases(void) {
    static const char *const none[] = {"output_norm.bias",    "blk.0.attn_norm.bias",
                                       "blk.0.ffn_norm.bias", "blk.0.ffn_gate.bias",
                                       "blk.0.ffn_up.bias",   "token_embd.bias"};
    char what[128];
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        snprintf(what, sizeof what, "%s besides", none[i]);
        refuse_model(what,
                     llama_with_tensor(none[i], TENSOR_F32, 0, strstr(none[i], "ffn_up") ? 3 : 4),
                     none[i]);
    }
    struct maker m = llama_with_tensor("blk.0.attn_qkv.bias", TENSOR_F32, 0, 8);
    accept("one bias of q, k and v", &m);
    m = llama_with_tensor("blk.0.attn_qkv.bias", TENSOR_F32, 0, 8);
    tensor(&m, "blk.0.attn_k.bias", TENSOR_F32, 0, 2);
    refuse_model("two kinds of bias", m, "blk.0.attn_k.bias");
    refuse_model("a bias of q, k and v that is too short",
                 llama_with_tensor("blk.0.attn_qkv.bias", TENSOR_F32, 0, 7), "blk.0.attn_qkv.bias");
}

static void test_wrong_tensors(void) {
    static const char *const matrix[] = {"token_embd.weight",        "blk.0.attn_q.weight",
                                         "blk.0.attn_k.weight",      "blk.0.attn_v.weight",
                                         "blk.0.attn_output.weight", "blk.0.ffn_gate.weight",
                                         "blk.0.ffn_up.weight",      "blk.0.ffn_down.weight"};
    static const char *const vector[] = {"output_norm.weight", "blk.0.attn_norm.weight",
                                         "blk.0.ffn_norm.weight"};
    static const char *const extra[] = {"blk.0.attn_q_norm.weight", "rope_freqs.weight",
                                        "blk.1.attn_q.weight", "blk.0.ffn_gate_inp.weight"};
    char what[128];
    struct maker m;
    for (size_t i = 0; i < sizeof matrix / sizeof *matrix; i++) {
        snprintf(what, sizeof what, "%s of another shape", matrix[i]);
        refuse_model(what, llama_with_tensor(matrix[i], TENSOR_F32, 7, 5), matrix[i]);
        snprintf(what, sizeof what, "%s as a vector", matrix[i]);
        refuse_model(what, llama_with_tensor(matrix[i], TENSOR_F32, 0, 12), matrix[i]);
        snprintf(what, sizeof what, "%s of integers", matrix[i]);
        const uint64_t rows = strstr(matrix[i], "embd")                                    ? 8
                              : strstr(matrix[i], "gate") || strstr(matrix[i], "up")       ? 3
                              : strstr(matrix[i], "attn_k") || strstr(matrix[i], "attn_v") ? 2
                                                                                           : 4;
        const uint64_t columns = strstr(matrix[i], "down") ? 3 : 4;
        refuse_model(what, llama_with_tensor(matrix[i], TENSOR_I64, rows, columns), matrix[i]);
        snprintf(what, sizeof what, "%s in Q4_0", matrix[i]);
        refuse_model(what, llama_with_tensor(matrix[i], 2, rows, columns), matrix[i]);
        snprintf(what, sizeof what, "%s in F16", matrix[i]);
        m = llama_with_tensor(matrix[i], TENSOR_F16, rows, columns);
        accept(what, &m);
    }
    for (size_t i = 0; i < sizeof vector / sizeof *vector; i++) {
        snprintf(what, sizeof what, "%s too long", vector[i]);
        refuse_model(what, llama_with_tensor(vector[i], TENSOR_F32, 0, 5), vector[i]);
        snprintf(what, sizeof what, "%s as a matrix", vector[i]);
        refuse_model(what, llama_with_tensor(vector[i], TENSOR_F32, 4, 4), vector[i]);
        snprintf(what, sizeof what, "%s in Q4_0", vector[i]);
        refuse_model(what, llama_with_tensor(vector[i], 2, 0, 4), vector[i]);
    }
    for (size_t i = 0; i < sizeof extra / sizeof *extra; i++) {
        snprintf(what, sizeof what, "%s besides", extra[i]);
        refuse_model(what, llama_with_tensor(extra[i], TENSOR_F32, 0, 4), extra[i]);
    }
    m = llama_without(NULL);
    tensor(&m, "blk.0.attn_q.weight", TENSOR_F32, 4, 4);
    refuse_model("a tensor that stands twice", m, "tensor 'blk.0.attn_q.weight' stands twice");
    m = llama_without("blk.0.attn_q.weight");
    info(&m, "blk.0.attn_q.weight", 2, (uint64_t[]){4, 4}, TENSOR_F32, 0);
    refuse_model("tensors of the same bytes", m, "overlap");
    m = llama_without("blk.0.attn_q.weight");
    info(&m, "blk.0.attn_q.weight", 2, (uint64_t[]){4, 4}, TENSOR_F32, 32);
    refuse_model("tensors that share bytes", m, "'blk.0.attn_q.weight' overlap");
    refuse_model("an output of another shape", llama_with_tensor("output.weight", TENSOR_F32, 7, 4),
                 "output.weight");
    m = llama_without("blk.0.attn_q.weight");
    info(&m, "blk.0.attn_q.weight", 3, (uint64_t[]){4, 4, 2}, TENSOR_F32, 0);
    refuse_model("a third dimension", m, "blk.0.attn_q.weight");
}

int main(void) {
    start();
    test_little_endian();
    test_all_types();
    test_cut_anywhere();
    test_cut_in_type();
    test_alignments();
    test_writer();
    test_output();
    test_standard_output();
    test_two_outputs();
    test_taken_names();
    test_memory();
    test_spans();
    test_llama();
    test_types_of_matrices();
    test_accepted_llamas();
    test_unknown_keys();
    test_biases();
    sweep(test_truncation, "the file of every type", make_all_types);
    sweep(test_truncation, "the llama", make_tiny_llama);
    sweep(test_page_ends, "the file of every type", make_all_types);
    sweep(test_page_ends, "the llama", make_tiny_llama);
    test_last_byte(make_tiny_llama);
    sweep(test_changes, "the file of every type", make_all_types);
    sweep(test_changes, "the llama", make_tiny_llama);
    test_hostile_headers();
    test_hostile_values();
    test_hostile_tensors();
    test_missing();
    test_wrong_types();
    test_wrong_sizes();
    test_wrong_families();
    test_wrong_tensors();
    test.ended = true;
    clean_up();
    printf("%lu passed, %lu failed\n", test.passed, test.failed);
    return test.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
