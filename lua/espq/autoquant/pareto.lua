--- Two aims at once: a good score, and a low cost. What is on the front, who comes before whom, and how much the front covers.
local pareto = {}

---@class espq.autoquant.Point
---@field score number? nil: the trial failed
---@field cost number? nil: nothing is known of it

-- Both aims as numbers of which less is better.
local function aims(point, direction)
   return direction == "maximize" and -point.score or point.score, point.cost
end

local function counts(point) return point.score ~= nil and point.cost ~= nil end

--- The points that no other beats in one aim without losing in the other, cheapest first; of equal ones the first.
---@param points espq.autoquant.Point[]
---@param direction "maximize"|"minimize" of the score
---@return espq.autoquant.Point[]
function pareto.front(points, direction)
   local list, place = {}, {}
   for i, point in ipairs(points) do
      if counts(point) then
         list[#list + 1] = point
         place[point] = i
      end
   end
   table.sort(list, function(a, b)
      local score_a, cost_a = aims(a, direction)
      local score_b, cost_b = aims(b, direction)
      if cost_a ~= cost_b then return cost_a < cost_b end
      if score_a ~= score_b then return score_a < score_b end
      return place[a] < place[b]
   end)
   local front, best = {}, math.huge
   for _, point in ipairs(list) do
      local score = aims(point, direction)
      if score < best then
         front[#front + 1] = point
         best = score
      end
   end
   return front
end

-- How far apart a point's neighbours on its front are: those at the ends, and the lonely, are worth more. front: cheapest first.
local function crowding(front, direction)
   local distance, count = {}, #front
   local first_score, first_cost = aims(front[1], direction)
   local last_score, last_cost = aims(front[count], direction)
   local width, height = math.max(last_cost - first_cost, 1e-300), math.max(first_score - last_score, 1e-300)
   for i, point in ipairs(front) do
      if i == 1 or i == count then
         distance[point] = math.huge
      else
         local score_before, cost_before = aims(front[i - 1], direction)
         local score_after, cost_after = aims(front[i + 1], direction)
         distance[point] = (cost_after - cost_before) / width + (score_before - score_after) / height
      end
   end
   return distance
end

--- All points, best first: the front, what is the front without it, and so on; within one those with most room around them. Points that failed, or
--- cost who knows what, come last.
---@return espq.autoquant.Point[]
function pareto.order(points, direction)
   local list, left, place = {}, {}, {}
   for i, point in ipairs(points) do
      place[point] = i
      if counts(point) then left[#left + 1] = point end
   end
   while #left > 0 do
      local front, taken, rest = pareto.front(left, direction), {}, {}
      local distance = crowding(front, direction)
      for _, point in ipairs(front) do taken[point] = true end
      for _, point in ipairs(left) do
         if not taken[point] then rest[#rest + 1] = point end
      end
      table.sort(front, function(a, b)
         if distance[a] ~= distance[b] then return distance[a] > distance[b] end
         return place[a] < place[b]
      end)
      table.move(front, 1, #front, #list + 1, list)
      left = rest
   end
   for _, point in ipairs(points) do
      if not counts(point) then list[#list + 1] = point end
   end
   return list
end

--- What share of the box between the best and the worst of all points the front covers: 1 when one trial is best in both.
---@return number? share nil when there is nothing to compare
function pareto.hypervolume(points, direction)
   local front = pareto.front(points, direction)
   if #front == 0 then return nil end
   local worst_score, worst_cost = -math.huge, -math.huge
   local best_score, best_cost = math.huge, math.huge
   for _, point in ipairs(points) do
      if counts(point) then
         local score, cost = aims(point, direction)
         worst_score, best_score = math.max(worst_score, score), math.min(best_score, score)
         worst_cost, best_cost = math.max(worst_cost, cost), math.min(best_cost, cost)
      end
   end
   if worst_score == best_score or worst_cost == best_cost then return 1.0 end
   local area = 0.0
   for i, point in ipairs(front) do
      local score, cost = aims(point, direction)
      local until_cost = front[i + 1] and select(2, aims(front[i + 1], direction)) or worst_cost
      area = area + (until_cost - cost) * (worst_score - score)
   end
   return area / ((worst_score - best_score) * (worst_cost - best_cost))
end

return pareto
