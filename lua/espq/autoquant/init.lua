--- AutoQuant: the search over quantization settings. What scripts see of it.
local check = require "espq.check"
local order = require "espq.autoquant.order"
local setting_tools = require "espq.autoquant.setting"
local space_tools = require "espq.autoquant.space"

local autoquant = {}

autoquant.low_latency_candidate_filter = setting_tools.low_latency_candidate_filter

--- The Top-K that such records (with index, score and strategy) give.
autoquant.candidates = function(setting, records) return require("espq.autoquant.candidates").choose(setting, records) end

--- Walk the trials of a setting in their order; nothing is quantized.
---    for trial in espq.autoquant.enumerate(setting, { from = 1000 }) do print(trial.ordinal, trial.hash) end
--- from: begin at this ordinal (exhaustive). score: function(trial), what the other modes decide by ("pareto": score and cost).
---@param setting espq.autoquant.Setting
---@param options? { from: integer, score: fun(trial: espq.autoquant.Trial): number }
---@return fun(): espq.autoquant.Trial?
function autoquant.enumerate(setting, options)
   options = check.fields("enumerate", options or {}, { from = "integer", score = "function" })
   if options.from and options.from < 0 then check.fail(("enumerate: from has to be 0 or more, it is %d"):format(options.from)) end
   local space = space_tools.new(setting)
   if setting.search_mode ~= "exhaustive" and not options.score then
      check.fail(("enumerate: the search '%s' decides by scores"):format(setting.search_mode), nil, "score = function(trial) return … end")
   end
   local trials, given = order.new(space, setting, nil, options.from), nil
   return function()
      if given then
         local score, cost
         if options.score then
            score, cost = options.score(given)
            if type(score) ~= "number" or score ~= score then
               check.fail(("enumerate: score returned %s for trial %d"):format(tostring(score), given.ordinal), nil, "a number is wanted")
            end
         end
         trials:tell(score, { estimated_ms = cost, bytes = cost })
      end
      given = trials:next()
      return given
   end
end

--- How many trials the space has.
---@return integer
function autoquant.count(setting) return space_tools.new(setting).total end

return check.module("autoquant", autoquant)
