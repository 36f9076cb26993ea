/* The tokenizer: a vocabulary small enough to do by hand, then the demo model's against the ids
 * that the sentencepiece library gives (test/golden.tsv).
 */
#define main lape_main
#include "../lape.c"
#undef main

#include "check.h"

static struct span text(const char *s) { return (struct span){s, strlen(s)}; }

/* ---- By hand --------------------------------------------------------------------------------- */

/* A vocabulary with 256 byte pieces after the given ones, which are text:score:kind. */
struct small {
    struct span piece[340];
    float score[340];
    int32_t kind[340];
    char byte[256][8];
    struct vocabulary v;
};

static void add_piece_to(struct small *s, const char *piece, double score, int kind) {
    s->piece[s->v.n] = text(piece);
    s->score[s->v.n] = (float)score;
    s->kind[s->v.n++] = kind;
}

static struct small *small_vocabulary(bool bytes) {
    struct small *s = calloc(1, sizeof *s);
    s->v = (struct vocabulary){
        .piece = s->piece, .score = s->score, .kind = s->kind, .add_prefix = true};
    add_piece_to(s, "<unk>", 0, PIECE_UNKNOWN);         /* 0 */
    add_piece_to(s, "<s>", 0, PIECE_CONTROL);           /* 1 */
    add_piece_to(s, "\xe2\x96\x81", -10, PIECE_NORMAL); /* 2: a space */
    add_piece_to(s, "a", -11, PIECE_NORMAL);            /* 3 */
    add_piece_to(s, "b", -12, PIECE_NORMAL);            /* 4 */
    add_piece_to(s, "ab", -2, PIECE_NORMAL);            /* 5 */
    add_piece_to(s, "ba", -1, PIECE_NORMAL);            /* 6: goes first */
    add_piece_to(s, "aa", -3, PIECE_NORMAL);            /* 7 */
    add_piece_to(s,
                 "\xe2\x96\x81"
                 "a",
                 -4, PIECE_NORMAL);                 /* 8 */
    add_piece_to(s, "aaaa", -5, PIECE_NORMAL);      /* 9 */
    add_piece_to(s, "[x]", 0, PIECE_USER);          /* 10 */
    add_piece_to(s, "\xc3\xa9", -13, PIECE_NORMAL); /* 11: e acute */
    for (int b = 0; bytes && b < 256; b++) {        /* 12 + b */
        snprintf(s->byte[b], sizeof s->byte[b], "<0x%02X>", (unsigned)b);
        add_piece_to(s, s->byte[b], 0, PIECE_BYTE);
    }
    return s;
}

/* The ids as "1 2 3". */
static const char *ids_of(const struct tokenizer *t, struct span s, struct error *e) {
    static char room[4096];
    struct buffer ids = {0};
    room[0] = '\0';
    if (encode(t, s, &ids, e))
        strcpy(room, "refused");
    else
        for (size_t i = 0; i < ids.n / 4; i++)
            sprintf(room + strlen(room), "%s%d", i ? " " : "", ((int32_t *)ids.at)[i]);
    free(ids.at);
    return room;
}

static void test_by_hand(void) {
    struct error e;
    struct small *s = small_vocabulary(true);
    struct tokenizer *t = tokenizer_new(&s->v, &e);
    static const struct {
        const char *text, *ids, *why;
    } row[] = {
        {"", "", "no text, no prefix"},
        {"a", "8", "the prefix joins"},
        {"b", "2 4", "the prefix stays alone"},
        {"bab", "2 6 4", "ba before ab: the higher score"},
        {"baba", "2 6 6", "both"},
        {"aaa", "2 7 3", "the leftmost of equals"},
        {"baaaa", "2 6 7 3", "ba first, then aa at the left"},
        {"a  a", "8 2 8", "every space is kept"},
        {"a[x]b", "8 10 4", "user-defined pieces come first"},
        {"a[x", "8 103 132", "half of one is bytes"},
        {"\xc3\xa9", "2 11", "a character of two bytes"},
        {"\xe4\xb8\xad", "2 240 196 185", "an unknown one falls apart into bytes"},
        {"<s>", "2 72 127 74", "control pieces are not read from text"},
        {"a\n", "8 22", "a line end is a byte"},
    };
    CHECK(t, "%s", e.text);
    for (size_t i = 0; t && i < sizeof row / sizeof *row; i++) {
        const char *got = ids_of(t, text(row[i].text), &e);
        CHECK(strcmp(got, row[i].ids) == 0, "'%s' gave %s, not %s (%s)", row[i].text, got,
              row[i].ids, row[i].why);
    }
    static const char *const bad[] = {"a\xff",
                                      "\xc3",
                                      "\xc0\x80",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xe2\x28\xa1",
                                      "\xf8\x88\x80\x80\x80",
                                      "\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(strcmp(ids_of(t, text(bad[i]), &e), "refused") == 0 && strstr(e.text, "UTF-8"),
              "invalid UTF-8 number %zu is not refused", i);
    CHECK(strcmp(ids_of(t, (struct span){"a\0b", 3}, &e), "8 12 4") == 0, "a zero byte is text");
    tokenizer_free(t);
    free(s);

    s = small_vocabulary(false);
    t = tokenizer_new(&s->v, &e);
    CHECK(t && strcmp(ids_of(t,
                             text("a\xe4\xb8\xad\xe5\x9b\xbd"
                                  "b!b"),
                             &e),
                      "8 0 4 0 4") == 0,
          "without bytes, a run of unknown characters is one unknown token");
    tokenizer_free(t);
    free(s);
}

static void test_decoding(void) {
    struct error e;
    struct small *s = small_vocabulary(true);
    struct tokenizer *t = tokenizer_new(&s->v, &e);
    struct buffer out = {0};
    const int32_t ids[] = {1, 8, 2, 240, 196, 185, 10, 0, 1, 2, 2};
    CHECK(decode(t, ids, 11, &out, &e) == 0, "%s", e.text);
    const char *want = "a \xe4\xb8\xad[x] \xe2\x81\x87   ";
    CHECK(out.n == strlen(want) && memcmp(out.at, want, out.n) == 0, "decoded to '%.*s'",
          (int)out.n, (char *)out.at);
    const int32_t beyond[] = {3, 268}, negative[] = {-1};
    CHECK(decode(t, beyond, 2, &out, &e) < 0 && strstr(e.text, "268"), "an id beyond is refused");
    CHECK(decode(t, negative, 1, &out, &e) < 0, "a negative id is refused");
    free(out.at);
    tokenizer_free(t);
    free(s);
    static const struct {
        const char *text;
        size_t whole;
    } row[] = {{"", 0},
               {"a", 1},
               {"a\xc3", 1},
               {"a\xc3\xa9", 3},
               {"\xe4\xb8", 0},
               {"\xe4\xb8\xad", 3},
               {"x\xf0\x9f\x98", 1},
               {"\xf0\x9f\x98\x80", 4},
               {"\x80\x80\x80\x80", 4}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        CHECK(whole_characters(text(row[i].text)) == row[i].whole, "whole characters, row %zu", i);
}

static void expect_refused(struct small *s, const char *why) {
    struct error e = {""};
    struct tokenizer *t = tokenizer_new(&s->v, &e);
    CHECK(!t && strstr(e.text, why), "a vocabulary is not refused for '%s': %s", why, e.text);
    tokenizer_free(t);
    free(s);
}

static void test_bad_vocabularies(void) {
    struct small *s = small_vocabulary(true);
    s->piece[4] = text("a");
    expect_refused(s, "same piece");
    s = small_vocabulary(true);
    s->piece[4] = text("\xff");
    expect_refused(s, "UTF-8");
    s = small_vocabulary(true);
    s->piece[4] = text("");
    expect_refused(s, "empty");
    s = small_vocabulary(true);
    s->kind[4] = 9;
    expect_refused(s, "kind 9");
    static const char *const no_byte[] = {"<0x-1>", "<0x1g>", "<0xG1>",
                                          "<0x1>",  "<1x41>", "<0x41)"};
    for (size_t i = 0; i < sizeof no_byte / sizeof *no_byte; i++) {
        s = small_vocabulary(true);
        s->piece[20] = text(no_byte[i]);
        expect_refused(s, "<0x00>");
    }
    s = small_vocabulary(true);
    s->piece[20] = s->piece[21];
    expect_refused(s, "same byte");
    s = small_vocabulary(true);
    s->v.n--;
    expect_refused(s, "missing");
    s = small_vocabulary(false);
    s->kind[0] = PIECE_CONTROL;
    expect_refused(s, "unknown token");
}

/* Pieces may be empty where no text is to match them, all of them, too: nothing is counted from an
 * address that is not there, as -fsanitize=undefined sees. */
static void test_empty_pieces(void) {
    const struct span piece[2] = {text(""), text("")}; /* tcc counts none of calls */
    const float score[] = {0, 0};
    const int32_t kind[] = {PIECE_UNKNOWN, PIECE_CONTROL};
    const struct vocabulary v = {.n = 2, .piece = piece, .score = score, .kind = kind};
    struct error e;
    struct tokenizer *t = tokenizer_new(&v, &e);
    CHECK(t, "empty pieces: %s", e.text);
    if (t) CHECK(strcmp(ids_of(t, text("ab"), &e), "0") == 0, "an unknown text is one token");
    tokenizer_free(t);
}

/* A stretch in which everything may join, a megabyte long: quadratic code would not come back. */
static void test_long_stretch(void) {
    struct error e;
    enum { N = 1 << 20 };
    struct small *s = small_vocabulary(true);
    struct tokenizer *t = tokenizer_new(&s->v, &e);
    char *many = malloc(N);
    struct buffer ids = {0};
    memset(many, 'a', N);
    CHECK(encode(t, (struct span){many, N}, &ids, &e) == 0 && ids.n / 4 == N / 4 + 1,
          "%zu ids of %d times a", ids.n / 4, N);
    free(many);
    free(ids.at);
    tokenizer_free(t);
    free(s);
}

/* ---- GPT-2's ----------------------------------------------------------------------------------
 */

/* Bytes 0..255 in GPT-2's alphabet are ids 0..255; then some pieces. */
static struct small *merged_vocabulary(const char *pre, const struct span *merge, int32_t merges) {
    struct small *s = calloc(1, sizeof *s);
    int next = 256;
    s->v = (struct vocabulary){.piece = s->piece,
                               .kind = s->kind,
                               .pre = text(pre),
                               .merge = merge,
                               .merges = merges,
                               .add_prefix = true};
    for (int b = 0; b < 256; b++) {
        bool itself = (b > 32 && b < 127) || (b > 160 && b != 173);
        int code = itself ? b : next++;
        if (code < 128)
            sprintf(s->byte[b], "%c", code);
        else
            sprintf(s->byte[b], "%c%c", 0xc0 | code >> 6, 0x80 | (code & 63));
        add_piece_to(s, s->byte[b], 0, PIECE_NORMAL);
    }
    add_piece_to(s, "ab", 0, PIECE_NORMAL);   /* 256 */
    add_piece_to(s, "ba", 0, PIECE_NORMAL);   /* 257: goes first */
    add_piece_to(s, "aa", 0, PIECE_NORMAL);   /* 258 */
    add_piece_to(s, "aaaa", 0, PIECE_NORMAL); /* 259 */
    add_piece_to(s,
                 "\xc4\xa0"
                 "a",
                 0, PIECE_NORMAL);                        /* 260: space a */
    add_piece_to(s, "abab", 0, PIECE_NORMAL);             /* 261: no merge makes it */
    add_piece_to(s, "<x>", 0, PIECE_USER);                /* 262 */
    add_piece_to(s, "  ", 0, PIECE_USER);                 /* 263 */
    add_piece_to(s, "<s>", 0, PIECE_CONTROL);             /* 264 */
    add_piece_to(s, "\xe4\xb8\xad", 0, PIECE_NORMAL);     /* 265: not of the alphabet */
    add_piece_to(s, "\xc4\xa0\xc4\xa0", 0, PIECE_NORMAL); /* 266: as 263 in bytes */
    add_piece_to(s, "\xc4\x8a\xc4\x8a", 0, PIECE_NORMAL); /* 267: two line feeds */
    return s;
}

/* The text with ~ after each of its words. */
static const char *words_of(const char *pre, const char *s) {
    static char room[256];
    struct error e;
    struct small *v = merged_vocabulary(pre, NULL, 0);
    struct tokenizer *t = tokenizer_new(&v->v, &e);
    char *to = room;
    for (size_t i = 0, end; t && i < strlen(s); i = end) {
        end = word_end(t, text(s), i);
        memcpy(to, s + i, end - i);
        to += end - i;
        *to++ = '~';
    }
    *to = '\0';
    tokenizer_free(t);
    free(v);
    return room;
}

static void test_words(void) {
    static const struct {
        const char *pre, *words;
    } row[] = {
        {"gpt-2", "it~'s~ IT~'~S~ 1234~a~  ~ b~ ~\t~c~!?~ ~"},
        {"phi-2", "a~ ?!~\n~\n~b~"},
        {"command-r", "a~  ~1~2~ ~3~ b~'s~"},
        {"llama-bpe", "IT~'S~ x~ ~123~4~.\n\n~ \n~ ~ $~\ty~'\xc5\xbf~"},
        {"qwen2", "1~2~'LL~'ve~!\r\n~ /\n~"},
        {"tekken", "ab~CDe~F~'s~ //\n/~1~2~\xe4\xb8\xad~A~ Ab~"},
        {"bloom", "it's~ 12~.~ a~,  ~ b~ (~c~) ~"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char plain[128], *to = plain;
        for (const char *c = row[i].words; *c; c++)
            if (*c != '~') *to++ = *c;
        *to = '\0';
        const char *got = words_of(row[i].pre, plain);
        CHECK(strcmp(got, row[i].words) == 0, "%s: %s, not %s", row[i].pre, got, row[i].words);
    }
}

static const struct span *some_merges(void) {
    static struct span m[6];
    m[0] = text("b a"), m[1] = text("a b"), m[2] = text("a a"), m[3] = text("aa aa");
    m[4] = text("\xc4\xa0 a"), m[5] = text("\xc4\x8a \xc4\x8a");
    return m;
}

static void test_merges(void) {
    struct error e;
    struct small *s = merged_vocabulary("gpt-2", some_merges(), 5);
    struct tokenizer *t = tokenizer_new(&s->v, &e);
    static const struct {
        const char *text, *ids;
    } row[] = {{"", ""},
               {"bab", "257 98"},
               {"abab", "97 257 98"},
               {"aaa", "258 97"},
               {"aaaaa", "259 97"},
               {"b a", "98 260"},
               {"a<x>b", "97 262 98"},
               {"<s>", "60 115 62"},
               {"   a", "263 260"},
               {"\xe4\xb8\xad", "228 184 173"},
               {"\xff", "refused"}};
    CHECK(t, "%s", e.text);
    for (size_t i = 0; t && i < sizeof row / sizeof *row; i++) {
        const char *got = ids_of(t, text(row[i].text), &e);
        CHECK(strcmp(got, row[i].ids) == 0, "'%s' gave %s, not %s", row[i].text, got, row[i].ids);
    }
    CHECK(strcmp(ids_of(t, (struct span){"a\0b", 3}, &e), "97 0 98") == 0, "a zero byte is text");
    const int32_t ids[] = {264, 260, 228, 184, 173, 262, 263, 265, 0};
    struct buffer out = {0};
    CHECK(decode(t, ids, 9, &out, &e) == 0 && out.n == 14 &&
              !memcmp(out.at, " a\xe4\xb8\xad<x>  \xe4\xb8\xad", 14),
          "decoded to '%.*s'", (int)out.n, (char *)out.at);
    free(out.at);
    tokenizer_free(t);
    s->v.pre = text("llama-bpe");
    t = tokenizer_new(&s->v, &e);
    CHECK(t && !strcmp(ids_of(t, text("abab"), &e), "261"), "a word that is a piece is that");
    enum { N = 1 << 20 };
    struct buffer many = {new_array(N, 1), N, N}, long_ids = {0};
    memset(many.at, 'a', N);
    CHECK(t && !encode(t, (struct span){many.at, N}, &long_ids, &e) && long_ids.n == N,
          "%zu bytes of ids", long_ids.n);
    free(many.at);
    free(long_ids.at);
    tokenizer_free(t);
    free(s);
}

/* More of them than the table that they are looked up in has room for when it begins. */
static void test_many_merges(void) {
    enum { MORE = 70 };
    static char piece[MORE][4], merge[MORE][4];
    static struct span all[MORE];
    struct small *s = merged_vocabulary("gpt-2", all, MORE);
    struct error e;
    char want[64];
    const int first = s->v.n;
    for (int i = 0; i < MORE; i++) { /* cA to cZ, dA to dZ, eA to eR */
        const char left = (char)('c' + i / 26), right = (char)('A' + i % 26);
        snprintf(piece[i], sizeof piece[i], "%c%c", left, right);
        snprintf(merge[i], sizeof merge[i], "%c %c", left, right);
        add_piece_to(s, piece[i], 0, PIECE_NORMAL);
        all[i] = text(merge[i]);
    }
    struct tokenizer *t = tokenizer_new(&s->v, &e);
    snprintf(want, sizeof want, "%d %d 32 %d 99", first, first + 25, first + 69);
    CHECK(t && !strcmp(ids_of(t, text("cAcZ eRc"), &e), want), "not %s", want);
    size_t used;
    struct buffer ids = {0};
    CHECK(t && encode(t, (struct span){"", INT32_MAX}, &ids, &e) && strstr(e.text, "too long"),
          "two gigabytes are a text");
    struct encoder *c = t ? encoder_new(t) : NULL;
    CHECK(c && encode_part(c, (struct span){"", INT32_MAX}, false, &ids, &used, &e) && !ids.n,
          "two gigabytes are a part of a text");
    encoder_free(c);
    encoder_free(NULL); /* as free() */
    tokenizer_free(t);
    free(s);
}

/* What text becomes whose tokenizer composes it: Unicode Standard Annex 15's own cases. */
static void test_composing(void) {
    static const struct {
        const char *text, *composed;
    } row[] = {{"plain", "plain"},
               {"e\u0301", "\u00e9"},
               {"\u212b \u2126", "\u00c5 \u03a9"}, /* singletons */
               {"a\u0302\u0323", "\u1ead"},        /* marks change places, then two meet */
               {"\u1e0b\u0323", "\u1e0d\u0307"},   /* a composed base comes apart first */
               {"s\u0307\u0323", "\u1e69"},        /* and both marks are taken in */
               {"\u0958", "\u0915\u093c"},         /* never composed */
               {"\u0344", "\u0308\u0301"},         /* a mark that comes apart */
               {"\u0301e", "\u0301e"},             /* a mark with nothing before it */
               {"a\u0300\u0301", "\u00e0\u0301"},  /* the second has no character with the base */
               {"a\u0345\u0301", "\u00e1\u0345"},  /* over a mark of a lower class, now after it */
               {"a\u033d\u0301", "a\u033d\u0301"}, /* not over one of its own class */
               {"\u1100\u0301\u1161", "\u1100\u0301\u1161"}, /* nor does a base reach over a mark */
               {"\u0f40\u0f72\u0f73", "\u0f40\u0f71\u0f72\u0f72"},
               {"c\u0338\u0327", "\u00e7\u0338"},      /* in order of their classes */
               {"\u1100\u1161\u11a8", "\uac01"},       /* Hangul */
               {"\uac00\u11a8\u11a8", "\uac01\u11a8"}, /* a syllable takes one consonant */
               {"\uac01\u11a8 \u1100", "\uac01\u11a8 \u1100"},
               {"\u1100\u1176", "\u1100\u1176"}, /* what is next to those that join */
               {"\u1113\u1161", "\u1113\u1161"},
               {"\uac00\u11a7", "\uac00\u11a7"},
               {"\uac00\u11c3", "\uac00\u11c3"},
               {"\uabff\u11a8", "\uabff\u11a8"},
               {"\ud7a4\u11a8", "\ud7a4\u11a8"},
               {"\u1100\u11a8", "\u1100\u11a8"}, /* and what joins with others */
               {"\uac00\u1161", "\uac00\u1161"},
               {"\uac00\u3099", "\uac00\u3099"},
               {"\u09c7\u09be", "\u09cb"},             /* a vowel sign, not a mark, joins */
               {"\U000110a5\U000110ba", "\U000110ab"}, /* beyond 16 bits */
               {"\U0002f800", "\u4e3d"},
               {"e<x>\u0301", "e<x>\u0301"}}; /* a piece of the user's stands between */
    struct error e;
    struct small *s = merged_vocabulary("qwen2", some_merges(), 5);
    struct tokenizer *t = tokenizer_new(&s->v, &e);
    CHECK(t, "%s", e.text);
    for (size_t i = 0; t && i < sizeof row / sizeof *row; i++) {
        struct buffer ids = {0}, out = {0};
        CHECK(!encode(t, text(row[i].text), &ids, &e) && !decode(t, ids.at, ids.n / 4, &out, &e) &&
                  out.n == strlen(row[i].composed) && !memcmp(out.at, row[i].composed, out.n),
              "%s became %.*s", row[i].text, (int)out.n, (char *)out.at);
        free(ids.at);
        free(out.at);
    }
    tokenizer_free(t);
    free(s);
}

static void test_bad_merges(void) {
    static const struct {
        const char *merge, *why;
    } row[] = {{"ab", "two pieces"},       {"", "two pieces"},
               {" ", "two pieces"},        {"a ", "two pieces"},
               {"\xff a", "two pieces"},   {"\u0400 a", "two pieces"},
               {"\u00ad a", "two pieces"}, {"b b", "no token"},
               {"bb a", "no token"},       {"b a", "same"}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct span m[2] = {text("b a"), text(row[i].merge)};
        expect_refused(merged_vocabulary("gpt-2", m, 2), row[i].why);
    }
    expect_refused(merged_vocabulary("gpt-3", NULL, 0), "gpt-3");
    expect_refused(merged_vocabulary("", NULL, 0), "none of");
    struct small *s = merged_vocabulary("gpt-2", NULL, 0);
    s->kind[65] = PIECE_CONTROL;
    expect_refused(s, "0x41");
    s = merged_vocabulary("gpt-2", NULL, 0);
    s->piece[65] = s->piece[66];
    expect_refused(s, "same piece");
    s = merged_vocabulary("gpt-2", NULL, 0);
    s->piece[256] = text("\xff");
    expect_refused(s, "UTF-8");
    s = merged_vocabulary("gpt-2", NULL, 0);
    s->kind[256] = PIECE_BYTE;
    expect_refused(s, "kind 6");
}

/* ---- Words that were added --------------------------------------------------------------------
 */

/* "ab" of the vocabulary and "bab", as they read; "xba" and e acute with n, in normal form. */
static void add_words(struct small *s) {
    static int32_t id[4];
    static const bool normalised[] = {false, false, true, true};
    id[0] = s->v.pre.at ? 256 : 5;
    for (int i = 1; i < 4; i++) {
        id[i] = s->v.n;
        add_piece_to(s, i == 1 ? "bab" : i == 2 ? "xba" : "\u00e9n", 0, PIECE_USER);
    }
    s->v.added = id;
    s->v.normalised = normalised;
    s->v.n_added = 4;
}

/* The ids, those of the three words that the vocabulary lacked as A, B and C. */
static const char *named_ids(const struct tokenizer *t, const char *s, int first) {
    static char room[4096];
    struct error e;
    char name[16];
    strcpy(room, ids_of(t, text(s), &e));
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%d", first + i);
        for (char *at; (at = strstr(room, name));) {
            *at = (char)('A' + i);
            memmove(at + 1, at + strlen(name), strlen(at + strlen(name)) + 1);
        }
    }
    return room;
}

static void test_added(void) {
    struct error e;
    static const struct {
        const char *pre, *text, *ids; /* pre NULL: SentencePiece's */
    } row[] = {
        {NULL, "a bab b", "8 2 A 2 4"}, /* a prefix before the first stretch only */
        {NULL, "bab", "A"},             /* and before no word */
        {NULL, "bab a", "A 8"},
        {NULL, "babbab", "A A"},
        {NULL, "ab", "5"}, /* a piece of the vocabulary is found, too */
        {NULL, "aab", "8 5"},
        {NULL, "xbab", "2 132 A"}, /* as the text reads before its normal form */
        {NULL, "xba", "B"},
        {NULL, "\u00e9n", "C"},
        {NULL, "e\u0301n", "2 113 216 141 122"}, /* SentencePiece's has no normal form here */
        {NULL, "[x]xba[x]", "2 10 B 10"},        /* its own words are found behind the prefix */
        {"qwen2", "a bab b", "97 32 A 32 98"},
        {"qwen2", "xbab", "120 A"},
        {"qwen2", "ab", "256"},
        {"qwen2", "ab\u0301", "256 204 129"}, /* before what follows joins */
        {"qwen2", "e\u0301n", "C"},           /* in normal form */
        {"qwen2", "xba\u0301", "120 98 195 161"},
        {"qwen2", "\u00e9n\u0303", "195 169 195 177"},
        {"command-r", "xe\u0301nx", "120 C 120"},
        {"gpt-2", "e\u0301n", "101 204 129 110"}, /* text has no normal form there */
        {"gpt-2", "xbab xba", "120 A 32 B"},
        {"llama-bpe", "abab", "256 256"},
        {"bloom", "  xba  ", "32 32 B 32 32"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct small *s =
            row[i].pre ? merged_vocabulary(row[i].pre, some_merges(), 2) : small_vocabulary(true);
        const int first = s->v.n;
        if (row[i].pre) s->kind[263] = PIECE_UNUSED; /* two spaces */
        add_words(s);
        struct tokenizer *t = tokenizer_new(&s->v, &e);
        CHECK(t, "%s", e.text);
        const char *got = t ? named_ids(t, row[i].text, first) : "";
        CHECK(strcmp(got, row[i].ids) == 0, "%s: '%s' gave %s, not %s",
              row[i].pre ? row[i].pre : "SentencePiece", row[i].text, got, row[i].ids);
        tokenizer_free(t);
        free(s);
    }
}

/* A word is what it reads as, whatever its piece stands for; and pieces stay what they were. */
static void test_added_byte(void) {
    struct error e;
    struct small *s = merged_vocabulary("gpt-2", some_merges(), 5);
    static const int32_t id[] = {0xf1, 'a'};
    static const bool normalised[] = {true, false};
    s->v.added = id;
    s->v.normalised = normalised;
    s->v.n_added = 2;
    struct tokenizer *t = tokenizer_new(&s->v, &e);
    CHECK(t && !strcmp(ids_of(t, text("\u00f1"), &e), "241"), "what stands for a byte reads as n");
    CHECK(t && !strcmp(ids_of(t, text("bb aa"), &e), "98 98 32 97 97"), "a word stands alone");
    tokenizer_free(t);
    free(s);
    s = small_vocabulary(true);
    static const int32_t spaced[] = {268};
    add_piece_to(s, " b", 9, PIECE_USER);
    s->v.added = spaced;
    s->v.normalised = normalised + 1;
    s->v.n_added = 1;
    t = tokenizer_new(&s->v, &e);
    CHECK(t && !strcmp(ids_of(t, text("a b"), &e), "8 268"), "%s", ids_of(t, text("a b"), &e));
    CHECK(t && !strcmp(ids_of(t, text("a\u2581b"), &e), "8 2 4"), "pieces do not make a word");
    tokenizer_free(t);
    free(s);
}

static void test_bad_added(void) {
    static const struct {
        int32_t id[2];
        const char *why;
    } row[] = {{{1, 3}, "kind 3"}, {{268, 3}, "outside"}, {{-1, 3}, "outside"}, {{3, 3}, "twice"}};
    static const bool normalised[2] = {false};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct small *s = small_vocabulary(true);
        s->v.added = row[i].id;
        s->v.normalised = normalised;
        s->v.n_added = 2;
        expect_refused(s, row[i].why);
    }
    struct small *s = merged_vocabulary("qwen2", NULL, 0); /* two words of one normal form */
    static const int32_t both[] = {268, 269};
    static const bool composed[] = {true, true};
    add_piece_to(s, "\u00e9", 0, PIECE_USER);
    add_piece_to(s, "e\u0301", 0, PIECE_USER);
    s->v.added = both;
    s->v.normalised = composed;
    s->v.n_added = 2;
    expect_refused(s, "same word");
    s = small_vocabulary(true);
    s->kind[3] = PIECE_UNKNOWN;
    expect_refused(s, "both unknown");
}

/* SentencePiece's pieces, merged by the rank of a pair instead of the score of what it makes. */
static void test_ranks(void) {
    struct error e;
    struct small *s = small_vocabulary(true);
    const struct span merge[5] = {text("b a"), text("a b"), text("a a"), text("aa aa"),
                                  text("\u2581 a")};
    static const struct {
        const char *text, *ids;
    } row[] = {{"", ""},         {"a", "8"},           {"bab", "2 6 4"},
               {"aaa", "2 7 3"}, {"baaaa", "2 6 7 3"}, {"a[x]b", "8 10 4"},
               {" a", "8"}, /* no space in front of another */
               {"\u2581a", "8"}, {"  a", "2 8"},       {"\u4e2d", "2 240 196 185"}};
    s->v.merge = merge;
    s->v.merges = 5;
    for (int i = 0; i < s->v.n; i++) s->score[i] = (float)-s->score[i]; /* which do not matter */
    struct tokenizer *t = tokenizer_new(&s->v, &e);
    CHECK(t, "%s", e.text);
    for (size_t i = 0; t && i < sizeof row / sizeof *row; i++) {
        const char *got = ids_of(t, text(row[i].text), &e);
        CHECK(strcmp(got, row[i].ids) == 0, "by rank '%s' gave %s, not %s", row[i].text, got,
              row[i].ids);
    }
    tokenizer_free(t);
    s->v.merges = 4; /* what no merge makes is not made */
    t = tokenizer_new(&s->v, &e);
    CHECK(t && !strcmp(ids_of(t, text("a"), &e), "2 3"), "a piece was made without a merge");
    tokenizer_free(t);
    const struct span bad[1] = {text("a c")};
    s->v.merge = bad;
    s->v.merges = 1;
    expect_refused(s, "no token");
    s = small_vocabulary(false); /* a character without a piece is in no merge */
    s->v.merge = merge;
    s->v.merges = 5;
    t = tokenizer_new(&s->v, &e);
    CHECK(t && !strcmp(ids_of(t, text("a\u4e2dba"), &e), "8 0 6"), "%s", t ? "another" : e.text);
    tokenizer_free(t);
    free(s);
    s = small_vocabulary(true); /* nor is c, which is in a piece that no merge makes */
    add_piece_to(s, "aca", 0, PIECE_NORMAL);
    s->v.merge = merge;
    s->v.merges = 5;
    t = tokenizer_new(&s->v, &e);
    CHECK(t && !strcmp(ids_of(t, text("aca"), &e), "8 111 3"), "%s", t ? "another" : e.text);
    tokenizer_free(t);
    free(s);
}

/* ---- The demo model's vocabulary ------------------------------------------------------------- */

/* In place: backslash escapes of line ends, tabs, carriage returns and backslashes. */
static size_t unescape(char *s) {
    char *to = s;
    for (char *from = s; *from; from++)
        if (*from != '\\')
            *to++ = *from;
        else {
            from++;
            *to++ = *from == 'n' ? '\n' : *from == 't' ? '\t' : *from == 'r' ? '\r' : *from;
        }
    return (size_t)(to - s);
}

static void test_golden_ids(const struct tokenizer *t) {
    struct error e;
    struct golden *g = golden_open("test/golden.tsv");
    int lines = 0;
    for (; golden_next(g, "encode"); lines++) {
        char want[4096] = "";
        for (int i = 2; i < g->fields; i++)
            if (*g->field[i]) strcat(strcat(want, *want ? " " : ""), g->field[i]);
        struct span s = {g->field[1], unescape(g->field[1])};
        const char *got = ids_of(t, s, &e);
        CHECK(strcmp(got, want) == 0, "'%.*s' gave %s, not %s", (int)s.n, s.at, got, want);
    }
    CHECK(lines >= 12, "only %d lines of golden ids", lines);
    golden_close(g);
}

static void test_round_trips(const struct tokenizer *t) {
    static const char *const language[] = {"en", "zh", "fr", "es", "vi", "id", "ja"};
    struct error e;
    for (int k = 0; k < 7; k++) {
        struct span file;
        struct buffer ids = {0}, back = {0};
        char path[64];
        snprintf(path, sizeof path, "demo/text/%s.count.txt", language[k]);
        if (map_file(path, &file, &e) || encode(t, file, &ids, &e) ||
            decode(t, ids.at, ids.n / 4, &back, &e)) {
            CHECK(false, "%s", e.text);
            continue;
        }
        CHECK(back.n == file.n && memcmp(back.at, file.at, file.n) == 0,
              "%s does not come back from its ids", path);
        munmap((void *)file.at, file.n);
        free(ids.at);
        free(back.at);
    }
}

/* A text in parts of any sizes has the ids of the whole. */
static void test_parts(const struct tokenizer *t, const char *name, struct span whole) {
    struct buffer all = {0}, ids = {0};
    struct error e;
    CHECK(!encode(t, whole, &all, &e), "%s: %s", name, e.text);
    for (int round = 0; round < 20; round++) {
        struct encoder *c = encoder_new(t);
        size_t start = 0, end = 0, used;
        const size_t most = (size_t)1 << test_random() % 13;
        ids.n = 0;
        for (bool last = false; !last; start += used) {
            end += test_random() % (most + 1);
            last = end >= whole.n;
            if (last) end = whole.n;
            if (encode_part(c, (struct span){whole.at + start, end - start}, last, &ids, &used, &e))
                break;
        }
        CHECK(start == whole.n && ids.n == all.n && !memcmp(ids.at, all.at, all.n),
              "%s: parts of up to %zu bytes have other ids than the whole", name, most);
        encoder_free(c);
    }
    free(all.at);
    free(ids.at);
}

/* Characters that pre-tokenizers disagree about, in lines. */
static struct span mixed_text(size_t n) {
    static const char *const part[] = {
        "a",      "b",      "ab",     "A",      "B ",         " ",      "  ",      "\n",    "\n",
        "\n\n",   "\r\n",   "\t",     "'s",     "'",          "1",      "23",      "...",   "!\n",
        "/",      "(",      "<x>",    "\u00e9", "e\u0301",    "\u0323", "\u00e9n", "xba",   "bab",
        "\u4e2d", "\u3002", "\u1100", "\u1161", "\U0001f468", "\u00a0", "[x]",     "\u2581"};
    struct buffer b = {0};
    while (n--) {
        const char *s = part[test_random() % (sizeof part / sizeof *part)];
        buffer_add(&b, s, strlen(s));
    }
    return (struct span){b.at, b.n};
}

static void test_streams(const struct tokenizer *demo) {
    static const char *const pre[] = {"gpt-2", "command-r", "llama-bpe",
                                      "qwen2", "tekken",    "bloom"};
    const struct span mixed = mixed_text(5000);
    struct error e;
    for (size_t i = 0; i < sizeof pre / sizeof *pre; i++) {
        struct small *s = merged_vocabulary(pre[i], some_merges(), 6);
        struct tokenizer *t = tokenizer_new(&s->v, &e);
        CHECK(t, "%s", e.text);
        if (t) test_parts(t, pre[i], mixed);
        add_words(s);
        struct tokenizer *added = tokenizer_new(&s->v, &e);
        CHECK(added, "%s", e.text);
        if (added) test_parts(added, "with words added", mixed);
        tokenizer_free(added);
        /* white space leaves its last character to the word that follows, if one does */
        const char *got = i == 0 && t ? ids_of(t, text("\n\na\n\n"), &e) : "10 10 97 267";
        CHECK(strcmp(got, "10 10 97 267") == 0, "line feeds gave %s", got);
        tokenizer_free(t);
        free(s);
    }
    for (int bytes = 0; bytes < 2; bytes++) {
        struct small *s = small_vocabulary(bytes);
        struct tokenizer *t = tokenizer_new(&s->v, &e);
        CHECK(t, "%s", e.text);
        if (t) test_parts(t, bytes ? "small" : "small, without bytes", mixed);
        tokenizer_free(t);
        add_words(s);
        t = tokenizer_new(&s->v, &e);
        CHECK(t, "%s", e.text);
        if (t) test_parts(t, "small, with words added", mixed);
        tokenizer_free(t);
        free(s);
    }
    test_parts(demo, "demo", mixed);
    free((void *)mixed.at);
}

int main(void) {
    static struct checkpoint m;
    test_by_hand();
    test_decoding();
    test_bad_vocabularies();
    test_empty_pieces();
    test_long_stretch();
    test_words();
    test_merges();
    test_many_merges();
    test_composing();
    test_bad_merges();
    test_added();
    test_added_byte();
    test_bad_added();
    test_ranks();
    checkpoint_open(&m, "demo/model.gguf", 1);
    CHECK(m.tokenizer != NULL, "%s", m.no_tokenizer.text);
    if (m.tokenizer) {
        test_golden_ids(m.tokenizer);
        test_round_trips(m.tokenizer);
        test_streams(m.tokenizer);
    }
    return finish();
}
