/* What the C tests share: a check counts as passed or failed, and says why it failed. */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;

#define CHECK(good, ...)                                                                           \
    do {                                                                                           \
        if (good) {                                                                                \
            passed++;                                                                              \
        } else {                                                                                   \
            failed++;                                                                              \
            printf("FAIL %s:%d: ", __FILE__, __LINE__);                                            \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
            if (getenv("FIRST_FAILURE")) exit(finish()); /* is enough to know */                   \
        }                                                                                          \
    } while (0)

/* The larger one, and NaN for good once there is one: fmax() would pass it over. */
static inline double worse(double worst, double off) {
    return off > worst || isnan(off) ? off : worst;
}

static inline int finish(void) {
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

/* xorshift64* (Vigna, 2016): reproducible on every machine. */
static inline uint64_t test_random(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 2685821657736338717u;
}

/* In [0, 1). */
static inline double test_fraction(void) { return (double)(test_random() >> 11) * 0x1p-53; }

/* The lines of test/golden.tsv of one kind, field by field: what other libraries found. */
struct golden {
    FILE *file;
    char line[1 << 16];
    char *field[4096];
    int fields;
};

static inline struct golden *golden_open(const char *path) {
    struct golden *g = calloc(1, sizeof *g);
    g->file = fopen(path, "rb");
    if (!g->file) {
        printf("FAIL: cannot open %s (run the tests from the top folder)\n", path);
        exit(1);
    }
    return g;
}

/* The next line whose first field is `kind`. */
static inline int golden_next(struct golden *g, const char *kind) {
    while (fgets(g->line, sizeof g->line, g->file)) {
        g->line[strcspn(g->line, "\n")] = '\0';
        g->fields = 0;
        for (char *at = g->line; at && g->fields < 4096;) {
            char *tab = strchr(at, '\t');
            if (tab) *tab++ = '\0';
            g->field[g->fields++] = at;
            at = tab;
        }
        if (g->line[0] != '#' && strcmp(g->field[0], kind) == 0) return 1;
    }
    return 0;
}

static inline void golden_close(struct golden *g) {
    fclose(g->file);
    free(g);
}

#endif
