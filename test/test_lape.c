/* The method: counting, merging, selecting, ablating and steering, against plain reimplementations
 * and against what the paper's released code selects from real counts of LLaMA-2-7B.
 */
#define main lape_main
#include "../lape.c"
#undef main

#include "check.h"
#include <math.h>

static void neurons_free(struct neurons *n) {
    free(n->label);
    free(n->neuron);
    free(n->member);
    free(n->p);
    *n = (struct neurons){0};
}

/* ---- Counting -------------------------------------------------------------------------------- */

static struct counts small_counts(int layers, int neurons, int vocab, const char *const *label) {
    struct counts c = {
        .layers = layers, .neurons = neurons, .vocab = vocab, .piece = 8, .near = 1e-3};
    strcpy(c.model, "small");
    for (int k = 0; label[k]; k++) {
        struct language *l = insert_language(&c, label[k]);
        for (int s = 0; s < STATISTICS; s++) l->of[s] = new_statistic(&c, s);
    }
    return c;
}

/* Counts as random as they come: of each statistic, in each language. */
static struct counts random_counts(int layers, int neurons, const char *const *label) {
    struct counts c = small_counts(layers, neurons, 11, label);
    for (int k = 0; k < c.n; k++) {
        struct language *l = &c.language[k];
        l->tokens = 1000 + test_random() % 1000;
        l->pieces = 5;
        for (int s = 0; s < STATISTICS; s++)
            for (size_t i = 0; i < rows_of(&c, s) * columns_of(&c, s); i++)
                l->of[s][i] = (int64_t)(test_random() % (s == HISTOGRAM ? 90 : 1000));
        int64_t *seen = l->of[HISTOGRAM];
        seen[0] = (int64_t)l->tokens; /* what the others leave of all tokens */
        for (int i = 1; i < c.vocab; i++) seen[0] -= seen[i];
    }
    return c;
}

static void test_counting(struct pool *p) {
    static const char *const label[] = {"xx", NULL};
    enum {
        F = 2 * COUNT_BLOCK + 1,
        ROWS = 5000
    }; /* a block of one neuron; more rows than one exact sum takes */
    struct counts c = small_counts(2, F, 3, label);
    struct counter counter = {.pool = p, .counts = &c, .language = &c.language[0]};
    real *gate = malloc(sizeof *gate * ROWS * F), *act = malloc(sizeof *act * ROWS * F);
    static const real edge[] = {0, -0.0f, 1e-3f, -1e-3f, 9.99e-4f, -9.99e-4f, 1e-30f, -1e-30f};
    for (int i = 0; i < ROWS * F; i++) {
        gate[i] = i % 7 ? (real)((test_fraction() - 0.5) * (i % 3 ? 8 : 3e-3)) : edge[i / 7 % 8];
        act[i] = i % 2 ? gate[i] : (real)((i % 1024 - 512) * 0x1.8p-21); /* halves: rounding ties */
    }
    for (int pass = 0; pass < 2; pass++) {
        count_neurons(&counter, AT_GATE, 1, gate, ROWS, F);
        count_neurons(&counter, AT_ACT, 1, act, ROWS, F);
        count_neurons(&counter, AT_UP, 1, act, ROWS, F);
    }
    struct error e;
    CHECK(count_is_sound(&counter, &e) == 0, "%s", e.text);
    int wrong = 0;
    const real near = (real)c.near;
    for (int i = 0; i < F; i++) {
        int64_t want[STATISTICS] = {0};
        for (int t = 0; t < ROWS; t++) {
            real g = gate[t * F + i], a = act[t * F + i];
            long long fixed = llrint((double)a * 1048576);
            want[POSITIVE] += 2 * (a > 0);
            want[NEAR_ABOVE] += 2 * (g > 0 && g < near);
            want[NEAR_BELOW] += 2 * (g <= 0 && g >= -near);
            want[SUM] += 2 * fixed;
            want[POSITIVE_SUM] += a > 0 ? 2 * fixed : 0;
        }
        for (int s = 0; s < HISTOGRAM; s++)
            wrong += c.language[0].of[s][F + i] != want[s] || c.language[0].of[s][i] != 0;
    }
    CHECK(wrong == 0, "%d statistics are not what plain loops count", wrong);
    const real unsound[] = {(real)NAN, (real)INFINITY, -(real)INFINITY, 3e9f, -3e9f};
    for (int k = 0; k < 5; k++) {
        counts_free(&c);
        c = small_counts(2, F, 3, label);
        counter = (struct counter){.pool = p, .counts = &c, .language = &c.language[0]};
        act[3 * F + 70] = unsound[k];
        count_neurons(&counter, AT_ACT, 1, act, ROWS, F);
        CHECK(count_is_sound(&counter, &e) < 0 && strstr(e.text, "layer 1, neuron 70"),
              "activation %g is not reported", (double)unsound[k]);
    }
    for (int s = SUM; s <= POSITIVE_SUM; s++) { /* that has no room left */
        counts_free(&c);
        c = small_counts(2, F, 3, label);
        counter = (struct counter){.pool = p, .counts = &c, .language = &c.language[0]};
        for (int t = 0; t < ROWS; t++) act[t * F + 70] = 1;
        c.language[0].of[s][F + 70] = INT64_MAX - ((int64_t)ROWS << 20);
        count_neurons(&counter, AT_ACT, 1, act, ROWS, F);
        CHECK(count_is_sound(&counter, &e) == 0, "%s, full: %s", statistic_name[s], e.text);
        count_neurons(&counter, AT_ACT, 1, act, ROWS, F);
        CHECK(count_is_sound(&counter, &e) < 0 && strstr(e.text, "layer 1, neuron 70"),
              "%s overflows, and nobody says so", statistic_name[s]);
    }
    counts_free(&c);
    free(gate);
    free(act);
}

/* ---- Counts files ---------------------------------------------------------------------------- */

static bool same_counts(const struct counts *a, const struct counts *b) {
    bool same = a->n == b->n && a->layers == b->layers && a->neurons == b->neurons &&
                a->vocab == b->vocab && a->piece == b->piece && a->bos == b->bos &&
                a->near == b->near && strcmp(a->model, b->model) == 0;
    for (int k = 0; same && k < a->n; k++) {
        const struct language *x = &a->language[k], *y = &b->language[k];
        same = strcmp(x->label, y->label) == 0 && x->tokens == y->tokens && x->pieces == y->pieces;
        for (int s = 0; same && s < STATISTICS; s++)
            same = !x->of[s] == !y->of[s] &&
                   (!x->of[s] || !memcmp(x->of[s], y->of[s],
                                         rows_of(a, s) * columns_of(a, s) * sizeof(int64_t)));
    }
    return same;
}

static int save(const struct counts *c, const char *path, struct error *e) {
    struct output o;
    if (output_open(&o, path, e)) return -1;
    counts_write(c, o.file);
    return output_finish(&o, e);
}

static void test_counts_files(const char *folder) {
    static const char *const label[] = {"zz", "a-1", "m_M", NULL};
    struct counts c = random_counts(3, 70, label), back;
    struct error e;
    char path[256];
    snprintf(path, sizeof path, "%s/counts.gguf", folder);
    c.bos = 1;
    c.language[1].of[SUM][5] = -123456789012345;
    CHECK(strcmp(c.language[0].label, "a-1") == 0 && strcmp(c.language[2].label, "zz") == 0,
          "languages are not sorted");
    CHECK(save(&c, path, &e) == 0 && counts_open(&back, path, &e) == 0, "%s", e.text);
    CHECK(same_counts(&c, &back), "counts do not come back from their file");
    counts_free(&back);
    c.language[1].of[POSITIVE][71] = (int64_t)c.language[1].tokens + 1;
    CHECK(save(&c, path, &e) == 0 && counts_open(&back, path, &e) < 0 && strstr(e.text, "m_M") &&
              strstr(e.text, "layer 1, neuron 1"),
          "a count above its tokens is not refused: %s", e.text);
    c.language[1].of[POSITIVE][71] = -1;
    CHECK(save(&c, path, &e) == 0 && counts_open(&back, path, &e) < 0, "a negative count");
    remove(path);
    counts_free(&c);
}

/* Labels that are none, or do not ascend. */
static void test_labels(const char *folder) {
    static const char *const good[] = {"a", "b", "c", NULL};
    static const char *const last[] = {"", "none", "aa"};
    struct error e;
    char path[256];
    snprintf(path, sizeof path, "%s/labels.gguf", folder);
    for (int i = 0; i < 3; i++) {
        struct counts c = random_counts(1, 2, good), back;
        strcpy(c.language[2].label, last[i]);
        CHECK(save(&c, path, &e) == 0 && counts_open(&back, path, &e) < 0 &&
                  strstr(e.text, "language 2 has no proper label"),
              "'%s' after a and b: %s", last[i], e.text);
        counts_free(&c);
    }
    remove(path);
}

/* The most layers that counts may have, and one more. */
static void test_many_layers(const char *folder) {
    static const char *const label[] = {"xx", NULL};
    struct error e;
    char path[256];
    snprintf(path, sizeof path, "%s/layers.gguf", folder);
    for (int more = 0; more < 2; more++) {
        struct counts c = small_counts(65536 + more, 1, 1, label), back;
        CHECK(save(&c, path, &e) == 0, "%s", e.text);
        const bool opened = counts_open(&back, path, &e) == 0;
        CHECK(opened != more, "%d layers: %s", c.layers, opened ? "are taken" : e.text);
        if (opened) counts_free(&back);
        counts_free(&c);
    }
    remove(path);
}

/* The last sums that 64 bits hold, and the first that they do not. */
static void test_overflow(void) {
    static const struct {
        int64_t to, v;
        bool beyond;
    } sum[] = {{INT64_MAX - 5, 5, false}, {INT64_MAX - 5, 6, true}, {INT64_MIN + 5, -5, false},
               {INT64_MIN + 5, -6, true}, {0, INT64_MIN, false},    {-1, INT64_MIN, true},
               {INT64_MAX, 0, false},     {INT64_MIN, 0, false},    {INT64_MIN, INT64_MAX, false}};
    for (size_t i = 0; i < sizeof sum / sizeof *sum; i++) {
        int64_t to = sum[i].to;
        const bool beyond = add_overflows(&to, sum[i].v);
        const uint64_t want = (uint64_t)sum[i].to + (sum[i].beyond ? 0 : (uint64_t)sum[i].v);
        CHECK(beyond == sum[i].beyond && (uint64_t)to == want, "%lld and %lld: %s, %lld",
              (long long)sum[i].to, (long long)sum[i].v, beyond ? "beyond" : "a sum",
              (long long)to);
    }
}

static void test_merging(void) {
    static const char *const abc[] = {"a", "b", "c", NULL}, *const bd[] = {"b", "d", NULL};
    struct counts part[4] = {random_counts(2, 9, abc), random_counts(2, 9, bd),
                             random_counts(2, 9, abc), random_counts(2, 9, bd)};
    struct counts want = {0};
    struct error e;
    int order[4] = {0, 1, 2, 3}, wrong = 0, orders = 0;
    for (int code = 0; code < 256;
         code++) { /* all 24 orders, and (0 + 1) + 2 against 0 + (1 + 2) */
        int used = 0;
        for (int i = 0; i < 4; i++) used |= 1 << (order[i] = code >> 2 * i & 3);
        if (used != 15) continue;
        struct counts sum = {.layers = 2, .neurons = 9, .vocab = 11, .piece = 8, .near = 1e-3};
        struct counts half = sum;
        strcpy(sum.model, "small");
        strcpy(half.model, "small");
        wrong += counts_add(&sum, &part[order[0]], false, &e) ||
                 counts_add(&half, &part[order[1]], false, &e) ||
                 counts_add(&half, &part[order[2]], false, &e) ||
                 counts_add(&sum, &half, false, &e) || counts_add(&sum, &part[order[3]], false, &e);
        if (orders++ == 0)
            want = sum;
        else {
            wrong += !same_counts(&sum, &want);
            counts_free(&sum);
        }
        counts_free(&half);
    }
    CHECK(orders == 24 && wrong == 0, "%d of %d orders of merging differ", wrong, orders);
    CHECK(want.language[1].of[SUM][4] ==
              part[0].language[1].of[SUM][4] + part[1].language[0].of[SUM][4] +
                  part[2].language[1].of[SUM][4] + part[3].language[0].of[SUM][4],
          "a sum of four is not their sum");
    part[0].language[0].of[SUM][3] = INT64_MAX;
    CHECK(counts_add(&part[0], &part[2], false, &e) < 0 && strstr(e.text, "64 bits"),
          "an overflow passes");
    part[1].near = 0.5;
    CHECK(counts_add(&part[3], &part[1], false, &e) < 0, "another tolerance passes");
    free(part[2].language[1].of[NEAR_ABOVE]);
    part[2].language[1].of[NEAR_ABOVE] = NULL;
    CHECK(counts_add(&want, &part[2], false, &e) < 0 && strstr(e.text, "near_above"),
          "a gap passes");
    strcpy(part[3].model, "other");
    CHECK(counts_add(&want, &part[3], false, &e) < 0 && strstr(e.text, "other"),
          "another model passes");
    counts_free(&want);
    for (int i = 0; i < 4; i++) counts_free(&part[i]);
}

/* ---- Selection ------------------------------------------------------------------------------- */

static void test_ranks(void) {
    static const struct {
        double x;
        size_t want;
    } row[] = {{0, 0},
               {0.5, 0},
               {1.5, 2},
               {2.5, 2},
               {2.4999999999999996, 2},
               {3.5, 4},
               {0.49999999999999994, 0},
               {7.51, 8},
               {1003929.6, 1003930}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        CHECK(round_half_even(row[i].x) == row[i].want, "round(%.17g) gave %zu", row[i].x,
              round_half_even(row[i].x));
}

/* The selection once more, by counting instead of sorting: the value of rank r is the p that fewer
 * than r are below, and at least r are not above. */
static double value_of_rank(const double *p, size_t n, size_t rank) {
    for (size_t i = 0; rank && i < n; i++) {
        size_t below = 0, not_above = 0;
        for (size_t j = 0; j < n; j++) {
            below += p[j] < p[i];
            not_above += p[j] <= p[i];
        }
        if (below < rank && not_above >= rank) return p[i];
    }
    return -1;
}

static double plain_entropy(const double *p, int K) {
    long double sum = 0, h = 0;
    for (int k = 0; k < K; k++) sum += p[k];
    for (int k = 0; k < K; k++) {
        const long double q = p[k] / sum; /* by itself: tcc passes on what it is made of */
        if (q > 0) h -= q * logl(q);
    }
    return (double)h;
}

/* What is wrong with a selection, NULL if nothing is. */
static const char *judge(const struct counts *c, const struct find *f, const struct neurons *got) {
    const int K = c->n;
    const size_t N = all_neurons(c);
    double *p = malloc(N * K * sizeof *p), worst = -1, best_left = INFINITY;
    const char *fault = NULL;
    size_t candidates = 0, at = 0;
    for (size_t i = 0; i < N; i++)
        for (int k = 0; k < K; k++)
            p[i * K + k] = (double)c->language[k].of[POSITIVE][i] / (double)c->language[k].tokens;
    const double least_p = value_of_rank(p, N * K, (size_t)nearbyint(f->filter * (double)(N * K)));
    const double bar = value_of_rank(p, N * K, (size_t)nearbyint(f->bar * (double)(N * K)));
    for (size_t i = 0; i < N; i++) {
        bool candidate = false;
        for (int k = 0; k < K; k++) candidate |= p[i * K + k] > least_p;
        candidates += candidate;
        const double h = plain_entropy(p + i * K, K);
        const bool in =
            at < got->n &&
            (size_t)got->neuron[at].layer * c->neurons + (size_t)got->neuron[at].index == i;
        if (in && !candidate) fault = "a neuron is selected that the filter drops";
        if (in) worst = worse(worst, h);
        if (!in && candidate) best_left = fmin(best_left, h);
        for (int k = 0; in && k < K; k++) {
            if (got->member[at * K + k] != (p[i * K + k] > bar)) fault = "a language is wrong";
            if (got->p[at * K + k] != p[i * K + k]) fault = "a probability is wrong";
        }
        at += in;
    }
    if (at != got->n) fault = "neurons are not in order";
    if (!(worst <= best_left + 1e-12)) fault = "a neuron of lower entropy was left out";
    if (got->n != least((size_t)nearbyint(f->top * (double)N), candidates))
        fault = "their number is wrong";
    if (fabs(f->threshold - least_p) > 0 || fabs(f->bar_value - bar) > 0)
        fault = "a threshold is wrong";
    free(p);
    return fault;
}

/* H / ln K - X max p / (mean of 1/1 .. 1/K), H of no p below 1e-12; 1/1 .. 1/5 by their sums. */
static void test_penalty(void) {
    static const double mean_of_inverses[] = {
        0, 1, 1.5 / 2, 11. / 6 / 3, 25. / 12 / 4, 137. / 60 / 5};
    double room[10], p[5];
    for (int i = 0; i < 200; i++) {
        const int K = 2 + i % 4;
        double floored[5], most = 0;
        for (int k = 0; k < K; k++) {
            p[k] = test_random() % 3 ? test_fraction() : 0;
            floored[k] = fmax(p[k], 1e-12);
            most = fmax(most, p[k]);
        }
        const double penalty = test_fraction() * 3;
        const double want =
            plain_entropy(floored, K) / log(K) - penalty * most / mean_of_inverses[K];
        const double got = penalised_entropy(p, K, penalty, room);
        CHECK(fabs(got - want) < 1e-12, "%d languages, penalty %g: %.17g, not %.17g", K, penalty,
              got, want);
    }
}

static void test_selection(void) {
    static const char *const all[] = {"a", "b", "c", "d", "e", NULL};
    struct error e;
    for (int round = 0; round < 300; round++) {
        const int K = 2 + (int)(test_random() % 4), kinds = round % 3 ? 1000 : 4;
        const char *label[6] = {0};
        for (int k = 0; k < K; k++) label[k] = all[k];
        struct counts c = random_counts(1 + round % 3, 20 + round % 50, label);
        for (int k = 0; k < K; k++)
            for (size_t i = 0; i < all_neurons(&c); i++)
                c.language[k].of[POSITIVE][i] =
                    test_random() % 4 ? (int64_t)(test_random() % kinds) : 0;
        struct find f = {.top = test_fraction() * (round % 5 ? 0.2 : 1),
                         .filter = test_fraction(),
                         .bar = test_fraction()};
        struct neurons got;
        CHECK(find_neurons(&c, &f, &got, &e) == 0, "%s", e.text);
        const char *fault = judge(&c, &f, &got);
        CHECK(!fault, "selection %d: %s", round, fault);
        neurons_free(&got);
        counts_free(&c);
    }
}

/* The entropy of one language is 0 for every neuron: all would be ties. */
static void test_one_language(void) {
    static const char *const label[] = {"a", NULL};
    static const enum method entropies[] = {LAPE, LAVE}, others[] = {LAP, RANDOM};
    struct counts c = random_counts(2, 10, label);
    struct neurons got;
    struct error e;
    for (int i = 0; i < 2; i++)
        CHECK(find_neurons(&c, &(struct find){.method = entropies[i]}, &got, &e) < 0 &&
                  strstr(e.text, "one language"),
              "one language is no error of method %d", entropies[i]);
    for (int i = 0; i < 2; i++) {
        CHECK(find_neurons(&c, &(struct find){.method = others[i], .top = 1}, &got, &e) == 0, "%s",
              e.text);
        neurons_free(&got);
    }
    counts_free(&c);
}

/* Parts of two texts that are cut in all ways up to LCM / 10: whether a piece is in two of them, by
 * looking at each. */
static void test_common_pieces(void) {
    enum { LCM = 60, MOST = 5, ROUNDS = 4000 };
    struct part p[MOST];
    struct error e;
    int met = 0, apart = 0, wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int times[2][LCM] = {{0}};
        const size_t n = test_random() % (MOST + 1);
        bool common = false;
        for (size_t i = 0; i < n; i++) {
            const uint64_t of = 1 + test_random() % (LCM / 10);
            p[i] = (struct part){test_random() % 2, test_random() % of, of};
            for (uint64_t k = p[i].shard; k < LCM; k += of) common |= times[p[i].text][k]++ > 0;
        }
        const bool found = sort_parts(p, n, "xx", &e) < 0;
        bool ascend = true;
        for (size_t i = 1; i < n; i++) {
            const uint64_t a[] = {p[i - 1].text, p[i - 1].of, p[i - 1].shard};
            const uint64_t b[] = {p[i].text, p[i].of, p[i].shard};
            int k = 0;
            while (k < 2 && a[k] == b[k]) k++;
            ascend &= a[k] < b[k];
        }
        wrong += found != common || (found ? !strstr(e.text, "counted already") : !ascend);
        met += common;
        apart += !common && n > 1;
    }
    CHECK(met > ROUNDS / 10 && apart > ROUNDS / 10, "%d and %d", met, apart);
    CHECK(wrong == 0, "of %d lists of parts %d are misjudged", ROUNDS, wrong);
}

/* Shards of a text come together to the text, in any order, and none twice. */
static void test_parts(void) {
    static const char *const label[] = {"a", NULL};
    struct counts c[6], all = {0};
    struct error e;
    static const struct part part[6] = {{9, 2, 3}, {9, 0, 3}, {7, 0, 1},
                                        {9, 1, 3}, {9, 1, 2}, {9, 3, 4}};
    for (int i = 0; i < 6; i++) {
        c[i] = random_counts(1, 2, label);
        add_part(&c[i].language[0], part[i]);
    }
    all = small_counts(1, 2, 11, label);
    for (int i = 0; i < 4; i++) {
        CHECK(counts_add(&all, &c[i], false, &e) == 0, "%s", e.text);
        for (int again = 0; again <= i; again++)
            CHECK(counts_add(&all, &c[again], false, &e) < 0 && strstr(e.text, "counted already"),
                  "part %d is counted twice after %d", again, i);
    }
    const struct part *p = all.language[0].parts.at;
    CHECK(parts_of(&all.language[0]) == 2 && by_part(&p[0], &(struct part){7, 0, 1}) == 0 &&
              by_part(&p[1], &(struct part){9, 0, 1}) == 0,
          "three shards of three are not the text");
    for (int i = 4; i < 6; i++)
        CHECK(counts_add(&all, &c[i], false, &e) < 0, "a shard of a text that is counted");
    CHECK(counts_add(&c[4], &c[5], false, &e) < 0, "every fourth piece among every second");
    CHECK(counts_add(&c[1], &c[4], false, &e) < 0, "every sixth piece in common");
    for (int i = 0; i < 6; i++) counts_free(&c[i]);
    counts_free(&all);
    /* every second piece, and of the others every second: these have none in common */
    static const struct part apart[] = {{9, 3, 4}, {9, 0, 2}, {9, 1, 4}};
    all = small_counts(1, 2, 11, label);
    for (int i = 0; i < 3; i++) {
        c[i] = random_counts(1, 2, label);
        add_part(&c[i].language[0], apart[i]);
        CHECK(counts_add(&all, &c[i], false, &e) == 0, "%s", e.text);
    }
    p = all.language[0].parts.at;
    CHECK(parts_of(&all.language[0]) == 3 && p[0].of == 2 && p[1].shard == 1 && p[2].shard == 3,
          "parts of a half and two quarters are in another order");
    for (int i = 0; i < 3; i++) {
        CHECK(counts_add(&all, &c[i], false, &e) < 0, "part %d is counted twice", i);
        counts_free(&c[i]);
    }
    counts_free(&all);
}

/* Ties go by layer and index: of equal neurons the first are taken. */
static void test_ties(void) {
    static const char *const label[] = {"a", "b", NULL};
    struct counts c = random_counts(2, 10, label);
    for (size_t i = 0; i < 20; i++) {
        c.language[0].of[POSITIVE][i] = 30;
        c.language[1].of[POSITIVE][i] = i % 2 ? 60 : 0;
    }
    c.language[0].tokens = c.language[1].tokens = 100;
    struct find f = {.top = 0.35, .filter = 0, .bar = 0.5};
    struct neurons got;
    struct error e;
    CHECK(find_neurons(&c, &f, &got, &e) == 0 && got.n == 7, "%zu selected of 7", got.n);
    for (size_t i = 0; i < got.n; i++)
        CHECK(got.neuron[i].layer * 10 + got.neuron[i].index == (int)i * 2, "tie %zu went to %d %d",
              i, got.neuron[i].layer, got.neuron[i].index);
    neurons_free(&got);
    f = (struct find){.method = RANDOM, .like = &got, .seed = 5};
    struct neurons like;
    CHECK(find_neurons(&c, &(struct find){.top = .5, .filter = 0, .bar = 0.9}, &like, &e) == 0,
          "%s", e.text);
    f.like = &like;
    CHECK(find_neurons(&c, &f, &got, &e) == 0, "%s", e.text);
    for (int k = 0; k < 2; k++)
        for (int layer = 0; layer < 2; layer++) {
            int a = 0, b = 0;
            for (size_t i = 0; i < like.n; i++)
                a += like.neuron[i].layer == layer && like.member[i * 2 + k];
            for (size_t i = 0; i < got.n; i++)
                b += got.neuron[i].layer == layer && got.member[i * 2 + k];
            CHECK(a == b, "%d random neurons instead of %d at layer %d", b, a, layer);
        }
    neurons_free(&got);
    neurons_free(&like);
    counts_free(&c);
}

/* The same probabilities in other languages are a tie as well, whatever the order of the sum. */
static void test_permuted_ties(void) {
    const struct scored x = {1, 3}, y = {1, 5}, z = {2, 4};
    CHECK(by_score(&x, &y) < 0 && by_score(&y, &x) > 0 && by_score(&x, &x) == 0 &&
              by_score(&y, &z) < 0 && by_score(&z, &x) > 0,
          "an order that is none");
    static const char *const label[] = {"a", "b", "c", NULL};
    static const int count[6][3] = {{1, 2, 3}, {1, 3, 2}, {2, 1, 3},
                                    {2, 3, 1}, {3, 1, 2}, {3, 2, 1}};
    struct counts c = random_counts(1, 6, label);
    struct neurons got;
    struct error e;
    for (int k = 0; k < 3; k++) {
        c.language[k].tokens = 10;
        for (int i = 0; i < 6; i++) c.language[k].of[POSITIVE][i] = count[i][k];
    }
    CHECK(find_neurons(&c, &(struct find){.top = .5}, &got, &e) == 0 && got.n == 3, "%s", e.text);
    for (int i = 0; i < 3; i++)
        CHECK(got.neuron[i].index == i, "a tie went to %d", got.neuron[i].index);
    neurons_free(&got);
    c.language[1].tokens = 0;
    CHECK(find_neurons(&c, &(struct find){.top = .5}, &got, &e) < 0 && strstr(e.text, "no tokens"),
          "a language without tokens passes");
    counts_free(&c);
}

/* test/official.tsv: some neurons of LLaMA-2-7B with their counts in real text, and the languages
 * that the paper's released code gives them. The rates are set so that the ranks fall where they
 * fall among all 352,256 neurons. */
static void test_official(void) {
    static const char *const label[] = {"de", "en", "tr", NULL};
    struct golden *g = golden_open("test/official.tsv");
    struct counts c = {0};
    struct find f = {0};
    struct neurons got;
    struct error e;
    int rows = 0, wrong = 0;
    char want[512][32];
    while (golden_next(g, "rates")) {
        f.top = atof(g->field[1]), f.filter = atof(g->field[2]), f.bar = atof(g->field[3]);
        c = small_counts(1, atoi(g->field[4]), 0, label);
        for (int k = 0; k < 3; k++) c.language[k].tokens = strtoull(g->field[5 + k], NULL, 10);
    }
    golden_close(g);
    g = golden_open("test/official.tsv");
    for (; golden_next(g, "neuron") && rows < c.neurons; rows++) {
        for (int k = 0; k < 3; k++) c.language[k].of[POSITIVE][rows] = atoll(g->field[3 + k]);
        snprintf(want[rows], sizeof want[rows], "%s", g->field[6]);
    }
    golden_close(g);
    CHECK(rows >= 100 && rows == c.neurons, "%d neurons in test/official.tsv", rows);
    CHECK(find_neurons(&c, &f, &got, &e) == 0, "%s", e.text);
    for (int i = 0, at = 0; i < rows; i++) {
        char languages[32] = "-";
        if (at < (int)got.n && got.neuron[at].index == i) {
            languages[0] = '\0';
            for (int k = 0; k < 3; k++)
                if (got.member[at * 3 + k])
                    strcat(strcat(languages, *languages ? "," : ""), got.label[k]);
            at++;
        }
        wrong += strcmp(languages, want[i]) != 0;
    }
    CHECK(wrong == 0, "%d of %d neurons are not as the released code has them", wrong, rows);
    neurons_free(&got);
    counts_free(&c);
}

static void test_neuron_files(const char *folder) {
    static const char *const label[] = {"a", "bb", "c", NULL};
    struct counts c = random_counts(3, 40, label);
    struct find f = {.top = 0.3, .filter = 0.5, .bar = 0.9};
    struct neurons n, back;
    struct error e;
    char path[256];
    snprintf(path, sizeof path, "%s/neurons.tsv", folder);
    CHECK(find_neurons(&c, &f, &n, &e) == 0, "%s", e.text);
    FILE *file = fopen(path, "wb");
    neurons_print(&n, &c, &f, file);
    fclose(file);
    CHECK(neurons_open(&back, path, &e) == 0, "%s", e.text);
    CHECK(back.n == n.n && back.languages == 3 && back.layers == 3 && back.neurons == 40 &&
              strcmp(back.model, "small") == 0 &&
              !memcmp(back.neuron, n.neuron, n.n * sizeof *n.neuron) &&
              !memcmp(back.member, n.member, n.n * 3) && strcmp(back.label[1], "bb") == 0,
          "neurons do not come back from their file");
    remove(path);
    neurons_free(&n);
    neurons_free(&back);
    counts_free(&c);
}

/* A list to the letter, of four neurons whose p are 1 and 0, 1/2 and 1/2, 1/4 and 0, 3/4 and 1/4:
 * -3/4 ln 3/4 - 1/4 ln 1/4 is 0.56233514462. */
static void test_list_text(void) {
    static const char *const label[] = {"a", "b", NULL};
    static const int64_t positive[2][4] = {{4, 2, 1, 3}, {0, 2, 0, 1}};
    static const char want[] = "# language-specific neurons\n"
                               "# model: small\n"
                               "# digest: 00000000000000ab\n"
                               "# layers: 1\n"
                               "# neurons: 4\n"
                               "# languages: a b\n"
                               "# tokens: 4 4\n"
                               "# method: lape\n"
                               "# top: 0.75\n"
                               "# filter: 0.25, threshold 0\n"
                               "# bar: 0.75, threshold 0.5\n"
                               "layer\tneuron\tlape\tlanguages\tp_a\tp_b\n"
                               "0\t0\t0\ta\t1\t0\n"
                               "0\t2\t0\t-\t0.25\t0\n"
                               "0\t3\t0.562335145\ta\t0.75\t0.25\n";
    struct counts c = small_counts(1, 4, 1, label);
    struct find f = {.top = 0.75, .filter = 0.25, .bar = 0.75};
    struct neurons n;
    struct error e;
    char text[1000] = "";
    c.digest = 0xab;
    for (int k = 0; k < 2; k++) {
        c.language[k].tokens = 4;
        memcpy(c.language[k].of[POSITIVE], positive[k], sizeof positive[k]);
    }
    CHECK(find_neurons(&c, &f, &n, &e) == 0, "%s", e.text);
    FILE *file = fmemopen(text, sizeof text, "w");
    neurons_print(&n, &c, &f, file);
    fclose(file);
    CHECK(strcmp(text, want) == 0, "the list is:\n%s", text);
    neurons_free(&n);
    counts_free(&c);
}

/* A model without a name has neurons that are read again, too. */
static void test_nameless_model(const char *folder) {
    static const char *const label[] = {"a", "b", NULL};
    struct counts c = random_counts(2, 20, label);
    struct find f = {.top = 0.3, .filter = 0.5, .bar = 0.9};
    struct neurons n, back;
    struct error e;
    char path[256];
    *c.model = '\0';
    snprintf(path, sizeof path, "%s/nameless.tsv", folder);
    CHECK(find_neurons(&c, &f, &n, &e) == 0, "%s", e.text);
    FILE *file = fopen(path, "wb");
    neurons_print(&n, &c, &f, file);
    fclose(file);
    const bool good = neurons_open(&back, path, &e) == 0;
    CHECK(good && back.n == n.n && !*back.model, "neurons of no name: %s", good ? "" : e.text);
    remove(path);
    neurons_free(&n);
    neurons_free(&back);
    counts_free(&c);
}

/* A list whose header asks for more than a list's rows could pay for is refused there: a row has a
 * byte for each language, and each layer is a line of `lape info`. */
static void test_large_headers(const char *folder) {
    struct neurons n;
    struct error e;
    char path[256];
    snprintf(path, sizeof path, "%s/large.tsv", folder);
    for (int k = 0; k < 4; k++) { /* layers or languages; as many as may be, or one more */
        const int layers = k & 1 ? 1 << 16 : 1, languages = k & 1 ? 1 : 4096;
        FILE *file = fopen(path, "wb");
        fprintf(file, "# layers: %d\n# neurons: 1\n# languages:", layers + (k == 3));
        for (int i = 0; i < languages + (k == 2); i++) fprintf(file, " l%d", i);
        fprintf(file, "\nlayer\tneuron\tlape\tlanguages\n0\t0\t1\tl0\n");
        fclose(file);
        const bool opened = neurons_open(&n, path, &e) == 0;
        CHECK(opened == (k < 2), "%d layers, %d languages: %s", layers, languages,
              opened ? "are taken" : e.text);
        neurons_free(&n);
    }
    remove(path);
}

/* What a count may go on from: all statistics of the same languages, counted in the same way. */
static void test_resumable(void) {
    static const char *const label[] = {"a", "b", NULL}, *const other[] = {"a", "c", NULL};
    struct corpus corpus[2] = {{.label = "a"}, {.label = "b"}};
    struct work w = {.counts = random_counts(2, 3, label), .corpus = corpus, .corpora = 2};
    struct counts partial = random_counts(2, 3, label), another = random_counts(2, 3, other);
    CHECK(can_resume(&w, &partial), "what is saved is no good to go on from");
    CHECK(!can_resume(&w, &another), "another language");
    for (int s = 0; s < STATISTICS; s++) {
        int64_t *kept = partial.language[1].of[s];
        partial.language[1].of[s] = NULL;
        CHECK(!can_resume(&w, &partial), "without %s", statistic_name[s]);
        partial.language[1].of[s] = kept;
    }
    partial.near *= 2;
    CHECK(!can_resume(&w, &partial), "another tolerance");
    counts_free(&w.counts);
    counts_free(&partial);
    counts_free(&another);
}

/* ---- Ablation and steering ------------------------------------------------------------------- */

static void test_edits(void) {
    static const char *const label[] = {"a", "b", "c", NULL};
    struct counts c = random_counts(2, 8, label);
    char names[2][LABEL_SIZE] = {"a", "b"};
    struct neuron neuron[] = {{0, 1}, {0, 6}, {1, 0}, {1, 3}, {1, 7}};
    bool member[] = {true, false, false, true, true, true, false, false, false, true};
    struct neurons n = {"small", 0, 2, 8, 2, names, 5, neuron, member, NULL};
    const real before[16] = {1, -2, 3, 4, 5, 6, 7, 8, -1, -2, -3, -4, 5, 6, 7, -8};
    struct error e;
    for (int how = REPLACE; how <= DIFFMEAN; how++)
        for (int which = 1; which < 8; which++) { /* off only, on only, both; off to a mean */
            const bool mean_off = which & 4;
            if (which == 4) continue;
            struct steer s = {
                which & 1 ? 0 : -1, which & 2 ? 1 : -1, (enum how)how, 2.5, &c, mean_off};
            struct edits x;
            CHECK(edits_new(&x, &n, &s, &e) == 0, "%s", e.text);
            for (int layer = 0; layer < 2; layer++) {
                real a[16];
                memcpy(a, before, sizeof a);
                edit_neurons(&x, AT_GATE, layer, a, 2, 8);
                CHECK(!memcmp(a, before, sizeof a), "gates are left alone");
                edit_neurons(&x, AT_ACT, layer, a, 2, 8);
                for (int i = 0; i < 16; i++) {
                    double want = before[i];
                    for (int j = 0; j < 5; j++) {
                        if (neuron[j].layer != layer || neuron[j].index != i % 8) continue;
                        double mean[3];
                        for (int k = 0; k < 3; k++)
                            mean[k] = (double)c.language[k].of[SUM][layer * 8 + i % 8] / 1048576 /
                                      (double)c.language[k].tokens;
                        if (s.off == 0 && member[2 * j])
                            want = mean_off ? (mean[1] + mean[2]) / 2 : 0;
                        if (s.on < 0 || !member[2 * j + 1]) continue;
                        if (how == REPLACE) want = 2.5 * mean[1];
                        if (how == ADD_MEAN) want += 2.5 * mean[1];
                        if (how == SCALE) want *= 2.5;
                        if (how == DIFFMEAN) want += 2.5 * (mean[1] - (mean[0] + mean[2]) / 2);
                    }
                    CHECK(fabs(a[i] - want) < 1e-6, "how %d, which %d, place %d: %g, not %g", how,
                          which, i, (double)a[i], want);
                }
            }
            edits_free(&x);
        }
    struct edits x;
    struct steer s = {-1, 1, DIFFMEAN, 2.5, &c, false};
    struct counts alone = c; /* of b: there are no others to take from its mean */
    struct language b = c.language[1];
    alone.n = 1;
    alone.language = &b;
    s.counts = &alone;
    CHECK(edits_new(&x, &n, &s, &e) == 0, "%s", e.text);
    real a[8] = {1};
    edit_neurons(&x, AT_ACT, 1, a, 1, 8);
    const double own = (double)b.of[SUM][8] / 1048576 / (double)b.tokens;
    CHECK(fabs(a[0] - (1 + 2.5 * own)) < 1e-6, "%g, not 1 + 2.5 x %g", (double)a[0], own);
    edits_free(&x);
    s = (struct steer){-1, 1, REPLACE, 1, &c, false};
    n.layers = 1; /* what means cannot be taken from */
    CHECK(edits_new(&x, &n, &s, &e) < 0 && strstr(e.text, "2 x 8 neurons, the list of 1 x 8"),
          "means of another model");
    n.layers = 2;
    n.neurons = 9;
    CHECK(edits_new(&x, &n, &s, &e) < 0 && strstr(e.text, "the list of 2 x 9"),
          "means of another number of neurons");
    n.neurons = 8;
    strcpy(names[1], "d");
    CHECK(edits_new(&x, &n, &s, &e) < 0 && strstr(e.text, "lack language d"), "means of nobody");
    strcpy(names[1], "b");
    c.of = PRODUCT;
    CHECK(edits_new(&x, &n, &s, &e) < 0 && strstr(e.text, "no means of neurons"),
          "means of products");
    c.of = GATE;
    const uint64_t tokens = c.language[2].tokens;
    c.language[2].tokens = 0;
    CHECK(edits_new(&x, &n, &s, &e) < 0 && strstr(e.text, "no sums"), "means of no tokens");
    c.language[2].tokens = tokens;
    free(c.language[2].of[SUM]);
    c.language[2].of[SUM] = NULL;
    CHECK(edits_new(&x, &n, &s, &e) < 0, "means out of counts without sums");
    s = (struct steer){0, -1, REPLACE, 1, &c, true};
    CHECK(edits_new(&x, &n, &s, &e) < 0, "other languages' means out of counts without sums");
    counts_free(&c);
}

/* ---- Generation ------------------------------------------------------------------------------ */

/* What standard error gets, where it is a file. */
static const char *progress_text(struct progress *p, double tokens, double done) {
    static char text[256];
    FILE *file = tmpfile();
    const int kept = dup(STDERR_FILENO);
    text[0] = '\0';
    if (!file || kept < 0) return "no file";
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    progress_add(p, "xx", tokens, done);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    const size_t n = fread(text, 1, sizeof text - 1, file);
    text[n] = '\0';
    fclose(file);
    return text;
}

/* Where nobody looks on, a line every half minute; on a terminal at once, and with no end of line.
 */
static void test_progress(void) {
    const double t = now();
    struct progress p = {.start = t - 100, .shown = t - 29, .all = 10, .before = 6, .weight = 4};
    CHECK(!*progress_text(&p, 1000, .5), "a line after 29 seconds");
    CHECK(p.tokens == 1000, "%g tokens", p.tokens);
    p.shown = t - 31;
    const char *said = progress_text(&p, 3000, .5); /* four fifths, in 100 seconds */
    CHECK(!strcmp(said, "xx: 4000 tokens, 40 tokens/s, 80 %, 25 s left\n"), "'%s'", said);
    CHECK(!*progress_text(&p, 1000, .5), "a line at once");
    p.shown = t - 31;
    said = progress_text(&p, 0, -1);
    CHECK(!strcmp(said, "xx: 5000 tokens, 50 tokens/s\n"), "'%s'", said);
    p.shown = t - 1;
    p.terminal = true;
    said = progress_text(&p, 0, 1);
    CHECK(!strcmp(said, "\r\033[Kxx: 5000 tokens, 50 tokens/s, 100 %, 0 s left"), "'%s'", said);
    p.shown = t - 1;
    p.quiet = true;
    CHECK(!*progress_text(&p, 0, 1), "a line that is not wanted");
}

/* A row of the table when prompt and output have no text: nothing is counted from an address that
 * is not there, as -fsanitize=undefined sees. */
static void test_no_text(void) {
    struct continuation c = {.asked = text_span(""), .prompt = 1};
    char row[64] = "";
    FILE *file = fmemopen(row, sizeof row, "w");
    add_id(&c.ids, 7);
    add_id(&c.ids, 5);
    print_generation(&c, file);
    fclose(file);
    CHECK(strcmp(row, "\t\t5\n") == 0, "a row without text is '%s'", row);
    free(c.ids.at);
}

/* The rows of `lape ppl`: languages of the corpora first, as these come, then the list's others. */
static void test_rows(void) {
    char label[3][LABEL_SIZE] = {"a", "b", "c"};
    struct corpus corpus[] = {{.label = "c"}, {.label = "other"}, {.label = "b"}};
    struct work w = {.corpus = corpus, .neurons = {.languages = 3, .label = label}};
    static const int want[4][3] = {{0, 1, 2}, {2, 0, 1}, {2, 0, 1}, {2, 1, 0}}; /* by corpora */
    for (w.corpora = 0; w.corpora < 4; w.corpora++) {
        int row[3] = {-1, -1, -1};
        order_rows(&w, row);
        CHECK(memcmp(row, want[w.corpora], sizeof row) == 0, "%d corpora: rows %d, %d, %d",
              w.corpora, row[0], row[1], row[2]);
    }
}

/* How often each token is drawn: of probabilities 8, 4, 2, 1 and 1 of 16 the nucleus of 0.8 has the
 * first three; at a temperature of a half they are squared. */
static void test_draws(void) {
    static const double share[2][5] = {{4. / 7, 2. / 7, 1. / 7, 0, 0},
                                       {64. / 86, 16. / 86, 4. / 86, 1. / 86, 1. / 86}};
    const real logits[5] = {(real)log(1), (real)log(8), (real)log(2), (real)log(1), (real)log(4)};
    static const int place[5] = {3, 0, 2, 4, 1}; /* among the likeliest */
    static const struct checkpoint m = {.model.config.vocab = 5};
    struct token_weight weight[5];
    enum { DRAWS = 60000 };
    for (int i = 0; i < 2; i++) {
        const struct generation g = {
            .m = &m, .s = {.temperature = i ? 0.5 : 1, .top_p = i ? 1 : 0.8}, .weight = weight};
        uint64_t state = 1;
        int drawn[5] = {0};
        for (int j = 0; j < DRAWS; j++) drawn[place[draw(&g, &state, logits)]]++;
        for (int k = 0; k < 5; k++) {
            const double want = DRAWS * share[i][k], off = fabs(drawn[k] - want);
            CHECK(off <= 5 * sqrt(want), "token %d is drawn %d times, not about %.0f", k, drawn[k],
                  want);
        }
    }
}

int main(void) {
    struct error e;
    struct pool *p = pool_new(3, &e);
    char folder[] = "build/test-XXXXXX";
    if (!mkdtemp(folder)) {
        printf("FAIL: cannot make a folder in build/ (run the tests from the top folder)\n");
        return 1;
    }
    test_counting(p);
    test_counts_files(folder);
    test_labels(folder);
    test_many_layers(folder);
    test_overflow();
    test_merging();
    test_ranks();
    test_penalty();
    test_selection();
    test_one_language();
    test_common_pieces();
    test_parts();
    test_ties();
    test_permuted_ties();
    test_official();
    test_neuron_files(folder);
    test_list_text();
    test_nameless_model(folder);
    test_large_headers(folder);
    test_no_text();
    test_resumable();
    test_progress();
    test_draws();
    test_rows();
    test_edits();
    rmdir(folder);
    pool_free(p);
    return finish();
}
