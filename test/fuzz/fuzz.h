/* What the targets of fuzzing share: each is a function over the bytes of a file. */
#ifndef FUZZ_H
#define FUZZ_H

#include "lape.h"

#include <setjmp.h>

/* ---- memory.c: what the program asks the C library for, while a target runs --------------------
 *
 * Compiled with -Dmalloc=fuzz_malloc and so on, see the Makefile. What a target leaves behind when
 * the program "ends" is freed; a file is mapped as a block of its very size, so that a sanitizer
 * sees a read past its end; and memory out of proportion to the input is a finding.
 */
/* Runs target(input); the status that the program ended with, 0 when it did not. So many bytes may
 * be asked for whatever the input: tables and buffers of constant size, kernels' panels. */
int contained(void (*target)(struct span input), struct span input, size_t free_bytes);

/* A finding: says what is wrong, and aborts. */
_Noreturn void found(const char *format, ...);
#define EXPECT(good, ...)                                                                          \
    do {                                                                                           \
        if (!(good)) found(__VA_ARGS__);                                                           \
    } while (0)

/* Writes a file of that name into this process's own folder; its path, which stays valid. */
const char *as_file(const char *name, struct span bytes);

/* Takes `n` bytes, or as many as there are, from the front of the input. */
static inline struct span take_front(struct span *input, size_t n) {
    const struct span front = {input->at, n < input->n ? n : input->n};
    input->at += front.n;
    input->n -= front.n;
    return front;
}

static inline unsigned take_byte(struct span *input) {
    const struct span one = take_front(input, 1);
    return one.n ? (unsigned char)*one.at : 0;
}

#endif
