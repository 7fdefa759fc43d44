--- espq cost
local core = require "espq.core"
local options = require "espq.cli.options"

local spec = {
   { "--target", value = "T", help = "time it for this chip, or 'all'; without it, for the one that the file is for" },
   { "--internal", value = "BYTES", help = "plan with so much internal RAM (the runtime's max_internal_size): 0" },
   { "--memory", help = "the place and the life of every tensor too" },
   { "--model", value = "NAME", help = "which one of a package" },
   { "--published", value = "DIR", help = "instead of a model: estimates beside published latencies, for the models in DIR/espdl" },
   { "--json", help = "as JSON" },
}

local function plain(rows)
   local json = require "espq.json"
   local nodes = json.list {}
   for i, row in ipairs(rows) do nodes[i] = row end
   return { target = rows.target, macs = rows.macs, parameter_bytes = rows.parameter_bytes, moved_bytes = rows.moved_bytes,
            refetched_bytes = rows.refetched_bytes, estimated_ms = rows.ms, about = rows.about, shapes_computed = rows.computed,
            memory = rows.memory, nodes = nodes }
end

local function published(folder, as_json)
   local rows = require("espq.cost").published(folder)
   if as_json then
      options.print_rows(rows, nil, true)
      return 0
   end
   io.stdout:write(tostring(rows), "\n")
   for _, target in ipairs { "esp32s3", "esp32p4" } do
      local sum, most, count = 0, 0, 0
      for _, row in ipairs(rows) do
         if row.target == target then
            sum, most, count = sum + math.abs(row.error), math.max(most, math.abs(row.error)), count + 1
         end
      end
      if count > 0 then io.stdout:write(("%s: off by %.0f %% on average of %d models, %.0f %% at most\n"):format(target, sum / count, count, most)) end
   end
   return 0
end

local function summary(path, rows)
   local out = io.stdout
   out:write(("%s for %s\n"):format(path, rows.target))
   for _, line in ipairs(require("espq.cost").summary(rows)) do
      out:write(("  %-21s %10s%s\n"):format(line[1], line[2], line[3] and "  " .. line[3] or ""))
   end
   out:write("  ", rows.about, "\n")
   if not rows.computed then out:write("  shapes are as the file records them, since the chip would refuse it: ", rows.refusal, "\n") end
end

local function print_memory(rows)
   local list = {}
   for i, tensor in ipairs(rows.memory.tensors) do
      local pool = tensor.internal and "internal" or "PSRAM"
      list[i] = { name = tensor.name, bytes = tensor.bytes, offset = tensor.offset, pool = rows.memory.internal > 0 and pool or nil,
                  life = ("%d–%s"):format(tensor.first, tensor.last or "end"), shares = tensor.shares }
   end
   io.stdout:write("\n", require("espq.report").table(list, { { key = "name", title = "tensor" }, { key = "bytes" }, { key = "offset" }, { key = "pool" },
                                                              { key = "life", title = "nodes" }, { key = "shares", title = "in the memory of" } }), "\n")
end

local function all_targets(path, given, internal)
   local cost, list, json = require "espq.cost", {}, require "espq.json"
   for i, target in ipairs(core.road.targets()) do
      list[i] = cost.estimate { path = path, target = target.name, model = given.model, max_internal_size = internal }
   end
   if given.json then
      local rows = json.list {}
      for i, rows_of_target in ipairs(list) do rows[i] = plain(rows_of_target) end
      io.stdout:write(json.encode(rows, 2), "\n")
      return 0
   end
   local shown = {}
   for i, rows in ipairs(list) do
      shown[i] = { target = rows.target, ms = rows.ms and cost.milliseconds(rows.ms) or "–",
                   runs = rows.computed and "yes" or "no: " .. rows.refusal }
   end
   summary(path, list[1])
   io.stdout:write("\n", require("espq.report").table(shown, {
      { key = "target" }, { key = "ms", title = "ms (estimate)" }, { key = "runs", title = "runs there" } }), "\n")
   return 0
end

return function(arguments)
   local words, given = options.parse({ usage = "cost M.espdl [--target T|all] [--json]",
         help = "what a model costs on the chip: products, bytes, planned memory, an estimate of time", most = 1 }, spec, arguments)
   if not words then return 0 end
   if given.published then return published(given.published, given.json) end
   if not words[1] then options.usage "usage: espq cost M.espdl [--target T|all] [--json]" end
   local internal = given.internal and options.number("--internal", given.internal) or 0
   if math.type(internal) ~= "integer" or internal < 0 then options.usage(("--internal needs a number of bytes, not '%s'"):format(given.internal)) end
   if given.target == "all" then return all_targets(words[1], given, internal) end
   local target = given.target and options.target { target = given.target }
   local rows = require("espq.cost").estimate { path = words[1], target = target, model = given.model, max_internal_size = internal }
   if given.json then
      io.stdout:write(require("espq.json").encode(plain(rows), 2), "\n")
      return 0
   end
   summary(words[1], rows)
   io.stdout:write("\n", tostring(rows), "\n")
   if given.memory then print_memory(rows) end
   return 0
end
