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

static const struct target {
    const char *name;
    void (*run)(struct span input);
    void (*prepare)(void); /* what inputs share; NULL: nothing */
} target_table[] = {
    {"model", try_model, NULL},           {"split", try_split, NULL},
    {"counts", try_counts, NULL},         {"partial", try_partial, NULL},
    {"neurons", try_neurons, NULL},       {"ids", try_ids, NULL},
    {"text", try_text, make_tokenizers},  {"encode", try_encode, make_tokenizers},
    {"vocabulary", try_vocabulary, NULL},
};
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
        contained(target->run, file);
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
    contained(target->run, (struct span){(const char *)at, n});
    return 0;
}
#endif
