/* What test/coverage.py includes before all else in what it builds: that the counts of gcov are
 * written when a program ends by a signal or _exit, too, and whole, whatever is the limit of files
 * that it was given; where that cannot be lifted, not at all, and without a word. The C library's
 * functions have other names here, since its headers come later.
 */
void __gcov_dump(void);
int limit_of(int what, const unsigned long limit[2]) __asm__("setrlimit");
int set_name(const char *name, const char *value, int overwrite) __asm__("setenv");
int shut(int file) __asm__("close");
int own_raise(int number) __asm__("raise");
_Noreturn void own_exit(int status) __asm__("_exit");

__attribute__((weak, destructor)) void lift_limit(void) {
    const unsigned long none[] = {-1ul, -1ul};
    if (limit_of(1, none) != 0) set_name("GCOV_PREFIX", "/dev/null", 1), shut(2); /* RLIMIT_FSIZE */
}

__attribute__((weak)) int dump_raise(int number) {
    lift_limit(), __gcov_dump();
    return own_raise(number);
}

__attribute__((weak, noreturn)) void dump_exit(int status) {
    lift_limit(), __gcov_dump();
    own_exit(status);
}

#define raise dump_raise
#define _exit dump_exit
