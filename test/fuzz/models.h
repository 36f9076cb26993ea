/* Targets: a GGUF file as a model, or a vocabulary; a model in two files. */
#ifndef MODELS_H
#define MODELS_H

static unsigned touched; /* of all that was read, so that reading is not left out */

static void touch(struct span s) {
    for (size_t i = 0; i < s.n; i++) touched += (unsigned char)s.at[i];
}

/* What every getter and span of a file that opened leads to. */
static void read_everything(const struct gguf *g) {
    for (size_t i = 0; i < g->values; i++) {
        const struct gguf_value *v = &g->value[i];
        touch(v->key);
        touch(v->data);
        if (v->type != GGUF_ARRAY) continue;
        if (v->item == GGUF_STRING) {
            struct span *s = gguf_strings(v);
            for (uint64_t k = 0; k < v->count; k++) touch(s[k]);
            free(s);
        } else if (v->item == GGUF_I32 || v->item == GGUF_F32 || v->item == GGUF_BOOL) {
            free(gguf_numbers(v));
        }
    }
    for (size_t i = 0; i < g->tensors; i++) touch(g->tensor[i].data);
    touched += (unsigned)gguf_digest(g);
}

/* Every row, and its end from the middle of a block on, which is the same numbers. */
static void widen_all(const struct matrix *m) {
    const int n = m->columns;
    real *all = new_array((size_t)n, sizeof *all), *end = new_array((size_t)n, sizeof *end);
    for (int r = 0; r < m->rows; r++) {
        const int from[] = {n - 1, (int)((unsigned)r * 37u % (unsigned)n)};
        widen(all, m, r, 0, n);
        for (int k = 0; k < 2; k++) {
            widen(end, m, r, from[k], n - from[k]);
            EXPECT(!memcmp(end, all + from[k], (size_t)(n - from[k]) * sizeof *all),
                   "row %d of type %u is otherwise from %d on", r, m->type, from[k]);
        }
    }
    free(all);
    free(end);
}

/* Three tokens, two of them as one sequence and the third after them. */
static void push_tokens(const struct model *m, struct pool *p) {
    const int V = m->config.vocab;
    const int32_t id[] = {0, V - 1, V / 2}, target[] = {V - 1, 0, -1};
    const struct sequence first = {id, 2, 0, 0}, then = {id + 2, 1, 2, 0};
    struct error e;
    struct run *r = run_new(m, p, (struct room){3, 3, 3, true}, &e);
    if (!r) return;
    real *out = new_array((size_t)V * 3, sizeof *out);
    double loss[3];
    if (!forward(r, &first, 1, NULL, &e)) {
        logits(r, 0, 2, out, NULL);
        (void)losses(r, 0, 2, target, out, loss, &e);
    }
    if (!forward(r, &then, 1, NULL, &e)) logits(r, 0, 1, out, NULL);
    free(out);
    run_free(r);
}

/* What has a neuron of each layer at 0 is a model, too. */
static void bake(const char *path) {
    const struct config *c = &work.m.model.config;
    struct error e;
    FILE *list = begin_writing();
    fprintf(list, "# layers: %d\n# neurons: %d\n# languages: en\nlayer\tneuron\tlape\tlanguages\n",
            c->layers, c->neurons);
    for (int l = 0; l < c->layers; l++) fprintf(list, "%d\t%d\t0\ten\n", l, l % c->neurons);
    options.neurons = as_file("zero.tsv", end_writing());
    options.word[0] = path;
    options.off = "en";
    options.any_model = true;
    work = (struct work){.output.file = begin_writing()};
    bake_command(&work, &options);
    struct model baked;
    const char *made = as_file("baked.gguf", end_writing());
    EXPECT(!model_open(&baked, made, &e), "what is baked does not open: %s", e.text);
    model_close(&baked);
}

/* What the model writes after a prompt, by its own tokenizer. */
static void continue_prompt(const char *path) {
    work = (struct work){.output.file = begin_writing()};
    options.prompt = "a ab\n\xe4\xb8\x80 1";
    options.word[0] = path;
    generate_command(&work, &options);
}

static void try_opened(const char *path) {
    struct gguf g;
    struct error e;
    if (gguf_open(&g, path, &e)) return;
    read_everything(&g);
    gguf_close(&g);
    options.word[0] = path;
    info_command(&work, &options); /* a model, or a vocabulary alone */
    const struct model *m = &work.m.model;
    const bool written = work.m.tokenizer != NULL;
    if (!m->layer) return;
    widen_all(&m->embedding);
    widen_all(&m->output);
    for (int l = 0; l < m->config.layers; l++) {
        const struct matrix down = down_projection(m, l);
        widen_all(&down);
    }
    push_tokens(m, work.m.pool);
    bake(path);
    if (written) continue_prompt(path);
}

static void try_model(struct span input) {
    begin_work();
    try_opened(as_file("model.gguf", input));
}

/* Two bytes say how long the first file is. */
static void try_split(struct span input) {
    begin_work();
    const size_t low = take_byte(&input), high = take_byte(&input);
    const struct span first = take_front(&input, low | high << 8);
    as_file("m-00002-of-00002.gguf", input);
    try_opened(as_file("m-00001-of-00002.gguf", first));
}

#endif
