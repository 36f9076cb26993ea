/* Text becomes token ids, and ids become text: byte-pair encoding, SentencePiece's and GPT-2's.
 *
 * SentencePiece's: a text starts as its characters. Of all neighbours that together are a piece of
 * the vocabulary, those with the highest score are joined, the leftmost of equals first, until no
 * two neighbours are a piece. A character that is no piece becomes its bytes.
 *
 * Two characters that stand next to each other inside no piece are never joined, so a text falls
 * apart between them into stretches, mostly words, that are encoded one by one.
 *
 * GPT-2's: a regular expression cuts the text into words, a word starts as its bytes, and of all
 * neighbours that the list of merges names, those named first are joined, the leftmost of equals
 * first. A list of merges may stand for SentencePiece's scores, too.
 *
 * Before all of that, words that were added to a vocabulary are found in the text as they read.
 */
#include "lape.h"
#include "unicode.h"

#include <stdlib.h>
#include <string.h>

static const char SPACE[] = "\xe2\x96\x81"; /* U+2581, how a piece writes a space */
enum { SPACE_BYTES = 3 };

static bool begins_spaced(struct span s) {
    return s.n >= SPACE_BYTES && !memcmp(s.at, SPACE, SPACE_BYTES);
}

/* ---- Words -------------------------------------------------------------------------------------
 *
 * The families' regular expressions are one with few differences, which struct pre names. They
 * tell characters apart by class, and a set of classes is a mask.
 */
/* clang-format off */
enum class { /* those up to PAIRS are those of CLASSES in unicode.h */
    OTHER, UPPER, LOWER, TITLE, MODIFIER, LETTER, MARK, NUMBER, /* none, Lu Ll Lt Lm Lo, M, N */
    GAP,                    /* White_Space, but for the two that follow PAIRS */
    PAIRS,                  /* there only: UPPER and LOWER in turn */
    BLANK, LINE_END, SLASH, /* the space itself; CR and LF; the slash */
    STOP,                   /* ends a word of BLOOM's */
    END                     /* of the text; it and STOP are in no mask */
};
/* clang-format on */
enum { CODES = 0x110000 };
enum mask {
    LETTERS = 1 << UPPER | 1 << LOWER | 1 << TITLE | 1 << MODIFIER | 1 << LETTER,
    HEADS = 1 << UPPER | 1 << TITLE | 1 << MODIFIER | 1 << LETTER | 1 << MARK, /* of a word */
    TAILS = 1 << LOWER | 1 << MODIFIER | 1 << LETTER | 1 << MARK,
    NUMBERS = 1 << NUMBER,
    BLANKS = 1 << BLANK,
    LINE_ENDS = 1 << LINE_END,
    WHITE = 1 << GAP | BLANKS | LINE_ENDS,
    SIGNS = 1 << OTHER | 1 << MARK | 1 << SLASH, /* neither letter, number nor white */
    NOT_STOPS = LETTERS | NUMBERS | SIGNS
};

struct merge {
    int32_t left, right, result; /* ids */
    int32_t rank;                /* lower goes first */
};

struct pre {
    const char *name;
    enum { NO_SHORTS, LOWER_SHORTS, ANY_SHORTS } shorts; /* 's 't 're 've 'm 'll 'd are words */
    int before_letters; /* what one character of may stand before letters ... */
    int before_numbers; /* ... and before numbers */
    size_t numbers;     /* at most in a word */
    int after_signs;    /* what follows signs in their word */
    bool lines;         /* white space up to the last line end in it is a word */
    bool cased;         /* a capital after a small letter starts a word; marks are letters */
    bool numbers_first; /* white space before a number ends as at the end of the text */
    bool stops;         /* BLOOM's, by STOP alone */
    bool composed;      /* text is brought into normal form C first */
    bool whole;         /* a word that is a piece is that piece, whatever the merges say */
    bool bos;           /* what llama.cpp takes for an absent add_bos_token */
};

static const struct pre *find_pre(struct span name) {
    enum { ANY = SIGNS | 1 << GAP | BLANKS, SLASHED = LINE_ENDS | 1 << SLASH, MANY = INT32_MAX };
    /* clang-format off */
    static const struct pre known[] = {
        {.name = "gpt-2", .shorts = LOWER_SHORTS, .before_letters = BLANKS,
         .before_numbers = BLANKS, .numbers = MANY},
        {.name = "phi-2", .shorts = LOWER_SHORTS, .before_letters = BLANKS,
         .before_numbers = BLANKS, .numbers = MANY},
        {.name = "command-r", .shorts = LOWER_SHORTS, .before_letters = BLANKS, .numbers = 1,
         .numbers_first = true, .composed = true},
        {.name = "llama-bpe", .shorts = ANY_SHORTS, .before_letters = ANY, .numbers = 3,
         .after_signs = LINE_ENDS, .lines = true, .whole = true, .bos = true},
        {.name = "qwen2", .shorts = ANY_SHORTS, .before_letters = ANY, .numbers = 1,
         .after_signs = LINE_ENDS, .lines = true, .composed = true},
        {.name = "tekken", .before_letters = ANY, .numbers = 1, .after_signs = SLASHED,
         .lines = true, .cased = true, .whole = true, .bos = true},
        {.name = "bloom", .stops = true}};
    /* clang-format on */
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (span_is(name, known[i].name)) return &known[i];
    return NULL;
}

int default_bos(struct span pre) {
    const struct pre *p = find_pre(pre);
    return p ? p->bos : -1;
}

/* The class of every code point, as the tokenizer's family sees it. */
static uint8_t *new_classes(const struct pre *pre) {
    static const uint16_t stop[] = {'(',    '|',    '.',    ',',    '!',   '?',   ')',
                                    0x2026, 0x3002, 0xff0c, 0x3001, 0x964, 0x6d4, 0x60c};
    const size_t runs = sizeof CLASSES / sizeof *CLASSES;
    uint8_t *of = new_array(CODES, 1);
    for (size_t i = 0; i < runs; i++) {
        uint32_t first = CLASSES[i] >> 4, end = i + 1 < runs ? CLASSES[i + 1] >> 4 : CODES;
        int class = CLASSES[i] & 15;
        for (uint32_t c = first; c < end; c++)
            of[c] = (uint8_t)(class == PAIRS ? ((c - first) % 2 ? LOWER : UPPER) : class);
    }
    of[' '] = BLANK;
    of['\r'] = of['\n'] = LINE_END;
    of['/'] = SLASH;
    for (size_t i = 0; pre->stops && i < sizeof stop / sizeof *stop; i++) of[stop[i]] = STOP;
    return of;
}

/* Texts by their hash: which of text[] stands in a slot, -1 in free ones. */
struct table {
    int32_t *slot;
    size_t slots; /* a power of two */
    const struct span *text;
};

/* Words that are found in a text, the longest of those that start at a place. */
struct finder {
    struct table table;
    struct buffer text; /* struct span, each with bytes of its own */
    struct buffer id;   /* int32_t, likewise */
    bool start[256];    /* their first bytes */
    size_t longest;
};
enum { RAW, NORMALISED, MARKED, FINDERS }; /* in which form of the text; MARKED: SentencePiece's */

struct tokenizer {
    struct vocabulary v;
    struct table table; /* of pieces that text can match, by id */
    uint64_t *pair;     /* hash table of characters that stand side by side in a piece; 0 is free */
    size_t pairs;       /* a power of two */
    int32_t byte[256];  /* ids of the byte pieces; byte[0] is -1 when there are none */
    int32_t unknown;    /* -1 when there is none */
    struct finder finder[FINDERS];
    bool *added;         /* [n] whether v.added has the id */
    struct span *raw;    /* [n] what the pieces look like in a text at hand; v.piece is this */
    struct buffer bytes; /* what they are made of */
    struct merge *merge; /* hash table by left and right; result -1 is free */
    size_t merges;       /* a power of two; 0: there are scores instead */
    bool byte_level;     /* GPT-2's, with all that follows */
    struct pre pre;
    int32_t *kind;       /* [n] likewise v.kind: UNUSED where no text can match */
    uint8_t *class;      /* [CODES] enum class of a code point */
    struct forms *forms; /* for normal form C; NULL: text stays as it is */
};

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

size_t character(struct span s, uint32_t *code) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; /* overlong below it */
    const uint8_t *b = (const uint8_t *)s.at;
    size_t n = b[0] < 0x80 ? 1 : b[0] >> 5 == 6 ? 2 : b[0] >> 4 == 14 ? 3 : b[0] >> 3 == 30 ? 4 : 0;
    if (n == 0 || n > s.n) return 0;
    uint32_t c = n == 1 ? b[0] : b[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (b[i] >> 6 != 2) return 0;
        c = c << 6 | (b[i] & 0x3f);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 0;
    *code = c;
    return n;
}

size_t whole_characters(struct span text) {
    for (size_t back = 1; back <= 3 && back <= text.n; back++) {
        uint8_t b = (uint8_t)text.at[text.n - back];
        if (b >> 6 == 2)
            continue; /* in the middle of a character: look further back for its start */
        size_t needs = b >> 5 == 6 ? 2 : b >> 4 == 14 ? 3 : b >> 3 == 30 ? 4 : 1;
        return needs > back ? text.n - back : text.n;
    }
    return text.n;
}

/* The first byte of a text that is not UTF-8, text.n when all is. */
static size_t not_utf8(struct span text) {
    uint32_t code;
    size_t n;
    for (size_t i = 0; i < text.n; i += n)
        if ((n = character((struct span){text.at + i, text.n - i}, &code)) == 0) return i;
    return text.n;
}

/* Appends a text with U+2581 for its spaces. */
static void add_spaces(struct span text, struct buffer *to) {
    for (size_t i = 0; i < text.n; i++)
        if (text.at[i] == ' ')
            buffer_add(to, SPACE, SPACE_BYTES);
        else
            buffer_add(to, text.at + i, 1);
}

static void put_character(struct buffer *to, uint32_t c) {
    const uint8_t tail = 0x80 | (c & 0x3f), middle = 0x80 | (c >> 6 & 0x3f);
    if (c < 0x80)
        buffer_add(to, &(uint8_t){(uint8_t)c}, 1);
    else if (c < 0x800)
        buffer_add(to, (uint8_t[]){(uint8_t)(0xc0 | c >> 6), tail}, 2);
    else if (c < 0x10000)
        buffer_add(to, (uint8_t[]){(uint8_t)(0xe0 | c >> 12), middle, tail}, 3);
    else
        buffer_add(
            to, (uint8_t[]){(uint8_t)(0xf0 | c >> 18), 0x80 | (c >> 12 & 0x3f), middle, tail}, 4);
}

/* ---- Normal form C -----------------------------------------------------------------------------
 *
 * As Unicode Standard Annex 15 defines it: characters come apart into a base and its marks, marks
 * go by their combining classes, and what has a character of its own is put together again. A text
 * falls apart before every base that stays a base whatever stands before it, mostly into single
 * characters, which stay as they are.
 */
struct forms {
    uint8_t of[CODES];     /* the combining class, 1 to 240, or one of these: */
    uint16_t parts[CODES]; /* 1 + where it comes apart, in COMPOSED and DECOMPOSED; 0: nowhere */
};
enum { STAYS = 0, CHANGES = 255 /* by itself, or after others, though of class 0 */ };
enum {
    FIRST_L = 0x1100, /* Hangul: leading consonants, vowels, trailing consonants, syllables */
    FIRST_V = 0x1161,
    FIRST_T = 0x11a7, /* stands for none */
    FIRST_LV = 0xac00,
    LS = 19,
    VS = 21,
    TS = 28,
    PAIRED = sizeof COMPOSED / sizeof *COMPOSED,
    ALL_PARTS = PAIRED + sizeof DECOMPOSED / sizeof *DECOMPOSED
};

static const uint32_t *parts_at(size_t i) {
    return i < PAIRED ? COMPOSED[i] : DECOMPOSED[i - PAIRED];
}

static struct forms *new_forms(void) {
    struct forms *f = new_array(1, sizeof *f);
    const size_t runs = sizeof COMBINING / sizeof *COMBINING;
    for (size_t i = 0; i + 1 < runs; i++) /* the last run is of class 0 */
        memset(f->of + (COMBINING[i] >> 8), COMBINING[i] & 255,
               (COMBINING[i + 1] >> 8) - (COMBINING[i] >> 8));
    memset(f->of + FIRST_V, CHANGES, VS);
    memset(f->of + FIRST_T + 1, CHANGES, TS - 1);
    for (size_t i = 0; i < ALL_PARTS; i++) {
        const uint32_t *p = parts_at(i), changes = i < PAIRED ? p[2] : p[0];
        if (f->of[changes] == STAYS) f->of[changes] = CHANGES;
        f->parts[p[0]] = (uint16_t)(i + 1);
    }
    return f;
}

struct letter {
    uint32_t code;
    int class; /* combining class */
    size_t at; /* where it stood */
};

static void take_apart(const struct forms *f, uint32_t code, struct buffer *letters) {
    if (f->parts[code]) {
        const uint32_t *p = parts_at(f->parts[code] - 1u);
        take_apart(f, p[1], letters);
        if (p[2]) take_apart(f, p[2], letters);
        return;
    }
    int class = f->of[code] == CHANGES ? 0 : f->of[code];
    buffer_add(letters, &(struct letter){code, class, letters->n}, sizeof(struct letter));
}

static int by_class(const void *a, const void *b) {
    const struct letter *x = a, *y = b;
    return x->class != y->class ? (x->class > y->class) - (x->class < y->class)
                                : (x->at > y->at) - (x->at < y->at);
}

static int by_parts(const void *a, const void *b) {
    const uint32_t *x = a, *y = b;
    return x[1] != y[1] ? (x[1] > y[1]) - (x[1] < y[1]) : (x[2] > y[2]) - (x[2] < y[2]);
}

/* The character of two, or 0. */
static uint32_t put_together(uint32_t a, uint32_t b) {
    if (a >= FIRST_L && a < FIRST_L + LS && b >= FIRST_V && b < FIRST_V + VS)
        return FIRST_LV + ((a - FIRST_L) * VS + (b - FIRST_V)) * TS;
    if (a >= FIRST_LV && a < FIRST_LV + LS * VS * TS && (a - FIRST_LV) % TS == 0 && b > FIRST_T &&
        b < FIRST_T + TS)
        return a + (b - FIRST_T);
    const uint32_t *made =
        bsearch((uint32_t[]){0, a, b}, COMPOSED, PAIRED, sizeof *COMPOSED, by_parts);
    return made ? *made : 0;
}

/* Sorts the marks after each base, and puts together what can be; how many letters are left. A mark
 * reaches the base past others of lower class only. */
static size_t compose(struct letter *s, size_t n) {
    size_t out = 0;
    struct letter *base = NULL;
    int last = -1; /* class of the last one after the base */
    for (size_t i = 0, end; i < n; i = end + 1) {
        for (end = i; end < n && s[end].class;) end++;
        qsort(s + i, end - i, sizeof *s, by_class);
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t made = base && last < s[i].class ? put_together(base->code, s[i].code) : 0;
        if (made) {
            base->code = made;
            continue;
        }
        if (s[i].class == 0) base = s + out;
        last = s[i].class ? s[i].class : -1;
        s[out++] = s[i];
    }
    return out;
}

/* Appends a text, which is UTF-8, in normal form C. */
static void normalise(const struct forms *f, struct span text, struct buffer *to) {
    struct buffer letters = {0};
    uint32_t code, next;
    for (size_t i = 0, end, n; i < text.n; i = end) {
        end = i + character((struct span){text.at + i, text.n - i}, &code);
        const bool stays = f->of[code] == STAYS;
        const size_t one = end;
        letters.n = 0;
        for (; end < text.n; end += n, code = next) {
            n = character((struct span){text.at + end, text.n - end}, &next);
            if (f->of[next] == STAYS) break;
            take_apart(f, code, &letters);
        }
        if (stays && end == one) {
            buffer_add(to, text.at + i, end - i);
            continue;
        }
        take_apart(f, code, &letters);
        struct letter *s = letters.at;
        const size_t left = compose(s, letters.n / sizeof *s);
        for (size_t k = 0; k < left; k++) put_character(to, s[k].code);
    }
    free(letters.at);
}

/* ---- The tables ------------------------------------------------------------------------------ */

static uint64_t hash_of(struct span s) { return hash_on(HASH, s.at, s.n); }

static void table_new(struct table *t, size_t texts, const struct span *text) {
    for (t->slots = 64; t->slots < 2 * texts;) t->slots *= 2;
    t->slot = new_array(t->slots, sizeof *t->slot);
    memset(t->slot, -1, t->slots * sizeof *t->slot);
    t->text = text;
}

/* The slot of a text of that hash: where it is, or where it would go. */
static int32_t *find_slot(const struct table *t, uint64_t hash, struct span s) {
    size_t i = (hash ^ hash >> 32) & (t->slots - 1);
    for (; t->slot[i] >= 0; i = (i + 1) & (t->slots - 1)) {
        const struct span p = t->text[t->slot[i]];
        if (p.n == s.n && memcmp(p.at, s.at, s.n) == 0) break;
    }
    return &t->slot[i];
}

/* The id of the piece that is exactly s, or -1. */
static int32_t find_piece(const struct tokenizer *t, struct span s) {
    return *find_slot(&t->table, hash_of(s), s);
}

static void finder_add(struct finder *f, int32_t id, struct span text) {
    const struct span own = {memcpy(new_array(text.n, 1), text.at, text.n), text.n};
    buffer_add(&f->text, &own, sizeof own);
    buffer_add(&f->id, &id, sizeof id);
    f->start[(uint8_t)text.at[0]] = true;
    if (text.n > f->longest) f->longest = text.n;
}

enum { MOST_WORD = 1 << 12 }; /* bytes, since so many are looked at wherever one may start */

static int finder_close(struct finder *f, struct error *e) {
    const struct span *text = f->text.at;
    const int32_t *id = f->id.at, n = (int32_t)(f->id.n / sizeof *id);
    table_new(&f->table, (size_t)n, text);
    for (int32_t i = 0; i < n; i++) {
        int32_t *slot = find_slot(&f->table, hash_of(text[i]), text[i]);
        if (text[i].n > MOST_WORD)
            return fail(e, "token %d is a word of %zu bytes, more than %d", id[i], text[i].n,
                        MOST_WORD);
        if (*slot >= 0) return fail(e, "tokens %d and %d are the same word", id[*slot], id[i]);
        *slot = i;
    }
    return 0;
}

static void finder_free(struct finder *f) {
    struct span *text = f->text.at;
    for (size_t i = 0; i < f->text.n / sizeof *text; i++) free((void *)text[i].at);
    free(f->table.slot);
    free(f->text.at);
    free(f->id.at);
}

/* Bytes of the longest word at the start of the text, which is not empty; 0 if none is there. */
static size_t find_word(const struct finder *f, struct span text, int32_t *id) {
    uint64_t hash = HASH;
    size_t longest = 0;
    if (!f->start[(uint8_t)text.at[0]]) return 0;
    for (size_t n = 1; n <= text.n && n <= f->longest; n++) {
        hash = hash_on(hash, text.at + n - 1, 1);
        const int32_t found = *find_slot(&f->table, hash, (struct span){text.at, n});
        if (found < 0) continue;
        *id = ((const int32_t *)f->id.at)[found];
        longest = n;
    }
    return longest;
}

static size_t find_pair(const struct tokenizer *t, uint64_t pair) {
    size_t i = (pair * 0x9e3779b97f4a7c15 >> 20) & (t->pairs - 1);
    while (t->pair[i] && t->pair[i] != pair) i = (i + 1) & (t->pairs - 1);
    return i;
}

static uint64_t pair_of(uint32_t left, uint32_t right) {
    return ((uint64_t)left << 21 | right) + 1;
}

static bool can_join(const struct tokenizer *t, uint32_t left, uint32_t right) {
    return t->pair[find_pair(t, pair_of(left, right))] != 0;
}

static int add_text_piece(struct tokenizer *t, int32_t id, struct error *e) {
    const struct span p = t->v.piece[id];
    const bool user = t->v.kind[id] == PIECE_USER;
    uint32_t code, last = 0;
    if (p.n == 0) return fail(e, "token %d is an empty piece", id);
    for (size_t i = 0, n; !t->byte_level && i < p.n; i += n, last = code) {
        n = character((struct span){p.at + i, p.n - i}, &code);
        if (n == 0) return fail(e, "token %d is not UTF-8", id);
        if (i > 0) t->pair[find_pair(t, pair_of(last, code))] = pair_of(last, code);
    }
    if (user && !t->added[id]) finder_add(&t->finder[t->byte_level ? RAW : MARKED], id, p);
    if (user && (t->added[id] || t->byte_level)) return 0; /* the model itself has no such piece */
    int32_t *slot = find_slot(&t->table, hash_of(p), p);
    if (*slot >= 0) return fail(e, "tokens %d and %d are the same piece", *slot, id);
    *slot = id;
    return 0;
}

static int add_byte_piece(struct tokenizer *t, int32_t id, struct error *e) {
    static const char digit[] = "0123456789ABCDEF";
    struct span p = t->v.piece[id];
    const char *high, *low;
    if (p.n != 6 || memcmp(p.at, "<0x", 3) != 0 || p.at[5] != '>' ||
        !(high = memchr(digit, p.at[3], 16)) || !(low = memchr(digit, p.at[4], 16)))
        return fail(e, "token %d is a byte, but not written <0x00> to <0xFF>", id);
    int32_t *byte = &t->byte[(high - digit) * 16 + (low - digit)];
    if (*byte >= 0) return fail(e, "tokens %d and %d are the same byte", *byte, id);
    *byte = id;
    return 0;
}

static int add_piece(struct tokenizer *t, int32_t id, struct error *e) {
    switch (t->v.kind[id]) {
    case PIECE_NORMAL:
    case PIECE_USER: return add_text_piece(t, id, e);
    case PIECE_BYTE: return add_byte_piece(t, id, e);
    case PIECE_UNKNOWN:
        if (t->unknown >= 0) return fail(e, "tokens %d and %d are both unknown", t->unknown, id);
        t->unknown = id;
        return 0;
    case PIECE_CONTROL:
    case PIECE_UNUSED: return 0;
    default: return fail(e, "token %d is of kind %d; 1 to 6 are known", id, t->v.kind[id]);
    }
}

/* The pieces that text can match, by what they read, and the words that were added: those are
 * found by what the vocabulary has for them, in normal form where the text will be. */
static int add_pieces(struct tokenizer *t, const struct vocabulary *v, struct error *e) {
    struct buffer normal = {0};
    table_new(&t->table, (size_t)v->n, t->v.piece);
    t->unknown = -1;
    for (int32_t i = 0; i < v->n; i++)
        if (add_piece(t, i, e)) return -1;
    for (int32_t i = 0; i < v->n_added; i++) {
        const int32_t id = v->added[i];
        struct span word = v->piece[id];
        normal.n = 0;
        if (v->normalised[i] && t->forms) {
            normalise(t->forms, word, &normal);
            word = (struct span){normal.at, normal.n};
        }
        finder_add(&t->finder[v->normalised[i] ? NORMALISED : RAW], id, word);
    }
    free(normal.at);
    for (int i = 0; i < FINDERS; i++)
        if (finder_close(&t->finder[i], e)) return -1;
    return 0;
}

/* The byte that a character of GPT-2's alphabet stands for, -1 when it is not of it: printable ones
 * of Latin-1 are themselves, the others follow from U+0100 on in their order. */
static int byte_of(uint32_t code) {
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; b++) {
        bool itself = (b > 32 && b < 127) || (b > 160 && b != 173);
        if (code == (itself ? b : next)) return (int)b;
        next += !itself;
    }
    return -1;
}

/* Appends what a piece stands for. 1 when the piece is not of the alphabet: then nothing is. */
static int add_raw(const int16_t *alphabet, struct span piece, struct buffer *to) {
    const size_t start = to->n;
    uint32_t code;
    for (size_t i = 0, n; i < piece.n; i += n) {
        n = character((struct span){piece.at + i, piece.n - i}, &code);
        if (n == 0 || code >= 512 || alphabet[code] < 0) {
            to->n = start;
            return 1;
        }
        buffer_add(to, &(uint8_t){(uint8_t)alphabet[code]}, 1);
    }
    return 0;
}

/* Appends a piece as a text at hand has it. GPT-2's are in bytes, and a normal one that is not of
 * the alphabet can never be matched. Of SentencePiece's, user-defined ones may have spaces, as
 * llama.cpp's converter writes them. */
static int add_raw_piece(struct tokenizer *t, int32_t id, const int16_t *alphabet,
                         struct error *e) {
    const struct span piece = t->v.piece[id];
    int32_t *kind = &t->kind[id];
    if (alphabet && not_utf8(piece) < piece.n) return fail(e, "token %d is not UTF-8", id);
    if (alphabet && *kind == PIECE_BYTE)
        return fail(e, "token %d is of kind 6, which GPT-2's are not", id);
    if (!alphabet && *kind == PIECE_USER) {
        add_spaces(piece, &t->bytes);
    } else if (!alphabet || *kind != PIECE_NORMAL || add_raw(alphabet, piece, &t->bytes)) {
        if (alphabet && *kind == PIECE_NORMAL) *kind = PIECE_UNUSED;
        buffer_add(&t->bytes, piece.at, piece.n);
    }
    return 0;
}

/* Without an alphabet pieces are SentencePiece's. */
static int fill_raw(struct tokenizer *t, const int16_t *alphabet, struct error *e) {
    const int32_t n = t->v.n;
    t->kind = memcpy(new_array((size_t)n + 1, sizeof *t->kind), t->v.kind, n * sizeof *t->kind);
    t->raw = new_array((size_t)n + 1, sizeof *t->raw);
    for (int32_t i = 0; i < n; i++) {
        const size_t start = t->bytes.n;
        if (add_raw_piece(t, i, alphabet, e)) return -1;
        t->raw[i].n = t->bytes.n - start;
    }
    const char *at = t->bytes.n ? t->bytes.at : ""; /* no address to count from without bytes */
    for (int32_t i = 0; i < n; at += t->raw[i++].n) t->raw[i].at = at;
    t->v.piece = t->raw;
    t->v.kind = t->kind;
    return 0;
}

static struct merge *find_merge(const struct tokenizer *t, int32_t left, int32_t right) {
    uint64_t both = (uint64_t)left << 32 | (uint32_t)right;
    size_t i = ((both * 0x9e3779b97f4a7c15) >> 20) & (t->merges - 1);
    while (t->merge[i].result >= 0 && (t->merge[i].left != left || t->merge[i].right != right))
        i = (i + 1) & (t->merges - 1);
    return &t->merge[i];
}

/* A merge is two pieces with a space between, and is a piece itself. */
static int add_merge(struct tokenizer *t, const int16_t *alphabet, int32_t rank, struct error *e) {
    const struct span s = t->v.merge[rank];
    const char *space = s.n ? memchr(s.at + 1, ' ', s.n - 1) : NULL;
    struct buffer both = {0};
    if (!space) return fail(e, "merge %d is not two pieces with a space between", rank);
    const struct span part[] = {{s.at, (size_t)(space - s.at)},
                                {space + 1, (size_t)(s.at + s.n - space - 1)}};
    size_t n[2] = {0};
    int bad = 0;
    for (int i = 0; i < 2; i++) {
        if (alphabet)
            bad |= add_raw(alphabet, part[i], &both);
        else
            buffer_add(&both, part[i].at, part[i].n);
        n[i] = both.n;
    }
    const char *at = both.at;
    if (bad || n[0] == n[1]) { /* the first has a byte before the space */
        free(both.at);
        return fail(e, "merge %d is not two pieces with a space between", rank);
    }
    int32_t left = find_piece(t, (struct span){at, n[0]});
    int32_t right = find_piece(t, (struct span){at + n[0], n[1] - n[0]});
    int32_t result = find_piece(t, (struct span){at, n[1]});
    free(both.at);
    if (left < 0 || right < 0 || result < 0)
        return fail(e, "merge %d has a part or a result that is no token", rank);
    struct merge *m = find_merge(t, left, right);
    if (m->result >= 0) return fail(e, "merges %d and %d are the same", m->rank, rank);
    *m = (struct merge){left, right, result, rank};
    return 0;
}

/* The alphabet is GPT-2's, which its merges are written in; NULL: they are written as they read. */
static int fill_merges(struct tokenizer *t, const int16_t *alphabet, struct error *e) {
    if (!t->v.merge) return 0;
    for (t->merges = 64; t->merges < 2 * (size_t)t->v.merges;) t->merges *= 2;
    t->merge = new_array(t->merges, sizeof *t->merge);
    for (size_t i = 0; i < t->merges; i++) t->merge[i].result = -1;
    for (int32_t i = 0; i < t->v.merges; i++)
        if (add_merge(t, alphabet, i, e)) return -1;
    return 0;
}

/* The tables of SentencePiece's. */
static int fill_tables(struct tokenizer *t, const struct vocabulary *v, struct error *e) {
    size_t bytes = 0, missing = 0;
    if (fill_raw(t, NULL, e)) return -1;
    for (int32_t i = 0; i < t->v.n; i++) bytes += t->v.piece[i].n;
    for (t->pairs = 64; t->pairs < 2 * bytes;) t->pairs *= 2;
    t->pair = new_array(t->pairs, sizeof *t->pair);
    memset(t->byte, -1, sizeof t->byte);
    if (add_pieces(t, v, e)) return -1;
    for (int b = 0; b < 256; b++) missing += t->byte[b] < 0;
    if (missing > 0 && missing < 256)
        return fail(e, "%zu of the 256 byte tokens are missing", missing);
    if (missing > 0 && t->unknown < 0)
        return fail(e, "there are neither byte tokens nor an unknown token");
    return fill_merges(t, NULL, e);
}

/* The tables of GPT-2's. */
static int fill_byte_level(struct tokenizer *t, const struct vocabulary *v, struct error *e) {
    int16_t alphabet[512];
    for (uint32_t c = 0; c < 512; c++) alphabet[c] = (int16_t)byte_of(c);
    t->class = new_classes(&t->pre);
    if (t->pre.composed) t->forms = new_forms();
    if (fill_raw(t, alphabet, e) || add_pieces(t, v, e)) return -1;
    for (int b = 0; b < 256; b++) {
        t->byte[b] = find_piece(t, (struct span){&(const char){(char)b}, 1});
        if (t->byte[b] < 0) return fail(e, "the byte 0x%02X has no token", (unsigned)b);
    }
    return fill_merges(t, alphabet, e);
}

/* Marks the ids of words that were added. */
static int mark_added(struct tokenizer *t, const struct vocabulary *v, struct error *e) {
    t->added = new_array((size_t)v->n + 1, sizeof *t->added);
    for (int32_t i = 0; i < v->n_added; i++) {
        const int32_t id = v->added[i];
        if (id < 0 || id >= v->n) return fail(e, "token %d is added, and outside %d", id, v->n);
        if (t->added[id]) return fail(e, "token %d is added twice", id);
        if (v->kind[id] != PIECE_USER && v->kind[id] != PIECE_NORMAL)
            return fail(e, "token %d is added, and of kind %d, not 1 or 4", id, v->kind[id]);
        t->added[id] = true;
    }
    return 0;
}

struct tokenizer *tokenizer_new(const struct vocabulary *v, struct error *e) {
    const struct pre *pre = find_pre(v->pre);
    if (v->pre.at && !pre) {
        fail(e,
             "pre-tokenizer '%.*s' is none of gpt-2, llama-bpe, bloom, qwen2, phi-2, tekken, "
             "command-r",
             brief(v->pre), v->pre.at);
        return NULL;
    }
    struct tokenizer *t = new_array(1, sizeof *t);
    t->v = *v;
    t->byte_level = pre != NULL;
    if (pre) t->pre = *pre;
    if (!mark_added(t, v, e) && !(pre ? fill_byte_level(t, v, e) : fill_tables(t, v, e))) return t;
    tokenizer_free(t);
    return NULL;
}

void tokenizer_free(struct tokenizer *t) {
    if (!t) return;
    for (int i = 0; i < FINDERS; i++) finder_free(&t->finder[i]);
    free(t->table.slot);
    free(t->added);
    free(t->pair);
    free(t->raw);
    free(t->kind);
    free(t->bytes.at);
    free(t->merge);
    free(t->class);
    free(t->forms);
    free(t);
}

/* ---- Encoding -------------------------------------------------------------------------------- */

/* A piece of the text in the making. Joined ones lie on the left symbol; the right one is empty. */
struct symbol {
    struct span text;
    int32_t left, right; /* neighbours, -1 at the ends */
    int32_t id;          /* which piece it is, -1 for none; where there are merges */
};

/* Two neighbours that could be joined. It is out of date when they are not `bytes` long any more.
 */
struct candidate {
    double score;
    int32_t left, right, id; /* id: which piece they are together */
    size_t bytes;
};

struct encoder {
    const struct tokenizer *t;
    struct buffer *ids;
    struct buffer symbols, heap; /* struct symbol, struct candidate: room used again and again */
    struct buffer written;       /* the part at hand as pieces write it, or in normal form C */
    size_t offset;               /* bytes of the text before the part at hand */
    bool begun;                  /* the prefix is encoded */
    bool after_unknown;
};

static void emit(struct encoder *c, int32_t id) {
    c->after_unknown = id == c->t->unknown;
    buffer_add(c->ids, &id, sizeof id);
}

/* A piece, or a character that is none: its bytes, or one unknown token for a run of them. */
static void emit_text(struct encoder *c, struct span text) {
    int32_t id = find_piece(c->t, text);
    if (id >= 0)
        emit(c, id);
    else if (c->t->byte[0] >= 0)
        for (size_t i = 0; i < text.n; i++) emit(c, c->t->byte[(uint8_t)text.at[i]]);
    else if (!c->after_unknown)
        emit(c, c->t->unknown);
}

static bool goes_first(const struct candidate *a, const struct candidate *b) {
    return a->score > b->score || (a->score == b->score && a->left < b->left);
}

static void heap_push(struct encoder *c, struct candidate new) {
    size_t i = c->heap.n / sizeof new;
    buffer_add(&c->heap, &new, sizeof new);
    struct candidate *heap = c->heap.at;
    for (; i > 0 && goes_first(&new, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = new;
}

static struct candidate heap_pop(struct encoder *c) {
    struct candidate *heap = c->heap.at;
    struct candidate top = heap[0];
    c->heap.n -= sizeof top;
    size_t n = c->heap.n / sizeof top, i = 0, child;
    struct candidate last = heap[n];
    for (; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && goes_first(&heap[child + 1], &heap[child]);
        if (!goes_first(&heap[child], &last)) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

/* Symbols lie side by side in the text, so two of them joined are one span. */
static void consider(struct encoder *c, const struct symbol *s, int32_t left, int32_t right) {
    if (left < 0 || right < 0) return;
    const struct span both = {s[left].text.at, s[left].text.n + s[right].text.n};
    struct candidate new = {0, left, right, -1, both.n};
    if (!c->t->merges) {
        new.id = find_piece(c->t, both);
        if (new.id >= 0) new.score = c->t->v.score[new.id];
    } else if (s[left].id >= 0 && s[right].id >= 0) {
        const struct merge *m = find_merge(c->t, s[left].id, s[right].id);
        new.id = m->result;
        new.score = -m->rank;
    }
    if (new.id >= 0) heap_push(c, new);
}

static void join(struct encoder *c, struct symbol *s, const struct candidate *best) {
    struct symbol *left = &s[best->left], *right = &s[best->right];
    if (!left->text.n || !right->text.n || left->text.n + right->text.n != best->bytes)
        return; /* out of date */
    left->id = best->id;
    left->text.n = best->bytes;
    right->text.n = 0;
    left->right = right->right;
    if (left->right >= 0) s[left->right].left = best->left;
    consider(c, s, left->left, best->left);
    consider(c, s, best->left, left->right);
}

/* A stretch of text, without user-defined pieces, in which every two neighbours may join. */
static void encode_stretch(struct encoder *c, struct span text) {
    uint32_t code;
    int32_t n = 0;
    if (text.n == 0) return;
    c->symbols.n = c->heap.n = 0;
    for (size_t i = 0, bytes; i < text.n; i += bytes, n++) {
        bytes = c->t->byte_level ? 1 : character((struct span){text.at + i, text.n - i}, &code);
        struct symbol s = {{text.at + i, bytes}, n - 1, i + bytes < text.n ? n + 1 : -1, -1};
        if (c->t->merges)
            s.id = c->t->byte_level ? c->t->byte[(uint8_t)text.at[i]] : find_piece(c->t, s.text);
        buffer_add(&c->symbols, &s, sizeof s);
    }
    struct symbol *s = c->symbols.at;
    for (int32_t i = 1; i < n; i++) consider(c, s, i - 1, i);
    while (c->heap.n) {
        struct candidate best = heap_pop(c);
        join(c, s, &best);
    }
    for (int32_t i = 0; i >= 0; i = s[i].right)
        if (c->t->byte_level)
            emit(c, s[i].id);
        else
            emit_text(c, s[i].text);
}

/* Whether byte i is so near the end of a part that a word, or the character there, may reach into
 * the next. */
static bool is_open(const struct finder *f, struct span text, size_t i, bool last) {
    return !last && i + (f->longest > 4 ? f->longest : 4) > text.n;
}

/* Cuts the text where nothing can join, and encodes what lies between. How many bytes: to the last
 * cut that is sure. */
static size_t encode_all(struct encoder *c, struct span text, bool last_part) {
    size_t start = 0, n;
    uint32_t code = 0, last = 0;
    int32_t id;
    for (size_t i = 0; i < text.n; i += n, last = code) {
        struct span rest = {text.at + i, text.n - i};
        if (is_open(&c->t->finder[MARKED], text, i, last_part)) return start;
        size_t user = find_word(&c->t->finder[MARKED], rest, &id);
        n = user ? user : character(rest, &code);
        if (!user && (i == start || can_join(c->t, last, code))) continue;
        encode_stretch(c, (struct span){text.at + start, i - start});
        if (user) emit(c, id);
        start = i + user;
    }
    encode_stretch(c, (struct span){text.at + start, text.n - start});
    return text.n;
}

/* The class of the character at byte i; *next is the byte after it. */
static int class_at(const struct tokenizer *t, struct span s, size_t i, size_t *next) {
    uint32_t code = 0;
    *next = i;
    if (i >= s.n) return END;
    *next = i + character((struct span){s.at + i, s.n - i}, &code);
    return t->class[code];
}

static bool is_in(int class, int mask) { return class != END && mask >> class & 1; }

/* The end of at most `most` characters of the mask from byte i on. */
static size_t run_end(const struct tokenizer *t, struct span s, size_t i, int mask, size_t most) {
    for (size_t next; most-- && is_in(class_at(t, s, i, &next), mask);) i = next;
    return i;
}

/* After one character of the mask, if one is there. */
static size_t skip(const struct tokenizer *t, struct span s, size_t i, int mask) {
    return run_end(t, s, i, mask, 1);
}

/* A shortened word at byte i: an apostrophe and what is left of "is", "have" and their like. The
 * long s, U+017F, is an s of another case. i when there is none. */
static size_t short_end(const struct tokenizer *t, struct span s, size_t i) {
    static const char *const ends[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    const bool any = t->pre.shorts == ANY_SHORTS;
    if (t->pre.shorts == NO_SHORTS || s.at[i] != '\'') return i;
    if (any && s.n - i > 2 && !memcmp(s.at + i + 1, "\xc5\xbf", 2)) return i + 3;
    for (size_t k = 0; k < sizeof ends / sizeof *ends; k++) {
        size_t n = 0;
        while (ends[k][n] && i + 1 + n < s.n) {
            char c = s.at[i + 1 + n];
            if (any && c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
            if (c != ends[k][n]) break;
            n++;
        }
        if (!ends[k][n]) return i + 1 + n;
    }
    return i;
}

/* HEADS* TAILS+ from byte i on, where the heads give back what the tails need; i when it is not
 * there. */
static size_t small_end(const struct tokenizer *t, struct span s, size_t i) {
    size_t tail = i, next; /* the end of the last head that is a tail, too */
    size_t end = i;
    for (int class; is_in(class = class_at(t, s, end, &next), HEADS); end = next)
        if (is_in(class, TAILS)) tail = next;
    size_t all = run_end(t, s, end, TAILS, SIZE_MAX);
    return all > end ? all : tail;
}

/* Letters from byte i on, perhaps after another character; i when there are none. */
static size_t letters_end(const struct tokenizer *t, struct span s, size_t i) {
    const size_t from[] = {skip(t, s, i, t->pre.before_letters), i};
    size_t end;
    for (int k = 0; t->pre.cased && k < 2; k++)
        if ((end = small_end(t, s, from[k])) > from[k]) return end;
    for (int k = 0; k < 2; k++)
        if ((end = run_end(t, s, from[k], t->pre.cased ? HEADS : LETTERS, SIZE_MAX)) > from[k])
            return end;
    return i;
}

/* White space from byte i on. The last of it is left to the word that follows. */
static size_t white_end(const struct tokenizer *t, struct span s, size_t i) {
    size_t next, end = i, last = i, line = i; /* before the last character; after a line end */
    int class;
    for (; is_in(class = class_at(t, s, end, &next), WHITE); end = next) {
        last = end;
        if (class == LINE_END) line = next;
    }
    if (t->pre.lines && line > i) return line;
    bool closed = class == END || (t->pre.numbers_first && class == NUMBER);
    return closed || last == i ? end : last;
}

/* BLOOM's: what is between stops and spaces, with one space before it; or what lies between. */
static size_t bloom_end(const struct tokenizer *t, struct span s, size_t i) {
    size_t from = skip(t, s, i, BLANKS), end = run_end(t, s, from, NOT_STOPS, SIZE_MAX), next;
    if (end > from) return end;
    for (int class; (class = class_at(t, s, i, &next)) != END && !is_in(class, NOT_STOPS); i = next)
        if (class == BLANK && is_in(class_at(t, s, next, &end), NOT_STOPS)) break;
    return i;
}

size_t word_end(const struct tokenizer *t, struct span s, size_t i) {
    const struct pre *p = &t->pre;
    size_t from, end;
    if (p->stops) return bloom_end(t, s, i);
    if ((end = short_end(t, s, i)) > i) return end;
    if ((end = letters_end(t, s, i)) > i) return end;
    from = skip(t, s, i, p->before_numbers);
    if ((end = run_end(t, s, from, NUMBERS, p->numbers)) > from) return end;
    from = skip(t, s, i, BLANKS);
    if ((end = run_end(t, s, from, SIGNS, SIZE_MAX)) > from)
        return run_end(t, s, end, p->after_signs, SIZE_MAX);
    return white_end(t, s, i);
}

/* Cuts the text into words, and encodes those of the first `most` bytes. */
static void encode_words(struct encoder *c, struct span text, size_t most) {
    if (c->t->forms) {
        c->written.n = 0;
        normalise(c->t->forms, (struct span){text.at, most}, &c->written);
        const size_t composed = c->written.n;
        buffer_add(&c->written, text.at + most, text.n - most);
        text = (struct span){c->written.at, c->written.n};
        most = composed;
    }
    for (size_t i = 0, end; i < most; i = end) {
        end = word_end(c->t, text, i);
        struct span word = {text.at + i, end - i};
        int32_t id = c->t->pre.whole ? find_piece(c->t, word) : -1;
        if (id >= 0)
            emit(c, id);
        else
            encode_stretch(c, word);
    }
}

/* Bytes of the character at byte i when a word surely starts there, whatever stands around it: a
 * letter or a number after a line feed. Else 0. */
static size_t line_start(const struct tokenizer *t, struct span s, size_t i) {
    uint32_t code;
    if (i == 0 || s.at[i - 1] != '\n') return 0;
    const size_t n = character((struct span){s.at + i, s.n - i}, &code);
    const bool stays = !t->forms || t->forms->of[code] == STAYS;
    return stays && is_in(t->class[code], LETTERS | NUMBERS) ? n : 0;
}

/* Encodes line by line. How many bytes: to the last cut that is sure. */
static size_t encode_lines(struct encoder *c, struct span text, bool last_part) {
    size_t start = 0;
    for (size_t i = 0, n; i < text.n; i++) {
        if ((n = line_start(c->t, text, i)) == 0) continue;
        /* what follows decides where white space before it ends */
        encode_words(c, (struct span){text.at + start, i - start + n}, i - start);
        start = i;
    }
    if (!last_part) return start;
    encode_words(c, (struct span){text.at + start, text.n - start}, text.n - start);
    return text.n;
}

/* Bytes of the text that `written` bytes were written for. */
static size_t bytes_written_for(struct span text, size_t written) {
    size_t i = 0;
    for (size_t n = 0; n < written; i++) n += text.at[i] == ' ' ? SPACE_BYTES : 1;
    return i;
}

/* A stretch between words that were added. How many bytes: to the last cut that is sure. */
static size_t encode_between(struct encoder *c, struct span text, bool last) {
    if (c->t->byte_level) return encode_lines(c, text, last);
    /* what merges by rank is split as tokenizers does it, with no space in front of another */
    const bool spaced = text.at[0] == ' ' || begins_spaced(text);
    const bool prefix = c->t->v.add_prefix && !c->begun && !(c->t->v.merge && spaced);
    const size_t more = prefix ? SPACE_BYTES : 0; /* bytes that are not of the text */
    c->written.n = 0;
    buffer_add(&c->written, SPACE, more);
    add_spaces(text, &c->written);
    const size_t n = encode_all(c, (struct span){c->written.at, c->written.n}, last);
    c->begun |= n > 0;
    return n > more ? bytes_written_for(text, n - more) : 0;
}

/* Takes out the words of one finder after the other, those of the text as it is first, as the
 * tokenizers library does. How many bytes: to the last cut that is sure. */
static size_t encode_around(struct encoder *c, int finder, struct span text, bool last) {
    const struct finder *f = &c->t->finder[finder];
    struct buffer normal = {0};
    const size_t bytes = text.n;
    size_t start = 0, n;
    int32_t id;
    if (text.n == 0) return 0; /* and there may be no address to count from */
    if (finder > NORMALISED) return encode_between(c, text, last);
    if (f->longest == 0) return encode_around(c, finder + 1, text, last);
    const bool composed = finder == NORMALISED && c->t->forms;
    if (composed && !last) return 0; /* cuts of the normal form are not known in the text */
    if (composed) {
        normalise(c->t->forms, text, &normal);
        text = (struct span){normal.at, normal.n};
    }
    for (size_t i = 0; i < text.n; i += n ? n : 1) {
        if (is_open(f, text, i, last)) { /* cut before a character, not inside it */
            text.n = whole_characters((struct span){text.at, i});
            break;
        }
        n = find_word(f, (struct span){text.at + i, text.n - i}, &id);
        if (n == 0) continue;
        encode_around(c, finder + 1, (struct span){text.at + start, i - start}, true);
        emit(c, id);
        c->begun = true;
        start = i + n;
    }
    start += encode_around(c, finder + 1, (struct span){text.at + start, text.n - start}, last);
    free(normal.at);
    return composed ? bytes : start;
}

struct encoder *encoder_new(const struct tokenizer *t) {
    struct encoder *c = new_array(1, sizeof *c);
    c->t = t;
    return c;
}

void encoder_free(struct encoder *c) {
    if (!c) return;
    free(c->symbols.at);
    free(c->heap.at);
    free(c->written.at);
    free(c);
}

int encode_part(struct encoder *c, struct span text, bool last, struct buffer *ids, size_t *used,
                struct error *e) {
    if (text.n > INT32_MAX / SPACE_BYTES)
        return fail(e, "%zu bytes are too long for one text, %d are not", text.n,
                    INT32_MAX / SPACE_BYTES);
    if (!last) text.n = whole_characters(text);
    const size_t bad = not_utf8(text);
    if (bad < text.n)
        return fail(e, "byte %zu (0x%02X) is not valid UTF-8", c->offset + bad,
                    (uint8_t)text.at[bad]);
    c->ids = ids;
    *used = 0;
    if (text.n == 0) return 0;
    *used = encode_around(c, RAW, text, last);
    c->offset += *used;
    return 0;
}

int encode(const struct tokenizer *t, struct span text, struct buffer *ids, struct error *e) {
    struct encoder *c = encoder_new(t);
    size_t used;
    const int bad = encode_part(c, text, true, ids, &used, e);
    encoder_free(c);
    return bad;
}

/* ---- Decoding -------------------------------------------------------------------------------- */

static void add_spaced(struct buffer *text, struct span piece) {
    for (size_t i = 0, n; i < piece.n; i += n) {
        bool space = begins_spaced((struct span){piece.at + i, piece.n - i});
        n = space ? SPACE_BYTES : 1;
        buffer_add(text, space ? " " : piece.at + i, 1);
    }
}

int decode(const struct tokenizer *t, const int32_t *ids, size_t n, struct buffer *text,
           struct error *e) {
    bool at_start = t->v.add_prefix && !t->byte_level;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->v.n)
            return fail(e, "token id %d is outside the vocabulary of %d", ids[i], t->v.n);
        struct span piece = t->v.piece[ids[i]];
        if (t->byte_level) { /* the bytes themselves */
            if (t->v.kind[ids[i]] != PIECE_CONTROL) buffer_add(text, piece.at, piece.n);
            continue;
        }
        switch (t->v.kind[ids[i]]) {
        case PIECE_CONTROL: continue;
        case PIECE_BYTE:
            for (int b = 0; b < 256; b++)
                if (t->byte[b] == ids[i]) buffer_add(text, &(uint8_t){(uint8_t)b}, 1);
            break;
        case PIECE_UNKNOWN:
            buffer_add(text, " \xe2\x81\x87 ", 5); /* U+2047, as sentencepiece has it */
            break;
        default:
            if (at_start && begins_spaced(piece))
                piece = (struct span){piece.at + SPACE_BYTES, piece.n - SPACE_BYTES};
            add_spaced(text, piece);
        }
        at_start = false;
    }
    return 0;
}
