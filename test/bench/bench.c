/* How fast this machine is, and lape on it: rates beside what the machine can do at all, which is
 * multiplications and additions on registers, and bytes copied from memory to memory. Medians of
 * RUNS runs.
 */
#include "../../model.c"
#define main lape_main
#include "../../lape.c"
#undef main
#include "../products.h"

enum { RUNS = 5, FMA_TIMES = 1 << 22, STEPS = 64, PIECE = 4096 };

struct settings {
    const char *model, *gemm, *type;
    uint64_t threads, length, batch, steps;
    bool profile;
};

static const char USAGE_TEXT[] =
    "bench [-t N]                           multiplications on registers, bytes copied\n"
    "bench [-t N] --gemm T,O,K [--type T]   a matrix product: tokens, outputs, inputs\n"
    "bench [-t N] MODEL [--seq N] [--batch N] [-n N] [--profile]\n"
    "                                       tokens all at once, and N one by one\n"
    "  -t N         threads (all processors)\n"
    "  --type T     of the weights: f32, f16, bf16 or q8_0 (f32)\n"
    "  --seq N      tokens in a piece (the model's context, at most 4096)\n"
    "  --batch N    pieces at once (1)\n"
    "  -n N         tokens one by one (64)\n"
    "  --profile    where the time goes, up to each point of `lape trace`\n";

/* ---- Time ------------------------------------------------------------------------------------ */

struct timing {
    double run[RUNS]; /* seconds */
    int n;
};

static double median(struct timing *t) {
    qsort(t->run, t->n, sizeof *t->run, by_value);
    return t->run[t->n / 2];
}

/* ---- The machine ----------------------------------------------------------------------------- */

struct copies {
    char *from, *to;
    size_t each;
};

static void copy_job(void *context, int i, int thread) {
    const struct copies *c = context;
    (void)thread;
    memcpy(c->to + i * c->each, c->from + i * c->each, c->each);
}

/* GB/s of reading and writing together. */
static double copy_rate(struct pool *p) {
    enum { JOBS = 64, MEGABYTE = 1 << 20 };
    struct copies c = {new_array(JOBS, 4 * MEGABYTE), new_array(JOBS, 4 * MEGABYTE), 4 * MEGABYTE};
    struct timing t = {0};
    memset(c.from, 1, (size_t)JOBS * c.each);
    pool_run(p, JOBS, copy_job, &c);
    for (double start; t.n < RUNS; t.run[t.n++] = now() - start) {
        start = now();
        pool_run(p, JOBS, copy_job, &c);
    }
    free(c.from);
    free(c.to);
    return 2e-9 * JOBS * (double)c.each / median(&t);
}

static void fma_job(void *context, int i, int thread) {
    real *out = (real *)context + i * LANES;
    vec sum[ROWS][VECS];
    const vec x = vec_load(out);
    (void)thread;
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECS; v++) sum[r][v] = vec_all((real)(r * VECS + v));
    for (int n = 0; n < FMA_TIMES; n++)
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECS; v++) sum[r][v] = vec_fma(sum[r][v], x, x);
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECS; v++) vec_store(out, vec_fma(vec_load(out), x, sum[r][v]));
}

/* GFLOP/s of fma on registers, as many sums as a tile has. */
static double fma_rate(struct pool *p) {
    const int threads = pool_threads(p);
    const double done = 2.0 * threads * FMA_TIMES * ROWS * VECS * LANES;
    real *numbers = new_array((size_t)threads * LANES, sizeof *numbers);
    struct timing t = {0};
    for (int i = 0; i < threads * LANES; i++) numbers[i] = (real)0.5;
    pool_run(p, threads, fma_job, numbers);
    for (double start; t.n < RUNS; t.run[t.n++] = now() - start) {
        start = now();
        pool_run(p, threads, fma_job, numbers);
    }
    free(numbers);
    return 1e-9 * done / median(&t);
}

/* Cleared memory on whole cache lines. */
static void *new_lines(size_t bytes) {
    void *at = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!at) end(FAILED, "out of memory");
    return memset(at, 0, (bytes + 63) / 64 * 64);
}

/* ---- A matrix product ------------------------------------------------------------------------ */

static void parse_type_name(const char *text, struct matrix *w) {
    static const struct {
        const char *name;
        uint32_t type;
        int bytes, of; /* bytes of so many numbers */
    } known[] = {{"f32", TENSOR_F32, 4, 1},
                 {"f16", TENSOR_F16, 2, 1},
                 {"bf16", TENSOR_BF16, 2, 1},
                 {"q8_0", TENSOR_Q8_0, 34, 32}};
    size_t i = 0;
    while (i < sizeof known / sizeof *known && strcmp(text, known[i].name)) i++;
    if (i == sizeof known / sizeof *known)
        end(USAGE, "--type is f32, f16, bf16 or q8_0, not %s", text);
    if (w->columns % known[i].of) end(USAGE, "rows of q8_0 are multiples of 32, not %s", text);
    w->type = known[i].type;
    w->row_bytes = (size_t)w->columns / known[i].of * known[i].bytes;
}

/* T tokens, O outputs of K numbers each. */
static void bench_product(struct pool *p, const struct settings *s) {
    struct span rest = text_span(s->gemm), part[3];
    uint64_t n[3], state = 0;
    bool good = true;
    for (int i = 0; good && i < 3; i++)
        good = next_part(&rest, ',', &part[i]) && parse_number(part[i], 1 << 20, &n[i]) && n[i];
    if (!good || rest.n) end(USAGE, "--gemm wants T,O,K: tokens, outputs, inputs; not %s", s->gemm);
    const size_t T = n[0], O = n[1], K = n[2];
    struct matrix w = {.rows = (int)O, .columns = (int)K};
    parse_type_name(s->type, &w);
    real *x = new_lines(T * K * sizeof *x), *out = new_lines(T * O * sizeof *out);
    char *weights = new_lines(O * w.row_bytes);
    struct timing t = {0};
    struct run r = products_new(p, (int)T, (int)K);
    w.at = weights;
    for (size_t i = 0; i < T * K; i++) x[i] = (real)random_fraction(&state);
    for (size_t i = 1; i < O * w.row_bytes; i += 2)
        weights[i] = 0x3c; /* small numbers of any type */
    const double flops = 2 * (double)T * (double)O * (double)K;
    const int times = 1 + (int)(2e9 / flops); /* some hundredths of a second, at least */
    product(&r, out, x, (int)T, &w);
    for (double start; t.n < RUNS; t.run[t.n++] = now() - start) {
        start = now();
        for (int i = 0; i < times; i++) product(&r, out, x, (int)T, &w);
    }
    const double rate = 1e-9 * flops * times / median(&t), most = fma_rate(p);
    printf("%zu x %zu x %zu, %s, %d threads: %.1f GFLOP/s, %.2f of %.1f\n", T, O, K, s->type,
           pool_threads(p), rate, rate / most, most);
    free(x);
    free(out);
    free(weights);
    products_free(&r);
}

/* ---- A model --------------------------------------------------------------------------------- */

/* Seconds up to each point of the forward pass, from the one before. */
struct profile {
    double last, spent[POINTS];
};

static void see_time(void *profile, enum point at, int layer, real *values, int rows, int columns) {
    struct profile *p = profile;
    const double t = now();
    (void)layer, (void)values, (void)rows, (void)columns;
    p->spent[at] += t - p->last;
    p->last = t;
}

static void bench_pieces(struct checkpoint *m, const struct settings *s) {
    const struct config *c = &m->model.config;
    const size_t length = s->length ? s->length : least(c->context, PIECE), T = length * s->batch;
    struct error e;
    if (T > INT_MAX / 2) end(FAILED, "%zu tokens at once are too many", T);
    struct run *r =
        run_new(&m->model, m->pool, (struct room){(int)T, (int)T, (int)length, false}, &e);
    must(!r, NULL, &e);
    int32_t *tokens = new_array(T, sizeof *tokens);
    struct sequence *piece = new_array(s->batch, sizeof *piece);
    struct profile p = {0};
    const struct hook hook = {see_time, &p};
    struct timing t = {0};
    uint64_t state = 0;
    for (size_t i = 0; i < T; i++) tokens[i] = (int32_t)(random_fraction(&state) * c->vocab);
    for (size_t i = 0; i < s->batch; i++)
        piece[i] = (struct sequence){tokens + i * length, (int)length, 0, (int)(i * length)};
    must(forward(r, piece, (int)s->batch, NULL, &e), NULL, &e);
    for (double start; t.n < RUNS; t.run[t.n++] = now() - start) {
        start = p.last = now();
        must(forward(r, piece, (int)s->batch, &hook, &e), NULL, &e);
    }
    double all = 0;
    for (int i = 0; i < POINTS; i++) all += p.spent[i];
    printf("%zu tokens in pieces of %zu, %d threads: %.1f tokens/s\n", T, length,
           pool_threads(m->pool), (double)T / median(&t));
    for (int i = 0; s->profile && i < AT_LOGITS; i++)
        printf("%-9s %5.1f %%  %.4f s\n", point_name[i], 100 * p.spent[i] / all, p.spent[i] / RUNS);
    free(piece);
    free(tokens);
    run_free(r);
}

/* Bytes of weights that one token wants: of two matrices of the vocabulary, the output's. */
static uint64_t bytes_of_a_token(const struct model *m) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < m->file.tensors; i++) bytes += m->file.tensor[i].data.n;
    if (m->embedding.at != m->output.at) bytes -= m->embedding.rows * m->embedding.row_bytes;
    return bytes - m->positions.rows * m->positions.row_bytes;
}

/* Tokens one by one, as they are generated. */
static void bench_steps(struct checkpoint *m, const struct settings *s) {
    const struct config *c = &m->model.config;
    const int n = (int)least(s->steps, c->context - 1);
    struct error e;
    struct run *r = run_new(&m->model, m->pool, (struct room){1, n + 1, n + 1, true}, &e);
    must(!r, NULL, &e);
    real *out = new_array(c->vocab, sizeof *out);
    uint64_t state = 0;
    double start = 0;
    for (int i = 0; i <= n; i++) { /* the first, which touches all pages, is not timed */
        const int32_t token = (int32_t)(random_fraction(&state) * c->vocab);
        if (i == 1) start = now();
        must(forward(r, &(struct sequence){&token, 1, i, 0}, 1, NULL, &e), NULL, &e);
        logits(r, 0, 1, out, NULL);
    }
    const double rate = n / (now() - start);
    printf("%d tokens one by one, %d threads: %.1f tokens/s, %.1f GB/s of weights\n", n,
           pool_threads(m->pool), rate, 1e-9 * rate * (double)bytes_of_a_token(&m->model));
    free(out);
    run_free(r);
}

/* ---- main ------------------------------------------------------------------------------------ */

static void parse_settings(struct settings *s, char **word) {
    const struct {
        const char *name;
        uint64_t *number, most;
        const char **text;
    } known[] = {{"-t", &s->threads, 1024, NULL},       {"--seq", &s->length, 1 << 24, NULL},
                 {"--batch", &s->batch, 1 << 20, NULL}, {"-n", &s->steps, 1 << 24, NULL},
                 {"--gemm", NULL, 0, &s->gemm},         {"--type", NULL, 0, &s->type}};
    const size_t options = sizeof known / sizeof *known;
    for (size_t k = 0; *word; word++, k = 0) {
        while (k < options && strcmp(*word, known[k].name)) k++;
        if (strcmp(*word, "--profile") == 0)
            s->profile = true;
        else if (k == options && (s->model || **word == '-'))
            end(USAGE, "one word too many, bench -h lists them: %s", *word);
        else if (k == options)
            s->model = *word;
        else if (!*++word)
            end(USAGE, "no value after %s", known[k].name);
        else if (known[k].text)
            *known[k].text = *word;
        else if (!parse_number(text_span(*word), known[k].most, known[k].number) ||
                 !*known[k].number)
            end(USAGE, "not a number that serves: %s", *word);
    }
}

static void bench(const struct settings *s) {
    struct error e;
    struct pool *p = pool_new((int)s->threads, &e);
    must(!p, NULL, &e);
    if (s->gemm)
        bench_product(p, s);
    else
        printf("registers: %.1f GFLOP/s\ncopying: %.1f GB/s\n", fma_rate(p), copy_rate(p));
    pool_free(p);
}

int main(int argc, char **argv) {
    static struct checkpoint m;
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    struct settings s = {.type = "f32",
                         .threads = processors > 0 ? (uint64_t)processors : 1,
                         .batch = 1,
                         .steps = STEPS};
    if (argc == 2 && strcmp(argv[1], "-h") == 0) {
        fputs(USAGE_TEXT, stdout);
        return DONE;
    }
    parse_settings(&s, argv + 1);
    if (s.model) {
        checkpoint_open(&m, s.model, s.threads);
        bench_pieces(&m, &s);
        bench_steps(&m, &s);
    } else {
        bench(&s);
    }
    return DONE;
}
