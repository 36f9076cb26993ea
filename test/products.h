/* What matrix products alone work in, for tests that include model.c. */
#ifndef PRODUCTS_H
#define PRODUCTS_H

/* A run without a model, for products of up to so many rows of x and columns. */
static inline struct run products_new(struct pool *p, int rows, int columns) {
    struct run r = {.pool = p, .scratch = calloc(pool_threads(p), sizeof *r.scratch)};
    struct arena arena = {0};
    lay_out_products(&r, &arena, rows, columns);
    r.memory = arena.at = aligned_alloc(64, arena.used);
    if (!r.scratch || !r.memory) exit(1);
    arena.used = 0;
    lay_out_products(&r, &arena, rows, columns);
    return r;
}

static inline void products_free(struct run *r) {
    free(r->memory);
    free(r->scratch);
}

#endif
