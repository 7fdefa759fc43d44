--- Pruning: trials whose graphwise error over a few batches is far beyond that of plain quantization are not evaluated. The measure is one and the
-- same for all trials, so that neither their order nor the number of workers decides which are left out.
local core = require "espq.core"
local evaluate = require "espq.autoquant.evaluate"

local prune = {}

--- Batches that are looked at.
prune.BATCHES = 2

local TIMES, LEAST = 4, 0.05     -- hopeless: so many times the error of plain quantization, and at least this (noise over signal)

local Pruner = {}
Pruner.__index = Pruner

-- The mean of the three largest errors; nil where nothing can be measured.
local function error_of(self, graph)
   local done, value = pcall(self.measure, graph)
   if done then return value end
   if core.error.is_error(value) and value.contract then return nil end
   error(value, 0)
end

--- Why a trial is not worth its evaluation, or nil when it is.
---@param graph userdata the trial's, quantized
---@param plain fun(): userdata the graph that plain quantization gives; asked for once
---@return string?
function Pruner:verdict(graph, plain)
   if self.limit == nil then
      local usual = error_of(self, plain())
      self.usual, self.limit = usual, usual and math.max(TIMES * usual, LEAST) or math.huge
   end
   local found = error_of(self, graph)
   if not found or found <= self.limit then return nil end
   return ("not evaluated: its graphwise error over %d batches is %.3g, plain quantization has %.3g"):format(prune.BATCHES, found, self.usual)
end

--- What leaves hopeless trials out.
---@param walk_of fun(graph: userdata): function of the first batches
---@param share boolean keep float values for the next trial?
function prune.new(walk_of, share) return setmetatable({ measure = evaluate.default(walk_of, share) }, Pruner) end

return prune
