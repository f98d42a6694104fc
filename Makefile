# Makefile - `make` builds build/tug; `make check` builds and runs the quick tests.
# One build tree per configuration, no configure step.  Needs: a C11 compiler,
# pkg-config, PCRE2, utf8proc, libedit, libmicrohttpd; cmocka for the tests (./dev installs them).
#
#   make                     optimised binary            build/tug
#   make cuda                the GPU kernels (nvcc; CUDA_ARCHS="86 120" for some only)
#   make emu                 the emulated CUDA driver of the tests
#   make bench               benchmarks                 build/bench/*
#   make check               unit, kernel, golden tests  build/tests/*
#   make SAN=asan ...        ASan + UBSan                build-asan/
#   make SAN=tsan ...        TSan                        build-tsan/
#   make SAN=fuzz CC=clang fuzz   libFuzzer targets      build-fuzz/tests/fuzz/*
#   make V=1                 show the commands

SAN ?=
B   := build$(if $(SAN),-$(SAN))
V   ?= 0
Q   := $(if $(filter 1,$(V)),,@)

OPT_        := -O3 -g
OPT_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_tsan    := -O1 -g -fsanitize=thread
OPT_fuzz    := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
LDSAN_asan  := -fsanitize=address,undefined
LDSAN_tsan  := -fsanitize=thread

# ./dev clears it outside of CI: a compiler newer than ours may warn of new things.
WERROR ?= -Werror
WARN := -std=c11 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
        -Wmissing-prototypes -Wpointer-arith -Wcast-qual -Wundef -Wvla $(WERROR)
PKGS := libpcre2-8 libutf8proc libedit libmicrohttpd
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS))
PKG_LIBS   := $(shell pkg-config --libs $(PKGS))

# No -ffast-math, not even at link time: it turns on FTZ/DAZ for the process and breaks
# isnan().  Contraction is off in the specification kernels only.
FLAGS = $(WARN) $(OPT_$(SAN)) -D_GNU_SOURCE -Isrc -Iinclude $(PKG_CFLAGS) \
        -fno-math-errno -fno-trapping-math -fvisibility=hidden -MMD -MP $(CFLAGS)
LIBS  = $(PKG_LIBS) -lm -lpthread

LIB_SRC := $(sort $(shell find src -name '*.c' -not -path 'src/cli/*'))
# Another processor gets the kernels of level ref only (docs/KERNELS.md).
ifeq ($(filter x86_64%,$(shell $(CC) -dumpmachine)),)
LIB_SRC := $(filter-out src/kernels/cpu/x86/%,$(LIB_SRC))
endif
ifeq ($(SAN),fuzz)
# Fuzz targets feed readers; clang needs minutes for a wide kernel under the sanitizers.
LIB_SRC := $(filter-out src/kernels/% src/backend/% src/model/% src/engine/%,$(LIB_SRC))
endif
CLI_SRC := $(sort $(wildcard src/cli/*.c))
# The page of the server and its OpenAPI document are linked in; their C is generated.
PAGE    := $(B)/src/serve/page/page_data
OPENAPI := $(B)/src/serve/openapi_data
# The GPU kernels, for every kind of GPU that CUDA_ARCHS names and as PTX for later ones, are
# linked in where there is an nvcc.  Without one, or with `make NVCC=`, tug runs on the CPU only.
CUDA_SRC   := $(sort $(wildcard src/kernels/cuda/*.cu))
CUDA_ARCHS ?= 80 86 89 90 120
NVCC       ?= $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc))
IMAGES     := $(B)/src/cuda/images
FATBINS    := $(if $(SAN),,$(if $(NVCC),$(CUDA_SRC:%.cu=$(B)/%.fatbin)))
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o) $(PAGE).o $(OPENAPI).o $(IMAGES).o
CLI_OBJ := $(CLI_SRC:%.c=$(B)/%.o)

# A test program is tests/<area>/test_<name>.c; it links the library, cmocka, and the
# helpers tests/<area>/*.c that are not tests themselves.
TEST_SRC  := $(sort $(wildcard tests/*/test_*.c))
TESTS     := $(TEST_SRC:tests/%.c=$(B)/tests/%)
# Programs that tests drive from outside.
PROG_SRC  := tests/serve/http_echo.c
PROGS     := $(PROG_SRC:%.c=$(B)/%)
HELP_SRC  := $(filter-out $(TEST_SRC) $(PROG_SRC) $(wildcard tests/*/fuzz_*.c),$(sort $(wildcard tests/*/*.c)))
# The emulated driver runs the kernels that were compiled with it, but asks for an image.
ifneq ($(FATBINS),)
HELP_SRC  := $(filter-out tests/cuda/no_images.c,$(HELP_SRC))
endif
HELP_OBJ  := $(HELP_SRC:%.c=$(B)/%.o)

# The emulated CUDA driver: the kernels compiled for the host (docs/CUDA.md).  `plain` is what
# the tests in tests/cuda find; `race` looks for races and for memory that was never written.
CXX       ?= g++
# TSan watches the host's side only: its emulator is the plain one.
EMU_B     := $(if $(filter tsan,$(SAN)),build,$(B))
EMU       := $(EMU_B)/tests/cuda_emu
EMU_SRC   := $(filter-out %/race.cc %/no_race.cc,$(sort $(wildcard tests/cuda_emu/*.cc)))
EMU_CU    := $(CUDA_SRC) tests/cuda_emu/selftest.cu
EMU_PLAIN := $(EMU_SRC:%.cc=$(EMU_B)/%.o) $(EMU)/no_race.o $(EMU_CU:%.cu=$(EMU)/%.o)
EMU_RACE  := $(EMU_SRC:%.cc=$(EMU_B)/%.o) $(EMU)/race.o $(EMU_CU:%.cu=$(EMU)/race/%.o)
CUDA_TESTS := $(filter $(B)/tests/cuda/%,$(TESTS))
CPU_TESTS  := $(filter-out $(CUDA_TESTS),$(TESTS))
# Threads that wait for each other by spinning want the processors for themselves.
SPINNING   := $(B)/tests/golden/test_golden
KERNEL_TESTS := $(filter %/test_emu $(B)/tests/cuda/test_cuda_%,$(TESTS))

# A benchmark is bench/bench_<name>.c; other bench/*.c are linked into every one.
BENCH_SRC := $(sort $(wildcard bench/bench_*.c))
BENCHES   := $(BENCH_SRC:%.c=$(B)/%)
BENCH_OBJ := $(patsubst %.c,$(B)/%.o,$(filter-out $(BENCH_SRC),$(sort $(wildcard bench/*.c))))

all: $(B)/tug

$(B)/%_avx2.o:   FLAGS += -mavx2 -mfma -mf16c -mbmi2
$(B)/%_avx512.o: FLAGS += -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c -mbmi2
$(B)/src/kernels/cpu/ref/%.o: FLAGS += -ffp-contract=off
$(B)/src/quant/%.o: FLAGS += -ffp-contract=off
# The same bytes from every compiler and processor.
$(B)/src/synth/%.o: FLAGS += -ffp-contract=off
$(B)/tests/%.o: FLAGS += -Wno-pedantic -Itests
$(B)/bench/%.o: FLAGS += -I.

$(B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) $(FLAGS) -c $< -o $@

$(PAGE).c: src/serve/page/index.html tools/embed_page.sh
	@mkdir -p $(@D)
	@echo "  GEN  $@"
	$(Q)sh tools/embed_page.sh $< > $@.part && mv $@.part $@

$(OPENAPI).c: src/serve/openapi.json tools/embed_file.sh
	@mkdir -p $(@D)
	@echo "  GEN  $@"
	$(Q)sh tools/embed_file.sh $< serve/openapi.h tug_openapi_json > $@.part && mv $@.part $@

$(PAGE).o $(OPENAPI).o: %.o: %.c
	@echo "  CC   $<"
	$(Q)$(CC) $(FLAGS) -c $< -o $@

# ---- GPU kernels ----

GENCODE := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
           -gencode arch=compute_$(firstword $(CUDA_ARCHS)),code=compute_$(firstword $(CUDA_ARCHS))

$(B)/%.fatbin: %.cu
	@mkdir -p $(@D)
	@echo "  NVCC $<"
	$(Q)$(NVCC) -std=c++17 -O3 -Isrc -MMD -MF $(@:.fatbin=.d) -Xptxas -v $(GENCODE) -fatbin -o $@ $< \
	    2>$(@:.fatbin=.ptxas) || { cat $(@:.fatbin=.ptxas) >&2; rm -f $@; exit 1; }
	$(Q)grep -i warning $(@:.fatbin=.ptxas) >&2 || true

$(IMAGES).S: $(FATBINS) tools/embed_fatbins.sh
	@mkdir -p $(@D)
	$(Q)sh tools/embed_fatbins.sh $(FATBINS) > $@.part && mv $@.part $@

$(IMAGES).o: $(IMAGES).S
	@echo "  AS   $<"
	$(Q)$(CC) -c $< -o $@

# What it prints is a test: no kernel spills, and the images are not larger than they may be.
cuda: $(FATBINS)
	$(Q)$(if $(FATBINS),sh tools/cuda-resources.sh --check $(B)/src/kernels/cuda,echo "skip: there is no nvcc")

EMU_FLAGS := -std=c++17 -Wall -Wno-unknown-pragmas $(if $(filter asan,$(SAN)),$(OPT_asan),-O2 -g) \
             -ffp-contract=off -fPIC -fvisibility=hidden -DTUG_CUDA_EMU -Isrc -Iinclude -Itests -MMD -MP
# A third of the emulated time was fmaf() as a call.  What it gives is the same to the last bit.
$(EMU_PLAIN): EMU_FLAGS += -march=native
$(EMU)/%.o: tests/cuda_emu/%.cc
	@mkdir -p $(@D)
	@echo "  CXX  $<"
	$(Q)$(CXX) $(EMU_FLAGS) -c $< -o $@

$(EMU)/%.o: %.cu
	@mkdir -p $(@D)
	@echo "  CXX  $<"
	$(Q)$(CXX) $(EMU_FLAGS) -x c++ -c $< -o $@

$(EMU)/race/%.o: %.cu
	@mkdir -p $(@D)
	@echo "  CXX  $< (races)"
	$(Q)$(CXX) $(EMU_FLAGS) -O1 -fsanitize=thread -x c++ -c $< -o $@

$(EMU)/libcuda.so.1: $(EMU_PLAIN)
	@echo "  LD   $@"
	$(Q)$(CXX) $(LDSAN_$(filter asan,$(SAN))) -shared -Wl,-z,nodelete -o $@ $^

$(EMU)/race/libcuda.so.1: $(EMU_RACE)
	@mkdir -p $(@D)
	@echo "  LD   $@"
	$(Q)$(CXX) -shared -Wl,-z,nodelete -o $@ $^

# What its GPU tells of power and PCIe.
$(EMU)/libnvidia-ml.so.1: tests/cuda_emu/nvml/nvml.c
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) $(FLAGS) $(if $(filter tsan,$(SAN)),-fno-sanitize=thread) -Wno-missing-prototypes -fPIC -shared -o $@ $<

$(CUDA_TESTS): LDFLAGS += -Wl,-rpath,'$$ORIGIN/../$(if $(filter tsan,$(SAN)),../../$(EMU),cuda_emu)'
# REAL_DRIVER=1: a machine with a GPU does without the emulated one (tools/gpu-check.sh).
$(CUDA_TESTS): $(if $(REAL_DRIVER),,| $(EMU)/libcuda.so.1 $(EMU)/libnvidia-ml.so.1)

# ---- the library and the command ----

$(B)/libtug.a: $(LIB_OBJ)
	@echo "  AR   $@"
	$(Q)rm -f $@ && $(AR) rcs $@ $(LIB_OBJ)

$(B)/tug: $(CLI_OBJ) $(B)/libtug.a
	@echo "  LD   $@"
	$(Q)$(CC) $(LDSAN_$(SAN)) $(LDFLAGS) -o $@ $(CLI_OBJ) $(B)/libtug.a $(LIBS)

$(B)/tests/%: $(B)/tests/%.o $(HELP_OBJ) $(B)/libtug.a
	@echo "  LD   $@"
	$(Q)$(CC) $(LDSAN_$(SAN)) $(LDFLAGS) -o $@ $(filter %.o,$^) $(B)/libtug.a $(LIBS) -lcmocka

# The library does not hold what only the commands need.
$(B)/tests/unit/test_client_config: $(B)/src/cli/client_config.o

# The same program with `tug serve --script FILE`: answers from a file, for tests of clients.
$(B)/tests/script_on.o: src/serve/script.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(FLAGS) -DTUG_SCRIPTED -c $< -o $@

$(B)/tests/tug-scripted: $(CLI_OBJ) $(B)/tests/script_on.o $(B)/libtug.a
	@echo "  LD   $@"
	$(Q)$(CC) $(LDSAN_$(SAN)) $(LDFLAGS) -o $@ $^ $(LIBS)

# ... and with GPU kernels that the emulated driver accepts, where nvcc made none.
$(B)/tests/tug-gpu: $(CLI_OBJ) $(if $(FATBINS),,$(B)/tests/cuda/no_images.o) $(B)/libtug.a
	@echo "  LD   $@"
	$(Q)$(CC) $(LDSAN_$(SAN)) $(LDFLAGS) -o $@ $^ $(LIBS)

# A fuzz target is tests/fuzz/fuzz_<name>.c; run it with a folder for its corpus.
FUZZERS  := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_OBJ := $(patsubst %.c,$(B)/%.o,$(filter-out $(TEST_SRC),$(wildcard tests/support/*.c tests/fault/*.c)))

$(FUZZERS): $(B)/%: $(B)/%.o $(FUZZ_OBJ) $(B)/libtug.a
	@echo "  LD   $@"
	$(Q)$(CC) -fsanitize=fuzzer,address,undefined $(LDFLAGS) -o $@ $(filter %.o,$^) $(B)/libtug.a $(LIBS)

$(B)/bench/%: $(B)/bench/%.o $(BENCH_OBJ) $(B)/libtug.a
	@echo "  LD   $@"
	$(Q)$(CC) $(LDSAN_$(SAN)) $(LDFLAGS) -o $@ $(filter %.o,$^) $(B)/libtug.a $(LIBS)

# Where nvcc made no kernels it can still run on the emulated driver.
$(B)/bench/bench_cuda: $(if $(FATBINS),,$(B)/tests/cuda/no_images.o)

# It times the chunked delta rule of the tests against the recurrence.
$(B)/bench/bench_rows: $(B)/tests/kernels/delta_chunked.o

tests: $(CPU_TESTS) $(PROGS) $(B)/tug $(B)/tests/tug-scripted
gpu-tests: $(CUDA_TESTS) $(if $(REAL_DRIVER),,emu $(B)/tests/tug-gpu) $(B)/tug
bench: $(BENCHES)
fuzz: $(FUZZERS)
emu: $(EMU)/libnvidia-ml.so.1 $(EMU)/libcuda.so.1 $(EMU)/race/libcuda.so.1

GPU_CLI_TESTS := tests/cli/test_gpu.py tests/cli/test_gpu_tools.py
CLI_TESTS := $(filter-out $(GPU_CLI_TESTS),$(sort $(wildcard tests/cli/*.py)))
# They measure time, or give a terminal or a slow client so much of it.
TIMED_TESTS := $(addprefix tests/cli/,cli.py test_bench.py test_http.py)
# Long ones first, so that two at a time end together.
first = $(filter $(1),$(2)) $(filter-out $(1),$(2))

check: tests
	$(Q)python3 tools/check_layers.py
	$(Q)sh tools/check_isa_objs.sh $(B)
	$(Q)TUG=$(B)/tug python3 tests/run.py --jobs 2 $(if $(TOTALS),--totals $(TOTALS)) \
	    $(filter-out $(TIMED_TESTS),$(CLI_TESTS)) $(call first,%/test_linear,$(filter-out $(SPINNING),$(CPU_TESTS))) \
	    --alone $(SPINNING) $(TIMED_TESTS)

# The GPU path on the emulated driver; then its kernels again, watched for races.
check-gpu: gpu-tests
	$(Q)TUG=$(B)/tug LD_LIBRARY_PATH=$(EMU) python3 tests/run.py --jobs 2 \
	    $(if $(TOTALS),--totals $(TOTALS)) \
	    $(call first,%/test_gpu_model,$(CUDA_TESTS)) $(GPU_CLI_TESTS) tests/cuda/protocols.py

# What runs on the host's side, for the sanitizers: their kernels are the plain ones under TSan.
HOST_TESTS := $(filter %/test_device %/test_gpu_faults %/test_gpu_model %/test_gpu_store,$(CUDA_TESTS))
check-gpu-host: $(HOST_TESTS) $(EMU)/libcuda.so.1 $(B)/tests/tug-gpu
	$(Q)TUG=$(B)/tug LD_LIBRARY_PATH=$(EMU) python3 tests/run.py --jobs 2 --timeout 1800 \
	    $(if $(TOTALS),--totals $(TOTALS)) $(call first,%/test_gpu_model,$(HOST_TESTS)) $(GPU_CLI_TESTS)

# The half of it that .ci/run has time for: no model's every placement, no programs.
GPU_THREADS := $(filter-out %/test_gpu_model,$(HOST_TESTS))
check-gpu-threads: $(GPU_THREADS) $(EMU)/libcuda.so.1
	$(Q)LD_LIBRARY_PATH=$(EMU) python3 tests/run.py --jobs 2 --timeout 900 \
	    $(if $(TOTALS),--totals $(TOTALS)) $(GPU_THREADS)

check-races: gpu-tests
	$(Q)LD_LIBRARY_PATH=$(EMU)/race TUG_EMU=order=reversed python3 tests/run.py --jobs 2 \
	    $(if $(TOTALS),--totals $(TOTALS)) $(KERNEL_TESTS)

clean:
	rm -rf build build-*

.PHONY: all tests gpu-tests check check-gpu check-gpu-host check-gpu-threads check-races bench fuzz cuda emu clean
.SECONDARY:
-include $(shell find $(sort $(B) $(EMU)) -name '*.d' 2>/dev/null)
