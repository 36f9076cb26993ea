/* lape: find, ablate and steer the language-specific neurons of large language models.
 *
 * The method is language activation probability entropy (LAPE): Tang et al., "Language-Specific
 * Neurons: The Key to Multilingual Capabilities in Large Language Models", ACL 2024, arXiv
 * 2402.16438, called "the paper" below. "The released code" is the code its authors published.
 *
 * base.c has what all of it stands on. model.c turns a checkpoint and token ids into logits, and
 * lets one hook see and change every intermediate tensor. tokenizer.c turns text into ids and back.
 * lape.c is the method and the command line; it calls the other two, which know neither each other
 * nor the method.
 *
 * Shapes are written [rows, columns], row-major, with these letters:
 *   T tokens of a batch     D width of the residual stream   L layers        V vocabulary
 *   H query heads           KV key-value heads               d head width
 *   F neurons of a layer    K languages
 *
 * Functions that can fail return -1 or NULL and leave one line in struct error; a pointer to it is
 * always the last argument and never NULL. Nothing here is global but the list of outputs that are
 * to be finished, and nothing is thread-safe on its own: threads live in struct pool, and only
 * inside the calls that are given one.
 */
#ifndef LAPE_H
#define LAPE_H

/* Before any header: the program asks for POSIX.1-2008; where addresses have 32 bits, for files
 * whose sizes and numbers have 64; and on systems that then hide all else, for what sysconf() knows
 * of processors and memory, too: macOS, NetBSD, FreeBSD. */
#define _XOPEN_SOURCE 700
#ifndef __LP64__
#define _FILE_OFFSET_BITS 64
#endif
#define _DARWIN_C_SOURCE
#define _NETBSD_SOURCE
#define __BSD_VISIBLE 1

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- Numbers -----------------------------------------------------------------------------------
 *
 * The forward pass is made of IEEE-754 +, -, *, /, sqrt, fma and exact conversions, and every
 * reduction is one chain in index order. So its bits do not depend on machine, compiler, vector
 * width, threads or batch. `real` is what activations are computed in.
 */
#ifdef LAPE_REAL64
typedef double real; /* the same program in double: its distance from float is the rounding error */
typedef uint64_t real_bits;
#define real_fma(a, b, c) fma(a, b, c)
#define real_sqrt(a)      sqrt(a)
#else
typedef float real;
typedef uint32_t real_bits; /* what it is made of */
#define real_fma(a, b, c) fmaf(a, b, c) /* a b + c, rounded once */
#define real_sqrt(a)      sqrtf(a)
#endif

/* Without libm, the same bits everywhere; errors in units of the result's last place (ulp). */
double exp64(double x);  /* within 2; overflows to infinity, underflows gradually to 0 */
double log64(double x);  /* within 2; x positive and normal; infinity and NaN stay */
double sin64(double x);  /* within 2^-52; |x| < 2^30 */
double cos64(double x);  /* likewise */
double tanh64(double x); /* within 4 */
/* x^y as e^(y ln x): within 3 + 4 |y ln x|; x as for log64. */
double pow64(double x, double y);

/* ---- Errors and memory ----------------------------------------------------------------------- */

typedef unsigned long long ull; /* 64 bits or more, for printing */

struct error {
    char text[512]; /* one line, no newline: what is wrong, and what would be right */
};

/* Writes the message and returns -1, so that `return fail(e, ...)` is the way out. */
int fail(struct error *e, const char *format, ...);
/* Puts "WHERE: " before the message that is there, and returns -1. */
int fail_in(struct error *e, const char *where);

/* n zeroed items of `size` bytes, and n items of an array that grew (p may be NULL); free() ends
 * them. Never NULL: out of memory is the one error that is not returned. It ends the program with a
 * line on stderr and status 1. Sizes that come from a file are checked against the file before. */
void *new_array(size_t n, size_t size);
void *grow_array(void *p, size_t n, size_t size);

/* Bytes that someone else owns; not terminated. */
struct span {
    const char *at;
    size_t n;
};
bool span_is(struct span s, const char *text);
/* For "%.*s" in a message: names from files are cut to a readable length. */
int brief(struct span s);
/* As a string of one line, cut to `room` with its end. */
void span_copy(char *to, size_t room, struct span s);

/* FNV-1a: the hash goes on over more bytes. A new one starts from HASH. */
static const uint64_t HASH = 0xcbf29ce484222325;
uint64_t hash_on(uint64_t hash, const void *bytes, size_t n);

/* Bytes, or items of one type, that grow. Starts as {0}; free(b.at) ends it. */
struct buffer {
    void *at;
    size_t n, room; /* in bytes */
};
/* Appends a copy of n bytes. */
void buffer_add(struct buffer *b, const void *bytes, size_t n);

/* ---- Files ----------------------------------------------------------------------------------- */

/* Maps a regular file that is not empty; munmap() ends it. */
int map_file(const char *path, struct span *to, struct error *e);

/* A file that appears whole or not at all: it is written under a name beside PATH that nobody has,
 * then renamed, both when the disk has it. A link stays one: what it points to, which must be
 * there, is replaced. What is no regular file (a pipe, a device) is written to as it is. What is
 * not finished leaves nothing when the program ends by exit() or a signal that handle_signals()
 * knows; one that is killed may leave the temporary file. */
struct output {
    FILE *file;
    char *path, *temporary; /* of a regular file */
    struct output *before;  /* the one that was opened before, of those that are to be finished */
};
/* With a path of NULL, it is the standard output. */
int output_open(struct output *o, const char *path, struct error *e);
/* Ends it; -1 when any write failed: then nothing is left. */
int output_finish(struct output *o, struct error *e);
/* Gives it up: nothing is left. Does nothing after output_finish. */
void output_discard(struct output *o);

/* From here on SIGINT, SIGTERM, SIGHUP and SIGPIPE, unless they are ignored, end the program as
 * they would, but outputs leave nothing; and so does SIGBUS, which comes when a mapped file was cut
 * short, with a line on stderr and status 1. */
void handle_signals(void);
/* What lies between is not disturbed by the first four; threads that start there never are. */
void hold_signals(void);
void release_signals(void);

/* ---- GGUF --------------------------------------------------------------------------------------
 *
 * The container of ggml and llama.cpp, little-endian, version 3 (2, which is read, too, is the
 * same): typed key-value pairs, then named tensors. Checkpoints and counts are both such files. The
 * reader maps the file and trusts nothing in it: every length is checked against the bytes that are
 * there before it is used. Source: ggml's docs/gguf.md.
 */
/* clang-format off */
enum gguf_type { /* of a metadata value; the format's own numbers, 0 to 12 */
    GGUF_U8, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING,
    GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64
};

enum tensor_type { /* of an element; ggml's numbers, those that are named here */
    TENSOR_F32 = 0,
    TENSOR_F16 = 1,
    TENSOR_Q8_0 = 8, /* blocks of 32: an f16 scale, then 32 signed bytes */
    TENSOR_I64 = 27,
    TENSOR_BF16 = 30
};
/* clang-format on */

struct gguf_value {
    struct span key;
    uint32_t type;    /* enum gguf_type */
    uint32_t item;    /* type of the items when type is GGUF_ARRAY, else equal to type */
    uint64_t count;   /* number of items when type is GGUF_ARRAY, else 1 */
    struct span data; /* the items as they lie in the file; strings each with their 8-byte length */
    bool used;        /* a getter below has given it out */
};

struct tensor {
    struct span name;
    uint32_t type;    /* enum tensor_type, or another of ggml's numbers */
    uint32_t dims;    /* 1..4 */
    uint64_t dim[4];  /* ggml's order: dim[0] is contiguous; unused ones are 1. [rows, columns] is
                         dim[1], dim[0] */
    struct span data; /* empty when the type is not read */
    bool used;        /* set by who reads it */
};

struct gguf {
    void *map; /* the file; all spans point into it */
    size_t map_size;
    struct span header; /* the values as they lie there */
    int alignment;      /* of the tensors' offsets, in bytes */
    struct gguf_value *value;
    struct tensor *tensor, **named; /* as they are listed; by name */
    size_t values, tensors;
    struct gguf *part; /* [parts] a split model's other files, whose tensors are listed above */
    int parts;
};

/* Opens and checks a file: no value or tensor stands twice, no two tensors share a byte. Of a split
 * model, whose files are called NAME-00001-of-00003.gguf and so on, the first opens all. On failure
 * nothing stays open, and the message starts with the path. */
int gguf_open(struct gguf *g, const char *path, struct error *e);
void gguf_close(struct gguf *g);

/* NULL when absent. */
struct gguf_value *gguf_find(const struct gguf *g, const char *key);
struct tensor *gguf_tensor(const struct gguf *g, const char *name);

/* Read one value; -1 with a message when it is of another kind, or a number outside [least, most].
 * An absent number is `otherwise`, and an error where that is REQUIRED, as an absent string is. Of
 * integers, none below 0 passes. Any integer type serves as int, and a bool where `most` is 1; F32
 * and F64 serve as float. */
enum { REQUIRED = -2 };
int gguf_int(const struct gguf *g, const char *key, int least, int most, int otherwise, int *to,
             struct error *e);
int gguf_float(const struct gguf *g, const char *key, double least, double most, double otherwise,
               double *to, struct error *e);
int gguf_string(const struct gguf *g, const char *key, struct span *to, struct error *e);
/* All 64 bits of a U64; 0 where it is absent. */
int gguf_u64(const struct gguf *g, const char *key, uint64_t *to, struct error *e);

/* An array of `item`s, NULL with a message when it is absent or holds something else. Its numbers
 * are read with the little-endian readers below. */
const struct gguf_value *gguf_array(const struct gguf *g, const char *key, enum gguf_type item,
                                    struct error *e);
/* The strings of an array of strings: `count` spans, to be freed with free(). */
struct span *gguf_strings(const struct gguf_value *array);
/* The numbers of an array of I32, F32 or BOOL, as int32_t, float or bool, likewise. */
void *gguf_numbers(const struct gguf_value *array);

/* What is not known is not passed over: -1 with its name when a value whose key starts with
 * `prefix` was given out by no getter, unless the rest of its key is in `harmless`, a list that
 * ends with NULL ("*_id": all that end so); and when a tensor is not marked as used. */
int gguf_check_used(const struct gguf *g, const char *prefix, const char *const *harmless,
                    struct error *e);
int gguf_check_tensors(const struct gguf *g, struct error *e);
/* A guard against mistakes, not attackers: 64 bits of all values but those of splitting, of the
 * tensors' names, types and shapes, and of a few of their bytes. Never 0. */
uint64_t gguf_digest(const struct gguf *g);
/* ggml's name of a tensor type, "not known here" of a number that is none. */
const char *tensor_type_name(uint32_t type);

/* Little-endian bytes to numbers and back, on any machine and at any alignment. */
uint32_t get_u32(const void *at);
uint64_t get_u64(const void *at);
float get_f32(const void *at);
void write_little(FILE *to, uint64_t v, int bytes); /* the lowest ones */

/* A file in the making, written as it is put: the header; the values, arrays with their items
 * after them; the tensors' entries; then padding and the numbers of each. */
struct gguf_writer {
    FILE *to;
    int alignment;            /* of the tensors' offsets, as the values say; 0: 32 */
    uint64_t written, offset; /* bytes; where the next tensor's data will lie */
};
void put_header(struct gguf_writer *w, uint64_t tensors, uint64_t values);
void put_u64(struct gguf_writer *w, const char *key, uint64_t v);
void put_f64(struct gguf_writer *w, const char *key, double v);
void put_string(struct gguf_writer *w, const char *key, const char *v);
void put_array(struct gguf_writer *w, const char *key, enum gguf_type item, size_t n);
void put_tensor(struct gguf_writer *w, const struct tensor *t); /* but for where its data is */
void put_number(struct gguf_writer *w, uint64_t v, int bytes);  /* an item of an array, or tensor */
void put_f32(struct gguf_writer *w, float v);
void put_bytes(struct gguf_writer *w, const void *bytes, size_t n);
void put_text(struct gguf_writer *w, const char *s); /* an item that is a string */
void put_padding(struct gguf_writer *w);

/* ---- Threads --------------------------------------------------------------------------------- */

struct pool;

/* `threads` >= 1, the caller among them. Built with OpenMP, the pool is OpenMP's. */
struct pool *pool_new(int threads, struct error *e);
void pool_free(struct pool *p);
int pool_threads(const struct pool *p);
/* Calls job(context, i, thread) once for every i in [0, n), each on some thread in [0, threads),
 * and returns when all are done. Jobs start in order, must not depend on each other, and must not
 * call pool_run. */
void pool_run(struct pool *p, int n, void (*job)(void *context, int i, int thread), void *context);

/* ---- Model and forward pass ------------------------------------------------------------------ */

struct family; /* what sets apart LLaMA, BLOOM, Gemma, ...: a row of a table in model.c */

struct config {
    const struct family *family;
    char name[128]; /* general.name */
    int layers;     /* L */
    int width;      /* D */
    int neurons;    /* F, per layer */
    int heads;      /* H */
    int kv_heads;   /* KV; divides H */
    int head_dim;   /* d */
    int rotated;    /* of which the first so many are turned by their position: even; 0: none */
    int vocab;      /* V */
    int context;    /* tokens that the model was trained for; longer sequences run unless positions
                       are learned */
    int window; /* a token attends to itself and the window - 1 tokens before; 0: to all before */
    double norm_eps;
    double rope_base,
        window_rope_base;            /* in layers that attend to all, and in those with a window */
    double rope_factor;              /* positions are divided by it, outside windows */
    double attention_scale;          /* of q . k */
    double attention_cap, logit_cap; /* x becomes cap tanh(x / cap); 0: stays */
    double embedding_scale, residual_scale, logit_scale; /* residual: of what a layer adds */
    double alibi; /* ALiBi's head h of 1 .. H falls by 2^(-alibi h / H) a token */
};

/* The name of a model's family as GGUF has it, general.architecture. */
const char *family_name(const struct config *c);
/* Whether its feed-forward multiplies what a gate lets through with what goes up. */
bool has_gate(const struct config *c);

/* A weight matrix as it lies in the file; each row makes one output. */
struct matrix {
    const char *at;
    uint32_t type; /* ggml's number of one that is read */
    int rows, columns;
    size_t row_bytes;
};

/* Elements [from, from + n) of a row, exactly: what ggml's reference makes of them in float32. */
void widen(real *out, const struct matrix *m, int row, int from, int n);
/* Whether an element can be 0 whatever its block says: in quantised types but Q8_0 it may not. */
bool has_zero(uint32_t type);
/* Makes element i of a copied row 0, in a type that has it. */
void zero_element(char *row, uint32_t type, int i);

struct layer; /* the weights of one layer */

struct model {
    struct gguf file; /* stays mapped: the weights are used where they lie */
    struct config config;
    struct layer *layer;
    struct matrix embedding; /* [V, D] */
    struct matrix output;    /* [V, D]; the embedding again when the two are tied */
    struct matrix positions; /* [context, D]; learned ones */
    struct norm {
        real *weight, *bias; /* [D]; without a weight there is no norm, without a bias it is 0 */
    } embedding_norm, output_norm;
    real *output_bias;     /* [V] or NULL */
    real *rope_factors;    /* [rotated / 2] or NULL: frequencies are divided by them */
    struct buffer vectors; /* real *: all that norms and biases lie in */
};

/* Opens a checkpoint: GGUF of one of llama.cpp's architectures that model.c lists, its matrices in
 * F32, F16, BF16 or the quantised types that it lists. A file with a tensor that the forward pass
 * would not use is refused: what is not understood is not run. */
int model_open(struct model *m, const char *path, struct error *e);
void model_close(struct model *m);
/* The down projection [D, F] of a layer, whose column j is what neuron j adds when it is 1. */
struct matrix down_projection(const struct model *m, int layer);

/* Where the hook is called, in order. Columns in brackets. */
enum point {
    AT_EMBD,      /* [D]    token embeddings, as they enter the first layer; layer -1 */
    AT_ATTN_NORM, /* [D]    input of attention */
    AT_Q,         /* [H d]  after rotation, in llama.cpp's order of rows */
    AT_K,         /* [KV d] after rotation, likewise */
    AT_V,         /* [KV d] */
    AT_HEADS,     /* [H d]  what the heads of attention make */
    AT_ATTN_OUT,  /* [D]    what attention adds to the residual stream */
    AT_FFN_NORM,  /* [D]    input of the feed-forward */
    AT_GATE,      /* [F]    x W_gate: the neurons before the activation function; x W_up + b in a
                            feed-forward without a gate */
    AT_ACT,       /* [F]    act of that: the neurons */
    AT_UP,        /* [F]    x W_up, with a gate only */
    AT_PRODUCT,   /* [F]    act of the gate times that, likewise */
    AT_DOWN,      /* [D]    what the feed-forward adds to the residual stream */
    AT_RESID,     /* [D]    residual stream after the layer */
    AT_LOGITS,    /* [V]    layer L; rows are those asked of logits() */
    POINTS
};

/* The one hook. Called on the thread that called forward(), between the steps, with all tokens of
 * the batch: values is [rows, columns], row t being token t of the batch. What it writes there is
 * what the forward pass goes on with. It may call pool_run. */
struct hook {
    void (*see)(void *context, enum point at, int layer, real *values, int rows, int columns);
    void *context;
};

/* Consecutive tokens of one text. Their keys and values are kept in rows [row + past, row + past +
 * n) of the cache, and they attend to rows [row, ...) up to themselves. */
struct sequence {
    const int32_t *tokens; /* [n] */
    int n;
    int past; /* tokens of this sequence that are in the cache already */
    int row;
};

/* What a forward pass works in, and how large that is. */
struct run;

struct room {
    int tokens;  /* at once */
    int rows;    /* of the cache */
    int longest; /* of a sequence, with what the cache holds of it */
    bool keep;   /* every layer has its own cache, for sequences that go on (generation); else all
                    layers share one, for sequences pushed through once (counting, perplexity) */
};

/* `m` and `p` must outlive it. */
struct run *run_new(const struct model *m, struct pool *p, struct room room, struct error *e);
void run_free(struct run *r);

/* Pushes the tokens of n sequences through all layers, one layer after the other. -1 when a token
 * is outside the vocabulary or the sequences do not fit the room. `hook` may be NULL. */
int forward(struct run *r, const struct sequence *s, int n, const struct hook *hook,
            struct error *e);

/* Logits [n, V] of tokens [first, first + n) of the batch that forward() saw last. */
void logits(struct run *r, int first, int n, real *out, const struct hook *hook);

/* loss[i] = -ln softmax(logits of token first + i)[target[i]] in nats, for n tokens of the batch
 * that forward() saw last; those with a target of -1 are passed over. The logits are never there
 * all at once: SLICE outputs of all tokens are, in room [n, min(V, SLICE)]. A row's sum of e^(logit
 * - max) is one chain in a slice, and slices are brought to one max and added in order. -1 when a
 * loss is no finite number. */
enum { SLICE = 4096 };
int losses(struct run *r, int first, int n, const int32_t *target, real *room, double *loss,
           struct error *e);

/* ---- Tokenizer ---------------------------------------------------------------------------------
 *
 * SentencePiece's byte-pair encoding with scores and byte fallback (LLaMA-2, Mistral), as the
 * sentencepiece library computes it for models without normalisation; and GPT-2's with merges, over
 * the bytes of words that a regular expression cuts out, as the tokenizers library computes it,
 * after Unicode's normal form C where the family has that.
 */
enum piece_kind { /* SentencePiece's numbers, which GGUF uses too */
                  PIECE_NORMAL = 1,
                  PIECE_UNKNOWN = 2, /* stands for what nothing else matches */
                  PIECE_CONTROL = 3, /* never matched in text, decodes to nothing */
                  PIECE_USER = 4,    /* matched first, wherever it stands, and never merged; where
                                        it is not added: in a SentencePiece text behind its prefix */
                  PIECE_UNUSED = 5,  /* never produced */
                  PIECE_BYTE = 6     /* "<0x00>".."<0xFF>" */
};

struct vocabulary {
    int n;
    const struct span *piece; /* [n], UTF-8; a space is written U+2581. GPT-2's: normal pieces are
                                 in its alphabet of bytes, the others literal */
    const float *score;       /* [n], higher merges first; SentencePiece's only */
    const int32_t *kind;      /* [n] enum piece_kind */
    bool add_prefix;          /* text starts with a space of the tokenizer's own; likewise */
    struct span pre;          /* GPT-2's: which regular expression, by llama.cpp's name: gpt-2,
                                 llama-bpe, bloom, qwen2, phi-2, tekken or command-r. {0}: the
                                 tokenizer is SentencePiece's */
    const struct span *merge; /* [merges] "left right", the first ones merge first: GPT-2's; in
                                 place of scores SentencePiece's */
    int32_t merges;
    const int32_t *added;   /* [n_added] ids that are found in a text as they read before anything
                               else is done: by their pieces, the longest at a place ... */
    const bool *normalised; /* ... and which of them only then, in normal form, in what is left */
    int32_t n_added;
};

struct tokenizer;

/* The pieces and arrays stay the caller's and must outlive the tokenizer. -1 when a piece stands
 * twice, is not UTF-8 or has an unknown kind, when a byte has no way to be encoded, when a word
 * that is found as it reads has more than 4096 bytes, when a merge is not of three pieces or stands
 * twice, or when the regular expression is not known. */
struct tokenizer *tokenizer_new(const struct vocabulary *v, struct error *e);
void tokenizer_free(struct tokenizer *t);
/* Whether the family of a `pre` starts texts with its begin-of-sequence token when the file does
 * not say; -1 when it is not known. */
int default_bos(struct span pre);

/* Appends the ids (int32_t) of one text. O(n log n) in its bytes. -1 when it is not UTF-8: the
 * message gives the byte. */
int encode(const struct tokenizer *t, struct span text, struct buffer *ids, struct error *e);
/* One text that comes in parts. */
struct encoder;
struct encoder *encoder_new(const struct tokenizer *t);
void encoder_free(struct encoder *c);
/* Appends the ids of a part's first *used bytes: all when it is the last part, else as far as
 * nothing that follows can change them, which may be not at all. The next part starts with the
 * bytes that are left. Errors are encode()'s, counting bytes from the text's start. */
int encode_part(struct encoder *c, struct span text, bool last, struct buffer *ids, size_t *used,
                struct error *e);
/* GPT-2's: the end of the word at byte i < s.n of a text that is UTF-8. */
size_t word_end(const struct tokenizer *t, struct span s, size_t i);
/* Appends the text of n ids, without the space that encode() put before it. -1 when an id is
 * outside the vocabulary. */
int decode(const struct tokenizer *t, const int32_t *ids, size_t n, struct buffer *text,
           struct error *e);
/* Bytes and code point of the character at the start of a text, which is not empty; 0 bytes when
 * what stands there is not UTF-8. */
size_t character(struct span s, uint32_t *code);
/* Bytes at the start of `text` that end with a whole character: what a stream may print. */
size_t whole_characters(struct span text);

#endif
