--- The page of one model file: inputs, layers, what it costs, where its tensors lie.
local chart = require "espq.report.chart"
local check = require "espq.check"
local core = require "espq.core"
local cost = require "espq.cost"
local html = require "espq.report.html"
local inspect = require "espq.inspect"

local model = {}

local tag, number = html.tag, html.number

local function range(row) return row.low and ("%s … %s"):format(number(row.low), number(row.high)) or "–" end

local function ends_section(facts)
   local rows = {}
   for _, side in ipairs { "inputs", "outputs" } do
      for _, row in ipairs(facts[side]) do
         rows[#rows + 1] = { row.name, side:sub(1, -2), row.dtype, table.concat(row.shape, " × "), row.exponent and tostring(row.exponent) or "–", range(row),
                             row.layout or "" }
      end
   end
   local code = {}
   for i, input in ipairs(facts.inputs) do code[i] = input.code end
   return html.section("ends", "Inputs and outputs",
      html.table("As the file stores them", {
         { title = "name" }, { title = "end" }, { title = "type" }, { title = "shape", number = true }, { title = "exponent", number = true },
         { title = "range", number = true }, { title = "order" } }, rows),
      html.folded("C++ that fills the inputs", html.code(table.concat(code, "\n"))))
end

local function layers_section(found)
   local rows, most = {}, 0
   for _, row in ipairs(found) do most = math.max(most, row.us or row.macs) end
   for i, row in ipairs(found) do
      local value = row.us or row.macs
      rows[i] = { row.name, row.type, row.macs > 0 and cost.count(row.macs) or "–", row.parameter_bytes > 0 and cost.bytes(row.parameter_bytes) or "–",
                  row.moved_bytes > 0 and cost.bytes(row.moved_bytes) or "–", row.us and cost.milliseconds(row.us / 1000) or "–",
                  chart.bars { most > 0 and value / most or 0 } }
   end
   return html.section("layers", "Layers",
      html.table("In the order of execution", {
         { title = "layer" }, { title = "type" }, { title = "MACs", number = true }, { title = "parameters", number = true },
         { title = "moved", number = true }, { title = "ms (estimate)", number = true }, { title = found.ms and "time" or "MACs", chart = true } }, rows),
      tag("p", { class = "soft" }, found.about))
end

local function memory_section(found)
   local blocks, rows = {}, {}
   for _, tensor in ipairs(found.memory.tensors) do
      local last = tensor.last or #found - 1
      local life = ("nodes %d–%s"):format(tensor.first, tensor.last or "end")
      if not tensor.internal and not tensor.shares then
         blocks[#blocks + 1] = { first = tensor.first, last = last, offset = tensor.offset, bytes = tensor.bytes,
                                 title = ("%s: %s at %d, %s"):format(tensor.name, cost.bytes(tensor.bytes), tensor.offset, life) }
      end
      rows[#rows + 1] = { tensor.name, tostring(tensor.bytes), tostring(tensor.offset), life, tensor.shares or "" }
   end
   return html.section("memory", "Memory plan",
      tag("p", nil, ("%s, planned by the runtime's greedy manager; the most that is alive at once is %s%s."):format(cost.bytes(found.memory.variable),
         cost.bytes(found.memory.live), found.memory.live_node and ", at " .. found.memory.live_node or "")),
      #blocks > 0 and chart.memory("Each block is a tensor: over the nodes from its making to its last reader, at its place in KB.", blocks,
                                   math.max(#found, 1)),
      html.folded("the tensors as a table", html.table("Places of all tensors", { { title = "tensor" }, { title = "bytes", number = true },
         { title = "offset", number = true }, { title = "life" }, { title = "in the memory of" } }, rows)))
end

local function metadata_section(facts)
   if #facts.metadata == 0 then return nil end
   local rows = {}
   for i, pair in ipairs(facts.metadata) do rows[i] = { pair[1], pair[2] } end
   return html.section("metadata", "Metadata", html.table("What the file says of itself", { { title = "key" }, { title = "value" } }, rows))
end

--- The page of an .espdl file.
---@param path string
---@param options { model: string?, target: string? }
---@return string
function model.page(path, options)
   local pack = core.espdl.pack(path)
   if pack.packed and not options.model and #pack.models > 1 then
      check.fail(("the package holds %d models: %s"):format(#pack.models, table.concat(pack.models, ", ")), path, "--model NAME says which one")
   end
   local facts = inspect.facts(path, options.model)
   local tiles = { { "target", options.target or facts.target, not options.target and not facts.target_sure and "a guess" or nil },
                   { "nodes", tostring(#facts.nodes) } }
   local done, found = pcall(cost.estimate, { path = path, model = options.model, target = options.target or facts.target })
   local links, sections = { { "ends", "inputs and outputs" } }, { ends_section(facts) }
   if done then
      for _, line in ipairs(cost.summary(found)) do tiles[#tiles + 1] = { line[1], line[2] } end
      sections[2], sections[3] = layers_section(found), memory_section(found)
      links[2], links[3] = { "layers", "layers" }, { "memory", "memory" }
   else
      sections[2] = html.section("layers", "Layers", tag("p", { class = "bad" }, "No plan of its run: " .. tostring(found)))
      links[2] = { "layers", "layers" }
   end
   local metadata = metadata_section(facts)
   if metadata then
      sections[#sections + 1] = metadata
      links[#links + 1] = { "metadata", "metadata" }
   end
   return html.page(("%s%s"):format(path:match "[^/]+$", options.model and ", model " .. options.model or ""), nil, links, html.tiles(tiles), sections)
end

return model
