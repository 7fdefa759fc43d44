--- Graphs: building, walking, editing, saving. The methods here are those of the userdata.
local core = require "espq.core"
local check = require "espq.check"
local json = require "espq.json"

local graph = {}
local G = core.graph
local methods = G.methods

-- ---- asking ----

--- The nodes, in the order in which they came; the graph may be edited on the way.
function methods:nodes()
   local list, i = G.list_nodes(self), 0
   return function()
      repeat i = i + 1 until not list[i] or not list[i].removed
      return list[i]
   end
end

--- All tensors of the graph: activations and parameters.
function methods:tensors()
   local list, i = G.list_tensors(self), 0
   return function()
      repeat i = i + 1 until not list[i] or not list[i].removed
      return list[i]
   end
end

--- The nodes in the order of execution.
function methods:sorted() return G.sorted(self) end

local function names_of(list)
   local names = {}
   for i, item in ipairs(list) do names[i] = item.name end
   return names
end

---@param name string
function methods:node(name)
   local node = G.find_node(self, name)
   if not node then check.fail(("the graph has no node '%s'%s"):format(tostring(name), check.hint(name, names_of(G.list_nodes(self))))) end
   return node
end

---@param name string
function methods:tensor(name)
   local value = G.find_tensor(self, name)
   if value then return value end
   local node = G.find_node(self, name)
   if node and node.outputs[1] then
      check.fail(("the graph has no tensor '%s'"):format(name), nil, ("that is a node; the tensor it makes is '%s'"):format(node.outputs[1].name))
   end
   check.fail(("the graph has no tensor '%s'%s"):format(tostring(name), check.hint(name, names_of(G.list_tensors(self)))), nil,
              "`espq dump` prints the names of all tensors")
end

function methods:has_node(name) return G.find_node(self, name) ~= nil end
function methods:has_tensor(name) return G.find_tensor(self, name) ~= nil end

--- A graph of its own; parameters are shared until one of them is written.
function methods:copy() return G.copy(self) end

--- Prove that the graph is legal: links, names, order. An error says what is not.
function methods:check() return G.check(self) end

--- Shapes and types of all tensors, anew from the inputs.
function methods:infer()
   G.infer(self)
   return self
end

-- ---- saving ----

local function is_quantized(self)
   for node in self:nodes() do
      if node.quantized then return true end
   end
   return false
end

--- Write a float graph as ONNX.
---@param path string
function methods:save_onnx(path)
   if is_quantized(self) then check.fail("a quantized graph is not saved as ONNX", path, "espq.export{ graph =, espdl_export_file = } writes .espdl") end
   G.save(self, path)
   return self
end

-- What Lua knows of a graph beside the engine: how it was quantized.
local function about_text(self, setting)
   local about = G.about(self)
   if not about.quantized then return "{}" end
   return json.encode {
      setting = json.decode((setting or about.setting):to_json()), target = about.target, bits = about.bits,
      hi_precision = about.hi_precision and true or false, exact = about.exact and true or false,
      int16_lut_step = about.int16_lut_step, metadata = about.metadata or {},
   }
end

--- Write the graph as it stands, with slots and notes: espq.load_native goes on with it. Espq's own format; equal graphs give equal bytes.
---@param path string
function methods:save_native(path)
   core.road.save_native(self, path, about_text(self), true)
   return self
end

--- The same in a search: nothing in the file tells by which way the graph came about, so that equal graphs of different trials are equal files.
---@param setting table what the file says in place of the trial's own quantization setting
function graph.save_state(self, path, setting) core.road.save_native(self, path, about_text(self, setting), false) end

--- A graph that save_native wrote, ready to run, analyse and export.
---@param path string
---@return userdata graph
function graph.load_native(path)
   local self, text = core.road.load_native(path)
   local read, kept = pcall(json.decode, text)
   if not read or type(kept) ~= "table" then check.fail("the file does not say how the graph was quantized", path, "write it anew with graph:save_native") end
   if kept.target then
      local about = G.about(self)
      about.setting = require("espq.setting").from_json(json.encode(kept.setting))
      about.target, about.bits, about.hi_precision, about.exact = kept.target, kept.bits, kept.hi_precision, kept.exact
      about.int16_lut_step, about.metadata, about.quantized = kept.int16_lut_step, kept.metadata or {}, true
   end
   return self
end

-- ---- building ----

local function value_of(self, known, name, what)
   local value = G.find_tensor(self, name)
   if value then return value end
   check.fail(("%s reads tensor '%s', which nothing makes%s"):format(what, name, check.hint(name, known)))
end

local function add_attributes(node, attributes)
   for _, name in ipairs(check.keys(attributes or {})) do node:set(name, attributes[name]) end
end

local node_fields = { type = "string!", name = "string", inputs = "table", outputs = "table", attributes = "table" }

local function add_node(self, spec, position)
   local what = ("graph: node %d (%s)"):format(position, spec.name or spec.type or "?")
   check.fields(what, spec, node_fields)
   local node = G.add_node(self, spec.type, spec.name)
   add_attributes(node, spec.attributes)
   local known = names_of(G.list_tensors(self))
   for i, input in ipairs(spec.inputs or {}) do
      local value
      if core.tensor.is_tensor(input) then
         value = G.add_constant(self, ("%s_input_%d"):format(node.name, i - 1), input)
      elseif input ~= "" and input ~= false then
         value = type(input) == "string" and value_of(self, known, input, what) or input
      end
      node:set_input(i, value)
   end
   for i, output in ipairs(spec.outputs or { node.name .. "_output" }) do
      local value = output ~= "" and (G.find_tensor(self, output) or G.add_value(self, output)) or nil
      node:set_output(i, value)
   end
   return node
end

local function add_inputs(self, inputs)
   local list = {}
   if #inputs > 0 then
      list = inputs
   else
      for _, name in ipairs(check.keys(inputs)) do
         local spec = inputs[name]
         list[#list + 1] = spec.shape and { name = name, shape = spec.shape, dtype = spec.dtype } or { name = name, shape = spec }
      end
   end
   for _, spec in ipairs(list) do
      check.fields("graph: an input", spec, { name = "string!", shape = "table!", dtype = "string" })
      G.add_input(self, G.add_value(self, spec.name, spec.dtype or "float32", spec.shape))
   end
end

--- Build a graph.
---    espq.graph { inputs = { x = {1, 4} }, constants = { w = tensor }, nodes = { { type =, name =, inputs =, outputs =, attributes = }, … },
--- outputs = { "y" } }
--- inputs also as a list { { name =, shape =, dtype = }, … }, which fixes their order. Among a node's inputs a tensor may stand for itself.
function graph.build(spec)
   check.fields("graph", spec, { name = "string", inputs = "table!", outputs = "table!", nodes = "table!", constants = "table" })
   local self = G.make(spec.name or "graph")
   add_inputs(self, spec.inputs)
   for _, name in ipairs(check.keys(spec.constants or {})) do G.add_constant(self, name, spec.constants[name]) end
   -- Nodes may stand in any order: those whose inputs are not there yet wait.
   local made = {}
   for _, node in ipairs(spec.nodes) do
      for _, output in ipairs(type(node) == "table" and node.outputs or {}) do made[output] = true end
   end
   local waiting = {}
   for i, node in ipairs(spec.nodes) do waiting[i] = { i, node } end
   while #waiting > 0 do
      local later = {}
      for _, entry in ipairs(waiting) do
         local ready = true
         for _, input in ipairs(entry[2].inputs or {}) do
            if type(input) == "string" and made[input] and not G.find_tensor(self, input) then ready = false end
         end
         if ready then add_node(self, entry[2], entry[1]) else later[#later + 1] = entry end
      end
      if #later == #waiting then check.fail(("graph: node %d (%s) is part of a cycle"):format(later[1][1], later[1][2].name or later[1][2].type)) end
      waiting = later
   end
   for _, name in ipairs(spec.outputs) do
      local value = G.find_tensor(self, name)
      if not value then check.fail(("graph: output '%s' is made by no node%s"):format(name, check.hint(name, names_of(G.list_tensors(self))))) end
      G.add_output(self, value)
   end
   G.infer(self)
   G.check(self)
   return self
end

local function shapes_of(input_shape)
   if input_shape == nil then return nil end
   if type(input_shape) ~= "table" then check.fail("input_shape has to be a list of sizes, a list of such lists, or name = sizes") end
   local list = {}
   if type(input_shape[1]) == "number" then return { { shape = input_shape } } end
   if type(input_shape[1]) == "table" then
      for i, shape in ipairs(input_shape) do list[i] = { shape = shape } end
      return list
   end
   for _, name in ipairs(check.keys(input_shape)) do list[#list + 1] = { name = name, shape = input_shape[name] } end
   return list
end

graph.shapes_of = shapes_of

--- Read an ONNX file, with no rewrite but the end of opset differences.
---@param path string
---@param options? { input_shape: table }
function graph.load_onnx(path, options)
   options = check.fields("load_onnx", options or {}, { input_shape = "table" })
   return G.load(path, shapes_of(options.input_shape))
end

-- ---- editing ----

local function as_value(self, value)
   if type(value) == "string" then return self:tensor(value) end
   return value
end

--- Put a node behind a tensor: all its readers read the new node instead. A graph output keeps its name.
---@param value string|userdata
---@param spec string|table an operator's type, or { type =, name =, attributes =, inputs = further inputs }
function methods:insert_after(value, spec)
   value = as_value(self, value)
   if type(spec) == "string" then spec = { type = spec } end
   check.fields("insert_after", spec, { type = "string!", name = "string", attributes = "table", inputs = "table" })
   local was_output, name = value.is_output, value.name
   local node = G.add_node(self, spec.type, spec.name)
   add_attributes(node, spec.attributes)
   local made = G.add_value(self)
   G.replace_uses(self, value, made)
   node:set_input(1, value)
   for i, input in ipairs(spec.inputs or {}) do
      if core.tensor.is_tensor(input) then input = G.add_constant(self, ("%s_input_%d"):format(node.name, i), input) end
      node:set_input(i + 1, as_value(self, input))
   end
   node:set_output(1, made)
   if was_output then
      local outputs = self.outputs
      G.clear_outputs(self)
      value.name = name .. "_before_" .. node.name
      made.name = name
      for _, output in ipairs(outputs) do G.add_output(self, output == value and made or output) end
   end
   G.infer(self)
   return node
end

--- Take a node out: the readers of its first output read its first input. With { disconnect = true } the edges are just cut.
---@param node string|userdata
function methods:remove(node, options)
   if type(node) == "string" then node = self:node(node) end
   local input, output = node.inputs[1], node.outputs[1]
   local name, others = node.name, {}
   for i, value in ipairs(node.inputs) do
      if i > 1 and value then others[#others + 1] = value end
   end
   if not (options and options.disconnect) then
      if not input or not output then check.fail(("node '%s' has no input or output to connect"):format(name)) end
      if output.is_output and input.is_input then check.fail(("node '%s' stands between an input and an output of the graph"):format(name)) end
      G.replace_uses(self, output, input)
      if output.is_output then
         local outputs, kept = self.outputs, output.name
         G.clear_outputs(self)
         for _, other in ipairs(outputs) do G.add_output(self, other == output and input or other) end
         G.remove(self, node)
         G.remove_tensor(self, output)
         input.name = kept
         output = nil
      end
   end
   if not node.removed then G.remove(self, node) end
   if output and not output.removed and not output.is_output and #output.consumers == 0 then G.remove_tensor(self, output) end
   for _, value in ipairs(others) do
      if not value.removed and value.is_parameter and #value.consumers == 0 then G.remove_tensor(self, value) end
   end
   return self
end

local function fits(pattern, node)
   if type(pattern) == "function" then return pattern(node) end
   return pattern == "*" or node.type == pattern
end

-- The chain that begins at node: each node's first output is read by the next alone.
local function match_chain(pattern, node)
   local chain = {}
   for i, step in ipairs(pattern) do
      if not fits(step, node) then return nil end
      chain[i] = node
      if i == #pattern then return chain end
      local output = node.outputs[1]
      if not output or output.is_output or #output.consumers ~= 1 then return nil end
      node = output.consumers[1]
   end
   return chain
end

--- Replace chains of nodes. pattern: types (or "*", or functions of a node) one behind the other; with: a type or { type =, attributes = },
--- which reads what the first node read and makes what the last made, or a function(graph, nodes) that does the work and returns false for nothing done.
--- Gives the number of replacements.
function methods:replace(options)
   check.fields("replace", options, { pattern = "table|string!", with = "table|string|function!" })
   local pattern = type(options.pattern) == "table" and options.pattern or { options.pattern }
   local count = 0
   for node in self:nodes() do
      local chain = match_chain(pattern, node)
      if chain then
         if type(options.with) == "function" then
            if options.with(self, chain) ~= false then count = count + 1 end
         else
            local spec = type(options.with) == "table" and options.with or { type = options.with }
            check.fields("replace: with", spec, { type = "string!", name = "string", attributes = "table" })
            local inputs, output, name = chain[1].inputs, chain[#chain].outputs[1], spec.name or chain[#chain].name
            for _, old in ipairs(chain) do G.remove(self, old) end
            local made = G.add_node(self, spec.type, name)
            add_attributes(made, spec.attributes)
            for i, input in ipairs(inputs) do made:set_input(i, input) end
            made:set_output(1, output)
            count = count + 1
         end
      end
   end
   if count > 0 then
      G.remove_unused(self)
      G.infer(self)
   end
   return count
end

--- The part of the graph between these tensors, as a graph of its own. inputs: names (default: the graph's), outputs: names.
function methods:extract(options)
   check.fields("extract", options, { inputs = "table", outputs = "table" })
   local part = self:copy()
   local outputs = {}
   for i, name in ipairs(options.outputs or names_of(part.outputs)) do outputs[i] = part:tensor(name) end
   if options.inputs then
      local inputs = {}
      for i, name in ipairs(options.inputs) do
         local value = part:tensor(name)
         if not value.shape then check.fail(("tensor '%s' has no known shape"):format(name), nil, "graph:infer() first") end
         inputs[i] = value
      end
      for i, value in ipairs(inputs) do
         local producer = value.producer
         if producer then
            -- What made it is cut off: the readers read a new tensor, which then takes the name.
            local name, fresh = value.name, G.add_value(part, nil, value.dtype, value.shape)
            G.replace_uses(part, value, fresh)
            for k, output in ipairs(outputs) do
               if output == value then outputs[k] = fresh end
            end
            value.name = name .. "_cut"
            fresh.name = name
            inputs[i] = fresh
         end
      end
      G.clear_inputs(part)
      for _, value in ipairs(inputs) do G.add_input(part, value) end
   end
   G.clear_outputs(part)
   for _, value in ipairs(outputs) do G.add_output(part, value) end
   G.remove_unused(part)
   G.check(part)
   return part
end

--- Cut at these outputs, in place of a copy: what `outputs = {…}` of quantize_onnx does.
function graph.cut(self, names) return self:extract { outputs = names } end

--- New names of the outputs: a list in their order, or old = new.
function graph.rename_outputs(self, names)
   if #names > 0 then
      if #names ~= #self.outputs then check.fail(("rename_outputs: %d names are given, the graph has %d outputs"):format(#names, #self.outputs)) end
      for i, output in ipairs(self.outputs) do
         if output.name ~= names[i] then output.name = names[i] end
      end
      return
   end
   for _, old in ipairs(check.keys(names)) do
      local value = self:tensor(old)
      if not value.is_output then check.fail(("rename_outputs: '%s' is no output of the graph"):format(old)) end
      value.name = names[old]
   end
end

return graph
