-- Training from a script: it learns, resumes to the byte, is independent of threads, trains only what it should, and says what is wrong.
local espq = require "espq"
local program = require "lua.program"

local folder

setup(function()
   espq.verbose = 0
   folder = program.folder()
end)
teardown(function()
   espq.threads(2)
   program.remove(folder)
end)

local constants = {
   w1 = espq.randn({ 6, 2, 3, 3 }, { seed = 1 }), b1 = espq.randn({ 6 }, { seed = 2 }), low = espq.tensor(-1.0), high = espq.tensor(4.0),
   slope = espq.full({ 6, 1, 1 }, 0.25), w2 = espq.randn({ 4, 6 }, { seed = 3 }), b2 = espq.randn({ 4 }, { seed = 4 }),
}

-- A convolution, a clip, a slope and a classifier of four classes.
local function float_graph(last)
   local nodes = {
      { type = "Conv", name = "conv", inputs = { "x", "w1", "b1" }, outputs = { "c" } },
      { type = "PRelu", name = "prelu", inputs = { "c", "slope" }, outputs = { "r" } },
      { type = "Clip", name = "clip", inputs = { "r", "low", "high" }, outputs = { "k" } },
      { type = "GlobalAveragePool", name = "pool", inputs = { "k" }, outputs = { "p" } },
      { type = "Flatten", name = "flat", inputs = { "p" }, outputs = { "f" } },
      { type = "Gemm", name = "dense", inputs = { "f", "w2", "b2" }, outputs = { "logits" }, attributes = { transB = 1 } },
   }
   if last then nodes[#nodes + 1] = { type = last, name = "last", inputs = { "logits" }, outputs = { "y" } } end
   return espq.graph { name = "net", inputs = { x = { 1, 2, 5, 5 } }, outputs = { last and "y" or "logits" }, constants = constants, nodes = nodes }
end

local pictures = espq.randn({ 24, 2, 5, 5 }, { seed = 9 })

-- Labels that can be learnt: the float graph's own answers, of a graph with other weights.
local labels = (function()
   local list = {}
   for i = 0, 23 do list[i + 1] = pictures[i]:mean():item() > 0 and 1 or 3 end
   return espq.tensor(list, "int64")
end)()

local function batches(size)
   local list = {}
   for i = 0, 23, size do list[#list + 1] = { pictures:slice(i, i + size), labels = labels:slice(i, i + size) } end
   return list
end

local function quantized(last)
   return espq.quantize_graph { graph = float_graph(last), calib_dataloader = pictures, calib_steps = 24, target = "esp32p4", error_report = false }
end

local function trainer(options)
   options.graph = options.graph or quantized()
   return espq.trainer(options)
end

local function walk(t, list, from, to)
   local losses = {}
   for i = from, to do losses[#losses + 1] = t:step(list[(i - 1) % #list + 1]) end
   return losses
end

local function bytes(graph)
   espq.export { graph = graph, espdl_export_file = folder .. "/out.espdl" }
   return program.read(folder .. "/out.espdl")
end

describe("espq.trainer", function()
   it("learns labels with every optimizer and schedule", function()
      for _, options in ipairs {
         { optimizer = "adam", lr = 0.02 }, { optimizer = "adamw", lr = 0.02, schedule = "cosine", steps = 40 },
         { optimizer = "sgd", lr = 0.2, momentum = 0.9, schedule = "step", every = 20, factor = 0.5 },
      } do
         local losses = walk(trainer(options), batches(8), 1, 40)
         assert.is_true(losses[40] < 0.7 * losses[1], ("%s: %g -> %g"):format(options.optimizer, losses[1], losses[40]))
      end
   end)

   it("trains weights, biases and slopes, not bounds; the graph stays as it is until finish", function()
      local t = trainer { lr = 0.02 }
      local before = bytes(t.graph)
      walk(t, batches(8), 1, 3)
      assert.equal(before, bytes(t.graph))
      assert.equal(before, bytes(trainer({ graph = t.graph:copy(), parameters = "all" }):finish()))       -- no step, nothing changes
      local about = t:about()
      assert.same({ { 2, 132 }, { 2, 10 }, { 1, 6 }, { 0, 0 }, 3 }, { about.weights, about.biases, about.slopes, about.scales, about.steps })
      local graph = t:finish()
      assert.not_equal(before, bytes(graph))
      for name, tensor in pairs(constants) do
         if graph:has_tensor(name) and graph:tensor(name).value.size == tensor.size then
            local same = graph:tensor(name).value:flatten():equal(tensor:flatten())
            assert.equal(name == "low" or name == "high", same, name)
         end
      end
   end)

   it("lets biases follow steps that a script set by hand", function()
      local t = trainer {}
      local dense = t.graph:node "dense"
      local weights = dense.input_config[2].exponent
      for c = 1, 4 do weights[c] = weights[c] + 2 end
      dense.input_config[2].exponent = weights
      local graph = espq.trainer { graph = t.graph }:finish()
      local slots = graph:node("dense").input_config
      for c = 1, 4 do assert.equal(weights[c] + slots[1].exponent, slots[3].exponent[c]) end
   end)

   it("gives the same bytes with 1 and 2 threads", function()
      local files = {}
      for threads = 1, 2 do
         espq.threads(threads)
         local t = trainer { lr = 0.02, parameters = "all", loss = "cross_entropy" }
         walk(t, batches(8), 1, 6)
         files[threads] = bytes(t:finish())
      end
      assert.equal(files[1], files[2])
   end)

   it("goes on from a checkpoint as if there had been no interruption", function()
      for _, optimizer in ipairs { "adam", "sgd" } do
         local options = { optimizer = optimizer, lr = 0.02, momentum = 0.9, schedule = "cosine", steps = 10, parameters = "all" }
         local whole = trainer(options)
         walk(whole, batches(8), 1, 10)
         options.graph = nil
         local first = trainer(options)
         walk(first, batches(8), 1, 4)
         first:save(folder .. "/t.ckpt", "a note\0of bytes")
         options.graph = nil
         local second = trainer(options)
         assert.equal("a note\0of bytes", second:load(folder .. "/t.ckpt"))
         walk(second, batches(8), 5, 10)
         second:save(folder .. "/b.ckpt")
         whole:save(folder .. "/a.ckpt")
         assert.equal(program.read(folder .. "/a.ckpt"), program.read(folder .. "/b.ckpt"))
         assert.equal(bytes(whole:finish()), bytes(second:finish()))
      end
   end)

   it("refuses a checkpoint that is cut, damaged, none, or of another graph or other options, and stays as it was", function()
      local t = trainer { lr = 0.02 }
      t:step(batches(8)[1])
      local path = folder .. "/c.ckpt"
      t:save(path)
      local text = program.read(path)
      local other = espq.quantize_graph { graph = float_graph "Relu", calib_dataloader = pictures, calib_steps = 24, error_report = false }
      for wanted, change in pairs {
         ["cut or damaged"] = function() return text:sub(1, -100), t end,
         ["is cut or damaged"] = function() return text:sub(1, 300) .. "x" .. text:sub(302), t end,
         ["no checkpoint"] = function() return "hello, this is some other file of the user", t end,
         ["another graph"] = function() return text, espq.trainer { graph = other, loss = "mse" } end,
         ["the checkpoint has adam, 5 arrays of weights, this trainer sgd, 5 arrays"] = function() return text, trainer { optimizer = "sgd" } end,
      } do
         local content, loader = change()
         program.write(path, content)
         local steps = loader:about().steps
         assert.error_matches(function() loader:load(path) end, wanted, 1, true)
         assert.equal(steps, loader:about().steps)
      end
   end)

   it("splits a batch when memory is short: the loss is the same, and weights nearly", function()
      local whole, pieces = trainer { lr = 1e-3, optimizer = "sgd" }, trainer { lr = 1e-3, optimizer = "sgd", memory = 1 }
      for _ = 1, 3 do
         local batch = { pictures:slice(0, 7), labels = labels:slice(0, 7) }
         assert.near(whole:step(batch), pieces:step(batch), 1e-6)
      end
      assert.is_true(whole:snapshot():tensor("w1").value:allclose(pieces:snapshot():tensor("w1").value, { atol = 1e-5 }))
   end)

   it("follows a teacher without labels, on outputs and on tensors on the way", function()
      for _, options in ipairs { { lr = 3e-3, teacher = true }, { lr = 3e-3, teacher = true, loss = "mse", teach = { "p" } } } do
         local t = trainer(options)
         for _, name in ipairs { "w1", "w2" } do          -- off the teacher's weights
            local value = t.graph:tensor(name)
            value.value = value.value * 1.05
         end
         options.teacher = espq.quantize_graph { graph = float_graph(), calib_dataloader = pictures, calib_steps = 24, error_report = false }
         options.graph = t.graph
         t = espq.trainer(options)
         local first = t:evaluate(pictures)
         for _ = 1, 40 do t:step(pictures) end
         assert.is_true(t:evaluate(pictures) < 0.8 * first, ("%g -> %g"):format(first, t:evaluate(pictures)))
      end
   end)

   it("judges classes by the logits before a Softmax", function()
      assert.same({ "logits" }, trainer({ graph = quantized "Softmax" }).outputs)
   end)

   it("takes a loss function, which equals the built-in of the same formula to the byte", function()
      local target = espq.randn({ 8, 4 }, { seed = 5 })
      local function mse(outputs)
         local difference = outputs.logits - target
         return (difference * difference):mean(), difference * (2 / difference.size)
      end
      local own, known = trainer { lr = 0.01, loss = mse }, trainer { lr = 0.01, loss = "mse" }
      for _ = 1, 2 do
         assert.near(known:step(pictures:slice(0, 8), target), own:step(pictures:slice(0, 8)), 1e-6)
      end
      assert.is_true(own:snapshot():tensor("w2").value:allclose(known:snapshot():tensor("w2").value, { rtol = 1e-4, atol = 1e-5 }))
   end)

   it("names what is wrong with a call", function()
      local x, y = pictures:slice(0, 8), labels:slice(0, 8)
      local function step(options, ...)
         local t, given = trainer(options), table.pack(...)
         return function() t:step(table.unpack(given, 1, given.n)) end
      end
      local function returning(...)
         local results = table.pack(...)
         return { loss = function() return table.unpack(results, 1, results.n) end }
      end
      local cases = {
         { "label 4 is outside 0 … 3", step({}, x, espq.full({ 8 }, 4, { dtype = "int64" })) },
         { "7 labels for 8 samples", step({}, x, y:slice(0, 7)) },
         { "needs labels", step({}, x) },
         { "label 1 is cat", step({}, x, { "cat" }) },
         { "input 'x' has shape", step({}, espq.zeros { 8, 3, 5, 5 }, y) },
         { "the batch is empty", step({}, espq.zeros { 0, 2, 5, 5 }, y) },
         { "not finite in input x", step({}, espq.full({ 1, 2, 5, 5 }, 0 / 0), { 1 }) },
         { "returned a nil as the loss", step(returning(), x) },
         { "returned a nil as gradients", step(returning(1.0), x) },
         { "gradient for 'logit', which is no output (did you mean 'logits'?)", step(returning(1.0, { logit = x }), x) },
         { "gradient has shape [8, 2, 5, 5], output 'logits' has shape [8, 4]", step(returning(1.0, x), x) },
         { "training diverges: the loss is nan in step 1", step(returning(0 / 0, espq.zeros { 8, 4 }), x) },
         { "training diverges: the gradient is not finite in step 1", step(returning(1.0, espq.full({ 8, 4 }, 1 / 0)), x) },
      }
      for i, case in ipairs(cases) do
         local _, err = pcall(case[2])
         assert.is_truthy(tostring(err):find(case[1], 1, true), ("case %d: %s"):format(i, tostring(err)))
      end
      for wanted, options in pairs {
         ["did you mean 'adam'"] = { optimizer = "adm" }, ["lr has to be above 0"] = { lr = 0 }, ["needs steps"] = { schedule = "cosine" },
         ["did you mean 'kl'"] = { loss = "k1" }, ["no tensor 'q'"] = { teacher = true, teach = { "q" } }, ["tensors of a teacher"] = { teach = { "p" } },
         ["momentum has to lie"] = { momentum = 2 },
         ["betas has to be two numbers"] = { betas = { 0.9 } }, ["unknown field 'learning_rate'"] = { learning_rate = 1 },
      } do
         assert.error_matches(function() trainer(options) end, wanted, 1, true)
      end
      assert.error_matches(function() espq.trainer { graph = float_graph() } end, "not quantized")
   end)
end)

describe("espq.qat", function()
   local function call(change)
      local options = {
         graph = quantized(), train_dataloader = batches(8), epochs = 4, lr = 0.02, optimizer = "adam",
         evaluate_fn = function(graph)
            local metric, run = espq.metrics.topk { 1 }, espq.executor(graph)
            metric:add(run(pictures)[1], labels)
            return metric:value()
         end,
      }
      for key, value in pairs(change or {}) do options[key] = value end
      return espq.qat(options)
   end

   it("goes from a file to a file, and the best epoch is the one that is kept", function()
      float_graph():save_onnx(folder .. "/net.onnx")
      local seen = {}
      local graph, report = espq.qat {
         onnx_import_file = folder .. "/net.onnx", espdl_export_file = folder .. "/net.espdl", train_dataloader = batches(8), calib_steps = 3, epochs = 4,
         lr = 0.05,
         evaluate_fn = function(g)
            seen[#seen + 1] = espq.executor(g)(pictures)[1]
            return #seen == 3 and 2 or 1 / #seen          -- the untrained one and epoch 1 come before
         end,
      }
      assert.same({ 5, 2, 2, 4 }, { #seen, report.best.epoch, report.best.score, report.epochs[5].epoch })
      assert.is_true(espq.executor(graph)(pictures)[1]:equal(seen[3]))
      assert.is_true(#espq.verify(folder .. "/net.espdl") >= 0)
   end)

   it("never ends with less than it began with, and needs neither labels nor evaluate_fn", function()
      local _, report = call { distill = true, train_dataloader = pictures, evaluate_fn = false or nil, lr = 1e-3, epochs = 2 }
      assert.is_true(report.best.score <= report.epochs[1].score)
      local calls = 0
      local _, worse = call { evaluate_fn = function()
         calls = calls + 1
         return -calls
      end }
      assert.equal(0, worse.best.epoch)
   end)

   it("resumes to the byte after an interruption in the middle of an epoch", function()
      local shuffled = { dataset = espq.data.list {}, batch_size = 8, shuffle = true }
      local items = {}
      for i = 0, 23 do items[i + 1] = { pictures[i], labels[i]:item() } end
      shuffled.dataset = espq.data.list(items)
      local loader = espq.data.loader(shuffled)
      local whole = bytes((call { train_dataloader = loader, checkpoint_dir = folder .. "/whole" }))
      local broken = setmetatable({}, { __len = function() return 3 end, __call = function(_, epoch)
         local step, count = loader(epoch), 0
         return function()
            count = count + 1
            if epoch == 3 and count == 2 then error("the power went", 0) end
            return step()
         end
      end })
      assert.error_matches(function() call { train_dataloader = broken, checkpoint_dir = folder .. "/parts" } end, "the power went")
      local graph, report = call { train_dataloader = loader, checkpoint_dir = folder .. "/parts", resume = true }
      assert.equal(whole, bytes(graph))
      assert.equal(5, #report.epochs)
      assert.equal(program.read(folder .. "/whole/last.ckpt"), program.read(folder .. "/parts/last.ckpt"))
   end)

   it("stops when training diverges, and keeps the best so far", function()
      local steps = 0
      local _, report = call { loss = function(outputs)
         steps = steps + 1
         return steps > 4 and 1 / 0 or 1.0, outputs.logits * 0.01
      end }
      assert.matches("stopped in epoch 2", report.diverged)
      assert.matches("seed 0", tostring(report), 1, true)
   end)

   it("names what is wrong with a call", function()
      for wanted, change in pairs {
         ["no batches"] = { train_dataloader = {} }, ["epochs has to be at least 1"] = { epochs = 0 }, ["returned a nil, not a number"] = {
            evaluate_fn = function() end }, ["resume needs checkpoint_dir"] = { resume = true }, ["unknown field 'epoch'"] = { epoch = 1 },
         ["how long an epoch is"] = { schedule = "cosine", train_dataloader = function() end },
      } do
         assert.error_matches(function() call(change) end, wanted, 1, true)
      end
   end)

   it("Ctrl-C in the middle of an epoch: exit code 130, the last checkpoint whole", function()
      float_graph():save_onnx(folder .. "/net.onnx")
      pictures:save(folder .. "/x.npy")
      program.write(folder .. "/stop.lua", [[
         local espq = require "espq"
         local x = espq.from_npy "x.npy"
         espq.qat {
            onnx_import_file = "net.onnx", espdl_export_file = "stopped.espdl", epochs = 1000, distill = true, checkpoint_dir = "stopped", steps_per_epoch = 3,
            calib_steps = 2,
            train_dataloader = function(epoch)
               local count = 0
               return function()
                  count = count + 1
                  if epoch == 2 and count == 2 then io.popen("kill -INT $PPID"):close() end
                  return count <= 3 and x or nil
               end
            end,
         }]])
      local code = program.run(folder, "@ stop.lua")
      assert.equal(130, code)
      assert.is_nil(program.read(folder .. "/stopped.espdl"))
      local graph = espq.quantize_onnx { onnx_import_file = folder .. "/net.onnx", skip_export = true, calib_dataloader = { pictures, pictures },
         calib_steps = 2, error_report = false }
      local t = espq.trainer { graph = graph, teacher = true }
      t:load(folder .. "/stopped/last.ckpt")
      assert.equal(3, t:about().steps)
   end)
end)
