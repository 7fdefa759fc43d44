--- The best candidates: by score, half of them such as the filter takes.
local check = require "espq.check"

local candidates = {}

-- Best first; of equal scores the earlier trial.
function candidates.by_score(direction)
   return function(a, b)
      if a.score ~= b.score then
         if direction == "maximize" then return a.score > b.score end
         return a.score < b.score
      end
      return a.index < b.index
   end
end

---@class espq.autoquant.Pool
local Pool = {}
Pool.__index = Pool

--- Keeps what can still be among the best `count`: entries have score, index, accepted.
---@param count integer
---@param filtered boolean is there a filter?
function candidates.pool(count, filtered, direction)
   return setmetatable({ count = count, filtered = filtered, before = candidates.by_score(direction), accepted = {}, others = {} }, Pool)
end

---@return boolean changed are the candidates others now?
function Pool:add(entry)
   if type(entry.score) ~= "number" then return false end
   local side = (entry.accepted or not self.filtered) and self.accepted or self.others
   local at = #side + 1
   while at > 1 and self.before(entry, side[at - 1]) do at = at - 1 end
   if at > self.count then return false end
   table.insert(side, at, entry)
   side[self.count + 1] = nil
   return true
end

--- The candidates, best first.
function Pool:list()
   local accepted, others, k = self.accepted, self.others, self.count
   local from_accepted = math.min(#accepted, #others == 0 and k or k // 2)
   local from_others = math.min(#others, k - from_accepted)
   if #others > 0 and #accepted == 0 then from_others = math.min(#others, k) end
   from_accepted = math.min(#accepted, k - from_others)
   local list = table.move(accepted, 1, from_accepted, 1, {})
   table.move(others, 1, from_others, #list + 1, list)
   table.sort(list, self.before)
   return list
end

--- The Top-K that these records give.
---@param setting espq.autoquant.Setting
---@param records table[] each with index, score, strategy
---@return table[]
function candidates.choose(setting, records)
   if type(records) ~= "table" then check.fail("candidates: a list of records is wanted, this is a " .. type(records)) end
   local filter = setting.candidate_filter
   local pool = candidates.pool(setting.num_of_candidates, filter ~= nil, setting.score_direction)
   for i, record in ipairs(records) do
      if math.type(record.index) ~= "integer" or type(record.score) ~= "number" then
         check.fail(("candidates: record %d has no index or no score"):format(i), nil, "each needs index, score and strategy")
      end
      pool:add { score = record.score, index = record.index, accepted = not filter or (filter(record) and true or false), record = record }
   end
   local list = {}
   for i, entry in ipairs(pool:list()) do list[i] = entry.record end
   return list
end

return candidates
