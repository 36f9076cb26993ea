/* Numbers, kernels and the forward pass, against loops that do the same the plain way. */
#include "../model.c"

#include "check.h"
#include "products.h"

/* ---- Numbers --------------------------------------------------------------------------------- */

enum { POINTS_TESTED = 2000000 };

/* |got - want| in units of the last place that `want` has in a `mantissa` of that many bits. */
static double ulps(double got, long double want, int mantissa) {
    int exponent;
    frexpl(want, &exponent);
    return (double)fabsl((got - want) / ldexpl(1, exponent - mantissa));
}

static double real_exp_of_real(double x) { return real_exp((real)x); }

/* Each function against the C library's in long double, over its range and near 0. */
static void test_functions(void) {
    static const struct {
        const char *name;
        double (*ours)(double);
        long double (*theirs)(long double);
        double low, high, bound; /* in ulp; negative: in units of 2^-53 */
        bool in_real;
    } function[] = {
        {"exp64", exp64, expl, -708, 709, 2, false},
        {"log64", log64, logl, 1e-300, 1e6, 2, false},
        {"sin64", sin64, sinl, -1e6, 1e6, -2, false},
        {"cos64", cos64, cosl, -1e6, 1e6, -2, false},
        {"tanh64", tanh64, tanhl, -21, 21, 4, false},
        {"real_exp", real_exp_of_real, expl, -87, 88.7, 1, true},
    };
    for (size_t f = 0; f < sizeof function / sizeof *function; f++) {
        const double low = function[f].low, high = function[f].high, bound = function[f].bound;
        const int mantissa = function[f].in_real && sizeof(real) == 4 ? 24 : 53;
        double worst = 0, at = 0;
        for (int i = 0; i < POINTS_TESTED; i++) {
            double x = low + (high - low) * test_fraction();
            if (i % 2) x *= ldexp(1, -(int)(test_random() % 40)); /* small ones, too */
            if (function[f].in_real) x = (real)x;
            const long double want = function[f].theirs(x);
            const double got = function[f].ours(x);
            const double u =
                bound < 0 ? (double)fabsl((got - want) * 0x1p53L) : ulps(got, want, mantissa);
            if (!isnan(worst) && worse(worst, u) != worst) at = x;
            worst = worse(worst, u);
        }
        printf("%-8s worst of %d points: %.2f %s, at %.17g\n", function[f].name, POINTS_TESTED,
               worst, bound < 0 ? "x 2^-53" : "ulp", at);
        /* where theirs has no more bits, its own last one counts, too */
        CHECK(worst > 0 && worst < fabs(bound) + (LDBL_MANT_DIG == DBL_MANT_DIG),
              "%s is off by %g, at %.17g", function[f].name, worst, at);
    }
}

static void test_power(void) {
    double worst = 0;
    for (int i = 0; i < POINTS_TESTED; i++) {
        const double x = exp(test_fraction() * 60 - 30), y = test_fraction() * 8 - 4;
        const long double base = x, power = y; /* tcc widens one argument, not two */
        const double off = ulps(pow64(x, y), powl(base, power), 53) / (3 + 4 * fabs(y * log(x)));
        worst = worse(worst, off);
    }
    printf("pow64    worst of %d points: %.2f of its bound\n", POINTS_TESTED, worst);
    CHECK(worst > 0 && worst < 1, "pow64 is off by %g of its bound", worst);
    CHECK(pow64(7, 0) == 1 && pow64(1, 100) == 1, "powers that are 1");
}

static void test_limits(void) {
    CHECK(exp64(1000) == INFINITY && exp64(-1000) == 0 && isnan(exp64(NAN)), "limits of exp64");
    CHECK(exp64(-740) > 0 && exp64(0) == 1, "exp64 underflows gradually");
    CHECK(exp64(-745) == 0x1p-1074 && exp64(-745.2) == 0,
          "the last that exp64 does not round to 0");
    CHECK(real_exp(1000) == (real)INFINITY && real_exp(-1000) == 0 && isnan(real_exp(NAN)),
          "limits of real_exp");
    CHECK(real_exp((real)-INFINITY) == 0 && real_exp(0) == 1, "real_exp of -inf and 0");
    CHECK(log64(1) == 0, "log64(1)");
    CHECK(tanh64(INFINITY) == 1 && tanh64(-1e300) == -1 && isnan(tanh64(NAN)), "limits of tanh64");
    CHECK(signbit(tanh64(-0.0)), "tanh64 keeps the sign of 0");
}

static void test_halves(void) {
    int wrong = 0;
    for (uint32_t h = 0; h < 1 << 16; h++) {
        int exponent = h >> 10 & 31, fraction = h & 1023;
        double want = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
        if (exponent == 31) want = fraction ? NAN : INFINITY;
        const uint8_t bytes[2] = {(uint8_t)h, (uint8_t)(h >> 8)};
        float got = get_f16(bytes);
        bool sign = h >> 15;
        wrong += isnan(want) ? !isnan(got) : (fabs(got) != want || (signbit(got) != 0) != sign);
    }
    CHECK(wrong == 0, "%d of 65536 half-precision numbers are widened wrongly", wrong);
}

/* ---- Threads --------------------------------------------------------------------------------- */

static void count_job(void *context, int i, int thread) {
    ((int *)context)[i] += 1 + 1000 * thread;
}

static void test_pool(void) {
    struct error e;
    for (int threads = 1; threads <= 7; threads += 2) {
        struct pool *p = pool_new(threads, &e);
        int seen[1000], wrong = 0;
        for (int n = 0; n <= 1000; n += 50) {
            memset(seen, 0, sizeof seen);
            pool_run(p, n, count_job, seen);
            for (int i = 0; i < 1000; i++)
                wrong += i < n ? seen[i] % 1000 != 1 || seen[i] / 1000 >= threads : seen[i] != 0;
        }
        CHECK(wrong == 0, "%d threads: %d jobs were not run exactly once", threads, wrong);
        pool_free(p);
    }
}

/* ---- A random model, and the same by definition ---------------------------------------------- */

/* Random weights in the file's order of bytes; the struct matrix points into `at`. */
static struct matrix random_matrix(uint32_t type, int rows, int columns) {
    size_t n = (size_t)rows * columns, bytes = n / kind_of(type).numbers * kind_of(type).bytes;
    uint8_t *at = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) at[i] = (uint8_t)test_random();
    size_t step = type == TENSOR_F32 ? 4 : type == TENSOR_Q8_0 ? 34 : 2;
    for (size_t i = 0; i < bytes; i += step) { /* the exponents: numbers of about 2^-3 to 2^-1 */
        uint32_t bits = (uint32_t)(test_random() & 0x8180ffff) | 0x3e000000;
        if (type == TENSOR_F32)
            for (int b = 0; b < 4; b++) at[i + b] = (uint8_t)(bits >> 8 * b);
        if (type == TENSOR_BF16) at[i + 1] = (uint8_t)(bits >> 24), at[i] = (uint8_t)test_random();
        if (type == TENSOR_F16) at[i + 1] = (uint8_t)(0x30 | (test_random() & 0x83));
        if (type == TENSOR_Q8_0) at[i + 1] = 0x18; /* a scale of about 2^-9 */
    }
    return (struct matrix){(char *)at, type, rows, columns, bytes / rows};
}

static real weight_at(const struct matrix *m, int row, int column) {
    const uint8_t *at = (const uint8_t *)m->at + row * m->row_bytes;
    if (m->type == TENSOR_F32) return get_f32(at + 4 * column);
    if (m->type == TENSOR_BF16)
        return float_of_bits((uint32_t)at[2 * column] << 16 | (uint32_t)at[2 * column + 1] << 24);
    if (m->type == TENSOR_F16) return get_f16(at + 2 * column);
    const uint8_t *block = at + column / 32 * 34;
    return get_f16(block) * (int8_t)block[2 + column % 32];
}

static void random_vector(real *to, size_t n, double size) {
    for (size_t i = 0; i < n; i++) to[i] = (real)((test_fraction() * 2 - 1) * size);
}

static void test_products(struct pool *p) {
    static const uint32_t type[] = {TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_Q8_0};
    static const int shape[][3] = {{1, 1, 32},      {1, 64, 64},   {5, 33, 96},     {13, 31, 288},
                                   {24, 65, 32},    {40, 7, 1024}, {513, 100, 544}, {12, 128, 256},
                                   {1100, 40, 64},  {1, 77, 1056}, {1, 100, 45},    {14, 70, 301},
                                   {531, 97, 1500}, {7, 49, 2120}};
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        for (int t = 0; t < 4; t++) {
            const int T = shape[i][0], O = shape[i][1], K = shape[i][2];
            if (type[t] == TENSOR_Q8_0 && K % 32) continue; /* there are no such rows */
            struct matrix w = random_matrix(type[t], O, K);
            struct run r = products_new(p, T, K);
            real *x = malloc(sizeof *x * T * K), *out = malloc(sizeof *out * T * O);
            random_vector(x, (size_t)T * K, 1);
            product(&r, out, x, T, &w);
            int wrong = 0;
            for (int a = 0; a < T; a++)
                for (int b = 0; b < O; b++) {
                    real sum = 0;
                    for (int k = 0; k < K; k++)
                        sum = real_fma(x[(size_t)a * K + k], weight_at(&w, b, k), sum);
                    wrong += memcmp(&sum, &out[(size_t)a * O + b], sizeof sum) != 0;
                }
            CHECK(wrong == 0, "product %d x %d x %d, type %u: %d outputs are not the chain", T, O,
                  K, type[t], wrong);
            real *spec = malloc(sizeof *spec * T * O);
            pool_run(p, O, spec_product_job, &(struct product){.r = &r, spec, x, &w, T});
            CHECK(memcmp(spec, out, sizeof *out * T * O) == 0,
                  "product %d x %d x %d, type %u: the definition's loop differs", T, O, K, type[t]);
            products_free(&r);
            free(x), free(out), free(spec), free((char *)w.at);
        }
}

static void test_sums(void) {
    real x[CHAINS * 100], sum[CHAINS];
    random_vector(x, CHAINS * 100, 3);
    for (int rows = 1; rows <= CHAINS; rows++)
        for (int squares = 0; squares < 2; squares++) {
            row_sums(rows, 97, x, 100, squares, sum);
            for (int r = 0; r < rows; r++) {
                real want = 0;
                for (int k = 0; k < 97; k++) {
                    real v = x[r * 100 + k];
                    want = squares ? real_fma(v, v, want) : want + v;
                }
                CHECK(want == sum[r], "row_sums of %d rows, row %d", rows, r);
            }
        }
    for (int n = 1; n < 60; n++) {
        real want = x[0];
        for (int k = 1; k < n; k++) want = x[k] > want ? x[k] : want;
        CHECK(largest(x, n) == want, "largest of %d", n);
    }
}

/* It is the model's to free. */
static real *random_bias(struct model *m, int n, bool biased) {
    real *bias = biased ? malloc(n * sizeof(real)) : NULL;
    if (biased) random_vector(bias, n, 1);
    if (biased) buffer_add(&m->vectors, &bias, sizeof bias);
    return bias;
}

static struct norm random_norm(struct model *m, int n, bool biased) {
    struct norm w = {random_bias(m, n, true), random_bias(m, n, biased)};
    random_vector(w.weight, n, 2);
    return w;
}

/* What a configuration leaves open: the first family, and nothing scaled but where a file says. */
static struct config complete(struct config c) {
    if (!c.family) c.family = &family_table[0];
    if (!c.rotated) c.rotated = c.head_dim;
    if (!c.context) c.context = 1000;
    c.window_rope_base = c.family->window_base > 0 ? c.family->window_base : c.rope_base;
    c.rope_factor = c.embedding_scale = c.residual_scale = c.logit_scale = 1;
    if (c.family->multipliers) c.embedding_scale = 5, c.residual_scale = .3, c.logit_scale = .25;
    if (!c.attention_scale) c.attention_scale = 1 / real_sqrt((real)c.head_dim);
    c.alibi = 8;
    return c;
}

static struct model random_model(struct config given, uint32_t type) {
    struct model m = {.config = complete(given)};
    const struct config c = m.config;
    const struct family *f = c.family;
    const int q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim, D = c.width, F = c.neurons;
    const bool biased = f->layer_norm;
    m.embedding = random_matrix(type, c.vocab, D);
    m.output = random_matrix(TENSOR_F32, c.vocab, D);
    m.output_norm = random_norm(&m, D, biased);
    m.output_bias = random_bias(&m, c.vocab, f->parallel);
    if (f->embedding_norm) m.embedding_norm = random_norm(&m, D, biased);
    if (f->positions == LEARNED) m.positions = random_matrix(type, c.context, D);
    m.layer = calloc(c.layers, sizeof *m.layer);
    for (int l = 0; l < c.layers; l++) {
        struct layer *w = &m.layer[l];
        *w = (struct layer){.q = random_matrix(type, q, D),
                            .k = random_matrix(type, kv, D),
                            .v = random_matrix(type, kv, D),
                            .attn_out = random_matrix(type, D, q),
                            .gate = random_matrix(type, F, D),
                            .down = random_matrix(type, D, F),
                            .q_bias = random_bias(&m, q, biased),
                            .k_bias = random_bias(&m, kv, biased),
                            .v_bias = random_bias(&m, kv, biased),
                            .attn_bias = random_bias(&m, D, biased),
                            .up_bias = random_bias(&m, F, f->plain),
                            .down_bias = random_bias(&m, D, biased)};
        if (!f->plain) w->up = random_matrix(type, F, D);
        if (!f->no_pre_norm) w->attn_norm = random_norm(&m, D, biased);
        if (!f->no_pre_norm && !f->parallel) w->ffn_norm = random_norm(&m, D, biased);
        if (f->qk_norm) w->q_norm = random_norm(&m, c.head_dim, false);
        if (f->qk_norm) w->k_norm = random_norm(&m, c.head_dim, false);
        if (f->qk_norm_wide) w->q_norm = random_norm(&m, q, false);
        if (f->qk_norm_wide) w->k_norm = random_norm(&m, kv, false);
        if (f->post_norm) w->attn_post = random_norm(&m, D, false);
        if (f->post_norm) w->ffn_post = random_norm(&m, D, false);
    }
    return m;
}

static void free_random_model(struct model *m) {
    for (int l = 0; l < m->config.layers; l++) {
        struct layer *w = &m->layer[l];
        const struct matrix *all[] = {&w->q,    &w->k,  &w->v,   &w->attn_out,
                                      &w->gate, &w->up, &w->down};
        for (int k = 0; k < 7; k++) free((char *)all[k]->at);
    }
    free((char *)m->embedding.at), free((char *)m->output.at), free((char *)m->positions.at);
    model_close(m);
}

static void plain_product(real *out, const real *x, int T, const struct matrix *w) {
    for (int t = 0; t < T; t++)
        for (int o = 0; o < w->rows; o++) {
            real sum = 0;
            for (int k = 0; k < w->columns; k++)
                sum = real_fma(x[(size_t)t * w->columns + k], weight_at(w, o, k), sum);
            out[(size_t)t * w->rows + o] = sum;
        }
}

/* RMSNorm of rows of n; without a weight, the rows as they are. */
static void plain_norm(real *out, const real *x, int rows, int n, const real *weight,
                       const struct config *c) {
    for (int t = 0; t < rows; t++) {
        real squares = 0;
        for (int k = 0; k < n; k++) squares = real_fma(x[t * n + k], x[t * n + k], squares);
        real scale = 1 / real_sqrt(squares / (real)n + (real)c->norm_eps);
        for (int k = 0; k < n; k++)
            out[t * n + k] = weight ? x[t * n + k] * scale * weight[k] : x[t * n + k];
    }
}

static void plain_rotate(real *x, int T, int heads, double base, const struct config *c) {
    const int half = c->head_dim / 2, halves = c->family->positions == HALVES;
    for (int t = 0; t < T; t++)
        for (int h = 0; h < heads; h++)
            for (int i = 0; i < half; i++) {
                real *first = x + (t * heads + h) * c->head_dim + (halves ? i : 2 * i);
                real *second = first + (halves ? half : 1);
                real exponent = (real)(2 * i) / (real)c->head_dim;
                real angle = (real)t * (1 / (real)exp64(exponent * log64(base)));
                real cosine = (real)cos64(angle), sine = (real)sin64(angle), a = *first;
                *first = real_fma(a, cosine, -(*second * sine));
                *second = real_fma(*second, cosine, a * sine);
            }
}

static void plain_attention(real *out, const real *q, const real *k, const real *v, int T,
                            int window, const struct config *c) {
    const int d = c->head_dim, group = c->heads / c->kv_heads;
    const real cap = (real)c->attention_cap;
    real *e = malloc(T * sizeof *e);
    for (int t = 0; t < T; t++)
        for (int h = 0; h < c->heads; h++) {
            const int from = window && t + 1 > window ? t + 1 - window : 0;
            real most = 0, sum = 0;
            for (int j = from; j <= t; j++) {
                real dot = 0;
                for (int i = 0; i < d; i++)
                    dot = real_fma(q[(t * c->heads + h) * d + i],
                                   k[(j * c->kv_heads + h / group) * d + i], dot);
                e[j] = dot * (real)c->attention_scale;
                if (cap > 0) e[j] = cap * (real)tanh64(e[j] / cap);
                most = j == from || e[j] > most ? e[j] : most;
            }
            for (int j = from; j <= t; j++) sum += e[j] = real_exp(e[j] - most);
            for (int i = 0; i < d; i++) {
                real mixed = 0;
                for (int j = from; j <= t; j++)
                    mixed = real_fma(e[j], v[(j * c->kv_heads + h / group) * d + i], mixed);
                out[(t * c->heads + h) * d + i] = mixed / sum;
            }
        }
    free(e);
}

static real plain_activation(enum activation act, real x) {
    const real inner = (real)0.79788456080286535588 * real_fma(x * x * x, (real)0.044715, x);
    return act == SILU   ? x / (1 + real_exp(-x))
           : act == RELU ? (x > 0 ? x : 0)
                         : (real)0.5 * x * (1 + (real)tanh64(inner));
}

static void plain_scale(real *x, int n, double factor) {
    for (int i = 0; i < n; i++) x[i] *= (real)factor;
}

/* Whether plain_forward() knows all that sets the family apart. */
static bool is_simple(const struct family *f) {
    return !f->layer_norm && !f->plain && is_rotary(f);
}

/* The whole forward pass as the formulas have it, one sequence, one thread: logits [T, V]. */
static real *plain_forward(const struct model *m, const int32_t *tokens, int T) {
    const struct config *c = &m->config;
    const struct family *f = c->family;
    const int D = c->width, F = c->neurons, Q = c->heads * c->head_dim;
    const int KV = c->kv_heads * c->head_dim;
    real *x = malloc(sizeof(real) * T * (4 * (size_t)D + 2 * Q + 2 * KV + 2 * F + c->vocab));
    real *h = x + T * D, *q = h + T * D, *k = q + T * Q, *v = k + T * KV, *a = v + T * KV;
    real *g = a + T * Q, *u = g + T * F, *out = malloc(sizeof(real) * T * c->vocab);
    for (int t = 0; t < T; t++)
        for (int i = 0; i < D; i++) x[t * D + i] = weight_at(&m->embedding, tokens[t], i);
    plain_scale(x, T * D, c->embedding_scale);
    for (int l = 0; l < c->layers; l++) {
        const struct layer *w = &m->layer[l];
        const int heads = f->qk_norm_wide ? c->heads : 1, kv = f->qk_norm_wide ? c->kv_heads : 1;
        /* Gemma 2 and 3, as transformers has it: of so many layers the last attends to all */
        const bool local = c->window && (!f->global_every || (l + 1) % f->global_every);
        const double base = local && f->global_every ? c->window_rope_base : c->rope_base;
        plain_norm(h, x, T, D, w->attn_norm.weight, c);
        plain_product(q, h, T, &w->q);
        plain_product(k, h, T, &w->k);
        plain_product(v, h, T, &w->v);
        plain_norm(q, q, T * c->heads / heads, heads * c->head_dim, w->q_norm.weight, c);
        plain_norm(k, k, T * c->kv_heads / kv, kv * c->head_dim, w->k_norm.weight, c);
        if (!f->unrotated_every || (l + 1) % f->unrotated_every) {
            plain_rotate(q, T, c->heads, base, c);
            plain_rotate(k, T, c->kv_heads, base, c);
        }
        plain_attention(a, q, k, v, T, local ? c->window : 0, c);
        plain_product(h, a, T, &w->attn_out);
        plain_norm(h, h, T, D, w->attn_post.weight, c);
        plain_scale(h, T * D, c->residual_scale);
        for (int i = 0; i < T * D; i++) x[i] += h[i];
        plain_norm(h, x, T, D, w->ffn_norm.weight, c);
        plain_product(g, h, T, &w->gate);
        plain_product(u, h, T, &w->up);
        for (int i = 0; i < T * F; i++) g[i] = plain_activation(f->activation, g[i]) * u[i];
        plain_product(h, g, T, &w->down);
        plain_norm(h, h, T, D, w->ffn_post.weight, c);
        plain_scale(h, T * D, c->residual_scale);
        for (int i = 0; i < T * D; i++) x[i] += h[i];
    }
    plain_norm(h, x, T, D, m->output_norm.weight, c);
    plain_product(out, h, T, &m->output);
    plain_scale(out, T * c->vocab, c->logit_scale);
    free(x);
    return out;
}

/* Pushes the tokens through in steps of `step`, and compares all logits with `want`, in every bit.
 */
static int wrong_logits(const struct model *m, struct pool *p, const int32_t *tokens, int T,
                        int step, const real *want) {
    struct error e;
    const int V = m->config.vocab;
    struct run *r = run_new(m, p, (struct room){T, T, T, step < T}, &e);
    real *out = malloc(sizeof *out * T * V);
    int wrong = 0;
    for (int t = 0; t < T; t += step) {
        const int n = min_int(step, T - t);
        if (forward(r, &(struct sequence){tokens + t, n, t, 0}, 1, NULL, &e)) return -1;
        logits(r, 0, n, out, NULL);
        wrong += memcmp(out, want + (size_t)t * V, sizeof *out * n * V) != 0;
    }
    free(out);
    run_free(r);
    return wrong;
}

/* Several sequences of different lengths at once, each of which must come out as it does alone. */
static int wrong_packed(const struct model *m, struct pool *p, const int32_t *tokens, int T) {
    struct error e;
    const int V = m->config.vocab, n = 4, length[] = {T / 2, 1, T, T / 3};
    struct sequence s[4];
    int all = 0, wrong = 0;
    for (int i = 0; i < n; i++) {
        s[i] = (struct sequence){tokens + (i == 3 ? T - length[i] : 0), length[i], 0, all};
        all += length[i];
    }
    struct run *r = run_new(m, p, (struct room){all, all, T, false}, &e);
    real *out = malloc(sizeof *out * all * V);
    if (forward(r, s, n, NULL, &e)) return -1;
    logits(r, 0, all, out, NULL);
    for (int i = 0; i < n; i++) {
        real *want = plain_forward(m, s[i].tokens, s[i].n);
        wrong += memcmp(out + (size_t)s[i].row * V, want, sizeof *out * s[i].n * V) != 0;
        free(want);
    }
    free(out);
    run_free(r);
    return wrong;
}

static void test_forward(struct pool *p) {
    static const struct config config[] = {
        {.layers = 2,
         .width = 64,
         .neurons = 96,
         .heads = 4,
         .kv_heads = 2,
         .head_dim = 16,
         .vocab = 67,
         .norm_eps = 1e-5,
         .rope_base = 10000},
        {.layers = 3,
         .width = 96,
         .neurons = 160,
         .heads = 6,
         .kv_heads = 1,
         .head_dim = 10,
         .vocab = 33,
         .window = 7,
         .norm_eps = 1e-6,
         .rope_base = 1e6},
        {.layers = 1,
         .width = 32,
         .neurons = 32,
         .heads = 1,
         .kv_heads = 1,
         .head_dim = 40,
         .vocab = 5,
         .window = 1,
         .norm_eps = 1e-5,
         .rope_base = 500},
        {.layers = 2,
         .width = 288,
         .neurons = 576,
         .heads = 3,
         .kv_heads = 3,
         .head_dim = 6,
         .vocab = 41,
         .window = 64,
         .norm_eps = 1e-5,
         .rope_base = 10000},
    };
    static const uint32_t type[] = {TENSOR_F32, TENSOR_F32, TENSOR_BF16, TENSOR_BF16};
    for (size_t i = 0; i < sizeof config / sizeof *config; i++) {
        struct model m = random_model(config[i], type[i]);
        enum { T = 150 };
        int32_t tokens[T];
        for (int t = 0; t < T; t++) tokens[t] = (int32_t)(test_random() % config[i].vocab);
        real *want = plain_forward(&m, tokens, T);
        CHECK(isfinite(want[0]) && want[0] != want[1], "model %zu computes nothing", i);
        for (int step = 1; step <= T; step = step < 8 ? step + 6 : step * 4 + 94)
            CHECK(wrong_logits(&m, p, tokens, T, step, want) == 0,
                  "model %zu, %d tokens at a time: logits differ from the definition", i, step);
        CHECK(wrong_logits(&m, p, tokens, T, T, want) == 0, "model %zu, all at once", i);
        CHECK(wrong_packed(&m, p, tokens, T) == 0, "model %zu, several sequences at once", i);
        free(want);
        free_random_model(&m);
    }
}

/* The logits of a text pushed through at once. */
static real *all_at_once(const struct model *m, struct pool *p, const int32_t *tokens, int T) {
    struct error e;
    struct run *r = run_new(m, p, (struct room){T, T, T, false}, &e);
    real *out = malloc(sizeof *out * T * m->config.vocab);
    CHECK(forward(r, &(struct sequence){tokens, T, 0, 0}, 1, NULL, &e) == 0, "%s", e.text);
    logits(r, 0, T, out, NULL);
    run_free(r);
    return out;
}

/* Sequences for which a run has no room, each bound of it being crossed by one. */
static void test_room(struct pool *p) {
    struct model m = random_model((struct config){.layers = 1,
                                                  .width = 16,
                                                  .neurons = 16,
                                                  .heads = 1,
                                                  .kv_heads = 1,
                                                  .head_dim = 16,
                                                  .vocab = 9,
                                                  .norm_eps = 1e-5,
                                                  .rope_base = 10000},
                                  TENSOR_F32);
    const int32_t tokens[8] = {0, 1, 2, 3, 4, 5, 6, 7}, bad[] = {0, 9}, negative[] = {-1, 0};
    const struct sequence first = {tokens, 2, 0, 6}, good = {tokens, 4, 2, 6};
    const struct {
        struct sequence s;
        const char *why;
    } row[] = {{{tokens, 0, 0, 0}, "room"},         {{tokens, -1, 0, 0}, "room"},
               {{tokens, 1, -1, 0}, "room"},        {{tokens, 1, 0, -1}, "room"},
               {{tokens, 6, 0, 0}, "room"},         {{tokens, 4, 3, 0}, "room"},
               {{tokens, 4, 2, 7}, "room"},         {{bad, 2, 0, 0}, "token id 9"},
               {{negative, 2, 0, 0}, "token id -1"}};
    struct error e = {""};
    struct run *r = run_new(&m, p, (struct room){5, 12, 6, false}, &e);
    CHECK(forward(r, &first, 1, NULL, &e) == 0, "%s", e.text);
    CHECK(forward(r, &good, 1, NULL, &e) == 0, "%s", e.text);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        CHECK(forward(r, &row[i].s, 1, NULL, &e) == -1 && strstr(e.text, row[i].why),
              "sequence %zu: %s", i, e.text);
    const struct sequence two[] = {{tokens, 3, 0, 0}, {tokens, 3, 0, 6}};
    CHECK(forward(r, two, 2, NULL, &e) == -1 && strstr(e.text, "sequence 1 "), "%s", e.text);
    CHECK(forward(r, two + 1, 1, NULL, &e) == 0, "%s", e.text);
    run_free(r);
    run_free(NULL); /* as free() */
    pool_free(NULL);
    free_random_model(&m);
}

/* Whether logits are the definition's, for families that it knows; stay the same, as bits, in
 * steps; and whether a token never changes those before it. */
static void test_family(const struct family *f, struct pool *p) {
    enum { T = 70, V = 37 };
    struct config c = {.family = f,
                       .layers = 1 + max_int(1, max_int(f->global_every, f->unrotated_every)),
                       .width = 48,
                       .neurons = 64,
                       .heads = 6,
                       .kv_heads = f->positions == ALIBI ? 6 : 2,
                       .head_dim = 8,
                       .rotated = f->parallel || f->layer_norm ? 6 : 8,
                       .vocab = V,
                       .window = f->global_every ? 9 : 0,
                       .attention_cap = f->global_every ? 20 : 0,
                       .norm_eps = 1e-5,
                       .rope_base = 500};
    struct model m = random_model(c, TENSOR_BF16);
    int32_t tokens[T];
    for (int t = 0; t < T; t++) tokens[t] = (int32_t)(test_random() % V);
    real *want = all_at_once(&m, p, tokens, T);
    CHECK(isfinite(want[T * V - 1]) && want[0] != want[1], "%s computes nothing", f->name);
    if (is_simple(f)) {
        real *plain = plain_forward(&m, tokens, T);
        CHECK(memcmp(want, plain, sizeof *want * T * V) == 0, "%s is not its definition", f->name);
        free(plain);
    }
    for (int step = 1; step < T; step = 3 * step + 4)
        CHECK(wrong_logits(&m, p, tokens, T, step, want) == 0, "%s, %d tokens at a time", f->name,
              step);
    tokens[T - 1] = (tokens[T - 1] + 1) % V;
    real *other = all_at_once(&m, p, tokens, T);
    CHECK(memcmp(want, other, sizeof *want * (T - 1) * V) == 0, "%s sees the future", f->name);
    CHECK(memcmp(want + (T - 1) * V, other + (T - 1) * V, sizeof *want * V) != 0,
          "%s does not see its token", f->name);
    free(want), free(other);
    free_random_model(&m);
}

static void test_activations(void) {
    enum { N = 1000 };
    real x[N], want[N];
    for (int act = SILU; act <= RELU; act++) {
        random_vector(x, N, act + 1);
        for (int i = 0; i < N; i++) want[i] = plain_activation(act, x[i]);
        activate_row(act, x, N);
        CHECK(memcmp(x, want, sizeof x) == 0, "activation %d is not its definition", act);
    }
}

static void test_families(struct pool *p) {
    for (size_t i = 0; i < sizeof family_table / sizeof *family_table; i++)
        test_family(&family_table[i], p);
}

/* ---- What is refused, and what the hook sees ------------------------------------------------- */

struct seen {
    int calls[POINTS], zeroed;
};

static void watch(void *context, enum point at, int layer, real *values, int rows, int columns) {
    struct seen *s = context;
    s->calls[at]++;
    if (at == AT_ACT && layer == 1 && s->zeroed)
        for (int t = 0; t < rows; t++) memset(values + t * columns, 0, columns * sizeof *values);
    if (at == AT_DOWN && layer == 1 && s->zeroed)
        for (int i = 0; i < rows * columns; i++)
            if (values[i] != 0) s->zeroed = -1;
}

/* The slopes of Press et al.'s code, which starts from powers of two: -log2 of each. */
static void test_alibi(void) {
    static const struct {
        int heads;
        double fall[12];
    } row[] = {{1, {8}},
               {2, {4, 8}},
               {3, {4, 8, 2}},
               {8, {1, 2, 3, 4, 5, 6, 7, 8}},
               {12, {1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5}}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const struct config c = {.heads = row[i].heads, .alibi = 8};
        for (int h = 0; h < c.heads; h++) {
            const double want = exp2(-row[i].fall[h]), got = alibi_slope(&c, h);
            CHECK(fabs(got - want) < 1e-7 * want, "slope %d of %d is %g, not %g", h, c.heads, got,
                  want);
        }
    }
}

/* One of two heads, 32 wide. */
static struct model small_model(const struct family *f, int layers, int vocab) {
    return random_model((struct config){.family = f,
                                        .layers = layers,
                                        .width = 32,
                                        .neurons = 64,
                                        .heads = 2,
                                        .kv_heads = 2,
                                        .head_dim = 16,
                                        .vocab = vocab,
                                        .norm_eps = 1e-5,
                                        .rope_base = 1e4},
                        TENSOR_F32);
}

static void test_hook(struct pool *p) {
    struct error e;
    struct model m = small_model(NULL, 2, 9);
    struct run *r = run_new(&m, p, (struct room){8, 8, 8, false}, &e);
    struct seen s = {.zeroed = 1};
    CHECK(r && (uintptr_t)r->x % 64 == 0 && (uintptr_t)r->h % 64 == 0, "whole cache lines");
    const struct hook hook = {watch, &s};
    const int32_t tokens[] = {1, 2, 3, 8, 9, -1};
    real out[8 * 9];
    CHECK(forward(r, &(struct sequence){tokens, 4, 0, 0}, 1, &hook, &e) == 0, "%s", e.text);
    logits(r, 0, 4, out, &hook);
    for (int at = 0; at < POINTS; at++)
        CHECK(s.calls[at] == (at == AT_EMBD || at == AT_LOGITS ? 1 : 2), "point %d: %d calls", at,
              s.calls[at]);
    CHECK(s.zeroed == 1, "activations set to 0 still reach the residual stream");
    CHECK(forward(r, &(struct sequence){tokens, 5, 0, 0}, 1, NULL, &e) < 0 && strstr(e.text, " 9 "),
          "a token beyond the vocabulary is refused");
    CHECK(forward(r, &(struct sequence){tokens + 5, 1, 0, 0}, 1, NULL, &e) < 0, "a negative one");
    CHECK(forward(r, &(struct sequence){tokens, 4, 5, 0}, 1, NULL, &e) < 0, "beyond the cache");
    CHECK(forward(r, &(struct sequence){tokens, 9, 0, 0}, 1, NULL, &e) < 0, "beyond the room");
    CHECK(forward(r, &(struct sequence){tokens, 0, 0, 0}, 1, NULL, &e) < 0, "nothing");
    run_free(r);
    r = run_new(&m, p, (struct room){8, 8, 3, false}, &e);
    CHECK(forward(r, &(struct sequence){tokens, 3, 0, 5}, 1, NULL, &e) == 0, "%s", e.text);
    CHECK(forward(r, &(struct sequence){tokens, 4, 0, 0}, 1, NULL, &e) < 0, "beyond the longest");
    CHECK(forward(r, &(struct sequence){tokens, 2, 2, 0}, 1, NULL, &e) < 0, "with its past");
    run_free(r);
    free_random_model(&m);
}

/* Rows of all sizes, down to those of which eps is the greater part, by the formula. */
static void test_layer_norm(struct pool *p) {
    enum { N = CHAINS + 3, D = 32 };
    struct error e;
    struct model m = small_model(&family_table[6], 1, 10); /* phi2 */
    struct run *r = run_new(&m, p, (struct room){N, N, N, false}, &e);
    const struct norm *w = &m.output_norm;
    real x[N * D], out[N * D];
    double worst = 0;
    for (int i = 0; i < N; i++) random_vector(x + i * D, D, pow(10, 1 - i / 2.0));
    norm(r, out, x, N, D, w);
    for (int i = 0; i < N; i++) {
        const real *row = x + i * D;
        long double mean = 0, squares = 0;
        for (int k = 0; k < D; k++) mean += row[k] / (long double)D;
        for (int k = 0; k < D; k++) squares += (row[k] - mean) * (row[k] - mean);
        for (int k = 0; k < D; k++) {
            long double want = (row[k] - mean) / sqrtl(squares / D + m.config.norm_eps);
            want = want * w->weight[k] + w->bias[k];
            worst = worse(worst, fabs((double)(out[i * D + k] - want)));
        }
    }
    CHECK(m.config.family->layer_norm && worst < 1e-5, "layer norm is off by %g", worst);
    run_free(r);
    free_random_model(&m);
}

static void test_slices(struct pool *p) {
    enum { N = CHAINS + 3, V = 77 };
    real x[N * V];
    struct softmax row[N] = {{0}};
    double worst = 0;
    const int32_t target[N] = {0, 76, -1, 40, 3, 30, 31, 62, 61, 9, 75};
    random_vector(x, N * V, 20);
    for (int from = 0, some; from < V; from += some) { /* slices of 31, 31 and 15 */
        real part[N * V];
        some = V - from < 31 ? V - from : 31;
        for (int i = 0; i < N; i++) memcpy(part + i * some, x + i * V + from, some * sizeof *x);
        pool_run(p, 2, slice_job, &(struct slice){part, N, from, some, target, row});
    }
    for (int i = 0; i < N; i++) {
        long double sum = 0;
        for (int v = 0; v < V; v++) sum += expl(x[i * V + v] - row[i].most);
        if (target[i] < 0) continue;
        worst = worse(worst, fabs((double)(row[i].sum / sum) - 1));
        CHECK(row[i].target == x[i * V + target[i]], "the target's logit of row %d is wrong", i);
        for (int v = 0; v < V; v++) CHECK(x[i * V + v] <= row[i].most, "row %d has more", i);
    }
    CHECK(worst < 1e-6, "the sum of exponentials is off by %g of it", worst);
    CHECK(row[2].sum == 0, "a row without a target is passed over");
}

/* A vocabulary of two whole slices and a part of one: -ln softmax of the logits, by plain loops. */
static void test_losses(struct pool *p) {
    enum { T = 6, FIRST = 1, N = T - FIRST, V = 2 * SLICE + 77 };
    struct error e;
    struct model m = small_model(&family_table[6], 1, V); /* phi2: its outputs have biases */
    const int32_t tokens[T] = {7, V - 1, 0, SLICE, 3, 9};
    const int32_t target[N] = {SLICE, -1, V - 1, SLICE - 1, 0};
    double loss[N + 1] = {-1, -1, -1, -1, -1, -1};
    real *room = malloc(sizeof *room * N * SLICE), *want = all_at_once(&m, p, tokens, T);
    struct run *r = run_new(&m, p, (struct room){T, T, T, false}, &e);
    CHECK(m.output_bias && forward(r, &(struct sequence){tokens, T, 0, 0}, 1, NULL, &e) == 0 &&
              losses(r, FIRST, N, target, room, loss, &e) == 0,
          "%s", e.text);
    for (int i = 0; i < N; i++) {
        const real *x = want + (size_t)(FIRST + i) * V;
        long double sum = 0;
        if (target[i] < 0) continue;
        for (int v = 0; v < V; v++) sum += expl((long double)x[v] - x[target[i]]);
        CHECK(fabs(loss[i] - (double)logl(sum)) < 1e-5, "loss %d is %.9g, not %.9Lg", i, loss[i],
              logl(sum));
    }
    CHECK(loss[1] == -1 && loss[N] == -1, "a loss that nobody asked for");
    m.output_bias[V - 1] = (real)NAN;
    CHECK(losses(r, FIRST, N, target, room, loss, &e) < 0, "losses that are no numbers");
    run_free(r);
    free(room), free(want);
    free_random_model(&m);
}

/* ---- The demo model, against what transformers makes of it -------------------------------------
 */

static void test_golden(struct pool *p) {
    struct error e;
    struct model m;
    struct golden *g = golden_open("test/golden.tsv");
    int32_t ids[64];
    int n = 0, compared = 0;
    double worst = 0;
    if (model_open(&m, "demo/model.gguf", &e)) {
        CHECK(false, "%s", e.text);
        return;
    }
    if (golden_next(g, "prompt"))
        for (; n + 2 < g->fields; n++) ids[n] = atoi(g->field[n + 2]);
    struct run *r = run_new(&m, p, (struct room){n, n, n, false}, &e);
    real *out = malloc(sizeof *out * m.config.vocab);
    CHECK(forward(r, &(struct sequence){ids, n, 0, 0}, 1, NULL, &e) == 0, "%s", e.text);
    logits(r, n - 1, 1, out, NULL);
    for (; golden_next(g, "logit"); compared++)
        worst = worse(worst, fabs(out[atoi(g->field[1])] - atof(g->field[2])));
    printf("golden logits: %d compared, worst difference %.2g\n", compared, worst);
    CHECK(compared >= 64 && worst < 1e-4, "logits of the demo model differ by %g", worst);
    free(out);
    run_free(r);
    golden_close(g);
    model_close(&m);
}

int main(void) {
    struct error e;
    struct pool *p = pool_new(3, &e);
    test_limits();
    test_halves();
    test_pool();
    test_sums();
    test_products(p);
    test_forward(p);
    test_room(p);
    test_activations();
    test_families(p);
    test_alibi();
    test_hook(p);
    test_layer_norm(p);
    test_slices(p);
    test_losses(p);
    test_golden(p);
    test_functions(); /* these take longest */
    test_power();
    pool_free(p);
    return finish();
}
