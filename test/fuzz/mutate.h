/* Mutations that keep a GGUF file one: where a string grows, what follows moves, and lengths,
 * counts and offsets say so. Plain mutations, which break them, are the other half.
 */
#ifndef MUTATE_H
#define MUTATE_H

size_t LLVMFuzzerMutate(uint8_t *at, size_t n, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *at, size_t n, size_t most, unsigned seed);

static void write_value(struct gguf_writer *w, const struct gguf_value *v) {
    put_number(w, v->key.n, 8);
    put_bytes(w, v->key.at, v->key.n);
    put_number(w, v->type, 4);
    if (v->type == GGUF_ARRAY) {
        put_number(w, v->item, 4);
        put_number(w, v->count, 8);
    }
    put_bytes(w, v->data.at, v->data.n);
}

/* Some bytes of a string or a number, changed, in room that is the caller's. */
static struct span changed(char room[256], struct span s, bool may_grow) {
    const size_t n = s.n < 200 ? s.n : 200;
    memcpy(room, s.at, n);
    return (struct span){room, LLVMFuzzerMutate((uint8_t *)room, n, may_grow ? n + 24 : n)};
}

static void change_value(struct gguf_value *v, uint64_t *state, struct buffer *room) {
    char text[256];
    const int of = (int)v->item;
    if (v->type == GGUF_ARRAY && of != GGUF_STRING) {
        const size_t size = v->count ? v->data.n / v->count : 1;
        const uint64_t n = next_random(state) % (v->count + 3); /* items, the first ones */
        for (uint64_t i = 0; i < n; i++)
            v->count ? buffer_add(room, v->data.at + i % v->count * size, size)
                     : buffer_add(room, "\0", 1);
        v->count = n;
    } else if (of == GGUF_STRING) { /* one of an array's, or the only one */
        struct span *s = gguf_strings(v);
        const uint64_t which = v->count ? next_random(state) % v->count : 0;
        for (uint64_t i = 0; i < v->count; i++) {
            const struct span to = i == which ? changed(text, s[i], true) : s[i];
            const uint64_t n = to.n; /* little-endian, as the machines are that fuzz */
            buffer_add(room, &n, 8);
            buffer_add(room, to.at, to.n);
        }
        free(s);
    } else {
        const struct span to = changed(text, v->data, false);
        buffer_add(room, to.at, v->data.n);
    }
    v->data = (struct span){room->at, room->n};
}

/* Another shape or type; its data as long as the file had them. */
static void change_tensor(struct tensor *t, uint64_t *state) {
    static const uint32_t type[] = {0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 27, 30};
    switch (next_random(state) % 4) {
    case 0: t->type = type[next_random(state) % 16]; break;
    case 1: t->dim[next_random(state) % 2] = next_random(state) % 64 + 1; break;
    case 2: t->dims = next_random(state) % 4 + 1; break;
    default: t->data.n -= t->data.n ? next_random(state) % t->data.n : 0;
    }
}

static void change_one(struct gguf *g, uint64_t *state, struct buffer *room) {
    const size_t i = g->values ? next_random(state) % g->values : 0;
    switch (next_random(state) % 8) {
    case 0:
        if (g->tensors) change_tensor(&g->tensor[next_random(state) % g->tensors], state);
        break;
    case 1:
        if (!g->tensors) break;
        g->tensors--;
        g->tensor[next_random(state) % (g->tensors + 1)] = g->tensor[g->tensors];
        break;
    case 2:
        if (g->values) g->value[i] = g->value[--g->values];
        break;
    default:
        if (g->values) change_value(&g->value[i], state, room);
    }
}

static void write_changed(const struct gguf *g) {
    struct gguf_writer w = {.to = begin_writing(), .alignment = g->alignment};
    put_header(&w, g->tensors, g->values);
    for (size_t i = 0; i < g->values; i++) write_value(&w, &g->value[i]);
    for (size_t i = 0; i < g->tensors; i++) put_tensor(&w, &g->tensor[i]);
    for (size_t i = 0; i < g->tensors; i++) {
        put_padding(&w);
        put_bytes(&w, g->tensor[i].data.at, g->tensor[i].data.n);
    }
    put_padding(&w);
}

/* The file ends near the type of a value, which may be another. */
static size_t cut(uint8_t *at, size_t n, const struct gguf *g, uint64_t *state) {
    const struct gguf_value *v = &g->value[next_random(state) % g->values];
    const size_t before = v->type == GGUF_ARRAY ? 12 : 4;
    const size_t place = (size_t)(v->data.at - (const char *)g->map) - before;
    if (next_random(state) % 2) at[place] = (uint8_t)(next_random(state) % 64);
    const size_t end = place + next_random(state) % 24;
    return end < n ? end : n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *at, size_t n, size_t most, unsigned seed) {
    uint64_t state = seed;
    struct buffer room = {0};
    struct gguf g;
    struct error e;
    if (next_random(&state) % 2 || n < 4 || memcmp(at, "GGUF", 4) != 0 ||
        gguf_open(&g, as_file("mutated.gguf", (struct span){(char *)at, n}), &e))
        return LLVMFuzzerMutate(at, n, most);
    if (g.values && next_random(&state) % 8 == 0) {
        n = cut(at, n, &g, &state);
    } else {
        change_one(&g, &state, &room);
        write_changed(&g);
        const struct span made = end_writing();
        n = made.n < most ? made.n : most;
        memcpy(at, made.at, n);
    }
    gguf_close(&g);
    free(room.at);
    return n;
}

#endif
