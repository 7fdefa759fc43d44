# espq. `make` builds build/espq and the Lua module build/lua/espq/core.so; `make help` lists the rest.

CC ?= cc
CFLAGS ?= -O2 -g
PKG_CONFIG ?= pkg-config
BUILD ?= build
PREFIX ?= /usr/local

# What the sources are written against; never -ffast-math, never -march=native (numbers are defined: src/README.md).
# What two compilers see as a fault and is none: text cut on purpose, rows that leave their last columns empty.
WARN := -Wall -Wextra -Wpedantic -Werror $(if $(findstring clang,$(shell $(CC) --version 2>/dev/null)),-Wno-missing-field-initializers,-Wno-format-truncation)
STD = -std=c17 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno -fvisibility=hidden -fPIC -pthread
LUA_CFLAGS := $(shell $(PKG_CONFIG) --cflags lua5.4 2>/dev/null || $(PKG_CONFIG) --cflags lua-5.4 2>/dev/null || $(PKG_CONFIG) --cflags lua 2>/dev/null)
LIB_CFLAGS := $(shell $(PKG_CONFIG) --cflags libprotobuf-c libcjson libpng libjpeg zlib 2>/dev/null)
LIB_LIBS := $(shell $(PKG_CONFIG) --libs libprotobuf-c libcjson libpng libjpeg zlib 2>/dev/null)
ALL_CFLAGS = $(STD) $(WARN) $(CFLAGS) -Isrc -I$(BUILD)/gen $(LIB_CFLAGS) $(LUA_CFLAGS) $(EXTRA_CFLAGS)

ROOMS ?= base tensor kernel graph ops onnx exec simplify observe quant lower chip espdl analyse train optim road bind
SOURCES := $(sort $(foreach room,$(ROOMS),$(wildcard src/$(room)/*.c src/$(room)/*/*.c)))
ENGINE := $(filter-out src/bind/%,$(SOURCES))
OBJECTS := $(SOURCES:src/%.c=$(BUILD)/obj/%.o)
ENGINE_OBJECTS := $(ENGINE:src/%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/gen/onnx.pb-c.o
GENERATED = $(BUILD)/gen/onnx.pb-c.h

# The program carries Lua and LuaFileSystem whenever their archives can be found, and shows all of Lua's symbols to C rocks.
archive = $(firstword $(foreach name,$(1),$(filter /%,$(shell $(CC) -print-file-name=$(name) 2>/dev/null))))
LUA_ARCHIVE := $(call archive,liblua5.4.a liblua54.a liblua-5.4.a liblua.a)
LFS_ARCHIVE := $(call archive,liblua5.4-filesystem.a liblua54-filesystem.a)
comma := ,
LUA_LIBS := $(if $(LUA_ARCHIVE),-Wl$(comma)--whole-archive $(LUA_ARCHIVE) -Wl$(comma)--no-whole-archive,\
	$(shell $(PKG_CONFIG) --libs lua5.4 2>/dev/null || $(PKG_CONFIG) --libs lua-5.4 2>/dev/null || $(PKG_CONFIG) --libs lua 2>/dev/null))
LUA_FILES := $(sort $(wildcard lua/espq/*.lua lua/espq/*/*.lua))
BIND_OBJECTS := $(patsubst src/%.c,$(BUILD)/obj/%.o,$(wildcard src/bind/*.c))
PROGRAM := $(BUILD)/espq
MODULE := $(BUILD)/lua/espq/core.so
# lua_close unloads modules; the pool's threads may still wait in this one.
STAYS := $(if $(filter Linux,$(shell uname -s)),-Wl$(comma)-z$(comma)nodelete)

.PHONY: all engine clean
all: $(PROGRAM) $(MODULE)

$(PROGRAM): $(BUILD)/obj/main.o $(BUILD)/obj/gen/embedded.o $(BIND_OBJECTS) $(BUILD)/libengine.a
	@$(if $(V),,echo "  link $@")
	$(CC) $(CFLAGS) $(LDFLAGS) -pthread -Wl,-E $^ $(LUA_LIBS) $(LFS_ARCHIVE) $(LIB_LIBS) -lm -ldl -o $@

# For `require "espq"` from any lua5.4 (package.cpath: build/lua/?.so). Lua's symbols come from whoever loads it.
$(MODULE): $(BIND_OBJECTS) $(BUILD)/libengine.a
	@mkdir -p $(@D)
	@$(if $(V),,echo "  link $@")
	$(CC) $(CFLAGS) $(LDFLAGS) $(STAYS) -pthread -shared $^ $(LIB_LIBS) -lm -o $@

$(BUILD)/obj/main.o: ALL_CFLAGS += $(if $(LFS_ARCHIVE),-DESPQ_WITH_LFS)

$(BUILD)/gen/embedded.c: $(LUA_FILES) scripts/embed
	@mkdir -p $(@D)
	scripts/embed lua $(LUA_FILES) > $@.new && mv $@.new $@

$(BUILD)/obj/gen/embedded.o: $(BUILD)/gen/embedded.c
	@mkdir -p $(@D)
	$(CC) $(STD) $(CFLAGS) -Isrc -c $< -o $@

engine: $(BUILD)/libengine.a

$(BUILD)/libengine.a: $(ENGINE_OBJECTS)
	@rm -f $@
	@ar rcs $@ $^

# Variants for other instruction sets are files of their own, named *_avx2.c, *_avxvnni.c, *_avx512.c, *_avx512vnni.c and *_avx512vbmi.c.
$(BUILD)/obj/%_avx2.o: ISA = -mavx2 -mfma
$(BUILD)/obj/%_avxvnni.o: ISA = -mavx2 -mavxvnni
$(BUILD)/obj/%_avx512.o: ISA = -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma
$(BUILD)/obj/%_avx512vnni.o: ISA = -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx2
$(BUILD)/obj/%_avx512vbmi.o: ISA = -mavx512f -mavx512bw -mavx512vbmi
# Tiles are written out for every size: with a sanitizer's checks between their lines, optimizing them takes minutes (SANITIZED, FUZZ).
$(BUILD)/obj/kernel/integer_%.o $(BUILD)/obj/kernel/float32_%.o: TILES = $(TILES_CFLAGS)

# One word a file; `make V=1` shows the commands.
$(V).SILENT:
$(BUILD)/obj/%.o: src/%.c | $(GENERATED)
	@mkdir -p $(@D)
	@$(if $(V),,echo "  compile $<")
	$(CC) $(ALL_CFLAGS) $(ISA) $(TILES) -MMD -MP -c $< -o $@

$(BUILD)/gen/onnx.pb-c.h: src/onnx/onnx.proto
	@mkdir -p $(@D)
	protoc-c --proto_path=src/onnx --c_out=$(BUILD)/gen src/onnx/onnx.proto

$(BUILD)/obj/gen/onnx.pb-c.o: $(GENERATED)
	@mkdir -p $(@D)
	$(CC) $(STD) $(CFLAGS) -I$(BUILD)/gen -c $(BUILD)/gen/onnx.pb-c.c -o $@

clean:
	rm -rf $(BUILD)

# ---- the user's minute ----

.PHONY: help module demo demo-run install install-module samples-data test test-run check check-all kernels rooms lint format bench asan tsan fuzz
help:
	@echo "make            build $(PROGRAM) and the Lua module"
	@echo "make demo       install what is missing, build, quantize two models and show figures"
	@echo "make test       install what the tests need, build, run all tests"
	@echo "make check      test, lint, rooms, kernels against their definitions"
	@echo "make check-all  check, the sanitizers, a minute of each fuzz target"
	@echo "make samples-data  fetch the published models and pictures of samples/02 and 03"
	@echo "make bench      figures as text and in $(BUILD)/bench.json"
	@echo "make install    to PREFIX (now $(PREFIX)); DESTDIR is respected"

module: $(MODULE)

demo:
	@scripts/setup build
	@$(MAKE) --no-print-directory demo-run

demo-run: all
	@mkdir -p $(BUILD)/demo
	@$(PROGRAM) samples/01_sin.lua $(BUILD)/demo
	@$(PROGRAM) samples/01_digits.lua $(BUILD)/demo

# Published models and pictures for samples/02 and 03, into build/samples; WHAT=mobilenetv2 or WHAT=yolo11n fetches one of them.
samples-data:
	@scripts/samples-data $(BUILD)/samples $(WHAT)

install: all
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/espq

# For luarocks, which says where modules go.
install-module: $(MODULE)
	install -d $(INST_LIBDIR)/espq $(INST_LUADIR)/espq
	install -m 755 $(MODULE) $(INST_LIBDIR)/espq/core.so
	cp -R lua/espq/. $(INST_LUADIR)/espq/

# ---- tests ----

TEST_SOURCES := $(wildcard tests/c/*.c)
TEST_OBJECTS := $(TEST_SOURCES:tests/c/%.c=$(BUILD)/obj/tests/%.o)
$(BUILD)/obj/tests/%.o: tests/c/%.c | $(GENERATED)
	@mkdir -p $(@D)
	@$(if $(V),,echo "  compile $<")
	$(CC) $(ALL_CFLAGS) -Itests/c -MMD -MP -c $< -o $@

$(BUILD)/tests: $(TEST_OBJECTS) $(BUILD)/libengine.a
	$(CC) $(CFLAGS) $(LDFLAGS) -pthread $^ $(LIB_LIBS) -lm -o $@

test:
	@scripts/setup test
	@$(MAKE) --no-print-directory test-run

test-run: all $(BUILD)/tests
	@BUILD=$(BUILD) scripts/test $(SPECS)

check: test lint rooms kernels
check-all: check asan tsan fuzz

# Every variant of every kernel against its plain-C definition, on random shapes, with 1, 2 and 3 threads.
kernels: $(BUILD)/tests
	$(BUILD)/tests kernel

rooms: $(PROGRAM)
	$(PROGRAM) scripts/check_rooms.lua

lint:
	luacheck -q lua scripts/*.lua samples tests

format:
	clang-format -i $(wildcard src/*.c src/*/*.c src/*/*.h tests/*/*.c tests/*/*.h)

# gcc judges the lengths of texts wrongly once checks stand between them (clang does not know that warning).
SANITIZED = BUILD=$(BUILD)/$(1) LDFLAGS="-fsanitize=$(2)" TILES_CFLAGS=-O0 \
	CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=$(2) -Wno-unknown-warning-option -Wno-format-truncation -Wno-restrict"
asan:
	@$(MAKE) --no-print-directory $(call SANITIZED,asan,address$(comma)undefined) all $(BUILD)/asan/tests
	scripts/sanitized $(BUILD)/asan
tsan:
	@$(MAKE) --no-print-directory $(call SANITIZED,tsan,thread) all $(BUILD)/tsan/tests
	scripts/sanitized $(BUILD)/tsan

# A minute of each libFuzzer target (SECONDS=…), starting from its corpus; what it finds stays in $(BUILD)/fuzz.
SECONDS ?= 60
FUZZ_CFLAGS = -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
fuzz:
	@scripts/setup sanitize
	@$(MAKE) --no-print-directory CC=clang BUILD=$(BUILD)/fuzz CFLAGS="$(FUZZ_CFLAGS)" TILES_CFLAGS=-O0 fuzz-run
.PHONY: fuzz-run
fuzz-run: $(BUILD)/libengine.a
	@set -e; for target in onnx espdl npy; do \
	   clang $(ALL_CFLAGS) -fsanitize=fuzzer tests/fuzz/$${target}_fuzz.c $(BUILD)/libengine.a $(LIB_LIBS) -lm -o $(BUILD)/$${target}_fuzz; \
	   mkdir -p $(BUILD)/found_$$target; \
	   $(BUILD)/$${target}_fuzz -max_total_time=$(SECONDS) -rss_limit_mb=2048 -timeout=10 -artifact_prefix=$(BUILD)/ $(BUILD)/found_$$target tests/fuzz/corpus_$$target; \
	done

# Whole runs as processes, the three modes beside each other, then kernels beside oneDNN's on one thread; figures stay in $(BUILD)/bench.
RUNS ?= 5
bench: all
	@scripts/setup bench
	@mkdir -p $(BUILD)/bench
	$(CC) $(STD) -O2 -Isrc tests/bench/kernels.c $(BUILD)/libengine.a $(LIB_LIBS) -ldnnl -lm -o $(BUILD)/bench/kernels
	$(CC) $(STD) -O2 tests/bench/process.c -o $(BUILD)/bench/process
	$(BUILD)/bench/process $(BUILD)/bench/process.json $(RUNS) \
	   mobilenetv2 $(PROGRAM) tests/bench/mobilenetv2.lua ../shared $(BUILD)/bench -- \
	   yolo11n $(PROGRAM) tests/bench/yolo11n.lua ../shared $(BUILD)/bench -- \
	   mobilenetv2_tqt $(PROGRAM) tests/bench/train.lua ../shared -- start $(PROGRAM) -e ''
	$(PROGRAM) tests/bench/modes.lua ../shared $(BUILD)/bench/modes.json
	$(BUILD)/bench/kernels $(BUILD)/bench/kernels.json

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
