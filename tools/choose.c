/* The beginning of lape-x86-64, which holds the program three times: compiled for any x86-64, for
 * those with AVX2 and fma, and for those with AVX-512. The bits of its results are the same; the
 * machine that it starts on decides for the fastest.
 */
int main_v1(int argc, char **argv);
int main_v3(int argc, char **argv);
int main_v4(int argc, char **argv);

/* What compilers take x86-64-v3 and x86-64-v4 to have and processors have one without the other. */
static int has_v3(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

static int has_v4(void) {
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}

int main(int argc, char **argv) {
    return has_v4() ? main_v4(argc, argv) : has_v3() ? main_v3(argc, argv) : main_v1(argc, argv);
}
