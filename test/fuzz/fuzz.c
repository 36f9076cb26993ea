/* Every reader of the program over arbitrary bytes.
 *
 *     build/fuzz/fuzz --target=NAME CORPUS    with libFuzzer, which run.py does for all of them
 *     build/fuzz/replay NAME FILE...          without: each file once
 *
 * A target is a function over an input. One source, since most of what they call is static in
 * lape.c.
 */
#define main lape_main
#include "../../lape.c"
#undef main

#include "fuzz.h"

#include "files.h"
#include "models.h"

#include "tokenizers.h"

#include "texts.h"

enum { KB = 1 << 10, MB = 1 << 20 };
/* clang-format off */
static const struct target {
    const char *name;
    void (*run)(struct span input);
    size_t free_bytes;     /* memory that an input of any size may take */
    void (*prepare)(void); /* what inputs share; NULL: nothing */
} target_table[] = {
    {"model", try_model, 32 * MB, NULL},
    {"split", try_split, 32 * MB, NULL},
    {"counts", try_counts, 6 * MB, NULL},
    {"partial", try_partial, 6 * MB, NULL},
    {"neurons", try_neurons, 600 * KB, NULL},
    {"ids", try_ids, 300 * KB, NULL},
    {"text", try_text, 300 * KB, make_tokenizers},
    {"encode", try_encode, 300 * KB, make_tokenizers},
    {"vocabulary", try_vocabulary, 8 * MB, NULL},
};
/* clang-format on */
enum { TARGETS = sizeof target_table / sizeof *target_table };

static const struct target *target;

static void choose_target(const char *name) {
    for (int i = 0; name && i < TARGETS; i++)
        if (strcmp(name, target_table[i].name) == 0) target = &target_table[i];
    if (!target) end(USAGE, "no target is called %s", name ? name : "nothing");
    if (target->prepare) target->prepare();
    stdin_is_empty();
}

#ifdef FUZZ_REPLAY
int main(int argc, char **argv) {
    struct error e;
    choose_target(argc > 1 ? argv[1] : NULL);
    for (int i = 2; i < argc; i++) {
        struct span file;
        must(map_file(argv[i], &file, &e), NULL, &e);
        fprintf(stderr, "%s\n", argv[i]);
        contained(target->run, file, target->free_bytes);
        munmap((void *)file.at, file.n);
    }
    return DONE;
}
#else
#include "mutate.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    const char *name = NULL;
    for (int i = 1; i < *argc; i++)
        if (strncmp((*argv)[i], "--target=", 9) == 0) name = (*argv)[i] + 9;
    choose_target(name);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n) {
    contained(target->run, (struct span){(const char *)at, n}, target->free_bytes);
    return 0;
}
#endif
