rockspec_format = "3.0"
package = "espq"
version = "dev-1"
source = { url = "git+file://." }   -- built from a checkout: luarocks make
description = {
   summary = "A scriptable quantizer: ONNX models to .espdl files for ESP32 chips",
   detailed = [[
espq turns an ONNX model into a .espdl file that Espressif's ESP-DL runtime executes: 8 or 16 bits, symmetric,
power-of-two scales. Scripts are Lua.]],
   license = "MIT",
}
dependencies = { "lua >= 5.4, < 5.5", "luafilesystem >= 1.8" }
external_dependencies = {
   ZLIB = { header = "zlib.h", library = "z" },
   PNG = { header = "png.h", library = "png" },
   JPEG = { header = "jpeglib.h", library = "jpeg" },
   PROTOBUF_C = { header = "protobuf-c/protobuf-c.h", library = "protobuf-c" },
   CJSON = { header = "cjson/cJSON.h", library = "cjson" },
}
build = {
   type = "make",
   build_target = "module",
   install_target = "install-module",
   build_variables = { LUA_CFLAGS = "-I$(LUA_INCDIR)" },
   install_variables = { INST_LIBDIR = "$(LIBDIR)", INST_LUADIR = "$(LUADIR)" },
}
test = { type = "busted" }
