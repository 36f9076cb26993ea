# lape: `make`, `make demo`, `make test` need a C compiler, make, and python3 for the tests. Both
# GNU's make, from 4.0, and the BSDs' (bmake) read this.
CC      = cc
NATIVE != $(CC) -march=native -E -x c /dev/null -o /dev/null 2>/dev/null && echo -march=native || :
CFLAGS  = -O3 $(NATIVE)

# What the bits depend on: nothing is fused or reordered but what is written so.
STRICT  = -std=c11 -ffp-contract=off $(OPENMP:%=-fopenmp)
WARN    = -Wall -Wextra -Wpedantic
LIBS    = -lm -lpthread
COMPILE = $(CC) $(CFLAGS) $(STRICT) $(WARN) -I.
SOURCES = lape.c model.c tokenizer.c base.c
HEADERS = lape.h unicode.h
TESTS   = build/test_model build/test_blocks build/test_gguf build/test_tokenizer build/test_lape
PYTHON  = .venv/bin/python
# What does without libraries, or uses those that are there
ANY    != test -x $(PYTHON) && echo $(PYTHON) || echo python3

# lape; the loops that define its numbers; and the same in double precision
lape: $(SOURCES) $(HEADERS) build/compile
	$(COMPILE) -o $@ $(SOURCES) $(LIBS)
lape-spec: $(SOURCES) $(HEADERS) build/compile
	$(COMPILE) -DLAPE_SPEC -o $@ $(SOURCES) $(LIBS)
lape64: $(SOURCES) $(HEADERS) build/compile
	$(COMPILE) -DLAPE_REAL64 -o $@ $(SOURCES) $(LIBS)
spec: lape-spec

# One for every x86-64 machine, as a package wants it: see tools/choose.c. Wants GNU's objcopy.
lape-x86-64: tools/choose.c $(SOURCES) $(HEADERS) build/compile
	set -e; for v in v1:x86-64 v3:x86-64-v3 v4:x86-64-v4; do name=$${v%:*}; \
		$(COMPILE) -march=$${v#*:} -Dmain=main_$$name -r -nostdlib -o build/$$name.o $(SOURCES); \
		objcopy --keep-global-symbol=main_$$name build/$$name.o; \
	done
	$(COMPILE) -march=x86-64 -o $@ tools/choose.c build/v1.o build/v3.o build/v4.o $(LIBS)

# Changes when the compiler or its flags do; everything is built anew then.
build/compile: force
	@mkdir -p build
	@echo '$(COMPILE)' | cmp -s - $@ || echo '$(COMPILE)' > $@
force:

# The program, and of what it says of itself a man page and what completes its commands in bash and zsh;
# without python3, the program alone. DESTDIR goes before all of it.
PREFIX  = /usr/local
BIN     = $(DESTDIR)$(PREFIX)/bin
MAN     = $(DESTDIR)$(PREFIX)/share/man/man1
BASH_C  = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSH_C   = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
manual: lape
	@python3 tools/manual.py build
install: lape
	install -d "$(BIN)"
	install -m 755 lape "$(BIN)/lape"
	@if ! command -v python3 >/dev/null; then \
		echo "no python3: the man page and the completions are left out"; \
	else set -ex; \
		python3 tools/manual.py build; \
		install -d "$(MAN)" "$(BASH_C)" "$(ZSH_C)"; \
		install -m 644 build/lape.1 "$(MAN)/lape.1"; \
		install -m 644 build/lape.bash "$(BASH_C)/lape"; \
		install -m 644 build/_lape "$(ZSH_C)/_lape"; \
	fi
uninstall:
	rm -f "$(BIN)/lape" "$(MAN)/lape.1" "$(BASH_C)/lape" "$(ZSH_C)/_lape"

demo: lape
	@demo/run.sh ./lape

# The whole method on a real model, MODEL=FILE.gguf, at the paper's rates: demo/out/NAME/.
real: lape
	@[ "$(MODEL)" ] || { echo "which model? make real MODEL=FILE.gguf" >&2; exit 1; }
	@$(ANY) tools/real.py $(MODEL) $(TOKENS:%=--tokens %)
# The same on Gemma 3 270M, which PyPI has, or on FILE. What was fetched outlives `make clean`.
# TOKENS=N: of each text, at most that many, for a first look.
GEMMA = .models/gemma-3-270m-q4_k_m.gguf
gemma: lape
	@[ "$(FILE)" ] || $(ANY) tools/fetch.py -o $(GEMMA)
	@file="$(FILE)"; $(ANY) tools/real.py "$${file:-$(GEMMA)}" $(TOKENS:%=--tokens %)

# Every experiment on the demo model: demo/out/REPORT.md, with pictures where matplotlib is. WRITE=FILE
# puts the results between FILE's marks, and the pictures into demo/pictures/. With MODEL=FILE.gguf, on
# a real one, in hours: demo/out/NAME/REPORT.md; given again, it goes on where it was.
reproduce: lape
	@$(ANY) tools/reproduce.py $(MODEL:%=--real %) $(WRITE:%=--write %)

# The same on the texts of TEXTS, LANG.train.txt and LANG.valid.txt; demo/MODEL.md has what came of it.
LAPE_SHARED ?= ../shared
TEXTS = $(LAPE_SHARED)/text
card: lape
	@python3 tools/reproduce.py --texts $(TEXTS) $(WRITE:%=--write %)

# Each test includes the file it tests, so that it reaches what is static there.
build/test_model: test/test_model.c
build/test_blocks: test/test_blocks.c
build/test_model build/test_blocks: model.c base.c lape.h test/check.h test/products.h build/compile
	$(COMPILE) -o $@ test/$(@F).c base.c $(LIBS)
build/test_gguf: test/test_gguf.c model.c base.c lape.h build/compile
	$(COMPILE) -o $@ test/test_gguf.c model.c base.c $(LIBS)
build/test_tokenizer: test/test_tokenizer.c
build/test_lape: test/test_lape.c
build/test_tokenizer build/test_lape: $(SOURCES) $(HEADERS) test/check.h build/compile
	$(COMPILE) -o $@ test/$(@F).c model.c tokenizer.c base.c $(LIBS)

build/widen: test/oracle/widen.c model.c base.c lape.h build/compile
	$(COMPILE) -o $@ test/oracle/widen.c base.c $(LIBS)
build/bench: test/bench/bench.c $(SOURCES) $(HEADERS) build/compile
	$(COMPILE) -o $@ test/bench/bench.c tokenizer.c base.c $(LIBS)

# Of the program, and of the tools around it
PROGRAM = test/test_cli.py test/test_outputs.py test/test_diff.py test/test_quantised.py \
	test/test_split.py test/test_fields.py test/test_fields_tokenizer.py test/test_methods.py \
	test/test_golden.py test/test_bench.py test/test_lines.py test/test_ablation.py test/test_numbers.py \
	test/fuzz/test_replay.py
TOOLS   = test/test_convert.py test/test_hostile_convert.py test/test_tensors.py \
	test/test_fields_convert.py test/test_experiments.py test/test_real.py test/test_doc.py \
	test/test_build.py test/exercises/run.py
test: lape $(TESTS) build/bench build/fuzz/replay
	@test/run.sh $(TESTS) $(PROGRAM) $(TOOLS)
test-program: lape $(TESTS) build/bench build/fuzz/replay
	@test/run.sh $(TESTS) $(PROGRAM)

# Whether each of test/exercises/ fails before and passes after its solution; one's test, N=3, on ./lape.
exercises:
	@python3 test/exercises/run.py
exercise: lape
	@test=`echo test/exercises/$(N)-*/test.py`; [ -f $$test ] || \
		{ echo "which one? make exercise N=3" >&2; exit 1; }; python3 $$test

# demo, test, install on a bare Debian: gcc, make, python3, warnings being errors. Root, debootstrap.
bare:
	@test/builds/bare.sh $(SUITE)

# Against transformers, tokenizers, sentencepiece and PyTorch, which are installed into .venv.
# Quantised models are held against gguf where LAPE_REAL (../shared/real:.models) has some.
oracle: lape lape64 build/widen $(PYTHON)
	$(PYTHON) test/oracle/commands.py
	$(PYTHON) test/oracle/blocks.py
	$(PYTHON) test/oracle/tokenizing.py
	$(PYTHON) test/oracle/family_models.py --tokenizers
	$(PYTHON) test/oracle/torch_files.py
	$(PYTHON) test/oracle/test_plot.py
	$(PYTHON) test/test_tensors.py
# Published models, where LAPE_REAL (../shared/real:.models) has them.
oracle-real: lape $(PYTHON)
	$(PYTHON) test/oracle/published_models.py
tokenizers: lape $(PYTHON)
	$(PYTHON) test/oracle/vocab_merges.py
	$(PYTHON) test/oracle/tokenizing.py
# Against llama.cpp, which is compiled for it, into .peers: some minutes more.
# Published models are run where LAPE_REAL (../shared/real:.models) has them.
peers: lape .peers/bin/python
	.peers/bin/python test/oracle/peer_families.py
	.peers/bin/python test/oracle/peer_types.py
	.peers/bin/python test/oracle/peer_vocabularies.py
	.peers/bin/python test/oracle/peer_published.py
# How quantisation moves the selection; WRITE=1 puts the table into demo/MODEL.md.
quantised: lape .peers/bin/python
	.peers/bin/python test/oracle/quantised_selection.py $(WRITE:%=--write)
.peers/bin/python: test/oracle/peers.txt test/oracle/requirements.txt
	python3 -m venv .peers
	$@ -m pip install -q --disable-pip-version-check -r test/oracle/peers.txt
	$@ -m pip download -q --disable-pip-version-check --no-deps --no-binary llama-cpp-python \
		-d .peers `grep llama-cpp-python= test/oracle/peers.txt`
	tar xzf .peers/llama_cpp_python-*.tar.gz -C .peers
	rm -rf .peers/llama.cpp
	mv .peers/llama_cpp_python-*/vendor/llama.cpp .peers/llama.cpp
	rm -r .peers/llama_cpp_python-*
	@touch $@
golden: $(PYTHON)
	$(PYTHON) test/oracle/commands.py golden
golden-blocks: $(PYTHON)
	$(PYTHON) test/oracle/blocks.py golden
$(PYTHON): test/oracle/requirements.txt
	python3 -m venv .venv
	$(PYTHON) -m pip install -q --disable-pip-version-check -r test/oracle/requirements.txt
	@touch $@

# tools/train.py: its parts, repeated and resumed runs, and one of MINUTES whose model lape analyses.
MINUTES = 3
train-test: lape $(PYTHON)
	$(PYTHON) test/oracle/test_train.py --minutes $(MINUTES)

# The same bits from every build: compilers, levels, machines. See test/builds/identical.py.
identical: lape
	python3 test/builds/identical.py
	python3 test/builds/test_broken.py
# Its builds, each a file TO of its own.
TO = build/identical/lape
identical-lape:
	@mkdir -p build/identical
	$(COMPILE) -o $(TO) $(SOURCES) $(LIBS)
identical-prompt:
	@mkdir -p build/identical
	$(COMPILE) -o $(TO) test/builds/prompt.c model.c base.c $(LIBS)

# No warning, and the C tests pass: other compilers, machines, systems. QUICK=1: on this machine alone.
portable:
	@python3 test/builds/portable.py $(QUICK:%=--quick)
# What analyzers say of the C, against test/builds/analyze.tsv.
analyze:
	@python3 test/builds/analyze.py
# Under sanitizers and valgrind; QUICK=1: some minutes of it.
sanitize: lape build/inject/fail.so
	@python3 test/builds/sanitize.py $(QUICK:%=--quick)

# Every reader over arbitrary bytes, SECONDS each, with clang's libFuzzer. See test/fuzz/run.py.
SECONDS = 60
WRAPPED = -Dmalloc=fuzz_malloc -Dcalloc=fuzz_calloc -Drealloc=fuzz_realloc -Dfree=fuzz_free \
	-Daligned_alloc=fuzz_aligned_alloc -Dmmap=fuzz_mmap -Dmunmap=fuzz_munmap \
	-Dopen=fuzz_open -Dclose=fuzz_close -Dexit=fuzz_exit
FUZZ    = $(STRICT) $(WARN) -I. $(WRAPPED) -o $@ test/fuzz/fuzz.c test/fuzz/memory.c \
	model.c tokenizer.c base.c $(LIBS)
fuzz: build/fuzz/fuzz
	@python3 test/fuzz/run.py --seconds $(SECONDS) $(TARGET)
# tools/convert.py over checkpoints that were changed at random.
fuzz-convert: lape
	@python3 test/fuzz/convert.py --seconds $(SECONDS)
build/fuzz/fuzz: test/fuzz/*.[ch] $(SOURCES) $(HEADERS) build/compile
	@mkdir -p build/fuzz
	clang -O2 -g $(NATIVE) -fsanitize=fuzzer,address,undefined,float-cast-overflow \
		-fno-sanitize-recover=all $(FUZZ)
build/fuzz/replay: test/fuzz/*.[ch] $(SOURCES) $(HEADERS) build/compile
	@mkdir -p build/fuzz
	$(CC) $(CFLAGS) -DFUZZ_REPLAY $(FUZZ)

# Every call of the C library failing, and what goes wrong around the program; QUICK=1: a sample, in
# a minute or two. Wants glibc.
inject: lape build/inject/fail.so
	@status=0; for test in inject surroundings moments opened; do \
		python3 test/inject/$$test.py $(QUICK:%=--quick) || status=1; \
	done; exit $$status
build/inject/fail.so: test/inject/fail.c build/compile
	@mkdir -p build/inject
	$(CC) -std=gnu11 -O2 $(WARN) -fPIC -shared -fno-builtin -o $@ test/inject/fail.c

# Which lines and branches of the C the tests reach, by gcov. QUICK=1: a third of it.
coverage:
	@python3 test/coverage.py $(QUICK:%=--quick)

# Small faults in the C, N of them drawn by SEED, one at a time: the tests have to notice. QUICK=1: 20,
# by the quickest tests.
mutants: lape
	@python3 test/mutants.py $(QUICK:%=--quick) $(N:%=--n %) $(SEED:%=--seed %)

# Shards counted by GNU parallel and by Slurm, where they are installed.
scale-test: lape
	python3 test/builds/test_scale.py

# Beside OpenBLAS, transformers, llama.cpp (after `make peers`), sentencepiece and tokenizers.
bench: lape build/bench $(PYTHON)
	$(PYTHON) test/bench/bench.py $(BENCH)

# The distance of float from double. Wants numpy.
precision: lape lape64
	@$(ANY) test/builds/precision.py

format:
	clang-format -i *.[ch] test/*.[ch] test/*/*.[ch] tools/*.c

clean:
	rm -rf lape lape-spec lape64 lape-x86-64 build demo/out

.PHONY: spec manual install uninstall demo real gemma reproduce card test test-program exercises \
	exercise bare oracle oracle-real golden golden-blocks identical identical-lape identical-prompt \
	portable analyze sanitize coverage mutants fuzz fuzz-convert inject precision tokenizers peers \
	quantised train-test scale-test bench format clean force
