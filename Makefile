# lape: make, make demo, make test. Needs a C compiler, make and python3 (for tests).
CC      = cc
NATIVE := $(shell $(CC) -march=native -E -x c /dev/null -o /dev/null 2>/dev/null && echo -march=native)
CFLAGS  = -O3 $(NATIVE)

# What the bits depend on: nothing may be fused or reordered but what is written so.
STRICT  = -std=c11 -ffp-contract=off
WARN    = -Wall -Wextra -Wpedantic
LIBS    = -lm -lpthread
ifdef OPENMP
STRICT += -fopenmp
endif
COMPILE = $(CC) $(CFLAGS) $(STRICT) $(WARN)
SOURCES = lape.c model.c tokenizer.c

lape: $(SOURCES) lape.h build/compile
	$(COMPILE) -o $@ $(SOURCES) $(LIBS)

# Changes when the compiler or its flags do, and so has everything built anew.
build/compile: force
	@mkdir -p build
	@echo '$(COMPILE)' | cmp -s - $@ || echo '$(COMPILE)' > $@

clean:
	rm -rf lape build

.PHONY: clean force
