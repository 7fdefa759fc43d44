-- Promise: states have one name exactly when nothing behind them can tell them apart.
local espq = require "espq"
local core = require "espq.core"

setup(function() espq.verbose = 0 end)

local function make()
   return espq.graph {
      name = "net", inputs = { x = { 1, 3, 6, 6 } }, outputs = { "y" },
      nodes = {
         { type = "Conv", name = "one", inputs = { "x", espq.randn({ 4, 3, 1, 1 }, { seed = 1 }), espq.randn({ 4 }, { seed = 2 }) }, outputs = { "a" } },
         { type = "LeakyRelu", name = "leaky", inputs = { "a" }, outputs = { "y" }, attributes = { alpha = 0.25 } },
      },
   }
end

local function quantized()
   return (espq.quantize_graph { graph = make(), calib_dataloader = { espq.randn({ 2, 3, 6, 6 }, { seed = 5 }) }, calib_steps = 1, target = "esp32s3",
                                 error_report = false })
end

describe("the name of a graph's contents", function()
   it("is that of its copy, and of another graph made alike", function()
      local graph = quantized()
      assert.equal(core.road.digest(graph), core.road.digest(graph:copy()))
      assert.equal(core.road.digest(graph), core.road.digest(quantized()))
   end)

   local edits = {
      { "a weight", function(g) g:node("one").inputs[2].value = g:node("one").inputs[2].value * 1.0000001 end },
      { "an attribute", function(g) g:node("leaky"):set("alpha", 0.5) end },
      { "a name", function(g) g:node("leaky").name = "lazy" end },
      { "an edge", function(g) g:node("leaky"):set_input(1, g:tensor "x") end },
      { "an exponent", function(g) g:node("one").output_config[1].exponent = 3 end },
      { "a node more", function(g) g:insert_after("a", "Relu") end },
   }
   for _, edit in ipairs(edits) do
      it("is another one after a change of " .. edit[1], function()
         local graph = quantized()
         local before = core.road.digest(graph)
         edit[2](graph)
         assert.not_equal(before, core.road.digest(graph))
      end)
   end
end)

describe("a part of the road", function()
   it("stands for every pass, and is left out only when none of its passes is switched on", function()
      local parts, at, inside = require("espq.autoquant.states").parts, 0, false
      for _, pass in ipairs(core.road.passes()) do
         if pass.name == "lower" then break end
         if at == 0 and inside then at = 1 end
         local following = parts[at + 1]
         if following and following.first == pass.name then
            assert.equal(pass.name, parts[at].last)
            at = at + 1
         end
         local known = at == 0 or parts[at].switches == nil
         for _, switch in ipairs(parts[at] and parts[at].switches or {}) do known = known or pass.when == switch end
         assert.is_true(known, pass.name)
         inside = inside or pass.name == "simplify"
      end
      assert.equal(#parts, at)
   end)

   it("after part gives the whole road's graph", function()
      local setting = espq.setting.espdl()
      setting.equalization, setting.bias_correct, setting.recover = true, true, true
      setting.recover_setting.budget = 1
      local data = { espq.randn({ 2, 3, 6, 6 }, { seed = 5 }) }
      local whole = espq.quantize_graph { graph = make(), calib_dataloader = data, calib_steps = 1, target = "esp32s3", setting = setting,
                                          error_report = false }
      local states = require("espq.autoquant.states").new {
         load = function(road)
            local graph = make()
            core.road.simplify(graph, road)
            return graph
         end,
         walk = function(graph) return espq.data.walk("test", data, graph) end,
      }
      local road = require("espq.quantize").road_options({ target = "esp32s3" }, setting)
      local name, graph = states:walk_setting(setting, 8, road)
      assert.equal(core.road.digest(whole), core.road.digest(graph()))
      local again = states:walk_setting(setting, 8, road)
      assert.equal(name, again)
      setting.bias_correct_setting.steps = 1
      setting.quantize_activation_setting.calib_algorithm = "minmax"
      assert.not_equal(name, (states:walk_setting(setting, 8, require("espq.quantize").road_options({ target = "esp32s3" }, setting))))
   end)

   it("is made again when its state had to leave memory", function()
      local setting = espq.setting.espdl()
      local made = 0
      local states = require("espq.autoquant.states").new {
         load = function(road)
            made = made + 1
            local graph = make()
            core.road.simplify(graph, road)
            return graph
         end,
         walk = function(graph) return espq.data.walk("test", { espq.randn({ 2, 3, 6, 6 }, { seed = 5 }) }, graph) end, memory = 1,
      }
      local road = require("espq.quantize").road_options({ target = "esp32s3" }, setting)
      local _, graph = states:walk_setting(setting, 8, road)
      local digest = core.road.digest(graph())
      setting.quantize_activation_setting.calib_algorithm = "minmax"
      states:walk_setting(setting, 8, require("espq.quantize").road_options({ target = "esp32s3" }, setting))
      setting.quantize_activation_setting.calib_algorithm = "kl"
      assert.equal(digest, core.road.digest(graph()))
      assert.is_true(made >= 2)
   end)
end)

describe("what calibration sees", function()
   local methods = { "kl", "mse", "percentile", "minmax", "isotone" }

   -- Digests by method, and how often the data were begun.
   local function digests(shared, width)
      local begun, names = 0, {}
      local data = {}
      for i = 1, 3 do data[i] = espq.randn({ 2, 3, 6, width }, { seed = 4 + i }) end
      data[4] = espq.zeros { 1, 3, 6, width }
      local function new()
         return require("espq.autoquant.states").new {
            load = function(road)
               local graph = espq.graph {
                  name = "net", inputs = { x = { 1, 3, 6, width } }, outputs = { "y" },
                  nodes = {
                     { type = "Conv", name = "one", inputs = { "x", espq.randn({ 4, 3, 1, 1 }, { seed = 1 }), espq.zeros { 4 } }, outputs = { "a" } },
                     { type = "LeakyRelu", name = "leaky", inputs = { "a" }, outputs = { "b" }, attributes = { alpha = 0.25 } },
                     { type = "Mul", name = "nothing", inputs = { "b", espq.zeros { 1 } }, outputs = { "z" } },
                     { type = "Add", name = "sum", inputs = { "b", "z" }, outputs = { "y" } },
                  },
               }
               core.road.simplify(graph, road)
               return graph
            end,
            walk = function(graph)
               local walk = espq.data.walk("test", data, graph)
               return function()
                  begun = begun + 1
                  return walk()
               end
            end,
            methods = shared and methods,
         }
      end
      local states = new()
      for i, method in ipairs(methods) do
         local setting = espq.setting.espdl()
         setting.quantize_activation_setting.calib_algorithm = method
         local road = require("espq.quantize").road_options({ target = "esp32p4" }, setting)
         names[i] = select(2, pcall(function() return (states:walk_setting(setting, 8, road)) end))
         if not shared then states = new() end
      end
      for i, name in ipairs(names) do names[i] = tostring(name) end
      return names, begun
   end

   it("serves every method: the data are walked once, and the graphs are those of methods that walk alone", function()
      local together, walks = digests(true, 6)
      assert.equal(2, walks)
      assert.same((digests(false, 6)), together)
   end)

   it("leaves a method that cannot be used to fail by itself", function()
      local together = digests(true, 1)                       -- isotone wants two numbers in the last axis
      assert.matches("isotone", together[5], 1, true)
      assert.same((digests(false, 1)), together)
   end)
end)

describe("states that had to leave memory", function()
   local spill = require "espq.autoquant.spill"
   local program = require "lua.program"
   local folder
   before_each(function() folder = program.folder() end)
   after_each(function() program.remove(folder) end)

   it("come back from disk, and are made again when the file there is damaged", function()
      local begun, data = 0, { espq.randn({ 2, 3, 6, 6 }, { seed = 5 }) }
      local states = require("espq.autoquant.states").new {
         load = function(road)
            local graph = make()
            core.road.simplify(graph, road)
            return graph
         end,
         walk = function(graph)
            local walk = espq.data.walk("test", data, graph)
            return function()
               begun = begun + 1
               return walk()
            end
         end,
         memory = 0, disk = spill.new(folder, { seconds = 0 }),
      }
      local function name_of(threshold)
         local setting = espq.setting.espdl()
         setting.equalization, setting.equalization_setting.value_threshold = true, threshold
         return (states:walk_setting(setting, 8, require("espq.quantize").road_options({ target = "esp32s3" }, setting)))
      end
      local function graph_of(threshold)
         local setting = espq.setting.espdl()
         setting.equalization, setting.equalization_setting.value_threshold = true, threshold
         local _, graph = states:walk_setting(setting, 8, require("espq.quantize").road_options({ target = "esp32s3" }, setting))
         return core.road.digest(graph())
      end
      local first = graph_of(0.5)
      name_of(2)
      local walks = begun
      assert.equal(first, graph_of(0.5))
      assert.equal(walks, begun)
      for _, name in ipairs(program.names(folder)) do program.write(folder .. "/" .. name, "damaged") end
      name_of(2)
      assert.equal(first, graph_of(0.5))
   end)

   it("take no more room than they may, the least recently used out", function()
      local graph = quantized()
      core.road.save_native(graph, folder .. "/size", "", true)
      local size = #program.read(folder .. "/size")
      local disk, names = spill.new(folder, { seconds = 0, room = 2.5 * size }), {}
      for i = 1, 3 do
         local copy = graph:copy()
         copy:node("one").output_config[1].exponent = i
         names[i] = core.road.digest(copy)
         disk:put(names[i], copy, 1)
         if i == 2 then assert.truthy(disk:get(names[1])) end
      end
      assert.truthy(disk:get(names[1]))
      assert.is_nil(disk:get(names[2]))
      assert.truthy(disk:get(names[3]))
   end)
end)

describe("states of several processes", function()
   local spill = require "espq.autoquant.spill"
   local program = require "lua.program"
   local folder
   before_each(function() folder = program.folder() end)
   after_each(function() program.remove(folder) end)

   -- States as a process of its own has them; each walk over the data leaves a mark, and takes a while.
   local function new_states(pause)
      return require("espq.autoquant.states").new {
         load = function(road)
            local graph = make()
            core.road.simplify(graph, road)
            return graph
         end,
         walk = function(graph)
            local walk = espq.data.walk("test", { espq.randn({ 2, 3, 6, 6 }, { seed = 5 }) }, graph)
            return function()
               core.system.append(folder .. "/walks", ".")
               os.execute("sleep " .. pause)
               return walk()
            end
         end,
         disk = spill.new(folder .. "/states", { seconds = 0, shared = true }),
      }
   end

   local function graph_of(states)
      local setting = espq.setting.espdl()
      local _, make_graph = states:walk_setting(setting, 8, require("espq.quantize").road_options({ target = "esp32s3" }, setting))
      return core.road.digest(make_graph())
   end

   local function walks() return #(program.read(folder .. "/walks") or "") end

   it("are made once, by the first that needs them", function()
      local worker, channel = core.process.fork()
      if not worker then
         channel:send(graph_of(new_states(0.1)))
         core.process.exit(0)
      end
      while walks() == 0 do os.execute "sleep 0.01" end          -- the other is at it
      local here, there = graph_of(new_states(0.1)), worker:receive()
      worker:finish()
      local count = walks()
      assert.equal(there, here)
      assert.equal(here, graph_of(new_states(0)))
      assert.equal(count, walks())
      program.remove(folder .. "/states")
      os.remove(folder .. "/walks")
      assert.equal(here, graph_of(new_states(0)))
      assert.equal(count, walks())                               -- two processes walked no oftener than one does
   end)

   it("are made by another when the process dies that was at it", function()
      local worker = core.process.fork()
      if not worker then
         graph_of(new_states(2))
         core.process.exit(0)
      end
      while walks() == 0 do os.execute "sleep 0.01" end
      worker:kill()
      worker:finish()
      assert.truthy(graph_of(new_states(0)))
      assert.is_true(walks() > 1)
   end)
end)
