/* Target: a text as every command reads it. */
#ifndef TEXTS_H
#define TEXTS_H

/* As a corpus of a model: the same ids as of the text at once. */
static void read_corpus(const char *path, struct span text, bool lines, uint64_t limit) {
    struct corpus c = {.path = path, .lines = lines};
    struct buffer ids = {0};
    struct error e;
    corpus_open(&c, &work.m, limit);
    const size_t n = take_all(&c, lines ? SIZE_MAX / 2 : 1);
    EXPECT(n <= limit, "%zu ids of %llu", n, (ull)limit);
    if (lines || limit < UINT64_MAX || encode(work.m.tokenizer, text, &ids, &e)) return;
    EXPECT(n == ids_in(&ids), "%zu ids are read of %zu", n, ids_in(&ids));
}

/* Prompts, one a line. */
static void read_prompts(struct span text) {
    struct generation *g = &work.generation;
    struct span prompt;
    *g = (struct generation){.m = &work.m, .s.tokens = 4, .file = "prompts"};
    for (size_t line = 1; next_part(&text, '\n', &prompt); line++)
        if (prompt.n) add_prompt(g, prompt, line);
    for (size_t i = 0; i < g->n; i++) {
        show_text(g, &g->of[i], true);
        print_generation(&g->of[i], stdout);
    }
}

/* A byte for the tokenizer, one for how the text is read. */
static void try_text(struct span input) {
    const unsigned kind = take_byte(&input), how = take_byte(&input);
    struct error e;
    begin_work();
    const struct known *k = &known[kind / 2 % KINDS][kind % 2];
    work.m.tokenizer = k->tokenizer;
    work.m.bos = -1;
    work.m.model.config.vocab = k->words.v.n;
    const char *path = as_file("text", input);
    const struct span text = copy_of(input);
    switch (how % 4) {
    case 0: read_corpus(path, text, false, how & 4 ? how : UINT64_MAX); break;
    case 1: read_corpus(path, text, true, how & 4 ? how : UINT64_MAX); break;
    case 2: read_prompts(text); break;
    case 3: (void)print_text(&work.m, text, &e); (void)print_ids(&work.m, text, false, &e);
    }
}

#endif
