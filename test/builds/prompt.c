/* The logits of a prompt, however it is pushed through the model: they must be the same bits.
 *
 *     prompt MODEL IDS.bin alone|packed|steps > LOGITS
 *
 * alone: at once. packed: at once with other sequences around it. steps: token by token, from a
 * cache. IDS.bin holds 32-bit ids; LOGITS gets [tokens, vocabulary] numbers, little-endian.
 */
#include "lape.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PACKED = 4, PROMPT = 2 }; /* sequences, and the place of the prompt among them */

static void write_logits(const real *logits, size_t n) {
    for (size_t i = 0; i < n; i++) {
        real_bits bits;
        memcpy(&bits, &logits[i], sizeof bits);
        write_little(stdout, bits, sizeof bits);
    }
}

/* n tokens as sequences of `step` tokens that follow each other. */
static int in_steps(const struct model *m, struct pool *p, const int32_t *ids, int n, int step,
                    struct error *e) {
    const size_t V = m->config.vocab;
    struct run *r = run_new(m, p, (struct room){step, n, n, true}, e);
    real *out = new_array(V * step, sizeof *out);
    int bad = r ? 0 : -1;
    for (int t = 0; !bad && t < n; t += step) {
        bad = forward(r, &(struct sequence){ids + t, step, t, 0}, 1, NULL, e);
        if (!bad) logits(r, 0, step, out, NULL);
        if (!bad) write_logits(out, V * step);
    }
    free(out);
    run_free(r);
    return bad;
}

/* Among its own end, its beginning, and one token of it. */
static int packed(const struct model *m, struct pool *p, const int32_t *ids, int n,
                  struct error *e) {
    const size_t V = m->config.vocab;
    const struct sequence s[PACKED] = {{ids + n / 3, n - n / 3, 0, 0},
                                       {ids, n / 2, 0, n - n / 3},
                                       {ids, n, 0, n - n / 3 + n / 2},
                                       {ids + n - 1, 1, 0, n - n / 3 + n / 2 + n}};
    const int before = s[PROMPT].row, all = before + n + 1;
    struct run *r = run_new(m, p, (struct room){all, all, all, false}, e);
    real *out = new_array(V * n, sizeof *out);
    int bad = r ? forward(r, s, PACKED, NULL, e) : -1;
    if (!bad) logits(r, before, n, out, NULL);
    if (!bad) write_logits(out, V * n);
    free(out);
    run_free(r);
    return bad;
}

static int run_prompt(struct model *m, struct pool *p, char **word, struct error *e) {
    struct span file;
    if (map_file(word[1], &file, e)) return -1;
    const int n = (int)(file.n / 4);
    int32_t *ids = new_array(n, sizeof *ids);
    for (int t = 0; t < n; t++) ids[t] = (int32_t)get_u32(file.at + 4 * t);
    int bad = 0;
    if (n < 3)
        bad = fail(e, "%s: three ids at least are wanted", word[1]);
    else if (strcmp(word[2], "packed") == 0)
        bad = packed(m, p, ids, n, e);
    else
        bad = in_steps(m, p, ids, n, strcmp(word[2], "steps") == 0 ? 1 : n, e);
    free(ids);
    munmap((void *)file.at, file.n);
    return bad;
}

int main(int argc, char **argv) {
    struct error e = {"wanted: prompt MODEL IDS.bin alone|packed|steps"};
    struct model m = {0};
    struct pool *p = pool_new(2, &e);
    const int bad =
        argc == 4 && p && model_open(&m, argv[1], &e) == 0 ? run_prompt(&m, p, argv + 1, &e) : -1;
    model_close(&m);
    pool_free(p);
    if (bad) fprintf(stderr, "prompt: %s\n", e.text);
    return bad ? 1 : 0;
}
