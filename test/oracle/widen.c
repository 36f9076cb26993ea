/* Writes the numbers of every tensor of a GGUF file to standard output, in the file's order, as
 * lape widens them: float32, little-endian. For blocks.py.
 *
 *     widen FILE.gguf
 */
#include "../../model.c"

static int refuse(const char *what) {
    fprintf(stderr, "widen: %s\n", what);
    return EXIT_FAILURE;
}

static void write_row(const struct matrix *m, int row, real *numbers, char *bytes) {
    widen(numbers, m, row, 0, m->columns);
    for (int i = 0; i < m->columns; i++) {
        const uint32_t bits = bits_of_float((float)numbers[i]);
        for (int b = 0; b < 4; b++) bytes[4 * i + b] = (char)(bits >> 8 * b);
    }
    fwrite(bytes, 4, (size_t)m->columns, stdout);
}

int main(int argc, char **argv) {
    struct error e;
    struct gguf g;
    if (argc != 2) return refuse("usage: widen FILE.gguf");
    if (gguf_open(&g, argv[1], &e)) return refuse(e.text);
    for (size_t i = 0; i < g.tensors; i++) {
        const struct tensor *t = &g.tensor[i];
        const uint64_t rows = t->dim[1] * t->dim[2] * t->dim[3];
        if (!is_weights(t->type) || t->dim[0] > INT_MAX / 4 || rows > INT_MAX)
            return refuse("a tensor of a type that is not read, or too large");
        const struct matrix m = {t->data.at, t->type, (int)rows, (int)t->dim[0], t->data.n / rows};
        real *numbers = new_array(t->dim[0], sizeof *numbers);
        char *bytes = new_array(t->dim[0], 4);
        for (int row = 0; row < m.rows; row++) write_row(&m, row, numbers, bytes);
        free(numbers);
        free(bytes);
    }
    gguf_close(&g);
    return fflush(stdout) ? refuse("cannot write") : EXIT_SUCCESS;
}
