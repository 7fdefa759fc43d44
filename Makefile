# espq. `make` builds build/espq and the Lua module build/espq/core.so; `make help` lists the rest.

CC ?= cc
CFLAGS ?= -O2 -g
PKG_CONFIG ?= pkg-config
BUILD ?= build
PREFIX ?= /usr/local

# What the sources are written against; never -ffast-math, never -march=native (numbers are defined: src/README.md).
WARN = -Wall -Wextra -Wpedantic -Werror
STD = -std=c17 -D_GNU_SOURCE -ffp-contract=off -fno-math-errno -fvisibility=hidden -fPIC -pthread
LUA_CFLAGS := $(shell $(PKG_CONFIG) --cflags lua5.4 2>/dev/null || $(PKG_CONFIG) --cflags lua-5.4 2>/dev/null || $(PKG_CONFIG) --cflags lua 2>/dev/null)
LIB_CFLAGS := $(shell $(PKG_CONFIG) --cflags libprotobuf-c libcjson libpng libjpeg zlib 2>/dev/null)
LIB_LIBS := $(shell $(PKG_CONFIG) --libs libprotobuf-c libcjson libpng libjpeg zlib 2>/dev/null)
ALL_CFLAGS = $(STD) $(WARN) $(CFLAGS) -Isrc -I$(BUILD)/gen $(LIB_CFLAGS) $(LUA_CFLAGS) $(EXTRA_CFLAGS)

ROOMS ?= base tensor kernel graph ops onnx exec simplify observe quant lower espdl analyse road bind
SOURCES := $(sort $(foreach room,$(ROOMS),$(wildcard src/$(room)/*.c src/$(room)/*/*.c)))
ENGINE := $(filter-out src/bind/%,$(SOURCES))
OBJECTS := $(SOURCES:src/%.c=$(BUILD)/obj/%.o)
ENGINE_OBJECTS := $(ENGINE:src/%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/gen/onnx.pb-c.o
GENERATED = $(BUILD)/gen/onnx.pb-c.h

.PHONY: all engine clean
all: engine

engine: $(BUILD)/libengine.a

$(BUILD)/libengine.a: $(ENGINE_OBJECTS)
	@rm -f $@
	@ar rcs $@ $^

# Variants for other instruction sets are files of their own, named *_avx2.c and *_avx512.c.
$(BUILD)/obj/%_avx2.o: ISA = -mavx2 -mfma
$(BUILD)/obj/%_avx512.o: ISA = -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma

$(BUILD)/obj/%.o: src/%.c | $(GENERATED)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ISA) -MMD -MP -c $< -o $@

$(BUILD)/gen/onnx.pb-c.h: src/onnx/onnx.proto
	@mkdir -p $(@D)
	protoc-c --proto_path=src/onnx --c_out=$(BUILD)/gen src/onnx/onnx.proto

$(BUILD)/obj/gen/onnx.pb-c.o: $(GENERATED)
	@mkdir -p $(@D)
	$(CC) $(STD) $(CFLAGS) -I$(BUILD)/gen -c $(BUILD)/gen/onnx.pb-c.c -o $@

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
