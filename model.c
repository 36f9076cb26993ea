/* A checkpoint becomes logits: GGUF files, numbers, threads, kernels, the forward pass.
 *
 * Read it top to bottom. The forward pass, forward(), is a page of the last chapter; the kernels
 * before it are what makes it fast without changing a bit of what it computes.
 */
#include "lape.h"

#include <float.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef _OPENMP
#include <omp.h>
enum { OPENMP = true };
#else
enum { OPENMP = false };
#endif

#if defined(__AVX512BW__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__AARCH64EL__)
#include <arm_neon.h>
#endif

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "float must be computed in float: on x86 with -mfpmath=sse, on s390x -fexcess-precision=fast"
#endif
/* Products and attention by the loops that define them, or by kernels that give the same bits. */
#ifdef LAPE_SPEC
enum { SPEC = true };
#else
enum { SPEC = false };
#endif

_Static_assert(CHAR_BIT == 8 && sizeof(int) == 4 && sizeof(float) == 4 && sizeof(double) == 8,
               "the file format and the bit tricks below need these sizes");

static int min_int(int a, int b) { return a < b ? a : b; }

static int max_int(int a, int b) { return a > b ? a : b; }

/* ---- Numbers in files ------------------------------------------------------------------------ */

uint32_t get_u32(const void *at) {
    const uint8_t *b = at;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

uint64_t get_u64(const void *at) {
    const uint8_t *b = at;
    return get_u32(b) | (uint64_t)get_u32(b + 4) << 32;
}

static uint32_t get_u16(const void *at) {
    const uint8_t *b = at;
    return (uint32_t)(b[0] | b[1] << 8);
}

static float float_of_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of_float(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static double double_of_bits(uint64_t bits) {
    double f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint64_t bits_of_double(double f) {
    uint64_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

float get_f32(const void *at) { return float_of_bits(get_u32(at)); }

static double get_f64(const void *at) { return double_of_bits(get_u64(at)); }

/* The bits shifted into place are 2^112 times too small, subnormal or not: the product is exact. */
static float get_f16(const void *at) {
#ifdef __F16C__
    return _cvtsh_ss((uint16_t)get_u16(at));
#else
    const uint32_t h = get_u16(at), sign = (h & 0x8000) << 16, rest = (h & 0x7fff) << 13;
    const uint32_t bits = bits_of_float(float_of_bits(rest) * 0x1p112f);
    return float_of_bits(sign | bits | (rest >> 23 == 31 ? 0x7f800000 : 0)); /* infinity, NaN */
#endif
}

void write_little(FILE *to, uint64_t v, int bytes) {
    for (int b = 0; b < bytes; b++) putc((int)(v >> 8 * b & 255), to);
}

/* ---- Tensor types ------------------------------------------------------------------------------
 *
 * A row of a tensor is a row of blocks. A block of a quantised type unpacks to whole numbers q of
 * a few bits and, for every SCALE_GROUP of them, two floats d and m: the weights are d q - m, as
 * ggml's reference computes them in float32. d q has at most 24 bits, so it is exact, and a weight
 * is rounded once, where m is subtracted: whether a compiler fuses it or not. A block is drawn by
 * its bytes: f16 d, for example, is two of them.
 */

enum { STRIP = 256, SCALE_GROUP = 16 }; /* numbers of the longest block, and of one d and m */

/* Where a block's numbers go. */
struct unpacked {
    int8_t *restrict q; /* [numbers] */
    float *d, *m;       /* [groups], `step` apart */
    size_t step;
};

static inline void set_group(const struct unpacked *to, int group, float d, float m) {
    to->d[group * to->step] = d;
    to->m[group * to->step] = m;
}

/* The same of two groups, 32 numbers. */
static inline void set_pair(const struct unpacked *to, int pair, float d, float m) {
    set_group(to, 2 * pair, d, m);
    set_group(to, 2 * pair + 1, d, m);
}

/* Some bits of every byte. */
struct bits {
    const uint8_t *at;
    int shift, mask;
};

static inline int bits_at(struct bits b, int i) { return b.at[i] >> b.shift & b.mask; }

/* q[i] = low bits and, `above` them, high ones, less zero. */
static inline void spread(int8_t *restrict q, int n, struct bits low, struct bits high, int above,
                          int zero) {
    for (int i = 0; i < n; i++)
        q[i] = (int8_t)((bits_at(low, i) | bits_at(high, i) << above) - zero);
}

/* The same without high bits. */
static inline void spread_low(int8_t *restrict q, int n, struct bits low, int zero) {
    for (int i = 0; i < n; i++) q[i] = (int8_t)(bits_at(low, i) - zero);
}

/* The halves of n bytes, a multiple of 8: q[i] is the low one of byte i, q[n + i] the high one.
 * Eight at a time, in a word of whatever order. */
static inline void spread_halves(int8_t *restrict q, int n, const uint8_t *at) {
    for (int i = 0; i < n; i += 8) {
        uint64_t low, high;
        memcpy(&low, at + i, 8);
        high = low >> 4 & 0x0f0f0f0f0f0f0f0f;
        low &= 0x0f0f0f0f0f0f0f0f;
        memcpy(q + i, &low, 8);
        memcpy(q + n + i, &high, 8);
    }
}

/* f16 d, 32 q of a signed byte */
static void unpack_q8_0(const struct unpacked *to, const uint8_t *at) {
    set_pair(to, 0, get_f16(at), 0);
    memcpy(to->q, at + 2, 32);
}

/* f16 d, then halves of 16 bytes */
static void unpack_q4_0(const struct unpacked *to, const uint8_t *at) {
    set_pair(to, 0, get_f16(at), 0);
    spread_low(to->q, 16, (struct bits){at + 2, 0, 15}, 8);
    spread_low(to->q + 16, 16, (struct bits){at + 2, 4, 15}, 8);
}

/* f16 d, f16 -m, halves of 16 bytes */
static void unpack_q4_1(const struct unpacked *to, const uint8_t *at) {
    set_pair(to, 0, get_f16(at), -get_f16(at + 2));
    spread_halves(to->q, 16, at + 4);
}

/* Bit i of a byte becomes 16 or 0 in to[i]: eight at a time, in a word of whatever order. */
static inline void spread_bits(uint8_t *to, uint64_t byte) {
    static const uint8_t bit[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    uint64_t word;
    memcpy(&word, bit, 8);
    word = ((word & byte * 0x0101010101010101) + 0x7f7f7f7f7f7f7f7f) >> 3 & 0x1010101010101010;
    memcpy(to, &word, 8);
}

/* 32 numbers of five bits: the fifth ones in 4 bytes, number i's in bit i; then halves of 16 bytes.
 * Each q is written once: what was just written in small parts is slow to read as a vector. */
static inline void spread_fives(int8_t *restrict q, const uint8_t *at, int zero) {
    uint8_t fifth[32];
    for (int i = 0; i < 4; i++) spread_bits(fifth + 8 * i, at[i]);
    spread(q, 16, (struct bits){at + 4, 0, 15}, (struct bits){fifth, 0, 16}, 0, zero);
    spread(q + 16, 16, (struct bits){at + 4, 4, 15}, (struct bits){fifth + 16, 0, 16}, 0, zero);
}

/* f16 d, then five bits each */
static void unpack_q5_0(const struct unpacked *to, const uint8_t *at) {
    set_pair(to, 0, get_f16(at), 0);
    spread_fives(to->q, at + 2, 16);
}

/* f16 d, f16 -m, then five bits each */
static void unpack_q5_1(const struct unpacked *to, const uint8_t *at) {
    set_pair(to, 0, get_f16(at), -get_f16(at + 2));
    spread_fives(to->q, at + 4, 0);
}

/* 256 in 16 groups, a byte for each: scale s in the low half, offset o in the high one; 64 bytes,
 * 2 bits each: bytes 0-31 hold groups 0-7, bits 0-1 groups 0 and 1, bits 2-3 groups 2 and 3, ...;
 * f16 d, f16 e: weight d s q - e o */
static void unpack_q2_k(const struct unpacked *to, const uint8_t *at) {
    const float d = get_f16(at + 80), e = get_f16(at + 82);
    for (int g = 0; g < 16; g++) set_group(to, g, d * (float)(at[g] & 15), e * (float)(at[g] >> 4));
    for (int pair = 0; pair < 8; pair++)
        spread_low(to->q + 32 * pair, 32, (struct bits){at + 16 + pair / 4 * 32, pair % 4 * 2, 3},
                   0);
}

/* 32 bytes of third bits: bit k of byte i is of number 32 k + i; 64 bytes of two bits as in Q2_K;
 * 12 bytes of scales, six bits for each group: bytes 0-7 hold the low four of groups 0-7 in their
 * low halves, of 8-15 in their high ones, bytes 8-11 the upper two of groups g, g + 4, ...; f16 d.
 * Weight d (s - 32) (q - 4) */
static void unpack_q3_k(const struct unpacked *to, const uint8_t *at) {
    const uint8_t *scales = at + 96;
    const float d = get_f16(at + 108);
    for (int g = 0; g < 16; g++) {
        const int low = scales[g % 8] >> g / 8 * 4 & 15, high = scales[8 + g % 4] >> g / 4 * 2 & 3;
        set_group(to, g, d * (float)((low | high << 4) - 32), 0);
    }
    for (int pair = 0; pair < 8; pair++)
        spread(to->q + 32 * pair, 32, (struct bits){at + 32 + pair / 4 * 32, pair % 4 * 2, 3},
               (struct bits){at, pair, 1}, 2, 4);
}

/* Scales and offsets of 8 pairs of groups, six bits each in 12 bytes: of pairs 0-3 the low bits of
 * bytes g and 4 + g; of 4-7 the halves of byte 4 + g, and above them the upper two bits of bytes
 * g - 4 and g. Times f16 d and f16 e, which stand before them. */
static inline void set_pairs(const struct unpacked *to, const uint8_t *at) {
    const uint8_t *s = at + 4;
    const float d = get_f16(at), e = get_f16(at + 2);
    for (int g = 0; g < 4; g++) {
        const int scale = (s[g + 8] & 15) | s[g] >> 6 << 4,
                  offset = s[g + 8] >> 4 | s[g + 4] >> 6 << 4;
        set_pair(to, g, d * (float)(s[g] & 63), e * (float)(s[g + 4] & 63));
        set_pair(to, g + 4, d * (float)scale, e * (float)offset);
    }
}

/* f16 d, f16 e, scales and offsets of 8 pairs; 128 bytes: halves of 32 for two pairs. Weight
 * d s q - e o */
static void unpack_q4_k(const struct unpacked *to, const uint8_t *at) {
    set_pairs(to, at);
    for (int i = 0; i < 4; i++) spread_halves(to->q + 64 * i, 32, at + 16 + 32 * i);
}

/* As Q4_K, with 32 bytes of fifth bits, bit g for pair g, before the halves */
static void unpack_q5_k(const struct unpacked *to, const uint8_t *at) {
    set_pairs(to, at);
    for (int g = 0; g < 8; g++)
        spread(to->q + 32 * g, 32, (struct bits){at + 48 + g / 2 * 32, g % 2 * 4, 15},
               (struct bits){at + 16, g, 1}, 4, 0);
}

/* In two parts of 128 numbers, 64 bytes of low four bits each, halves of the first 32 for numbers
 * 0-31 and 64-95; then 32 bytes each of upper two bits, bits 0-1 for numbers 0-31, 2-3 for 32-63;
 * 16 signed bytes of scales; f16 d. Weight d s (q - 32) */
static void unpack_q6_k(const struct unpacked *to, const uint8_t *at) {
    const float d = get_f16(at + 208);
    for (int g = 0; g < 16; g++) set_group(to, g, d * (float)(int8_t)at[192 + g], 0);
    for (int pair = 0; pair < 8; pair++) {
        const int part = pair / 4, quarter = pair % 4;
        const struct bits low = {at + part * 64 + quarter % 2 * 32, quarter / 2 * 4, 15};
        const struct bits high = {at + 128 + part * 32, quarter * 2, 3};
        spread(to->q + 32 * pair, 32, low, high, 4, 32);
    }
}

/* 32 numbers from the halves of 16 bytes, each the place of one of 16 levels */
static inline void spread_levels(int8_t *restrict q, const uint8_t *at) {
    static const int8_t level[] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};
    for (int i = 0; i < 32; i++) q[i] = level[at[i % 16] >> i / 16 * 4 & 15];
}

/* f16 d, 16 bytes of places */
static void unpack_iq4_nl(const struct unpacked *to, const uint8_t *at) {
    set_pair(to, 0, get_f16(at), 0);
    spread_levels(to->q, at + 2);
}

/* f16 d; the upper two bits of 8 scales s in two bytes, the low four in the halves of four; 16
 * bytes of places for each pair of groups. Weight d (s - 32) level */
static void unpack_iq4_xs(const struct unpacked *to, const uint8_t *at) {
    const float d = get_f16(at);
    for (int g = 0; g < 8; g++) {
        const int low = at[4 + g / 2] >> g % 2 * 4 & 15, high = (int)(get_u16(at + 2) >> 2 * g & 3);
        set_pair(to, g, d * (float)((low | high << 4) - 32), 0);
        spread_levels(to->q + 32 * g, at + 8 + 16 * g);
    }
}

/* By ggml's number; those without a size are not read. */
static const struct tensor_kind {
    const char *name;
    int numbers, bytes;                                           /* of a block */
    void (*unpack)(const struct unpacked *to, const uint8_t *at); /* a quantised type's */
} tensor_kind[] = {
    /* clang-format off */
    [TENSOR_F32] = {"F32", 1, 4, NULL},
    [TENSOR_F16] = {"F16", 1, 2, NULL},
    [2] = {"Q4_0", 32, 18, unpack_q4_0},
    [3] = {"Q4_1", 32, 20, unpack_q4_1},
    [6] = {"Q5_0", 32, 22, unpack_q5_0},
    [7] = {"Q5_1", 32, 24, unpack_q5_1},
    [TENSOR_Q8_0] = {"Q8_0", 32, 34, unpack_q8_0},
    [10] = {"Q2_K", 256, 84, unpack_q2_k},
    [11] = {"Q3_K", 256, 110, unpack_q3_k},
    [12] = {"Q4_K", 256, 144, unpack_q4_k},
    [13] = {"Q5_K", 256, 176, unpack_q5_k},
    [14] = {"Q6_K", 256, 210, unpack_q6_k},
    [20] = {"IQ4_NL", 32, 18, unpack_iq4_nl},
    [23] = {"IQ4_XS", 256, 136, unpack_iq4_xs},
    [TENSOR_I64] = {"I64", 1, 8, NULL},
    [TENSOR_BF16] = {"BF16", 1, 2, NULL},
    [9] = {.name = "Q8_1"}, [15] = {.name = "Q8_K"}, [16] = {.name = "IQ2_XXS"},
    [17] = {.name = "IQ2_XS"}, [18] = {.name = "IQ3_XXS"}, [19] = {.name = "IQ1_S"},
    [21] = {.name = "IQ3_S"}, [22] = {.name = "IQ2_S"}, [29] = {.name = "IQ1_M"},
    [34] = {.name = "TQ1_0"}, [35] = {.name = "TQ2_0"}, [39] = {.name = "MXFP4"}};
/* clang-format on */

/* Its name is NULL when the number is not known here. */
static struct tensor_kind kind_of(uint32_t type) {
    const bool known = type < sizeof tensor_kind / sizeof *tensor_kind;
    return known ? tensor_kind[type] : (struct tensor_kind){0};
}

const char *tensor_type_name(uint32_t type) {
    return kind_of(type).name ? kind_of(type).name : "not known here";
}

/* Whether its numbers are weights. */
static bool is_weights(uint32_t type) {
    return kind_of(type).unpack || type == TENSOR_F32 || type == TENSOR_F16 || type == TENSOR_BF16;
}

/* Number i of a row of a type that is not quantised. */
static real number_at(const struct matrix *m, const char *row, int i) {
    return m->type == TENSOR_F32   ? get_f32(row + 4 * (size_t)i)
           : m->type == TENSOR_F16 ? get_f16(row + 2 * (size_t)i)
                                   : float_of_bits(get_u16(row + 2 * (size_t)i) << 16);
}

void widen(real *out, const struct matrix *m, int row, int from, int n) {
    const struct tensor_kind *kind = &tensor_kind[m->type];
    const char *at = m->at + (size_t)row * m->row_bytes;
    int8_t q[STRIP];
    float d[STRIP / SCALE_GROUP], minus[STRIP / SCALE_GROUP];
    const struct unpacked block = {q, d, minus, 1};
    if (!kind->unpack)
        for (int i = 0; i < n; i++) out[i] = number_at(m, at, from + i);
    for (int i = 0; kind->unpack && i < n;) {
        const int start = (from + i) / kind->numbers; /* its block */
        kind->unpack(&block, (const uint8_t *)at + (size_t)start * (size_t)kind->bytes);
        for (int k = (from + i) % kind->numbers; k < kind->numbers && i < n; k++)
            out[i++] = d[k / SCALE_GROUP] * (float)q[k] - minus[k / SCALE_GROUP];
    }
}

bool has_zero(uint32_t type) { return type == TENSOR_Q8_0 || kind_of(type).numbers == 1; }

void zero_element(char *row, uint32_t type, int i) {
    const size_t size = kind_of(type).bytes;
    if (type == TENSOR_Q8_0)
        row[i / 32 * 34 + 2 + i % 32] = 0;
    else
        memset(row + i * size, 0, size);
}

/* ---- GGUF: reading --------------------------------------------------------------------------- */

static const char *const type_name[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
static const uint8_t type_size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}; /* 0: varies */
enum { TYPES = sizeof type_size, MOST_VALUES = 4096, MOST_TENSORS = 1 << 16, ALIGNMENT = 32 };

/* What is left of the file. Every read goes through take(), which never passes the end: past it,
 * `ended` is set and all that is read is empty or 0. */
struct cursor {
    const char *at;
    size_t left;
    bool ended;
};

static const char *take(struct cursor *c, uint64_t n) {
    const char *at = c->at;
    c->ended |= n > c->left;
    if (c->ended) return NULL;
    c->at += n;
    c->left -= n;
    return at;
}

static uint32_t take_u32(struct cursor *c) {
    const char *at = take(c, 4);
    return at ? get_u32(at) : 0;
}

static uint64_t take_u64(struct cursor *c) {
    const char *at = take(c, 8);
    return at ? get_u64(at) : 0;
}

static struct span take_string(struct cursor *c) {
    uint64_t n = take_u64(c);
    const char *at = take(c, n);
    return (struct span){at ? at : "", at ? n : 0};
}

static int take_value(struct cursor *c, struct gguf_value *v, struct error *e) {
    v->key = take_string(c);
    if (c->ended) return fail(e, "the file ends inside its metadata");
    v->type = v->item = take_u32(c);
    v->count = 1;
    if (v->type == GGUF_ARRAY) {
        v->item = take_u32(c);
        v->count = take_u64(c);
    }
    if (c->ended) return fail(e, "the file ends inside value '%.*s'", brief(v->key), v->key.at);
    if (v->item >= TYPES || v->item == GGUF_ARRAY)
        return fail(e, "value '%.*s' has type %u, which GGUF does not define or is not read here",
                    brief(v->key), v->key.at, v->item);
    v->data.at = c->at;
    if (v->item == GGUF_STRING)
        for (uint64_t i = 0; !c->ended && i < v->count; i++) take_string(c);
    else
        take(c, v->count > c->left ? UINT64_MAX : v->count * type_size[v->item]);
    v->data.n = (size_t)(c->at - v->data.at);
    return c->ended ? fail(e, "the file ends inside value '%.*s'", brief(v->key), v->key.at) : 0;
}

static bool same_bytes(struct span a, struct span b) {
    return a.n == b.n && memcmp(a.at, b.at, a.n) == 0;
}

/* The entry of one tensor; data.n is left holding its offset until the data section is known. */
static int take_tensor(struct cursor *c, struct tensor *t, struct error *e) {
    uint64_t elements = 1;
    t->name = take_string(c);
    t->dims = take_u32(c);
    if (!c->ended && (t->dims < 1 || t->dims > 4))
        return fail(e, "tensor '%.*s' has %u dimensions, not 1 to 4", brief(t->name), t->name.at,
                    t->dims);
    for (uint32_t i = 0; i < 4; i++) {
        t->dim[i] = i < t->dims ? take_u64(c) : 1;
        if (!c->ended && (t->dim[i] == 0 || t->dim[i] > (UINT64_MAX >> 8) / elements))
            return fail(e, "tensor '%.*s' has an impossible dimension of %llu", brief(t->name),
                        t->name.at, (ull)t->dim[i]);
        elements *= t->dim[i];
    }
    t->type = take_u32(c);
    t->data.n = take_u64(c);
    if (c->ended) return fail(e, "the file ends inside its list of tensors");
    const struct tensor_kind kind = kind_of(t->type);
    if (kind.numbers && t->dim[0] % (uint64_t)kind.numbers)
        return fail(e, "tensor '%.*s' is %s with rows of %llu, not a multiple of %d",
                    brief(t->name), t->name.at, kind.name, (ull)t->dim[0], kind.numbers);
    return 0;
}

static int place_tensor(struct tensor *t, struct cursor data, int alignment, struct error *e) {
    uint64_t offset = t->data.n;
    const struct tensor_kind kind = kind_of(t->type);
    uint64_t size = t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3];
    size = kind.numbers ? size / (uint64_t)kind.numbers * (uint64_t)kind.bytes : 0;
    if (offset % (uint64_t)alignment)
        return fail(e, "tensor '%.*s' is not aligned", brief(t->name), t->name.at);
    if (offset > data.left || size > data.left - offset)
        return fail(e,
                    "tensor '%.*s' ends %llu bytes after the start of %zu bytes of data: the file "
                    "is cut short",
                    brief(t->name), t->name.at, (ull)(offset + size), data.left);
    t->data = (struct span){data.at + offset, size};
    return 0;
}

static int by_name(const void *a, const void *b) {
    const struct span x = (*(struct tensor *const *)a)->name,
                      y = (*(struct tensor *const *)b)->name;
    const int order = memcmp(x.at, y.at, x.n < y.n ? x.n : y.n);
    return order ? order : (x.n > y.n) - (x.n < y.n);
}

static int by_offset(const void *a, const void *b) {
    const struct span x = (*(struct tensor *const *)a)->data,
                      y = (*(struct tensor *const *)b)->data;
    return x.at != y.at ? (x.at > y.at) - (x.at < y.at) : (x.n > y.n) - (x.n < y.n);
}

/* Every tensor has a name and bytes of its own. Puts them in order of their names, too. */
static int check_apart(struct gguf *g, struct error *e) {
    const size_t n = g->tensors;
    free(g->named);
    g->named = new_array(n, sizeof *g->named);
    for (size_t i = 0; i < n; i++) g->named[i] = &g->tensor[i];
    qsort(g->named, n, sizeof *g->named, by_name);
    for (size_t i = 1; i < n; i++) {
        const struct span name = g->named[i]->name;
        if (same_bytes(g->named[i - 1]->name, name))
            return fail(e, "tensor '%.*s' stands twice", brief(name), name.at);
    }
    struct tensor **placed = memcpy(new_array(n, sizeof *placed), g->named, n * sizeof *placed);
    int bad = 0;
    qsort(placed, n, sizeof *placed, by_offset);
    for (size_t i = 1; !bad && i < n; i++) {
        const struct tensor *a = placed[i - 1], *b = placed[i];
        if (a->data.at + a->data.n > b->data.at)
            bad = fail(e, "tensors '%.*s' and '%.*s' overlap", brief(a->name), a->name.at,
                       brief(b->name), b->name.at);
    }
    free(placed);
    return bad;
}

static int parse_gguf(struct gguf *g, struct error *e) {
    struct cursor c = {g->map, g->map_size, false};
    const char *magic = take(&c, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0)
        return fail(e, "not a GGUF file; tools/convert.py makes one from a checkpoint");
    const uint32_t version = take_u32(&c);
    const uint64_t tensors = take_u64(&c), values = take_u64(&c);
    const char *first = c.at;
    if (c.ended) return fail(e, "the file ends inside its header");
    if (version == 2u << 24 || version == 3u << 24)
        return fail(e, "a big-endian file; little-endian ones are read");
    if (version != 2 && version != 3) /* 3 differs from 2 only in allowing big-endian files */
        return fail(e, "GGUF version %u is not read, little-endian 2 and 3 are", version);
    if (values > MOST_VALUES || tensors > MOST_TENSORS)
        return fail(e, "%llu values and %llu tensors: more than a real file has", (ull)values,
                    (ull)tensors);
    g->value = new_array(values, sizeof *g->value);
    g->tensor = new_array(tensors, sizeof *g->tensor);
    for (; g->values < values; g->values++) {
        if (take_value(&c, &g->value[g->values], e)) return -1;
        struct span key = g->value[g->values].key;
        for (size_t i = 0; i < g->values; i++)
            if (same_bytes(g->value[i].key, key))
                return fail(e, "value '%.*s' stands twice", brief(key), key.at);
    }
    g->header = (struct span){first, (size_t)(c.at - first)};
    for (; g->tensors < tensors; g->tensors++)
        if (take_tensor(&c, &g->tensor[g->tensors], e)) return -1;
    if (gguf_int(g, "general.alignment", 1, 1 << 16, ALIGNMENT, &g->alignment, e)) return -1;
    if (g->alignment & (g->alignment - 1))
        return fail(e, "value 'general.alignment' is %d, not a power of two", g->alignment);
    size_t read = g->map_size - c.left;
    if (!take(&c, -read % (size_t)g->alignment) && tensors) /* up to the next multiple */
        return fail(e, "the file ends before its tensors' data");
    for (size_t i = 0; i < tensors; i++)
        if (place_tensor(&g->tensor[i], c, g->alignment, e)) return -1;
    return check_apart(g, e);
}

static int open_file(struct gguf *g, const char *path, struct error *e) {
    struct span file;
    *g = (struct gguf){0};
    if (map_file(path, &file, e)) return -1;
    g->map = (void *)file.at;
    g->map_size = file.n;
    return parse_gguf(g, e) ? fail_in(e, path) : 0;
}

/* As llama.cpp's gguf-split numbers and names files. */
struct split {
    int no, count; /* no from 0 */
    char ending[40];
};

static void name_ending(struct split *s) {
    snprintf(s->ending, sizeof s->ending, "-%05d-of-%05d.gguf", s->no + 1, s->count);
}

static int read_split(const struct gguf *g, struct split *s, struct error *e) {
    *s = (struct split){0};
    if (gguf_int(g, "split.count", 0, 65535, 0, &s->count, e)) return -1;
    if (s->count > 1 && gguf_int(g, "split.no", 0, s->count - 1, 0, &s->no, e)) return -1;
    name_ending(s);
    return 0;
}

static int add_file(struct gguf *g, const char *path, const struct split *want, struct error *e) {
    struct gguf *p = &g->part[g->parts++];
    struct split is;
    if (open_file(p, path, e)) return -1;
    if (read_split(p, &is, e)) return fail_in(e, path);
    if (is.no != want->no || is.count != want->count)
        return fail(e, "%s: part %d of %d, not %d of %d", path, is.no + 1, is.count, want->no + 1,
                    want->count);
    g->tensor = grow_array(g->tensor, g->tensors + p->tensors + 1, sizeof *g->tensor);
    memcpy(g->tensor + g->tensors, p->tensor, p->tensors * sizeof *g->tensor);
    g->tensors += p->tensors;
    return 0;
}

/* The other files of a split model. */
static int open_parts(struct gguf *g, const char *path, struct error *e) {
    struct split s;
    int tensors, bad = 0;
    if (read_split(g, &s, e)) return -1;
    if (s.count < 2) return 0;
    const size_t n = strlen(path), end = strlen(s.ending);
    if (n < end || strcmp(path + n - end, s.ending) != 0)
        return fail(e, "part %d of %d, and its name does not end in '%s'", s.no + 1, s.count,
                    s.ending);
    if (s.no) return fail(e, "part %d of %d: the first opens all", s.no + 1, s.count);
    if (gguf_int(g, "split.tensors.count", 0, INT_MAX, REQUIRED, &tensors, e)) return -1;
    char *other = strcpy(new_array(n + sizeof s.ending, 1), path);
    g->part = new_array(s.count - 1, sizeof *g->part);
    for (s.no = 1; !bad && s.no < s.count; s.no++) {
        name_ending(&s);
        strcpy(other + n - end, s.ending);
        bad = add_file(g, other, &s, e);
    }
    free(other);
    if (!bad && g->tensors != (size_t)tensors)
        bad = fail(e, "%zu tensors in %d parts, where 'split.tensors.count' says %d", g->tensors,
                   s.count, tensors);
    return bad ? -1 : check_apart(g, e);
}

int gguf_open(struct gguf *g, const char *path, struct error *e) {
    int bad = open_file(g, path, e);
    if (!bad && open_parts(g, path, e)) bad = fail_in(e, path);
    if (bad) gguf_close(g);
    return bad;
}

void gguf_close(struct gguf *g) {
    for (int i = 0; i < g->parts; i++) gguf_close(&g->part[i]);
    if (g->map) munmap(g->map, g->map_size);
    free(g->part);
    free(g->value);
    free(g->tensor);
    free(g->named);
    *g = (struct gguf){0};
}

struct gguf_value *gguf_find(const struct gguf *g, const char *key) {
    for (size_t i = 0; i < g->values; i++)
        if (span_is(g->value[i].key, key)) return &g->value[i];
    return NULL;
}

struct tensor *gguf_tensor(const struct gguf *g, const char *name) {
    const struct tensor wanted = {.name = {name, strlen(name)}}, *key = &wanted;
    struct tensor **found = bsearch(&key, g->named, g->tensors, sizeof *g->named, by_name);
    return found ? *found : NULL;
}

/* The value, or NULL with a message when it is absent or its type is not in `types`. */
static const struct gguf_value *want(const struct gguf *g, const char *key, unsigned types,
                                     const char *kind, struct error *e) {
    struct gguf_value *v = gguf_find(g, key);
    if (!v)
        fail(e, "value '%s' is missing", key);
    else if (!(types >> v->type & 1)) {
        fail(e, "value '%s' is of type %s, not %s", key, type_name[v->type], kind);
        v = NULL;
    } else {
        v->used = true;
    }
    return v;
}

int gguf_int(const struct gguf *g, const char *key, int least, int most, int otherwise, int *to,
             struct error *e) {
    const unsigned with_sign = 1 << GGUF_I8 | 1 << GGUF_I16 | 1 << GGUF_I32 | 1 << GGUF_I64;
    const unsigned without = 1 << GGUF_U8 | 1 << GGUF_U16 | 1 << GGUF_U32 | 1 << GGUF_U64;
    const unsigned truth = most == 1 ? 1 << GGUF_BOOL : 0;
    *to = otherwise;
    if (otherwise != REQUIRED && !gguf_find(g, key)) return 0;
    const struct gguf_value *v = want(g, key, with_sign | without | truth, "an integer", e);
    if (!v) return -1;
    const int bits = 8 * type_size[v->type];
    const uint64_t sign = with_sign >> v->type & 1 ? (uint64_t)1 << (bits - 1) : 0;
    uint64_t n = 0;
    for (int i = 0; i < bits; i += 8) n |= (uint64_t)(uint8_t)v->data.at[i / 8] << i;
    const bool negative = n & sign, low = least > 0 && n < (uint64_t)least;
    if (negative || low || n > (uint64_t)most)
        return fail(e, "value '%s' is %s%llu, outside %d to %d", key, negative ? "-" : "",
                    (ull)(negative ? 2 * sign - n : n), least, most);
    *to = (int)n;
    return 0;
}

int gguf_float(const struct gguf *g, const char *key, double least, double most, double otherwise,
               double *to, struct error *e) {
    *to = otherwise;
    if (otherwise != REQUIRED && !gguf_find(g, key)) return 0;
    const struct gguf_value *v = want(g, key, 1 << GGUF_F32 | 1 << GGUF_F64, "a number", e);
    if (!v) return -1;
    *to = v->type == GGUF_F32 ? get_f32(v->data.at) : get_f64(v->data.at);
    if (*to >= least && *to <= most) return 0;
    return fail(e, "value '%s' is %.17g, outside %g to %g", key, *to, least, most);
}

int gguf_string(const struct gguf *g, const char *key, struct span *to, struct error *e) {
    const struct gguf_value *v = want(g, key, 1 << GGUF_STRING, "a string", e);
    if (v) *to = (struct span){v->data.at + 8, v->data.n - 8};
    return v ? 0 : -1;
}

int gguf_u64(const struct gguf *g, const char *key, uint64_t *to, struct error *e) {
    *to = 0;
    if (!gguf_find(g, key)) return 0;
    const struct gguf_value *v = want(g, key, 1 << GGUF_U64, "a u64", e);
    if (v) *to = get_u64(v->data.at);
    return v ? 0 : -1;
}

const struct gguf_value *gguf_array(const struct gguf *g, const char *key, enum gguf_type item,
                                    struct error *e) {
    const struct gguf_value *v = want(g, key, 1 << GGUF_ARRAY, "an array", e);
    if (v && v->item != item) {
        fail(e, "value '%s' is an array of %s, not of %s", key, type_name[v->item],
             type_name[item]);
        v = NULL;
    }
    return v;
}

struct span *gguf_strings(const struct gguf_value *array) {
    struct cursor c = {array->data.at, array->data.n, false};
    struct span *s = new_array(array->count, sizeof *s);
    for (uint64_t i = 0; i < array->count; i++) s[i] = take_string(&c); /* checked at opening */
    return s;
}

void *gguf_numbers(const struct gguf_value *array) {
    const int size = type_size[array->item];
    char *to = new_array(array->count, size);
    for (uint64_t i = 0; i < array->count; i++) {
        const uint32_t number = size == 4 ? get_u32(array->data.at + 4 * i) : 0;
        if (size == 4)
            memcpy(to + 4 * i, &number, 4);
        else
            to[i] = array->data.at[i] != 0;
    }
    return to;
}

/* Whether the list, which ends with NULL, has the text, or its beginning or end beside a "*". */
static bool is_listed(struct span s, const char *const *list) {
    for (; *list; list++) {
        const size_t n = strlen(*list) - 1;
        if (span_is(s, *list)) return true;
        if (**list == '*' && s.n >= n && !memcmp(s.at + s.n - n, *list + 1, n)) return true;
        if ((*list)[n] == '*' && s.n >= n && !memcmp(s.at, *list, n)) return true;
    }
    return false;
}

int gguf_check_used(const struct gguf *g, const char *prefix, const char *const *harmless,
                    struct error *e) {
    const size_t n = strlen(prefix);
    for (size_t i = 0; i < g->values; i++) {
        const struct span key = g->value[i].key;
        if (g->value[i].used || key.n < n || memcmp(key.at, prefix, n) != 0) continue;
        if (!is_listed((struct span){key.at + n, key.n - n}, harmless))
            return fail(e, "value '%.*s' has no place here: not run without it", brief(key),
                        key.at);
    }
    return 0;
}

int gguf_check_tensors(const struct gguf *g, struct error *e) {
    for (size_t i = 0; i < g->tensors; i++)
        if (!g->tensor[i].used)
            return fail(e, "tensor '%.*s' has no place here: not run without it",
                        brief(g->tensor[i].name), g->tensor[i].name.at);
    return 0;
}

uint64_t gguf_digest(const struct gguf *g) {
    uint64_t hash = HASH;
    for (size_t i = 0; i < g->values; i++) {
        const struct gguf_value *v = &g->value[i];
        if (v->key.n >= 6 && !memcmp(v->key.at, "split.", 6)) continue;
        hash = hash_on(hash_on(hash, v->key.at, v->key.n), v->data.at, v->data.n);
    }
    for (size_t i = 0; i < g->tensors; i++) {
        const struct tensor *t = &g->tensor[i];
        const size_t n = t->data.n < 16 ? t->data.n : 16; /* from three places */
        uint8_t shape[40];
        for (int k = 0; k < 5; k++)
            for (int b = 0; b < 8; b++)
                shape[8 * k + b] = (uint8_t)((k < 4 ? t->dim[k] : t->type) >> 8 * b);
        hash = hash_on(hash_on(hash, t->name.at, t->name.n), shape, sizeof shape);
        for (int k = 0; k < 3; k++) hash = hash_on(hash, t->data.at + (t->data.n - n) / 2 * k, n);
    }
    return hash ? hash : 1;
}

/* ---- GGUF: writing --------------------------------------------------------------------------- */

void put_number(struct gguf_writer *w, uint64_t v, int bytes) {
    write_little(w->to, v, bytes);
    w->written += bytes;
}

void put_f32(struct gguf_writer *w, float v) { put_number(w, bits_of_float(v), 4); }

void put_bytes(struct gguf_writer *w, const void *bytes, size_t n) {
    fwrite(bytes, 1, n, w->to);
    w->written += n;
}

void put_text(struct gguf_writer *w, const char *s) {
    put_number(w, strlen(s), 8);
    put_bytes(w, s, strlen(s));
}

static void put_key(struct gguf_writer *w, const char *key, enum gguf_type type) {
    put_text(w, key);
    put_number(w, type, 4);
}

void put_header(struct gguf_writer *w, uint64_t tensors, uint64_t values) {
    if (!w->alignment) w->alignment = ALIGNMENT;
    put_number(w, get_u32("GGUF"), 4);
    put_number(w, 3, 4);
    put_number(w, tensors, 8);
    put_number(w, values, 8);
}

void put_u64(struct gguf_writer *w, const char *key, uint64_t v) {
    put_key(w, key, GGUF_U64);
    put_number(w, v, 8);
}

void put_f64(struct gguf_writer *w, const char *key, double v) {
    put_key(w, key, GGUF_F64);
    put_number(w, bits_of_double(v), 8);
}

void put_string(struct gguf_writer *w, const char *key, const char *v) {
    put_key(w, key, GGUF_STRING);
    put_text(w, v);
}

void put_array(struct gguf_writer *w, const char *key, enum gguf_type item, size_t n) {
    put_key(w, key, GGUF_ARRAY);
    put_number(w, item, 4);
    put_number(w, n, 8);
}

void put_tensor(struct gguf_writer *w, const struct tensor *t) {
    const uint64_t most = (uint64_t)w->alignment - 1;
    put_number(w, t->name.n, 8);
    put_bytes(w, t->name.at, t->name.n);
    put_number(w, t->dims, 4);
    for (uint32_t i = 0; i < t->dims; i++) put_number(w, t->dim[i], 8);
    put_number(w, t->type, 4);
    put_number(w, w->offset, 8);
    w->offset = (w->offset + t->data.n + most) & ~most;
}

void put_padding(struct gguf_writer *w) {
    while (w->written % (uint64_t)w->alignment) put_number(w, 0, 1);
}

/* ---- Numbers -----------------------------------------------------------------------------------
 *
 * Nowhere is a product added to something but by an explicit fma, unless it is exact: then a
 * compiler that fuses what it was told not to (-ffp-contract=off; gcc 12.2 was seen to) changes
 * nothing. The transcendental functions are ours because every libm has its own last bit.
 */
static const double LN2_HI = 0x1.62e42fefa39efp-1, LN2_LO = 0x1.abc9e3b39803fp-56;
static const double LOG2_E = 0x1.71547652b82fep0;
static const double PI_2_HI = 0x1.921fb54442d18p0, PI_2_LO = 0x1.1a62633145c07p-54;

/* 1 / k! */
/* clang-format off */
static const double INVERSE_FACTORIAL[] = {
    1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320,
    1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600., 1.0 / 6227020800.};
/* clang-format on */

/* x times y to the nearest integer, |x y| < 2^51: the sum has no bits left for a fraction. */
static double whole_product(double x, double y) { return fma(x, y, 0x1.8p52) - 0x1.8p52; }

static double power_of_two(int n) { return double_of_bits((uint64_t)(1023 + n) << 52); }

/* e^x = 2^n (1 + r q): |r| <= ln 2 / 2, and 1 + r q the Taylor series of e^r, of which the first
 * term left out is below 2^-57. Returns q. Without a loop, so that compilers do many at a time. */
static inline double exp_parts(double x, double *r, double *n) {
    const double *term = INVERSE_FACTORIAL, whole = whole_product(x, LOG2_E);
    const double rest = fma(whole, -LN2_LO, fma(whole, -LN2_HI, x));
    double q = fma(term[13], rest, term[12]);
    q = fma(q, rest, term[11]);
    q = fma(q, rest, term[10]);
    q = fma(q, rest, term[9]);
    q = fma(q, rest, term[8]);
    q = fma(q, rest, term[7]);
    q = fma(q, rest, term[6]);
    q = fma(q, rest, term[5]);
    q = fma(q, rest, term[4]);
    q = fma(q, rest, term[3]);
    q = fma(q, rest, term[2]);
    *n = whole;
    *r = rest;
    return fma(q, rest, term[1]);
}

/* The power of two is applied in two halves, so that it may leave the normal range. */
double exp64(double x) {
    double c = x > -746 ? x : -746, r, whole; /* -746, too, for what is no number */
    const double q = exp_parts(c < 710 ? c : 710, &r, &whole);
    const int n = (int)whole;
    const double e = fma(q, r, 1) * power_of_two(n / 2) * power_of_two(n - n / 2);
    return x == x ? e : x;
}

/* m / (m + 2) with m = e^2|x| - 1 = 2^n r q + (2^n - 1), where nothing cancels. tanh 20 rounds to
 * 1. What is no number goes through: 2^n is made of bits, and may then be anything. Inline, for
 * loops over many. */
static inline double tanh_inline(double x) {
    double r, n;
    const double q = exp_parts(2 * (fabs(x) > 20 ? 20 : fabs(x)), &r, &n);
    const double power = double_of_bits((bits_of_double(n + 0x1.8p52) + 1023) << 52);
    const double m = fma(power, r * q, power - 1);
    return copysign(m / (m + 2), x);
}

double tanh64(double x) { return tanh_inline(x); }

/* x = 2^n m with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh(s), s = (m - 1) / (m + 1). With
 * |s| < 0.172 the first term left out is below 2^-58. */
double log64(double x) {
    const uint64_t bits = bits_of_double(x);
    if (!(x < INFINITY)) return x; /* infinity, or no number */
    int n = (int)(bits >> 52) - 1023;
    double m = double_of_bits((bits & 0xfffffffffffff) | (uint64_t)1023 << 52);
    if (m > 0x1.6a09e667f3bcdp0) {
        m /= 2;
        n++;
    }
    double s = (m - 1) / (m + 1), s2 = s * s, series = 0;
    for (int k = 23; k >= 3; k -= 2) series = fma(series, s2, 1.0 / k);
    series = 2 * s * s2 * series; /* what is left of ln m after 2 s */
    return fma(n, LN2_HI, fma(2, s, fma(n, LN2_LO, series)));
}

double pow64(double x, double y) { return exp64(y * log64(x)); }

/* x = n pi/2 + r with |r| <= pi/4, then the Taylor series of sine or cosine by quadrant. */
static double sine_of_quadrant(double x, int quadrant) {
    double n = whole_product(x, 1 / PI_2_HI);
    double r = fma(n, -PI_2_LO, fma(n, -PI_2_HI, x));
    double r2 = r * r, p = 0;
    quadrant = ((int)n + quadrant) & 3;
    if (quadrant & 1) { /* cosine: 1 - r^2/2 (1 - r^2/12 (1 - ...)) */
        for (int k = 18; k >= 2; k -= 2) p = fma(-r2 / ((k - 1) * k), 1 + p, 0);
        p = 1 + p;
    } else { /* sine: r - r^3/6 (1 - r^2/20 (1 - ...)) */
        for (int k = 19; k >= 3; k -= 2) p = fma(-r2 / ((k - 1) * k), 1 + p, 0);
        p = fma(r, p, r);
    }
    return quadrant & 2 ? -p : p;
}

double sin64(double x) { return sine_of_quadrant(x, 0); }

double cos64(double x) { return sine_of_quadrant(x, 1); }

/* e^x in the precision of the forward pass: exp64's steps with fewer terms, and nothing in it that
 * keeps a compiler from doing many at a time. Float: within 1 ulp. */
static inline real real_exp(real x) {
#ifdef LAPE_REAL64
    return exp64(x);
#else
    const float hi = 0x1.62e43p-1f, lo = -0x1.05c61p-29f;                    /* ln 2 */
    float c = x > -104 ? x : -104;
    c = c < 89 ? c : 89;
    float n = fmaf(c, 0x1.715476p0f, 0x1.8p23f) - 0x1.8p23f;
    float r = fmaf(n, -lo, fmaf(n, -hi, c));
    float p = 1.0f / 5040;
    p = fmaf(p, r, 1.0f / 720);
    p = fmaf(p, r, 1.0f / 120);
    p = fmaf(p, r, 1.0f / 24);
    p = fmaf(p, r, 1.0f / 6);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    int32_t half = (int32_t)n / 2, rest = (int32_t)n - half;
    p *= float_of_bits((uint32_t)(127 + half) << 23);
    p *= float_of_bits((uint32_t)(127 + rest) << 23);
    return x == x ? p : x;
#endif
}

/* The largest of n >= 1 numbers. It is the same in any order, so many go side by side. */
static real largest(const real *x, int n) {
    enum { LANES_OF_MAX = 32 }; /* as many as compilers do not unroll, but turn into vectors */
    real lane[LANES_OF_MAX];
    for (int i = 0; i < LANES_OF_MAX; i++) lane[i] = x[0];
    int j = 0;
    for (; j + LANES_OF_MAX <= n; j += LANES_OF_MAX)
        for (int i = 0; i < LANES_OF_MAX; i++) lane[i] = x[j + i] > lane[i] ? x[j + i] : lane[i];
    for (; j < n; j++) lane[0] = x[j] > lane[0] ? x[j] : lane[0];
    for (int i = 1; i < LANES_OF_MAX; i++) lane[0] = lane[i] > lane[0] ? lane[i] : lane[0];
    return lane[0];
}

/* ---- Threads --------------------------------------------------------------------------------- */

struct pool {
    int threads, workers;
    pthread_t *thread;    /* [workers], those besides the caller */
    pthread_mutex_t lock; /* guards all below */
    int started;
    pthread_cond_t wake, finished;
    void (*job)(void *context, int i, int thread);
    void *context;
    int next, done, n; /* of the jobs of the run at hand */
    bool quit;
};

int pool_threads(const struct pool *p) { return p->threads; }

enum { LOOKS = 100 };

/* Takes jobs until none is left to start. Called and left with the lock held. */
static void take_jobs(struct pool *p, int thread) {
    while (p->next < p->n) {
        int i = p->next++;
        pthread_mutex_unlock(&p->lock);
        p->job(p->context, i, thread);
        pthread_mutex_lock(&p->lock);
        if (++p->done == p->n) pthread_cond_signal(&p->finished);
    }
}

/* Waits a moment, or until `at` is signalled. Runs follow each other within microseconds, and being
 * woken takes tens of them: so a thread looks again for a while before it sleeps. Called and left
 * with the lock held; *looked counts from 0. */
static void wait_for(struct pool *p, pthread_cond_t *at, int *looked) {
    if (++*looked > LOOKS) {
        pthread_cond_wait(at, &p->lock);
        return;
    }
    pthread_mutex_unlock(&p->lock);
    sched_yield(); /* to whom it may concern: with more threads than cores they are needed */
    pthread_mutex_lock(&p->lock);
}

static void *worker(void *context) {
    struct pool *p = context;
    pthread_mutex_lock(&p->lock);
    int thread = ++p->started;
    while (!p->quit) {
        take_jobs(p, thread);
        for (int looked = 0; !p->quit && p->next >= p->n;) wait_for(p, &p->wake, &looked);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

struct pool *pool_new(int threads, struct error *e) {
    struct pool *p = new_array(1, sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->finished, NULL);
    p->thread = new_array(threads, sizeof *p->thread);
    p->threads = threads;
    hold_signals(); /* they are the caller's */
    while (!OPENMP && p->workers < threads - 1 &&
           pthread_create(&p->thread[p->workers], NULL, worker, p) == 0)
        p->workers++;
    release_signals();
    if (OPENMP || p->workers == threads - 1) return p;
    fail(e, "cannot start thread %d of %d", p->workers + 2, threads);
    pool_free(p);
    return NULL;
}

void pool_free(struct pool *p) {
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->workers; i++) pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->finished);
    pthread_mutex_destroy(&p->lock);
    free(p->thread);
    free(p);
}

void pool_run(struct pool *p, int n, void (*job)(void *context, int i, int thread), void *context) {
#ifdef _OPENMP
#pragma omp parallel for num_threads(p->threads) schedule(dynamic)
    for (int i = 0; i < n; i++) job(context, i, omp_get_thread_num());
#else
    if (p->threads == 1 || n == 1) { /* nothing to share: spare the others the waking */
        for (int i = 0; i < n; i++) job(context, i, 0);
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->job = job;
    p->context = context;
    p->next = p->done = 0;
    p->n = n;
    pthread_cond_broadcast(&p->wake);
    take_jobs(p, 0);
    for (int looked = 0; p->done < p->n;) wait_for(p, &p->finished, &looked);
    pthread_mutex_unlock(&p->lock);
#endif
}

/* ---- Model ----------------------------------------------------------------------------------- */

enum positions {
    PAIRS,   /* rotary: neighbours 2i and 2i + 1 turn together */
    HALVES,  /* rotary: i and i + rotated / 2 do */
    LEARNED, /* an embedding of each position is added to the token's */
    ALIBI    /* attention falls off with distance (Press et al., 2022) */
};

enum activation { SILU, GELU_TANH, RELU };

/* A family is a row of features: the forward pass knows these, and no names. */
struct family {
    const char *name;
    enum positions positions;
    enum activation activation;
    bool layer_norm;     /* LayerNorm (Ba et al., 2016) instead of RMSNorm */
    bool plain;          /* feed-forward without a gate: act(x W_up + b) W_down + b */
    bool parallel;       /* attention and feed-forward read the same norm of the stream */
    bool no_pre_norm;    /* they read the stream as it is */
    bool qk_norm;        /* of every head of q and of k, before rotation */
    bool qk_norm_wide;   /* of all heads together */
    bool fused_gate;     /* W_gate and W_up lie in one tensor */
    bool post_norm;      /* of what attention and feed-forward add */
    bool embedding_norm; /* of the token embeddings */
    bool scaled;         /* embeddings times sqrt(D) */
    bool multipliers;    /* the file scales embeddings and what a layer adds, and divides logits */
    bool no_window;      /* a file with one is of OLMo-3, in some layers only */
    int unrotated_every; /* of so many layers the last knows no positions */
    int wide_layers;     /* so many scale q . k as if the heads shared the width: Gemma's 27B */
    int global_every;    /* of so many layers the last has no window; 0: every layer has it */
    double window_base;  /* of rotation in layers with a window; 0: as in the others */
    int window;          /* this and the caps where the file does not say; 0: none */
    double attention_cap, logit_cap;
    const char *harmless; /* a value of the file's that the tensors say, too */
};

/* clang-format off */
static const struct family family_table[] = {
    {.name = "llama"}, /* and Mistral */
    {.name = "qwen2", .positions = HALVES},
    {.name = "qwen3", .positions = HALVES, .qk_norm = true},
    {.name = "gpt2", .positions = LEARNED, .activation = GELU_TANH, .layer_norm = true,
     .plain = true}, /* and mGPT */
    {.name = "opt", .positions = LEARNED, .activation = RELU, .layer_norm = true, .plain = true},
    {.name = "bloom", .positions = ALIBI, .activation = GELU_TANH, .layer_norm = true,
     .plain = true, .embedding_norm = true},
    {.name = "phi2", .positions = HALVES, .activation = GELU_TANH, .layer_norm = true,
     .plain = true, .parallel = true},
    {.name = "gemma", .positions = HALVES, .activation = GELU_TANH, .scaled = true},
    {.name = "gemma2", .positions = HALVES, .activation = GELU_TANH, .post_norm = true,
     .scaled = true, .wide_layers = 46, .global_every = 2, .window = 4096, .attention_cap = 50,
     .logit_cap = 30},
    {.name = "gemma3", .positions = HALVES, .activation = GELU_TANH, .qk_norm = true,
     .post_norm = true, .scaled = true, .wide_layers = 62, .global_every = 6, .window_base = 1e4},
    {.name = "command-r", .layer_norm = true, .parallel = true}, /* and Aya */
    {.name = "olmo2", .positions = HALVES, .no_pre_norm = true, .qk_norm_wide = true,
     .post_norm = true, .no_window = true},
    {.name = "stablelm", .positions = HALVES, .layer_norm = true,
     .harmless = "use_parallel_residual"},
    {.name = "phi3", .positions = HALVES, .fused_gate = true},
    {.name = "smollm3", .unrotated_every = 4},
    {.name = "granite", .multipliers = true},
};
/* clang-format on */

static bool is_rotary(const struct family *f) {
    return f->positions == PAIRS || f->positions == HALVES;
}

const char *family_name(const struct config *c) { return c->family->name; }

bool has_gate(const struct config *c) { return !c->family->plain; }

/* Vectors may be NULL: norms that the family has not, biases that the file has not. */
struct layer {
    struct norm attn_norm, ffn_norm; /* [D]; ffn_norm none when parallel */
    struct norm attn_post, ffn_post; /* [D] */
    struct norm q_norm, k_norm;      /* [d], or [H d] and [KV d] */
    struct matrix q, k, v, attn_out; /* [H d, D], [KV d, D], [KV d, D], [D, H d] */
    struct matrix gate, up, down;    /* [F, D], [F, D], [D, F]; without a gate, gate is W_up */
    real *q_bias, *k_bias, *v_bias;  /* [H d], [KV d], [KV d] */
    real *attn_bias, *up_bias, *down_bias; /* [D], [F], [D] */
};

/* A tensor that the forward pass uses, as a matrix. */
static int load_matrix(struct model *m, struct matrix *w, const char *name, int rows, int columns,
                       struct error *e) {
    struct tensor *t = gguf_tensor(&m->file, name);
    if (!t) return fail(e, "tensor '%s' is missing", name);
    if (t->dim[0] != (uint64_t)columns || t->dim[1] != (uint64_t)rows || t->dim[2] * t->dim[3] != 1)
        return fail(e, "tensor '%s' is [%llu, %llu], not [%d, %d] as the metadata say", name,
                    (ull)t->dim[1], (ull)t->dim[0], rows, columns);
    if (!is_weights(t->type))
        return fail(e, "tensor '%s' is of ggml's type %u, %s, which is not read here", name,
                    t->type, tensor_type_name(t->type));
    t->used = true;
    *w = (struct matrix){t->data.at, t->type, rows, columns, t->data.n / rows};
    return 0;
}

/* "blk.<layer>.<name><end>", without what stands before the name for layer -1. */
static const char *tensor_name(char room[64], int layer, const char *name, const char *end) {
    if (layer >= 0)
        snprintf(room, 64, "blk.%d.%s%s", layer, name, end);
    else
        snprintf(room, 64, "%s%s", name, end);
    return room;
}

static int load_vector(struct model *m, real **to, const char *name, int n, struct error *e) {
    struct matrix row;
    if (load_matrix(m, &row, name, 1, n, e)) return -1;
    *to = new_array(n, sizeof **to);
    buffer_add(&m->vectors, to, sizeof *to);
    widen(*to, &row, 0, 0, n);
    return 0;
}

/* A vector that a file may lack: it stays NULL then. */
static int load_bias(struct model *m, real **to, const char *name, int n, struct error *e) {
    return gguf_tensor(&m->file, name) ? load_vector(m, to, name, n, e) : 0;
}

static int load_norm(struct model *m, struct norm *to, int layer, const char *name, int n,
                     struct error *e) {
    char full[64];
    return load_vector(m, &to->weight, tensor_name(full, layer, name, ".weight"), n, e) ||
           (m->config.family->layer_norm && /* RMSNorm has none */
            load_bias(m, &to->bias, tensor_name(full, layer, name, ".bias"), n, e));
}

/* A matrix of layer i and, where there is a place for it, its bias. */
static int load_linear(struct model *m, int i, const char *name, struct matrix *w, int rows,
                       int columns, real **bias, struct error *e) {
    char full[64];
    return load_matrix(m, w, tensor_name(full, i, name, ".weight"), rows, columns, e) ||
           (bias && load_bias(m, bias, tensor_name(full, i, name, ".bias"), rows, e));
}

/* Rows [from, from + rows) of a matrix as a matrix. */
static struct matrix some_rows(struct matrix m, int from, int rows) {
    m.at += from * m.row_bytes;
    m.rows = rows;
    return m;
}

/* q, k and v, and their biases: three tensors each, or one. */
static int load_qkv(struct model *m, int i, struct error *e) {
    const struct config *c = &m->config;
    struct layer *w = &m->layer[i];
    const int q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const struct {
        const char *name;
        struct matrix *to;
        real **bias;
        int from, rows;
    } part[] = {{"attn_q", &w->q, &w->q_bias, 0, q},
                {"attn_k", &w->k, &w->k_bias, q, kv},
                {"attn_v", &w->v, &w->v_bias, q + kv, kv}};
    char name[64];
    struct matrix all;
    real *bias = NULL;
    const bool fused = gguf_tensor(&m->file, tensor_name(name, i, "attn_qkv", ".weight"));
    if ((fused && load_matrix(m, &all, name, q + 2 * kv, c->width, e)) ||
        load_bias(m, &bias, tensor_name(name, i, "attn_qkv", ".bias"), q + 2 * kv, e))
        return -1;
    for (int k = 0; k < 3; k++) {
        const int from = part[k].from, rows = part[k].rows;
        if (fused) *part[k].to = some_rows(all, from, rows);
        if (bias) *part[k].bias = bias + from;
        /* where all three biases are in one, one alone has no place */
        if ((!fused && load_linear(m, i, part[k].name, part[k].to, rows, c->width, NULL, e)) ||
            (!bias &&
             load_bias(m, part[k].bias, tensor_name(name, i, part[k].name, ".bias"), rows, e)))
            return -1;
    }
    return 0;
}

/* What the feed-forward begins with: one matrix, two, or two in one tensor. */
static int load_gate(struct model *m, int i, struct error *e) {
    const struct family *f = m->config.family;
    const int D = m->config.width, F = m->config.neurons;
    struct layer *w = &m->layer[i];
    struct matrix both;
    if (f->plain) return load_linear(m, i, "ffn_up", &w->gate, F, D, &w->up_bias, e);
    if (!f->fused_gate)
        return load_linear(m, i, "ffn_gate", &w->gate, F, D, NULL, e) ||
               load_linear(m, i, "ffn_up", &w->up, F, D, NULL, e);
    if (load_linear(m, i, "ffn_up", &both, 2 * F, D, NULL, e)) return -1;
    w->gate = some_rows(both, 0, F);
    w->up = some_rows(both, F, F);
    return 0;
}

static int load_layer(struct model *m, int i, struct error *e) {
    const struct config *c = &m->config;
    const struct family *f = c->family;
    struct layer *w = &m->layer[i];
    const int D = c->width, F = c->neurons, d = c->head_dim;
    const int q = f->qk_norm_wide ? c->heads * d : d, k = f->qk_norm_wide ? c->kv_heads * d : d;
    const struct {
        bool wanted;
        struct norm *to;
        const char *name;
        int n;
    } norm[] = {
        {!f->no_pre_norm, &w->attn_norm, "attn_norm", D},
        {!f->no_pre_norm && !f->parallel, &w->ffn_norm, "ffn_norm", D},
        {f->qk_norm || f->qk_norm_wide, &w->q_norm, "attn_q_norm", q},
        {f->qk_norm || f->qk_norm_wide, &w->k_norm, "attn_k_norm", k},
        {f->post_norm, &w->attn_post, "post_attention_norm", D},
        {f->post_norm, &w->ffn_post, "post_ffw_norm", D},
    };
    for (size_t n = 0; n < sizeof norm / sizeof *norm; n++)
        if (norm[n].wanted && load_norm(m, norm[n].to, i, norm[n].name, norm[n].n, e)) return -1;
    return load_qkv(m, i, e) ||
           load_linear(m, i, "attn_output", &w->attn_out, D, c->heads * d, &w->attn_bias, e) ||
           load_gate(m, i, e) || load_linear(m, i, "ffn_down", &w->down, D, F, &w->down_bias, e);
}

/* The name of a value of the model's family. */
static const char *value_name(const struct model *m, const char *key, char room[96]) {
    snprintf(room, 96, "%s.%s", m->config.family->name, key);
    return room;
}

/* gguf_int and gguf_float of "<family>.<key>". */
static int load_int(const struct model *m, const char *key, int least, int most, int otherwise,
                    int *to, struct error *e) {
    char name[96];
    return gguf_int(&m->file, value_name(m, key, name), least, most, otherwise, to, e);
}

static int load_number(const struct model *m, const char *key, double least, double most,
                       double otherwise, double *to, struct error *e) {
    char name[96];
    return gguf_float(&m->file, value_name(m, key, name), least, most, otherwise, to, e);
}

static int find_family(struct model *m, struct error *e) {
    struct span s;
    char names[256] = "";
    if (gguf_string(&m->file, "general.architecture", &s, e)) return -1;
    if (span_is(s, "lape-counts")) return fail(e, "this is a counts file; a model is wanted here");
    for (size_t i = 0; i < sizeof family_table / sizeof *family_table; i++) {
        if (span_is(s, family_table[i].name)) m->config.family = &family_table[i];
        strcat(strcat(names, i ? ", " : ""), family_table[i].name);
    }
    return m->config.family ? 0
                            : fail(e, "architecture '%.*s' is not supported; these are: %s",
                                   brief(s), s.at, names);
}

/* Rotary positions, as they are or divided by a factor; other scalings are not known. */
static int load_rotation(struct model *m, struct error *e) {
    struct config *c = &m->config;
    struct span type = {"none", 4};
    char name[96];
    if (load_int(m, "rope.dimension_count", 2, c->head_dim, c->head_dim, &c->rotated, e) ||
        load_number(m, "rope.freq_base", 1, 1e30, 1e4, &c->rope_base, e))
        return -1;
    if (c->head_dim % 2 || c->rotated % 2)
        return fail(e, "%d of %d numbers of a head are turned; even numbers are supported",
                    c->rotated, c->head_dim);
    if (gguf_find(&m->file, value_name(m, "rope.scaling.type", name)) &&
        gguf_string(&m->file, name, &type, e))
        return -1;
    const bool linear = span_is(type, "linear");
    if (!linear && !span_is(type, "none"))
        return fail(e,
                    "rotary positions scaled by '%.*s' are not supported; 'linear' is, and "
                    "'rope_freqs.weight'",
                    brief(type), type.at);
    /* a factor without that type has no place */
    if (linear && load_number(m, "rope.scaling.factor", 1e-3, 1e6, REQUIRED, &c->rope_factor, e))
        return -1;
    if (!c->family->global_every) return 0;
    return load_number(m, "rope.freq_base_swa", 1, 1e30,
                       c->family->window_base > 0 ? c->family->window_base : c->rope_base,
                       &c->window_rope_base, e);
}

/* Sizes, positions and windows. */
static int load_shape(struct model *m, struct error *e) {
    struct config *c = &m->config;
    const int every = c->family->global_every; /* no other is known */
    int value_dim, same, causal;
    if (load_int(m, "block_count", 1, 4096, REQUIRED, &c->layers, e) ||
        load_int(m, "embedding_length", 1, 1 << 20, REQUIRED, &c->width, e) ||
        load_int(m, "feed_forward_length", 1, 1 << 22, REQUIRED, &c->neurons, e) ||
        load_int(m, "attention.head_count", 1, 1 << 12, REQUIRED, &c->heads, e) ||
        load_int(m, "attention.head_count_kv", 1, c->heads, c->heads, &c->kv_heads, e) ||
        load_int(m, "attention.key_length", 1, 1 << 12, c->width / c->heads, &c->head_dim, e) ||
        load_int(m, "attention.value_length", 1, 1 << 12, c->head_dim, &value_dim, e) ||
        load_int(m, "context_length", 1, INT_MAX, REQUIRED, &c->context, e) ||
        load_int(m, "attention.sliding_window", 0, c->family->no_window ? 0 : INT_MAX,
                 c->family->window, &c->window, e) ||
        load_int(m, "attention.causal", 0, 1, 1, &causal, e) ||
        (every && load_int(m, "attention.sliding_window_pattern", every, every, every, &same, e)))
        return -1;
    if (c->heads % c->kv_heads)
        return fail(e, "%d query heads cannot share %d key-value heads", c->heads, c->kv_heads);
    if (c->head_dim < 1 || value_dim != c->head_dim)
        return fail(e, "heads of %d keys and %d values are not supported; equal numbers are",
                    c->head_dim, value_dim);
    if (!causal)
        return fail(e, "value '%s.attention.causal' is false: tokens attend to earlier ones here",
                    c->family->name);
    if (c->family->positions == ALIBI)
        return load_number(m, "attention.max_alibi_bias", 1, 64, 8, &c->alibi, e);
    return is_rotary(c->family) ? load_rotation(m, e) : 0;
}

static int load_config(struct model *m, struct error *e) {
    struct config *c = &m->config;
    struct span s;
    char name[96];
    int turned; /* Granite's queries and keys are not where it is false */
    *c = (struct config){.rope_factor = 1, .residual_scale = 1};
    if (find_family(m, e) || load_shape(m, e)) return -1;
    const struct family *f = c->family;
    const char *const harmless[] = {
        "vocab_size",         /* the embedding's rows are the vocabulary */
        "tensor_data_layout", /* says that q and k are in the order that they are in here, too */
        "rope.scaling.original_context_length",
        "rope.scaling.finetuned", /* of the past */
        f->harmless,
        NULL};
    const char *eps =
        f->layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    c->embedding_scale = f->scaled ? sqrt(c->width) : 1;
    if (load_number(m, eps, 0, .999, REQUIRED, &c->norm_eps, e) ||
        load_number(m, "attention.scale", 0, 1e6, 0, &c->attention_scale, e) ||
        load_number(m, "attn_logit_softcapping", 0, 1e6, f->attention_cap, &c->attention_cap, e) ||
        load_number(m, "final_logit_softcapping", 0, 1e6, f->logit_cap, &c->logit_cap, e) ||
        load_number(m, "logit_scale", 1e-6, 1e6, f->multipliers ? REQUIRED : 1, &c->logit_scale,
                    e) ||
        (f->multipliers &&
         (load_number(m, "embedding_scale", 1e-6, 1e6, 1, &c->embedding_scale, e) ||
          load_number(m, "residual_scale", 1e-6, 1e6, 1, &c->residual_scale, e) ||
          load_int(m, "rope.scaling.finetuned", 1, 1, 1, &turned, e))))
        return -1;
    if (f->multipliers) c->logit_scale = 1 / c->logit_scale;
    if (c->attention_scale == 0) { /* the rule of llama.cpp, whose files do not say */
        const int d = c->layers == f->wide_layers ? c->width / c->heads : c->head_dim;
        if (d < 1) return fail(e, "%d heads cannot share a width of %d", c->heads, c->width);
        c->attention_scale = 1 / real_sqrt((real)d);
    }
    if (gguf_find(&m->file, "general.name") && gguf_string(&m->file, "general.name", &s, e) == 0)
        span_copy(c->name, sizeof c->name, s);
    return gguf_check_used(&m->file, value_name(m, "", name), harmless, e);
}

static int load_model(struct model *m, struct error *e) {
    struct config *c = &m->config;
    if (load_config(m, e)) return -1;
    const struct tensor *t = gguf_tensor(&m->file, "token_embd.weight");
    if (!t || t->dim[1] > 1 << 24)
        return fail(e, t ? "token_embd.weight has more than 2^24 tokens"
                         : "tensor 'token_embd.weight' is missing");
    c->vocab = (int)t->dim[1];
    m->layer = new_array(c->layers, sizeof *m->layer);
    bool tied = !gguf_tensor(&m->file, "output.weight");
    if (load_matrix(m, &m->embedding, "token_embd.weight", c->vocab, c->width, e) ||
        load_matrix(m, &m->output, tied ? "token_embd.weight" : "output.weight", c->vocab, c->width,
                    e) ||
        load_norm(m, &m->output_norm, -1, "output_norm", c->width, e) ||
        load_bias(m, &m->output_bias, "output.bias", c->vocab, e) ||
        (is_rotary(c->family) &&
         load_bias(m, &m->rope_factors, "rope_freqs.weight", c->rotated / 2, e)) ||
        (c->family->embedding_norm &&
         load_norm(m, &m->embedding_norm, -1, "token_embd_norm", c->width, e)) ||
        (c->family->positions == LEARNED &&
         load_matrix(m, &m->positions, "position_embd.weight", c->context, c->width, e)))
        return -1;
    for (int i = 0; i < c->layers; i++)
        if (load_layer(m, i, e)) return -1;
    return gguf_check_tensors(&m->file, e);
}

int model_open(struct model *m, const char *path, struct error *e) {
    *m = (struct model){0};
    if (gguf_open(&m->file, path, e)) return -1;
    if (load_model(m, e) == 0) return 0;
    model_close(m);
    return fail_in(e, path);
}

struct matrix down_projection(const struct model *m, int layer) {
    return m->layer[layer].down;
}

void model_close(struct model *m) {
    real **vector = m->vectors.at;
    for (size_t i = 0; i < m->vectors.n / sizeof *vector; i++) free(vector[i]);
    free(vector);
    free(m->layer);
    gguf_close(&m->file);
    *m = (struct model){0};
}

/* ---- Vectors -----------------------------------------------------------------------------------
 *
 * What the kernels below need of a machine. A square of LANES x LANES numbers is turned on its side
 * by exchanges of lanes, one for each bit of their number; of bytes, by vec_columns(), before they
 * are widened: byte k of every row becomes v[k]. Of such whole numbers q vec_weights() makes
 * weights, d q - m.
 */
#ifdef __GNUC__
#define UNROLLED static inline __attribute__((always_inline)) /* for its constants */
#else
#define UNROLLED static inline
#endif
#if defined(LAPE_REAL64) ||                                                                        \
    !(defined(__AVX512BW__) || (defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)) ||     \
      defined(__AARCH64EL__))
enum { LANES = 4, VECS = 2, ROWS = 4 };
typedef struct {
    real lane[LANES];
} vec;

static inline vec vec_load(const real *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void vec_store(real *p, vec v) { memcpy(p, &v, sizeof v); }

static inline vec vec_all(real x) {
    vec v;
    for (int i = 0; i < LANES; i++) v.lane[i] = x;
    return v;
}

static inline vec vec_fma(vec a, vec b, vec c) {
    for (int i = 0; i < LANES; i++) c.lane[i] = real_fma(a.lane[i], b.lane[i], c.lane[i]);
    return c;
}

static inline void fetch(const char *p) { (void)p; } /* no compiler's way is everybody's */

static inline vec vec_load_f32(const char *p) {
    vec v;
    for (int i = 0; i < LANES; i++) v.lane[i] = get_f32(p + 4 * i);
    return v;
}

static inline vec vec_load_bf16(const char *p) {
    vec v;
    for (int i = 0; i < LANES; i++) v.lane[i] = float_of_bits(get_u16(p + 2 * i) << 16);
    return v;
}

static inline vec vec_load_f16(const char *p) {
    vec v;
    for (int i = 0; i < LANES; i++) v.lane[i] = get_f16(p + 2 * i);
    return v;
}

static inline void vec_columns(vec v[LANES], const char *const row[LANES]) {
    for (int k = 0; k < LANES; k++)
        for (int i = 0; i < LANES; i++) v[k].lane[i] = (int8_t)row[i][k];
}

static inline vec vec_weights(vec q, const float *d, const float *m) {
    for (int i = 0; i < LANES; i++) q.lane[i] = d[i] * (float)q.lane[i] - m[i];
    return q;
}

/* The lanes of a whose number has the bit s change places with those of b that are s before. */
static inline void vec_exchange(vec *a, vec *b, int s) {
    for (int i = 0; i < LANES; i++) {
        if (!(i & s)) continue;
        real x = a->lane[i];
        a->lane[i] = b->lane[i - s];
        b->lane[i - s] = x;
    }
}
#elif defined(__AVX512BW__)
enum { LANES = 16, VECS = 3, ROWS = 8 };
typedef __m512 vec;
#define vec_load(p)      _mm512_loadu_ps(p)
#define vec_store(p, v)  _mm512_storeu_ps(p, v)
#define vec_all(x)       _mm512_set1_ps(x)
#define vec_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define fetch(p)         __builtin_prefetch(p)
#define vec_load_f32(p)  _mm512_loadu_ps((const void *)(p))
#define vec_load_bf16(p)                                                                           \
    _mm512_castsi512_ps(                                                                           \
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(p))), 16))
#define vec_load_f16(p)      _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p)))
#define vec_weights(q, d, m) _mm512_fmsub_ps(q, vec_load(d), vec_load(m))

static inline void vec_exchange(vec *a, vec *b, int s) {
    typedef int ints __attribute__((vector_size(64)));
    const ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, odd = (lane & s) != 0;
    const vec old = *a;
    *a = _mm512_permutex2var_ps(old, (__m512i)(lane + (odd & (16 - s))), *b); /* 16: of b */
    *b = _mm512_permutex2var_ps(*b, (__m512i)(lane + (~odd & (16 + s))), old);
}

static inline __m512i every_fourth(const char *const *row) {
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const void *)row[0]));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)row[4]), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)row[8]), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const void *)row[12]), 3);
}

/* Twos of bytes of a column come together, fours, and then all. */
static inline void vec_columns(vec v[LANES], const char *const row[LANES]) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i a = every_fourth(row), b = every_fourth(row + 1);
    const __m512i c = every_fourth(row + 2), d = every_fourth(row + 3);
    const __m512i ab = _mm512_unpacklo_epi8(a, b), ab8 = _mm512_unpackhi_epi8(a, b);
    const __m512i cd = _mm512_unpacklo_epi8(c, d), cd8 = _mm512_unpackhi_epi8(c, d);
    const __m512i fours[] = {_mm512_unpacklo_epi16(ab, cd), _mm512_unpackhi_epi16(ab, cd),
                             _mm512_unpacklo_epi16(ab8, cd8), _mm512_unpackhi_epi16(ab8, cd8)};
    char column[LANES][LANES];
    for (int k = 0; k < 4; k++)
        _mm512_storeu_si512(column[4 * k], _mm512_permutexvar_epi32(order, fours[k]));
    for (int k = 0; k < LANES; k++)
        v[k] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)column[k])));
}
#elif defined(__AVX2__)
enum { LANES = 8, VECS = 3, ROWS = 4 };
typedef __m256 vec;
#define vec_load(p)      _mm256_loadu_ps(p)
#define vec_store(p, v)  _mm256_storeu_ps(p, v)
#define vec_all(x)       _mm256_set1_ps(x)
#define vec_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define fetch(p)         __builtin_prefetch(p)
#define vec_load_f32(p)  _mm256_loadu_ps((const void *)(p))
#define vec_load_bf16(p)                                                                           \
    _mm256_castsi256_ps(                                                                           \
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)(p))), 16))
#define vec_load_f16(p)      _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p)))
#define vec_weights(q, d, m) _mm256_fmsub_ps(q, vec_load(d), vec_load(m))

static inline void vec_exchange(vec *a, vec *b, int s) {
    const vec x = *a, y = *b;
    if (s == 1) {
        *a = _mm256_blend_ps(x, _mm256_moveldup_ps(y), 0xaa);
        *b = _mm256_blend_ps(_mm256_movehdup_ps(x), y, 0xaa);
    } else if (s == 2) {
        *a = _mm256_shuffle_ps(x, y, 0x44);
        *b = _mm256_shuffle_ps(x, y, 0xee);
    } else {
        *a = _mm256_permute2f128_ps(x, y, 0x20);
        *b = _mm256_permute2f128_ps(x, y, 0x31);
    }
}

static inline __m128i two_rows(const char *const *row) {
    return _mm_unpacklo_epi8(_mm_loadl_epi64((const void *)row[0]),
                             _mm_loadl_epi64((const void *)row[1]));
}

/* Twos of bytes of a column come together, fours, and then all. */
static inline void vec_columns(vec v[LANES], const char *const row[LANES]) {
    const __m128i a = two_rows(row), b = two_rows(row + 2);
    const __m128i c = two_rows(row + 4), d = two_rows(row + 6);
    const __m128i ab = _mm_unpacklo_epi16(a, b), ab4 = _mm_unpackhi_epi16(a, b);
    const __m128i cd = _mm_unpacklo_epi16(c, d), cd4 = _mm_unpackhi_epi16(c, d);
    const __m128i columns[] = {_mm_unpacklo_epi32(ab, cd), _mm_unpackhi_epi32(ab, cd),
                               _mm_unpacklo_epi32(ab4, cd4), _mm_unpackhi_epi32(ab4, cd4)};
    for (int k = 0; k < LANES / 2; k++) {
        const __m128i second = _mm_unpackhi_epi64(columns[k], columns[k]);
        v[2 * k] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(columns[k]));
        v[2 * k + 1] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(second));
    }
}
#else
enum { LANES = 4, VECS = 3, ROWS = 8 };
typedef float32x4_t vec;
#define vec_load(p)      vld1q_f32(p)
#define vec_store(p, v)  vst1q_f32(p, v)
#define vec_all(x)       vdupq_n_f32(x)
#define vec_fma(a, b, c) vfmaq_f32(c, a, b)
#define fetch(p)         __builtin_prefetch(p)
#define vec_load_f32(p)  vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)(p)))
#define vec_load_bf16(p)                                                                           \
    vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8((const uint8_t *)(p))), 16))
#define vec_load_f16(p)      vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const uint8_t *)(p))))
#define vec_weights(q, d, m) vfmaq_f32(vnegq_f32(vec_load(m)), q, vec_load(d))

static inline void vec_exchange(vec *a, vec *b, int s) {
    const vec x = *a, y = *b;
    if (s == 1) {
        *a = vtrn1q_f32(x, y);
        *b = vtrn2q_f32(x, y);
    } else {
        *a = vcombine_f32(vget_low_f32(x), vget_low_f32(y));
        *b = vcombine_f32(vget_high_f32(x), vget_high_f32(y));
    }
}

static inline void vec_columns(vec v[LANES], const char *const row[LANES]) {
    static const uint8_t order[] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    const uint64_t low = get_u32(row[0]) | (uint64_t)get_u32(row[1]) << 32;
    const uint64_t high = get_u32(row[2]) | (uint64_t)get_u32(row[3]) << 32;
    const uint8x16_t rows = vcombine_u8(vcreate_u8(low), vcreate_u8(high));
    const int8x16_t columns = vreinterpretq_s8_u8(vqtbl1q_u8(rows, vld1q_u8(order)));
    const int16x8_t two = vmovl_s8(vget_low_s8(columns)), more = vmovl_s8(vget_high_s8(columns));
    v[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(two)));
    v[1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(two)));
    v[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(more)));
    v[3] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(more)));
}
#endif

enum {
    WIDTH = LANES * VECS,
    DEPTH = 768,       /* k in a piece, at most: whole strips of a matrix's rows */
    TOKEN_BLOCK = 528, /* rows of x, whole tiles: a piece fits second-level caches of 1 MB */
    PANELS = 4,
    AHEAD = 1024 /* numbers of x that are fetched before they are wanted */
};

/* ---- Room for a forward pass ----------------------------------------------------------------- */

/* Rows of numbers, turned: strips of ROWS rows, [depth, ROWS], a piece of the rows after the other,
 * and of each piece one strip after the other. */
struct strips {
    real *at;
    int rows, columns;
    int depth; /* numbers of a row in a piece; the last has less */
};

/* What one thread works in; see the kernels' picture, and that of attention. */
struct scratch {
    real *row;     /* [the longest row of a matrix]: of the definition */
    real *panel;   /* [DEPTH, WIDTH] */
    real *sums;    /* [PANELS, TOKEN_BLOCK, WIDTH] */
    real *heads;   /* [WIDTH, d] and LANES that turn() spills: queries, and what comes of them */
    real *queries; /* [d, WIDTH], turned */
    real *scores;  /* [longest rounded up to ROWS, WIDTH] */
    real *mix;     /* [d rounded up to ROWS, WIDTH] */
};

/* What is known of a row of logits when some of them have been seen. */
struct softmax {
    real most, target; /* the largest, and that of the target */
    double sum;        /* of e^(logit - most) */
};

struct run {
    const struct model *m;
    struct pool *pool;
    struct room room;
    int tokens;          /* T, of the batch at hand or seen last */
    int *first;          /* [sequences of the batch] their first tokens */
    int *position, *row; /* [T] in its sequence, in the cache */
    real *x, *h, *y;     /* [T, D] residual stream, its norm, what is added to it */
    real *q, *k, *v;     /* [T, H d], [T, KV d], [T, KV d] */
    real *gate, *up;     /* [T, F] */
    real *keys, *values; /* [L or 1, KV, rows, d] */
    real *rotation[2];   /* [longest, rotated/2, 2] cosine and sine by position; [1] in windows */
    struct softmax *softmax; /* [T] */
    real *strips;            /* of T rows, the widest: a product's x; see struct strips */
    struct scratch *scratch; /* [threads] */
    void *memory;            /* holds all of the above */
};

static int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

/* Numbers in room for the strips of so many rows of n numbers, and for what turn() spills. */
static uint64_t strips_room(uint64_t rows, uint64_t n) {
    return (rows + ROWS - 1) / ROWS * (n * ROWS + (n / DEPTH + 1) * LANES);
}

/* One block of memory for all of it: laid out twice, first to learn its size. */
struct arena {
    char *at; /* NULL while measuring */
    uint64_t used;
};

static void *carve(struct arena *a, uint64_t n, size_t size) {
    void *p = a->at ? a->at + a->used : NULL;
    a->used += (n * size + 63) / 64 * 64; /* whole cache lines */
    return p;
}

/* What products of so many rows of x of at most so many columns work in. */
static void lay_out_products(struct run *r, struct arena *a, uint64_t rows, uint64_t columns) {
    r->strips = carve(a, strips_room(rows, columns), sizeof(real));
    for (int i = 0; i < pool_threads(r->pool); i++) {
        struct scratch *s = &r->scratch[i];
        s->row = carve(a, columns, sizeof(real));
        s->panel = carve(a, DEPTH * WIDTH, sizeof(real));
        s->sums = carve(a, PANELS * TOKEN_BLOCK * WIDTH, sizeof(real));
    }
}

static void lay_out(struct run *r, struct arena *a) {
    const struct config *c = &r->m->config;
    const uint64_t T = r->room.tokens, D = c->width, F = c->neurons, d = c->head_dim;
    const uint64_t cached =
        (r->room.keep ? c->layers : 1) * (uint64_t)r->room.rows * c->kv_heads * d;
    r->first = carve(a, T, sizeof(int));
    r->position = carve(a, T, sizeof(int));
    r->row = carve(a, T, sizeof(int));
    r->x = carve(a, T * D, sizeof(real));
    r->h = carve(a, T * D, sizeof(real));
    r->y = carve(a, T * D, sizeof(real));
    r->q = carve(a, T * c->heads * d, sizeof(real));
    r->k = carve(a, T * c->kv_heads * d, sizeof(real));
    r->v = carve(a, T * c->kv_heads * d, sizeof(real));
    r->gate = carve(a, T * F, sizeof(real));
    r->up = carve(a, T * F, sizeof(real));
    r->softmax = carve(a, T, sizeof *r->softmax);
    r->keys = carve(a, cached, sizeof(real));
    r->values = carve(a, cached, sizeof(real));
    for (int i = 0; i < (c->family->global_every ? 2 : 1); i++)
        r->rotation[i] = carve(a, (uint64_t)r->room.longest * c->rotated, sizeof(real));
    lay_out_products(r, a, T, max_int(max_int(c->width, c->neurons), c->heads * c->head_dim));
    for (int i = 0; i < pool_threads(r->pool); i++) {
        struct scratch *s = &r->scratch[i];
        s->heads = carve(a, WIDTH * d + LANES, sizeof(real));
        s->queries = carve(a, d * WIDTH, sizeof(real));
        s->scores = carve(a, ((uint64_t)r->room.longest + ROWS) * WIDTH, sizeof(real));
        s->mix = carve(a, (d + ROWS) * WIDTH, sizeof(real));
    }
}

/* Angle = position x base^(-2 i / rotated) / factor: each step rounded to real, as transformers
 * does it. False when one is none that sin64() and cos64() know. */
static bool fill_rotation(real *rotation, int positions, int rotated, double base,
                          const real *factors, double factor) {
    for (int i = 0; i < rotated / 2; i++) {
        real exponent = (real)(2 * i) / (real)rotated;
        real power = (real)pow64(base, exponent);
        real frequency = 1 / power / (factors ? factors[i] : 1) / (real)factor;
        for (int p = 0; p < positions; p++) {
            real angle = (real)p * frequency;
            if (!(angle >= 0 && angle < (real)0x1p30)) return false;
            real *to = rotation + ((size_t)p * (size_t)(rotated / 2) + (size_t)i) * 2;
            to[0] = (real)cos64(angle);
            to[1] = (real)sin64(angle);
        }
    }
    return true;
}

struct run *run_new(const struct model *m, struct pool *p, struct room room, struct error *e) {
    const struct config *c = &m->config;
    struct arena arena = {0};
    struct run *r = new_array(1, sizeof *r);
    *r = (struct run){.m = m, .pool = p, .room = room};
    r->scratch = new_array(pool_threads(p), sizeof *r->scratch);
    lay_out(r, &arena);
    arena.at = arena.used > SIZE_MAX ? NULL : aligned_alloc(64, arena.used);
    if (!(r->memory = arena.at)) {
        fail(e, "out of memory: %d tokens at once need %llu MB", room.tokens,
             (ull)arena.used >> 20);
        run_free(r);
        return NULL;
    }
    arena.used = 0;
    lay_out(r, &arena);
    if (fill_rotation(r->rotation[0], room.longest, c->rotated, c->rope_base, m->rope_factors,
                      c->rope_factor) &&
        (!r->rotation[1] ||
         fill_rotation(r->rotation[1], room.longest, c->rotated, c->window_rope_base, NULL, 1)))
        return r;
    fail(e, "rotary angles of %d positions are negative, no numbers, or beyond 2^30%s",
         room.longest, m->rope_factors ? ": look at 'rope_freqs.weight'" : "");
    run_free(r);
    return NULL;
}

void run_free(struct run *r) {
    if (!r) return;
    free(r->memory);
    free(r->scratch);
    free(r);
}

/* ---- The definition ----------------------------------------------------------------------------
 *
 * What matrix products and attention are, to the bit: `make spec` builds the program with these
 * loops, all others with the kernels below, which compute the same.
 */

/* out [T, O] = x [T, n] W^T, in jobs of some panels and one block of tokens each. */
struct product {
    struct run *r;
    real *out;
    const real *x;
    const struct matrix *w;
    int tokens, panels, some, groups; /* `groups` of `some` panels */
    struct strips strips;             /* x, laid down in jobs of `rows` rows */
    int rows;
};

/* One chain of fma for each output, in the order of k. */
static void spec_product_job(void *context, int o, int thread) {
    const struct product *p = context;
    const int n = p->w->columns;
    real *weight = p->r->scratch[thread].row;
    widen(weight, p->w, o, 0, n);
    for (int t = 0; t < p->tokens; t++) {
        real sum = 0;
        for (int k = 0; k < n; k++) sum = real_fma(p->x[(size_t)t * n + k], weight[k], sum);
        p->out[(size_t)t * p->w->rows + o] = sum;
    }
}

/* For a query q at position p, over the keys k_j and values v_j of its window, j = from .. p:
 *
 *     s_j = (q . k_j) / sqrt(d)      e_j = exp(s_j - max s)      out = sum_j e_j v_j / sum_j e_j
 *
 * with each sum one chain in the order of j; some families scale, cap or tilt s otherwise.
 */
struct attention {
    struct run *r;
    const struct sequence *s;
    const real *keys, *values; /* [KV, rows, d] of this layer */
    int window;                /* of this layer; 0: none */
    int blocks;                /* of queries, in the longest sequence */
};

/* Of a key-value head, the key or value of a sequence's token. */
static size_t kept_at(const struct run *r, const struct sequence *s, int head, int token) {
    return ((size_t)head * r->room.rows + s->row + token) * r->m->config.head_dim;
}

/* ALiBi's slopes: 2^(-alibi h / H) for h = 1 .. H, alibi being 8 mostly; of H that is no power of
 * two, those of the next smaller power, then every second one of twice as many. */
static real alibi_slope(const struct config *c, int head) {
    int power = 1;
    while (power * 2 <= c->heads) power *= 2;
    const double step = head < power ? c->alibi / power : c->alibi / (2 * power);
    const int h = head < power ? head + 1 : 2 * (head - power) + 1;
    return (real)pow64(2, -step * h);
}

/* In place: e^(s - max) of the n keys that end at the query's own, s being scaled, capped and
 * tilted first. */
static void exponentials(const struct config *c, real *s, int n, int head) {
    const real scale = (real)c->attention_scale, cap = (real)c->attention_cap;
    for (int j = 0; j < n; j++) s[j] *= scale;
    for (int j = 0; j < n && cap > 0; j++) s[j] = cap * (real)tanh_inline(s[j] / cap);
    if (c->family->positions == ALIBI) {
        const real slope = alibi_slope(c, head);
        for (int j = 0; j < n; j++) s[j] = real_fma(slope, (real)(j - (n - 1)), s[j]);
    }
    const real most = largest(s, n);
    for (int j = 0; j < n; j++) s[j] = real_exp(s[j] - most);
}

/* One query of each head that shares a key-value head. */
static void spec_attend_job(void *context, int i, int thread) {
    const struct attention *a = context;
    struct run *r = a->r;
    const struct config *c = &r->m->config;
    const struct sequence *q = &a->s[i / a->blocks / c->kv_heads];
    const int group = c->heads / c->kv_heads, d = c->head_dim, head = i / a->blocks % c->kv_heads;
    const int t = i % a->blocks, position = q->past + t;
    if (t >= q->n) return;
    const int from = a->window ? max_int(0, position + 1 - a->window) : 0;
    const real *key = a->keys + kept_at(r, q, head, 0), *value = a->values + kept_at(r, q, head, 0);
    real *e = r->scratch[thread].scores; /* [position + 1] */
    for (int h = head * group; h < (head + 1) * group; h++) {
        real *query = r->q + ((size_t)(r->first[q - a->s] + t) * c->heads + h) * d;
        real sum = 0;
        for (int j = from; j <= position; j++) {
            e[j] = 0;
            for (int k = 0; k < d; k++) e[j] = real_fma(query[k], key[(size_t)j * d + k], e[j]);
        }
        exponentials(c, e + from, position + 1 - from, h);
        for (int j = from; j <= position; j++) sum += e[j];
        for (int k = 0; k < d; k++) {
            real mixed = 0;
            for (int j = from; j <= position; j++)
                mixed = real_fma(e[j], value[(size_t)j * d + k], mixed);
            query[k] = (mixed + 0) / sum; /* + 0: a sum that underflowed to -0 counts as 0 */
        }
    }
}

/* ---- Kernels -----------------------------------------------------------------------------------
 *
 * They compute what the definition says, many outputs at a time. One kernel carries all matrix
 * products, attention's included. It computes a tile of ROWS x WIDTH outputs; lanes run across
 * outputs, so that each output is one chain of fma over k in order:
 *
 *                     panel [n, WIDTH]        WIDTH = VECS vectors of LANES
 *                   k +---------------+
 *                   | |               |       out[r][c] += x[r][0] panel[0][c]
 *     x [ROWS, n]   v |               |                  + x[r][1] panel[1][c] + ...
 *    +-----------+    +---------------+
 *    |    k ->   |    +---------------+
 *    |           |    |  out, kept in |
 *    +-----------+    |   registers   |
 *                     +---------------+
 *
 * A panel is a piece of WIDTH rows of a weight matrix (its outputs), turned on their side and
 * widened to real: pack() turns squares of LANES x LANES in registers. x is turned, too, once for
 * the whole product: into strips of ROWS rows, of which a tile reads one number after the other.
 * Stopping at some k and going on later from the stored sums is the same chain, so product_job()
 * goes through long rows in pieces that stay in the caches, each panel serving TOKEN_BLOCK rows of
 * x, and each piece of x PANELS panels. Sums wait between pieces where they lie side by side:
 *
 *      strips [n, ROWS]                      PANELS panels, packed one after the other
 *     +--+ +--+ +--+                     k   +----+----+----+--
 *     |  | |  | |  |       a piece of    |   |    |    |    | ...  the next piece of k: the same
 *     +--+ +--+ +--+ ...  <- all with -> v   +----+----+----+--    tiles again, from the sums of
 *     |  | |  | |  |       each panel                              the last; at the end, to out
 *
 * One token alone is worth no panel: thin() uses each turned square at once, and runs at the speed
 * of the memory that holds the matrix.
 */

/* Where a tile's sums come from, NULL at the start of the chain, and where they go. */
struct sums {
    const real *from;
    real *to;
    size_t from_row, to_row;
};

/* x [ROWS, n] of a tile: number k of row r is at[r * row + k * step]. */
struct operand {
    const real *at;
    size_t row, step;
};

/* The first rows x vecs of a tile. `rows` and `vecs` are constants where it is called: the loops
 * unroll and `sum` is registers. */
UNROLLED void tile(const int rows, const int vecs, int n, struct operand x, const real *panel,
                   struct sums s) {
    vec sum[ROWS][VECS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vecs; v++) fetch((const char *)(s.to + r * s.to_row + v * LANES));
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vecs; v++)
            sum[r][v] = s.from ? vec_load(s.from + r * s.from_row + v * LANES) : vec_all(0);
    for (int k = 0; k < n; k++, x.at += x.step, panel += WIDTH) {
        vec w[VECS];
        fetch((const char *)(x.at + AHEAD)); /* of the next strip, in the end */
        for (int v = 0; v < vecs; v++) w[v] = vec_load(panel + v * LANES);
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vecs; v++)
                sum[r][v] = vec_fma(vec_all(x.at[r * x.row]), w[v], sum[r][v]);
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vecs; v++) vec_store(s.to + r * s.to_row + v * LANES, sum[r][v]);
}

/* At most ROWS x WIDTH, the rest of x and panel being anything: what it gives is, too. */
UNROLLED void tile_of(int rows, int outputs, int n, struct operand x, const real *panel,
                      struct sums s) {
    if (outputs > 2 * LANES)
        rows > ROWS / 2 ? tile(ROWS, VECS, n, x, panel, s) : tile(ROWS / 2, VECS, n, x, panel, s);
    else if (outputs > LANES)
        rows > ROWS / 2 ? tile(ROWS, 2, n, x, panel, s) : tile(ROWS / 2, 2, n, x, panel, s);
    else
        rows > ROWS / 2 ? tile(ROWS, 1, n, x, panel, s) : tile(ROWS / 2, 1, n, x, panel, s);
}

/* Of a strip, of rows of d numbers that lie behind each other, and of columns of such rows. `s` is
 * an address: what was just written in words and is copied as a vector waits for all stores. */
static void strip_tile(int rows, int outputs, int n, const real *x, const real *panel,
                       const struct sums *s) {
    tile_of(rows, outputs, n, (struct operand){x, 1, ROWS}, panel, *s);
}

static void rows_tile(int rows, int outputs, int d, const real *x, const real *panel,
                      const struct sums *s) {
    tile_of(rows, outputs, d, (struct operand){x, d, 1}, panel, *s);
}

static void columns_tile(int rows, int outputs, int n, const real *x, int d, const real *panel,
                         const struct sums *s) {
    tile_of(rows, outputs, n, (struct operand){x, 1, d}, panel, *s);
}

/* One bit of vec_turn()'s i and j. */
static inline void turn_bit(vec v[LANES], const int s) {
    for (int i = 0; i < LANES / 2; i++) {
        const int a = i / s * 2 * s + i % s;
        vec_exchange(&v[a], &v[a + s], s);
    }
}

/* Turns LANES vectors on their side: lane j of v[i] becomes lane i of v[j]. */
static inline void vec_turn(vec v[LANES]) {
    turn_bit(v, 1);
    turn_bit(v, 2);
    if (LANES > 4) turn_bit(v, 4);
    if (LANES > 8) turn_bit(v, 8);
}

/* LANES rows of a matrix: as they lie in the file; or a strip of them, unpacked; or widened, where
 * a few numbers at their end fill no vector. */
struct lanes {
    const struct matrix *m;
    int row;
    const char *at[LANES];
    int8_t q[LANES][STRIP];
    float d[STRIP / SCALE_GROUP][LANES], minus[STRIP / SCALE_GROUP][LANES];
    real wide[LANES][LANES];
};

enum { QUANTS = 1 << 16, WIDE }; /* beside the types of files that are read as they lie */

static bool is_unpacked(uint32_t type) { return tensor_kind[type].unpack && type != TENSOR_Q8_0; }

/* Instead of rows behind the last, the last. */
static void find_rows(struct lanes *l, const struct matrix *m, int row) {
    l->m = m;
    l->row = row;
    for (int i = 0; i < LANES; i++)
        l->at[i] = m->at + (size_t)min_int(row + i, m->rows - 1) * m->row_bytes;
}

/* Memory is what one token waits for: while some bytes of the rows are used, as many of those that
 * come next, which lie behind them, are fetched. Where rows are used to their end that is fastest
 * in the order in which they lie; else the same bytes of each. */
static inline void fetch_in_order(const struct lanes *l, size_t at, size_t bytes) {
    const char *next = l->at[0] + LANES * (l->m->row_bytes + at);
    for (size_t b = 0; b < LANES * bytes; b += 64) fetch(next + b);
}

/* Unpacks n numbers, whole blocks of a strip at most. */
static void unpack_rows(struct lanes *l, int from, int n, bool whole) {
    const struct tensor_kind *kind = &tensor_kind[l->m->type];
    const size_t start = (size_t)(from / kind->numbers) * kind->bytes,
                 next = LANES * l->m->row_bytes;
    const int blocks = n / kind->numbers;
    if (whole) fetch_in_order(l, start, (size_t)blocks * kind->bytes);
    for (int i = 0; i < LANES; i++) {
        const uint8_t *at = (const uint8_t *)l->at[i] + start;
        struct unpacked to = {l->q[i], &l->d[0][i], &l->minus[0][i], LANES};
        for (int b = 0; !whole && b < blocks * kind->bytes; b += 64)
            fetch((const char *)at + next + b);
        for (int b = 0; b < blocks; b++, at += kind->bytes) {
            kind->unpack(&to, at);
            to.q += kind->numbers;
            to.d += kind->numbers / SCALE_GROUP * LANES;
            to.m += kind->numbers / SCALE_GROUP * LANES;
        }
    }
}

/* The f16 that stands at one place of every row. */
static inline vec load_halves(const struct lanes *l, size_t at) {
    char half[2 * LANES];
    for (int i = 0; i < LANES; i++) memcpy(half + 2 * i, l->at[i] + at, 2);
    return vec_load_f16(half);
}

/* v[k] = number `from` + k of the rows, or of what was unpacked or widened of them. */
UNROLLED void load_turned(const uint32_t type, vec v[LANES], const struct lanes *l, int from,
                          const bool whole) {
    const bool bytes = type == QUANTS || type == TENSOR_Q8_0;
    const bool in_order = whole && type < QUANTS && type != TENSOR_F32; /* 64 bytes of each row */
    const size_t k = (size_t)from, next = LANES * l->m->row_bytes;
    const size_t at = type == TENSOR_F32    ? 4 * k
                      : type == TENSOR_Q8_0 ? k / 32 * 34 + 2 + k % 32
                                            : 2 * k;
    const char *row[LANES];
    for (int i = 0; i < LANES; i++) {
        if (bytes) row[i] = type == QUANTS ? (const char *)l->q[i] + k : l->at[i] + at;
        if (type == WIDE) v[i] = vec_load(l->wide[i]);
        if (type == TENSOR_F32) v[i] = vec_load_f32(l->at[i] + at);
        if (type == TENSOR_F16) v[i] = vec_load_f16(l->at[i] + at);
        if (type == TENSOR_BF16) v[i] = vec_load_bf16(l->at[i] + at);
        if (type < QUANTS && !in_order) fetch(l->at[i] + next + at);
    }
    if (in_order) fetch_in_order(l, at, type == TENSOR_Q8_0 ? LANES * 34 / 32 : 2 * LANES);
    if (bytes) vec_columns(v, row);
    if (!bytes) vec_turn(v);
    const vec d = type == TENSOR_Q8_0 ? load_halves(l, k / 32 * 34) : vec_all(0);
    for (int i = 0; i < LANES; i++) {
        if (type == QUANTS)
            v[i] = vec_weights(v[i], l->d[k / SCALE_GROUP], l->minus[k / SCALE_GROUP]);
        if (type == TENSOR_Q8_0) v[i] = vec_fma(v[i], d, vec_all((real)-0.0));
    }
}

/* panel [n, WIDTH], up to whole vectors, but for other columns than the rows': their numbers from
 * number `from` on. */
UNROLLED void pack_as(const uint32_t type, real *panel, const struct lanes *l, int from, int n) {
    for (int k = 0; k < n; k += LANES) {
        vec v[LANES];
        load_turned(type, v, l, from + k, false);
        for (int i = 0; i < LANES; i++) vec_store(panel + (k + i) * WIDTH, v[i]);
    }
}

/* The sums so far, of every row one, and n numbers of the rows from number `from` on times those of
 * x. */
UNROLLED vec thin_as(const uint32_t type, vec sum, const real *x, const struct lanes *l, int from,
                     int n) {
    for (int k = 0; k < n; k += LANES) {
        vec v[LANES];
        load_turned(type, v, l, from + k, true);
        if (k + LANES <= n)
            for (int i = 0; i < LANES; i++) sum = vec_fma(vec_all(x[k + i]), v[i], sum);
        else
            for (int i = 0; i < n - k; i++) sum = vec_fma(vec_all(x[k + i]), v[i], sum);
    }
    return sum;
}

/* Widens what is left of the rows behind number `from`, less than a vector. */
static void widen_rest(struct lanes *l, int from, int n) {
    for (int i = 0; i < LANES; i++)
        widen(l->wide[i], l->m, min_int(l->row + i, l->m->rows - 1), from, n);
}

/* panel [n, WIDTH] from WIDTH rows of a matrix, or what there is: n numbers from `from` on, which
 * begin a strip. */
static void pack(real *panel, const struct matrix *m, int row, int from, int n) {
    const int whole = n / LANES * LANES;
    struct lanes l;
    for (int r = 0; r < WIDTH && row + r < m->rows; r += LANES) {
        real *to = panel + r;
        find_rows(&l, m, row + r);
        if (m->type == TENSOR_F32) pack_as(TENSOR_F32, to, &l, from, whole);
        if (m->type == TENSOR_F16) pack_as(TENSOR_F16, to, &l, from, whole);
        if (m->type == TENSOR_BF16) pack_as(TENSOR_BF16, to, &l, from, whole);
        if (m->type == TENSOR_Q8_0) pack_as(TENSOR_Q8_0, to, &l, from, whole);
        for (int k = 0; is_unpacked(m->type) && k < n; k += STRIP) {
            unpack_rows(&l, from + k, min_int(n - k, STRIP), false);
            pack_as(QUANTS, to + k * WIDTH, &l, 0, min_int(n - k, STRIP));
        }
        if (is_unpacked(m->type) || whole == n) continue;
        widen_rest(&l, from + whole, n - whole);
        pack_as(WIDE, to + whole * WIDTH, &l, 0, n - whole);
    }
}

/* W x of LANES rows of a matrix and one token: nothing is worth packing. */
static vec thin(const real *x, const struct matrix *m, int row) {
    const int n = m->columns, whole = n / LANES * LANES;
    struct lanes l;
    vec sum = vec_all(0);
    find_rows(&l, m, row);
    if (m->type == TENSOR_F32) sum = thin_as(TENSOR_F32, sum, x, &l, 0, whole);
    if (m->type == TENSOR_F16) sum = thin_as(TENSOR_F16, sum, x, &l, 0, whole);
    if (m->type == TENSOR_BF16) sum = thin_as(TENSOR_BF16, sum, x, &l, 0, whole);
    if (m->type == TENSOR_Q8_0) sum = thin_as(TENSOR_Q8_0, sum, x, &l, 0, whole);
    for (int k = 0; is_unpacked(m->type) && k < n; k += STRIP) {
        unpack_rows(&l, k, min_int(n - k, STRIP), true);
        sum = thin_as(QUANTS, sum, x + k, &l, 0, min_int(n - k, STRIP));
    }
    if (is_unpacked(m->type) || whole == n) return sum;
    widen_rest(&l, whole, n - whole);
    return thin_as(WIDE, sum, x + whole, &l, 0, n - whole);
}

/* to [n, width] = the first `rows` rows of x [rows, n] turned on their side, zeros beside them. Up
 * to LANES numbers behind a row are overwritten, those of the next before they are written. */
static inline void turn(real *to, const int width, int rows, int n, const real *x, size_t x_row) {
    int k = 0;
    for (; rows == width && k + LANES <= n; k += LANES)
        for (int r = (width - 1) / LANES * LANES; r >= 0; r -= LANES) {
            vec v[LANES];
            for (int i = 0; i < LANES; i++)
                v[i] = vec_load(x + min_int(r + i, width - 1) * x_row + k);
            vec_turn(v);
            for (int i = 0; i < LANES; i++) vec_store(to + (k + i) * width + r, v[i]);
        }
    for (; k < n; k++)
        for (int r = 0; r < width; r++) to[k * width + r] = r < rows ? x[r * x_row + k] : 0;
}

enum { CHAINS = 8 };

/* The sum of every row of x, or of its squares, for up to CHAINS rows: side by side, since a chain
 * alone spends its time waiting for its last step. */
static inline void row_sums(int rows, int n, const real *x, size_t x_row, bool squares, real *sum) {
    real s[CHAINS] = {0};
    if (rows == CHAINS)
        for (int k = 0; k < n; k++)
            for (int r = 0; r < CHAINS; r++) {
                real v = x[r * x_row + k];
                s[r] = squares ? real_fma(v, v, s[r]) : s[r] + v;
            }
    else
        for (int r = 0; r < rows; r++)
            for (int k = 0; k < n; k++) {
                real v = x[r * x_row + k];
                s[r] = squares ? real_fma(v, v, s[r]) : s[r] + v;
            }
    memcpy(sum, s, rows * sizeof *s);
}

/* In pieces of equal length, whole strips of a matrix's rows. */
static struct strips strips_in(real *at, int rows, int columns) {
    const int pieces = (columns + DEPTH - 1) / DEPTH;
    return (struct strips){at, rows, columns, round_up((columns + pieces - 1) / pieces, STRIP)};
}

/* The strip that a row begins, of the piece that number k begins: [n, ROWS]. */
static real *strip_at(const struct strips *s, int row, int k) {
    const size_t strips = (s->rows + ROWS - 1) / ROWS, n = min_int(s->depth, s->columns - k);
    return s->at + strips * ((size_t)k * ROWS + k / s->depth * LANES) +
           row / ROWS * (n * ROWS + LANES);
}

/* Lays rows of x down, from a strip's first on. */
static void lay(const struct strips *s, int first, int rows, const real *x, size_t x_row) {
    for (int k = 0; k < s->columns; k += s->depth)
        for (int r = 0; r < rows; r += ROWS)
            turn(strip_at(s, first + r, k), ROWS, min_int(rows - r, ROWS),
                 min_int(s->depth, s->columns - k), x + r * x_row + k, x_row);
}

static void lay_job(void *context, int i, int thread) {
    const struct product *p = context;
    const int n = p->w->columns, first = i * p->rows;
    (void)thread;
    lay(&p->strips, first, min_int(p->tokens - first, p->rows), p->x + (size_t)first * n, n);
}

/* The n numbers from k on of one panel, whose outputs start at `column`, with those of some tokens.
 * Tiles that stick out over the edge of `out` stay in `sums` [tokens, WIDTH] to the end. */
static void panel_product(const struct product *p, struct scratch *s, int first, int tokens,
                          int column, int k, int n, real *sums) {
    const size_t O = p->w->rows;
    const int outputs = min_int(p->w->rows - column, WIDTH);
    const bool last = k + n == p->w->columns;
    pack(s->panel, p->w, column, k, n);
    for (int t = 0; t < tokens; t += ROWS, sums += ROWS * WIDTH) {
        const int rows = min_int(tokens - t, ROWS);
        const real *x = strip_at(&p->strips, first + t, k);
        real *out = p->out + (first + t) * O + column;
        const bool direct = last && rows == ROWS && outputs == WIDTH;
        const struct sums at = {k ? sums : NULL, direct ? out : sums, WIDTH, direct ? O : WIDTH};
        strip_tile(rows, outputs, n, x, s->panel, &at);
        for (int r = 0; last && !direct && r < rows; r++)
            memcpy(out + r * O, sums + r * WIDTH, (size_t)outputs * sizeof *out);
    }
}

static void product_job(void *context, int i, int thread) {
    const struct product *p = context;
    struct scratch *s = &p->r->scratch[thread];
    const int columns = p->w->columns, depth = p->strips.depth;
    const int first = i / p->groups * TOKEN_BLOCK, panel = i % p->groups * p->some;
    const int tokens = min_int(p->tokens - first, TOKEN_BLOCK);
    for (int k = 0; k < columns; k += depth)
        for (int j = 0; j < min_int(p->some, p->panels - panel); j++)
            panel_product(p, s, first, tokens, (panel + j) * WIDTH, k, min_int(columns - k, depth),
                          s->sums + (size_t)j * TOKEN_BLOCK * WIDTH);
}

/* Some panels' outputs of one token. */
static void thin_job(void *context, int i, int thread) {
    const struct product *p = context;
    const int rows = p->some * WIDTH, end = min_int(p->w->rows, (i + 1) * rows);
    (void)thread;
    for (int row = i * rows; row < end; row += LANES) {
        real out[LANES];
        vec_store(out, thin(p->x, p->w, row));
        memcpy(p->out + row, out, min_int(end - row, LANES) * sizeof *out);
    }
}

/* Attention goes by rows, a query of one head each: those of a sequence's tokens for all heads that
 * share a key-value head. WIDTH of them are a block; lanes run across them, through both products:
 *
 *                  queries [d, WIDTH]                            scores, then e [keys, WIDTH]
 *                 +----------+                                 +----------+
 *    keys         |          |            values, on their     |          |
 *    [keys, d]    +----------+            side: [d, keys]      |          |
 *    +------+     +----------+            +-----------+        +----------+
 *    |      |     |  scores  |            |           |        +----------+
 *    +------+     +----------+            +-----------+        |    mix   | [d, WIDTH]
 */
struct block {
    int head, first, rows; /* of key-value heads; of all rows */
    int group;             /* rows of a token */
    int position;          /* of the first token */
    int start, keys;       /* what any row sees */
};

static int head_of(const struct block *b, int row) {
    return b->head * b->group + (b->first + row) % b->group;
}

/* How many of the sequence's tokens up to its own. */
static int end_of(const struct block *b, int row) {
    return b->position + (b->first % b->group + row) / b->group + 1;
}

/* Scales, caps and tilts the scores; where a row does not see a key it becomes -infinity. */
static void shape_scores(const struct attention *a, const struct block *b, real *s, int lanes) {
    const struct config *c = &a->r->m->config;
    const real scale = (real)c->attention_scale, cap = (real)c->attention_cap;
    const size_t all = (size_t)b->keys * WIDTH;
    for (size_t i = 0; i < all; i += WIDTH)
        for (int r = 0; r < lanes; r++) s[i + r] *= scale;
    for (size_t i = 0; i < all && cap > 0; i += WIDTH)
        for (int r = 0; r < lanes; r++) s[i + r] = cap * (real)tanh_inline(s[i + r] / cap);
    for (int r = 0; r < b->rows; r++) {
        const int end = end_of(b, r) - b->start, from = a->window ? end - a->window : 0;
        const real slope = c->family->positions == ALIBI ? alibi_slope(c, head_of(b, r)) : 0;
        for (int j = 0; j < end && slope > 0; j++)
            s[j * WIDTH + r] = real_fma(slope, (real)(j - (end - 1)), s[j * WIDTH + r]);
        for (int j = 0; j < from; j++) s[j * WIDTH + r] = -INFINITY;
        for (int j = end; j < b->keys; j++) s[j * WIDTH + r] = -INFINITY;
    }
}

/* In place: e^(s - max), which is 0 where a key is not seen and so changes no sum; and the sums. */
static void sum_exponentials(real *s, int keys, int lanes, real sum[WIDTH]) {
    real most[WIDTH];
    for (int r = 0; r < lanes; r++) most[r] = -INFINITY;
    for (int r = 0; r < lanes; r++) sum[r] = 0;
    for (size_t i = 0; i < (size_t)keys * WIDTH; i += WIDTH)
        for (int r = 0; r < lanes; r++) most[r] = s[i + r] > most[r] ? s[i + r] : most[r];
    for (size_t i = 0; i < (size_t)keys * WIDTH; i += WIDTH) {
        for (int r = 0; r < lanes; r++) s[i + r] = real_exp(s[i + r] - most[r]);
        for (int r = 0; r < lanes; r++) sum[r] += s[i + r];
    }
}

/* The rows of a block where q [T, H d] has them. */
static real *query_of(const struct attention *a, const struct block *b, int sequence, int row) {
    const struct config *c = &a->r->m->config;
    const int token = a->r->first[sequence] + (b->first + row) / b->group;
    return a->r->q + ((size_t)token * c->heads + head_of(b, row)) * c->head_dim;
}

/* Overwrites a block's queries with what the heads make of them. */
static void attend_job(void *context, int i, int thread) {
    const struct attention *a = context;
    const struct config *c = &a->r->m->config;
    struct scratch *s = &a->r->scratch[thread];
    const int d = c->head_dim, sequence = i / a->blocks / c->kv_heads;
    const struct sequence *q = &a->s[sequence];
    struct block b = {.head = i / a->blocks % c->kv_heads, .first = i % a->blocks * WIDTH};
    b.group = c->heads / c->kv_heads;
    b.rows = min_int(q->n * b.group - b.first, WIDTH);
    if (b.rows <= 0) return;
    b.position = q->past + b.first / b.group;
    b.start = a->window ? max_int(0, b.position + 1 - a->window) : 0;
    b.keys = end_of(&b, b.rows - 1) - b.start;
    const int lanes = round_up(b.rows, LANES);
    const real *key = a->keys + kept_at(a->r, q, b.head, b.start);     /* [keys, d] */
    const real *value = a->values + kept_at(a->r, q, b.head, b.start); /* [keys, d] */
    real sum[WIDTH];

    for (int r = 0; r < b.rows; r++)
        memcpy(s->heads + r * d, query_of(a, &b, sequence, r), d * sizeof(real));
    turn(s->queries, WIDTH, b.rows, d, s->heads, d);
    for (int j = 0; j < b.keys; j += ROWS)
        rows_tile(b.keys - j, b.rows, d, key + (size_t)j * d, s->queries,
                  &(struct sums){NULL, s->scores + (size_t)j * WIDTH, 0, WIDTH});
    shape_scores(a, &b, s->scores, lanes);
    sum_exponentials(s->scores, b.keys, lanes, sum);
    for (int j = 0; j < b.keys; j += DEPTH)
        for (int k = 0; k < d; k += ROWS) {
            real *mix = s->mix + k * WIDTH;
            columns_tile(d - k, b.rows, min_int(b.keys - j, DEPTH), value + (size_t)j * d + k, d,
                         s->scores + (size_t)j * WIDTH,
                         &(struct sums){j ? mix : NULL, mix, WIDTH, WIDTH});
        }
    for (int k = 0; k < d; k++)
        for (int r = 0; r < lanes; r++)
            s->mix[k * WIDTH + r] = (s->mix[k * WIDTH + r] + 0) / sum[r];
    turn(s->heads, d, d, b.rows, s->mix, WIDTH);
    for (int r = 0; r < b.rows; r++)
        memcpy(query_of(a, &b, sequence, r), s->heads + r * d, d * sizeof(real));
}

/* ---- Steps of the forward pass --------------------------------------------------------------- */

static void product(struct run *r, real *out, const real *x, int tokens, const struct matrix *w) {
    const int blocks = (tokens + TOKEN_BLOCK - 1) / TOKEN_BLOCK;
    const int panels = (w->rows + WIDTH - 1) / WIDTH;
    /* Many panels share a piece of x, and one token's rows are fetched ahead within a job; but
     * every thread is to have some jobs. */
    const int share = panels * blocks / pool_threads(r->pool);
    const int most = tokens == 1 ? max_int(PANELS, share / 16) : PANELS;
    const int some = max_int(1, min_int(most, share / 4));
    const int rows = max_int(1, (1 << 14) / (ROWS * w->columns)) * ROWS; /* worth handing over */
    struct product p = {r, out, x, w, tokens, panels, some, (panels + some - 1) / some, {0}, rows};
    if (SPEC)
        pool_run(r->pool, w->rows, spec_product_job, &p);
    else if (tokens == 1)
        pool_run(r->pool, p.groups, thin_job, &p);
    else {
        p.strips = strips_in(r->strips, tokens, w->columns);
        pool_run(r->pool, (tokens + rows - 1) / rows, lay_job, &p);
        pool_run(r->pool, p.groups * blocks, product_job, &p);
    }
}

/* The steps that take rows one by one: tokens, or their heads. */
enum step {
    RMS_NORM,      /* out = x / |x| * weight */
    LAYER_NORM,    /* out = (x - mean) / deviation * weight + bias */
    ROTATE_PAIRS,  /* out rotated by its position */
    ROTATE_HALVES, /* likewise */
    ACTIVATE,      /* out = act(out) */
    MULTIPLY,      /* out *= x */
    ADD,           /* out += x */
    ADD_BIAS,      /* out += weight */
    SCALE_ROW,     /* out *= factor */
    CAP            /* out = factor tanh(out / factor) */
};

struct rows {
    const struct run *r;
    enum step step;
    real *out;
    const real *x; /* in some steps out itself */
    int rows, columns;
    const real *weight, *bias, *rotation;
    real factor;
    int per_job;
};

/* |x| is the root mean square (Zhang and Sennrich, 2019). At most CHAINS rows; out may be x. */
static void rms_norm_rows(const struct rows *j, real *out, const real *x, int rows) {
    const int n = j->columns;
    const real eps = (real)j->r->m->config.norm_eps, *weight = j->weight;
    real squares[CHAINS];
    row_sums(rows, n, x, n, true, squares);
    for (int r = 0; r < rows; r++) {
        const real scale = 1 / real_sqrt(squares[r] / (real)n + eps);
        for (int k = 0; k < n; k++)
            out[(size_t)r * n + k] = x[(size_t)r * n + k] * scale * weight[k];
    }
}

/* Ba, Kiros and Hinton, 2016. At most CHAINS rows; out may be x. */
static void layer_norm_rows(const struct rows *j, real *out, const real *x, int rows) {
    const int n = j->columns;
    const real eps = (real)j->r->m->config.norm_eps, *weight = j->weight, *bias = j->bias;
    real sum[CHAINS], squares[CHAINS];
    row_sums(rows, n, x, n, false, sum);
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < n; k++)
            out[(size_t)r * n + k] = x[(size_t)r * n + k] - sum[r] / (real)n;
    row_sums(rows, n, out, n, true, squares);
    for (int r = 0; r < rows; r++) {
        const real scale = 1 / real_sqrt(squares[r] / (real)n + eps);
        for (int k = 0; k < n; k++)
            out[(size_t)r * n + k] =
                real_fma(out[(size_t)r * n + k] * scale, weight[k], bias ? bias[k] : 0);
    }
}

/* Rotates the pair (x, x + apart) by position x frequency (RoPE: Su et al., 2021). */
static inline void rotate_pair(real *x, int apart, const real *angle) {
    const real a = x[0], b = x[apart], cosine = angle[0], sine = angle[1];
    x[0] = real_fma(a, cosine, -(b * sine));
    x[apart] = real_fma(b, cosine, a * sine);
}

static void rotate_row(const struct rows *j, real *x, int token) {
    const struct config *c = &j->r->m->config;
    const int half = c->rotated / 2, halves = j->step == ROTATE_HALVES;
    const real *angle = j->rotation + (size_t)j->r->position[token] * c->rotated;
    for (int head = 0; head < j->columns; head += c->head_dim)
        for (int i = 0; i < half; i++)
            rotate_pair(x + head + (halves ? i : 2 * i), halves ? half : 1, angle + 2 * i);
}

/* GELU is x times the normal distribution's integral up to x (Hendrycks and Gimpel, 2016); with
 * tanh it is an approximation of theirs. */
static void activate_row(enum activation act, real *x, int n) {
    const double root = 0x1.9884533d43651p-1; /* sqrt(2 / pi) */
    switch (act) {
    case SILU:
        for (int k = 0; k < n; k++) x[k] = x[k] / (1 + real_exp(-x[k]));
        break;
    case GELU_TANH:
        for (int k = 0; k < n; k++) {
            const real inner = (real)root * real_fma(x[k] * x[k] * x[k], (real)0.044715, x[k]);
            x[k] = (real)0.5 * x[k] * (1 + (real)tanh_inline(inner));
        }
        break;
    case RELU:
        for (int k = 0; k < n; k++) x[k] = x[k] > 0 || x[k] != x[k] ? x[k] : 0; /* NaN stays */
        break;
    }
}

static void step_row(const struct rows *j, real *restrict out, const real *restrict x, int row) {
    const int n = j->columns;
    switch (j->step) {
    case RMS_NORM:
    case LAYER_NORM: break; /* not row by row */
    case ROTATE_PAIRS:
    case ROTATE_HALVES: rotate_row(j, out, row); break;
    case ACTIVATE: activate_row(j->r->m->config.family->activation, out, n); break;
    case MULTIPLY:
        for (int k = 0; k < n; k++) out[k] *= x[k];
        break;
    case ADD:
        for (int k = 0; k < n; k++) out[k] += x[k];
        break;
    case ADD_BIAS:
        for (int k = 0; k < n; k++) out[k] += j->weight[k];
        break;
    case SCALE_ROW:
        for (int k = 0; k < n; k++) out[k] *= j->factor;
        break;
    case CAP:
        for (int k = 0; k < n; k++) out[k] = j->factor * (real)tanh_inline(out[k] / j->factor);
        break;
    }
}

static void rows_job(void *context, int i, int thread) {
    const struct rows *j = context;
    const int end = min_int(j->rows, (i + 1) * j->per_job), chains = SPEC ? 1 : CHAINS;
    const size_t n = j->columns;
    (void)thread;
    for (int t = i * j->per_job; t < end;) {
        const int rows = min_int(chains, end - t);
        if (j->step == RMS_NORM)
            rms_norm_rows(j, j->out + t * n, j->x + t * n, rows);
        else if (j->step == LAYER_NORM)
            layer_norm_rows(j, j->out + t * n, j->x + t * n, rows);
        else
            for (int r = t; r < t + rows; r++) step_row(j, j->out + r * n, j->x + r * n, r);
        t += rows;
    }
}

static void each_row(struct rows j) {
    j.per_job = max_int(CHAINS, (1 << 14) / j.columns); /* enough to be worth handing over */
    pool_run(j.r->pool, (j.rows + j.per_job - 1) / j.per_job, rows_job, &j);
}

/* out = norm(x) of rows of n, which may be the same; x itself where there is no such norm. */
static void norm(struct run *r, real *out, const real *x, int rows, int n, const struct norm *w) {
    const enum step step = r->m->config.family->layer_norm ? LAYER_NORM : RMS_NORM;
    if (w->weight)
        each_row((struct rows){r, step, out, x, rows, n, .weight = w->weight, .bias = w->bias});
    else if (out != x)
        memcpy(out, x, (size_t)rows * n * sizeof *out);
}

/* q or k, each head by itself, or all of a token's together. */
static void norm_heads(struct run *r, real *x, int heads, const struct norm *w) {
    const int together = r->m->config.family->qk_norm_wide ? heads : 1;
    norm(r, x, x, r->tokens * heads / together, together * r->m->config.head_dim, w);
}

static void each(struct run *r, enum step step, real *out, const real *x, int columns) {
    each_row((struct rows){r, step, out, x, r->tokens, .columns = columns});
}

static void add_bias(struct run *r, real *out, const real *bias, int rows, int columns) {
    if (bias) each_row((struct rows){r, ADD_BIAS, out, out, rows, columns, .weight = bias});
}

static void scale(struct run *r, real *out, double factor, int rows, int n) {
    if (factor == 1) return;
    each_row((struct rows){r, SCALE_ROW, out, out, rows, n, .factor = (real)factor});
}

static void cap(struct run *r, real *out, double most, int rows, int n) {
    if (most == 0) return;
    each_row((struct rows){r, CAP, out, out, rows, n, .factor = (real)most});
}

/* Whether the layer's tokens attend to a window only. */
static bool has_window(const struct config *c, int layer) {
    return c->window && (!c->family->global_every || (layer + 1) % c->family->global_every);
}

/* The heads of q or k by their tokens' positions. */
static void rotate(struct run *r, int layer, real *out, int columns) {
    const struct family *f = r->m->config.family;
    const bool local = f->global_every && has_window(&r->m->config, layer);
    if (f->unrotated_every && (layer + 1) % f->unrotated_every == 0) return;
    const enum step step = f->positions == PAIRS ? ROTATE_PAIRS : ROTATE_HALVES;
    if (is_rotary(f))
        each_row(
            (struct rows){r, step, out, out, r->tokens, columns, .rotation = r->rotation[local]});
}

static void attend(struct run *r, int layer, const struct sequence *s, int n) {
    const struct config *c = &r->m->config;
    const int group = c->heads / c->kv_heads;
    size_t cache = r->room.keep ? (size_t)layer * r->room.rows * c->kv_heads * c->head_dim : 0;
    struct attention a = {
        r, s, r->keys + cache, r->values + cache, has_window(c, layer) ? c->window : 0, 0};
    for (int i = 0; i < n; i++)
        a.blocks = max_int(a.blocks, SPEC ? s[i].n : (s[i].n * group + WIDTH - 1) / WIDTH);
    pool_run(r->pool, n * c->kv_heads * a.blocks, SPEC ? spec_attend_job : attend_job, &a);
}

enum { REMEMBERED = 64 };

/* Some tokens' rows of k into the cache of keys, or of v into that of values. */
struct kept {
    const struct run *r;
    real *to;         /* [KV, rows, d] of this layer */
    const real *from; /* [T, KV d] */
};

static void remember_job(void *context, int i, int thread) {
    const struct kept *m = context;
    const size_t heads = m->r->m->config.kv_heads, d = m->r->m->config.head_dim;
    (void)thread;
    for (size_t head = 0; head < heads; head++)
        for (int t = i * REMEMBERED; t < min_int(m->r->tokens, (i + 1) * REMEMBERED); t++)
            memcpy(m->to + (head * m->r->room.rows + m->r->row[t]) * d,
                   m->from + (t * heads + head) * d, d * sizeof(real));
}

static void remember(struct run *r, int layer, real *cache, const real *from) {
    const size_t kv = (size_t)r->m->config.kv_heads * r->m->config.head_dim;
    const size_t first = r->room.keep ? (size_t)layer * r->room.rows : 0;
    struct kept m = {r, cache + first * kv, from};
    pool_run(r->pool, (r->tokens + REMEMBERED - 1) / REMEMBERED, remember_job, &m);
}

/* ---- The forward pass ------------------------------------------------------------------------ */

/* Checks the sequences, places their tokens, and sets x to the tokens' embeddings, to which y,
 * those of their positions, may be added. */
static int embed(struct run *r, const struct sequence *s, int n, struct error *e) {
    const struct config *c = &r->m->config;
    int tokens = 0;
    for (int i = 0; i < n; i++) {
        if (s[i].n < 1 || s[i].past < 0 || s[i].row < 0 || s[i].n > r->room.tokens - tokens ||
            (int64_t)s[i].past + s[i].n > r->room.longest ||
            (int64_t)s[i].row + s[i].past + s[i].n > r->room.rows)
            return fail(e, "sequence %d (%d tokens after %d) does not fit the room of %d tokens", i,
                        s[i].n, s[i].past, r->room.tokens);
        r->first[i] = tokens;
        for (int t = 0; t < s[i].n; t++, tokens++) {
            if (s[i].tokens[t] < 0 || s[i].tokens[t] >= c->vocab)
                return fail(e, "token id %d is outside the model's vocabulary of %d",
                            s[i].tokens[t], c->vocab);
            r->position[tokens] = s[i].past + t;
            r->row[tokens] = s[i].row + s[i].past + t;
            widen(r->x + (size_t)tokens * c->width, &r->m->embedding, s[i].tokens[t], 0, c->width);
            if (c->family->positions != LEARNED) continue;
            if (r->position[tokens] >= c->context)
                return fail(e, "a sequence is longer than the learned %d positions", c->context);
            widen(r->y + (size_t)tokens * c->width, &r->m->positions, r->position[tokens], 0,
                  c->width);
        }
    }
    r->tokens = tokens;
    scale(r, r->x, c->embedding_scale, tokens, c->width);
    if (c->family->positions == LEARNED) each(r, ADD, r->x, r->y, c->width);
    norm(r, r->x, r->x, tokens, c->width, &r->m->embedding_norm);
    return 0;
}

static void see(const struct hook *h, enum point at, int layer, real *values, int rows,
                int columns) {
    if (h) h->see(h->context, at, layer, values, rows, columns);
}

int forward(struct run *r, const struct sequence *s, int n, const struct hook *hook,
            struct error *e) {
    const struct config *c = &r->m->config;
    const int D = c->width, F = c->neurons, Q = c->heads * c->head_dim,
              KV = c->kv_heads * c->head_dim;
    if (embed(r, s, n, e)) // x [T, D]
        return -1;
    const int T = r->tokens;
    see(hook, AT_EMBD, -1, r->x, T, D);
    for (int l = 0; l < c->layers; l++) {
        const struct layer *w = &r->m->layer[l];

        norm(r, r->h, r->x, T, D, &w->attn_norm); // h [T, D]
        see(hook, AT_ATTN_NORM, l, r->h, T, D);
        product(r, r->q, r->h, T, &w->q); // q [T, H d]
        product(r, r->k, r->h, T, &w->k); // k [T, KV d]
        product(r, r->v, r->h, T, &w->v); // v [T, KV d]
        add_bias(r, r->q, w->q_bias, T, Q);
        add_bias(r, r->k, w->k_bias, T, KV);
        add_bias(r, r->v, w->v_bias, T, KV);
        norm_heads(r, r->q, c->heads, &w->q_norm);
        norm_heads(r, r->k, c->kv_heads, &w->k_norm);
        rotate(r, l, r->q, Q); // by their positions
        rotate(r, l, r->k, KV);
        see(hook, AT_Q, l, r->q, T, Q);
        see(hook, AT_K, l, r->k, T, KV);
        see(hook, AT_V, l, r->v, T, KV);
        remember(r, l, r->keys, r->k); // into the cache
        remember(r, l, r->values, r->v);
        attend(r, l, s, n); // q [T, H d] becomes the heads' output
        see(hook, AT_HEADS, l, r->q, T, Q);
        product(r, r->y, r->q, T, &w->attn_out); // y [T, D]
        add_bias(r, r->y, w->attn_bias, T, D);
        norm(r, r->y, r->y, T, D, &w->attn_post);
        scale(r, r->y, c->residual_scale, T, D);
        see(hook, AT_ATTN_OUT, l, r->y, T, D);
        each(r, ADD, r->x, r->y, D); // x += y

        if (!c->family->parallel) norm(r, r->h, r->x, T, D, &w->ffn_norm); // h [T, D]
        see(hook, AT_FFN_NORM, l, r->h, T, D);
        product(r, r->gate, r->h, T, &w->gate); // gate [T, F]
        add_bias(r, r->gate, w->up_bias, T, F);
        see(hook, AT_GATE, l, r->gate, T, F);
        each(r, ACTIVATE, r->gate, r->gate, F); // the neurons
        see(hook, AT_ACT, l, r->gate, T, F);    // counted, ablated, steered here
        if (!c->family->plain) {
            product(r, r->up, r->h, T, &w->up); // up [T, F]
            see(hook, AT_UP, l, r->up, T, F);
            each(r, MULTIPLY, r->gate, r->up, F); // gate *= up
            see(hook, AT_PRODUCT, l, r->gate, T, F);
        }
        product(r, r->y, r->gate, T, &w->down); // y [T, D]
        add_bias(r, r->y, w->down_bias, T, D);
        norm(r, r->y, r->y, T, D, &w->ffn_post);
        scale(r, r->y, c->residual_scale, T, D);
        see(hook, AT_DOWN, l, r->y, T, D);
        each(r, ADD, r->x, r->y, D); // x += y
        see(hook, AT_RESID, l, r->x, T, D);
    }
    return 0;
}

/* out [n, some] = logits [from, from + some) of the n tokens in h. */
static void head(struct run *r, int n, int from, int some, real *out) {
    const struct config *c = &r->m->config;
    const struct matrix w = some_rows(r->m->output, from, some);
    product(r, out, r->h, n, &w);
    add_bias(r, out, r->m->output_bias ? r->m->output_bias + from : NULL, n, some);
    scale(r, out, c->logit_scale, n, some);
    cap(r, out, c->logit_cap, n, some);
}

void logits(struct run *r, int first, int n, real *out, const struct hook *hook) {
    const int D = r->m->config.width, V = r->m->config.vocab;
    norm(r, r->h, r->x + (size_t)first * D, n, D, &r->m->output_norm); // h [n, D]
    head(r, n, 0, V, out);                                             // out [n, V]
    see(hook, AT_LOGITS, r->m->config.layers, out, n, V);
}

/* A slice of the logits of some rows goes into what is known of each row. */
struct slice {
    real *logits; /* [rows, some], of which e^(logit - most) is left */
    int rows, from, some;
    const int32_t *target;
    struct softmax *row;
};

/* Adds a row's slice: its largest logit, and its sum of e^(logit - most). */
static void add_slice(struct softmax *s, real most, double sum, bool first) {
    if (first) {
        s->most = most;
        s->sum = sum;
    } else if (most > s->most) {
        s->sum = fma(s->sum, real_exp(s->most - most), sum);
        s->most = most;
    } else {
        s->sum = fma(sum, real_exp(most - s->most), s->sum);
    }
}

/* CHAINS rows, so that their sums wait for each other's last steps; behind the last, that again. */
static void slice_job(void *context, int i, int thread) {
    const struct slice *j = context;
    const int first = i * CHAINS, rows = min_int(j->rows - first, CHAINS);
    real *x[CHAINS], most[CHAINS];
    double sum[CHAINS] = {0};
    (void)thread;
    for (int r = 0; r < CHAINS; r++)
        x[r] = j->logits + (size_t)(first + min_int(r, rows - 1)) * j->some;
    for (int r = 0; r < rows; r++) {
        const int target = j->target[first + r] - j->from;
        if (j->target[first + r] < 0) continue;
        most[r] = largest(x[r], j->some);
        if (target >= 0 && target < j->some) j->row[first + r].target = x[r][target];
        for (int v = 0; v < j->some; v++) x[r][v] = real_exp(x[r][v] - most[r]);
    }
    for (int v = 0; v < j->some; v++)
        for (int r = 0; r < CHAINS; r++) sum[r] += x[r][v];
    for (int r = 0; r < rows; r++)
        if (j->target[first + r] >= 0) add_slice(&j->row[first + r], most[r], sum[r], j->from == 0);
}

int losses(struct run *r, int first, int n, const int32_t *target, real *room, double *loss,
           struct error *e) {
    const int D = r->m->config.width, V = r->m->config.vocab;
    norm(r, r->h, r->x + (size_t)first * D, n, D, &r->m->output_norm); // h [n, D]
    for (int from = 0; from < V; from += SLICE) {
        struct slice s = {room, n, from, min_int(V - from, SLICE), target, r->softmax};
        head(r, n, from, s.some, room); // room [n, some]
        pool_run(r->pool, (n + CHAINS - 1) / CHAINS, slice_job, &s);
    }
    for (int i = 0; i < n; i++) {
        const struct softmax *s = &r->softmax[i];
        if (target[i] < 0) continue;
        loss[i] = log64(s->sum) + ((double)s->most - s->target);
        if (!isfinite(loss[i])) return fail(e, "the model's logits are not numbers, or infinite");
    }
    return 0;
}
