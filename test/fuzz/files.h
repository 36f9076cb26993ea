/* Targets: counts, whole and partial; lists of neurons; files of token ids. */
#ifndef FILES_H
#define FILES_H

static struct work work; /* as the program has it, anew for each input */
static struct options options;

static void stdin_is_empty(void) {
    if (!freopen("/dev/null", "r", stdin)) found("no /dev/null");
}

/* What a function writes to a file, as a file of that name; its path. */
static FILE *written_to;
static char *written;
static size_t written_bytes;

static FILE *begin_writing(void) {
    if (written_to) fclose(written_to); /* the last input ended while it was written */
    free(written);
    written = NULL;
    written_to = open_memstream(&written, &written_bytes);
    EXPECT(written_to, "no memory to write to");
    return written_to;
}

static struct span end_writing(void) {
    fclose(written_to);
    written_to = NULL;
    return (struct span){written, written_bytes};
}

static struct span copy_of(struct span s) {
    return (struct span){memcpy(new_array(s.n, 1), s.at, s.n), s.n};
}

static void begin_work(void) {
    work = (struct work){0};
    options = (struct options){.top = .3,
                               .filter = .5,
                               .bar = .5,
                               .near = 1e-3,
                               .strength = 1,
                               .top_p = 1,
                               .repeat = 1,
                               .new_tokens = 3,
                               .at = -1,
                               .tokens = UINT64_MAX,
                               .layer = UINT64_MAX,
                               .threads = 1,
                               .length = 4,
                               .batch = 2,
                               .quiet = true};
}

/* ---- Counts ---------------------------------------------------------------------------------- */

/* What is written of counts is read again, and the same. */
static void write_again(void) {
    struct error e;
    counts_write(&work.counts, begin_writing());
    const struct span first = copy_of(end_writing());
    const char *path = as_file("again.gguf", first);
    EXPECT(!counts_open(&work.others, path, &e), "what is written is not read: %s", e.text);
    counts_write(&work.others, begin_writing());
    const struct span second = end_writing();
    EXPECT(second.n == first.n && !memcmp(first.at, second.at, first.n),
           "counts are not written as they were read");
}

/* A list of what is found is read again, whatever the method. */
static void find_all_ways(void) {
    for (int method = LAPE; method <= RANDOM; method++) {
        struct find f = {.method = (enum method)method, .top = .3, .filter = .5, .bar = .5};
        struct neurons n, again;
        struct error e;
        if (find_neurons(&work.counts, &f, &n, &e)) continue;
        neurons_print(&n, &work.counts, &f, begin_writing());
        const char *path = as_file("found.tsv", end_writing());
        EXPECT(!neurons_open(&again, path, &e), "a list that was found is not read: %s", e.text);
        EXPECT(again.n == n.n && again.languages == n.languages, "%zu of %zu neurons are read",
               again.n, n.n);
        f = (struct find){.method = RANDOM, .like = &again};
        EXPECT(!find_neurons(&work.counts, &f, &n, &e), "--like does not take it: %s", e.text);
    }
}

static void try_counts(struct span input) {
    struct error e;
    begin_work();
    const char *path = as_file("counts.gguf", input);
    if (counts_open(&work.counts, path, &e)) return;
    print_counts(&work.counts);
    write_again();
    find_all_ways();
    bool none = true;
    for (int k = 0; k < work.counts.n; k++) none &= work.counts.language[k].tokens == 0;
    const bool added = !counts_add(&work.counts, &work.others, false, &e);
    EXPECT(!added || none, "the same is counted twice");
    if (added || counts_open(&work.counts, path, &e)) return;
    counts_add(&work.counts, &work.others, true, &e);
    options.word[0] = options.word[1] = path;
    options.words = 2;
    diff_command(&work, &options); /* may end the program */
}

/* FILE.partial, with which `lape count --resume` goes on: any counts, of this model or not. */
static void try_partial(struct span input) {
    static const char ids[] = {0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 2, 0, 3, 0, 5, 0};
    struct feed *f = &work.feed;
    struct corpus corpus[] = {{.label = "en"}, {.label = "fr"}};
    begin_work();
    const char *partial = as_file("counts.partial", input);
    work.m.model.config = (struct config){.layers = 2, .neurons = 3, .vocab = 64, .context = 8};
    strcpy(work.m.model.config.name, "tiny");
    work.m.bos = -1;
    work.corpus = corpus;
    work.corpora = 2;
    options.resume = true;
    begin_counts(&work, &options, partial);
    *f = (struct feed){.m = &work.m, .length = 4, .room = 8, .tokens = new_array(8, 4)};
    for (int k = 0; k < 2; k++) {
        f->corpus = &corpus[k];
        f->part = WHOLE_TEXT;
        corpus[k].path = as_file(k ? "fr.bin" : "en.bin", (struct span){ids, sizeof ids});
        corpus_open(&corpus[k], &work.m, UINT64_MAX);
        pass_over(f, &work.counts.language[k], work.counts.vocab, partial);
    }
}

/* ---- Neurons --------------------------------------------------------------------------------- */

/* Counts of every language of a list, where they would not be large. */
static void make_means(const struct neurons *n) {
    struct counts *c = &work.counts;
    *c = (struct counts){.layers = n->layers, .neurons = n->neurons};
    for (int k = 0; k < n->languages && k < 4; k++) {
        struct language *l = insert_language(c, n->label[k]);
        l->tokens = 7;
        l->of[SUM] = new_statistic(c, SUM);
    }
}

static void try_neurons(struct span input) {
    struct neurons *n = &work.neurons;
    struct error e;
    begin_work();
    if (neurons_open(n, as_file("neurons.tsv", input), &e)) return;
    EXPECT(n->layers > 0 && n->neurons > 0 && n->languages > 0, "a list of no model");
    for (size_t i = 0; i < n->n; i++)
        EXPECT(n->neuron[i].layer < n->layers && n->neuron[i].index < n->neurons &&
                   n->neuron[i].layer >= 0 && n->neuron[i].index >= 0,
               "neuron %zu is outside the model", i);
    print_layers(n);
    struct steer s = {0, n->languages - 1, SCALE, 2, &work.counts, false};
    edits_new(&work.edits, n, &s, &e);
    if ((uint64_t)n->layers * (uint64_t)n->neurons > 4096) return;
    make_means(n);
    for (s.how = REPLACE; s.how <= DIFFMEAN; s.how++) {
        s.to_mean = s.how & 1;
        edits_new(&work.edits, n, &s, &e);
    }
}

/* ---- Token ids ------------------------------------------------------------------------------- */

/* All that a corpus holds, taken in pieces: how many ids. */
static size_t take_all(struct corpus *c, size_t length) {
    size_t n, all = 0;
    while (take_piece(c, length, &n)) all += n;
    return all;
}

static void try_ids_of(const char *path, int vocab, struct span input) {
    struct corpus c = {.path = path};
    begin_work();
    work.m.model.config.vocab = vocab;
    corpus_open(&c, &work.m, UINT64_MAX);
    corpus_fill(&c, 2);
    EXPECT(ids_in(&c.ids) <= input.n, "more ids than bytes");
    for (size_t i = 0; i < ids_in(&c.ids); i++) {
        const int32_t id = ((int32_t *)c.ids.at)[i];
        EXPECT(id >= 0 && id < vocab, "id %d of %d is let through", id, vocab);
    }
    take_all(&c, 2);
}

/* The first byte chooses: .npy, .bin of two bytes, .bin of four. */
static void try_ids(struct span input) {
    static const char *const name[] = {"ids.npy", "ids.bin", "ids.bin"};
    const unsigned kind = take_byte(&input) % 3;
    try_ids_of(as_file(name[kind], input), kind == 2 ? 1 << 20 : 300, input);
}

#endif
