--- What a trial is worth: the user's evaluate_fn and what it has to return, or the mean of the three largest graphwise errors.
local check = require "espq.check"
local core = require "espq.core"
local records = require "espq.autoquant.records"

local evaluate = {}

local CONTRACT = "evaluate_fn has to return two values: a finite number and a table of further figures, for example return top1, { top1 = top1 }"

local function breach(text, ...)
   core.error.raise { what = "evaluate_fn: " .. text:format(...), cure = CONTRACT, code = "input", contract = true }
end

local function type_of(value)
   if core.tensor.is_tensor(value) then return "tensor" end
   return type(value)
end

--- What evaluate_fn returned, checked. A breach is an error that ends the search: it would be the same in every trial.
---@return number score, table extras
function evaluate.check(count, score, extras)
   if count ~= 2 then breach("it returned %s, not two", count == 1 and "one value" or count .. " values") end
   if type(score) ~= "number" then
      breach("the score is a %s, not a number%s", type_of(score), core.tensor.is_tensor(score) and " (score:item() takes it out)" or "")
   end
   if score ~= score or score == math.huge or score == -math.huge then breach("the score is not finite: %s", (tostring(score):gsub("^-nan$", "nan"))) end
   if type(extras) ~= "table" then breach("the second value is a %s, not a table of extras", type_of(extras)) end
   local taken, checked = {}, {}
   for key, value in pairs(extras) do
      if type(key) ~= "string" then breach("the extras have a key that is no text: %s", tostring(key)) end
      if records.reserved[key] then taken[#taken + 1] = key end
      local kind = type(value)
      if kind ~= "number" and kind ~= "string" and kind ~= "boolean" then
         breach("extra '%s' is a %s, not a number, a text or a boolean", key, type_of(value))
      end
      if kind == "number" and (value ~= value or value == math.huge or value == -math.huge) then breach("extra '%s' is not finite: %s", key, value) end
      checked[key] = value
   end
   if #taken > 0 then
      table.sort(taken)
      local names = check.keys(records.reserved)
      breach("the extras use reserved names: %s (reserved are %s)", table.concat(taken, ", "), table.concat(names, ", "))
   end
   return score + 0.0, checked
end

-- A path as the shell takes it.
local function shell_word(path) return "'" .. path:gsub("'", "'\\''") .. "'" end

--- A metric of another program: it is called with the trial's files, and prints { "score": …, extras… } as JSON.
---@param command string in which {espdl}, {info}, {json} stand for the files, for example "python3 eval.py {espdl}"
---@return fun(graph: userdata, path: string): number, table
function evaluate.command(command)
   local known = { espdl = true, info = true, json = true }
   if not command:find "{espdl}" and not command:find "{json}" and not command:find "{info}" then
      check.fail("evaluate_command names none of the trial's files", nil, "write {espdl} where the path of the file belongs: python3 eval.py {espdl}")
   end
   return function(_, path)
      local base = path:gsub("%.espdl$", "")
      local line = command:gsub("{(%w+)}", function(ending) return known[ending] and shell_word(base .. "." .. ending) or nil end)
      local pipe = assert(io.popen(line, "r"))
      local output = pipe:read "a"
      local done, how, code = pipe:close()
      if not done then core.error.raise { what = ("evaluate_command ended with %s %d"):format(how == "signal" and "signal" or "exit code", code),
                                          where = line, code = "input", from_user = true } end
      local read, result = pcall(require("espq.json").decode, output:match "({.*})%s*$" or "")
      if not read then breach("the command printed no JSON object: %s", #output > 200 and "…" .. output:sub(-200) or output) end
      local score, extras = result.score, {}
      for key, value in pairs(result) do
         if key ~= "score" then extras[key] = value end
      end
      return score, extras
   end
end

local TOP = 3

local SAMPLES = 256000000        -- bytes of float values that are kept for the next trial

--- The default: the mean of the three largest graphwise errors over the calibration data; less is better. Trials that differ in quantization only
--- are compared with the same float values.
---@param walk_of fun(graph: userdata): function of the data
---@param share boolean keep float values for the next trial?
---@param memo userdata? what earlier trials' runs gave
---@return fun(graph: userdata): number, table
function evaluate.default(walk_of, share, memo)
   local samples
   return function(graph)
      local judge = { method = "snr", steps = 8, exact = core.graph.about(graph).exact, memo = memo }
      if share then
         samples = samples or core.analyse.samples(SAMPLES)
         judge.samples, judge.samples_key = samples, core.road.digest(graph, true) .. tostring(judge.exact)
      end
      local errors = {}
      for i, row in ipairs((core.analyse.graphwise(graph, walk_of(graph), judge))) do errors[i] = row.snr end
      if #errors == 0 then
         core.error.raise { what = "the default evaluation finds no layer that can be measured: no quantized computing operator", code = "input",
                            cure = "give an evaluate_fn, or look at what `espq check` says of the model", contract = true }
      end
      table.sort(errors, function(a, b) return a > b end)
      local used, sum = math.min(TOP, #errors), 0.0
      for i = 1, used do sum = sum + errors[i] end
      return sum / used, { topn_mean_error = sum / used, topn_used = used, num_layers = #errors }
   end
end

return evaluate
