/* Targets: texts through every kind of tokenizer, and vocabularies that the input makes. */
#ifndef TOKENIZERS_H
#define TOKENIZERS_H

enum { PRES = 7, BY_SCORES = PRES, WITHOUT_BYTES, BY_MERGES, KINDS };
static const char *const pre_name[PRES] = {"gpt-2", "llama-bpe", "bloom",    "qwen2",
                                           "phi-2", "tekken",    "command-r"};

/* A vocabulary with room to grow. */
enum { MOST_PIECES = 512, MOST_MERGES = 128 };
struct words {
    int kind; /* a pre, or one of SentencePiece's */
    struct vocabulary v;
    struct span piece[MOST_PIECES], merge[MOST_MERGES];
    float score[MOST_PIECES];
    int32_t id[MOST_PIECES], type[MOST_PIECES];
    bool normalised[MOST_PIECES];
    bool exact; /* what is encoded comes back */
    char bytes[256][8];
};

static void add_word(struct words *w, struct span piece, double score, int type) {
    if (w->v.n == MOST_PIECES) return;
    w->piece[w->v.n] = piece;
    w->score[w->v.n] = (float)score;
    w->type[w->v.n++] = type;
}

static void add_merge(struct words *w, const char *text) {
    w->merge[w->v.merges++] = text_span(text);
    w->v.merge = w->merge;
}

static void add_id_of(struct words *w, int32_t id, bool normalised) {
    if (w->v.n_added == MOST_PIECES) return;
    w->id[w->v.n_added] = id;
    w->normalised[w->v.n_added++] = normalised;
}

/* The character that GPT-2 writes for a byte. */
static void write_byte(char *to, int byte) {
    int others = 0;
    for (int b = 0; b < byte; b++) others += !((b > 32 && b < 127) || (b > 160 && b != 173));
    const bool itself = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    const int code = itself ? byte : 256 + others;
    snprintf(to, 8, code < 128 ? "%c" : "%c%c", code < 128 ? code : 0xc0 | code >> 6,
             0x80 | (code & 0x3f));
}

static bool of_bytes(const struct words *w) { return w->kind < PRES; }

/* What every kind begins with. */
static void begin_words(struct words *w, int kind) {
    *w = (struct words){.kind = kind, .exact = true};
    w->v.piece = w->piece;
    w->v.score = w->score;
    w->v.kind = w->type;
    w->v.added = w->id;
    w->v.normalised = w->normalised;
    if (of_bytes(w)) {
        w->v.pre = text_span(pre_name[kind]);
        w->v.merge = w->merge;
    }
    for (int b = 0; b < 256 && kind != WITHOUT_BYTES; b++) {
        of_bytes(w) ? write_byte(w->bytes[b], b)
                    : (void)snprintf(w->bytes[b], 8, "<0x%02X>", (unsigned)b);
        add_word(w, text_span(w->bytes[b]), 0, of_bytes(w) ? PIECE_NORMAL : PIECE_BYTE);
    }
    if (of_bytes(w)) return;
    add_word(w, text_span("<unk>"), 0, PIECE_UNKNOWN);
    add_word(w, text_span("\u2581"), -1, PIECE_NORMAL);
    w->v.add_prefix = true;
    w->exact = kind != WITHOUT_BYTES;
}

/* A few pieces that join. */
static void fill_words(struct words *w) {
    static const char *const bytes[] = {"ab",           "abc", "\u0120a",     "\u0120ab",
                                        "\u0120\u0120", "11",  "\u00c3\u00a9"};
    static const char *const marked[] = {"a",       "b",        "ab",           "c",     "abc",
                                         "\u2581a", "\u2581ab", "\u2581\u2581", "\u00e9"};
    if (of_bytes(w)) {
        for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++)
            add_word(w, text_span(bytes[i]), 0, PIECE_NORMAL);
        add_merge(w, "a b");
        add_merge(w, "ab c");
        add_merge(w, "\u0120 a");
        add_merge(w, "\u0120a b");
        add_merge(w, "\u0120 \u0120");
        add_merge(w, "1 1");
        add_merge(w, "\u00c3 \u00a9");
        return;
    }
    for (size_t i = 0; i < sizeof marked / sizeof *marked; i++)
        add_word(w, text_span(marked[i]), -2.0 - (double)(i % 3), PIECE_NORMAL);
    if (w->kind != BY_MERGES) return;
    add_merge(w, "a b");
    add_merge(w, "ab c");
    add_merge(w, "\u2581 a");
    add_merge(w, "\u2581 ab");
    add_merge(w, "\u2581 \u2581");
}

/* Words that were added, of both kinds; and one that is user-defined and not added. */
static void fill_added(struct words *w) {
    static const char *const word[] = {"<x>", "<xb>", "a\u0301x", "bab", "[\u00e9]"};
    for (int i = 0; i < 5; i++) {
        add_id_of(w, w->v.n, i % 2);
        add_word(w, text_span(word[i]), 0, PIECE_USER);
    }
    add_word(w, text_span("<user>"), 0, PIECE_USER);
}

/* ---- What is promised ------------------------------------------------------------------------ */

/* Pseudo-random, of the input. */
static unsigned next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*state >> 33);
}

static void encode_parts(const struct tokenizer *t, struct span text, uint64_t seed,
                         const struct buffer *whole) {
    struct encoder *c = encoder_new(t);
    struct buffer ids = {0};
    struct error e;
    const unsigned most = 1u << next_random(&seed) % 8;
    size_t start = 0, end = 0, used;
    for (bool last = false; !last; start += used) {
        end += next_random(&seed) % (most + 1);
        last = end >= text.n;
        if (last) end = text.n;
        /* a block of their own: what lies around a part must not matter */
        const struct span part = copy_of((struct span){text.at + start, end - start});
        EXPECT(!encode_part(c, part, last, &ids, &used, &e), "a part: %s", e.text);
        EXPECT(used <= part.n && (!last || used == part.n), "%zu bytes used of %zu", used, part.n);
        free((void *)part.at);
    }
    EXPECT(ids.n == whole->n && (!ids.n || !memcmp(ids.at, whole->at, ids.n)),
           "parts have other ids than the whole");
    encoder_free(c);
    free(ids.at);
}

/* With spaces for U+2581, which are one to SentencePiece, and without what may stand before. */
static struct span plain(struct span s) {
    struct buffer b = {0};
    for (size_t i = 0; i < s.n; i++) {
        const bool mark = s.n - i >= 3 && !memcmp(s.at + i, "\u2581", 3);
        buffer_add(&b, mark ? " " : s.at + i, 1);
        i += mark ? 2 : 0;
    }
    return (struct span){b.n ? b.at : "", b.n};
}

static bool is_ascii(struct span s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.at[i] & 0x80) return false;
    return true;
}

/* Of the kinds that promise it: ids are the text again. Where it is brought into normal form C, at
 * least of what is in ASCII. */
static void check_text(const struct words *w, struct span text, struct span back) {
    const bool composed = w->kind == 3 || w->kind == 6;
    if (!w->exact || (composed && !is_ascii(text))) return;
    struct span a = text, b = back;
    if (!of_bytes(w)) {
        a = plain(text);
        b = plain(back);
        if (w->kind == BY_MERGES && a.n == b.n + 1 && *a.at == ' ') take_front(&a, 1);
    }
    EXPECT(a.n == b.n && !memcmp(a.at, b.at, a.n), "the text does not come back from its ids");
}

static void check_words(const struct tokenizer *t, struct span text) {
    for (size_t i = 0, end; i < text.n; i = end) {
        end = word_end(t, text, i);
        EXPECT(end > i && end <= text.n, "a word from byte %zu to %zu of %zu", i, end, text.n);
    }
}

static void check_encoding(const struct words *w, const struct tokenizer *t, struct span text,
                           uint64_t seed) {
    struct buffer ids = {0}, back = {0};
    struct error e;
    const struct span own = copy_of(text); /* of its very size, and never NULL */
    if (encode(t, own, &ids, &e)) return;
    const size_t n = ids_in(&ids);
    for (size_t i = 0; i < n; i++) {
        const int32_t id = ((int32_t *)ids.at)[i];
        EXPECT(id >= 0 && id < w->v.n, "id %d of %d", id, w->v.n);
    }
    EXPECT(!decode(t, ids.at, n, &back, &e), "ids of a text: %s", e.text);
    check_text(w, own, (struct span){back.n ? back.at : "", back.n});
    encode_parts(t, own, seed, &ids);
    if (of_bytes(w)) check_words(t, own);
    free(ids.at);
    free(back.at);
    free((void *)own.at);
}

/* ---- Texts through small vocabularies -------------------------------------------------------- */

static struct known {
    struct words words;
    struct tokenizer *tokenizer;
} known[KINDS][2]; /* without and with words that were added */

static void make_tokenizers(void) {
    struct error e;
    for (int kind = 0; kind < KINDS; kind++)
        for (int added = 0; added < 2; added++) {
            struct known *k = &known[kind][added];
            begin_words(&k->words, kind);
            fill_words(&k->words);
            if (added) fill_added(&k->words);
            k->tokenizer = tokenizer_new(&k->words.v, &e);
            EXPECT(k->tokenizer, "kind %d: %s", kind, e.text);
        }
}

/* A byte for the kind, one for the cuts, then the text; as ids, too, of which any must do. */
static void try_encode(struct span input) {
    const unsigned kind = take_byte(&input), seed = take_byte(&input);
    const struct known *k = &known[kind / 2 % KINDS][kind % 2];
    struct buffer text = {0};
    struct error e;
    check_encoding(&k->words, k->tokenizer, input, seed);
    int32_t *ids = new_array(input.n, sizeof *ids);
    for (size_t i = 0; i < input.n; i++) ids[i] = (int8_t)input.at[i] * 3;
    (void)decode(k->tokenizer, ids, input.n, &text, &e);
}

/* ---- Vocabularies ---------------------------------------------------------------------------- */

static struct span take_letters(struct span *input) {
    return take_front(input, take_byte(input) % 12);
}

/* What would be refused as twice there is mostly left out, so that other things are tried. */
static void take_piece_of(struct words *w, struct span piece, double score, int type, bool twice) {
    for (int32_t i = 0; !twice && i < w->v.n; i++)
        if (w->piece[i].n == piece.n && !memcmp(w->piece[i].at, piece.at, piece.n)) return;
    add_word(w, piece, score, type);
}

/* A merge of two pieces that are there, and the piece that they make. */
static void take_merge(struct words *w, struct span *input, bool join) {
    const struct span a = w->piece[take_byte(input) * 2 % (unsigned)w->v.n],
                      b = w->piece[take_byte(input) % (unsigned)w->v.n];
    struct buffer merge = {0}, both = {0};
    if (w->v.merges == MOST_MERGES) return;
    buffer_add(&both, a.at, a.n);
    buffer_add(&both, b.at, b.n);
    buffer_add(&merge, a.at, a.n);
    buffer_add(&merge, " ", 1);
    buffer_add(&merge, b.at, b.n);
    w->merge[w->v.merges++] = (struct span){merge.at, merge.n};
    w->v.merge = w->merge;
    if (join && both.n) take_piece_of(w, (struct span){both.at, both.n}, 0, PIECE_NORMAL, false);
}

/* An added word that is there, and was not added before; or, if that may be wrong, any number. */
static void take_added(struct words *w, int32_t id, bool normalised, bool wrong) {
    bool good = id >= 0 && id < w->v.n && (w->type[id] == PIECE_USER || w->type[id] == 1);
    for (int32_t i = 0; i < w->v.n_added; i++) good &= w->id[i] != id;
    if (good || wrong) add_id_of(w, id, normalised);
}

/* One more piece, merge or added word: a byte says which. */
static void take_word(struct words *w, struct span *input, unsigned what) {
    const bool wrong = what >> 4 == 15, normalised = what & 8;
    switch (what % 8) {
    case 0: take_merge(w, input, true); break;
    case 1: take_merge(w, input, !wrong); break;
    case 2: take_piece_of(w, take_letters(input), 0, PIECE_USER, wrong); break;
    case 3: take_added(w, w->v.n - 1, normalised, wrong); break;
    case 4: take_added(w, (int32_t)take_byte(input) * 2 - 2, normalised, wrong); break;
    case 5: take_piece_of(w, take_letters(input), 0, (int)take_byte(input) % 8, wrong); break;
    default: take_piece_of(w, take_letters(input), (int8_t)take_byte(input), PIECE_NORMAL, wrong);
    }
    /* an added word of the alphabet reads otherwise than what it stands for */
    if (what % 8 >= 2 && what % 8 <= 5) w->exact = false;
}

/* The kind, settings, the seed of the cuts, how many words, the words; the rest is text. */
static void try_vocabulary(struct span input) {
    static struct words w;
    struct error e;
    static const int kinds[8] = {0,         1,         6,        BY_SCORES, WITHOUT_BYTES,
                                 BY_MERGES, BY_SCORES, BY_MERGES};
    /* the byte-level ones differ in how words are cut, of which try_encode() has all; their tables
     * are large, and slow to make */
    const int kind = kinds[take_byte(&input) % 8];
    const unsigned settings = take_byte(&input), seed = take_byte(&input);
    begin_words(&w, kind);
    if (settings & 1) w.v.n = 0; /* even the bytes are the input's */
    if (settings & 2) fill_words(&w);
    if (settings & 4) w.v.add_prefix = false;
    if (settings & 8) w.v.merge = w.merge;
    if (settings & 7 || kind >= PRES) w.exact = false;
    for (unsigned i = take_byte(&input) % 64; i > 0 && input.n; i--) {
        const unsigned what = take_byte(&input);
        if (w.v.n || what % 8 > 1) take_word(&w, &input, what);
    }
    struct tokenizer *t = tokenizer_new(&w.v, &e);
    if (!t) return;
    check_encoding(&w, t, input, seed);
    tokenizer_free(t);
}

#endif
