--- What the chip would refuse or compute wrongly in a file: the loader's rules, then a run from the file's own bytes.
local core = require "espq.core"
local check = require "espq.check"

local verify = {}

local fields = { target = "string", model = "string", version = "string", mended = "boolean", traits = "table" }

-- Which chips the file may be for, the likeliest first.
local function candidates(model, asked)
   if asked then return { asked }, true end
   local target, sure = core.chip.target(model)
   if sure then return { target }, true end
   return target == "esp32s3" and { "esp32s3", "esp32p4" } or { "esp32p4", "esp32s3", "c" }, false
end

local function errors_in(findings)
   local count = 0
   for _, finding in ipairs(findings) do
      if finding.level == "error" then count = count + 1 end
   end
   return count
end

--- A list of findings, true when none is an error, and the chip that the file was judged for. A file that may be for several chips is judged for the
--- one on which its own test passes.
---@param path string
---@param options? { target: string, model: string, version: string, mended: boolean, traits: table } model: which one of a package
function verify.file(path, options)
   options = check.fields("verify", options or {}, fields)
   local model = core.espdl.load(path, options.model)
   local findings = core.espdl.verify(model, options.target)
   local chips, target = candidates(model, options.target), nil
   local best
   for _, chip in ipairs(chips) do
      local found = core.chip.self_test(model, { target = chip, version = options.version, mended = options.mended, traits = options.traits,
                                                 accumulators = true })
      if not best or errors_in(found) < errors_in(best) then best, target = found, chip end
      if errors_in(best) == 0 then break end
   end
   table.move(best, 1, #best, #findings + 1, findings)
   local rows = require("espq.report").rows(findings, { { key = "level" }, { key = "where" }, { key = "text" }, { key = "rule" } },
                                            #findings == 0 and "no findings" or nil)
   return rows, errors_in(findings) == 0, target
end

return verify
