/* The gates, the activations and the logits of one sequence of token ids, as raw numbers that
 * oracle.py compares with its own.
 *
 *     dump MODEL IDS.bin OUT_LOGITS OUT_GATES [THREADS]
 *
 * IDS.bin holds int32. OUT_LOGITS gets the logits [T, V]; OUT_GATES gets, layer by layer, the gates
 * [T, F] and then the activations [T, F]. All are float32; everything is little-endian.
 */
#define _POSIX_C_SOURCE 200809L
#include "lape.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void write_floats(FILE *to, const real *values, size_t n) {
    uint8_t bytes[4096];
    for (size_t i = 0, used = 0; i < n; i++) {
        const float value = (float)values[i];
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        for (int b = 0; b < 32; b += 8) bytes[used++] = (uint8_t)(bits >> b);
        if (used < sizeof bytes && i + 1 < n) continue;
        fwrite(bytes, 1, used, to);
        used = 0;
    }
}

static void write_neurons(void *to, enum point at, int layer, real *values, int rows, int columns) {
    (void)layer;
    if (at == AT_GATE || at == AT_ACT) write_floats(to, values, (size_t)rows * columns);
}

struct work {
    struct model m;
    struct span file; /* of ids */
    struct pool *pool;
    struct run *run;
    struct output out;
    int32_t *ids;
    real *logits;
};

/* path: MODEL, IDS.bin, OUT_LOGITS, OUT_GATES */
static int dump(struct work *w, char **path, int threads, struct error *e) {
    if (model_open(&w->m, path[0], e) || map_file(path[1], &w->file, e)) return -1;
    if (w->file.n % 4 || w->file.n > 1 << 24) return fail(e, "%s: not int32, or long", path[1]);
    const int n = (int)(w->file.n / 4), vocab = w->m.config.vocab;
    w->ids = new_array(n, sizeof *w->ids);
    for (int t = 0; t < n; t++) w->ids[t] = (int32_t)get_u32(w->file.at + 4 * t);
    if (!(w->pool = pool_new(threads, e)) || !(w->run = run_new(&w->m, w->pool, n, n, false, e)) ||
        output_open(&w->out, path[3], e))
        return -1;
    const struct hook hook = {write_neurons, w->out.file};
    if (forward(w->run, &(struct sequence){w->ids, n, 0, 0}, 1, &hook, e) ||
        output_finish(&w->out, e) || output_open(&w->out, path[2], e))
        return -1;
    w->logits = new_array((size_t)n * vocab, sizeof *w->logits);
    logits(w->run, 0, n, w->logits, NULL);
    write_floats(w->out.file, w->logits, (size_t)n * vocab);
    return output_finish(&w->out, e);
}

int main(int argc, char **argv) {
    struct work w = {0};
    struct error e = {"wanted: dump MODEL IDS.bin OUT_LOGITS OUT_GATES [THREADS, 1 to 1024]"};
    const int threads = argc == 6 ? atoi(argv[5]) : 1;
    const bool good = argc >= 5 && argc <= 6 && threads >= 1 && threads <= 1024;
    const int status = good ? dump(&w, argv + 1, threads, &e) : -1;
    output_discard(&w.out);
    if (w.file.at) munmap((void *)w.file.at, w.file.n);
    run_free(w.run);
    pool_free(w.pool);
    model_close(&w.m);
    free(w.ids);
    free(w.logits);
    if (status) fprintf(stderr, "dump: %s\n", e.text);
    return status ? 1 : 0;
}
