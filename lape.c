/* The method: count activations, find the language-specific neurons, ablate them, steer with them,
 * and measure what that does. The command line is at the bottom.
 */
#include "lape.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* ---- Text ------------------------------------------------------------------------------------ */

static struct span text_span(const char *s) { return (struct span){s, s ? strlen(s) : 0}; }

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

enum { LABEL_SIZE = 25 }; /* a language's label: 1 to 24 of A-Z a-z 0-9 _ -, but "none" and "-" */

/* Copies a language's label, which must be one. "none" names a table's row, "-" no language. */
static bool set_label(char label[LABEL_SIZE], struct span s) {
    bool good = s.n > 0 && s.n < LABEL_SIZE && !span_is(s, "none") && !span_is(s, "-");
    for (size_t i = 0; good && i < s.n; i++)
        good = isalnum((unsigned char)s.at[i]) || s.at[i] == '_' || s.at[i] == '-';
    if (good) span_copy(label, LABEL_SIZE, s);
    return good;
}

/* ---- Counts ------------------------------------------------------------------------------------
 *
 * What the method needs to know of a corpus: section 2.2 of the paper counts how often a neuron is
 * above zero; kept besides is what steering and certifying others' counts need. All are integers,
 * so that counts of parts add up to the counts of the whole, exactly and in any order.
 */
enum statistic {
    POSITIVE,     /* [L, F] tokens with activation > 0 */
    NEAR_ABOVE,   /* [L, F] tokens with the gate, before its activation function, in (0, near); of
                     products, with these ... */
    NEAR_BELOW,   /* ... and in [-near, 0]. Gates that are off by less than `near` make a count in
                     [POSITIVE - NEAR_ABOVE, POSITIVE + NEAR_BELOW] */
    SUM,          /* [L, F] of activation x 2^20, each rounded to an integer, half to even */
    POSITIVE_SUM, /* [L, F] the same over activations > 0 only */
    HISTOGRAM,    /* [V] tokens by id */
    STATISTICS
};

/* What was counted: of a text's pieces those of number shard, shard + of, shard + 2 of, ... */
struct part {
    uint64_t text; /* a digest of all its pieces' ids: a guard against mistakes */
    uint64_t shard, of;
};
static const struct part WHOLE_TEXT = {0, 0, 1};

enum { MOST_LANGUAGES = 1 << 12 };

struct language {
    char label[LABEL_SIZE];
    uint64_t tokens, pieces;
    struct buffer parts;     /* struct part, by text, of, shard; they have no piece in common */
    int64_t *of[STATISTICS]; /* in imported counts all but POSITIVE may be NULL */
};

struct counts {
    char model[128];            /* its general.name; "unknown" when an import did not give one */
    int layers, neurons, vocab; /* L, F, V */
    uint64_t piece;             /* tokens in a piece; 0 in imported counts */
    int lines;                  /* 1 when every line was a piece, of at most so many */
    int of;                     /* what was counted: GATE, as in the paper, or another */
    uint64_t digest;            /* of the model's file; 0 when it is not known */
    uint64_t bos;               /* 1 when the first of them is the begin-of-sequence token */
    double near;
    int n;                     /* K */
    struct language *language; /* [K], by ascending label */
};

enum { GATE, PRODUCT }; /* act(x W_gate), or that times x W_up */
static const char *const of_name[] = {"gate", "product", NULL};

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

static size_t parts_of(const struct language *l) { return l->parts.n / sizeof(struct part); }

static struct language *find_language(const struct counts *c, const char *label) {
    for (int k = 0; k < c->n; k++)
        if (strcmp(c->language[k].label, label) == 0) return &c->language[k];
    return NULL;
}

/* Adds a language without statistics where its label belongs; pointers to others are void then. */
static struct language *insert_language(struct counts *c, const char *label) {
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
    free(l->parts.at);
}

static void counts_free(struct counts *c) {
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
        for (size_t i = 0; i < parts_of(&c->language[k]); i++) {
            const struct part p = ((struct part *)c->language[k].parts.at)[i];
            const uint64_t row[] = {k, p.text, p.shard, p.of};
            for (int j = 0; j < 4; j++) put_number(w, row[j], 8);
        }
}

/* A GGUF file of architecture "lape-counts"; doc/commands.md says what is in it. */
static void counts_write(const struct counts *c, FILE *to) {
    struct gguf_writer w = {.to = to};
    uint64_t tensors = 0, parts = 0;
    for (int k = 0; k < c->n; k++) {
        parts += parts_of(&c->language[k]);
        for (int s = 0; s < STATISTICS; s++) tensors += c->language[k].of[s] != NULL;
    }
    put_header(&w, tensors, 12 + c->lines + (c->of != GATE) + (c->digest != 0));
    put_string(&w, "general.architecture", "lape-counts");
    put_string(&w, "general.name", c->model);
    put_u64(&w, "lape-counts.layers", c->layers);
    put_u64(&w, "lape-counts.neurons", c->neurons);
    put_u64(&w, "lape-counts.vocabulary", c->vocab);
    put_u64(&w, "lape-counts.piece_length", c->piece);
    put_u64(&w, "lape-counts.bos", c->bos);
    put_f64(&w, "lape-counts.near", c->near);
    if (c->lines) put_u64(&w, "lape-counts.lines", 1);
    if (c->of != GATE) put_u64(&w, "lape-counts.of", c->of);
    if (c->digest) put_u64(&w, "lape-counts.model_digest", c->digest);
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

static void add_part(struct language *l, struct part p) { buffer_add(&l->parts, &p, sizeof p); }

static int by_part(const void *a, const void *b) {
    const struct part *x = a, *y = b;
    if (x->text != y->text) return x->text < y->text ? -1 : 1;
    if (x->of != y->of) return x->of < y->of ? -1 : 1;
    return (x->shard > y->shard) - (x->shard < y->shard);
}

static int by_number(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* How many of n parts in order, from the first on, are shards of one text, and of as many. */
static size_t same_cut(const struct part *p, size_t n) {
    size_t same = 1;
    while (same < n && p[same].text == p->text && p[same].of == p->of) same++;
    return same;
}

/* Whether n shards of a text have a piece in common with m that it was otherwise cut into: a number
 * that the steps of both reach. */
static bool have_common(const struct part *a, size_t n, const struct part *b, size_t m) {
    uint64_t step = a->of, *reached = new_array(n + m, sizeof *reached);
    bool common = false;
    for (uint64_t rest = b->of, next; rest; rest = next) {
        next = step % rest;
        step = rest;
    }
    for (size_t i = 0; i < n; i++) reached[i] = a[i].shard % step * 2;
    for (size_t i = 0; i < m; i++) reached[n + i] = b[i].shard % step * 2 + 1;
    qsort(reached, n + m, sizeof *reached, by_number);
    for (size_t i = 1; i < n + m; i++) common |= reached[i] % 2 && reached[i - 1] == reached[i] - 1;
    free(reached);
    return common;
}

enum { MOST_CUTS = 64 }; /* of one text */

/* Sorts parts. Nothing is counted twice: -1 when two have a piece in common. */
static int sort_parts(struct part *p, size_t n, const char *label, struct error *e) {
    if (n) qsort(p, n, sizeof *p, by_part);
    for (size_t i = 1; i < n; i++)
        if (by_part(&p[i - 1], &p[i]) == 0)
            return fail(e, "language %s: shard %llu of %llu of its text is counted already", label,
                        (ull)p[i].shard + 1, (ull)p[i].of);
    for (size_t i = 0, some; i < n; i += some) {
        int cuts = 1;
        some = same_cut(p + i, n - i);
        for (size_t k = i + some, more; k < n && p[k].text == p[i].text; k += more) {
            more = same_cut(p + k, n - k);
            if (++cuts > MOST_CUTS)
                return fail(e, "language %s: its text is cut in more than %d ways", label,
                            MOST_CUTS);
            if (have_common(p + i, some, p + k, more))
                return fail(e,
                            "language %s: a shard of %llu of its text has a piece that is counted "
                            "already, in one of %llu",
                            label, (ull)p[k].of, (ull)p[i].of);
        }
    }
    return 0;
}

/* Tokens are counted from 0 to all of the language's, and only SUM may be negative. */
static int check_statistic(const struct counts *c, const struct language *l, int s, size_t i,
                           struct error *e) {
    const int64_t v = l->of[s][i];
    if (s == SUM || (v >= 0 && (s == POSITIVE_SUM || (uint64_t)v <= l->tokens))) return 0;
    return fail(e, "language %s: %lld %s of %llu tokens at %s %zu, %s %zu", l->label, (long long)v,
                statistic_name[s], (ull)l->tokens, s == HISTOGRAM ? "row" : "layer",
                i / columns_of(c, s), s == HISTOGRAM ? "token" : "neuron", i % columns_of(c, s));
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
            if (check_statistic(c, l, s, i, e)) return -1;
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
        add_part(&c->language[get_u64(at)], p);
    }
    for (int k = 0; k < c->n; k++) {
        struct language *l = &c->language[k];
        struct part whole = {l->tokens, 0, 1};
        for (size_t i = 0; !l->parts.n && i < all_neurons(c); i++)
            whole.text = digest_on(whole.text, l->of[POSITIVE][i]);
        if (!l->parts.n) add_part(l, whole);
        if (sort_parts(l->parts.at, parts_of(l), l->label, e)) return -1;
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
    if (labels->count > MOST_LANGUAGES)
        return fail(e, "%llu languages are more than %d", (ull)labels->count, MOST_LANGUAGES);
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
        gguf_int(g, "lape-counts.lines", 0, 1, 0, &c->lines, e) ||
        gguf_int(g, "lape-counts.of", GATE, PRODUCT, GATE, &c->of, e) ||
        gguf_u64(g, "lape-counts.model_digest", &c->digest, e) ||
        gguf_float(g, "lape-counts.near", 0, 1e6, 0, &c->near, e))
        return -1;
    span_copy(c->model, sizeof c->model, s);
    c->piece = piece;
    c->bos = bos;
    return read_languages(c, g, e) || read_parts(c, g, e) ||
           gguf_check_used(g, "lape-counts.", (const char *const[]){NULL}, e) ||
           gguf_check_tensors(g, e);
}

static int counts_open(struct counts *c, const char *path, struct error *e) {
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

/* The parts of both; all shards of a text are the text. */
static int add_parts(struct language *to, const struct language *from, struct error *e) {
    const size_t n = parts_of(to) + parts_of(from);
    struct buffer all = {0};
    buffer_add(&all, to->parts.at, to->parts.n);
    buffer_add(&all, from->parts.at, from->parts.n);
    struct part *p = all.at;
    if (sort_parts(p, n, to->label, e)) {
        free(all.at);
        return -1;
    }
    free(to->parts.at);
    to->parts = all;
    to->parts.n = 0; /* room for all is there */
    for (size_t i = 0, some; i < n; i += some) {
        const struct part whole = {p[i].text, 0, 1};
        some = same_cut(p + i, n - i);
        if (some == p[i].of)
            add_part(to, whole);
        else
            for (size_t k = i; k < i + some; k++) add_part(to, p[k]);
    }
    return 0;
}

/* Or takes away what are some of the same pieces' tokens. */
static int add_language(const struct counts *c, struct language *to, const struct language *from,
                        bool minus, struct error *e) {
    if (!minus && from->tokens > INT64_MAX - to->tokens)
        return fail(e, "the tokens of language %s are beyond 64 bits", to->label);
    if (minus && from->tokens > to->tokens)
        return fail(e, "language %s: %llu tokens cannot be taken from %llu", to->label,
                    (ull)from->tokens, (ull)to->tokens);
    if (!minus && add_parts(to, from, e)) return -1;
    to->tokens += minus ? -from->tokens : from->tokens;
    to->pieces += minus ? 0 : from->pieces;
    for (int s = 0; s < STATISTICS; s++) {
        if (!to->of[s] != !from->of[s])
            return fail(e, "language %s: only one of the files has %s", to->label,
                        statistic_name[s]);
        for (size_t i = 0; to->of[s] && i < rows_of(c, s) * columns_of(c, s); i++) {
            const int64_t v = from->of[s][i];
            if ((minus && v == INT64_MIN) || add_overflows(&to->of[s][i], minus ? -v : v))
                return fail(e, "language %s: %s is beyond 64 bits", to->label, statistic_name[s]);
            if (minus && check_statistic(c, to, s, i, e)) return -1;
        }
    }
    return 0;
}

/* How they were counted, in words. */
static void settings_of(const struct counts *c, char text[128]) {
    snprintf(text, 128, "%s of %llu%s, of the %s, near %.17g", c->lines ? "lines" : "pieces",
             (ull)c->piece, c->bos ? " with BOS" : "", of_name[c->of], c->near);
}

/* Whether both are of one model, counted in one way. */
static int check_same(const struct counts *to, const struct counts *from, struct error *e) {
    char a[128], b[128];
    if (strcmp(to->model, from->model) || to->layers != from->layers ||
        to->neurons != from->neurons || to->vocab != from->vocab)
        return fail(e,
                    "counts of another model: %s, %d x %d, vocabulary %d, not %s, %d x %d, "
                    "vocabulary %d",
                    from->model, from->layers, from->neurons, from->vocab, to->model, to->layers,
                    to->neurons, to->vocab);
    if (to->digest && from->digest && to->digest != from->digest)
        return fail(e, "counts of another model of the name %s: digest %016llx, not %016llx",
                    to->model, (ull)from->digest, (ull)to->digest);
    settings_of(to, a);
    settings_of(from, b);
    return strcmp(a, b) ? fail(e, "counted otherwise: %s, not %s", b, a) : 0;
}

/* Adds `from` to `to`: languages that both have are summed, the others join. -1 when they are of
 * different models, pieces or tolerances, when one lacks a statistic, when a piece would be counted
 * twice, when languages are too many, or when a sum overflows. With `minus` takes it away: -1 when
 * it is no part of `to`. */
static int counts_add(struct counts *to, const struct counts *from, bool minus, struct error *e) {
    if (check_same(to, from, e)) return -1;
    if (!from->digest) to->digest = 0; /* not of all is it known */
    for (int k = 0; k < from->n; k++) {
        const struct language *f = &from->language[k];
        struct language *l = find_language(to, f->label);
        if (!l && minus) return fail(e, "language %s is not in the sum", f->label);
        if (!l && to->n == MOST_LANGUAGES)
            return fail(e, "language %s is one more than %d", f->label, MOST_LANGUAGES);
        if (!l) {
            l = insert_language(to, f->label);
            for (int s = 0; s < STATISTICS; s++) l->of[s] = f->of[s] ? new_statistic(to, s) : NULL;
        }
        if (add_language(to, l, f, minus, e)) return -1;
    }
    return 0;
}

/* ---- The hook that counts -------------------------------------------------------------------- */

/* What it sees goes to `language`, which has all statistics. */
struct counter {
    struct pool *pool;
    const struct counts *counts;
    struct language *language;
    const real *values; /* its own: [rows, F] of the batch at hand, at `layer` */
    int rows, layer;
};

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

static void count_neurons(void *counter, enum point at, int layer, real *values, int rows,
                          int columns) {
    struct counter *c = counter;
    static const enum point near_at[] = {AT_GATE, AT_PRODUCT}, active_at[] = {AT_ACT, AT_PRODUCT};
    const bool near = at == near_at[c->counts->of], active = at == active_at[c->counts->of];
    const int blocks = (columns + COUNT_BLOCK - 1) / COUNT_BLOCK;
    c->values = values;
    c->rows = rows;
    c->layer = layer;
    if (near) pool_run(c->pool, blocks, count_near, c);
    if (active) pool_run(c->pool, blocks, count_positive, c);
}

/* -1 when an activation was not a number, or activations were too large to be added up exactly
 * (4096 of one neuron's to 2^31, all of them to 2^43): says where. */
static int count_is_sound(const struct counter *c, struct error *e) {
    for (size_t i = 0; i < all_neurons(c->counts); i++)
        if (c->language->of[POSITIVE][i] < 0)
            return fail(e,
                        "language %s, layer %zu, neuron %zu: activations that are not numbers, "
                        "or too large to be added up",
                        c->language->label, i / c->counts->neurons, i % c->counts->neurons);
    return 0;
}

/* ---- Finding language-specific neurons ---------------------------------------------------------
 *
 * p(i, k) = POSITIVE / tokens for neuron i and language k; q = p normalised to sum 1 over k;
 * LAPE = -sum_k q ln q (section 2.2). Selected as by the released code:
 *   threshold = the round(filter x |p|)-th smallest p; who has no p above it is out;
 *   of the rest, the round(top x neurons) of lowest score, ties by layer, then index;
 *   each belongs to the languages with p above the round(bar x |p|)-th smallest p.
 * round() is half to even. A rank of 0 is no threshold: every p is above it.
 */
struct neurons {
    char model[128];
    uint64_t digest;           /* of the model's file; 0 when it is not known */
    int layers, neurons;       /* L, F */
    int languages;             /* K */
    char (*label)[LABEL_SIZE]; /* [K] */
    size_t n;
    struct neuron {
        int layer, index;
    } * neuron;   /* [n], by layer, then index */
    bool *member; /* [n, K] belongs to the language */
    double *p;    /* [n, K] activation probabilities; NULL when read from a file */
};

enum method { /* the score; the paper compares LAPE with the others */
              LAPE,
              LAP,   /* -max_k p: the probability alone */
              LAVE,  /* LAPE's entropy, of mean positive activations instead of p */
              RANDOM /* the control */
};

struct find {
    enum method method;
    double top, filter, bar;
    double penalty; /* X: LAPE scores H / ln K - X max_k p / (mean of 1/1 .. 1/K), H of p
                       that are 1e-12 at least (NJUNLP, Language-Neurons-Alignment); 0: H */
    uint64_t seed;  /* of RANDOM */
    const struct neurons *like;  /* RANDOM draws as many per layer and language; NULL: `top` */
    double threshold, bar_value; /* out: the two p; -1 for none */
};

struct scored {
    double score;
    size_t at; /* layer x F + index */
};

static int by_score(const void *a, const void *b) {
    const struct scored *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Python's round() for 0 <= x < 2^52: to the nearest integer, half to even. */
static size_t round_half_even(double x) { return (size_t)((x + 0x1p52) - 0x1p52); }

/* round(rate n). The product is an fma lest one that a compiler fuses be rounded otherwise. */
static size_t rank_of(double rate, size_t n) { return round_half_even(fma(rate, (double)n, 0)); }

/* The round(rate n)-th smallest of n; -1, which every p is above, when that rank is 0. */
static double value_at(const double *sorted, size_t n, double rate) {
    const size_t rank = rank_of(rate, n);
    return rank ? sorted[rank - 1] : -1;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The two p that rates stand for. */
static void set_thresholds(struct find *f, const double *p, size_t n) {
    double *sorted = memcpy(new_array(n, sizeof *sorted), p, n * sizeof *p);
    qsort(sorted, n, sizeof *sorted, by_value);
    f->threshold = value_at(sorted, n, f->filter);
    f->bar_value = value_at(sorted, n, f->bar);
    free(sorted);
}

/* In [0, 1), a multiple of 2^-53: splitmix64 (Steele, Lea and Flood, 2014). */
static double random_fraction(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
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
    const size_t budget = rank_of(f->top, s->N);
    struct scored *scored = new_array(s->N, sizeof *scored);
    double *room = new_array(2 * (size_t)K, sizeof *room);
    uint64_t state = f->seed;
    size_t n = 0;
    set_thresholds(f, s->p, s->N * K);
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
    *out = (struct neurons){.digest = c->digest,
                            .layers = c->layers,
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

/* -1 when a language has no tokens, when there is but one, whose entropy is 0 for every neuron,
 * when LAVE's sums are missing, or when `like` is of another model or has a language that the
 * counts lack. */
static int find_neurons(const struct counts *c, struct find *f, struct neurons *out,
                        struct error *e) {
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

static const char *const method_name[] = {"lape", "lap", "lave", "random", NULL};

/* Tab-separated values with a commented header; doc/commands.md says which columns. */
static void neurons_print(const struct neurons *n, const struct counts *c, const struct find *f,
                          FILE *to) {
    const int K = n->languages;
    double *room = new_array(K, sizeof *room);
    fprintf(to, "# language-specific neurons\n");
    if (*n->model) fprintf(to, "# model: %s\n", n->model); /* a file may have no name for it */
    if (n->digest) fprintf(to, "# digest: %016llx\n", (ull)n->digest);
    fprintf(to, "# layers: %d\n# neurons: %d\n", n->layers, n->neurons);
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

enum { MOST_LAYERS = 1 << 16 }; /* of a list: with MOST_LANGUAGES, it bounds rows */

static int label_index(const struct neurons *n, struct span s) {
    for (int k = 0; k < n->languages; k++)
        if (span_is(s, n->label[k])) return k;
    return -1;
}

/* "# key: value"; other comments pass. */
static int read_header(struct neurons *n, struct span line, struct error *e) {
    struct span key, word, value = line;
    uint64_t number = 0;
    char text[17], *stop = text;
    next_part(&value, ':', &key);
    const bool model = span_is(key, "# model"), languages = span_is(key, "# languages");
    const bool digest = span_is(key, "# digest"), layers = span_is(key, "# layers");
    int *size = layers ? &n->layers : &n->neurons;
    if (!model && !languages && !digest && !layers && !span_is(key, "# neurons")) return 0;
    const bool again = model       ? *n->model != 0
                       : languages ? n->languages > 0
                       : digest    ? n->digest != 0
                                   : *size != 0;
    if (value.n < 2 || *value.at != ' ' || again)
        return fail(e, "'%.*s' has no value, or stands twice", brief(key), key.at);
    value = (struct span){value.at + 1, value.n - 1};
    if (model) {
        span_copy(n->model, sizeof n->model, value);
    } else if (digest) {
        span_copy(text, sizeof text, value);
        n->digest = strtoull(text, &stop, 16);
        if (value.n != 16 || *stop || !n->digest)
            return fail(e, "'%.*s' is not 16 hexadecimal digits", brief(key), key.at);
    } else if (!languages) {
        if (!parse_number(value, layers ? MOST_LAYERS : 1 << 24, &number))
            return fail(e, "'%.*s' is not a number up to %d", brief(key), key.at,
                        layers ? MOST_LAYERS : 1 << 24);
        *size = (int)number;
    }
    while (languages && next_part(&value, ' ', &word)) {
        if (n->languages == MOST_LANGUAGES)
            return fail(e, "'%.*s' are more than %d", brief(key), key.at, MOST_LANGUAGES);
        n->label = grow_array(n->label, n->languages + 1, sizeof *n->label);
        if (label_index(n, word) >= 0 || !set_label(n->label[n->languages], word))
            return fail(e, "'%.*s' is no language's label, or stands twice", brief(word), word.at);
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
        if (k < 0) return fail(e, "language '%.*s' is not in the header", brief(word), word.at);
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

static int neurons_open(struct neurons *n, const char *path, struct error *e) {
    struct span file;
    char where[32];
    size_t line = 1;
    *n = (struct neurons){0};
    if (map_file(path, &file, e)) return -1;
    int bad = read_neurons(n, file, &line, e);
    munmap((void *)file.at, file.n);
    if (!bad) return 0;
    snprintf(where, sizeof where, "line %zu", line);
    fail_in(e, where);
    return fail_in(e, path);
}

/* ---- Ablation and steering ---------------------------------------------------------------------
 *
 * Both change single neurons by a <- scale a + shift, at every token.
 */
struct edits {
    size_t *first; /* [L + 1] where a layer's edits start */
    struct edit {
        int neuron;
        real scale, shift;
    } * edit;
};

enum how {           /* with X = strength, and means over all tokens of a language */
           REPLACE,  /* a <- X mean */
           ADD_MEAN, /* a <- a + X mean */
           SCALE,    /* a <- X a */
           DIFFMEAN  /* a <- a + X (mean - the average of the other languages' means) */
};

struct steer {
    int off; /* language whose neurons become 0, or a mean; -1: none */
    int on;  /* language whose neurons are then strengthened; -1: none */
    enum how how;
    double strength;
    const struct counts *counts; /* for the means; unused by SCALE */
    bool to_mean;                /* neurons that are off become their mean in other languages */
};

static double mean(const struct language *l, size_t neuron) {
    return (double)l->of[SUM][neuron] / 0x1p20 / (double)l->tokens;
}

/* The average of the other languages' means; 0 when there is none. */
static double mean_of_others(const struct counts *c, const struct language *l, size_t neuron) {
    double others = 0;
    for (int k = 0; k < c->n; k++)
        if (&c->language[k] != l) others += mean(&c->language[k], neuron);
    return c->n > 1 ? others / (c->n - 1) : 0;
}

static void strengthen(struct edit *x, const struct steer *s, const struct language *l,
                       size_t neuron) {
    const double own = s->how == SCALE ? 0 : mean(l, neuron);
    switch (s->how) {
    case REPLACE: *x = (struct edit){x->neuron, 0, (real)(s->strength * own)}; break;
    case ADD_MEAN: x->shift += (real)(s->strength * own); break;
    case DIFFMEAN:
        x->shift += (real)(s->strength * (own - mean_of_others(s->counts, l, neuron)));
        break;
    case SCALE: x->scale *= (real)s->strength; x->shift *= (real)s->strength;
    }
}

/* A language of the list in counts that are of the neurons' model and hold sums of them. */
static const struct language *find_means(const struct neurons *n, const struct counts *c,
                                         const char *label, struct error *e) {
    const struct language *l = find_language(c, label);
    bool sums = true;
    for (int k = 0; k < c->n; k++) sums &= c->language[k].of[SUM] && c->language[k].tokens;
    if (c->layers != n->layers || c->neurons != n->neurons)
        fail(e, "the counts are of a model of %d x %d neurons, the list of %d x %d", c->layers,
             c->neurons, n->layers, n->neurons);
    else if (!l)
        fail(e, "the counts lack language %s", label);
    else if (!sums)
        fail(e, "the counts hold no sums of activations: there are no means to steer by");
    else if (c->of != GATE)
        fail(e, "the counts are of the %s: they hold no means of neurons", of_name[c->of]);
    else
        return l;
    return NULL;
}

/* -1 when a mean is wanted that the counts do not hold. */
static int edits_new(struct edits *x, const struct neurons *n, const struct steer *s,
                     struct error *e) {
    const struct language *to = NULL, *from = NULL;
    *x = (struct edits){0};
    if (s->on >= 0 && s->how != SCALE && !(to = find_means(n, s->counts, n->label[s->on], e)))
        return -1;
    if (s->off >= 0 && s->to_mean && !(from = find_means(n, s->counts, n->label[s->off], e)))
        return -1;
    if (from && s->counts->n < 2)
        return fail(e, "the counts have no other language to take means of");
    x->first = new_array(n->layers + 1, sizeof *x->first);
    x->edit = new_array(n->n, sizeof *x->edit);
    size_t used = 0, i = 0;
    for (int layer = 0; layer < n->layers; x->first[++layer] = used)
        for (; i < n->n && n->neuron[i].layer == layer; i++) {
            const bool *member = n->member + i * n->languages;
            const bool off = s->off >= 0 && member[s->off], on = s->on >= 0 && member[s->on];
            struct edit edit = {n->neuron[i].index, off ? 0 : 1, 0};
            const size_t at = (size_t)layer * n->neurons + edit.neuron;
            if (off && from) edit.shift = (real)mean_of_others(s->counts, from, at);
            if (on) strengthen(&edit, s, to, at);
            if (off || on) x->edit[used++] = edit;
        }
    return 0;
}

static void edits_free(struct edits *x) {
    free(x->first);
    free(x->edit);
    *x = (struct edits){0};
}

/* The hook that ablates and steers. */
static void edit_neurons(void *edits, enum point at, int layer, real *values, int rows,
                         int columns) {
    const struct edits *x = edits;
    if (at != AT_ACT) return;
    for (int t = 0; t < rows; t++)
        for (size_t i = x->first[layer]; i < x->first[layer + 1]; i++) {
            real *a = values + (size_t)t * columns + x->edit[i].neuron;
            *a = real_fma(*a, x->edit[i].scale, x->edit[i].shift);
        }
}

/* ---- The end of the program ------------------------------------------------------------------ */

enum { DONE, FAILED, USAGE }; /* exit statuses */

/* With one line on standard error. Outputs that are not finished leave nothing behind. */
static _Noreturn void end(int status, const char *format, ...) {
    char text[sizeof((struct error *)0)->text];
    struct error e;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fail(&e, "%s", text);
    fprintf(stderr, "lape: %s\n", e.text);
    exit(status);
}

/* What failed is the end, with its message and, before it, where that was, unless that is NULL. */
static void must(int bad, const char *where, const struct error *e) {
    if (bad) end(FAILED, "%s%s%s", where ? where : "", where ? ": " : "", e->text);
}

/* ---- A checkpoint with its tokenizer --------------------------------------------------------- */

struct checkpoint {
    struct model model;
    struct pool *pool;
    struct vocabulary vocabulary; /* what the tokenizer stands on */
    struct tokenizer *tokenizer;  /* NULL: the file has none */
    int bos, eos;                 /* -1: none */
    int add_bos;                  /* 1: a prompt starts with it */
    struct error no_tokenizer;    /* why there is none */
};

/* Merges, which GPT-2's tokenizers have, and SentencePiece's may have in place of scores. */
static int read_merges(const struct gguf *g, bool merged, struct vocabulary *v, struct error *e) {
    if (!merged && !gguf_find(g, "tokenizer.ggml.merges")) return 0;
    if (merged && gguf_string(g, "tokenizer.ggml.pre", &v->pre, e)) return -1;
    const struct gguf_value *merges = gguf_array(g, "tokenizer.ggml.merges", GGUF_STRING, e);
    if (!merges) return -1;
    if (merges->count > INT32_MAX / 4)
        return fail(e, "%llu merges are too many", (ull)merges->count);
    v->merge = gguf_strings(merges);
    v->merges = (int32_t)merges->count;
    return 0;
}

/* Words that were added to the vocabulary, and are found before the rest of a text is encoded. */
static int read_added(const struct gguf *g, struct vocabulary *v, struct error *e) {
    if (!gguf_find(g, "tokenizer.ggml.added_tokens")) return 0;
    const struct gguf_value *ids = gguf_array(g, "tokenizer.ggml.added_tokens", GGUF_I32, e);
    const struct gguf_value *normal =
        ids ? gguf_array(g, "tokenizer.ggml.added_normalized", GGUF_BOOL, e) : NULL;
    if (!normal) return -1;
    if (ids->count != normal->count || ids->count > (uint64_t)v->n)
        return fail(e, "%llu added tokens, %llu of them normalized or not", (ull)ids->count,
                    (ull)normal->count);
    v->n_added = (int32_t)ids->count;
    v->added = gguf_numbers(ids);
    v->normalised = gguf_numbers(normal);
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

static int read_pieces(const struct gguf *g, bool merged, struct vocabulary *v, struct error *e) {
    static const char *const harmless[] = {
        "chat_template*",     "huggingface.json",   "*_token_id", "*_token_ids",
        "ggml.scores",        "ggml.pre",                  /* where merges, or scores, decide */
        "ggml.add_eos_token", "ggml.add_sep_token", NULL}; /* texts and prompts never end so */
    const struct gguf_value *pieces = gguf_array(g, "tokenizer.ggml.tokens", GGUF_STRING, e);
    const struct gguf_value *scores =
        v->merge ? pieces : gguf_array(g, "tokenizer.ggml.scores", GGUF_F32, e);
    const struct gguf_value *kinds = gguf_array(g, "tokenizer.ggml.token_type", GGUF_I32, e);
    if (!pieces || !scores || !kinds || check_spaces(g, merged, &v->add_prefix, e) ||
        read_added(g, v, e) || gguf_check_used(g, "tokenizer.", harmless, e))
        return -1;
    if (pieces->count != (uint64_t)v->n || scores->count != pieces->count ||
        kinds->count != pieces->count)
        return fail(e, "%llu tokens, %llu scores and %llu kinds for a vocabulary of %d",
                    (ull)pieces->count, (ull)scores->count, (ull)kinds->count, v->n);
    v->piece = gguf_strings(pieces);
    v->score = v->merge ? NULL : gguf_numbers(scores);
    v->kind = gguf_numbers(kinds);
    for (int i = 0; v->score && i < v->n; i++)
        if (isnan(v->score[i])) return fail(e, "the score of token %d is no number", i);
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
    struct vocabulary *v = &c->vocabulary;
    struct span kind = {"none", 4};
    v->n = vocabulary_size(g);
    c->bos = c->eos = -1;
    if (gguf_find(g, "tokenizer.ggml.model") && gguf_string(g, "tokenizer.ggml.model", &kind, e))
        return -1;
    if (span_is(kind, "none") || span_is(kind, "no_vocab")) return fail(e, "it has no tokenizer");
    const bool merged = span_is(kind, "gpt2");
    if (gguf_int(g, "tokenizer.ggml.bos_token_id", 0, v->n - 1, -1, &c->bos, e) ||
        gguf_int(g, "tokenizer.ggml.eos_token_id", 0, v->n - 1, -1, &c->eos, e))
        return -1;
    if (!merged && !span_is(kind, "llama"))
        return fail(e,
                    "tokenizer '%.*s' is not supported; 'llama' (SentencePiece BPE) and 'gpt2' "
                    "(byte-level BPE) are",
                    brief(kind), kind.at);
    if (read_merges(g, merged, v, e) ||
        gguf_int(g, "tokenizer.ggml.add_bos_token", 0, 1, !merged || default_bos(v->pre) == 1,
                 &c->add_bos, e) ||
        read_pieces(g, merged, v, e))
        return -1;
    c->tokenizer = tokenizer_new(v, e);
    return c->tokenizer ? 0 : -1;
}

/* A model whose tokenizer is not supported serves where no text is. */
static void checkpoint_open(struct checkpoint *c, const char *path, uint64_t threads) {
    struct error e;
    must(model_open(&c->model, path, &e), NULL, &e);
    (void)read_tokenizer(c, &c->no_tokenizer);
    c->pool = pool_new((int)threads, &e);
    must(!c->pool, NULL, &e);
}

/* Only its tokenizer: weights, where there are any, are not looked at. */
static void vocabulary_open(struct checkpoint *c, const char *path) {
    struct error e;
    must(gguf_open(&c->model.file, path, &e), NULL, &e);
    must(read_tokenizer(c, &e), path, &e);
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

static struct npy npy_open(const char *path) {
    char text[1 << 12];
    struct npy a = {0};
    struct span file;
    struct error e;
    must(map_file(path, &file, &e), NULL, &e);
    if (file.n < 12 || memcmp(file.at, "\x93NUMPY", 6) != 0 || file.at[6] < 1 || file.at[6] > 3)
        end(FAILED, "%s: not a .npy file of version 1, 2 or 3", path);
    const size_t before = file.at[6] == 1 ? 10 : 12;
    const size_t header = before == 10 ? get_u32(file.at + 8) & 0xffff : get_u32(file.at + 8);
    if (header > file.n - before || header >= sizeof text)
        end(FAILED, "%s: the .npy header is cut short", path);
    memcpy(text, file.at + before, header);
    text[header] = '\0';
    if (!parse_header(text, &a))
        end(FAILED, "%s: token ids are little-endian integers in C order, these are not", path);
    a.start = before + header;
    const size_t bytes = file.n - a.start;
    if (bytes / a.size != a.n || bytes % a.size)
        end(FAILED, "%s: the .npy file is not as long as its shape says", path);
    if (!bytes) end(FAILED, "%s: the .npy file holds no numbers", path);
    munmap((void *)file.at, file.n);
    return a;
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
 * as the released code does. Or every line is a text and a piece of its own. Or it holds ids
 * already: .npy of any integer type, or raw .bin. It is read in parts, so that its size does not
 * matter.
 */
struct corpus {
    char label[LABEL_SIZE];
    const char *path; /* "-" is standard input */
    int file;
    const struct tokenizer *tokenizer;
    bool lines;              /* a piece each; a piece ends with its line */
    struct encoder *encoder; /* NULL: the file holds ids, integers of so many bytes */
    unsigned id_size;
    bool id_signed;
    int vocab;
    uint64_t limit, taken; /* ids to take at most, and taken so far */
    uint64_t size, place;  /* bytes of the file, 0 when not known, and of them read */
    struct buffer bytes;   /* read, and not ids yet */
    struct buffer ids;     /* int32_t, of which the first `used` have been taken */
    size_t used;
    size_t line;      /* where in `bytes` the next line begins */
    bool read;        /* to its end; of lines only */
    uint64_t numbers; /* ids that a file of ids has held so far, or lines */
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

/* Whether the file holds ids, and of which type. From which byte on: 0 for a text, too. */
static off_t find_ids(struct corpus *c) {
    if (ends_with(c->path, ".bin")) c->id_size = c->vocab <= 1 << 16 ? 2 : 4;
    if (!ends_with(c->path, ".npy")) return 0;
    const struct npy a = npy_open(c->path);
    c->id_size = a.size;
    c->id_signed = a.is_signed;
    return (off_t)a.start;
}

static void corpus_open(struct corpus *c, const struct checkpoint *m, uint64_t limit) {
    struct stat st;
    c->limit = limit;
    c->vocab = m->model.config.vocab;
    const off_t start = find_ids(c);
    if (!c->id_size && !m->tokenizer)
        end(FAILED, "%s: is text, and the model takes token ids only, as .npy or .bin: %s", c->path,
            m->no_tokenizer.text);
    if (c->id_size && c->lines) end(FAILED, "%s: holds token ids; --lines are of text", c->path);
    if (!c->id_size) c->encoder = encoder_new(m->tokenizer);
    c->tokenizer = m->tokenizer;
    c->file = strcmp(c->path, "-") ? open(c->path, O_RDONLY) : STDIN_FILENO;
    if (c->file < 0 || (start && lseek(c->file, start, SEEK_SET) < 0))
        end(FAILED, "%s: cannot open: %s", c->path, strerror(errno));
    if (fstat(c->file, &st) == 0 && S_ISREG(st.st_mode)) c->size = (uint64_t)st.st_size;
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

static int take_text(struct corpus *c, bool last, struct error *e) {
    const struct span text = {c->bytes.at, c->bytes.n};
    size_t used;
    if (encode_part(c->encoder, text, last, &c->ids, &used, e)) return -1;
    drop_front(&c->bytes, used);
    return 0;
}

/* Reads a megabyte, or, where so much text has no place to be cut yet, as much again. Whether that
 * was the last of the file. */
static bool read_more(struct corpus *c) {
    char block[1 << 16];
    size_t more = c->bytes.n > 1 << 20 ? c->bytes.n : 1 << 20;
    ssize_t n = 1;
    for (; more && n > 0; more -= least(more, n)) {
        do n = read(c->file, block, least(sizeof block, more));
        while (n < 0 && errno == EINTR);
        if (n < 0) end(FAILED, "%s: cannot read: %s", c->path, strerror(errno));
        buffer_add(&c->bytes, block, n);
        c->place += n;
    }
    if (c->encoder && c->place == c->bytes.n && c->place > 3 && !memcmp(c->bytes.at, "PK\3\4", 4))
        end(FAILED,
            "%s: an archive, as torch.save makes it, is no text; token ids are read from .npy, "
            "which tools/convert.py ids FILE -o ids.npy makes",
            c->path);
    return n == 0;
}

/* Of the ids at hand only those that may still be taken. */
static void keep_limit(struct corpus *c) {
    const uint64_t left = c->limit - c->taken;
    c->ended |= ids_in(&c->ids) >= left;
    if (ids_in(&c->ids) > left) c->ids.n = (size_t)left * sizeof(int32_t);
}

/* Sees to it that n ids, or all that are left, can be taken. */
static void corpus_fill(struct corpus *c, size_t n) {
    struct error e;
    while (!c->ended && ids_in(&c->ids) - c->used < n) {
        drop_front(&c->ids, c->used * sizeof(int32_t));
        c->used = 0;
        const bool last = read_more(c);
        must(c->encoder ? take_text(c, last, &e) : take_integers(c, last, &e), c->path, &e);
        c->ended = last;
        keep_limit(c);
    }
}

/* Sees to it that the next line that has ids is what can be taken, up to so many of them. */
static void next_line(struct corpus *c, uint64_t most) {
    struct error e;
    for (c->ids.n = c->used = 0; !c->ids.n && !c->ended;
         c->ended = c->read && c->line == c->bytes.n) {
        const size_t left = c->bytes.n - c->line; /* none, and there may be no address either */
        const char *at = left ? (char *)c->bytes.at + c->line : NULL;
        const char *stop = left ? memchr(at, '\n', left) : NULL;
        if (!stop && !c->read) {
            drop_front(&c->bytes, c->line);
            c->line = 0;
            c->read = read_more(c);
            continue;
        }
        const size_t n = stop ? (size_t)(stop - at) : left;
        c->numbers++;
        if (encode(c->tokenizer, (struct span){at, n}, &c->ids, &e))
            end(FAILED, "%s: line %llu: %s", c->path, (ull)c->numbers, e.text);
        c->line += n + (stop != NULL);
    }
    if (ids_in(&c->ids) > most) c->ids.n = (size_t)most * sizeof(int32_t);
    keep_limit(c);
}

/* The next piece: of `length` ids, or of a line's, at most so many. NULL when there is none. */
static const int32_t *take_piece(struct corpus *c, size_t length, size_t *n) {
    c->lines ? next_line(c, length) : corpus_fill(c, length);
    *n = c->lines ? ids_in(&c->ids) : length;
    if (*n == 0 || ids_in(&c->ids) - c->used < *n) return NULL;
    const int32_t *piece = (int32_t *)c->ids.at + c->used;
    for (size_t i = 0; i < *n; i++) c->digest = digest_on(c->digest, (uint32_t)piece[i]);
    if (c->lines) c->digest = digest_on(c->digest, *n);
    c->used += *n;
    c->taken += *n;
    c->pieces++;
    return piece;
}

/* What part of the corpus has been taken, up to 1, once there is some; -1 when nobody knows. */
static double corpus_done(const struct corpus *c) {
    const double taken = (double)c->taken, held = (double)(ids_in(&c->ids) - c->used);
    const double used = taken / (taken + held); /* of what has become ids */
    const double read = (double)c->place - (double)(c->bytes.n - c->line);
    const double bytes = c->size ? read / (double)c->size * used : -1;
    const double ids = c->limit < UINT64_MAX ? taken / (double)c->limit : -1;
    return c->ended ? used : bytes > ids ? bytes : ids;
}

/* ---- Pushing pieces through the model -------------------------------------------------------- */

struct feed {
    const struct checkpoint *m;
    struct run *run;
    int length;                /* tokens in a piece at most, with the BOS if there is one */
    int room;                  /* tokens at once */
    bool bos;                  /* every piece begins with it */
    int32_t *tokens;           /* [room] at hand, ... */
    int n;                     /* ... so many */
    struct sequence *sequence; /* [room] the pieces they are of */
    struct corpus *corpus;     /* that is read from, ... */
    struct part part;          /* ... and which of its pieces are taken */
};

static void feed_new(struct feed *f, const struct checkpoint *m, uint64_t length, uint64_t batch,
                     bool bos) {
    const uint64_t most = batch * length;
    struct error e;
    *f = (struct feed){.m = m, .length = (int)length, .room = (int)most, .bos = bos};
    if (most > INT_MAX)
        end(FAILED, "%llu pieces of %llu tokens are too many at once", (ull)batch, (ull)length);
    f->tokens = new_array(most, sizeof *f->tokens);
    f->sequence = new_array(most, sizeof *f->sequence);
    f->run = run_new(&m->model, m->pool, (struct room){f->room, f->room, f->length, false}, &e);
    must(!f->run, NULL, &e);
}

/* The part's next piece, its BOS before it: how many tokens, 0 at the end of the corpus. */
static int next_piece(struct feed *f, int32_t *to) {
    struct corpus *c = f->corpus;
    const int32_t *piece;
    size_t n;
    do piece = take_piece(c, f->length - f->bos, &n);
    while (piece && (c->pieces - 1) % f->part.of != f->part.shard);
    if (!piece) return 0;
    to[0] = f->m->bos;
    memcpy(to + f->bos, piece, n * sizeof *to);
    return (int)n + f->bos;
}

/* Takes as many pieces as there is room for: 0 at the end of the corpus. */
static int next_batch(struct feed *f) {
    int pieces = 0;
    f->n = 0;
    for (int n; f->n + f->length <= f->room && (n = next_piece(f, f->tokens + f->n)); f->n += n)
        f->sequence[pieces++] = (struct sequence){f->tokens + f->n, n, 0, f->n};
    return pieces;
}

/* ---- Progress -------------------------------------------------------------------------------- */

struct progress {
    bool quiet, terminal;
    double start, shown, saved; /* seconds: begun, shown last, saved last */
    double tokens;
    double before, weight, all; /* parts of the work: done, of the corpus at hand, of all of it */
    double skipped;             /* and what an earlier run has done */
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
        fprintf(stderr, ", %.0f %%, %.0f s left", 100 * part,
                spent / (part - p->skipped / p->all) * (1 - part));
    if (!p->terminal) fputc('\n', stderr);
}

/* The corpus is at its end. */
static void say_ragged(const struct progress *p, const struct corpus *c, uint64_t tokens,
                       uint64_t pieces) {
    if (p->quiet) return;
    fprintf(stderr, "%s%s: %llu tokens in %llu %s", p->terminal ? "\r\033[K" : "", c->label,
            (ull)tokens, (ull)pieces, c->lines ? "lines" : "pieces");
    if (!c->lines) fprintf(stderr, ", %zu in the ragged end left out", ids_in(&c->ids) - c->used);
    fputc('\n', stderr);
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

static void evaluation_new(struct evaluation *v, const struct checkpoint *m, uint64_t length,
                           uint64_t batch, bool bos) {
    const size_t tokens = length * batch, slice = least(m->model.config.vocab, SLICE);
    feed_new(&v->feed, m, length, batch, bos);
    v->rows = (int)least(tokens, LOGIT_NUMBERS / slice);
    v->logits = new_array((size_t)v->rows * slice, sizeof *v->logits);
    v->target = new_array(tokens, sizeof *v->target);
    v->loss = new_array(tokens, sizeof *v->loss);
}

/* Adds the mean losses of the n pieces that were pushed through last. A piece's last token predicts
 * nothing; returns how many predict. */
static int piece_losses(struct evaluation *v, int n, double *sum) {
    const struct feed *f = &v->feed;
    struct error e;
    int predicting = 0;
    for (const struct sequence *s = f->sequence; s < f->sequence + n; s++)
        for (int t = 0; t < s->n; t++) v->target[s->row + t] = t + 1 < s->n ? s->tokens[t + 1] : -1;
    for (int first = 0; first < f->n; first += v->rows)
        must(losses(f->run, first, (int)least(f->n - first, v->rows), v->target + first, v->logits,
                    v->loss + first, &e),
             f->corpus->path, &e);
    for (const struct sequence *s = f->sequence; s < f->sequence + n; s++) {
        double piece = 0;
        if (s->n < 2) continue;
        for (int t = s->row; t < s->row + s->n - 1; t++) piece += v->loss[t];
        *sum += piece / (s->n - 1);
        predicting++;
    }
    return predicting;
}

/* sum[r] += the losses of a corpus's pieces under the edits of row r; edits that have no `first`
 * change nothing. Returns how many pieces. */
static uint64_t sum_losses(struct evaluation *v, struct corpus *c, struct edits *row, int rows,
                           double *sum) {
    double before = 0; /* what part of the corpus was done before the batch at hand ... */
    uint64_t pieces = 0, tokens = 0;
    struct error e;
    progress_corpus(&v->progress, c);
    v->feed.corpus = c;
    v->feed.part = WHOLE_TEXT;
    for (int n, used = 0; (n = next_batch(&v->feed)) > 0;) {
        const double done = corpus_done(c); /* ... and is with it */
        for (int r = 0; r < rows; r++) {
            const struct hook hook = {edit_neurons, &row[r]};
            must(forward(v->feed.run, v->feed.sequence, n, row[r].first ? &hook : NULL, &e),
                 c->path, &e);
            used = piece_losses(v, n, &sum[r]);
            progress_add(&v->progress, c->label, v->feed.n,
                         done < 0 ? done : before + (done - before) * (r + 1) / rows);
        }
        pieces += used;
        tokens += v->feed.n;
        before = done;
    }
    if (!pieces) end(FAILED, "%s: no line has two tokens", c->path);
    say_ragged(&v->progress, c, tokens, pieces);
    return pieces;
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
    struct span asked;   /* the prompt as it came */
    char where[48];      /* on which line, for messages */
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
    struct sampling s;
    const struct hook *hook;
    bool quiet;
    const char *file;        /* of the prompts, for messages; NULL: there is one prompt */
    FILE *stream;            /* text goes there as it comes; NULL: nowhere */
    struct continuation *of; /* [n] */
    size_t n;
    struct token_weight *weight; /* [V] */
};

/* What failed on a prompt is the end. */
static void must_at(const struct generation *g, const struct continuation *c, int bad,
                    struct error *e) {
    if (bad) fail_in(e, c->where);
    must(bad, g->file, e);
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
        double weight = exp64((logits[i] - most) / g->s.temperature);
        g->weight[i] = (struct token_weight){weight, i};
        sum += weight;
    }
    qsort(g->weight, V, sizeof *g->weight, by_weight);
    do nucleus += g->weight[n++].weight;
    while (n < V && nucleus < g->s.top_p * sum);
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

static void decode_text(struct generation *g, struct continuation *c) {
    struct error e;
    c->text.n = 0;
    must_at(g, c, decode(g->m->tokenizer, c->ids.at, ids_in(&c->ids), &c->text, &e), &e);
}

/* Decodes what there is; prints the whole characters that are new. */
static void show_text(struct generation *g, struct continuation *c, bool last) {
    const size_t shown = whole_characters((struct span){c->text.at, c->text.n});
    if (!g->stream && !last) return; /* a table has it at the end */
    decode_text(g, c);
    const struct span text = {c->text.at, c->text.n};
    const size_t n = last ? text.n : whole_characters(text);
    if (!g->stream || n <= shown) return;
    print_characters((struct span){text.at + shown, n - shown}, false, g->stream);
    fflush(g->stream);
}

static void add_prompt(struct generation *g, struct span prompt, size_t line) {
    const struct checkpoint *m = g->m;
    struct error e;
    g->of = grow_array(g->of, g->n + 1, sizeof *g->of);
    struct continuation *c = &g->of[g->n++];
    *c = (struct continuation){.asked = prompt, .random = g->s.seed};
    snprintf(c->where, sizeof c->where, g->file ? "line %zu" : "the prompt", line);
    if (m->add_bos && m->bos >= 0) add_id(&c->ids, m->bos);
    must_at(g, c, encode(m->tokenizer, prompt, &c->ids, &e), &e);
    c->prompt = ids_in(&c->ids);
    if (c->prompt == 0)
        must_at(g, c, fail(&e, "an empty prompt, and no begin-of-sequence token to start from"),
                &e);
    if (c->prompt > (size_t)INT_MAX - g->s.tokens)
        must_at(g, c, fail(&e, "a prompt of %zu tokens is too long", c->prompt), &e);
    decode_text(g, c);
    c->prompt_bytes = c->text.n;
    c->text.n = 0; /* nothing is shown yet */
    show_text(g, c, false);
}

/* Ends behind the last position that the model knows. */
static void end_at_context(struct generation *g, struct continuation *c) {
    const struct model *m = &g->m->model;
    const size_t n = ids_in(&c->ids);
    if (c->ended || !m->positions.at || n <= (size_t)m->config.context) return;
    if (!g->quiet)
        fprintf(stderr, "lape: %s%sstopped after %zu tokens: the model has learned %d positions\n",
                g->stream ? "" : c->where, g->stream ? "" : ": ", n - c->prompt, m->config.context);
    c->ended = true;
    show_text(g, c, true);
}

/* Picks the next token by its logits. A sequence ends after the tokens asked for, and at the
 * end-of-sequence token. */
static void next_token(struct generation *g, struct continuation *c, real *logits) {
    const int V = g->m->model.config.vocab;
    const real repeat = (real)g->s.repeat;
    struct error e;
    for (int i = 0; i < V; i++)
        if (!isfinite(logits[i]))
            must_at(g, c, fail(&e, "the model's logits are not numbers, or infinite"), &e);
    for (int i = 0; i < V && repeat != 1; i++)
        if (c->seen[i]) logits[i] = logits[i] > 0 ? logits[i] / repeat : logits[i] * repeat;
    const int32_t id = g->s.temperature > 0 ? draw(g, &c->random, logits) : likeliest(logits, V);
    c->ended = id == g->m->eos;
    if (!c->ended) {
        add_id(&c->ids, id);
        c->seen[id] = true;
        c->ended = ids_in(&c->ids) - c->prompt == (size_t)g->s.tokens;
    }
    show_text(g, c, false);
    if (c->ended) show_text(g, c, true);
    end_at_context(g, c);
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
static void group_new(struct group *u, struct generation *g, struct continuation *c, size_t most) {
    const int V = g->m->model.config.vocab;
    int64_t rows = 0, longest = 0;
    size_t room = GROUP_ROOM;
    struct error e;
    *u = (struct group){.of = c};
    for (; (size_t)u->n < most && u->n < GROUP; u->n++, c++) {
        const int64_t more = (int64_t)c->prompt + g->s.tokens;
        if (u->n && rows + more > GROUP_ROWS) break;
        c->row = (int)rows;
        rows += more;
        longest = more > longest ? more : longest;
        if (c->prompt > room) room = c->prompt;
        c->seen = new_array(V, sizeof *c->seen);
        for (size_t i = 0; i < c->prompt; i++) c->seen[((int32_t *)c->ids.at)[i]] = true;
    }
    u->room = (int)least(room, rows);
    u->s = new_array(u->n, sizeof *u->s);
    u->logits = new_array(u->n, V * sizeof *u->logits);
    u->run = run_new(&g->m->model, g->m->pool,
                     (struct room){u->room, (int)rows, (int)longest, true}, &e);
    must_at(g, u->of, !u->run, &e);
}

static void group_free(struct group *u) {
    for (int i = 0; i < u->n; i++) free(u->of[i].seen);
    free(u->s);
    free(u->logits);
    run_free(u->run);
}

/* n sequences of the group: what stands before the last tokens of their prompts, or the last tokens
 * of all. */
static void push(struct generation *g, struct group *u, int n) {
    struct error e;
    if (n) must_at(g, u->of, forward(u->run, u->s, n, g->hook, &e), &e);
}

/* What stands before the last tokens of the prompts, as many at once as there is room for. */
static void push_prompts(struct generation *g, struct group *u) {
    for (int i = 0; i < u->n;) {
        int n = 0, tokens = 0;
        for (; i < u->n && tokens + (int)u->of[i].prompt <= u->room; i++) {
            const struct continuation *c = &u->of[i];
            if (c->ended || c->prompt == 1) continue;
            u->s[n++] = (struct sequence){c->ids.at, (int)c->prompt - 1, 0, c->row};
            tokens += (int)c->prompt;
        }
        push(g, u, n);
    }
}

/* The last tokens of all that go on. Returns how many these are. */
static int push_last(struct generation *g, struct group *u) {
    int n = 0;
    for (int i = 0; i < u->n; i++) {
        const struct continuation *c = &u->of[i];
        const int past = (int)ids_in(&c->ids) - 1;
        if (!c->ended) u->s[n++] = (struct sequence){(int32_t *)c->ids.at + past, 1, past, c->row};
    }
    push(g, u, n);
    if (n) logits(u->run, 0, n, u->logits, g->hook);
    return n;
}

/* Continues some of the prompts from number `from` on. Returns how many. */
static size_t generate(struct generation *g, size_t from) {
    struct group u;
    group_new(&u, g, &g->of[from], g->n - from);
    for (int i = 0; i < u.n; i++) end_at_context(g, &u.of[i]);
    push_prompts(g, &u);
    while (push_last(g, &u)) {
        real *logits = u.logits;
        for (int i = 0; i < u.n; i++) {
            if (u.of[i].ended) continue;
            next_token(g, &u.of[i], logits);
            logits += g->m->model.config.vocab;
        }
    }
    group_free(&u);
    return u.n;
}

/* ---- Command line ------------------------------------------------------------------------------
 *
 * Every command is a function over the options; a table says which it takes. What a command opens
 * is kept in struct work until the program ends.
 */
struct options {
    const char *word[256]; /* what is no option: files and LANG=FILE; as many as commands take */
    int words;
    const char *output, *neurons, *counts, *off, *on, *prompt, *prompts, *languages, *like, *minus;
    const char *shard;
    int method, how, at; /* enum method, enum how, enum point; at: -1 where it is not given */
    int of, off_how;     /* GATE or PRODUCT; 1: to a mean */
    double top, filter, bar, near, strength, temperature, top_p, repeat, save_every, penalty;
    uint64_t threads, length, tokens, batch, new_tokens, seed, layer;
    bool quiet, help, bos, resume, decode, lines, any_model;
};

struct work {
    struct checkpoint m;
    struct corpus *corpus;
    int corpora;
    struct counts counts, others;
    struct neurons neurons, more_neurons;
    struct edits edits;
    struct feed feed;
    struct evaluation evaluation;
    struct generation generation;
    struct output output;
    struct buffer text;
};

/* --bos needs a begin-of-sequence token. */
static void check_bos(const struct checkpoint *m, const struct options *o) {
    if (o->bos && m->bos < 0) end(FAILED, "--bos: the model has no begin-of-sequence token");
}

/* The label and the file of LANG=FILE. */
static void split_word(const char *word, char label[LABEL_SIZE], const char **file) {
    const char *equals = strchr(word, '=');
    if (!equals || !equals[1] || !set_label(label, (struct span){word, (size_t)(equals - word)}))
        end(USAGE,
            "LANG=FILE is wanted, LANG of 1 to 24 letters, digits, _ or -, not none or -: %s",
            word);
    *file = equals + 1;
}

/* How many pieces at once: 512 tokens a thread, or many where the weights are larger than the
 * machine's memory, so that they are read from the disk seldom. */
static void choose_batch(const struct model *m, struct options *o) {
    const double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double bytes = (double)m->file.map_size;
    for (int i = 0; i < m->file.parts; i++) bytes += (double)m->file.part[i].map_size;
    const bool fits = bytes < memory * 3 / 4;
    if (!o->batch) o->batch = (fits ? o->threads * 512 : 1 << 13) / o->length;
    if (!o->batch) o->batch = 1;
}

/* LANG=FILE after the model. */
static void name_corpora(struct work *w, const struct options *o) {
    w->corpora = o->words - 1;
    w->corpus = new_array(w->corpora, sizeof *w->corpus);
    if (!w->corpora) end(USAGE, "no corpus is given: LANG=FILE");
    for (int k = 0; k < w->corpora; k++) {
        const char *word = o->word[k + 1];
        struct corpus *c = &w->corpus[k];
        split_word(word, c->label, &c->path);
        for (int j = 0; j < k; j++) {
            if (strcmp(w->corpus[j].label, c->label) == 0)
                end(USAGE, "a language is named twice: %s", word);
            if (strcmp(c->path, "-") == 0 && strcmp(w->corpus[j].path, "-") == 0)
                end(USAGE, "standard input is one text, and is named twice: %s", word);
        }
    }
}

/* --seq, or what stands for it. */
static void choose_length(const struct checkpoint *m, struct options *o) {
    if (!o->length) o->length = least(m->model.config.context, 4096);
    if (o->length < 2) end(FAILED, "--seq: a piece needs two tokens at least");
}

/* The model, and every LANG=FILE after it. */
static void open_corpora(struct work *w, struct options *o) {
    name_corpora(w, o);
    checkpoint_open(&w->m, o->word[0], o->threads);
    const int context = w->m.model.config.context;
    choose_length(&w->m, o);
    choose_batch(&w->m.model, o);
    check_bos(&w->m, o);
    if (!o->quiet && o->length > (uint64_t)context)
        fprintf(stderr, "lape: pieces of %llu tokens are longer than the model's context of %d\n",
                (ull)o->length, context);
    for (int k = 0; k < w->corpora; k++) {
        struct corpus *c = &w->corpus[k];
        const size_t length = o->length - o->bos;
        c->lines = o->lines;
        corpus_open(c, &w->m, o->tokens);
        if (c->lines) continue;
        corpus_fill(c, length);
        const size_t has = ids_in(&c->ids);
        if (has + o->bos < 2) end(FAILED, "%s: %zu tokens; a piece needs two", c->path, has);
        if (has < length)
            end(FAILED, "%s: %zu tokens are fewer than one piece of %zu; --seq %zu would do",
                c->path, has, length, has + o->bos);
    }
}

/* Where neurons or counts come from. */
struct origin {
    const char *path, *model;
    uint64_t digest; /* 0: not known */
    int layers, neurons;
};

/* What is of another model is refused, by shape always, by name and digest unless told not to. */
static void check_origin(struct origin f, const struct model *m, const struct options *o) {
    const struct config *c = &m->config;
    if (f.layers != c->layers || f.neurons != c->neurons)
        end(FAILED, "%s: made from %s, %d x %d neurons; the model %s has %d x %d", f.path, f.model,
            f.layers, f.neurons, c->name, c->layers, c->neurons);
    if (o->any_model) return;
    if (*f.model && strcmp(f.model, "unknown") != 0 && strcmp(f.model, c->name) != 0)
        end(FAILED, "%s: made from %s, the model is %s; --any-model takes it all the same", f.path,
            f.model, c->name);
    const uint64_t digest = f.digest ? gguf_digest(&m->file) : 0;
    if (f.digest != digest)
        end(FAILED,
            "%s: made from another %s, of digest %016llx, this one's is %016llx; --any-model takes "
            "it all the same",
            f.path, f.model, (ull)f.digest, (ull)digest);
}

static void open_neurons(struct work *w, const struct options *o) {
    const struct neurons *n = &w->neurons;
    struct error e;
    must(neurons_open(&w->neurons, o->neurons, &e), NULL, &e);
    check_origin((struct origin){o->neurons, n->model, n->digest, n->layers, n->neurons},
                 &w->m.model, o);
}

/* The counts that means are taken from. */
static void open_means(struct work *w, const struct options *o) {
    const struct counts *c = &w->counts;
    struct error e;
    must(counts_open(&w->counts, o->counts, &e), NULL, &e);
    check_origin((struct origin){o->counts, c->model, c->digest, c->layers, c->neurons},
                 &w->m.model, o);
}

/* ---- lape count ------------------------------------------------------------------------------ */

static struct part parse_shard(const char *text) {
    uint64_t i, n;
    struct span rest = text_span(text), part;
    if (!text) return WHOLE_TEXT;
    if (!next_part(&rest, '/', &part) || !parse_number(part, MOST_SHARDS, &i) ||
        !parse_number(rest, MOST_SHARDS, &n) || i < 1 || i > n)
        end(USAGE, "--shard wants I/N with I from 1 to N, not %s", text);
    return (struct part){0, i - 1, n};
}

/* Adds n tokens to a histogram. */
static void add_histogram(int64_t *histogram, const int32_t *tokens, size_t n) {
    for (size_t i = 0; i < n; i++) histogram[tokens[i]]++;
}

/* Whether partial counts are of this model and these options. */
static bool can_resume(const struct work *w, const struct counts *partial) {
    struct error e;
    bool good = !check_same(&w->counts, partial, &e) && partial->n == w->counts.n;
    for (int k = 0; good && k < partial->n; k++) {
        good = strcmp(partial->language[k].label, w->corpus[k].label) == 0;
        for (int i = 0; i < STATISTICS; i++) good = good && partial->language[k].of[i];
    }
    return good;
}

static _Noreturn void other_run(const char *partial) {
    end(FAILED,
        "%s: was begun with another model, other texts or options; without --resume it is replaced",
        partial);
}

/* Zero counts of the corpora's languages, or those that the partial file holds. */
static void begin_counts(struct work *w, const struct options *o, const char *partial) {
    const struct config *c = &w->m.model.config;
    struct error e;
    w->counts = (struct counts){.layers = c->layers,
                                .neurons = c->neurons,
                                .vocab = c->vocab,
                                .piece = o->length,
                                .lines = o->lines,
                                .of = o->of,
                                .digest = gguf_digest(&w->m.model.file),
                                .bos = o->bos,
                                .near = o->near};
    strcpy(w->counts.model, c->name);
    for (int k = 0; k < w->corpora; k++) {
        struct language *l = insert_language(&w->counts, w->corpus[k].label);
        for (int i = 0; i < STATISTICS; i++) l->of[i] = new_statistic(&w->counts, i);
    }
    if (!o->resume || (access(partial, F_OK) != 0 && errno == ENOENT)) return;
    must(counts_open(&w->others, partial, &e), NULL, &e);
    if (!can_resume(w, &w->others)) other_run(partial);
    counts_free(&w->counts);
    w->counts = w->others;
    w->others = (struct counts){0};
}

/* Passes over the pieces that are counted already; their histogram tells whether they are of this
 * text. */
static void pass_over(struct feed *f, const struct language *l, int vocab, const char *partial) {
    int64_t *histogram = new_array(vocab, sizeof *histogram);
    for (uint64_t i = 0; i < l->pieces; i++) {
        const int n = next_piece(f, f->tokens);
        if (!n) other_run(partial);
        add_histogram(histogram, f->tokens, n);
    }
    if (memcmp(histogram, l->of[HISTOGRAM], vocab * sizeof *histogram)) other_run(partial);
    free(histogram);
}

static void save_partial(const struct counts *c, const char *path) {
    struct output out;
    struct error e;
    must(output_open(&out, path, &e), NULL, &e);
    counts_write(c, out.file);
    must(output_finish(&out, &e), NULL, &e);
}

/* Counts the pieces of a language that are not counted yet. */
static void count_language(struct work *w, int k, const struct options *o, struct part part,
                           const char *partial, struct progress *p) {
    struct language *l = &w->counts.language[k];
    struct corpus *c = &w->corpus[k];
    struct feed *f = &w->feed;
    struct counter counter = {.pool = w->m.pool, .counts = &w->counts, .language = l};
    const struct hook hook = {count_neurons, &counter};
    struct error e;
    progress_corpus(p, c);
    f->corpus = c;
    f->part = part;
    pass_over(f, l, w->counts.vocab, partial);
    if (l->pieces) p->skipped += p->weight * corpus_done(c); /* of no weight, if nobody knows */
    for (int n; (n = next_batch(f)) > 0;) {
        must(forward(f->run, f->sequence, n, &hook, &e) || count_is_sound(&counter, &e), NULL, &e);
        add_histogram(l->of[HISTOGRAM], f->tokens, f->n);
        l->pieces += n;
        l->tokens += f->n;
        progress_add(p, l->label, f->n, corpus_done(c));
        if (o->save_every <= 0 || now() - p->saved < o->save_every) continue;
        save_partial(&w->counts, partial);
        p->saved = now();
    }
    l->parts.n = 0; /* those that a partial file had */
    part.text = c->digest;
    add_part(l, part);
    if (l->pieces == 0)
        end(FAILED,
            c->pieces ? "%s: %zu pieces leave none for shard %s" : "%s: no line has a token",
            c->path, c->pieces, o->shard);
    say_ragged(p, c, l->tokens, l->pieces);
}

static int by_label(const void *a, const void *b) {
    return strcmp(((const struct corpus *)a)->label, ((const struct corpus *)b)->label);
}

static void count_command(struct work *w, struct options *o) {
    struct progress p;
    struct error e;
    const struct part part = parse_shard(o->shard);
    open_corpora(w, o);
    if (o->of != GATE && !has_gate(&w->m.model.config))
        end(FAILED, "%s: without a gate there is no %s", o->word[0], of_name[o->of]);
    buffer_add(&w->text, o->output, strlen(o->output));
    buffer_add(&w->text, ".partial", sizeof ".partial");
    const char *partial = w->text.at;
    qsort(w->corpus, w->corpora, sizeof *w->corpus, by_label); /* as the counts are */
    feed_new(&w->feed, &w->m, o->length, o->batch, o->bos);
    begin_counts(w, o, partial);
    progress_start(&p, w->corpus, w->corpora, o->quiet);
    for (int k = 0; k < w->corpora; k++) count_language(w, k, o, part, partial, &p);
    progress_end(&p);
    counts_write(&w->counts, w->output.file);
    must(output_finish(&w->output, &e), NULL, &e);
    unlink(partial); /* which goes with OUT, whoever began it */
}

/* ---- lape merge, lape find ------------------------------------------------------------------- */

static void merge_command(struct work *w, struct options *o) {
    struct error e;
    must(counts_open(&w->counts, o->word[0], &e), NULL, &e);
    for (int i = 1; i < o->words + (o->minus != NULL); i++) {
        const char *path = i < o->words ? o->word[i] : o->minus;
        must(counts_open(&w->others, path, &e), NULL, &e);
        must(counts_add(&w->counts, &w->others, i == o->words, &e), path, &e);
        counts_free(&w->others);
    }
    counts_write(&w->counts, w->output.file);
}

/* Drops the languages that `list` does not name, and puts the others in its order. */
static void choose_languages(struct counts *c, const char *list) {
    struct span rest = text_span(list), word;
    int n = 0;
    while (next_part(&rest, ',', &word)) {
        char label[LABEL_SIZE] = "";
        struct language *l = set_label(label, word) ? find_language(c, label) : NULL;
        if (!l) end(FAILED, "the counts have no language '%.*s'", brief(word), word.at);
        if (l < c->language + n) end(USAGE, "--langs names a language twice: %s", list);
        struct language chosen = *l;
        *l = c->language[n];
        c->language[n++] = chosen;
    }
    for (; list && c->n > n; c->n--) language_free(&c->language[c->n - 1]);
}

static void print_totals(const struct neurons *n, FILE *to) {
    fprintf(to, "%zu of %zu neurons;", n->n, (size_t)n->layers * n->neurons);
    for (int k = 0; k < n->languages; k++) {
        size_t own = 0;
        for (size_t i = 0; i < n->n; i++) own += n->member[i * n->languages + k];
        fprintf(to, " %s %zu", n->label[k], own);
    }
    fprintf(to, "\n");
}

static void find_command(struct work *w, struct options *o) {
    struct neurons *like = &w->more_neurons;
    struct error e;
    struct find f = {.method = (enum method)o->method,
                     .top = o->top,
                     .filter = o->filter,
                     .bar = o->bar,
                     .penalty = o->penalty,
                     .seed = o->seed,
                     .like = o->like ? like : NULL};
    if (o->like && f.method != RANDOM) end(USAGE, "--like goes with --method random");
    if (o->penalty > 0 && f.method != LAPE) end(USAGE, "--penalty goes with --method lape");
    must(counts_open(&w->counts, o->word[0], &e), NULL, &e);
    choose_languages(&w->counts, o->languages);
    must(o->like && neurons_open(like, o->like, &e), NULL, &e);
    must(find_neurons(&w->counts, &f, &w->neurons, &e), o->word[0], &e);
    neurons_print(&w->neurons, &w->counts, &f, w->output.file);
    must(output_finish(&w->output, &e), NULL, &e);
    if (!o->quiet) print_totals(&w->neurons, stderr);
}

/* ---- lape ppl -------------------------------------------------------------------------------- */

/* The languages in the rows' order: those of the corpora, as these come, then the others. */
static void order_rows(const struct work *w, int *language) {
    const struct neurons *n = &w->neurons;
    int rows = 0;
    for (int k = 0; k < w->corpora + n->languages; k++) {
        const int l =
            k < w->corpora ? label_index(n, text_span(w->corpus[k].label)) : k - w->corpora;
        bool listed = l < 0;
        for (int r = 0; r < rows; r++) listed |= language[r] == l;
        if (!listed) language[rows++] = l;
    }
}

/* exp of the mean over pieces of the mean loss over their predicted tokens: value [corpora, rows].
 * Row 0 is the model as it is, row r has the neurons of language[r - 1] at 0, or at a mean. */
static void evaluate(struct work *w, const int *language, bool to_mean, double *value) {
    const int rows = 1 + w->neurons.languages;
    struct edits *edits = new_array(rows, sizeof *edits);
    struct error e;
    for (int r = 1; r < rows; r++) {
        const struct steer s = {
            .off = language[r - 1], .on = -1, .counts = &w->counts, .to_mean = to_mean};
        must(edits_new(&edits[r], &w->neurons, &s, &e), NULL, &e);
    }
    for (int k = 0; k < w->corpora; k++, value += rows) {
        const uint64_t pieces = sum_losses(&w->evaluation, &w->corpus[k], edits, rows, value);
        for (int r = 0; r < rows; r++) {
            const double loss = value[r] / (double)pieces;
            value[r] = exp64(loss);
            if (!isfinite(value[r]))
                end(FAILED, "%s: a perplexity of e^%.9g is beyond all numbers", w->corpus[k].path,
                    loss);
        }
    }
    for (int r = 1; r < rows; r++) edits_free(&edits[r]);
    free(edits);
}

static void ppl_command(struct work *w, struct options *o) {
    const struct neurons *n = &w->neurons;
    struct error e;
    if (o->off_how && (!o->neurons || !o->counts))
        end(USAGE, "--off-how mean goes with --neurons, and --counts for the means");
    open_corpora(w, o);
    if (o->neurons) open_neurons(w, o);
    if (o->off_how) open_means(w, o);
    evaluation_new(&w->evaluation, &w->m, o->length, o->batch, o->bos);
    const int rows = 1 + n->languages;
    int *language = new_array(n->languages, sizeof *language);
    double *value = new_array((size_t)w->corpora * rows, sizeof *value);
    FILE *to = w->output.file;
    order_rows(w, language);
    progress_start(&w->evaluation.progress, w->corpus, w->corpora, o->quiet);
    evaluate(w, language, o->off_how, value);
    fprintf(to, "off");
    for (int k = 0; k < w->corpora; k++) fprintf(to, "\t%s", w->corpus[k].label);
    for (int r = 0; r < rows; r++) {
        fprintf(to, "\n%s", r ? n->label[language[r - 1]] : "none");
        for (int k = 0; k < w->corpora; k++) fprintf(to, "\t%.9g", value[k * rows + r]);
    }
    fprintf(to, "\n");
    free(language);
    free(value);
    must(output_finish(&w->output, &e), NULL, &e);
    progress_end(&w->evaluation.progress);
}

/* ---- lape generate --------------------------------------------------------------------------- */

static const char *const how_name[] = {"replace", "add", "scale", "diffmean", NULL};
static const char *const off_how_name[] = {"zero", "mean", NULL};

/* Which of the list's languages an option names; -1: none. */
static int language_of(const struct neurons *n, const char *name, const char *path) {
    const int k = name ? label_index(n, text_span(name)) : -1;
    if (name && k < 0) end(FAILED, "%s: has no language '%s'", path, name);
    return k;
}

/* The interventions that --off, --on and --how ask for. */
static void open_edits(struct work *w, const struct options *o) {
    const struct neurons *n = &w->neurons;
    struct error e;
    open_neurons(w, o);
    const struct steer s = {language_of(n, o->off, o->neurons),
                            language_of(n, o->on, o->neurons),
                            (enum how)o->how,
                            o->strength,
                            &w->counts,
                            o->off_how};
    if (o->counts) open_means(w, o);
    must(edits_new(&w->edits, n, &s, &e), NULL, &e);
}

static void print_generation(const struct continuation *c, FILE *to) {
    const char *text = c->text.n ? c->text.at : ""; /* no address to count from without bytes */
    print_characters(c->asked, true, to);
    putc('\t', to);
    print_characters((struct span){text + c->prompt_bytes, c->text.n - c->prompt_bytes}, true, to);
    putc('\t', to);
    put_ids((int32_t *)c->ids.at + c->prompt, ids_in(&c->ids) - c->prompt, to);
    putc('\n', to);
}

/* A prompt's text as it comes; or a table of prompts, outputs and the outputs' ids. */
static void generate_command(struct work *w, struct options *o) {
    const struct hook hook = {edit_neurons, &w->edits};
    const bool steered = o->off || o->on, table = o->output || o->prompts;
    struct generation *g = &w->generation;
    struct span prompt, prompts = text_span(o->prompt);
    struct error e;
    if (!o->prompt == !o->prompts) end(USAGE, "a prompt is wanted: -p TEXT or -f FILE");
    if (steered && !o->neurons) end(USAGE, "--off and --on go with --neurons");
    if (((o->on && o->how != SCALE) || (o->off && o->off_how)) && !o->counts)
        end(USAGE, "%s goes with --counts, for the mean activations",
            o->on && o->how != SCALE ? "--on" : "--off-how mean");
    checkpoint_open(&w->m, o->word[0], o->threads);
    if (!w->m.tokenizer)
        end(FAILED, "%s: takes token ids only: %s", o->word[0], w->m.no_tokenizer.text);
    if (steered) open_edits(w, o);
    must(o->prompts && map_file(o->prompts, &prompts, &e), NULL, &e);
    *g =
        (struct generation){.m = &w->m,
                            .s = {(int)o->new_tokens, o->temperature, o->top_p, o->repeat, o->seed},
                            .hook = steered ? &hook : NULL,
                            .quiet = o->quiet,
                            .file = o->prompts,
                            .stream = table ? NULL : w->output.file,
                            .weight = new_array(w->m.model.config.vocab, sizeof *g->weight)};
    if (table) fprintf(w->output.file, "prompt\toutput\ttokens\n");
    for (size_t line = 1; next_part(&prompts, o->prompts ? '\n' : '\0', &prompt); line++)
        if (prompt.n || !o->prompts) add_prompt(g, prompt, line);
    for (size_t i = 0, done; i < g->n; i = done) {
        done = i + generate(g, i);
        for (size_t k = i; table && k < done; k++) print_generation(&g->of[k], w->output.file);
    }
    if (!table) putc('\n', w->output.file);
}

/* ---- lape bake --------------------------------------------------------------------------------
 *
 * An activation of 0 adds nothing to the residual stream, and neither does a column of zeros in the
 * down projection: the model is copied but for the elements of those columns. A projection of a
 * type that may have no zeros becomes F32.
 */

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

/* Of every tensor, 1 + the layer whose down projection it is, if neurons of that go; else 0. A type
 * that has no 0 becomes F32 in `to`. */
static int *find_changed(const struct model *m, const struct edits *edits, struct tensor *to) {
    int *layer = new_array(m->file.tensors, sizeof *layer);
    for (int l = 0; l < m->config.layers; l++) {
        size_t i = 0;
        if (edits->first[l] == edits->first[l + 1]) continue;
        while (to[i].data.at != down_projection(m, l).at) i++;
        layer[i] = l + 1;
        if (has_zero(to[i].type)) continue;
        to[i].type = TENSOR_F32;
        to[i].data.n = to[i].dim[0] * to[i].dim[1] * 4;
    }
    return layer;
}

static void bake_command(struct work *w, struct options *o) {
    const struct gguf *g = &w->m.model.file;
    if (!o->neurons || !o->off) end(USAGE, "--neurons NEURONS and --off LANG are wanted");
    checkpoint_open(&w->m, o->word[0], 1);
    open_edits(w, o);
    struct gguf_writer out = {.to = w->output.file, .alignment = g->alignment};
    struct tensor *to = new_array(g->tensors, sizeof *to);
    memcpy(to, g->tensor, g->tensors * sizeof *to);
    int *layer = find_changed(&w->m.model, &w->edits, to);
    put_header(&out, g->tensors, g->values);
    put_values(&out, g);
    for (size_t i = 0; i < g->tensors; i++) put_tensor(&out, &to[i]);
    for (size_t i = 0; i < g->tensors; i++) {
        put_padding(&out);
        if (layer[i]) {
            const struct matrix down = down_projection(&w->m.model, layer[i] - 1);
            put_down(&out, &down, &w->edits, layer[i] - 1);
        } else {
            put_bytes(&out, to[i].data.at, to[i].data.n);
        }
    }
    put_padding(&out);
    free(to);
    free(layer);
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
            bad = fail(e, "'%.*s' is not a token id", brief(word), word.at);
    }
    if (!bad) bad = decode(m->tokenizer, ids.at, ids_in(&ids), &text, e);
    if (!bad && text.n) fwrite(text.at, 1, text.n, stdout);
    free(ids.at);
    free(text.at);
    return bad;
}

static void tokenize_command(struct work *w, struct options *o) {
    char block[1 << 14], where[32] = "standard input";
    const struct checkpoint *m = &w->m;
    struct error e;
    size_t n, number = 0;
    vocabulary_open(&w->m, o->word[0]);
    check_bos(m, o);
    while ((n = fread(block, 1, sizeof block, stdin)) > 0) buffer_add(&w->text, block, n);
    if (ferror(stdin)) end(FAILED, "standard input: cannot read: %s", strerror(errno));
    struct span all = {w->text.at, w->text.n}, line = all;
    for (size_t i = 0; o->decode && i < all.n; i++) /* any space parts ids */
        if (isspace((unsigned char)all.at[i]) && !(o->lines && all.at[i] == '\n'))
            ((char *)w->text.at)[i] = ' ';
    if (!o->lines)
        must(o->decode ? print_text(m, all, &e) : print_ids(m, all, o->bos, &e), where, &e);
    while (o->lines && next_part(&all, '\n', &line) && (all.at || line.n)) {
        snprintf(where, sizeof where, "line %zu", ++number);
        must(o->decode ? print_text(m, line, &e) : print_ids(m, line, o->bos, &e), where, &e);
        if (o->decode) printf("\n");
    }
}

/* ---- lape trace --------------------------------------------------------------------------------
 *
 * One intermediate tensor of a text, as [T, columns], or [L, T, columns] of all layers.
 */
static const char *const point_name[] = {"embd",     "attn_norm", "q",      "k",   "v",  "heads",
                                         "attn_out", "ffn_norm",  "gate",   "act", "up", "product",
                                         "down",     "resid",     "logits", NULL};
_Static_assert(sizeof point_name / sizeof *point_name == POINTS + 1, "every point has a name");

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
static void trace_pieces(struct trace *t, struct work *w, size_t length, bool bos) {
    const struct corpus *c = w->corpus;
    const struct hook hook = {keep_rows, t};
    const int V = w->m.model.config.vocab;
    struct feed *f = &w->feed;
    struct error e;
    feed_new(f, &w->m, length, 1, bos);
    real *out = t->at == AT_LOGITS ? new_array(length * V, sizeof *out) : NULL;
    for (size_t from = 0; t->seen < t->dim[1]; from += length - bos) {
        const int n = (int)least(ids_in(&c->ids) - from, length - bos);
        f->tokens[0] = w->m.bos;
        memcpy(f->tokens + bos, (int32_t *)c->ids.at + from, n * sizeof(int32_t));
        must(forward(f->run, &(struct sequence){f->tokens, n + bos, 0, 0}, 1, &hook, &e), NULL, &e);
        if (out) logits(f->run, 0, n + bos, out, &hook);
        t->seen += n + bos;
    }
    free(out);
}

static void trace_command(struct work *w, struct options *o) {
    struct trace t = {.at = (enum point)o->at, .layer = -1};
    if (o->words < 2) end(USAGE, "a text is missing: lape trace MODEL FILE");
    w->corpora = 1;
    w->corpus = new_array(1, sizeof *w->corpus);
    w->corpus->path = o->word[1];
    checkpoint_open(&w->m, o->word[0], o->threads);
    corpus_open(w->corpus, &w->m, o->tokens);
    corpus_fill(w->corpus, SIZE_MAX);
    const int L = w->m.model.config.layers;
    const bool layered = t.at != AT_EMBD && t.at != AT_LOGITS;
    if ((t.at == AT_UP || t.at == AT_PRODUCT) && !has_gate(&w->m.model.config))
        end(FAILED, "%s: without a gate there is no '%s' beside the neurons", o->word[0],
            point_name[t.at]);
    if (o->layer != UINT64_MAX && (!layered || o->layer >= (uint64_t)L))
        end(FAILED,
            layered ? "--layer %d: the model has layers 0 to %d"
                    : "--layer %d: only tensors of a layer have one, of 0 to %d",
            (int)o->layer, L - 1);
    check_bos(&w->m, o);
    if (layered && o->layer != UINT64_MAX) t.layer = (int)o->layer;
    const size_t n = ids_in(&w->corpus->ids);
    if (n == 0) end(FAILED, "%s: the file is empty", o->word[1]);
    choose_length(&w->m, o);
    o->length = least(o->length, n + o->bos);
    const size_t piece = o->length - o->bos, pieces = (n + piece - 1) / piece;
    t.dim[0] = layered && t.layer < 0 ? L : 1;
    t.dim[1] = n + o->bos * pieces;
    trace_pieces(&t, w, o->length, o->bos);
    const bool planes = t.dim[0] > 1;
    npy_write(w->output.file, t.values, planes ? t.dim : t.dim + 1, planes ? 3 : 2);
    free(t.values);
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
        if (!order) order = x->index - y->index; /* both are there */
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

/* Both count the same texts, the reference with all that the bound needs. */
static void check_comparable(const struct options *o, const struct counts *a,
                             const struct counts *b) {
    const char *reference = o->word[0], *other = o->word[1];
    if (a->layers != b->layers || a->neurons != b->neurons)
        end(FAILED, "%s: of %d x %d neurons, %s of %d x %d", other, b->layers, b->neurons,
            reference, a->layers, a->neurons);
    if (a->of != b->of)
        end(FAILED, "%s: counts the %s, %s the %s", other, of_name[b->of], reference,
            of_name[a->of]);
    if (a->n != b->n)
        end(FAILED, "%s: %d languages, %s: %d; --langs chooses", other, b->n, reference, a->n);
    for (int k = 0; k < a->n; k++) {
        const struct language *x = &a->language[k], *y = &b->language[k];
        const int64_t *p = x->of[HISTOGRAM], *q = y->of[HISTOGRAM];
        if (strcmp(x->label, y->label)) end(FAILED, "%s: lacks language %s", other, x->label);
        if (!x->of[NEAR_ABOVE] || !x->of[NEAR_BELOW])
            end(FAILED, "%s: language %s has no counts near zero, which the bound is made of",
                reference, x->label);
        if (!x->tokens) end(FAILED, "%s: language %s has no tokens", reference, x->label);
        if (x->tokens != y->tokens)
            end(FAILED, "%s: language %s is of %llu tokens, in %s of %llu", other, x->label,
                (ull)y->tokens, reference, (ull)x->tokens);
        if (p && q && (a->vocab != b->vocab || memcmp(p, q, a->vocab * sizeof *p)))
            end(FAILED, "%s: language %s is of other tokens than in %s", other, x->label,
                reference);
    }
}

static void diff_command(struct work *w, struct options *o) {
    const struct counts *a = &w->counts, *b = &w->others;
    struct find f = {.top = o->top, .filter = o->filter, .bar = o->bar};
    struct error e;
    size_t outside = 0;
    if (o->words < 2) end(USAGE, "two files are wanted: lape diff REFERENCE OTHER");
    if (ends_with(o->word[0], ".npy"))
        end(FAILED, "%s: counts are compared; tools/tensors.py compares .npy files", o->word[0]);
    must(counts_open(&w->counts, o->word[0], &e) || counts_open(&w->others, o->word[1], &e), NULL,
         &e);
    choose_languages(&w->counts, o->languages);
    choose_languages(&w->others, o->languages);
    check_comparable(o, a, b);
    if (a->n > 1) { /* one language has no selection */
        must(find_neurons(a, &f, &w->neurons, &e), o->word[0], &e);
        must(find_neurons(b, &f, &w->more_neurons, &e), o->word[1], &e);
    }
    printf("language\ttokens\tdiffer\toutside\tlayer\tneuron\tcount\tnear above\tnear below\t"
           "other\n");
    for (int k = 0; k < a->n; k++) outside += diff_language(a, &a->language[k], &b->language[k]);
    if (a->n > 1) diff_selections(&w->neurons, &w->more_neurons);
    if (outside)
        end(FAILED, "%s: %zu of %zu counts are further off than gates within %g of zero allow",
            o->word[1], outside, all_neurons(a) * a->n, a->near);
    printf("every count is within the bound of gates within %g of zero\n", a->near);
}

/* ---- lape info ------------------------------------------------------------------------------- */

static void print_vocabulary(const struct checkpoint *m) {
    const struct gguf *g = &m->model.file;
    struct span kind;
    struct error e;
    printf("vocabulary without a model: %d tokens", vocabulary_size(g));
    if (gguf_string(g, "tokenizer.ggml.model", &kind, &e) == 0)
        printf(", tokenizer '%.*s'", brief(kind), kind.at);
    printf("\n");
}

static void print_model(const struct checkpoint *m) {
    const struct config *c = &m->model.config;
    printf("model: %s\ndigest: %016llx\nfamily: %s\nlayers: %d\nwidth: %d\nneurons: %d a layer, "
           "%lld in all\n",
           c->name, (ull)gguf_digest(&m->model.file), family_name(c), c->layers, c->width,
           c->neurons, (long long)c->layers * c->neurons);
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

/* Of the model that counts or neurons are of. */
static void print_digest(uint64_t digest) {
    printf(digest ? "digest: %016llx\n" : "digest: none, the model is told by its name alone\n",
           (ull)digest);
}

static void print_counts(const struct counts *c) {
    printf("counts of model: %s\n", c->model);
    print_digest(c->digest);
    printf("layers: %d\nneurons: %d a layer\n", c->layers, c->neurons);
    if (c->of != GATE) printf("active: the %s\n", of_name[c->of]);
    printf("vocabulary: %d\npiece: %s%llu tokens%s\nnear: %.9g\n", c->vocab,
           c->lines ? "a line, of at most " : "", (ull)c->piece,
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
    printf("neurons of model: %s\n", n->model);
    print_digest(n->digest);
    printf("layers: %d\nneurons: %d a layer\n", n->layers, n->neurons);
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

static void info_command(struct work *w, struct options *o) {
    const char *path = o->word[0];
    struct gguf g;
    struct span kind = {0}, file;
    struct error e;
    must(map_file(path, &file, &e), NULL, &e);
    const bool list = *file.at == '#';
    munmap((void *)file.at, file.n);
    if (list) {
        must(neurons_open(&w->neurons, path, &e), NULL, &e);
        print_layers(&w->neurons);
        return;
    }
    must(gguf_open(&g, path, &e), NULL, &e);
    const bool named = gguf_string(&g, "general.architecture", &kind, &e) == 0;
    const bool counts = named && span_is(kind, "lape-counts"), model = g.tensors > 0;
    gguf_close(&g);
    if (counts) {
        must(counts_open(&w->counts, path, &e), NULL, &e);
        print_counts(&w->counts);
    } else if (model) {
        checkpoint_open(&w->m, path, 1);
        print_model(&w->m);
    } else {
        vocabulary_open(&w->m, path);
        print_vocabulary(&w->m);
    }
}

/* ---- main ------------------------------------------------------------------------------------ */

/* clang-format off */
static const struct command {
    const char *name, *words, *what;
    const char *no_text; /* what it makes, if that is not for the standard output */
    int most_words;
    void (*run)(struct work *w, struct options *o);
} command_table[] = {
    {"info", "FILE", "what a model, counts or neurons file holds", NULL, 1, info_command},
    {"tokenize", "MODEL", "text on standard input to token ids, or back", NULL, 1, tokenize_command},
    {"count", "MODEL LANG=FILE... -o COUNTS", "count every neuron's activations", "counts", 256,
     count_command},
    {"merge", "COUNTS... -o COUNTS", "add up counts, exactly and in any order", "counts", 256,
     merge_command},
    {"find", "COUNTS [-o NEURONS]", "select the language-specific neurons", NULL, 1, find_command},
    {"ppl", "MODEL LANG=FILE... [--neurons NEURONS]", "perplexity, plain and ablated", NULL, 256,
     ppl_command},
    {"generate", "MODEL -p TEXT | -f PROMPTS", "continue prompts, plain or steered", NULL, 1,
     generate_command},
    {"bake", "MODEL --neurons F --off LANG -o OUT", "write an ablation into the weights", "a model",
     1, bake_command},
    {"trace", "MODEL FILE --at NAME -o X.npy", "any tensor of the forward pass", "a tensor", 2,
     trace_command},
    {"diff", "REFERENCE OTHER", "compare two counts files: a verdict", NULL, 2, diff_command},
};
enum { COMMANDS = sizeof command_table / sizeof *command_table };
static const char version[] = "0.1";
enum { /* those that take an option: bits in the table's order */
    TOKENIZE = 1 << 1, COUNT = 1 << 2, MERGE = 1 << 3, FIND = 1 << 4, PPL = 1 << 5,
    GENERATE = 1 << 6, BAKE = 1 << 7, TRACE = 1 << 8, DIFF = 1 << 9, EVERY = ~0
};

enum kind { TEXT, NAME, NUMBER, WHOLE, FLAG };

#define AT(field) offsetof(struct options, field)
static const struct option {
    const char *name;
    enum kind kind;
    size_t at;        /* in struct options */
    double low, high; /* of numbers */
    int commands;     /* that take it */
    const char *help; /* of a NAME after the names */
    const char *const *names;
} option_table[] = {
    {"-o", TEXT, AT(output), 0, 0, COUNT | MERGE | FIND | PPL | GENERATE | BAKE | TRACE,
     "FILE   write it there", NULL},
    {"-t", WHOLE, AT(threads), 1, 1024, COUNT | PPL | GENERATE | TRACE,
     "N   threads (all processors)", NULL},
    {"--seq", WHOLE, AT(length), 2, 1 << 24, COUNT | PPL | TRACE,
     "N   tokens in a piece (the model's context, at most 4096)", NULL},
    {"--tokens", WHOLE, AT(tokens), 1, 1e15, COUNT | PPL | TRACE, "N   of every language (all)",
     NULL},
    {"--batch", WHOLE, AT(batch), 1, 1 << 20, COUNT | PPL, "N   pieces at once (512 tokens a thread)",
     NULL},
    {"--bos", FLAG, AT(bos), 0, 0, COUNT | PPL | TOKENIZE | TRACE,
     "   begin with the begin-of-sequence token, every piece", NULL},
    {"--of", NAME, AT(of), 0, 0, COUNT,
     "what is active above 0: act(x W_gate), or times x W_up (gate)", of_name},
    {"--near", NUMBER, AT(near), 0, 1e6, COUNT, "T   count gates within T of zero, too (0.001)", NULL},
    {"--shard", TEXT, AT(shard), 0, 0, COUNT, "I/N   every N-th piece, from the I-th", NULL},
    {"--minus", TEXT, AT(minus), 0, 0, MERGE, "COUNTS   of some of these tokens, taken away", NULL},
    {"--save-every", NUMBER, AT(save_every), 0, 1e9, COUNT,
     "S   save to FILE.partial every S seconds", NULL},
    {"--resume", FLAG, AT(resume), 0, 0, COUNT, "   go on from FILE.partial if it is there", NULL},
    {"--method", NAME, AT(method), 0, 0, FIND,
     "the score: the paper's, probability alone, entropy of mean\n"
     "         positive activations, random numbers   (lape)", method_name},
    {"--penalty", NUMBER, AT(penalty), 0, 1e6, FIND,
     "X   entropy / ln K - X highest probability / mean of 1/1 .. 1/K (0: entropy)", NULL},
    {"--top", NUMBER, AT(top), 0, 1, FIND | DIFF, "R   part of the neurons to select (0.01)", NULL},
    {"--filter", NUMBER, AT(filter), 0, 1, FIND | DIFF,
     "R   one language must be above this rank of all probabilities (0.95)", NULL},
    {"--bar", NUMBER, AT(bar), 0, 1, FIND | DIFF,
     "R   a neuron is of the languages above this rank (0.95)", NULL},
    {"--langs", TEXT, AT(languages), 0, 0, FIND | DIFF,
     "A,B,...   of the counts, in this order (all)", NULL},
    {"--like", TEXT, AT(like), 0, 0, FIND,
     "NEURONS   random: as many per layer and language as there", NULL},
    {"--neurons", TEXT, AT(neurons), 0, 0, PPL | GENERATE | BAKE,
     "NEURONS   what `lape find` made", NULL},
    {"--counts", TEXT, AT(counts), 0, 0, PPL | GENERATE, "COUNTS   for the mean activations", NULL},
    {"--off", TEXT, AT(off), 0, 0, GENERATE | BAKE, "LANG   its neurons become 0, or a mean", NULL},
    {"--on", TEXT, AT(on), 0, 0, GENERATE, "LANG   its neurons are then strengthened", NULL},
    {"--how", NAME, AT(how), 0, 0, GENERATE,
     "a <- X mean, a + X mean, X a,\n"
     "         a + X (mean - mean of the other languages)   (replace)", how_name},
    {"--off-how", NAME, AT(off_how), 0, 0, PPL | GENERATE,
     "what is off becomes 0, or its mean in the other languages (zero)", off_how_name},
    {"--strength", NUMBER, AT(strength), -1e6, 1e6, GENERATE, "X   (1)", NULL},
    {"--any-model", FLAG, AT(any_model), 0, 0, PPL | GENERATE | BAKE,
     "   take neurons and counts of a model of another name or digest", NULL},
    {"-p", TEXT, AT(prompt), 0, 0, GENERATE, "TEXT   the prompt", NULL},
    {"-f", TEXT, AT(prompts), 0, 0, GENERATE, "FILE   prompts, one a line; makes a table", NULL},
    {"-n", WHOLE, AT(new_tokens), 1, 1 << 24, GENERATE, "N   tokens to generate (64)", NULL},
    {"--temp", NUMBER, AT(temperature), 0, 1e6, GENERATE, "T   temperature (0: greedy)", NULL},
    {"--top-p", NUMBER, AT(top_p), 0, 1, GENERATE, "P   sample from the likeliest P (1)", NULL},
    {"--repeat-penalty", NUMBER, AT(repeat), 1e-6, 1e6, GENERATE,
     "R   on tokens seen before (1: none)", NULL},
    {"--seed", WHOLE, AT(seed), 0, 1e15, FIND | GENERATE, "S   of all that is random (0)", NULL},
    {"--at", NAME, AT(at), 0, 0, TRACE, "in the order of the forward pass", point_name},
    {"--layer", WHOLE, AT(layer), 0, 1 << 16, TRACE, "N   from 0 (all)", NULL},
    {"--decode", FLAG, AT(decode), 0, 0, TOKENIZE, "   ids to text", NULL},
    {"--lines", FLAG, AT(lines), 0, 0, COUNT | PPL | TOKENIZE,
     "   every line is a piece, or a text, of its own", NULL},
    {"-q", FLAG, AT(quiet), 0, 0, EVERY, "   no progress, no summary", NULL},
    {"-h", FLAG, AT(help), 0, 0, EVERY, "   this help", NULL},
};
/* clang-format on */
enum { OPTIONS = sizeof option_table / sizeof *option_table };

static bool takes(const struct command *c, const struct option *o) {
    return o->commands >> (c - command_table) & 1;
}

static void print_options(const struct command *c) {
    printf("lape %s %s\n  %s\n\n", c->name, c->words, c->what);
    for (const struct option *o = option_table; o < option_table + OPTIONS; o++) {
        if (!takes(c, o)) continue;
        printf("  %s ", o->name);
        for (int i = 0; o->names && o->names[i]; i++) printf("%s%s", i ? "|" : "", o->names[i]);
        printf("%s%s\n", o->names ? "   " : "", o->help);
    }
}

static void print_commands(void) {
    printf("lape: the language-specific neurons of language models, found, ablated, steered with\n"
           "(language activation probability entropy: Tang et al., ACL 2024)\n\n");
    for (int i = 0; i < COMMANDS; i++)
        printf("  lape %-9s%-41s%s\n", command_table[i].name, command_table[i].words,
               command_table[i].what);
    printf("\n  lape COMMAND -h lists a command's options, lape --version says which lape it is\n");
}

/* Which of an option's names the word is. */
static int parse_name(const struct option *o, const char *word) {
    char names[256] = "";
    for (int i = 0; o->names[i]; i++) {
        if (strcmp(word, o->names[i]) == 0) return i;
        strcat(strcat(names, " "), o->names[i]);
    }
    end(USAGE, "%s is one of:%s; not %s", o->name, names, word);
}

static void set_option(void *field, const struct option *o, const char *text) {
    char *stop = NULL;
    bool good = true;
    switch (o->kind) {
    case FLAG: *(bool *)field = true; break;
    case TEXT: *(const char **)field = text; break;
    case NAME: *(int *)field = parse_name(o, text); break;
    case WHOLE:
        good = parse_number(text_span(text), (uint64_t)o->high, field) &&
               *(uint64_t *)field >= (uint64_t)o->low;
        break;
    case NUMBER:
        *(double *)field = strtod(text, &stop);
        good = stop > text && !*stop && *(double *)field >= o->low && *(double *)field <= o->high;
        break;
    }
    if (!good)
        end(USAGE, "%s wants a %snumber from %.9g to %.9g, not '%s'", o->name,
            o->kind == WHOLE ? "whole " : "", o->low, o->high, text);
}

static void parse_options(struct options *o, const struct command *c, char **word) {
    for (; *word; word++) {
        const struct option *found = NULL;
        if ((*word)[0] != '-') {
            if (o->words == c->most_words) end(USAGE, "one file too many: %s", *word);
            o->word[o->words++] = *word;
            continue;
        }
        for (int k = 0; k < OPTIONS; k++)
            if (strcmp(*word, option_table[k].name) == 0 && takes(c, &option_table[k]))
                found = &option_table[k];
        if (!found)
            end(USAGE, "lape %s has no option '%s'; lape %s -h lists them", c->name, *word,
                c->name);
        if (found->kind != FLAG && !*++word) end(USAGE, "no value after %s", found->name);
        set_option((char *)o + found->at, found, *word);
    }
    if (!o->words && !o->help) end(USAGE, "wanted: lape %s %s", c->name, c->words);
    for (int k = 0; k < OPTIONS && !o->help; k++) { /* a name without a default is wanted */
        const struct option *x = &option_table[k];
        if (x->kind == NAME && takes(c, x) && *(int *)((char *)o + x->at) < 0)
            parse_name(x, "given");
    }
}

/* Which file it is, if it is there. Where the disk does not say, what is read might be replaced. */
static bool identify(const char *path, struct stat *to) {
    if (stat(path, to) == 0) return true;
    if (errno == EIO || errno == ENOMEM) end(FAILED, "%s: cannot open: %s", path, strerror(errno));
    return false;
}

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return a && b && identify(a, &x) && identify(b, &y) && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

/* A result must not take the place of what it is made from; sums of counts may. */
static void check_output(const struct options *o, const struct command *c) {
    const char *const named[] = {o->neurons, o->counts, o->prompts, o->like};
    bool input = false;
    if (c->no_text && !o->output)
        end(USAGE, "-o FILE is missing; %s: not for the standard output", c->no_text);
    if (c->run == merge_command) return;
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        input |= same_file(o->output, named[i]);
    for (int i = 0; i < o->words; i++) {
        const char *equals = strchr(o->word[i], '=');
        input |= same_file(o->output, o->word[i]) || (equals && same_file(o->output, equals + 1));
    }
    if (input) end(USAGE, "-o names a file that is read, too: %s", o->output);
}

static void run_command(const struct command *c, char **words) {
    static struct work w; /* until the program ends */
    struct error e;
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    /* clang-format off */
    struct options o = {.top = .01, .filter = .95, .bar = .95, .near = 1e-3, .strength = 1,
                        .top_p = 1, .repeat = 1, .new_tokens = 64, .at = -1, .method = LAPE,
                        .how = REPLACE, .tokens = UINT64_MAX, .layer = UINT64_MAX,
                        .threads = processors > 0 ? (uint64_t)processors : 1};
    /* clang-format on */
    parse_options(&o, c, words);
    if (o.help) {
        print_options(c);
        return;
    }
    check_output(&o, c);
    must(output_open(&w.output, o.output, &e), NULL, &e);
    c->run(&w, &o);
    if (w.output.file) must(output_finish(&w.output, &e), NULL, &e);
}

/* A standard descriptor that is closed would be given to the file that is opened next, and messages
 * would go into a result. So it is taken, by what can neither be read as input nor written to. */
static void take_closed(void) {
    for (int file = STDIN_FILENO; file <= STDERR_FILENO; file++)
        if (fcntl(file, F_GETFD) < 0 &&
            open("/dev/null", file == STDIN_FILENO ? O_WRONLY : O_RDONLY) != file)
            end(FAILED, "descriptor %d is closed, and /dev/null cannot be opened: %s", file,
                strerror(errno));
}

int main(int argc, char **argv) {
    const char *first = argc > 1 ? argv[1] : "help";
    const struct command *c = command_table;
    take_closed();
    handle_signals();
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of writing, not the end */
    while (c < command_table + COMMANDS && strcmp(first, c->name)) c++;
    if (c < command_table + COMMANDS)
        run_command(c, argv + 2);
    else if (strcmp(first, "--version") == 0)
        printf("lape %s\n", version);
    else if (strcmp(first, "help") == 0 || strcmp(first, "-h") == 0 || strcmp(first, "--help") == 0)
        print_commands();
    else
        end(USAGE, "no such command, lape -h lists them: %s", first);
    if (fflush(stdout) || ferror(stdout))
        end(FAILED, "standard output: cannot write: %s", strerror(errno));
    return DONE;
}
