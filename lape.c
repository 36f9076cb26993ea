/* The method: count activations, find the language-specific neurons, ablate them, steer with them,
 * and measure what that does. The command line is at the bottom.
 */
#define _POSIX_C_SOURCE 200809L
#include "lape.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* ---- Text ------------------------------------------------------------------------------------ */

static struct span text_span(const char *s) { return (struct span){s, s ? strlen(s) : 0}; }

/* For "%.*s": names from files are cut to a readable length. */
static int width(struct span s) { return (int)least(s.n, 64); }

/* Cuts what stands before the next `end`, or all that is left; false when nothing is left. */
static bool next_part(struct span *rest, char end, struct span *part) {
    if (!rest->at) return false;
    const char *stop = memchr(rest->at, end, rest->n);
    *part = (struct span){rest->at, stop ? (size_t)(stop - rest->at) : rest->n};
    rest->at = stop ? stop + 1 : NULL;
    rest->n -= stop ? part->n + 1 : part->n;
    return true;
}

/* A plain decimal number up to `most`. */
static bool parse_number(struct span s, uint64_t most, uint64_t *to) {
    *to = 0;
    for (size_t i = 0; i < s.n; i++) {
        uint64_t digit = (uint64_t)(s.at[i] - '0');
        if (digit > 9 || digit > most || *to > (most - digit) / 10) return false;
        *to = *to * 10 + digit;
    }
    return s.n > 0;
}

/* Copies a language's label, which must be one. "none" names a table's row, "-" no language. */
static bool set_label(char label[LABEL_SIZE], struct span s) {
    bool good = s.n > 0 && s.n < LABEL_SIZE && !span_is(s, "none") && !span_is(s, "-");
    for (size_t i = 0; good && i < s.n; i++)
        good = isalnum((unsigned char)s.at[i]) || s.at[i] == '_' || s.at[i] == '-';
    if (good) span_copy(label, LABEL_SIZE, s);
    return good;
}

/* ---- Counts ---------------------------------------------------------------------------------- */

static const char *const statistic_name[] = {"positive", "near_above",   "near_below",
                                             "sum",      "positive_sum", "histogram"};

static size_t all_neurons(const struct counts *c) { return (size_t)c->layers * c->neurons; }

static size_t rows_of(const struct counts *c, int s) { return s == HISTOGRAM ? 1 : c->layers; }

static size_t columns_of(const struct counts *c, int s) {
    return s == HISTOGRAM ? c->vocab : c->neurons;
}

static int64_t *new_statistic(const struct counts *c, int s) {
    return new_array(rows_of(c, s) * columns_of(c, s), sizeof(int64_t));
}

static struct language *find_language(const struct counts *c, const char *label) {
    for (int k = 0; k < c->n; k++)
        if (strcmp(c->language[k].label, label) == 0) return &c->language[k];
    return NULL;
}

struct language *insert_language(struct counts *c, const char *label) {
    int at = c->n++;
    c->language = grow_array(c->language, c->n, sizeof *c->language);
    for (; at > 0 && strcmp(c->language[at - 1].label, label) > 0; at--)
        c->language[at] = c->language[at - 1];
    c->language[at] = (struct language){0};
    snprintf(c->language[at].label, LABEL_SIZE, "%s", label);
    return &c->language[at];
}

static void language_free(struct language *l) {
    for (int s = 0; s < STATISTICS; s++) free(l->of[s]);
    free(l->part);
}

void counts_free(struct counts *c) {
    for (int k = 0; k < c->n; k++) language_free(&c->language[k]);
    free(c->language);
    *c = (struct counts){0};
}

static void put_languages(struct gguf_writer *w, const struct counts *c, uint64_t parts) {
    put_array(w, "lape-counts.languages", GGUF_STRING, c->n);
    for (int k = 0; k < c->n; k++) put_text(w, c->language[k].label);
    put_array(w, "lape-counts.tokens", GGUF_U64, c->n);
    for (int k = 0; k < c->n; k++) put_number(w, c->language[k].tokens, 8);
    put_array(w, "lape-counts.pieces", GGUF_U64, c->n);
    for (int k = 0; k < c->n; k++) put_number(w, c->language[k].pieces, 8);
    put_array(w, "lape-counts.parts", GGUF_U64, 4 * parts);
    for (int k = 0; k < c->n; k++)
        for (size_t i = 0; i < c->language[k].parts; i++) {
            const struct part p = c->language[k].part[i];
            const uint64_t row[] = {k, p.text, p.shard, p.of};
            for (int j = 0; j < 4; j++) put_number(w, row[j], 8);
        }
}

void counts_write(const struct counts *c, FILE *to) {
    struct gguf_writer w = {.to = to};
    uint64_t tensors = 0, parts = 0;
    for (int k = 0; k < c->n; k++) {
        parts += c->language[k].parts;
        for (int s = 0; s < STATISTICS; s++) tensors += c->language[k].of[s] != NULL;
    }
    put_header(&w, tensors, 12);
    put_string(&w, "general.architecture", "lape-counts");
    put_string(&w, "general.name", c->model);
    put_u64(&w, "lape-counts.layers", c->layers);
    put_u64(&w, "lape-counts.neurons", c->neurons);
    put_u64(&w, "lape-counts.vocabulary", c->vocab);
    put_u64(&w, "lape-counts.piece_length", c->piece);
    put_u64(&w, "lape-counts.bos", c->bos);
    put_f64(&w, "lape-counts.near", c->near);
    put_languages(&w, c, parts);
    for (int k = 0; k < c->n; k++)
        for (int s = 0; s < STATISTICS; s++) {
            char name[64];
            snprintf(name, sizeof name, "%s.%s", c->language[k].label, statistic_name[s]);
            const uint64_t rows = rows_of(c, s), columns = columns_of(c, s);
            const struct tensor t = {text_span(name),
                                     TENSOR_I64,
                                     2,
                                     {columns, rows, 1, 1},
                                     {NULL, rows * columns * 8},
                                     false};
            if (c->language[k].of[s]) put_tensor(&w, &t);
        }
    for (int k = 0; k < c->n; k++)
        for (int s = 0; s < STATISTICS; s++) {
            const int64_t *v = c->language[k].of[s];
            put_padding(&w);
            for (size_t i = 0; v && i < rows_of(c, s) * columns_of(c, s); i++)
                put_number(&w, (uint64_t)v[i], 8);
        }
    put_padding(&w);
}

enum { MOST_SHARDS = 1 << 30 };

/* Whether two parts have a piece in common: a number that both steps reach. */
static bool have_common(struct part a, struct part b) {
    uint64_t divisor = a.of, rest = b.of;
    while (rest) {
        const uint64_t next = divisor % rest;
        divisor = rest;
        rest = next;
    }
    return a.text == b.text && a.shard % divisor == b.shard % divisor;
}

/* Nothing is counted twice. */
static int add_part(struct language *l, struct part p, struct error *e) {
    for (size_t i = 0; i < l->parts; i++)
        if (have_common(l->part[i], p))
            return fail(e, "language %s: shard %llu of %llu of its text is counted already",
                        l->label, (ull)p.shard + 1, (ull)p.of);
    l->part = grow_array(l->part, l->parts + 1, sizeof p);
    l->part[l->parts++] = p;
    return 0;
}

/* The statistics that the file has of a language. */
static int read_language(const struct counts *c, struct language *l, const struct gguf *g,
                         struct error *e) {
    for (int s = 0; s < STATISTICS; s++) {
        char name[64];
        snprintf(name, sizeof name, "%s.%s", l->label, statistic_name[s]);
        struct tensor *t = gguf_tensor(g, name);
        if (!t && s == POSITIVE) return fail(e, "tensor '%s' is missing", name);
        if (!t) continue;
        if (t->type != TENSOR_I64 || t->dim[0] != columns_of(c, s) || t->dim[1] != rows_of(c, s) ||
            t->dim[2] * t->dim[3] != 1)
            return fail(e, "tensor '%s' is not [%zu, %zu] of 64-bit integers", name, rows_of(c, s),
                        columns_of(c, s));
        t->used = true;
        l->of[s] = new_statistic(c, s);
        uint64_t total = 0;
        for (size_t i = 0; i < t->data.n / 8; i++) {
            const int64_t v = l->of[s][i] = (int64_t)get_u64(t->data.at + 8 * i);
            if (s != SUM && (uint64_t)v > (s == POSITIVE_SUM ? INT64_MAX : l->tokens))
                return fail(e, "language %s: %lld %s of %llu tokens at layer %zu, neuron %zu",
                            l->label, (long long)v, statistic_name[s], (ull)l->tokens,
                            i / columns_of(c, s), i % columns_of(c, s));
            total += (uint64_t)v;
        }
        if (s == HISTOGRAM && total != l->tokens)
            return fail(e, "tensor '%s' has %llu of %llu tokens", name, (ull)total, (ull)l->tokens);
    }
    return 0;
}

static uint64_t digest_on(uint64_t digest, uint64_t v) { return (digest ^ v) * 0x100000001b3; }

/* Which pieces of which texts were counted. A language of which the file does not say so, since it
 * is imported or of old, is taken for all of a text that its counts tell from others. */
static int read_parts(const struct counts *c, const struct gguf *g, struct error *e) {
    const struct gguf_value *v = NULL;
    if (gguf_find(g, "lape-counts.parts") && !(v = gguf_array(g, "lape-counts.parts", GGUF_U64, e)))
        return -1;
    for (uint64_t i = 0; v && i < v->count / 4; i++) {
        const char *at = v->data.at + 32 * i;
        const struct part p = {get_u64(at + 8), get_u64(at + 16), get_u64(at + 24)};
        if (get_u64(at) >= (uint64_t)c->n || p.shard >= p.of || p.of > MOST_SHARDS)
            return fail(e, "value 'lape-counts.parts' names a language or a shard that is none");
        if (add_part(&c->language[get_u64(at)], p, e)) return -1;
    }
    for (int k = 0; k < c->n; k++) {
        struct language *l = &c->language[k];
        struct part whole = {l->tokens, 0, 1};
        for (size_t i = 0; !l->parts && i < all_neurons(c); i++)
            whole.text = digest_on(whole.text, l->of[POSITIVE][i]);
        if (!l->parts && add_part(l, whole, e)) return -1;
    }
    return v && v->count % 4 ? fail(e, "value 'lape-counts.parts' is not four numbers a part") : 0;
}

static int read_languages(struct counts *c, const struct gguf *g, struct error *e) {
    const struct gguf_value *labels = gguf_array(g, "lape-counts.languages", GGUF_STRING, e);
    const struct gguf_value *tokens = gguf_array(g, "lape-counts.tokens", GGUF_U64, e);
    const struct gguf_value *pieces = tokens;
    if (gguf_find(g, "lape-counts.pieces"))
        pieces = gguf_array(g, "lape-counts.pieces", GGUF_U64, e);
    if (!labels || !tokens || !pieces) return -1;
    if (!labels->count || tokens->count != labels->count || pieces->count != labels->count)
        return fail(e, "the lists of languages, tokens and pieces are empty or differ in length");
    struct span *label = gguf_strings(labels);
    int bad = 0;
    for (uint64_t k = 0; !bad && k < labels->count; k++) {
        char name[LABEL_SIZE];
        if (!set_label(name, label[k]) || (k && strcmp(c->language[k - 1].label, name) >= 0)) {
            bad = fail(e, "language %llu has no proper label, or one that does not ascend", (ull)k);
            break;
        }
        struct language *l = insert_language(c, name);
        l->tokens = get_u64(tokens->data.at + 8 * k);
        l->pieces = pieces == tokens ? 0 : get_u64(pieces->data.at + 8 * k);
        bad = l->tokens > INT64_MAX ? fail(e, "language %s has %llu tokens", name, (ull)l->tokens)
                                    : read_language(c, l, g, e);
    }
    free(label);
    return bad;
}

static int read_counts(struct counts *c, const struct gguf *g, struct error *e) {
    struct span s;
    int piece, bos;
    if (gguf_string(g, "general.architecture", &s, e)) return -1;
    if (!span_is(s, "lape-counts")) return fail(e, "a model, not counts; `lape count` makes those");
    if (gguf_string(g, "general.name", &s, e) ||
        gguf_int(g, "lape-counts.layers", 1, 1 << 16, REQUIRED, &c->layers, e) ||
        gguf_int(g, "lape-counts.neurons", 1, 1 << 24, REQUIRED, &c->neurons, e) ||
        gguf_int(g, "lape-counts.vocabulary", 0, 1 << 28, 0, &c->vocab, e) ||
        gguf_int(g, "lape-counts.piece_length", 0, INT_MAX, 0, &piece, e) ||
        gguf_int(g, "lape-counts.bos", 0, 1, 0, &bos, e) ||
        gguf_float(g, "lape-counts.near", 0, 1e6, 0, &c->near, e))
        return -1;
    span_copy(c->model, sizeof c->model, s);
    c->piece = piece;
    c->bos = bos;
    return read_languages(c, g, e) || read_parts(c, g, e) ||
           gguf_check_used(g, "lape-counts.", (const char *const[]){NULL}, e) ||
           gguf_check_tensors(g, e);
}

int counts_open(struct counts *c, const char *path, struct error *e) {
    struct gguf g;
    *c = (struct counts){0};
    if (gguf_open(&g, path, e)) return -1;
    int bad = read_counts(c, &g, e);
    gguf_close(&g);
    if (!bad) return 0;
    counts_free(c);
    return fail_in(e, path);
}

static bool add_overflows(int64_t *to, int64_t v) {
    if (v > 0 ? *to > INT64_MAX - v : *to < INT64_MIN - v) return true;
    *to += v;
    return false;
}

static int by_part(const void *a, const void *b) {
    const struct part *x = a, *y = b;
    if (x->text != y->text) return x->text < y->text ? -1 : 1;
    if (x->of != y->of) return x->of < y->of ? -1 : 1;
    return (x->shard > y->shard) - (x->shard < y->shard);
}

/* The parts of both; all shards of a text are the text. */
static int add_parts(struct language *to, const struct language *from, struct error *e) {
    for (size_t i = 0; i < from->parts; i++)
        if (add_part(to, from->part[i], e)) return -1;
    if (to->parts) qsort(to->part, to->parts, sizeof *to->part, by_part);
    for (size_t i = 0, n; i < to->parts; i += n) {
        struct part *p = &to->part[i];
        for (n = 1; i + n < to->parts && p[n].text == p->text && p[n].of == p->of;) n++;
        if (n < p->of) continue;
        *p = (struct part){p->text, 0, 1};
        memmove(p + 1, p + n, (to->parts - i - n) * sizeof *p);
        to->parts -= n - 1;
        n = 1;
    }
    return 0;
}

static int add_language(const struct counts *c, struct language *to, const struct language *from,
                        struct error *e) {
    if (from->tokens > INT64_MAX - to->tokens)
        return fail(e, "the tokens of language %s are beyond 64 bits", to->label);
    if (add_parts(to, from, e)) return -1;
    to->tokens += from->tokens;
    to->pieces += from->pieces;
    for (int s = 0; s < STATISTICS; s++) {
        if (!to->of[s] != !from->of[s])
            return fail(e, "language %s: only one of the files has %s", to->label,
                        statistic_name[s]);
        for (size_t i = 0; to->of[s] && i < rows_of(c, s) * columns_of(c, s); i++)
            if (add_overflows(&to->of[s][i], from->of[s][i]))
                return fail(e, "language %s: %s is beyond 64 bits", to->label, statistic_name[s]);
    }
    return 0;
}

int counts_add(struct counts *to, const struct counts *from, struct error *e) {
    if (strcmp(to->model, from->model) || to->layers != from->layers ||
        to->neurons != from->neurons || to->vocab != from->vocab)
        return fail(e, "counts of another model: %s, %d x %d, not %s, %d x %d", from->model,
                    from->layers, from->neurons, to->model, to->layers, to->neurons);
    if (to->piece != from->piece || to->bos != from->bos || to->near != from->near)
        return fail(e, "counted otherwise: pieces of %llu%s, near %.17g, not %llu%s, near %.17g",
                    (ull)from->piece, from->bos ? " with BOS" : "", from->near, (ull)to->piece,
                    to->bos ? " with BOS" : "", to->near);
    for (int k = 0; k < from->n; k++) {
        const struct language *f = &from->language[k];
        struct language *l = find_language(to, f->label);
        if (!l) {
            l = insert_language(to, f->label);
            for (int s = 0; s < STATISTICS; s++) l->of[s] = f->of[s] ? new_statistic(to, s) : NULL;
        }
        if (add_language(to, l, f, e)) return -1;
    }
    return 0;
}

/* ---- The hook that counts -------------------------------------------------------------------- */

enum {
    COUNT_BLOCK = 64, /* neurons in a job: their sums stay in the cache */
    SUM_ROWS = 4096   /* tokens whose fixed-point activations are summed in double, exactly */
};

static void count_near(void *context, int block, int thread) {
    const struct counter *c = context;
    const size_t F = c->counts->neurons, first = (size_t)block * COUNT_BLOCK;
    const size_t n = least(F - first, COUNT_BLOCK), at = c->layer * F + first;
    const real near = (real)c->counts->near;
    int32_t above[COUNT_BLOCK] = {0}, below[COUNT_BLOCK] = {0};
    (void)thread;
    for (int t = 0; t < c->rows; t++) {
        const real *g = c->values + t * F + first;
        for (size_t i = 0; i < n; i++) {
            above[i] += (g[i] > 0) & (g[i] < near);
            below[i] += (g[i] <= 0) & (g[i] >= -near);
        }
    }
    for (size_t i = 0; i < n; i++) {
        c->language->of[NEAR_ABOVE][at + i] += above[i];
        c->language->of[NEAR_BELOW][at + i] += below[i];
    }
}

/* Rounds a x 2^20 to integers (half to even: added to 1.5 x 2^52, the last bit counts ones) and
 * sums them as doubles. While the positive ones and the others each sum to less than 2^51, every
 * step of that is exact; beyond it, or with what is no number, the count is spoilt for good. */
static void sum_rows(const struct counter *c, int first_row, int rows, size_t first, size_t n) {
    const size_t F = c->counts->neurons, at = c->layer * F + first;
    int32_t positive[COUNT_BLOCK] = {0};
    double sum[COUNT_BLOCK] = {0}, positive_sum[COUNT_BLOCK] = {0};
    for (int t = first_row; t < first_row + rows; t++) {
        const real *a = c->values + t * F + first;
        for (size_t i = 0; i < n; i++) {
            double fixed = ((double)a[i] * 0x1p20 + 0x1.8p52) - 0x1.8p52;
            sum[i] += fixed;
            positive_sum[i] += fixed > 0 ? fixed : 0;
        }
        for (size_t i = 0; i < n; i++) positive[i] += a[i] > 0;
    }
    for (size_t i = 0; i < n; i++) {
        int64_t **of = c->language->of;
        bool exact = positive_sum[i] < 0x1p51 && positive_sum[i] - sum[i] < 0x1p51;
        of[POSITIVE][at + i] += positive[i];
        if (!exact || add_overflows(&of[SUM][at + i], (int64_t)sum[i]) ||
            add_overflows(&of[POSITIVE_SUM][at + i], (int64_t)positive_sum[i]))
            of[POSITIVE][at + i] = INT64_MIN; /* found by count_is_sound() */
    }
}

static void count_positive(void *context, int block, int thread) {
    const struct counter *c = context;
    const size_t first = (size_t)block * COUNT_BLOCK;
    (void)thread;
    for (int t = 0; t < c->rows; t += SUM_ROWS)
        sum_rows(c, t, (int)least(c->rows - t, SUM_ROWS), first,
                 least(c->counts->neurons - first, COUNT_BLOCK));
}

void count_neurons(void *counter, enum point at, int layer, real *values, int rows, int columns) {
    struct counter *c = counter;
    if (at != AT_GATE && at != AT_ACT) return;
    c->values = values;
    c->rows = rows;
    c->layer = layer;
    pool_run(c->pool, (columns + COUNT_BLOCK - 1) / COUNT_BLOCK,
             at == AT_GATE ? count_near : count_positive, c);
}

int count_is_sound(const struct counter *c, struct error *e) {
    for (size_t i = 0; i < all_neurons(c->counts); i++)
        if (c->language->of[POSITIVE][i] < 0)
            return fail(e,
                        "language %s, layer %zu, neuron %zu: activations that are not numbers, "
                        "or too large to be added up",
                        c->language->label, i / c->counts->neurons, i % c->counts->neurons);
    return 0;
}

/* ---- Finding language-specific neurons ------------------------------------------------------- */

struct scored {
    double score;
    size_t at; /* layer x F + index */
};

static int by_score(const void *a, const void *b) {
    const struct scored *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* The k-th smallest, k from 0; v is reordered. Quickselect, partitioning as Hoare's. */
static double kth_smallest(double *v, size_t n, size_t k) {
    size_t low = 0, high = n - 1;
    while (low < high) {
        const double pivot = v[low + (high - low) / 2];
        size_t i = low, j = high;
        for (;; i++, j--) {
            while (v[i] < pivot) i++;
            while (v[j] > pivot) j--;
            if (i >= j) break;
            double t = v[i];
            v[i] = v[j];
            v[j] = t;
        }
        if (k <= j) /* v[low..j] <= pivot <= v[j+1..high] */
            high = j;
        else
            low = j + 1;
    }
    return v[k];
}

/* Python's round() for 0 <= x < 2^52: to the nearest integer, half to even. */
static size_t round_half_even(double x) { return (size_t)((x + 0x1p52) - 0x1p52); }

/* The round(rate |p|)-th smallest p; -1, which every p is above, when that rank is 0. */
static double threshold(const double *p, size_t n, double rate) {
    const size_t rank = round_half_even(rate * (double)n);
    if (rank == 0) return -1;
    double *copy = new_array(n, sizeof *copy);
    memcpy(copy, p, n * sizeof *copy);
    const double value = kth_smallest(copy, n, rank - 1);
    free(copy);
    return value;
}

/* In [0, 1), a multiple of 2^-53: splitmix64 (Steele, Lea and Flood, 2014). */
static double random_fraction(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* -sum_k q ln q of p normalised over the languages; 0 where no language has any. Summed from the
 * smallest p up, so that the same p in other languages give the same bits, and ties are ties. */
static double entropy(const double *p, int languages, double *room) {
    double sum = 0, h = 0;
    memcpy(room, p, languages * sizeof *p);
    qsort(room, languages, sizeof *room, by_value);
    for (int k = 0; k < languages; k++) sum += room[k];
    for (int k = 0; k < languages; k++)
        if (room[k] > 0) h = fma(-(room[k] / sum), log64(room[k] / sum), h);
    return h;
}

/* What find_neurons() works on: all N = L x F neurons. */
struct search {
    const struct counts *c;
    size_t N;
    double *p;      /* [N, K] */
    bool *member;   /* [N, K] */
    bool *selected; /* [N] */
};

static double penalised_entropy(const double *p, int languages, double penalty, double *room) {
    double most = 0, share = 0;
    double *floored = room + languages;
    for (int k = 0; k < languages; k++) {
        floored[k] = p[k] > 1e-12 ? p[k] : 1e-12;
        most = p[k] > most ? p[k] : most;
        share += 1.0 / (k + 1) / languages;
    }
    const double h = entropy(floored, languages, room);
    return h / log64(languages) - penalty * most / share;
}

/* The entropy of mean positive activations. */
static double value_entropy(const struct counts *c, size_t neuron, double *room) {
    double *mean = room + c->n;
    for (int k = 0; k < c->n; k++)
        mean[k] = (double)c->language[k].of[POSITIVE_SUM][neuron] / (double)c->language[k].tokens;
    return entropy(mean, c->n, room);
}

/* Lower is found first. room [2 K]. */
static double score(const struct search *s, const struct find *f, size_t neuron, uint64_t *state,
                    double *room) {
    const int K = s->c->n;
    const double *p = s->p + neuron * K;
    double most = 0;
    switch (f->method) {
    case RANDOM: return random_fraction(state);
    case LAVE: return value_entropy(s->c, neuron, room);
    case LAP:
        for (int k = 0; k < K; k++) most = p[k] > most ? p[k] : most;
        return -most;
    case LAPE: break;
    }
    return f->penalty > 0 ? penalised_entropy(p, K, f->penalty, room) : entropy(p, K, room);
}

static void select_lowest(struct search *s, struct find *f) {
    const int K = s->c->n;
    const size_t budget = round_half_even(f->top * (double)s->N);
    struct scored *scored = new_array(s->N, sizeof *scored);
    double *room = new_array(2 * (size_t)K, sizeof *room);
    uint64_t state = f->seed;
    size_t n = 0;
    f->threshold = threshold(s->p, s->N * K, f->filter);
    f->bar_value = threshold(s->p, s->N * K, f->bar);
    for (size_t i = 0; i < s->N; i++) {
        const double drawn = score(s, f, i, &state, room);
        bool active = false;
        for (int k = 0; k < K; k++) active |= s->p[i * K + k] > f->threshold;
        if (active) scored[n++] = (struct scored){drawn, i};
    }
    qsort(scored, n, sizeof *scored, by_score);
    for (size_t j = 0; j < least(budget, n); j++) {
        const size_t i = scored[j].at;
        s->selected[i] = true;
        for (int k = 0; k < K; k++) s->member[i * K + k] = s->p[i * K + k] > f->bar_value;
    }
    free(scored);
    free(room);
}

/* For every layer and language as many neurons as `like` has there, any of the layer's. */
static int select_like(struct search *s, struct find *f, struct error *e) {
    const struct neurons *like = f->like;
    const int K = s->c->n, F = s->c->neurons;
    uint64_t state = f->seed;
    f->threshold = f->bar_value = -1;
    if (like->layers != s->c->layers || like->neurons != F)
        return fail(e, "the neurons are of a model of %d x %d, the counts of %d x %d", like->layers,
                    like->neurons, s->c->layers, F);
    for (int k = 0; k < like->languages; k++) {
        const struct language *l = find_language(s->c, like->label[k]);
        if (!l) return fail(e, "the counts lack language %s of the neurons", like->label[k]);
        bool *member = s->member + (l - s->c->language);
        for (size_t i = 0, at; i < like->n; i++) {
            if (!like->member[i * like->languages + k]) continue;
            do at = (size_t)like->neuron[i].layer * F + (size_t)(random_fraction(&state) * F);
            while (member[at * K]); /* drawn before; the layer has as many as are asked for */
            member[at * K] = s->selected[at] = true;
        }
    }
    return 0;
}

/* The selected ones, in order. */
static void collect(const struct search *s, struct neurons *out) {
    const struct counts *c = s->c;
    const int K = c->n;
    size_t n = 0;
    for (size_t i = 0; i < s->N; i++) n += s->selected[i];
    *out = (struct neurons){.layers = c->layers,
                            .neurons = c->neurons,
                            .languages = K,
                            .label = new_array(K, sizeof *out->label),
                            .neuron = new_array(n, sizeof *out->neuron),
                            .member = new_array(n * K, sizeof *out->member),
                            .p = new_array(n * K, sizeof *out->p)};
    strcpy(out->model, c->model);
    for (int k = 0; k < K; k++) strcpy(out->label[k], c->language[k].label);
    for (size_t i = 0; i < s->N; i++) {
        if (!s->selected[i]) continue;
        out->neuron[out->n] = (struct neuron){(int)(i / c->neurons), (int)(i % c->neurons)};
        memcpy(out->p + out->n * K, s->p + i * K, K * sizeof *s->p);
        memcpy(out->member + out->n * K, s->member + i * K, K * sizeof *s->member);
        out->n++;
    }
}

/* p of all neurons for language k. */
static int fill_p(struct search *s, const struct find *f, int k, struct error *e) {
    const struct language *l = &s->c->language[k];
    if (l->tokens == 0) return fail(e, "language %s has no tokens", l->label);
    if (f->method == LAVE && !l->of[POSITIVE_SUM])
        return fail(e, "language %s has no sums of activations", l->label);
    for (size_t i = 0; i < s->N; i++)
        s->p[i * s->c->n + k] = (double)l->of[POSITIVE][i] / (double)l->tokens;
    return 0;
}

int find_neurons(const struct counts *c, struct find *f, struct neurons *out, struct error *e) {
    const size_t N = all_neurons(c);
    struct search s = {c, N, new_array(N * c->n, sizeof *s.p),
                       new_array(N * c->n, sizeof *s.member), new_array(N, sizeof *s.selected)};
    int bad = 0;
    if (c->n < 2 && (f->method == LAPE || f->method == LAVE))
        bad = fail(e, "one language: its entropy is 0 for every neuron; two are wanted, or more");
    for (int k = 0; !bad && k < c->n; k++) bad = fill_p(&s, f, k, e);
    if (!bad && f->like)
        bad = select_like(&s, f, e);
    else if (!bad)
        select_lowest(&s, f);
    if (!bad) collect(&s, out);
    free(s.p);
    free(s.member);
    free(s.selected);
    return bad;
}

void neurons_free(struct neurons *n) {
    free(n->label);
    free(n->neuron);
    free(n->member);
    free(n->p);
    *n = (struct neurons){0};
}

/* ---- Neuron lists ---------------------------------------------------------------------------- */

/* A tab and the languages of neuron i, between commas; "-" for none. */
static void print_languages(const struct neurons *n, size_t i, FILE *to) {
    const bool *member = n->member + i * n->languages;
    char before = '\t';
    for (int k = 0; k < n->languages; k++)
        if (member[k]) {
            fprintf(to, "%c%s", before, n->label[k]);
            before = ',';
        }
    if (before == '\t') fprintf(to, "\t-");
}

static const char *const method_name[] = {"lape", "lap", "lave", "random"};
enum { METHODS = sizeof method_name / sizeof *method_name };

void neurons_print(const struct neurons *n, const struct counts *c, const struct find *f,
                   FILE *to) {
    const int K = n->languages;
    double *room = new_array(K, sizeof *room);
    fprintf(to, "# language-specific neurons\n# model: %s\n# layers: %d\n# neurons: %d\n", n->model,
            n->layers, n->neurons);
    fprintf(to, "# languages:");
    for (int k = 0; k < K; k++) fprintf(to, " %s", n->label[k]);
    fprintf(to, "\n# tokens:");
    for (int k = 0; k < K; k++) fprintf(to, " %llu", (ull)c->language[k].tokens);
    fprintf(to, "\n# method: %s", method_name[f->method]);
    if (f->penalty > 0) fprintf(to, ", penalty %.9g", f->penalty);
    if (f->method == RANDOM) fprintf(to, ", seed %llu", (ull)f->seed);
    if (f->like)
        fprintf(to, ", as many per layer and language as another list");
    else
        fprintf(to, "\n# top: %.9g\n# filter: %.9g, threshold %.9g\n# bar: %.9g, threshold %.9g",
                f->top, f->filter, f->threshold, f->bar, f->bar_value);
    fprintf(to, "\nlayer\tneuron\tlape\tlanguages");
    for (int k = 0; k < K; k++) fprintf(to, "\tp_%s", n->label[k]);
    for (size_t i = 0; i < n->n; i++) {
        fprintf(to, "\n%d\t%d\t%.9g", n->neuron[i].layer, n->neuron[i].index,
                entropy(n->p + i * K, K, room));
        print_languages(n, i, to);
        for (int k = 0; k < K; k++) fprintf(to, "\t%.9g", n->p[i * K + k]);
    }
    fprintf(to, "\n");
    free(room);
}

static int label_index(const struct neurons *n, struct span s) {
    for (int k = 0; k < n->languages; k++)
        if (span_is(s, n->label[k])) return k;
    return -1;
}

/* "# key: value"; other comments pass. */
static int read_header(struct neurons *n, struct span line, struct error *e) {
    struct span key, word, value = line;
    uint64_t number;
    next_part(&value, ':', &key);
    const bool model = span_is(key, "# model"), languages = span_is(key, "# languages");
    int *size = span_is(key, "# layers") ? &n->layers : &n->neurons;
    if (!model && !languages && !span_is(key, "# layers") && !span_is(key, "# neurons")) return 0;
    if (value.n < 2 || *value.at != ' ' || (model ? *n->model : languages ? n->languages : *size))
        return fail(e, "'%.*s' has no value, or stands twice", width(key), key.at);
    value = (struct span){value.at + 1, value.n - 1};
    if (model) span_copy(n->model, sizeof n->model, value);
    if (!model && !languages) {
        if (!parse_number(value, 1 << 24, &number))
            return fail(e, "'%.*s' is not a number", width(key), key.at);
        *size = (int)number;
    }
    while (languages && next_part(&value, ' ', &word)) {
        n->label = grow_array(n->label, n->languages + 1, sizeof *n->label);
        if (label_index(n, word) >= 0 || !set_label(n->label[n->languages], word))
            return fail(e, "'%.*s' is no language's label, or stands twice", width(word), word.at);
        n->languages++;
    }
    return 0;
}

static int read_neuron(struct neurons *n, struct span line, struct error *e) {
    struct span field, languages, word;
    uint64_t layer, index;
    n->neuron = grow_array(n->neuron, n->n + 1, sizeof *n->neuron);
    n->member = grow_array(n->member, (n->n + 1) * n->languages, sizeof *n->member);
    struct neuron *to = &n->neuron[n->n];
    bool *member = n->member + n->n * n->languages;
    memset(member, 0, n->languages * sizeof *member);
    if (!next_part(&line, '\t', &field) || !parse_number(field, n->layers - 1, &layer) ||
        !next_part(&line, '\t', &field) || !parse_number(field, n->neurons - 1, &index))
        return fail(e, "layer and neuron must be numbers below %d and %d", n->layers, n->neurons);
    *to = (struct neuron){(int)layer, (int)index};
    if (n->n &&
        (to[-1].layer > to->layer || (to[-1].layer == to->layer && to[-1].index >= to->index)))
        return fail(e, "neurons must ascend by layer and index, each once");
    if (!next_part(&line, '\t', &field) || !next_part(&line, '\t', &languages))
        return fail(e, "the columns must be: layer, neuron, lape, languages");
    while (!span_is(languages, "-") && next_part(&languages, ',', &word)) {
        int k = label_index(n, word);
        if (k < 0) return fail(e, "language '%.*s' is not in the header", width(word), word.at);
        member[k] = true;
    }
    n->n++;
    return 0;
}

static int read_neurons(struct neurons *n, struct span file, size_t *line_number, struct error *e) {
    static const char columns[] = "layer\tneuron\tlape\tlanguages";
    struct span line;
    bool started = false; /* the names of the columns were there */
    for (; next_part(&file, '\n', &line); ++*line_number) {
        if (line.n == 0) continue;
        if (line.at[0] == '#') {
            if (!started && read_header(n, line, e)) return -1;
        } else if (started) {
            if (read_neuron(n, line, e)) return -1;
        } else {
            if (line.n < sizeof columns - 1 || memcmp(line.at, columns, sizeof columns - 1) != 0)
                return fail(e, "not a list of neurons, which has columns layer, neuron, lape, ...");
            if (!n->layers || !n->neurons || !n->languages)
                return fail(e, "the header must give layers, neurons and languages");
            started = true;
        }
    }
    return started ? 0 : fail(e, "not a list of neurons: it ends before its columns are named");
}

int neurons_open(struct neurons *n, const char *path, struct error *e) {
    struct span file;
    char where[32];
    size_t line = 1;
    *n = (struct neurons){0};
    if (map_file(path, &file, e)) return -1;
    int bad = read_neurons(n, file, &line, e);
    munmap((void *)file.at, file.n);
    if (!bad) return 0;
    neurons_free(n);
    snprintf(where, sizeof where, "line %zu", line);
    fail_in(e, where);
    return fail_in(e, path);
}

/* ---- Ablation and steering ------------------------------------------------------------------- */

static double mean(const struct language *l, size_t neuron) {
    return (double)l->of[SUM][neuron] / 0x1p20 / (double)l->tokens;
}

/* Mean activation in a language, less the average of the other languages' means. */
static double mean_above_others(const struct counts *c, const struct language *l, size_t neuron) {
    double others = 0;
    for (int k = 0; k < c->n; k++)
        if (&c->language[k] != l) others += mean(&c->language[k], neuron);
    return mean(l, neuron) - (c->n > 1 ? others / (c->n - 1) : 0);
}

static void strengthen(struct edit *x, const struct steer *s, const struct language *l,
                       size_t neuron) {
    switch (s->how) {
    case REPLACE:
        x->scale = 0;
        x->shift = (real)(s->strength * mean(l, neuron));
        break;
    case ADD_MEAN: x->shift = (real)(s->strength * mean(l, neuron)); break;
    case SCALE: x->scale *= (real)s->strength; break;
    case DIFFMEAN: x->shift = (real)(s->strength * mean_above_others(s->counts, l, neuron)); break;
    }
}

/* The language to steer to, in counts that are of the neurons' model and hold sums. */
static const struct language *steering_means(const struct neurons *n, const struct steer *s,
                                             struct error *e) {
    const struct counts *c = s->counts;
    const struct language *l = find_language(c, n->label[s->on]);
    bool sums = true;
    for (int k = 0; k < c->n; k++) sums &= c->language[k].of[SUM] && c->language[k].tokens;
    if (c->layers != n->layers || c->neurons != n->neurons)
        fail(e, "the counts are of a model of %d x %d neurons, the list of %d x %d", c->layers,
             c->neurons, n->layers, n->neurons);
    else if (!l)
        fail(e, "the counts lack language %s", n->label[s->on]);
    else if (!sums)
        fail(e, "the counts hold no sums of activations: there are no means to steer by");
    else
        return l;
    return NULL;
}

int edits_new(struct edits *x, const struct neurons *n, const struct steer *s, struct error *e) {
    const struct language *l = NULL;
    *x = (struct edits){0};
    if (s->on >= 0 && s->how != SCALE && !(l = steering_means(n, s, e))) return -1;
    x->first = new_array(n->layers + 1, sizeof *x->first);
    x->edit = new_array(n->n, sizeof *x->edit);
    size_t used = 0, i = 0;
    for (int layer = 0; layer < n->layers; x->first[++layer] = used)
        for (; i < n->n && n->neuron[i].layer == layer; i++) {
            const bool *member = n->member + i * n->languages;
            const bool off = s->off >= 0 && member[s->off], on = s->on >= 0 && member[s->on];
            struct edit edit = {n->neuron[i].index, off ? 0 : 1, 0};
            if (on) strengthen(&edit, s, l, (size_t)layer * n->neurons + edit.neuron);
            if (off || on) x->edit[used++] = edit;
        }
    return 0;
}

void edits_free(struct edits *x) {
    free(x->first);
    free(x->edit);
    *x = (struct edits){0};
}

void edit_neurons(void *edits, enum point at, int layer, real *values, int rows, int columns) {
    const struct edits *x = edits;
    if (at != AT_ACT) return;
    for (int t = 0; t < rows; t++)
        for (size_t i = x->first[layer]; i < x->first[layer + 1]; i++) {
            real *a = values + (size_t)t * columns + x->edit[i].neuron;
            *a = real_fma(*a, x->edit[i].scale, x->edit[i].shift);
        }
}

/* ---- A checkpoint with its tokenizer --------------------------------------------------------- */

struct checkpoint {
    struct model model;
    struct pool *pool;
    struct tokenizer *tokenizer; /* NULL: the file has none */
    struct span *piece;          /* what the tokenizer stands on */
    struct span *merge;
    float *score;
    int32_t *kind, *added;
    bool *normalised;
    int bos, eos;              /* -1: none */
    int add_bos;               /* 1: a prompt starts with it */
    struct error no_tokenizer; /* why there is none */
};

/* Merges, which GPT-2's tokenizers have, and SentencePiece's may have in place of scores. */
static int read_merges(struct checkpoint *c, bool merged, struct vocabulary *v, struct error *e) {
    const struct gguf *g = &c->model.file;
    if (!merged && !gguf_find(g, "tokenizer.ggml.merges")) return 0;
    if (merged && gguf_string(g, "tokenizer.ggml.pre", &v->pre, e)) return -1;
    const struct gguf_value *merges = gguf_array(g, "tokenizer.ggml.merges", GGUF_STRING, e);
    if (!merges) return -1;
    if (merges->count > INT32_MAX / 4)
        return fail(e, "%llu merges are too many", (ull)merges->count);
    v->merge = c->merge = gguf_strings(merges);
    v->merges = (int32_t)merges->count;
    return 0;
}

/* Words that were added to the vocabulary, and are found before the rest of a text is encoded. */
static int read_added(struct checkpoint *c, struct vocabulary *v, struct error *e) {
    const struct gguf *g = &c->model.file;
    if (!gguf_find(g, "tokenizer.ggml.added_tokens")) return 0;
    const struct gguf_value *ids = gguf_array(g, "tokenizer.ggml.added_tokens", GGUF_I32, e);
    const struct gguf_value *normal =
        ids ? gguf_array(g, "tokenizer.ggml.added_normalized", GGUF_BOOL, e) : NULL;
    if (!normal) return -1;
    if (ids->count != normal->count || ids->count > (uint64_t)v->n)
        return fail(e, "%llu added tokens, %llu of them normalized or not", (ull)ids->count,
                    (ull)normal->count);
    v->n_added = (int32_t)ids->count;
    v->added = c->added = new_array(ids->count, sizeof *c->added);
    v->normalised = c->normalised = new_array(ids->count, sizeof *c->normalised);
    for (int32_t i = 0; i < v->n_added; i++) {
        c->added[i] = (int32_t)get_u32(ids->data.at + 4 * i);
        c->normalised[i] = normal->data.at[i] != 0;
    }
    return 0;
}

/* SentencePiece's settings that change its pieces, of which one value is known. */
static int check_spaces(const struct gguf *g, bool merged, bool *add_prefix, struct error *e) {
    int prefix, remove;
    if (gguf_int(g, "tokenizer.ggml.add_space_prefix", 0, 1, !merged, &prefix, e) ||
        gguf_int(g, "tokenizer.ggml.remove_extra_whitespaces", 0, 1, 0, &remove, e))
        return -1;
    *add_prefix = prefix;
    return remove || (merged && prefix)
               ? fail(e, "value 'tokenizer.ggml.%s' is true, which is not supported",
                      remove ? "remove_extra_whitespaces" : "add_space_prefix")
               : 0;
}

static int read_pieces(struct checkpoint *c, bool merged, struct vocabulary *v, struct error *e) {
    static const char *const harmless[] = {
        "chat_template*",     "huggingface.json",   "*_token_id", "*_token_ids",
        "ggml.scores",        "ggml.pre",                  /* where merges, or scores, decide */
        "ggml.add_eos_token", "ggml.add_sep_token", NULL}; /* texts and prompts never end so */
    const struct gguf *g = &c->model.file;
    const int V = v->n;
    const struct gguf_value *pieces = gguf_array(g, "tokenizer.ggml.tokens", GGUF_STRING, e);
    const struct gguf_value *scores =
        v->merge ? pieces : gguf_array(g, "tokenizer.ggml.scores", GGUF_F32, e);
    const struct gguf_value *kinds = gguf_array(g, "tokenizer.ggml.token_type", GGUF_I32, e);
    if (!pieces || !scores || !kinds || check_spaces(g, merged, &v->add_prefix, e) ||
        read_added(c, v, e) || gguf_check_used(g, "tokenizer.", harmless, e))
        return -1;
    if (pieces->count != (uint64_t)V || scores->count != pieces->count ||
        kinds->count != pieces->count)
        return fail(e, "%llu tokens, %llu scores and %llu kinds for a vocabulary of %d",
                    (ull)pieces->count, (ull)scores->count, (ull)kinds->count, V);
    v->piece = c->piece = gguf_strings(pieces);
    v->score = c->score = new_array(V, sizeof *c->score);
    v->kind = c->kind = new_array(V, sizeof *c->kind);
    for (int i = 0; i < V; i++) {
        if (!v->merge) c->score[i] = get_f32(scores->data.at + 4 * i);
        c->kind[i] = (int32_t)get_u32(kinds->data.at + 4 * i);
        if (c->score[i] != c->score[i]) return fail(e, "the score of token %d is no number", i);
    }
    return 0;
}

/* The embedding's rows; of a file without one, the pieces. */
static int vocabulary_size(const struct gguf *g) {
    const struct tensor *t = gguf_tensor(g, "token_embd.weight");
    const struct gguf_value *pieces = gguf_find(g, "tokenizer.ggml.tokens");
    return (int)least(t ? t->dim[1] : pieces ? pieces->count : 0, 1 << 24);
}

static int read_tokenizer(struct checkpoint *c, struct error *e) {
    const struct gguf *g = &c->model.file;
    const int V = vocabulary_size(g);
    struct vocabulary v = {.n = V};
    struct span kind = {"none", 4};
    c->bos = c->eos = -1;
    if (gguf_find(g, "tokenizer.ggml.model") && gguf_string(g, "tokenizer.ggml.model", &kind, e))
        return -1;
    if (span_is(kind, "none") || span_is(kind, "no_vocab")) return fail(e, "it has no tokenizer");
    const bool merged = span_is(kind, "gpt2");
    if (gguf_int(g, "tokenizer.ggml.bos_token_id", 0, V - 1, -1, &c->bos, e) ||
        gguf_int(g, "tokenizer.ggml.eos_token_id", 0, V - 1, -1, &c->eos, e))
        return -1;
    if (!merged && !span_is(kind, "llama"))
        return fail(e,
                    "tokenizer '%.*s' is not supported; 'llama' (SentencePiece BPE) and 'gpt2' "
                    "(byte-level BPE) are",
                    width(kind), kind.at);
    if (read_merges(c, merged, &v, e) ||
        gguf_int(g, "tokenizer.ggml.add_bos_token", 0, 1, !merged || default_bos(v.pre) == 1,
                 &c->add_bos, e) ||
        read_pieces(c, merged, &v, e))
        return -1;
    c->tokenizer = tokenizer_new(&v, e);
    return c->tokenizer ? 0 : -1;
}

/* A model whose tokenizer is not supported serves where no text is. */
static int checkpoint_open(struct checkpoint *c, const char *path, int threads, struct error *e) {
    if (model_open(&c->model, path, e)) return -1;
    (void)read_tokenizer(c, &c->no_tokenizer);
    c->pool = pool_new(threads, e);
    return c->pool ? 0 : -1;
}

/* Only its tokenizer: weights, where there are any, are not looked at. */
static int vocabulary_open(struct checkpoint *c, const char *path, struct error *e) {
    if (gguf_open(&c->model.file, path, e)) return -1;
    return read_tokenizer(c, e) ? fail_in(e, path) : 0;
}

static int need_tokenizer(const struct checkpoint *c, const char *path, struct error *e) {
    if (c->tokenizer) return 0;
    return fail(e, "%s: takes token ids only: %s", path, c->no_tokenizer.text);
}

static void checkpoint_close(struct checkpoint *c) {
    tokenizer_free(c->tokenizer);
    free(c->piece);
    free(c->merge);
    free(c->score);
    free(c->kind);
    free(c->added);
    free(c->normalised);
    pool_free(c->pool);
    model_close(&c->model);
}

/* ---- NumPy's arrays ----------------------------------------------------------------------------
 *
 * The .npy format, versions 1 to 3: a Python dict that says type and shape, then the numbers.
 * Integers are read, activations are written.
 */
struct npy {
    bool is_signed;
    unsigned size; /* bytes of a number */
    uint64_t n;    /* numbers that the shape has; 0 where they are too many, too */
    size_t start;  /* of the numbers in the file */
};

/* Whether the text goes on with a word, which is passed over, and blanks after it. */
static bool skip(const char **text, const char *word) {
    if (strncmp(*text, word, strlen(word)) != 0) return false;
    *text += strlen(word);
    *text += strspn(*text, " ");
    return true;
}

static bool skip_key(const char **text, const char *key) {
    return skip(text, key) && skip(text, ":");
}

/* "'<i4'", for example. */
static bool parse_type(const char **text, struct npy *a) {
    const char *s = *text;
    if (strlen(s) < 5 || s[0] != '\'' || !strchr("<|=", s[1]) || !strchr("iu", s[2]) ||
        !strchr("1248", s[3]))
        return false;
    a->is_signed = s[2] == 'i';
    a->size = (unsigned)(s[3] - '0');
    *text += 4;
    return skip(text, "'");
}

/* "(2, 3)", for example. */
static bool parse_shape(const char **text, struct npy *a) {
    if (!skip(text, "(")) return false;
    for (a->n = 1; !skip(text, ")");) {
        const struct span digits = {*text, strspn(*text, "0123456789")};
        uint64_t dim;
        if (!parse_number(digits, INT64_MAX, &dim)) return false;
        a->n = dim && a->n <= INT64_MAX / dim ? a->n * dim : 0;
        *text += digits.n + strspn(*text + digits.n, " ");
        if (!skip(text, ",") && **text != ')') return false;
    }
    return true;
}

/* "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }": keys in any order, each once. */
static bool parse_header(const char *text, struct npy *a) {
    bool type = false, order = false, shape = false, more = skip(&text, "{");
    while (more)
        more = ((!type && skip_key(&text, "'descr'") && (type = parse_type(&text, a))) ||
                (!order && skip_key(&text, "'fortran_order'") && (order = skip(&text, "False"))) ||
                (!shape && skip_key(&text, "'shape'") && (shape = parse_shape(&text, a)))) &&
               skip(&text, ",");
    return type && order && shape && skip(&text, "}") && (!*text || !strcmp(text, "\n"));
}

static int npy_parse(struct npy *a, struct span file, struct error *e) {
    char text[1 << 12];
    if (file.n < 12 || memcmp(file.at, "\x93NUMPY", 6) != 0 || file.at[6] < 1 || file.at[6] > 3)
        return fail(e, "not a .npy file of version 1, 2 or 3");
    const size_t before = file.at[6] == 1 ? 10 : 12;
    const size_t header = before == 10 ? get_u32(file.at + 8) & 0xffff : get_u32(file.at + 8);
    if (header > file.n - before || header >= sizeof text)
        return fail(e, "the .npy header is cut short");
    memcpy(text, file.at + before, header);
    text[header] = '\0';
    if (!parse_header(text, a))
        return fail(e, "token ids are little-endian integers in C order, these are not");
    a->start = before + header;
    const size_t bytes = file.n - a->start;
    if (bytes / a->size != a->n || bytes % a->size)
        return fail(e, "the .npy file is not as long as its shape says");
    return bytes ? 0 : fail(e, "the .npy file holds no numbers");
}

static void npy_write(FILE *to, const real *v, const uint64_t *dim, int dims) {
    char header[118]; /* with what stands before it, 128 bytes */
    uint64_t n = 1;
    int used = snprintf(header, sizeof header,
                        "{'descr': '<f%d', 'fortran_order': False, 'shape': (", (int)sizeof *v);
    for (int i = 0; i < dims; n *= dim[i++])
        used += snprintf(header + used, sizeof header - used, "%llu, ", (ull)dim[i]);
    snprintf(header + used, sizeof header - used, "), }");
    fwrite("\x93NUMPY\1", 1, 8, to); /* and the string's 0: version 1.0 */
    write_little(to, sizeof header, 2);
    fprintf(to, "%-117s\n", header);
    for (uint64_t i = 0; i < n; i++) {
        real_bits bits;
        memcpy(&bits, &v[i], sizeof bits);
        write_little(to, bits, sizeof bits);
    }
}

/* ---- Corpora -----------------------------------------------------------------------------------
 *
 * A file is one text: encoded as a whole, cut into pieces of equal length, the ragged end dropped,
 * as the released code does. Or it holds ids already: .npy of any integer type, or raw .bin. It is
 * read bit by bit, so that its size does not matter.
 */
struct corpus {
    char label[LABEL_SIZE];
    const char *path; /* "-" is standard input */
    FILE *file;
    struct encoder *encoder; /* NULL: the file holds ids, integers of so many bytes */
    unsigned id_size;
    bool id_signed;
    int vocab;
    uint64_t limit, taken; /* ids to take at most, and taken so far */
    uint64_t size, place;  /* bytes of the file, 0 when not known, and of them read */
    struct buffer bytes;   /* read, and not ids yet */
    struct buffer ids;     /* int32_t, of which the first `used` have been taken */
    size_t used;
    uint64_t numbers; /* ids that the file has held so far */
    uint64_t digest;  /* of the pieces' ids */
    size_t pieces;    /* taken, those of other shards too */
    bool ended;
};

static size_t ids_in(const struct buffer *b) { return b->n / sizeof(int32_t); }

static void add_id(struct buffer *b, int32_t id) { buffer_add(b, &id, sizeof id); }

/* n >= 0 as "%d" has it: with printf, a third of the time would go into printing. */
static void add_number(struct buffer *text, int32_t n) {
    char digits[10], *at = digits + sizeof digits;
    do *--at = (char)('0' + n % 10);
    while (n /= 10);
    buffer_add(text, at, (size_t)(digits + sizeof digits - at));
}

/* n ids with spaces between. */
static void put_ids(const int32_t *ids, size_t n, FILE *to) {
    struct buffer text = {0};
    for (size_t i = 0; i < n; i++) {
        if (i) buffer_add(&text, " ", 1);
        add_number(&text, ids[i]);
    }
    if (text.n) fwrite(text.at, 1, text.n, to);
    free(text.at);
}

static void drop_front(struct buffer *b, size_t n) {
    if (n == 0) return; /* there may be no bytes at all */
    memmove(b->at, (char *)b->at + n, b->n - n);
    b->n -= n;
}

static bool ends_with(const char *s, const char *end) {
    return strlen(s) >= strlen(end) && strcmp(s + strlen(s) - strlen(end), end) == 0;
}

/* Whether the file holds ids, of which type, and from which byte on. */
static int open_ids(struct corpus *c, long *start, struct error *e) {
    struct span file;
    struct npy a;
    if (ends_with(c->path, ".bin")) c->id_size = c->vocab <= 1 << 16 ? 2 : 4;
    if (!ends_with(c->path, ".npy")) return 0;
    if (map_file(c->path, &file, e)) return -1;
    int bad = npy_parse(&a, file, e);
    munmap((void *)file.at, file.n);
    if (bad) return fail_in(e, c->path);
    c->id_size = a.size;
    c->id_signed = a.is_signed;
    *start = (long)a.start;
    return 0;
}

static int corpus_open(struct corpus *c, const struct checkpoint *m, uint64_t limit,
                       struct error *e) {
    const bool input = strcmp(c->path, "-") == 0;
    struct stat st;
    long start = 0;
    c->limit = limit;
    c->vocab = m->model.config.vocab;
    if (open_ids(c, &start, e)) return -1;
    if (!c->id_size && !m->tokenizer)
        return fail(e, "%s: is text, and the model takes token ids only, as .npy or .bin: %s",
                    c->path, m->no_tokenizer.text);
    if (!c->id_size) c->encoder = encoder_new(m->tokenizer);
    c->file = input ? stdin : fopen(c->path, "rb");
    if (!c->file || (start && fseek(c->file, start, SEEK_SET)))
        return fail(e, "%s: cannot open: %s", c->path, strerror(errno));
    if (fstat(fileno(c->file), &st) == 0 && S_ISREG(st.st_mode)) c->size = (uint64_t)st.st_size;
    return 0;
}

static void corpus_close(struct corpus *c) {
    if (c->file && c->file != stdin) fclose(c->file);
    encoder_free(c->encoder);
    free(c->bytes.at);
    free(c->ids.at);
}

/* The bytes at hand, little-endian integers, as ids. */
static int take_integers(struct corpus *c, bool last, struct error *e) {
    const char *at = c->bytes.at;
    const size_t size = c->id_size, n = c->bytes.n / size;
    for (size_t i = 0; i < n; i++) {
        uint64_t v = 0, sign = (uint64_t)1 << (8 * size - 1);
        for (size_t b = 0; b < size; b++) v |= (uint64_t)(uint8_t)at[i * size + b] << 8 * b;
        bool negative = c->id_signed && (v & sign);
        if (negative || v >= (uint64_t)c->vocab)
            return fail(e, "id %s%llu at place %llu is outside the vocabulary of %d",
                        negative ? "-" : "", (ull)(negative ? 2 * sign - v : v), (ull)c->numbers,
                        c->vocab);
        add_id(&c->ids, (int32_t)v);
        c->numbers++;
    }
    drop_front(&c->bytes, n * size);
    if (last && c->bytes.n) return fail(e, "the file ends inside a %zu-byte id", size);
    return 0;
}

/* Reads a megabyte, or, where so much text has no place to be cut yet, as much again. */
static int read_more(struct corpus *c, bool *last, struct error *e) {
    char block[1 << 16];
    size_t more = c->bytes.n > 1 << 20 ? c->bytes.n : 1 << 20, n = 1;
    for (; more && n; more -= least(more, n)) {
        n = fread(block, 1, least(sizeof block, more), c->file);
        buffer_add(&c->bytes, block, n);
        c->place += n;
    }
    *last = n == 0;
    return ferror(c->file) ? fail(e, "cannot read: %s", strerror(errno)) : 0;
}

/* Sees to it that n ids, or all that are left, can be taken. */
static int corpus_fill(struct corpus *c, size_t n, struct error *e) {
    while (!c->ended && ids_in(&c->ids) - c->used < n) {
        size_t used;
        bool last;
        drop_front(&c->ids, c->used * sizeof(int32_t));
        c->used = 0;
        int bad = read_more(c, &last, e);
        if (!bad && c->encoder) {
            const struct span text = {c->bytes.at, c->bytes.n};
            if (c->numbers == 0 && text.n > 3 && !memcmp(text.at, "PK\3\4", 4))
                bad = fail(e, "an archive, as torch.save makes it, is no text; token ids are read "
                              "from .npy, which numpy.save(PATH, torch.load(FILE)) makes");
            else
                bad = encode_part(c->encoder, text, last, &c->ids, &used, e);
            c->numbers = ids_in(&c->ids);
            if (!bad) drop_front(&c->bytes, used);
        } else if (!bad) {
            bad = take_integers(c, last, e);
        }
        if (bad) return fail_in(e, c->path);
        c->ended = last || ids_in(&c->ids) >= c->limit - c->taken;
        if (ids_in(&c->ids) > c->limit - c->taken)
            c->ids.n = (size_t)(c->limit - c->taken) * sizeof(int32_t);
    }
    return 0;
}

/* The next `length` ids, NULL when there are not so many, or on an error, which *bad tells. */
static const int32_t *take_piece(struct corpus *c, size_t length, int *bad, struct error *e) {
    if ((*bad = corpus_fill(c, length, e)) || ids_in(&c->ids) - c->used < length) return NULL;
    const int32_t *piece = (int32_t *)c->ids.at + c->used;
    for (size_t i = 0; i < length; i++) c->digest = digest_on(c->digest, (uint32_t)piece[i]);
    c->used += length;
    c->taken += length;
    c->pieces++;
    return piece;
}

/* What part of the corpus has been read, from 0 to 1; -1 when that cannot be known. */
static double corpus_done(const struct corpus *c) {
    const double bytes = c->size ? (double)c->place / (double)c->size : -1;
    const double ids = c->limit < UINT64_MAX ? (double)c->taken / (double)c->limit : -1;
    return c->ended ? 1 : bytes > ids ? bytes : ids;
}

/* ---- Pushing pieces through the model ----------------------------------------------------------
 *
 * While the model works on a batch, a thread of its own reads and encodes the next.
 */
struct shard {
    size_t first, step; /* pieces first, first + step, ... */
};

struct feed {
    const struct checkpoint *m;
    struct run *run;
    int length;                /* tokens in a piece, with the BOS if there is one */
    int batch;                 /* pieces at once */
    bool bos;                  /* every piece begins with it */
    int32_t *tokens, *next;    /* [batch, length] at hand, and being read */
    struct sequence *sequence; /* [batch] */
    struct corpus *corpus;     /* that is read from */
    struct shard shard;
    pthread_t thread; /* runs when `reading` */
    bool reading;
    int read, bad; /* pieces in `next`, and whether its reading failed, with which error */
    struct error error;
};

static int feed_new(struct feed *f, const struct checkpoint *m, int length, int batch, bool bos,
                    struct error *e) {
    const size_t most = (size_t)batch * length;
    *f = (struct feed){.m = m, .length = length, .batch = batch, .bos = bos};
    if (most > INT_MAX)
        return fail(e, "%d pieces of %d tokens are too many at once", batch, length);
    f->tokens = new_array(most, sizeof *f->tokens);
    f->next = new_array(most, sizeof *f->next);
    f->sequence = new_array(batch, sizeof *f->sequence);
    f->run = run_new(&m->model, m->pool, (int)most, (int)most, false, e);
    return f->run ? 0 : -1;
}

static void feed_free(struct feed *f) {
    if (f->reading) pthread_join(f->thread, NULL);
    run_free(f->run);
    free(f->tokens);
    free(f->next);
    free(f->sequence);
}

/* The shard's next piece, its BOS before it. 1 when there is one, 0 at the end, -1 on an error. */
static int next_piece(struct feed *f, int32_t *to, struct error *e) {
    const size_t length = f->length - f->bos; /* the corpus's part of a piece */
    struct corpus *c = f->corpus;
    for (;;) {
        int bad;
        const size_t number = c->pieces;
        const int32_t *piece = take_piece(c, length, &bad, e);
        if (!piece) return bad ? -1 : 0;
        if (number % f->shard.step != f->shard.first) continue;
        to[0] = f->m->bos;
        memcpy(to + f->bos, piece, length * sizeof *to);
        return 1;
    }
}

static void *read_batch(void *feed) {
    struct feed *f = feed;
    int got = 1;
    for (f->read = 0; f->read < f->batch; f->read++)
        if ((got = next_piece(f, f->next + (size_t)f->read * f->length, &f->error)) <= 0) break;
    f->bad = got < 0;
    return NULL;
}

static void read_ahead(struct feed *f) {
    f->reading = pthread_create(&f->thread, NULL, read_batch, f) == 0;
    if (!f->reading) read_batch(f);
}

static void feed_start(struct feed *f, struct corpus *c, struct shard s) {
    f->corpus = c;
    f->shard = s;
    read_ahead(f);
}

/* How many pieces are in f->tokens now: 0 at the end, -1 on an error. *done is then what part of
 * the corpus was read. */
static int feed_next(struct feed *f, double *done, struct error *e) {
    int32_t *tokens = f->next;
    if (f->reading) pthread_join(f->thread, NULL);
    f->reading = false;
    *done = corpus_done(f->corpus);
    if (f->bad) *e = f->error;
    if (f->bad) return -1;
    const int n = f->read;
    f->next = f->tokens;
    f->tokens = tokens;
    for (int i = 0; i < n; i++)
        f->sequence[i] =
            (struct sequence){tokens + (size_t)i * f->length, f->length, 0, i * f->length};
    if (n) read_ahead(f);
    return n;
}

static void say_ragged(const struct feed *f, uint64_t pieces) {
    const struct corpus *c = f->corpus;
    fprintf(stderr, "%s%s: %llu tokens in %llu pieces, %zu in the ragged end left out\n",
            isatty(STDERR_FILENO) ? "\r\033[K" : "", c->label, (ull)pieces * f->length, (ull)pieces,
            ids_in(&c->ids) - c->used);
}

/* ---- Progress -------------------------------------------------------------------------------- */

struct progress {
    bool quiet, terminal;
    double start, shown, saved; /* seconds: begun, shown last, saved last */
    double tokens;
    double before, weight, all; /* parts of the work: done, of the corpus at hand, of all of it */
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* What a corpus weighs: its bytes, or as much as any other when only some of its ids are taken. */
static double weight(const struct corpus *c) { return c->limit < UINT64_MAX ? 1 : (double)c->size; }

static void progress_start(struct progress *p, const struct corpus *c, int corpora, bool quiet) {
    *p = (struct progress){.quiet = quiet, .terminal = isatty(STDERR_FILENO)};
    p->start = p->shown = p->saved = now();
    for (int k = 0; k < corpora; k++) p->all += weight(&c[k]);
}

static void progress_corpus(struct progress *p, const struct corpus *c) {
    p->before += p->weight;
    p->weight = weight(c);
}

/* On a terminal a line that is rewritten, elsewhere a line now and then. `done` of the corpus, from
 * 0 to 1. */
static void progress_add(struct progress *p, const char *what, double tokens, double done) {
    const double t = now(), spent = t - p->start;
    p->tokens += tokens;
    if (p->quiet || t - p->shown < (p->terminal ? 0.2 : 30)) return;
    const double part = (p->before + p->weight * done) / p->all;
    p->shown = t;
    fprintf(stderr, "%s%s: %.0f tokens, %.0f tokens/s", p->terminal ? "\r\033[K" : "", what,
            p->tokens, p->tokens / spent);
    if (part > 0 && done >= 0)
        fprintf(stderr, ", %.0f %%, %.0f s left", 100 * part, spent / part * (1 - part));
    if (!p->terminal) fputc('\n', stderr);
}

static void progress_end(const struct progress *p) {
    const double spent = now() - p->start;
    if (!p->quiet)
        fprintf(stderr, "%s%.0f tokens in %.1f s, %.0f tokens/s\n", p->terminal ? "\r\033[K" : "",
                p->tokens, spent, spent > 0 ? p->tokens / spent : 0);
}

/* ---- Perplexity ------------------------------------------------------------------------------ */

enum { LOGIT_NUMBERS = 1 << 22 }; /* logits held at once: 16 MB */

struct evaluation {
    struct feed feed;
    int rows;        /* of logits at once */
    real *logits;    /* [rows, a slice of V] */
    int32_t *target; /* [tokens of a batch] */
    double *loss;    /* [tokens of a batch] nats */
    struct progress progress;
};

static int evaluation_new(struct evaluation *v, const struct checkpoint *m, int length, int batch,
                          bool bos, struct error *e) {
    const size_t tokens = (size_t)length * batch, slice = least(m->model.config.vocab, SLICE);
    if (feed_new(&v->feed, m, length, batch, bos, e)) return -1;
    v->rows = (int)least(tokens, LOGIT_NUMBERS / slice);
    v->logits = new_array((size_t)v->rows * slice, sizeof *v->logits);
    v->target = new_array(tokens, sizeof *v->target);
    v->loss = new_array(tokens, sizeof *v->loss);
    return 0;
}

static void evaluation_free(struct evaluation *v) {
    feed_free(&v->feed);
    free(v->logits);
    free(v->target);
    free(v->loss);
}

/* Adds the mean losses of the n pieces that were pushed through last. */
static int piece_losses(struct evaluation *v, int n, double *sum, struct error *e) {
    const struct feed *f = &v->feed;
    const int tokens = n * f->length;
    for (int first = 0; first < tokens; first += v->rows) {
        const int rows = (int)least(tokens - first, v->rows);
        for (int t = first; t < first + rows; t++) /* a piece's last token predicts nothing */
            v->target[t] = (t + 1) % f->length ? f->tokens[t + 1] : -1;
        if (losses(f->run, first, rows, v->target + first, v->logits, v->loss + first, e))
            return -1;
    }
    for (int i = 0; i < n; i++) {
        double piece = 0;
        for (int t = i * f->length; t < (i + 1) * f->length - 1; t++) piece += v->loss[t];
        *sum += piece / (f->length - 1);
    }
    return 0;
}

/* sum[r] += the losses of a corpus's pieces under the edits of row r; edits that have no `first`
 * change nothing. How many pieces, in *pieces. */
static int sum_losses(struct evaluation *v, struct corpus *c, struct edits *row, int rows,
                      bool quiet, double *sum, uint64_t *pieces, struct error *e) {
    double done, before = 0; /* of the corpus, before the batch at hand and after it */
    int n;
    progress_corpus(&v->progress, c);
    feed_start(&v->feed, c, (struct shard){0, 1});
    for (*pieces = 0; (n = feed_next(&v->feed, &done, e)) > 0; *pieces += n, before = done)
        for (int r = 0; r < rows; r++) {
            const struct hook hook = {edit_neurons, &row[r]};
            if (forward(v->feed.run, v->feed.sequence, n, row[r].first ? &hook : NULL, e) ||
                piece_losses(v, n, &sum[r], e))
                return fail_in(e, c->path);
            progress_add(&v->progress, c->label, (double)n * v->feed.length,
                         done < 0 ? done : before + (done - before) * (r + 1) / rows);
        }
    if (n == 0 && !quiet) say_ragged(&v->feed, *pieces);
    return n;
}

/* ---- Generation ------------------------------------------------------------------------------ */

struct sampling {
    int tokens;         /* at most, after the prompt */
    double temperature; /* 0: always the likeliest */
    double top_p;       /* of the likeliest tokens that together reach it */
    double repeat;      /* the logit of a token seen before is divided by it when positive, else
                           multiplied (Keskar et al., 2019) */
    uint64_t seed;
};

struct token_weight {
    double weight;
    int32_t id;
};

/* One prompt, and what follows it. */
struct continuation {
    struct span asked; /* the prompt as it came, on which line */
    size_t line;
    struct buffer ids;   /* int32_t: the prompt's, then the generated */
    size_t prompt;       /* ids of the prompt */
    struct buffer text;  /* of all ids */
    size_t prompt_bytes; /* of the text */
    bool *seen;          /* [V] ids that are there; its group's */
    uint64_t random;
    int row; /* of the cache, its first */
    bool ended;
};

struct generation {
    const struct checkpoint *m;
    const struct sampling *s;
    const struct hook *hook;
    bool quiet;
    FILE *stream;                /* text goes there as it comes; NULL: nowhere */
    struct continuation *of;     /* [n] */
    size_t n, line;              /* line: of the prompt at hand, for messages */
    struct token_weight *weight; /* [V] */
};

static void generation_new(struct generation *g, const struct checkpoint *m,
                           const struct sampling *s, const struct hook *hook) {
    *g = (struct generation){.m = m, .s = s, .hook = hook};
    g->weight = new_array(m->model.config.vocab, sizeof *g->weight);
}

static void generation_free(struct generation *g) {
    for (size_t i = 0; i < g->n; i++) {
        free(g->of[i].ids.at);
        free(g->of[i].text.at);
    }
    free(g->of);
    free(g->weight);
}

static int by_weight(const void *a, const void *b) {
    const struct token_weight *x = a, *y = b;
    if (x->weight != y->weight) return x->weight > y->weight ? -1 : 1;
    return x->id - y->id;
}

static int32_t likeliest(const real *logits, int vocab) {
    int32_t best = 0;
    for (int32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* Softmax at a temperature, cut to its nucleus (Holtzman et al., 2020), and a draw from it. */
static int32_t draw(const struct generation *g, uint64_t *random, const real *logits) {
    const int V = g->m->model.config.vocab;
    const double most = logits[likeliest(logits, V)];
    double sum = 0, nucleus = 0, at = 0;
    int n = 0;
    for (int32_t i = 0; i < V; i++) {
        double weight = exp64((logits[i] - most) / g->s->temperature);
        g->weight[i] = (struct token_weight){weight, i};
        sum += weight;
    }
    qsort(g->weight, V, sizeof *g->weight, by_weight);
    do nucleus += g->weight[n++].weight;
    while (n < V && nucleus < g->s->top_p * sum);
    const double stop = random_fraction(random) * nucleus;
    for (int i = 0; i < n; i++)
        if ((at += g->weight[i].weight) > stop) return g->weight[i].id;
    return g->weight[n - 1].id;
}

/* Bytes that are no character, which a model may well produce, become U+FFFD; in the cell of a
 * table, tabs, line ends and backslashes are escaped as in C. */
static void print_characters(struct span s, bool cell, FILE *to) {
    static const char special[] = "\t\n\r\\", letter[] = "tnr\\";
    uint32_t code;
    for (size_t n; s.n; s.at += n, s.n -= n) {
        const char *at = cell && *s.at ? strchr(special, *s.at) : NULL;
        n = character(s, &code);
        if (at)
            fprintf(to, "\\%c", letter[at - special]);
        else
            fwrite(n ? s.at : "\xef\xbf\xbd", 1, n ? n : 3, to);
        n += n == 0;
    }
}

/* Decodes what there is; prints the whole characters that are new. */
static int show_text(struct generation *g, struct continuation *c, bool last, struct error *e) {
    const size_t shown = whole_characters((struct span){c->text.at, c->text.n});
    c->text.n = 0;
    if (decode(g->m->tokenizer, c->ids.at, ids_in(&c->ids), &c->text, e)) return -1;
    const struct span text = {c->text.at, c->text.n};
    const size_t n = last ? text.n : whole_characters(text);
    if (g->stream && n > shown) {
        print_characters((struct span){text.at + shown, n - shown}, false, g->stream);
        fflush(g->stream);
    }
    return 0;
}

/* Adds a prompt; its line is for messages. */
static int add_prompt(struct generation *g, struct span prompt, size_t line, struct error *e) {
    const struct checkpoint *m = g->m;
    g->of = grow_array(g->of, g->n + 1, sizeof *g->of);
    struct continuation *c = &g->of[g->n++];
    *c = (struct continuation){.asked = prompt, .line = line, .random = g->s->seed};
    if (m->add_bos && m->bos >= 0) add_id(&c->ids, m->bos);
    if (encode(m->tokenizer, prompt, &c->ids, e)) return -1;
    c->prompt = ids_in(&c->ids);
    if (c->prompt == 0)
        return fail(e, "an empty prompt, and no begin-of-sequence token to start from");
    if (c->prompt > (size_t)INT_MAX - g->s->tokens)
        return fail(e, "a prompt of %zu tokens is too long", c->prompt);
    const int bad = show_text(g, c, false, e);
    c->prompt_bytes = c->text.n;
    return bad;
}

/* Ends behind the last position that the model knows. */
static int end_at_context(struct generation *g, struct continuation *c, struct error *e) {
    const struct model *m = &g->m->model;
    const size_t n = ids_in(&c->ids);
    if (c->ended || !m->positions.at || n <= (size_t)m->config.context) return 0;
    if (!g->quiet && g->stream)
        fprintf(stderr, "lape: stopped after %zu tokens: the model has learned %d positions\n",
                n - c->prompt, m->config.context);
    else if (!g->quiet)
        fprintf(stderr,
                "lape: line %zu: stopped after %zu tokens: the model has learned %d positions\n",
                c->line, n - c->prompt, m->config.context);
    c->ended = true;
    return show_text(g, c, true, e);
}

/* Picks the next token by its logits. A sequence ends after the tokens asked for, and at the
 * end-of-sequence token. */
static int next_token(struct generation *g, struct continuation *c, real *logits, struct error *e) {
    const int V = g->m->model.config.vocab;
    const real repeat = (real)g->s->repeat;
    for (int i = 0; i < V; i++)
        if (!isfinite(logits[i])) return fail(e, "the model's logits are not numbers, or infinite");
    for (int i = 0; i < V && repeat != 1; i++)
        if (c->seen[i]) logits[i] = logits[i] > 0 ? logits[i] / repeat : logits[i] * repeat;
    const int32_t id = g->s->temperature > 0 ? draw(g, &c->random, logits) : likeliest(logits, V);
    c->ended = id == g->m->eos;
    if (!c->ended) {
        add_id(&c->ids, id);
        c->seen[id] = true;
        c->ended = ids_in(&c->ids) - c->prompt == (size_t)g->s->tokens;
    }
    return show_text(g, c, false, e) || (c->ended && show_text(g, c, true, e)) ||
           end_at_context(g, c, e);
}

/* Prompts that go on together: the weights are read once for all of them. */
struct group {
    struct run *run;
    int room;                /* tokens at once */
    struct continuation *of; /* [n] */
    int n;
    struct sequence *s; /* [n] */
    real *logits;       /* [n, V] */
};

enum { GROUP = 64, GROUP_ROWS = 4096, GROUP_ROOM = 1024 };

/* As many of the prompts from c on as have GROUP_ROWS rows of the cache together, or one. */
static int group_new(struct group *u, struct generation *g, struct continuation *c, size_t most,
                     struct error *e) {
    const int V = g->m->model.config.vocab;
    int64_t rows = 0;
    int room = GROUP_ROOM;
    *u = (struct group){.of = c};
    for (; (size_t)u->n < most && u->n < GROUP; u->n++, c++) {
        const int64_t more = (int64_t)c->prompt + g->s->tokens;
        if (u->n && rows + more > GROUP_ROWS) break;
        c->row = (int)rows;
        rows += more;
        if ((int)c->prompt > room) room = (int)c->prompt;
        c->seen = new_array(V, sizeof *c->seen);
        for (size_t i = 0; i < c->prompt; i++) c->seen[((int32_t *)c->ids.at)[i]] = true;
    }
    u->room = (int)least(room, rows);
    u->s = new_array(u->n, sizeof *u->s);
    u->logits = new_array(u->n, V * sizeof *u->logits);
    u->run = run_new(&g->m->model, g->m->pool, u->room, (int)rows, true, e);
    return u->run ? 0 : -1;
}

static void group_free(struct group *u) {
    for (int i = 0; i < u->n; i++) free(u->of[i].seen);
    free(u->s);
    free(u->logits);
    run_free(u->run);
}

/* What stands before the last tokens of the prompts, as many at once as there is room for. */
static int push_prompts(struct generation *g, struct group *u, struct error *e) {
    for (int i = 0; i < u->n;) {
        int n = 0, tokens = 0;
        for (; i < u->n && tokens + (int)u->of[i].prompt <= u->room; i++) {
            const struct continuation *c = &u->of[i];
            if (c->ended || c->prompt == 1) continue;
            u->s[n++] = (struct sequence){c->ids.at, (int)c->prompt - 1, 0, c->row};
            tokens += (int)c->prompt;
        }
        if (n && forward(u->run, u->s, n, g->hook, e)) return -1;
    }
    return 0;
}

/* The last tokens of all that go on. Returns how many these are. */
static int push_last(struct generation *g, struct group *u, struct error *e) {
    int n = 0;
    for (int i = 0; i < u->n; i++) {
        const struct continuation *c = &u->of[i];
        const int past = (int)ids_in(&c->ids) - 1;
        if (!c->ended) u->s[n++] = (struct sequence){(int32_t *)c->ids.at + past, 1, past, c->row};
    }
    if (n && forward(u->run, u->s, n, g->hook, e)) return -1;
    if (n) logits(u->run, 0, n, u->logits, g->hook);
    return n;
}

static int continue_group(struct generation *g, struct group *u, struct error *e) {
    int n;
    for (int i = 0; i < u->n; i++)
        if (end_at_context(g, &u->of[i], e)) return -1;
    if (push_prompts(g, u, e)) return -1;
    while ((n = push_last(g, u, e)) > 0) {
        real *logits = u->logits;
        for (int i = 0; i < u->n; i++) {
            if (u->of[i].ended) continue;
            g->line = u->of[i].line;
            if (next_token(g, &u->of[i], logits, e)) return -1;
            logits += g->m->model.config.vocab;
        }
    }
    return n;
}

/* Continues some of the prompts from number `from` on. Returns how many, or -1. */
static int generate(struct generation *g, size_t from, struct error *e) {
    struct group u;
    g->line = g->of[from].line;
    int n = group_new(&u, g, &g->of[from], g->n - from, e);
    if (n == 0) n = continue_group(g, &u, e);
    group_free(&u);
    return n < 0 ? n : u.n;
}

/* ---- Command line ------------------------------------------------------------------------------
 *
 * Every command is a function over the options; a table says which it takes. What a command opens
 * is kept in struct work, and freed by main().
 */
struct options {
    const char *word[256]; /* what is no option: files and LANG=FILE; as many as commands take */
    int words;
    const char *output, *neurons, *counts, *off, *on, *prompt, *prompts, *languages, *like;
    const char *how, *method, *shard, *at;
    double top, filter, bar, near, strength, temperature, top_p, repeat, save_every, penalty;
    uint64_t threads, length, tokens, batch, new_tokens, seed, layer, memory;
    bool quiet, help, bos, resume, decode, lines, any_model;
};

struct work {
    struct checkpoint m;
    struct corpus *corpus;
    int corpora;
    struct counts counts, others;
    struct neurons neurons;
    struct edits edits;
    struct feed feed;
    struct evaluation evaluation;
    struct generation generation;
    struct output output;
    struct span file; /* mapped */
    struct buffer text;
};

static void work_free(struct work *w) {
    counts_free(&w->counts);
    counts_free(&w->others);
    neurons_free(&w->neurons);
    edits_free(&w->edits);
    feed_free(&w->feed);
    evaluation_free(&w->evaluation);
    for (int k = 0; k < w->corpora; k++) corpus_close(&w->corpus[k]);
    free(w->corpus);
    generation_free(&w->generation);
    output_discard(&w->output);
    if (w->file.at) munmap((void *)w->file.at, w->file.n);
    free(w->text.at);
    checkpoint_close(&w->m);
}

enum { DONE = 0, FAILED = -1, USAGE = -2 }; /* what commands return; exit statuses 0, 1, 2 */

static int usage(struct error *e, const char *what, const char *which) {
    fail(e, "%s%s", what, which);
    return USAGE;
}

/* Which of n names an option's word is. */
static int parse_name(const char *option, const char *word, const char *const *name, int n, int *to,
                      struct error *e) {
    char names[256] = "";
    for (int i = 0; i < n; i++) {
        *to = i;
        if (word && strcmp(word, name[i]) == 0) return DONE;
        strcat(strcat(names, " "), name[i]);
    }
    fail(e, "%s is one of:%s; not %s", option, names, word ? word : "given");
    return USAGE;
}

/* --bos needs such a token. */
static int check_bos(const struct checkpoint *m, const struct options *o, struct error *e) {
    if (!o->bos || m->bos >= 0) return 0;
    return fail(e, "--bos: the model has no begin-of-sequence token");
}

/* The label and the file of LANG=FILE. */
static int split_word(const char *word, char label[LABEL_SIZE], const char **file,
                      struct error *e) {
    const char *equals = strchr(word, '=');
    if (!equals || !equals[1] || !set_label(label, (struct span){word, (size_t)(equals - word)}))
        return usage(
            e,
            "LANG=FILE is wanted, LANG of 1 to 24 letters, digits, _ or -, not none or -: ", word);
    *file = equals + 1;
    return DONE;
}

/* Bytes that are free: what Linux says, or half of all. */
static uint64_t free_memory(void) {
    char line[128];
    ull kilobytes = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && !kilobytes && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %llu", &kilobytes) != 1) kilobytes = 0;
    if (file) fclose(file);
    if (kilobytes) return kilobytes << 10;
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
}

static uint64_t matrix_bytes(const struct matrix *m) { return (uint64_t)m->rows * m->row_bytes; }

/* How many pieces at once: 512 tokens a thread where that and all weights fit into memory. Where
 * they do not, weights come layer by layer, for as many tokens as there is room for besides two
 * layers, the embedding and the output. */
static void fit_memory(struct work *w, struct options *o) {
    struct model *m = &w->m.model;
    const uint64_t memory = o->memory ? o->memory : free_memory() / 4 * 3;
    const uint64_t most = (1 << 16) / o->length ? (1 << 16) / o->length : 1;
    const uint64_t few = least(o->threads * 512 / o->length, most);
    uint64_t batch = o->batch ? o->batch : few ? few : 1, left = memory, bytes = 0;
    for (size_t i = 0; i < m->file.tensors; i++) bytes += m->file.tensor[i].data.n;
    const int n = (int)least(batch * o->length, INT_MAX), two = (int)o->length * 2;
    m->stream = bytes + run_bytes(m, w->m.pool, n, n, false) > memory;
    if (m->stream && !o->batch) {
        const uint64_t weights = 2 * largest_layer(m) + matrix_bytes(&m->embedding) +
                                 (m->output.at == m->embedding.at ? 0 : matrix_bytes(&m->output));
        const uint64_t one = run_bytes(m, w->m.pool, two / 2, two / 2, false);
        const uint64_t each = run_bytes(m, w->m.pool, two, two, false) - one;
        left = memory > weights + one ? memory - weights - one : 0;
        batch = least(1 + left / each, most);
    }
    if (m->stream && !o->quiet)
        fprintf(
            stderr,
            "lape: weights of %llu MB do not fit into %llu MB (--memory): they are read layer by "
            "layer, for %llu tokens at once\n",
            (ull)bytes >> 20, (ull)memory >> 20, (ull)(batch * o->length));
    o->batch = batch;
}

/* The model, and every LANG=FILE after it. */
static int open_corpora(struct work *w, struct options *o, struct error *e) {
    w->corpora = o->words - 1;
    w->corpus = new_array(w->corpora, sizeof *w->corpus);
    for (int k = 0; k < w->corpora; k++) {
        const char *word = o->word[k + 1];
        struct corpus *c = &w->corpus[k];
        if (split_word(word, c->label, &c->path, e)) return USAGE;
        for (int j = 0; j < k; j++)
            if (strcmp(w->corpus[j].label, c->label) == 0)
                return usage(e, "a language is named twice: ", word);
            else if (strcmp(c->path, "-") == 0 && strcmp(w->corpus[j].path, "-") == 0)
                return usage(e, "standard input is one text, and is named twice: ", word);
    }
    if (!w->corpora) return usage(e, "no corpus is given: LANG=FILE", "");
    if (checkpoint_open(&w->m, o->word[0], (int)o->threads, e)) return FAILED;
    const int context = w->m.model.config.context;
    if (!o->length) o->length = least(context, 4096);
    if (o->length < 2) return fail(e, "--seq: a piece needs two tokens at least");
    fit_memory(w, o);
    if (check_bos(&w->m, o, e)) return FAILED;
    if (!o->quiet && o->length > (uint64_t)context)
        fprintf(stderr, "lape: pieces of %llu tokens are longer than the model's context of %d\n",
                (ull)o->length, context);
    for (int k = 0; k < w->corpora; k++) {
        struct corpus *c = &w->corpus[k];
        const size_t length = o->length - o->bos;
        if (corpus_open(c, &w->m, o->tokens, e) || corpus_fill(c, length, e)) return FAILED;
        const size_t has = ids_in(&c->ids);
        if (has + o->bos < 2) return fail(e, "%s: %zu tokens; a piece needs two", c->path, has);
        if (has < length)
            return fail(e, "%s: %zu tokens are fewer than one piece of %zu; --seq %zu would do",
                        c->path, has, length, has + o->bos);
    }
    return DONE;
}

/* Neurons and counts of another model are refused, by shape always, by name unless told not to. */
static int check_origin(const char *path, const char *name, int layers, int neurons,
                        const struct config *c, bool any_model, struct error *e) {
    if (layers != c->layers || neurons != c->neurons)
        return fail(e, "%s: made from %s, %d x %d neurons; the model %s has %d x %d", path, name,
                    layers, neurons, c->name, c->layers, c->neurons);
    if (!any_model && *name && strcmp(name, "unknown") != 0 && strcmp(name, c->name) != 0)
        return fail(e, "%s: made from %s, the model is %s; --any-model takes it all the same", path,
                    name, c->name);
    return 0;
}

static int open_neurons(struct work *w, const struct options *o, struct error *e) {
    struct neurons *n = &w->neurons;
    if (neurons_open(n, o->neurons, e)) return -1;
    return check_origin(o->neurons, n->model, n->layers, n->neurons, &w->m.model.config,
                        o->any_model, e);
}

/* ---- lape count ------------------------------------------------------------------------------ */

static int parse_shard(const char *text, struct shard *s, struct error *e) {
    uint64_t i, n;
    struct span rest = text_span(text), part;
    *s = (struct shard){0, 1};
    if (!text) return 0;
    if (!next_part(&rest, '/', &part) || !parse_number(part, MOST_SHARDS, &i) ||
        !parse_number(rest, MOST_SHARDS, &n) || i < 1 || i > n)
        return usage(e, "--shard wants I/N with I from 1 to N, not ", text);
    *s = (struct shard){i - 1, n};
    return 0;
}

/* Adds n tokens to a histogram. */
static void add_histogram(int64_t *histogram, const int32_t *tokens, size_t n) {
    for (size_t i = 0; i < n; i++) histogram[tokens[i]]++;
}

/* Whether partial counts are of this model and these options. */
static bool can_resume(const struct work *w, const struct counts *partial) {
    const struct counts *fresh = &w->counts;
    bool good = !strcmp(partial->model, fresh->model) && partial->layers == fresh->layers &&
                partial->neurons == fresh->neurons && partial->vocab == fresh->vocab &&
                partial->piece == fresh->piece && partial->bos == fresh->bos &&
                partial->near == fresh->near && partial->n == fresh->n;
    for (int k = 0; good && k < partial->n; k++) {
        good = strcmp(partial->language[k].label, w->corpus[k].label) == 0;
        for (int i = 0; i < STATISTICS; i++) good = good && partial->language[k].of[i];
    }
    return good;
}

static int other_run(const char *partial, struct error *e) {
    return fail(e,
                "%s: was begun with another model, other texts or options; without --resume it "
                "is replaced",
                partial);
}

/* Zero counts of the corpora's languages, or those that the partial file holds. */
static int begin_counts(struct work *w, const struct options *o, const char *partial,
                        struct error *e) {
    const struct config *c = &w->m.model.config;
    w->counts = (struct counts){.layers = c->layers,
                                .neurons = c->neurons,
                                .vocab = c->vocab,
                                .piece = o->length,
                                .bos = o->bos,
                                .near = o->near};
    strcpy(w->counts.model, c->name);
    for (int k = 0; k < w->corpora; k++) {
        struct language *l = insert_language(&w->counts, w->corpus[k].label);
        for (int i = 0; i < STATISTICS; i++) l->of[i] = new_statistic(&w->counts, i);
    }
    if (!o->resume || access(partial, F_OK) != 0) return 0;
    if (counts_open(&w->others, partial, e)) return -1;
    if (!can_resume(w, &w->others)) return other_run(partial, e);
    struct counts fresh = w->counts;
    w->counts = w->others;
    w->others = fresh;
    return 0;
}

/* Passes over the pieces that are counted already; their histogram tells whether they are of this
 * text. */
static int pass_over(struct feed *f, const struct language *l, int vocab, const char *partial,
                     struct error *e) {
    int64_t *histogram = new_array(vocab, sizeof *histogram);
    int got = 1;
    for (uint64_t i = 0; got > 0 && i < l->pieces; i++)
        if ((got = next_piece(f, f->next, e)) > 0) add_histogram(histogram, f->next, f->length);
    if (got == 0 || (got > 0 && memcmp(histogram, l->of[HISTOGRAM], vocab * sizeof *histogram)))
        got = other_run(partial, e);
    free(histogram);
    return got < 0 ? -1 : 0;
}

static int save_partial(const struct counts *c, const char *path, struct error *e) {
    struct output out;
    if (output_open(&out, path, e)) return -1;
    counts_write(c, out.file);
    return output_finish(&out, e);
}

/* Counts the pieces of a language that are not counted yet. */
static int count_language(struct work *w, int k, const struct options *o, struct shard s,
                          const char *partial, struct progress *p, struct error *e) {
    struct language *l = &w->counts.language[k];
    struct corpus *c = &w->corpus[k];
    struct feed *f = &w->feed;
    struct counter counter = {.pool = w->m.pool, .counts = &w->counts, .language = l};
    const struct hook hook = {count_neurons, &counter};
    double done;
    int n;
    progress_corpus(p, c);
    f->corpus = c;
    f->shard = s;
    if (pass_over(f, l, w->counts.vocab, partial, e)) return -1;
    for (feed_start(f, c, s); (n = feed_next(f, &done, e)) > 0;) {
        if (forward(f->run, f->sequence, n, &hook, e) || count_is_sound(&counter, e)) return -1;
        add_histogram(l->of[HISTOGRAM], f->tokens, (size_t)n * f->length);
        l->pieces += n;
        l->tokens += (uint64_t)n * f->length;
        progress_add(p, l->label, (double)n * f->length, done);
        if (o->save_every > 0 && now() - p->saved >= o->save_every) {
            if (save_partial(&w->counts, partial, e)) return -1;
            p->saved = now();
        }
    }
    l->parts = 0; /* those that a partial file had */
    if (add_part(l, (struct part){c->digest, s.first, s.step}, e)) return -1;
    if (n == 0 && l->pieces == 0)
        return fail(e, "%s: %zu pieces leave none for shard %s", c->path, c->pieces, o->shard);
    if (n == 0 && !o->quiet) say_ragged(f, l->pieces);
    return n;
}

static int by_label(const void *a, const void *b) {
    return strcmp(((const struct corpus *)a)->label, ((const struct corpus *)b)->label);
}

static int run_count(struct work *w, struct options *o, struct error *e) {
    struct progress p;
    struct shard s;
    int bad = parse_shard(o->shard, &s, e);
    if (!bad) bad = open_corpora(w, o, e);
    if (bad) return bad;
    buffer_add(&w->text, o->output, strlen(o->output));
    buffer_add(&w->text, ".partial", sizeof ".partial");
    const char *partial = w->text.at;
    qsort(w->corpus, w->corpora, sizeof *w->corpus, by_label); /* as the counts are */
    if (feed_new(&w->feed, &w->m, (int)o->length, (int)o->batch, o->bos, e) ||
        begin_counts(w, o, partial, e))
        return FAILED;
    progress_start(&p, w->corpus, w->corpora, o->quiet);
    for (int k = 0; k < w->corpora; k++)
        if (count_language(w, k, o, s, partial, &p, e)) return FAILED;
    progress_end(&p);
    counts_write(&w->counts, w->output.file);
    if (output_finish(&w->output, e)) return FAILED;
    remove(partial);
    return DONE;
}

/* ---- lape merge, lape find ------------------------------------------------------------------- */

static int run_merge(struct work *w, struct options *o, struct error *e) {
    if (counts_open(&w->counts, o->word[0], e)) return FAILED;
    for (int i = 1; i < o->words; i++) {
        if (counts_open(&w->others, o->word[i], e)) return FAILED;
        if (counts_add(&w->counts, &w->others, e)) return fail_in(e, o->word[i]);
        counts_free(&w->others);
    }
    counts_write(&w->counts, w->output.file);
    return DONE;
}

/* Drops the languages that `list` does not name, and puts the others in its order. */
static int choose_languages(struct counts *c, const char *list, struct error *e) {
    struct span rest = text_span(list), word;
    int n = 0;
    while (next_part(&rest, ',', &word)) {
        char label[LABEL_SIZE] = "";
        struct language *l = set_label(label, word) ? find_language(c, label) : NULL;
        if (!l) return fail(e, "the counts have no language '%.*s'", width(word), word.at);
        if (l < c->language + n) return usage(e, "--langs names a language twice: ", list);
        struct language chosen = *l;
        *l = c->language[n];
        c->language[n++] = chosen;
    }
    for (; list && c->n > n; c->n--) language_free(&c->language[c->n - 1]);
    return 0;
}

static void print_totals(const struct neurons *n, FILE *to) {
    fprintf(to, "%zu of %d neurons;", n->n, n->layers * n->neurons);
    for (int k = 0; k < n->languages; k++) {
        size_t own = 0;
        for (size_t i = 0; i < n->n; i++) own += n->member[i * n->languages + k];
        fprintf(to, " %s %zu", n->label[k], own);
    }
    fprintf(to, "\n");
}

static int run_find(struct work *w, struct options *o, struct error *e) {
    struct neurons like = {0};
    struct find f = {
        .top = o->top, .filter = o->filter, .bar = o->bar, .penalty = o->penalty, .seed = o->seed};
    int bad, method;
    if (parse_name("--method", o->method, method_name, METHODS, &method, e)) return USAGE;
    f.method = (enum method)method;
    if (o->like && f.method != RANDOM) return usage(e, "--like goes with --method random", "");
    if (o->penalty > 0 && f.method != LAPE)
        return usage(e, "--penalty goes with --method lape", "");
    if (counts_open(&w->counts, o->word[0], e)) return FAILED;
    bad = choose_languages(&w->counts, o->languages, e);
    if (bad || (o->like && neurons_open(&like, o->like, e))) return bad ? bad : FAILED;
    f.like = o->like ? &like : NULL;
    bad = find_neurons(&w->counts, &f, &w->neurons, e);
    neurons_free(&like);
    if (bad) return fail_in(e, o->word[0]);
    neurons_print(&w->neurons, &w->counts, &f, w->output.file);
    if (output_finish(&w->output, e)) return FAILED;
    if (!o->quiet) print_totals(&w->neurons, stderr);
    return DONE;
}

/* ---- lape ppl -------------------------------------------------------------------------------- */

/* The languages in the rows' order: those of the corpora, as these come, then the others. */
static int *order_rows(const struct work *w) {
    const struct neurons *n = &w->neurons;
    int *language = new_array(n->languages, sizeof *language), rows = 0;
    bool *done = new_array(n->languages, sizeof *done);
    for (int k = 0; k < w->corpora + n->languages; k++) {
        const int l =
            k < w->corpora ? label_index(n, text_span(w->corpus[k].label)) : k - w->corpora;
        if (l < 0 || done[l]) continue;
        language[rows++] = l;
        done[l] = true;
    }
    free(done);
    return language;
}

/* exp of the mean over pieces of the mean loss over their predicted tokens: sum [corpora, rows]
 * becomes that. Row 0 is the model as it is, row r has the neurons of language[r - 1] at 0. */
static int evaluate(struct work *w, const int *language, bool quiet, double *sum, struct error *e) {
    const int rows = 1 + w->neurons.languages;
    struct edits *edits = new_array(rows, sizeof *edits);
    int bad = 0;
    for (int r = 1; !bad && r < rows; r++)
        bad =
            edits_new(&edits[r], &w->neurons, &(struct steer){.off = language[r - 1], .on = -1}, e);
    for (int k = 0; !bad && k < w->corpora; k++, sum += rows) {
        uint64_t pieces;
        bad = sum_losses(&w->evaluation, &w->corpus[k], edits, rows, quiet, sum, &pieces, e);
        for (int r = 0; !bad && r < rows; r++) {
            const double loss = sum[r] / (double)pieces;
            sum[r] = exp64(loss);
            if (!isfinite(sum[r]))
                bad = fail(e, "%s: a perplexity of e^%.9g is beyond all numbers", w->corpus[k].path,
                           loss);
        }
    }
    for (int r = 1; r < rows; r++) edits_free(&edits[r]);
    free(edits);
    return bad;
}

static int run_ppl(struct work *w, struct options *o, struct error *e) {
    const struct neurons *n = &w->neurons;
    int bad = open_corpora(w, o, e);
    if (bad) return bad;
    if ((o->neurons && open_neurons(w, o, e)) ||
        evaluation_new(&w->evaluation, &w->m, (int)o->length, (int)o->batch, o->bos, e))
        return FAILED;
    const int rows = 1 + n->languages;
    int *language = order_rows(w);
    double *value = new_array((size_t)w->corpora * rows, sizeof *value);
    FILE *to = w->output.file;
    progress_start(&w->evaluation.progress, w->corpus, w->corpora, o->quiet);
    bad = evaluate(w, language, o->quiet, value, e);
    if (!bad) fprintf(to, "off");
    for (int k = 0; !bad && k < w->corpora; k++) fprintf(to, "\t%s", w->corpus[k].label);
    for (int r = 0; !bad && r < rows; r++) {
        fprintf(to, "\n%s", r ? n->label[language[r - 1]] : "none");
        for (int k = 0; k < w->corpora; k++) fprintf(to, "\t%.9g", value[k * rows + r]);
    }
    if (!bad) fprintf(to, "\n");
    free(language);
    free(value);
    if (bad || output_finish(&w->output, e)) return FAILED;
    progress_end(&w->evaluation.progress);
    return DONE;
}

/* ---- lape generate --------------------------------------------------------------------------- */

static const char *const how_name[] = {"replace", "add", "scale", "diffmean"};
enum { HOWS = sizeof how_name / sizeof *how_name };

/* The interventions that --off, --on and --how ask for. */
static int open_edits(struct work *w, const struct options *o, int how, struct error *e) {
    const struct neurons *n = &w->neurons;
    const struct counts *c = &w->counts;
    if (open_neurons(w, o, e)) return -1;
    const struct steer s = {o->off ? label_index(n, text_span(o->off)) : -1,
                            o->on ? label_index(n, text_span(o->on)) : -1, (enum how)how,
                            o->strength, c};
    if ((o->off && s.off < 0) || (o->on && s.on < 0))
        return fail(e, "%s: has no language '%s'", o->neurons,
                    o->off && s.off < 0 ? o->off : o->on);
    if (o->counts && (counts_open(&w->counts, o->counts, e) ||
                      check_origin(o->counts, c->model, c->layers, c->neurons, &w->m.model.config,
                                   o->any_model, e)))
        return -1;
    return edits_new(&w->edits, n, &s, e);
}

static void print_generation(const struct continuation *c, FILE *to) {
    const char *text = c->text.at;
    print_characters(c->asked, true, to);
    putc('\t', to);
    print_characters((struct span){text + c->prompt_bytes, c->text.n - c->prompt_bytes}, true, to);
    putc('\t', to);
    put_ids((int32_t *)c->ids.at + c->prompt, ids_in(&c->ids) - c->prompt, to);
    putc('\n', to);
}

/* Reads the prompts and continues them. A table has a row for each; else its text comes as it is
 * made. */
static int continue_prompts(struct generation *g, struct span prompts, char end, FILE *table,
                            struct error *e) {
    struct span prompt;
    for (size_t line = 1; next_part(&prompts, end, &prompt); line++) {
        if (prompt.n == 0 && end == '\n') continue;
        g->line = line;
        if (add_prompt(g, prompt, line, e)) return -1;
    }
    for (size_t i = 0, done = 0; i < g->n; i = done) {
        const int n = generate(g, i, e);
        if (n < 0) return -1;
        for (done = i + (size_t)n; table && i < done; i++) print_generation(&g->of[i], table);
    }
    return 0;
}

/* A prompt's text as it comes; or a table of prompts, outputs and the outputs' ids. */
static int run_generate(struct work *w, struct options *o, struct error *e) {
    const struct sampling s = {(int)o->new_tokens, o->temperature, o->top_p, o->repeat, o->seed};
    const struct hook hook = {edit_neurons, &w->edits};
    const bool steered = o->off || o->on, table = o->output || o->prompts;
    int how;
    if (parse_name("--how", o->how, how_name, HOWS, &how, e)) return USAGE;
    if (!o->prompt == !o->prompts) return usage(e, "a prompt is wanted: -p TEXT or -f FILE", "");
    if (steered && !o->neurons) return usage(e, "--off and --on go with --neurons", "");
    if (o->on && how != SCALE && !o->counts)
        return usage(e, "--on goes with --counts, for the mean activations", "");
    if (checkpoint_open(&w->m, o->word[0], (int)o->threads, e)) return FAILED;
    if (need_tokenizer(&w->m, o->word[0], e) || (steered && open_edits(w, o, how, e)) ||
        (o->prompts && map_file(o->prompts, &w->file, e)))
        return FAILED;
    struct generation *g = &w->generation;
    generation_new(g, &w->m, &s, steered ? &hook : NULL);
    g->quiet = o->quiet;
    if (!table) g->stream = w->output.file;
    if (table) fprintf(w->output.file, "prompt\toutput\ttokens\n");
    const struct span prompts = o->prompts ? w->file : text_span(o->prompt);
    if (continue_prompts(g, prompts, o->prompts ? '\n' : '\0', table ? w->output.file : NULL, e)) {
        char where[32];
        snprintf(where, sizeof where, o->prompts ? "line %zu" : "the prompt", g->line);
        fail_in(e, where);
        return o->prompts ? fail_in(e, o->prompts) : FAILED;
    }
    if (!table) putc('\n', w->output.file);
    return DONE;
}

/* ---- lape bake --------------------------------------------------------------------------------
 *
 * An activation of 0 adds nothing to the residual stream, and neither does a column of zeros in the
 * down projection: the model is copied but for the elements of those columns. A projection of a
 * type that may have no zeros becomes F32.
 */

/* The tensor that is the down projection of a layer; a part of the list. */
static struct tensor *find_down(const struct model *m, int layer) {
    const char *at = down_projection(m, layer).at;
    struct tensor *t = m->file.tensor;
    while (t->data.at != at) t++;
    return t;
}

static void put_f32(struct gguf_writer *out, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_number(out, bits, 4);
}

/* The down projection of a layer, the neurons of `edits` being 0: as it lies in the file, or in F32
 * where its type may have no 0. */
static void put_down(struct gguf_writer *out, const struct matrix *down, const struct edits *edits,
                     int layer) {
    const bool as_it_is = has_zero(down->type);
    const struct edit *first = edits->edit + edits->first[layer],
                      *end = edits->edit + edits->first[layer + 1];
    char *row = new_array(down->row_bytes, 1);
    real *wide = new_array(down->columns, sizeof *wide);
    for (int r = 0; as_it_is && r < down->rows; r++) {
        memcpy(row, down->at + r * down->row_bytes, down->row_bytes);
        for (const struct edit *x = first; x < end; x++) zero_element(row, down->type, x->neuron);
        put_bytes(out, row, down->row_bytes);
    }
    for (int r = 0; !as_it_is && r < down->rows; r++) {
        widen(wide, down, r, 0, down->columns);
        for (const struct edit *x = first; x < end; x++) wide[x->neuron] = 0;
        for (int k = 0; k < down->columns; k++) put_f32(out, (float)wide[k]);
    }
    free(row);
    free(wide);
}

/* The values as they are, but that the parts of a split model become one file. */
static void put_values(struct gguf_writer *out, const struct gguf *g) {
    char *values = memcpy(new_array(g->header.n, 1), g->header.at, g->header.n);
    const struct gguf_value *parts = gguf_find(g, "split.count");
    if (parts) memset(values + (parts->data.at - g->header.at), 0, parts->data.n);
    put_bytes(out, values, g->header.n);
    free(values);
}

static int run_bake(struct work *w, struct options *o, struct error *e) {
    const struct model *m = &w->m.model;
    if (!o->neurons || !o->off) return usage(e, "--neurons NEURONS and --off LANG are wanted", "");
    if (checkpoint_open(&w->m, o->word[0], 1, e) || open_edits(w, o, REPLACE, e)) return FAILED;
    const struct gguf *g = &m->file;
    struct gguf_writer out = {.to = w->output.file, .alignment = g->alignment};
    struct tensor *to =
        memcpy(new_array(g->tensors, sizeof *to), g->tensor, g->tensors * sizeof *to);
    int *layer = new_array(g->tensors, sizeof *layer); /* whose neurons go, + 1 */
    for (int l = 0; l < m->config.layers; l++) {
        if (w->edits.first[l] == w->edits.first[l + 1]) continue;
        const size_t i = (size_t)(find_down(m, l) - g->tensor);
        layer[i] = l + 1;
        if (has_zero(to[i].type)) continue;
        to[i].type = TENSOR_F32;
        to[i].data.n = to[i].dim[0] * to[i].dim[1] * 4;
    }
    put_header(&out, g->tensors, g->values);
    put_values(&out, g);
    for (size_t i = 0; i < g->tensors; i++) put_tensor(&out, &to[i]);
    for (size_t i = 0; i < g->tensors; i++) {
        put_padding(&out);
        if (!layer[i]) {
            put_bytes(&out, to[i].data.at, to[i].data.n);
            continue;
        }
        const struct matrix down = down_projection(m, layer[i] - 1);
        put_down(&out, &down, &w->edits, layer[i] - 1);
    }
    put_padding(&out);
    free(to);
    free(layer);
    return DONE;
}

/* ---- lape tokenize --------------------------------------------------------------------------- */

static int print_ids(const struct checkpoint *m, struct span text, bool bos, struct error *e) {
    struct buffer ids = {0};
    if (bos) add_id(&ids, m->bos);
    const int bad = encode(m->tokenizer, text, &ids, e);
    if (!bad) {
        put_ids(ids.at, ids_in(&ids), stdout);
        printf("\n");
    }
    free(ids.at);
    return bad;
}

static int print_text(const struct checkpoint *m, struct span list, struct error *e) {
    struct buffer ids = {0}, text = {0};
    struct span word;
    uint64_t id;
    int bad = 0;
    while (!bad && next_part(&list, ' ', &word)) {
        if (parse_number(word, INT32_MAX, &id))
            add_id(&ids, (int32_t)id);
        else if (word.n)
            bad = fail(e, "'%.*s' is not a token id", width(word), word.at);
    }
    if (!bad) bad = decode(m->tokenizer, ids.at, ids_in(&ids), &text, e);
    if (!bad && text.n) fwrite(text.at, 1, text.n, stdout);
    free(ids.at);
    free(text.at);
    return bad;
}

static int run_tokenize(struct work *w, struct options *o, struct error *e) {
    char block[1 << 14], where[32];
    size_t n, number = 0;
    if (vocabulary_open(&w->m, o->word[0], e) || check_bos(&w->m, o, e)) return FAILED;
    while ((n = fread(block, 1, sizeof block, stdin)) > 0) buffer_add(&w->text, block, n);
    if (ferror(stdin)) return fail(e, "standard input: cannot read: %s", strerror(errno));
    struct span all = {w->text.at, w->text.n}, line = all;
    for (size_t i = 0; o->decode && i < all.n; i++) /* any space parts ids */
        if (isspace((unsigned char)all.at[i]) && !(o->lines && all.at[i] == '\n'))
            ((char *)w->text.at)[i] = ' ';
    if (!o->lines) {
        if (o->decode ? print_text(&w->m, all, e) : print_ids(&w->m, all, o->bos, e))
            return fail_in(e, "standard input");
        return DONE;
    }
    while (next_part(&all, '\n', &line) && (all.at || line.n)) {
        snprintf(where, sizeof where, "line %zu", ++number);
        if (o->decode ? print_text(&w->m, line, e) : print_ids(&w->m, line, o->bos, e))
            return fail_in(e, where);
        if (o->decode) printf("\n");
    }
    return DONE;
}

/* ---- lape trace --------------------------------------------------------------------------------
 *
 * One intermediate tensor of a text, as [T, columns], or [L, T, columns] of all layers.
 */
static const char *const point_name[] = {"embd",  "attn_norm", "q",        "k",     "v",
                                         "heads", "attn_out",  "ffn_norm", "gate",  "act",
                                         "up",    "down",      "resid",    "logits"};
_Static_assert(sizeof point_name / sizeof *point_name == POINTS, "every point has a name");

struct trace {
    enum point at;
    int layer;       /* -1: all */
    real *values;    /* [layers, tokens, columns] */
    uint64_t dim[3]; /* layers, tokens, columns; these are learnt at the first call */
    size_t seen;     /* tokens of earlier batches */
};

static void keep_rows(void *context, enum point at, int layer, real *values, int rows,
                      int columns) {
    struct trace *t = context;
    if (at != t->at || (t->layer >= 0 && layer != t->layer)) return;
    t->dim[2] = columns;
    if (!t->values) t->values = new_array(t->dim[0] * t->dim[1], columns * sizeof *values);
    const size_t plane = t->dim[0] > 1 ? layer : 0;
    memcpy(t->values + (plane * t->dim[1] + t->seen) * columns, values,
           (size_t)rows * columns * sizeof *values);
}

/* Pieces of `length` tokens, the last one shorter, one after the other. */
static int trace_pieces(struct trace *t, struct work *w, int length, bool bos, struct error *e) {
    const struct corpus *c = w->corpus;
    const struct hook hook = {keep_rows, t};
    const int V = w->m.model.config.vocab;
    if (feed_new(&w->feed, &w->m, length, 1, bos, e)) return -1;
    real *out = t->at == AT_LOGITS ? new_array((size_t)length * V, sizeof *out) : NULL;
    int bad = 0;
    for (size_t from = 0; !bad && t->seen < t->dim[1]; from += length - bos) {
        const int n = (int)least(ids_in(&c->ids) - from, length - bos);
        w->feed.tokens[0] = w->m.bos;
        memcpy(w->feed.tokens + bos, (int32_t *)c->ids.at + from, n * sizeof(int32_t));
        bad = forward(w->feed.run, &(struct sequence){w->feed.tokens, n + bos, 0, 0}, 1, &hook, e);
        if (!bad && out) logits(w->feed.run, 0, n + bos, out, &hook);
        t->seen += n + bos;
    }
    free(out);
    return bad;
}

static int run_trace(struct work *w, struct options *o, struct error *e) {
    struct trace t = {.layer = -1};
    int at;
    if (o->words < 2) return usage(e, "a text is missing: lape trace MODEL FILE", "");
    if (parse_name("--at", o->at, point_name, POINTS, &at, e)) return USAGE;
    t.at = (enum point)at;
    w->corpora = 1;
    w->corpus = new_array(1, sizeof *w->corpus);
    w->corpus->path = o->word[1];
    if (checkpoint_open(&w->m, o->word[0], (int)o->threads, e) ||
        corpus_open(w->corpus, &w->m, o->tokens, e) || corpus_fill(w->corpus, SIZE_MAX, e))
        return FAILED;
    const int L = w->m.model.config.layers;
    const bool layered = t.at != AT_EMBD && t.at != AT_LOGITS;
    if (o->layer != UINT64_MAX && (!layered || o->layer >= (uint64_t)L))
        return fail(e,
                    layered ? "--layer %d: the model has layers 0 to %d"
                            : "--layer %d: only tensors of a layer have one, of 0 to %d",
                    (int)o->layer, L - 1);
    if (check_bos(&w->m, o, e)) return FAILED;
    if (layered && o->layer != UINT64_MAX) t.layer = (int)o->layer;
    const size_t n = ids_in(&w->corpus->ids);
    if (n == 0) return fail(e, "%s: the file is empty", o->word[1]);
    if (!o->length) o->length = least(w->m.model.config.context, 4096);
    o->length = least(o->length, n + o->bos);
    const size_t piece = o->length - o->bos, pieces = (n + piece - 1) / piece;
    t.dim[0] = layered && t.layer < 0 ? L : 1;
    t.dim[1] = n + o->bos * pieces;
    int bad = trace_pieces(&t, w, (int)o->length, o->bos, e);
    if (!bad && !t.values)
        bad = fail(e, "%s: without a gate there is no 'up' beside the neurons", o->word[0]);
    const bool planes = t.dim[0] > 1;
    if (!bad) npy_write(w->output.file, t.values, planes ? t.dim : t.dim + 1, planes ? 3 : 2);
    free(t.values);
    return bad ? FAILED : DONE;
}

/* ---- lape diff ------------------------------------------------------------------------------- */

/* How far `count` is outside [reference - above, reference + below]; 0 when within. */
static int64_t beyond(const struct language *reference, size_t i, int64_t count) {
    const int64_t difference = count - reference->of[POSITIVE][i];
    const int64_t allowed = reference->of[difference > 0 ? NEAR_BELOW : NEAR_ABOVE][i];
    const int64_t size = difference > 0 ? difference : -difference;
    return size > allowed ? size - allowed : 0;
}

/* A row of the table; the worst is the one furthest outside, else the one that differs most.
 * Returns how many are outside. */
static size_t diff_language(const struct counts *c, const struct language *a,
                            const struct language *b) {
    size_t differ = 0, outside = 0, worst = 0;
    int64_t most_beyond = -1, most = -1;
    for (size_t i = 0; i < all_neurons(c); i++) {
        const int64_t d = llabs(b->of[POSITIVE][i] - a->of[POSITIVE][i]);
        const int64_t far = beyond(a, i, b->of[POSITIVE][i]);
        differ += d > 0;
        outside += far > 0;
        if (far < most_beyond || (far == most_beyond && d <= most)) continue;
        worst = i;
        most_beyond = far;
        most = d;
    }
    printf("%s\t%llu\t%zu\t%zu\t%zu\t%zu\t%lld\t%lld\t%lld\t%lld\n", a->label, (ull)a->tokens,
           differ, outside, worst / c->neurons, worst % c->neurons,
           (long long)a->of[POSITIVE][worst], (long long)a->of[NEAR_ABOVE][worst],
           (long long)a->of[NEAR_BELOW][worst], (long long)b->of[POSITIVE][worst]);
    return outside;
}

/* The neurons that only one of two selections has, or has for other languages. */
static void diff_selections(const struct neurons *a, const struct neurons *b) {
    const size_t K = a->languages;
    size_t changed = 0;
    for (size_t i = 0, j = 0; i < a->n || j < b->n;) {
        const struct neuron *x = &a->neuron[i], *y = &b->neuron[j];
        int order = i == a->n ? 1 : j == b->n ? -1 : x->layer - y->layer;
        if (!order && i < a->n && j < b->n) order = x->index - y->index;
        if (order || memcmp(a->member + i * K, b->member + j * K, K * sizeof *a->member)) {
            if (!changed++) printf("layer\tneuron\treference\tother\n");
            printf("%d\t%d", order > 0 ? y->layer : x->layer, order > 0 ? y->index : x->index);
            order > 0 ? (void)printf("\tnot selected") : print_languages(a, i, stdout);
            order < 0 ? (void)printf("\tnot selected") : print_languages(b, j, stdout);
            printf("\n");
        }
        i += order <= 0;
        j += order >= 0;
    }
    printf("selection: %zu neurons in the reference, %zu in the other, %zu changed\n", a->n, b->n,
           changed);
}

/* -1 unless both count the same texts, the reference with all that the bound needs. */
static int check_comparable(const struct options *o, const struct counts *a, const struct counts *b,
                            struct error *e) {
    const char *reference = o->word[0], *other = o->word[1];
    if (a->layers != b->layers || a->neurons != b->neurons)
        return fail(e, "%s: of %d x %d neurons, %s of %d x %d", other, b->layers, b->neurons,
                    reference, a->layers, a->neurons);
    if (a->n != b->n)
        return fail(e, "%s: %d languages, %s: %d; --langs chooses", other, b->n, reference, a->n);
    for (int k = 0; k < a->n; k++) {
        const struct language *x = &a->language[k], *y = &b->language[k];
        if (strcmp(x->label, y->label)) return fail(e, "%s: lacks language %s", other, x->label);
        if (!x->of[NEAR_ABOVE] || !x->of[NEAR_BELOW])
            return fail(e, "%s: language %s has no counts near zero, which the bound is made of",
                        reference, x->label);
        if (!x->tokens) return fail(e, "%s: language %s has no tokens", reference, x->label);
        if (x->tokens != y->tokens)
            return fail(e, "%s: language %s is of %llu tokens, in %s of %llu", other, x->label,
                        (ull)y->tokens, reference, (ull)x->tokens);
        const int64_t *p = x->of[HISTOGRAM], *q = y->of[HISTOGRAM];
        if (p && q && (a->vocab != b->vocab || memcmp(p, q, a->vocab * sizeof *p)))
            return fail(e, "%s: language %s is of other tokens than in %s", other, x->label,
                        reference);
    }
    return 0;
}

static int run_diff(struct work *w, struct options *o, struct error *e) {
    const struct counts *a = &w->counts, *b = &w->others;
    struct find f = {.top = o->top, .filter = o->filter, .bar = o->bar};
    struct neurons other = {0};
    size_t outside = 0;
    if (o->words < 2) return usage(e, "two files are wanted: lape diff REFERENCE OTHER", "");
    if (ends_with(o->word[0], ".npy"))
        return fail(e, "%s: counts are compared; tools/tensors.py compares .npy files", o->word[0]);
    if (counts_open(&w->counts, o->word[0], e) || counts_open(&w->others, o->word[1], e))
        return FAILED;
    int bad = choose_languages(&w->counts, o->languages, e);
    if (!bad) bad = choose_languages(&w->others, o->languages, e);
    if (bad) return bad;
    if (check_comparable(o, a, b, e)) return FAILED;
    if (a->n > 1 && find_neurons(a, &f, &w->neurons, e)) return fail_in(e, o->word[0]);
    if (a->n > 1 && find_neurons(b, &f, &other, e)) return fail_in(e, o->word[1]);
    printf("language\ttokens\tdiffer\toutside\tlayer\tneuron\tcount\tnear above\tnear below\t"
           "other\n");
    for (int k = 0; k < a->n; k++) outside += diff_language(a, &a->language[k], &b->language[k]);
    if (a->n > 1) diff_selections(&w->neurons, &other); /* one language has none */
    neurons_free(&other);
    if (outside)
        return fail(e, "%s: %zu of %zu counts are further off than gates within %g of zero allow",
                    o->word[1], outside, all_neurons(a) * a->n, a->near);
    printf("every count is within the bound of gates within %g of zero\n", a->near);
    return DONE;
}

/* ---- lape info ------------------------------------------------------------------------------- */

static void print_vocabulary(const struct checkpoint *m) {
    const struct gguf *g = &m->model.file;
    struct span kind;
    struct error e;
    printf("vocabulary without a model: %d tokens", vocabulary_size(g));
    if (gguf_string(g, "tokenizer.ggml.model", &kind, &e) == 0)
        printf(", tokenizer '%.*s'", width(kind), kind.at);
    printf("\n");
}

static void print_model(const struct checkpoint *m) {
    const struct config *c = &m->model.config;
    printf("model: %s\nfamily: %s\nlayers: %d\nwidth: %d\nneurons: %d a layer, %lld in all\n",
           c->name, family_name(c), c->layers, c->width, c->neurons,
           (long long)c->layers * c->neurons);
    printf("heads: %d of %d, %d for keys and values\n", c->heads, c->head_dim, c->kv_heads);
    printf("vocabulary: %d%s%s\n", c->vocab,
           m->tokenizer ? "" : ", takes token ids only: ", m->no_tokenizer.text);
    printf("output: %s\ncontext: %d\nattention window: ",
           m->model.output.at == m->model.embedding.at ? "the embedding" : "its own", c->context);
    printf(c->window ? "%d\n" : "none\n", c->window);
    if (c->rotated) printf("rotary base: %.9g\n", c->rope_base);
    printf("norm epsilon: %.9g\nembedding type: %s\n", c->norm_eps,
           tensor_type_name(m->model.embedding.type));
}

static void print_counts(const struct counts *c) {
    printf("counts of model: %s\nlayers: %d\nneurons: %d a layer\n", c->model, c->layers,
           c->neurons);
    printf("vocabulary: %d\npiece: %llu tokens%s\nnear: %.9g\n", c->vocab, (ull)c->piece,
           c->bos ? ", the first of them BOS" : "", c->near);
    printf("language\ttokens\tpieces\tactivations above zero\n");
    for (int k = 0; k < c->n; k++) {
        const struct language *l = &c->language[k];
        ull positive = 0;
        for (size_t i = 0; i < all_neurons(c); i++) positive += l->of[POSITIVE][i];
        printf("%s\t%llu\t%llu\t%llu\n", l->label, (ull)l->tokens, (ull)l->pieces, positive);
    }
}

static void print_layers(const struct neurons *n) {
    printf("neurons of model: %s\nlayers: %d\nneurons: %d a layer\n", n->model, n->layers,
           n->neurons);
    print_totals(n, stdout);
    printf("layer");
    for (int k = 0; k < n->languages; k++) printf("\t%s", n->label[k]);
    size_t *own = new_array(n->languages, sizeof *own);
    for (int layer = 0, i = 0; layer < n->layers; layer++) {
        memset(own, 0, n->languages * sizeof *own);
        for (; i < (int)n->n && n->neuron[i].layer == layer; i++)
            for (int k = 0; k < n->languages; k++) own[k] += n->member[i * n->languages + k];
        printf("\n%d", layer);
        for (int k = 0; k < n->languages; k++) printf("\t%zu", own[k]);
    }
    printf("\n");
    free(own);
}

static int run_info(struct work *w, struct options *o, struct error *e) {
    struct gguf g;
    struct span kind = {0};
    if (map_file(o->word[0], &w->file, e)) return FAILED;
    if (w->file.at[0] == '#') {
        if (neurons_open(&w->neurons, o->word[0], e)) return FAILED;
        print_layers(&w->neurons);
        return DONE;
    }
    if (gguf_open(&g, o->word[0], e)) return FAILED;
    const bool named = gguf_string(&g, "general.architecture", &kind, e) == 0;
    const bool counts = named && span_is(kind, "lape-counts"), model = g.tensors > 0;
    gguf_close(&g);
    if (counts  ? counts_open(&w->counts, o->word[0], e)
        : model ? checkpoint_open(&w->m, o->word[0], 1, e)
                : vocabulary_open(&w->m, o->word[0], e))
        return FAILED;
    if (counts)
        print_counts(&w->counts);
    else if (model)
        print_model(&w->m);
    else
        print_vocabulary(&w->m);
    return DONE;
}

/* ---- main ------------------------------------------------------------------------------------ */

static const struct command {
    const char *name, *words, *what;
    const char *no_text; /* what it makes, if that is not for the standard output */
    int most_words;
    int (*run)(struct work *w, struct options *o, struct error *e);
    /* clang-format off */
} command_table[] = {
    {"info", "FILE", "what a model, counts or neurons file holds", NULL, 1, run_info},
    {"tokenize", "MODEL", "text on standard input to token ids, or back", NULL, 1, run_tokenize},
    {"count", "MODEL LANG=FILE... -o COUNTS", "count every neuron's activations", "counts", 256,
     run_count},
    {"merge", "COUNTS... -o COUNTS", "add up counts, exactly and in any order", "counts", 256,
     run_merge},
    {"find", "COUNTS [-o NEURONS]", "select the language-specific neurons", NULL, 1, run_find},
    {"ppl", "MODEL LANG=FILE... [--neurons NEURONS]", "perplexity, plain and ablated", NULL, 256,
     run_ppl},
    {"generate", "MODEL -p TEXT | -f PROMPTS", "continue prompts, plain or steered", NULL, 1,
     run_generate},
    {"bake", "MODEL --neurons F --off LANG -o OUT", "write an ablation into the weights", "a model",
     1, run_bake},
    {"trace", "MODEL FILE --at NAME -o X.npy", "any tensor of the forward pass", "a tensor", 2,
     run_trace},
    {"diff", "REFERENCE OTHER", "compare two counts files: a verdict", NULL, 2,
     run_diff},
};
/* clang-format on */
enum { COMMANDS = sizeof command_table / sizeof *command_table };
static const char version[] = "0.1";

enum kind { TEXT, NUMBER, WHOLE, BYTES, FLAG };

#define AT(field) offsetof(struct options, field)
static const struct option {
    const char *name;
    enum kind kind;
    size_t at;            /* in struct options */
    double low, high;     /* of numbers */
    const char *commands; /* that take it, between spaces; " " is all */
    const char *help;
} option_table[] = {
    {"-o", TEXT, AT(output), 0, 0, " count merge find ppl generate bake trace ",
     "FILE   write it there"},
    {"-t", WHOLE, AT(threads), 1, 1024, " count ppl generate trace ",
     "N   threads (all processors)"},
    {"--seq", WHOLE, AT(length), 2, 1 << 24, " count ppl trace ",
     "N   tokens in a piece (the model's context, at most 4096)"},
    {"--tokens", WHOLE, AT(tokens), 1, 1e15, " count ppl trace ", "N   of every language (all)"},
    {"--batch", WHOLE, AT(batch), 1, 1 << 20, " count ppl ",
     "N   pieces at once (512 tokens a thread)"},
    {"--memory", BYTES, AT(memory), 1, 0x1p53, " count ppl ",
     "SIZE   to use, as 4G or 500M; smaller than the model, its weights come layer by layer\n"
     "         (three quarters of what is free)"},
    {"--bos", FLAG, AT(bos), 0, 0, " count ppl tokenize trace ",
     "   begin with the begin-of-sequence token, every piece"},
    {"--near", NUMBER, AT(near), 0, 1e6, " count ",
     "T   count gates within T of zero, too (0.001)"},
    {"--shard", TEXT, AT(shard), 0, 0, " count ", "I/N   every N-th piece, from the I-th"},
    {"--save-every", NUMBER, AT(save_every), 0, 1e9, " count ",
     "S   save to FILE.partial every S seconds"},
    {"--resume", FLAG, AT(resume), 0, 0, " count ", "   go on from FILE.partial if it is there"},
    {"--method", TEXT, AT(method), 0, 0, " find ",
     "lape|lap|lave|random   the score: the paper's, probability alone, entropy of mean\n"
     "         positive activations, random numbers   (lape)"},
    {"--penalty", NUMBER, AT(penalty), 0, 1e6, " find ",
     "X   entropy / ln K - X highest probability / mean of 1/1 .. 1/K (0: entropy)"},
    {"--top", NUMBER, AT(top), 0, 1, " find diff ", "R   part of the neurons to select (0.01)"},
    {"--filter", NUMBER, AT(filter), 0, 1, " find diff ",
     "R   one language must be above this rank of all probabilities (0.95)"},
    {"--bar", NUMBER, AT(bar), 0, 1, " find diff ",
     "R   a neuron is of the languages above this rank (0.95)"},
    {"--langs", TEXT, AT(languages), 0, 0, " find diff ",
     "A,B,...   of the counts, in this order (all)"},
    {"--like", TEXT, AT(like), 0, 0, " find ",
     "NEURONS   random: as many per layer and language as there"},
    {"--neurons", TEXT, AT(neurons), 0, 0, " ppl generate bake ",
     "NEURONS   what `lape find` made"},
    {"--counts", TEXT, AT(counts), 0, 0, " generate ", "COUNTS   for the mean activations"},
    {"--off", TEXT, AT(off), 0, 0, " generate bake ", "LANG   its neurons become 0"},
    {"--on", TEXT, AT(on), 0, 0, " generate ", "LANG   its neurons are then strengthened"},
    {"--how", TEXT, AT(how), 0, 0, " generate ",
     "replace|add|scale|diffmean   a <- X mean, a + X mean, X a,\n"
     "         a + X (mean - mean of the other languages)   (replace)"},
    {"--strength", NUMBER, AT(strength), -1e6, 1e6, " generate ", "X   (1)"},
    {"--any-model", FLAG, AT(any_model), 0, 0, " ppl generate bake ",
     "   take neurons and counts of a model of another name"},
    {"-p", TEXT, AT(prompt), 0, 0, " generate ", "TEXT   the prompt"},
    {"-f", TEXT, AT(prompts), 0, 0, " generate ", "FILE   prompts, one a line; makes a table"},
    {"-n", WHOLE, AT(new_tokens), 1, 1 << 24, " generate ", "N   tokens to generate (64)"},
    {"--temp", NUMBER, AT(temperature), 0, 1e6, " generate ", "T   temperature (0: greedy)"},
    {"--top-p", NUMBER, AT(top_p), 0, 1, " generate ", "P   sample from the likeliest P (1)"},
    {"--repeat-penalty", NUMBER, AT(repeat), 1e-6, 1e6, " generate ",
     "R   on tokens seen before (1: none)"},
    {"--seed", WHOLE, AT(seed), 0, 1e15, " find generate ", "S   of all that is random (0)"},
    {"--at", TEXT, AT(at), 0, 0, " trace ",
     "NAME   embd attn_norm q k v heads attn_out ffn_norm gate act up down resid logits"},
    {"--layer", WHOLE, AT(layer), 0, 1 << 16, " trace ", "N   from 0 (all)"},
    {"--decode", FLAG, AT(decode), 0, 0, " tokenize ", "   ids to text"},
    {"--lines", FLAG, AT(lines), 0, 0, " tokenize ", "   every line is a text of its own"},
    {"-q", FLAG, AT(quiet), 0, 0, " ", "   no progress, no summary"},
    {"-h", FLAG, AT(help), 0, 0, " ", "   this help"},
};
enum { OPTIONS = sizeof option_table / sizeof *option_table };

static bool takes(const struct command *c, const struct option *o) {
    char name[32];
    snprintf(name, sizeof name, " %s ", c->name);
    return o->commands[1] == '\0' || strstr(o->commands, name);
}

static void print_help(const struct command *c) {
    if (c) {
        printf("lape %s %s\n  %s\n\n", c->name, c->words, c->what);
        for (int i = 0; i < OPTIONS; i++)
            if (takes(c, &option_table[i]))
                printf("  %s %s\n", option_table[i].name, option_table[i].help);
        return;
    }
    printf("lape: the language-specific neurons of language models, found, ablated, steered with\n"
           "(language activation probability entropy: Tang et al., ACL 2024)\n\n");
    for (int i = 0; i < COMMANDS; i++)
        printf("  lape %-9s%-41s%s\n", command_table[i].name, command_table[i].words,
               command_table[i].what);
    printf("\n  lape COMMAND -h lists a command's options, lape --version says which lape it is\n");
}

/* "500M", "4G", "1.5g": with K, M, G for powers of 1024. */
static bool parse_size(const char *text, uint64_t *to) {
    static const char unit[] = "kmg";
    char *end;
    double n = strtod(text, &end);
    const char *at = *end ? strchr(unit, tolower((unsigned char)*end)) : NULL;
    for (const char *u = unit; at && u <= at; u++) n *= 1024;
    *to = n >= 1 && n < 0x1p53 ? (uint64_t)n : 0;
    return end > text && *to && (!*end || (at && !end[1]));
}

static int set_option(void *field, const struct option *o, const char *text, struct error *e) {
    char *end = NULL;
    bool good = true;
    switch (o->kind) {
    case FLAG: *(bool *)field = true; break;
    case TEXT: *(const char **)field = text; break;
    case WHOLE:
        good = parse_number(text_span(text), (uint64_t)o->high, field) &&
               *(uint64_t *)field >= (uint64_t)o->low;
        break;
    case BYTES: good = parse_size(text, field); break;
    case NUMBER:
        *(double *)field = strtod(text, &end);
        good = end > text && !*end && *(double *)field >= o->low && *(double *)field <= o->high;
        break;
    }
    if (good) return DONE;
    if (o->kind == BYTES) return usage(e, "--memory wants a size as 500M or 4G, not ", text);
    fail(e, "%s wants a %snumber from %.9g to %.9g, not '%s'", o->name,
         o->kind == WHOLE ? "whole " : "", o->low, o->high, text);
    return USAGE;
}

static int parse_options(struct options *o, const struct command *c, char **word, struct error *e) {
    for (; *word; word++) {
        const struct option *found = NULL;
        if ((*word)[0] != '-') {
            if (o->words == c->most_words) return usage(e, "one file too many: ", *word);
            o->word[o->words++] = *word;
            continue;
        }
        for (int k = 0; k < OPTIONS; k++)
            if (strcmp(*word, option_table[k].name) == 0 && takes(c, &option_table[k]))
                found = &option_table[k];
        if (!found) {
            fail(e, "lape %s has no option '%s'; lape %s -h lists them", c->name, *word, c->name);
            return USAGE;
        }
        if (found->kind != FLAG && !*++word) return usage(e, "no value after ", found->name);
        if (set_option((char *)o + found->at, found, *word, e)) return USAGE;
    }
    if (o->words || o->help) return DONE;
    fail(e, "wanted: lape %s %s", c->name, c->words);
    return USAGE;
}

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return a && b && stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

/* A result must not take the place of what it is made from; sums of counts may. */
static int check_output(const struct options *o, const struct command *c, struct error *e) {
    const char *const named[] = {o->neurons, o->counts, o->prompts, o->like};
    bool input = false;
    if (c->no_text && !o->output) {
        fail(e, "-o FILE is missing; %s: not for the standard output", c->no_text);
        return USAGE;
    }
    if (c->run == run_merge) return DONE;
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        input |= same_file(o->output, named[i]);
    for (int i = 0; i < o->words; i++) {
        const char *equals = strchr(o->word[i], '=');
        input |= same_file(o->output, o->word[i]) || (equals && same_file(o->output, equals + 1));
    }
    return input ? usage(e, "-o names a file that is read, too: ", o->output) : DONE;
}

int main(int argc, char **argv) {
    struct error e = {""};
    struct work w = {0};
    /* clang-format off */
    struct options o = {.top = .01, .filter = .95, .bar = .95, .near = 1e-3, .strength = 1,
                        .top_p = 1, .repeat = 1, .new_tokens = 64, .how = "replace",
                        .method = "lape", .tokens = UINT64_MAX, .layer = UINT64_MAX};
    /* clang-format on */
    const char *first = argc > 1 ? argv[1] : "help";
    const bool asks_version = strcmp(first, "--version") == 0;
    const struct command *c = NULL;
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int status = DONE;
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of writing, not the end */
    o.threads = processors > 0 ? (uint64_t)processors : 1;
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(first, command_table[i].name) == 0) c = &command_table[i];
    if (c)
        status = parse_options(&o, c, argv + 2, &e);
    else if (!asks_version && strcmp(first, "help") != 0 && strcmp(first, "-h") != 0 &&
             strcmp(first, "--help") != 0)
        status = usage(&e, "no such command, lape -h lists them: ", first);
    if (c && !status && !o.help) status = check_output(&o, c, &e);
    if (!status) status = output_open(&w.output, o.help ? NULL : o.output, &e);
    if (!status && asks_version)
        printf("lape %s\n", version);
    else if (!status && (!c || o.help))
        print_help(c);
    else if (!status)
        status = c->run(&w, &o, &e);
    if (!status && w.output.file) status = output_finish(&w.output, &e);
    work_free(&w);
    if (status) fprintf(stderr, "lape: %s\n", e.text);
    return status == USAGE ? 2 : status ? 1 : 0;
}
