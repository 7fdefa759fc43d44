-- Promise: what the program tells of a .espdl file is what the chip will do with it: its inputs, its cost, its memory, how it differs from
-- another, and at which node a board's log parts from it.
local espq = require "espq"
local lfs = require "lfs"
local program = require "lua.program"

local folder
local PICTURE = "resize to 8, channels bgr, x * 1/255, minus 0.5,0.25,0.125, divided by 0.5,0.25,0.5"

-- x [1, 3, 8, 8] -> Conv -> Relu -> Sigmoid -> GlobalAveragePool -> y; `scale` of the weights tells models apart.
local function export(name, target, scale, more)
   local graph = espq.graph {
      inputs = { x = { 1, 3, 8, 8 } }, outputs = { "y" },
      nodes = {
         { type = "Conv", name = "conv", inputs = { "x", espq.randn({ 4, 3, 3, 3 }, { seed = 1 }) * scale, espq.randn({ 4 }, { seed = 2 }) }, outputs = { "c" },
           attributes = { kernel_shape = { 3, 3 }, pads = { 1, 1, 1, 1 } } },
         { type = "Relu", name = "relu", inputs = { "c" }, outputs = { "r" } },
         { type = "Sigmoid", name = "sigmoid", inputs = { "r" }, outputs = { "s" } },
         { type = "GlobalAveragePool", name = "pool", inputs = { "s" }, outputs = { "y" } },
      },
   }
   graph:save_onnx(folder .. "/m.onnx")
   local call = { graph = graph, calib_dataloader = { espq.randn({ 4, 3, 8, 8 }, { seed = 3 }) }, calib_steps = 1, target = target, error_report = false,
                  espdl_export_file = folder .. "/" .. name }
   for key, value in pairs(more or {}) do call[key] = value end
   espq.quantize_graph(call)
   return graph
end

local graph
setup(function()
   espq.verbose = 0
   folder = program.folder()
   graph = export("a.espdl", "esp32p4", 1.0, { metadata_props = { ["espq.input"] = PICTURE } })
   export("b.espdl", "esp32p4", 4.0)
   export("s3.espdl", "esp32s3", 1.0)
end)
teardown(function() program.remove(folder) end)

local function run(line) return program.run(folder, line) end

describe("the cost of a model", function()
   it("counts the products of the convolution and the bytes of the plan", function()
      local rows = espq.cost { path = folder .. "/a.espdl" }
      assert.equal(8 * 8 * 4 * 27, rows.macs)                                    -- 64 pixels, 4 channels, 3 x 3 x 3 products
      assert.equal("conv", rows[1].name)
      assert.equal(8 * 8 * 3 + 8 * 8 * 4, rows[1].moved_bytes)
      assert.is_true(rows.memory.variable >= rows.memory.live and rows.ms > 0)
      local by_name = {}
      for _, tensor in ipairs(rows.memory.tensors) do by_name[tensor.name] = tensor end
      assert.equal(0, by_name.x.offset)
      assert.equal("r", by_name.s.shares)                                       -- the table overwrites what Conv and Relu made
   end)

   it("is the same from the graph as from its file", function()
      local from_graph, from_file = espq.cost { graph = graph }, espq.cost { path = folder .. "/a.espdl" }
      assert.same(from_file.memory, from_graph.memory)
      assert.equal(from_file.ms, from_graph.ms)
      assert.equal(from_file.parameter_bytes, from_graph.parameter_bytes)
   end)

   it("has no time for chips of which nothing is published, and says so", function()
      local code, out = run "@ cost a.espdl --target esp32c3"
      assert.equal(0, code)
      assert.matches("nothing is published for this chip", out, 1, true)
   end)

   it("comes for all chips, and as JSON", function()
      local code, out = run "@ cost a.espdl --target all --json 2>/dev/null"
      assert.equal(0, code)
      local list = espq.json.decode(out)
      local seen = {}
      for _, row in ipairs(list) do seen[row.target] = row end
      assert.is_number(seen.esp32p4.estimated_ms)
      assert.is_nil(seen.esp32c3.estimated_ms)
      assert.equal(6912, seen.esp32s3.macs)
   end)

   it("refuses a graph that is not quantized, and unknown fields", function()
      local err = assert.error(function() espq.cost { path = "x", tarjet = "esp32p4" } end)
      assert.matches("did you mean 'target'", tostring(err), 1, true)
   end)
end)

describe("espq info", function()
   it("shows layout, range and C++ with the chip's rounding and the preprocessing", function()
      local code, out = run "@ info a.espdl"
      assert.equal(0, code)
      assert.matches("(N H W C), exponent -6: from -2 to 1.984375", out, 1, true)
      assert.matches("rintf(ldexpf(x, 6))", out, 1, true)                          -- half to even on the ESP32-P4
      assert.matches("mean[] = {0.5f, 0.25f, 0.125f}", out, 1, true)
      assert.matches("table[c][picture[3 * i + 2 - c]]", out, 1, true)                -- bgr
   end)

   it("rounds half up for the ESP32-S3", function()
      local _, out = run "@ info s3.espdl"
      assert.matches("floorf(ldexpf(x, 6) + 0.5f)", out, 1, true)
   end)

   it("is JSON with the same facts", function()
      local _, out = run "@ info a.espdl --json"
      local info = espq.json.decode(out)
      assert.equal("N H W C", info.inputs[1].layout)
      assert.equal(6912, info.cost.macs)
      assert.equal("esp32p4", info.target)
   end)

   it("lists a package, and shows one of its models", function()
      assert.equal(0, (run "@ pack b.espdl a.espdl -o models.bin"))
      local code, out = run "@ info models.bin"
      assert.equal(0, code)
      assert.matches("package PDL3 v1.0 of 2 models", out, 1, true)
      assert.matches("a.espdl: container EDL2", out, 1, true)
      assert.equal(0, (run "@ verify models.bin --model a"))
      local all, verdicts = run "@ verify models.bin"
      assert.equal(0, all)
      assert.matches("model a.espdl: no findings.*model b.espdl: no findings", verdicts)
      local refused, _, err = run "@ cost models.bin"
      assert.equal(1, refused)
      assert.matches("a.espdl, b.espdl", err, 1, true)
      assert.equal("esp32p4", espq.load_espdl(folder .. "/models.bin", { model = "b" }).target)
   end)
end)

describe("espq diff", function()
   it("is silent about equal models: exit code 0", function()
      local code, out = run "@ diff a.espdl a.espdl"
      assert.equal(0, code)
      assert.matches("the same model", out, 1, true)
   end)

   it("tells weights, exponents and metadata: exit code 1", function()
      local code, out = run "@ diff a.espdl b.espdl --json"
      assert.equal(1, code)
      local kinds = {}
      for _, row in ipairs(espq.json.decode(out)) do kinds[row.kind] = row end
      assert.is_truthy(kinds.exponent and kinds.bias and kinds.metadata)
      assert.equal("espq.input", kinds.metadata.name)
   end)
end)

describe("the board kit", function()
   local function line(body)
      local sum = 0
      for i = 1, #body do sum = sum ~ body:byte(i) end
      return ("@%s*%02x\n"):format(body, sum)
   end

   local labels = { int8 = "INT8", int16 = "INT16", float32 = "FLOAT" }

   -- What a board would print; `spoil` names a tensor whose first number is one more.
   local function board_log(kit, spoil)
      local expected = {}
      for name, crc in program.read(kit .. "/espq_vectors.h"):gmatch '{"([^"]+)", 0x(%x+)}' do expected[#expected + 1] = { name, crc } end
      local arrays, text = espq.from_npz(kit .. "/vectors.npz"), { line(("espq:begin 1 %d m"):format(#expected - 1)) }
      local exponents = {}
      local info = espq.info(folder .. "/a.espdl")
      for _, list in ipairs { info.inputs, info.outputs, info.values } do
         for _, value in ipairs(list) do exponents[value.name] = value.exponents[1] end
      end
      for i, each in ipairs(expected) do
         local name, crc = each[1], each[2]
         local tensor = arrays[name]
         local bad = name == spoil
         text[#text + 1] = ("\27[0;32mI (%d) main: free heap %d\27[0m\r\n"):format(i, i)
         text[#text + 1] = line(("espq:t %d %s %d %s %d %s %s"):format(i, labels[tensor.dtype], exponents[name], table.concat(tensor.shape, "x"),
                                #tensor:reshape { -1 } * (tensor.dtype == "float32" and 4 or 1), bad and "00000000" or crc, name))
         if bad then text[#text + 1] = line(("espq:d %d 0 %02x"):format(i, (tensor:reshape { -1 }:get(0) + 1) & 255)) end
      end
      text[#text + 1] = line(("espq:end %d"):format(#expected - 1))
      return table.concat(text)
   end

   setup(function() assert(run "@ boardkit a.espdl kit" == 0) end)

   it("writes code and vectors, and a log as computed has no difference", function()
      assert.matches("espq_fill_0", program.read(folder .. "/kit/espq_board.cpp"), 1, true)
      program.write(folder .. "/log.txt", board_log(folder .. "/kit"))
      local code, out = run "@ diff a.espdl --log log.txt"
      assert.equal(0, code, out)
      assert.matches("the board computes what espq computes", out, 1, true)
   end)

   it("leaves a file of the same name alone that is the user's own", function()
      lfs.mkdir(folder .. "/mine")
      program.write(folder .. "/mine/espq_vectors.h", "mine")
      local code, out, err = run("@ boardkit a.espdl mine")
      assert.same({ 1, "" }, { code, out })
      assert.is_truthy(err:find("mine/espq_vectors.h: a file of this name is there", 1, true), err)
      assert.equal("mine", program.read(folder .. "/mine/espq_vectors.h"))
      assert.is_nil(lfs.attributes(folder .. "/mine/espq_board.cpp"))
      os.remove(folder .. "/mine/espq_vectors.h")
      lfs.rmdir(folder .. "/mine")
   end)

   it("names the first node that differs, with both values", function()
      program.write(folder .. "/log.txt", board_log(folder .. "/kit", "s"))
      local code, out = run "@ diff a.espdl --log log.txt"
      local wanted = espq.from_npz(folder .. "/kit/vectors.npz").s:reshape { -1 }:get(0)
      assert.equal(1, code)
      assert.matches(("Sigmoid sigmoid, tensor 's': at [0, 0, 0, 0] espq has %d, the board %d"):format(wanted, wanted + 1), out, 1, true)
   end)

   it("says what a log that was cut lacks", function()
      local log = board_log(folder .. "/kit")
      program.write(folder .. "/log.txt", log:sub(1, #log // 2))
      local code, out = run "@ diff a.espdl --log log.txt"
      assert.equal(0, code)
      assert.matches("tensors are not in the log, which ends before the run does", out, 1, true)
   end)

   it("prints measured times and memory beside what espq expects", function()
      program.write(folder .. "/log.txt", table.concat({
         "I (1) dl::Model: |   memory summary   |", "I (1) dl::Model: | variable | 0.50KB | 1.00KB |  |",
         "I (1) dl::Model: |   module summary   |", "I (1) dl::Model: | name | type | latency |", "I (1) dl::Model: | conv | Conv | 321us |",
         "I (1) dl::Model: | total |  | 321us |" }, "\n"))
      local code, out = run "@ diff a.espdl --log log.txt --json"
      assert.equal(0, code)
      local found = espq.json.decode(out)
      assert.equal(321, found.modules[1].us)
      assert.is_number(found.modules[1].estimate)
      assert.equal(espq.cost { path = folder .. "/a.espdl" }.memory.variable / 1024, found.memory[1].expected)
   end)

   it("refuses the log of another model", function()
      program.write(folder .. "/log.txt", (board_log(folder .. "/kit"):gsub("@espq:t [^\n]*\n", line "espq:t 0 INT8 0 1 1 00000000 other")))
      local code, _, err = run "@ diff a.espdl --log log.txt"
      assert.equal(1, code)
      assert.matches("no tensor of this model is in the log", err, 1, true)
   end)

   it("refuses a log without anything of use", function()
      program.write(folder .. "/log.txt", "hello\nworld\n")
      local code, _, err = run "@ diff a.espdl --log log.txt"
      assert.equal(1, code)
      assert.matches("nothing of use is in this log", err, 1, true)
   end)
end)

describe("damaged files", function()
   local function damaged(name)
      local bytes = program.read(folder .. "/a.espdl")
      if name == "cut" then return bytes:sub(1, #bytes // 2) end
      if name == "encrypted" then return bytes:sub(1, 4) .. "\1\0\0\0" .. bytes:sub(9) end
      if name == "foreign" then return "\8\7\18" .. bytes:sub(4) end
      return ""
   end
   for _, kind in ipairs { "cut", "encrypted", "foreign", "empty" } do
      it(("end every command with a reason and exit code 1: %s"):format(kind), function()
         program.write(folder .. "/bad.espdl", damaged(kind))
         for _, line in ipairs { "info bad.espdl", "cost bad.espdl", "dump bad.espdl", "diff a.espdl bad.espdl", "diff bad.espdl --log log.txt",
                                 "boardkit bad.espdl kit_bad" } do
            local code, out, err = run("@ " .. line)
            assert.equal(1, code, line)
            assert.equal("", out, line)
            assert.matches("^espq: .*bad.espdl", err, 1, false)
            assert.is_nil(err:find("traceback", 1, true), err)
         end
      end)
   end
end)

describe("espq run", function()
   it("says what is wrong with its inputs and options, and writes nothing", function()
      espq.randn({ 5 }, { seed = 1 }):save(folder .. "/flat.npy")
      espq.randn({ 0, 2, 6, 6 }, { seed = 1 }):save(folder .. "/none.npy")
      espq.randn({ 1, 2, 6, 6 }, { seed = 1 }):save(folder .. "/x.npy")
      for _, row in ipairs {
         { 1, "--input flat.npy -o out.npz", "flat.npy: the array has the shape [5]" },
         { 1, "--input none.npy -o out.npz", "none.npy: the array holds no samples" },
         { 1, "--input nowhere.npy -o out.npz", "nowhere.npy" },
         { 2, "--input x.npy -o out.txt", "out.txt" },
         { 2, "--input x.npy --input x.npy -o out.npz", "twice" },
         { 2, "--input x.npy --outputs , -o out.npz", "--outputs" },
         { 2, "--input x.npy --target nope -o out.npz", "espq targets" },
         { 1, "--input x.npy -o x.npy", "x.npy: the outputs would take the place of an input" },
         { 1, "--input x.npy --model b -o out.npz", "this file holds a.espdl" },
      } do
         local code, out, err = run("@ run a.espdl " .. row[2])
         assert.equal(row[1], code, err)
         assert.equal("", out)
         assert.is_truthy(err:find(row[3], 1, true), err)
         assert.is_nil(lfs.attributes(folder .. "/out.npz") or lfs.attributes(folder .. "/out.txt"))
      end
   end)
end)

describe("espq dump", function()
   it("prints a device graph of a file and of a model behind lower", function()
      local code, out = run "@ dump a.espdl"
      assert.equal(0, code)
      assert.matches("%r[int8 1x8x8x4 e=", out, 1, true)
      local again, lowered = run "@ dump m.onnx --after lower"
      assert.equal(0, again)
      assert.matches("device graph", lowered, 1, true)
   end)
end)
