--- Charts as inline SVG. What is drawn is stretched to the width at hand, what is written stands beside it as text: so both are sharp and
-- readable at any width, on a phone as in print. Each chart comes with its numbers as a table.
local html = require "espq.report.html"

local chart = {}

local tag = html.tag
local SIZE = 1000

-- Round numbers that cover a range: 1, 2, 5 times a power of ten.
local function ticks(low, high, count)
   if high <= low then return { low } end
   local raw = (high - low) / count
   local power = 10.0 ^ math.floor(math.log(raw, 10))
   local step = power
   for _, factor in ipairs { 1, 2, 5, 10 } do
      step = factor * power
      if step >= raw then break end
   end
   local list = {}
   for i = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) do list[#list + 1] = i * step end
   return list
end

local function number(value)
   if math.abs(value) < 1e-12 then return "0" end
   return (("%.5g"):format(value):gsub("^-", "−"))
end

--- A scale from the numbers of a list to 0 … 1000.
---@param values number[]
---@param options? { zero: boolean, margin: number }
local function scale(values, options)
   local low, high = math.huge, -math.huge
   for _, value in ipairs(values) do low, high = math.min(low, value), math.max(high, value) end
   if low > high then low, high = 0, 1 end
   if options and options.zero then low = math.min(low, 0) end
   local space = high > low and (high - low) * (options and options.margin or 0.06) or math.max(math.abs(high) * 0.05, 0.5)
   low, high = low - space, high + space
   return {
      low = low, high = high,
      at = function(value) return (value - low) / (high - low) * SIZE end,
   }
end

local function f(value) return ("%.1f"):format(value) end

-- A round dot, whatever the stretch of the drawing: a line without length and with round ends.
local function dot(x, y, class, title)
   return tag("path", { d = ("M%s %sh.01"):format(f(x), f(y)), class = class }, title and tag("title", nil, title))
end

local function axes(x, y, x_label, y_label, whole)
   local lines, y_texts, x_texts = {}, {}, {}
   for i, value in ipairs(ticks(y.low, y.high, 5)) do
      local at = SIZE - y.at(value)
      lines[#lines + 1] = tag("line", { class = "grid", x1 = 0, x2 = SIZE, y1 = f(at), y2 = f(at) })
      y_texts[i] = tag("span", { style = ("top:%.2f%%"):format(at / SIZE * 100) }, number(value))
   end
   local shown = ticks(x.low, x.high, 4)
   for _, value in ipairs(shown) do
      if not whole or value % 1 == 0 then x_texts[#x_texts + 1] = tag("span", { style = ("left:%.2f%%"):format(x.at(value) / SIZE * 100) }, number(value)) end
   end
   return lines, tag("div", { class = "y", ["aria-hidden"] = "true" }, y_texts), tag("div", { class = "x", ["aria-hidden"] = "true" }, x_texts),
      ("across: %s; upwards: %s"):format(x_label, y_label)
end

local function plot(caption, label, parts, lines, y_axis, x_axis, key, class)
   return tag("figure", { class = class }, tag("figcaption", nil, caption, key),
              tag("div", { class = "plot" }, y_axis,
                  tag("svg", { viewBox = ("0 0 %d %d"):format(SIZE, SIZE), preserveAspectRatio = "none", role = "img", ["aria-label"] = label }, lines, parts),
                  x_axis))
end

--- A key: pairs of class and text.
local function key_of(entries)
   local list = {}
   for i, entry in ipairs(entries) do list[i] = { tag("span", { class = "key " .. entry[1] }), entry[2] } end
   return tag("span", { class = "soft" }, list)
end

--- Points, a stair of the best so far or of a front, and marks of what failed.
---@param options { caption: string, x: string, y: string, points: table[], stair: table[], failed: number[], whole: boolean, key: table[] }
--- points: { x, y, title, class }; stair: { x, y } in the order of x; failed: places on the x axis
function chart.points(options)
   local xs, ys = {}, {}
   for _, point in ipairs(options.points) do xs[#xs + 1], ys[#ys + 1] = point[1], point[2] end
   for _, at in ipairs(options.failed or {}) do xs[#xs + 1] = at end
   local x, y = scale(xs, { margin = 0.03 }), scale(ys)
   local parts = {}
   if options.stair and #options.stair > 0 then
      local path = {}
      for i, at in ipairs(options.stair) do
         path[i] = i == 1 and ("M%s %s"):format(f(x.at(at[1])), f(SIZE - y.at(at[2]))) or ("H%sV%s"):format(f(x.at(at[1])), f(SIZE - y.at(at[2])))
      end
      if options.to_end then path[#path + 1] = ("H%s"):format(f(x.at(x.high))) end
      parts[1] = tag("path", { class = "step other", d = table.concat(path) })
   end
   for _, point in ipairs(options.points) do
      parts[#parts + 1] = dot(x.at(point[1]), SIZE - y.at(point[2]), "dot " .. point[4], point[3])
   end
   for _, at in ipairs(options.failed or {}) do
      parts[#parts + 1] = tag("path", { class = "cross", d = ("M%s 1000v-25"):format(f(x.at(at))) })
   end
   local lines, y_axis, x_axis, label = axes(x, y, options.x, options.y, options.whole)
   return plot(options.caption, options.caption .. "; " .. label, parts, lines, y_axis, x_axis, key_of(options.key or {}))
end

--- A strip in a cell of a table: zero, the mean as a dot, the spread to both sides. All strips of a table share `scale`.
---@param mean number
---@param spread number?
---@param most number what the strip reaches to both sides
function chart.effect(mean, spread, most, class)
   local function at(value) return f(SIZE / 2 + math.max(-1, math.min(1, value / most)) * SIZE * 0.47) end
   return tag("svg", { class = "strip", viewBox = ("0 0 %d 20"):format(SIZE), preserveAspectRatio = "none", ["aria-hidden"] = "true" },
              tag("line", { class = "zero", x1 = SIZE // 2, x2 = SIZE // 2, y1 = 0, y2 = 20 }),
              spread and tag("line", { class = "spread", x1 = at(mean - spread), x2 = at(mean + spread), y1 = 10, y2 = 10 }),
              dot(SIZE / 2 + math.max(-1, math.min(1, mean / most)) * SIZE * 0.47, 10, "dot" .. (class and " " .. class or "")))
end

--- One or two bars in a cell of a table, as shares of `most`.
---@param shares number[] 0 … 1
function chart.bars(shares)
   local parts, height = {}, 20 / #shares
   for i, share in ipairs(shares) do
      parts[i] = tag("rect", { class = i == 2 and "bar other" or "bar", x = 0, y = f((i - 1) * height + 2), height = f(height - 4),
                               width = f(math.max(0, math.min(1, share)) * SIZE) })
   end
   return tag("svg", { class = #shares > 1 and "strip two" or "strip", viewBox = ("0 0 %d 20"):format(SIZE), preserveAspectRatio = "none",
                       ["aria-hidden"] = "true" }, parts)
end

--- Memory over the nodes of a run: a block a tensor, as wide as its life, as high as its bytes.
---@param caption string
---@param blocks table[] { first, last, offset, bytes, title }
---@param nodes integer
function chart.memory(caption, blocks, nodes)
   local top = 1
   for _, block in ipairs(blocks) do top = math.max(top, block.offset + block.bytes) end
   local x = { low = 0, high = nodes, at = function(value) return value / nodes * SIZE end }
   local y = { low = 0, high = top / 1024, at = function(value) return value * 1024 / top * SIZE end }
   local parts = {}
   for i, block in ipairs(blocks) do
      local left, right = x.at(block.first), x.at(math.min(nodes, block.last + 1))
      parts[i] = tag("rect", { class = "tensor", x = f(left), width = f(right - left), y = f(SIZE - (block.offset + block.bytes) / top * SIZE),
                               height = f(block.bytes / top * SIZE) }, tag("title", nil, block.title))
   end
   local lines, y_axis, x_axis = axes(x, y, "nodes", "KB", true)
   return plot(caption, caption, parts, lines, y_axis, x_axis, nil, "memory")
end

return chart
