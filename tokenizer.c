/* Text becomes token ids, and ids become text: SentencePiece's byte-pair encoding.
 *
 * A text starts as its characters. Of all neighbours that together are a piece of the vocabulary,
 * those with the highest score are joined, the leftmost of equals first, until no two neighbours
 * are a piece. A character that is no piece becomes its bytes.
 *
 * Two characters that stand next to each other inside no piece are never joined, so a text falls
 * apart between them into stretches, mostly words, that are encoded one by one.
 */
#define _POSIX_C_SOURCE 200809L
#include "lape.h"

#include <stdlib.h>
#include <string.h>

static const char SPACE[] = "\xe2\x96\x81"; /* U+2581, how a piece writes a space */
enum { SPACE_BYTES = 3 };

struct tokenizer {
    struct vocabulary v;
    int32_t *slot;     /* hash table of pieces that text can match: id or -1 */
    size_t slots;      /* a power of two */
    uint64_t *pair;    /* hash table of characters that stand side by side in a piece; 0 is free */
    size_t pairs;      /* a power of two */
    int32_t byte[256]; /* ids of the byte pieces; byte[0] is -1 when there are none */
    int32_t unknown;   /* -1 when there is none */
    bool user_start[256]; /* first bytes of user-defined pieces */
    size_t longest_user;
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

/* ---- The tables ------------------------------------------------------------------------------ */

static uint64_t hash_bytes(struct span s) {
    uint64_t h = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t i = 0; i < s.n; i++) h = (h ^ (uint8_t)s.at[i]) * 0x100000001b3;
    return h ^ h >> 32;
}

/* The slot of a piece: where it is, or where it would go. */
static size_t find_slot(const struct tokenizer *t, struct span s) {
    size_t i = hash_bytes(s) & (t->slots - 1);
    for (; t->slot[i] >= 0; i = (i + 1) & (t->slots - 1)) {
        struct span p = t->v.piece[t->slot[i]];
        if (p.n == s.n && memcmp(p.at, s.at, s.n) == 0) break;
    }
    return i;
}

/* The id of the piece that is exactly s, or -1. */
static int32_t find_piece(const struct tokenizer *t, struct span s) {
    return t->slot[find_slot(t, s)];
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
    struct span p = t->v.piece[id];
    size_t slot = find_slot(t, p);
    uint32_t code, last = 0;
    if (t->slot[slot] >= 0)
        return fail(e, "tokens %d and %d are the same piece", t->slot[slot], id);
    t->slot[slot] = id;
    if (p.n == 0) return fail(e, "token %d is an empty piece", id);
    for (size_t i = 0, n; i < p.n; i += n, last = code) {
        n = character((struct span){p.at + i, p.n - i}, &code);
        if (n == 0) return fail(e, "token %d is not UTF-8", id);
        if (i > 0) t->pair[find_pair(t, pair_of(last, code))] = pair_of(last, code);
    }
    if (t->v.kind[id] == PIECE_USER) {
        t->user_start[(uint8_t)p.at[0]] = true;
        t->longest_user = p.n > t->longest_user ? p.n : t->longest_user;
    }
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
    case PIECE_UNKNOWN: t->unknown = id; return 0;
    case PIECE_CONTROL:
    case PIECE_UNUSED: return 0;
    default: return fail(e, "token %d is of kind %d; 1 to 6 are known", id, t->v.kind[id]);
    }
}

static int fill_tables(struct tokenizer *t, struct error *e) {
    size_t bytes = 0, missing = 0;
    for (int32_t i = 0; i < t->v.n; i++) bytes += t->v.piece[i].n;
    for (t->slots = 64; t->slots < 2 * (size_t)t->v.n;) t->slots *= 2;
    for (t->pairs = 64; t->pairs < 2 * bytes;) t->pairs *= 2;
    t->slot = new_array(t->slots, sizeof *t->slot);
    t->pair = new_array(t->pairs, sizeof *t->pair);
    memset(t->slot, -1, t->slots * sizeof *t->slot);
    memset(t->byte, -1, sizeof t->byte);
    t->unknown = -1;
    for (int32_t i = 0; i < t->v.n; i++)
        if (add_piece(t, i, e)) return -1;
    for (int b = 0; b < 256; b++) missing += t->byte[b] < 0;
    if (missing > 0 && missing < 256)
        return fail(e, "%zu of the 256 byte tokens are missing", missing);
    if (missing > 0 && t->unknown < 0)
        return fail(e, "there are neither byte tokens nor an unknown token");
    return 0;
}

struct tokenizer *tokenizer_new(const struct vocabulary *v, struct error *e) {
    struct tokenizer *t = new_array(1, sizeof *t);
    t->v = *v;
    if (fill_tables(t, e) == 0) return t;
    tokenizer_free(t);
    return NULL;
}

void tokenizer_free(struct tokenizer *t) {
    if (!t) return;
    free(t->slot);
    free(t->pair);
    free(t);
}

/* ---- Encoding -------------------------------------------------------------------------------- */

/* A piece of the text in the making. Joined ones lie on the left symbol; the right one is empty. */
struct symbol {
    struct span text;
    int32_t left, right; /* neighbours, -1 at the ends */
};

/* Two neighbours that could be joined. It is out of date when they are not `bytes` long any more.
 */
struct candidate {
    float score;
    int32_t left, right;
    size_t bytes;
};

struct encoder {
    const struct tokenizer *t;
    struct buffer *ids;
    struct buffer symbols, heap; /* struct symbol, struct candidate: room used again and again */
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
    struct span both = {s[left].text.at, s[left].text.n + s[right].text.n};
    int32_t id = find_piece(c->t, both);
    if (id >= 0) heap_push(c, (struct candidate){c->t->v.score[id], left, right, both.n});
}

static void join(struct encoder *c, struct symbol *s, const struct candidate *best) {
    struct symbol *left = &s[best->left], *right = &s[best->right];
    if (!left->text.n || !right->text.n || left->text.n + right->text.n != best->bytes)
        return; /* out of date */
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
        bytes = character((struct span){text.at + i, text.n - i}, &code);
        struct symbol s = {{text.at + i, bytes}, n - 1, i + bytes < text.n ? n + 1 : -1};
        buffer_add(&c->symbols, &s, sizeof s);
    }
    struct symbol *s = c->symbols.at;
    for (int32_t i = 1; i < n; i++) consider(c, s, i - 1, i);
    while (c->heap.n) {
        struct candidate best = heap_pop(c);
        join(c, s, &best);
    }
    for (int32_t i = 0; i >= 0; i = s[i].right) emit_text(c, s[i].text);
}

/* Bytes of the longest user-defined piece at the start of the text, 0 if none is there. */
static size_t user_piece(const struct tokenizer *t, struct span text) {
    if (!t->user_start[(uint8_t)text.at[0]]) return 0;
    for (size_t n = text.n < t->longest_user ? text.n : t->longest_user; n > 0; n--) {
        int32_t id = find_piece(t, (struct span){text.at, n});
        if (id >= 0 && t->v.kind[id] == PIECE_USER) return n;
    }
    return 0;
}

/* Cuts the text where nothing can join, and encodes what lies between. */
static void encode_all(struct encoder *c, struct span text) {
    size_t start = 0, n;
    uint32_t code = 0, last = 0;
    for (size_t i = 0; i < text.n; i += n, last = code) {
        struct span rest = {text.at + i, text.n - i};
        size_t user = user_piece(c->t, rest);
        n = user ? user : character(rest, &code);
        if (!user && (i == start || can_join(c->t, last, code))) continue;
        encode_stretch(c, (struct span){text.at + start, i - start});
        if (user) emit_text(c, (struct span){rest.at, user});
        start = i + user;
    }
    encode_stretch(c, (struct span){text.at + start, text.n - start});
}

/* The text as pieces write it: spaces become U+2581, one more stands before all. */
static int prepare(const struct tokenizer *t, struct span text, struct buffer *to,
                   struct error *e) {
    uint32_t code;
    if (text.n > INT32_MAX / SPACE_BYTES)
        return fail(e, "%zu bytes are too long for one text, %d are not", text.n,
                    INT32_MAX / SPACE_BYTES);
    if (text.n && t->v.add_prefix) buffer_add(to, SPACE, SPACE_BYTES);
    for (size_t i = 0, n; i < text.n; i += n) {
        n = character((struct span){text.at + i, text.n - i}, &code);
        if (n == 0) return fail(e, "byte %zu (0x%02X) is not valid UTF-8", i, (uint8_t)text.at[i]);
        bool space = text.at[i] == ' ';
        buffer_add(to, space ? SPACE : text.at + i, space ? SPACE_BYTES : n);
    }
    return 0;
}

int encode(const struct tokenizer *t, struct span text, struct buffer *ids, struct error *e) {
    struct buffer prepared = {0};
    struct encoder c = {.t = t, .ids = ids};
    int bad = prepare(t, text, &prepared, e);
    if (!bad && prepared.n) encode_all(&c, (struct span){prepared.at, prepared.n});
    free(prepared.at);
    free(c.symbols.at);
    free(c.heap.at);
    return bad;
}

/* ---- Decoding -------------------------------------------------------------------------------- */

static void add_spaced(struct buffer *text, struct span piece) {
    for (size_t i = 0, n; i < piece.n; i += n) {
        bool space = piece.n - i >= SPACE_BYTES && !memcmp(piece.at + i, SPACE, SPACE_BYTES);
        n = space ? SPACE_BYTES : 1;
        buffer_add(text, space ? " " : piece.at + i, 1);
    }
}

int decode(const struct tokenizer *t, const int32_t *ids, size_t n, struct buffer *text,
           struct error *e) {
    bool at_start = t->v.add_prefix;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->v.n)
            return fail(e, "token id %d is outside the vocabulary of %d", ids[i], t->v.n);
        struct span piece = t->v.piece[ids[i]];
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
            if (at_start && piece.n >= SPACE_BYTES && !memcmp(piece.at, SPACE, SPACE_BYTES))
                piece = (struct span){piece.at + SPACE_BYTES, piece.n - SPACE_BYTES};
            add_spaced(text, piece);
        }
        at_start = false;
    }
    return 0;
}
