/* Tensors of every type against blocks.tsv: the numbers in blocks, all of a row and parts of it,
 * blocks with every scale, and products with rows of them.
 */
#include "../model.c"

#include "check.h"
#include "products.h"

enum { MOST_TYPES = 64, FINITE = 63488, CHUNK = 1024 }; /* finite halves; blocks to a digest */
enum { MOST_NUMBERS = 1 << 14, MARK = 0x7fabcdef };     /* in a row here; not yet written */

static struct type {
    char name[16];
    uint32_t number;
    int numbers, bytes; /* of a block */
    int scale[2], scales;
} type[MOST_TYPES];
static int types;

/* The types described there and those in the program's table are the same. */
static void test_table(void) {
    struct golden *g = golden_open("test/blocks.tsv");
    bool there[MOST_TYPES] = {false};
    while (types < MOST_TYPES && golden_next(g, "type")) {
        struct type *t = &type[types++];
        snprintf(t->name, sizeof t->name, "%s", g->field[1]);
        t->number = (uint32_t)strtoul(g->field[2], NULL, 10);
        t->numbers = atoi(g->field[3]);
        t->bytes = atoi(g->field[4]);
        t->scales = sscanf(g->field[5], "%d,%d", &t->scale[0], &t->scale[1]);
        const struct tensor_kind kind = kind_of(t->number);
        CHECK(is_weights(t->number) && strcmp(kind.name, t->name) == 0 &&
                  kind.numbers == t->numbers && kind.bytes == t->bytes,
              "type %s, number %u: the program has %s, %d numbers in %d bytes", t->name, t->number,
              tensor_type_name(t->number), kind.numbers, kind.bytes);
        if (!is_weights(t->number)) types--; /* and no more of it */
        if (t->number < MOST_TYPES) there[t->number] = true;
    }
    for (uint32_t i = 0; i < MOST_TYPES; i++)
        CHECK(!is_weights(i) || there[i], "type %s of the program is not in blocks.tsv",
              tensor_type_name(i));
    golden_close(g);
}

/* ---- Rows of blocks -------------------------------------------------------------------------- */

struct row {
    const struct type *type;
    int blocks;
    uint8_t bytes[MOST_NUMBERS * 4];
    uint32_t bits[MOST_NUMBERS]; /* of its numbers */
};

static struct matrix matrix_of(const struct type *t, const void *bytes, int rows, int blocks) {
    return (struct matrix){bytes, t->number, rows, blocks * t->numbers, (size_t)blocks * t->bytes};
}

/* Of a number that float32 holds, whatever a real is; all NaN are one. */
static uint32_t bits_of(real x) {
    const float f = (float)x;
    return isnan(x) ? 0x7fc00000 : (real)f == x ? bits_of_float(f) : MARK;
}

static int unhex(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

static void add_block(struct row *r, const char *hex, const char *bits) {
    uint8_t *to = r->bytes + (size_t)r->blocks * r->type->bytes;
    int n = 0;
    for (; hex[0] && hex[1]; hex += 2) *to++ = (uint8_t)(unhex(hex[0]) << 4 | unhex(hex[1]));
    for (char *end; *bits; bits = end + (*end == ' ')) {
        const uint32_t word = (uint32_t)strtoul(bits, &end, 16);
        long times = *end == '*' ? strtol(end + 1, &end, 10) : 1;
        for (; times && n < r->type->numbers; times--)
            r->bits[r->blocks * r->type->numbers + n++] = word;
    }
    r->blocks++;
    CHECK(n == r->type->numbers && to == r->bytes + (size_t)r->blocks * r->type->bytes,
          "%s: a block in blocks.tsv has %d numbers", r->type->name, n);
}

/* How many of numbers [from, from + n) of row `at` of the matrix are not those of r, the numbers
 * behind them being untouched. */
static int wrong_part(const struct row *r, const struct matrix *m, int at, int from, int n) {
    static real out[MOST_NUMBERS + 1];
    int wrong = 0;
    for (int i = 0; i <= n; i++) out[i] = (real)float_of_bits(0x4b3c614e);
    widen(out, m, at, from, n);
    for (int i = 0; i < n; i++) wrong += bits_of(out[i]) != r->bits[from + i];
    return wrong + (bits_of(out[n]) != 0x4b3c614e);
}

/* All parts that begin and end within two numbers of a block's or a strip's edge, and others. */
static void check_parts(const struct row *r, const struct matrix *m) {
    const int n = m->columns, step = min_int(r->type->numbers, 128);
    int wrong = 0, parts = 0;
    for (int from = 0; from < n; from += from % step == 2 ? max_int(1, step - 4) : 1)
        for (int end = from; end <= n; end += end % step == 2 ? max_int(1, step - 4) : 1, parts++)
            wrong += wrong_part(r, m, 0, from, end - from) != 0;
    for (int i = 0; i < 1000; i++, parts++) {
        const int from = (int)(test_random() % (uint64_t)n);
        wrong += wrong_part(r, m, 0, from, (int)(test_random() % (uint64_t)(n - from + 1))) != 0;
    }
    CHECK(wrong == 0, "%s: %d of %d parts of a row are widened wrongly", r->type->name, wrong,
          parts);
}

/* A type's golden blocks, each for itself and all of them as a row and as a column. */
static void test_golden(const struct type *t) {
    static struct row r, one;
    struct golden *g = golden_open("test/blocks.tsv");
    r = (struct row){.type = t};
    while (golden_next(g, "block")) {
        if (strcmp(g->field[1], t->name) != 0) continue;
        one = (struct row){.type = t};
        add_block(&one, g->field[3], g->field[4]);
        add_block(&r, g->field[3], g->field[4]);
        const struct matrix m = matrix_of(t, one.bytes, 1, 1);
        const int wrong = wrong_part(&one, &m, 0, 0, t->numbers);
        CHECK(wrong == 0, "%s, %s: %d of %d numbers are wrong", t->name, g->field[2], wrong,
              t->numbers);
    }
    golden_close(g);
    CHECK(r.blocks >= 10, "%s has only %d golden blocks", t->name, r.blocks);
    const struct matrix row = matrix_of(t, r.bytes, 1, r.blocks),
                        column = matrix_of(t, r.bytes, r.blocks, 1);
    check_parts(&r, &row);
    for (int i = 0; i < r.blocks; i++) {
        one = (struct row){.type = t};
        memcpy(one.bits, r.bits + i * t->numbers, t->numbers * sizeof *one.bits);
        CHECK(wrong_part(&one, &column, i, 0, t->numbers) == 0, "%s: row %d is wrong", t->name, i);
    }
}

/* ---- Blocks with every scale ----------------------------------------------------------------- */

/* splitmix64's number i (Steele et al., 2014) */
static uint64_t mixed(uint64_t i) {
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void put_half(uint8_t *at, uint32_t bits) {
    at[0] = (uint8_t)bits;
    at[1] = (uint8_t)(bits >> 8);
}

/* Block i of those that blocks.py makes: random, and every finite half once for each scale. */
static void make_block(uint8_t *to, const struct type *t, int i) {
    const int words = (t->bytes + 7) / 8;
    const int which[] = {i, (int)(((int64_t)i * 40503 + 12345) % FINITE)};
    for (int b = 0; b < t->bytes; b++)
        to[b] = (uint8_t)(mixed(((uint64_t)t->number << 32) + (uint64_t)i * words + b / 8) >>
                          b % 8 * 8);
    for (int s = 0; s < t->scales; s++)
        put_half(to + t->scale[s],
                 (uint32_t)(which[s] % (FINITE / 2) | which[s] / (FINITE / 2) << 15));
}

/* Of the numbers of CHUNK blocks from the first on: the digest that blocks.tsv describes. */
static uint64_t digest(const struct type *t, int first) {
    static uint8_t bytes[32 * 256 * 4];
    static real out[32 * 256];
    uint64_t sum = 0;
    for (int i = 0; i < CHUNK; i += 32) {
        for (int b = 0; b < 32; b++) make_block(bytes + b * t->bytes, t, first + i + b);
        const struct matrix m = matrix_of(t, bytes, 1, 32);
        widen(out, &m, 0, 0, m.columns);
        for (int k = 0; k < m.columns; k++)
            sum += bits_of(out[k]) * (mixed((uint64_t)(i * t->numbers + k)) | 1);
    }
    return sum;
}

static void test_every_scale(const struct type *t) {
    struct golden *g = golden_open("test/blocks.tsv");
    int wrong = 0, chunks = 0, first = 0;
    while (golden_next(g, "digest"))
        for (int i = 2; strcmp(g->field[1], t->name) == 0 && i < g->fields; i++, chunks++)
            if (digest(t, chunks * CHUNK) != strtoull(g->field[i], NULL, 16) && !wrong++)
                first = chunks;
    golden_close(g);
    CHECK(chunks == FINITE / CHUNK, "%s: %d digests", t->name, chunks);
    CHECK(wrong == 0,
          "%s: numbers of %d in %d chunks of blocks are wrong, first those of d %04x on", t->name,
          wrong, chunks, (unsigned)(first % 31 * CHUNK | first / 31 << 15));
}

/* ---- Products -------------------------------------------------------------------------------- */

/* Random blocks whose scales are of about 2^-8 and either sign. */
static uint8_t *random_rows(const struct type *t, int rows, int blocks) {
    uint8_t *at = malloc((size_t)rows * blocks * t->bytes);
    for (int i = 0; i < rows * blocks; i++) {
        uint8_t *block = at + (size_t)i * t->bytes;
        make_block(block, t, (int)(test_random() % FINITE));
        for (int s = 0; s < t->scales; s++)
            put_half(block + t->scale[s], 0x1c00 | (test_random() & 0x83ff));
    }
    return at;
}

/* The same matrix in F32, little-endian as in a file. */
static struct matrix in_f32(const struct matrix *m) {
    uint8_t *at = malloc((size_t)m->rows * m->columns * 4), *to = at;
    real *row = malloc(m->columns * sizeof *row);
    for (int i = 0; i < m->rows; i++) {
        widen(row, m, i, 0, m->columns);
        for (int k = 0; k < m->columns; k++, to += 4)
            for (int b = 0; b < 4; b++) to[b] = (uint8_t)(bits_of(row[k]) >> 8 * b);
    }
    free(row);
    return (struct matrix){(char *)at, TENSOR_F32, m->rows, m->columns, (size_t)m->columns * 4};
}

/* x [T, columns] times a matrix and its copy in F32: by one token's kernel, and by tiles. */
static void check_product(struct run *r, const struct type *t, int rows, int blocks, int T) {
    uint8_t *bytes = random_rows(t, rows, blocks);
    const struct matrix m = matrix_of(t, bytes, rows, blocks), wide = in_f32(&m);
    const size_t n = (size_t)T * rows;
    real *x = malloc((size_t)T * m.columns * sizeof *x), *ours = malloc(n * sizeof *ours),
         *theirs = malloc(n * sizeof *theirs);
    for (size_t i = 0; i < (size_t)T * m.columns; i++) x[i] = (real)(test_fraction() * 2 - 1);
    product(r, ours, x, T, &m);
    product(r, theirs, x, T, &wide);
    int wrong = 0, zeros = 0;
    for (size_t i = 0; i < n; i++) {
        wrong += memcmp(&ours[i], &theirs[i], sizeof *ours) != 0 || isnan(ours[i]);
        zeros += ours[i] == 0;
    }
    CHECK(wrong == 0 && zeros < (int)n, "%s, %d tokens x %d rows of %d: %d outputs are not F32's",
          t->name, T, rows, m.columns, wrong);
    free(bytes), free((char *)wide.at), free(x), free(ours), free(theirs);
}

/* Rows shorter and longer than a piece and than a strip, and of lengths that neither divides; one
 * token, few and many. */
static void test_products(struct pool *p, const struct type *t) {
    static const int tokens[] = {1, 2, 3, 5, 13, 40, 530}, rows[] = {1, 7, 33, 100};
    static const int columns[] = {32, 160, 256, 301, 416, 768, 1280};
    struct run r = products_new(p, 530, 1280);
    for (size_t c = 0; c < sizeof columns / sizeof *columns; c++)
        for (size_t i = 0; columns[c] % t->numbers == 0 && i < sizeof tokens / sizeof *tokens; i++)
            check_product(&r, t, rows[(c + i) % 4], columns[c] / t->numbers, tokens[i]);
    products_free(&r);
}

int main(void) {
    struct error e;
    struct pool *p = pool_new(3, &e);
    test_table();
    for (int t = 0; t < types; t++) {
        test_golden(&type[t]);
        test_every_scale(&type[t]);
        test_products(p, &type[t]);
    }
    pool_free(p);
    return finish();
}
