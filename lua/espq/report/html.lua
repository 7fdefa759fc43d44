--- Pages of HTML: elements whose texts are escaped, tables, and the frame of a page that needs no network and no script.

local html = {}

-- ---- elements ----

local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }

--- Text as HTML has it. Control characters and bytes that are no UTF-8 become question marks.
---@param value any
---@return string
function html.escape(value)
   local text = tostring(value)
   if not utf8.len(text) then text = text:gsub("[\x80-\xff]", "?") end
   return (text:gsub("[%z\1-\8\11\12\14-\31\127]", "?"):gsub("[&<>\"']", entities))
end

--- A path as a link has it.
---@param path string
---@return string
function html.link(path)
   return (path:gsub("[^%w%-._~/]", function(c) return ("%%%02X"):format(c:byte()) end))
end

local Element = {}
Element.__tostring = function(self) return self.html end

--- HTML that is written already.
function html.raw(text) return setmetatable({ html = text }, Element) end

local function put(parts, child)
   if child == nil or child == false then return end
   if getmetatable(child) == Element then
      parts[#parts + 1] = child.html
   elseif type(child) == "table" then
      for _, each in ipairs(child) do put(parts, each) end
   else
      parts[#parts + 1] = html.escape(child)
   end
end

local no_end = { br = true, meta = true, line = true, path = true, rect = true }

--- An element: its name, attributes (true: without a value), children. Children are elements, lists of them, or texts, which are escaped.
---@param name string
---@param attributes table<string, any>|nil
---@return table
function html.tag(name, attributes, ...)
   local parts, names = { "<", name }, {}
   for key, value in pairs(attributes or {}) do
      if value ~= nil and value ~= false then names[#names + 1] = key end
   end
   table.sort(names)
   for _, key in ipairs(names) do
      parts[#parts + 1] = " " .. key
      if attributes[key] ~= true then parts[#parts + 1] = ('="%s"'):format(html.escape(attributes[key])) end
   end
   if no_end[name] then
      parts[#parts + 1] = select("#", ...) == 0 and "/>" or ">"
      if select("#", ...) == 0 then return html.raw(table.concat(parts)) end
   else
      parts[#parts + 1] = ">"
   end
   for i = 1, select("#", ...) do put(parts, (select(i, ...))) end
   parts[#parts + 1] = ("</%s>"):format(name)
   return html.raw(table.concat(parts))
end

local tag = html.tag

-- ---- numbers ----

--- As short as it is told apart: six digits.
function html.number(value)
   if value == nil then return "–" end
   if math.type(value) == "integer" then return ("%d"):format(value) end
   return ("%.6g"):format(value)
end

--- A difference, with its sign.
function html.signed(value)
   if value == 0 then return "0" end
   local text = ("%+.4g"):format(value)
   return (text:gsub("^-", "−"))
end

--- A standard deviation: two digits are more than it knows. nil: there was nothing to compare.
function html.spread(value) return value and ("± %.2g"):format(value) or "–" end

-- ---- tables ----

--- A frame that scrolls by itself when the page is narrow.
function html.frame(label, ...) return tag("div", { class = "scroll", tabindex = "0", role = "region", ["aria-label"] = label }, ...) end

--- A table in a frame of its own that scrolls when the page is narrow. columns: { title =, and one of number = true, wide = true (sentences), chart = true
--- }; rows: lists of children. On a phone a row of a table with sentences becomes a card: each cell with its title, one below the other.
---@param caption string what it shows, also for those who do not see it
---@param columns table[]
---@param rows table[]
function html.table(caption, columns, rows)
   local head, body, cards = {}, {}, nil
   for _, column in ipairs(columns) do
      if column.wide then cards = "cards" end
   end
   for i, column in ipairs(columns) do head[i] = tag("th", { scope = "col", class = column.number and "n" or nil }, column.title) end
   for r, row in ipairs(rows) do
      local cells = {}
      for i, column in ipairs(columns) do
         local class = column.number and "n" or column.chart and "c" or column.wide and "w" or nil
         local title = cards and column.title or nil
         cells[i] = i == 1 and tag("th", { scope = "row", class = class }, row[i]) or tag("td", { class = class, ["data-title"] = title }, row[i])
      end
      body[r] = tag("tr", nil, cells)
   end
   return html.frame(caption, tag("table", { class = cards }, tag("caption", nil, caption), tag("thead", nil, tag("tr", nil, head)), tag("tbody", nil, body)))
end

--- What is behind a chart, folded.
function html.folded(title, ...) return tag("details", nil, tag("summary", nil, title), ...) end

--- Figures in tiles: a list of { what, value, remark }.
function html.tiles(list)
   local items = {}
   for i, tile in ipairs(list) do
      items[i] = tag("div", nil, tag("dt", nil, tile[1]), tag("dd", nil, tag("strong", nil, tile[2]), tile[3] and tag("small", nil, " ", tile[3])))
   end
   return tag("dl", { class = "tiles" }, items)
end

--- Code to copy.
function html.code(text) return html.frame("code", tag("pre", nil, tag("code", nil, text))) end

--- A part of the page.
function html.section(id, title, ...)
   return tag("section", { id = id, ["aria-labelledby"] = id .. "-title" }, tag("h2", { id = id .. "-title" }, title), ...)
end

-- ---- the page ----

--- The whole page. Sections with an id and a title are linked at its head.
---@param title string
---@param about string? a line under it
---@param links table[] { id, text }
---@return string
function html.page(title, about, links, ...)
   local nav = {}
   for i, link in ipairs(links) do nav[i] = tag("a", { href = "#" .. link[1] }, link[2]) end
   local head = tag("head", nil, html.raw '<meta charset="utf-8"/>', html.raw '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
                    tag("title", nil, title), html.raw("<style>\n" .. require "espq.report.style" .. "</style>"))
   local body = tag("body", nil,
      tag("header", nil, tag("h1", nil, title), about and tag("p", { class = "soft" }, about), tag("nav", { ["aria-label"] = "parts of this page" }, nav)),
      tag("main", nil, ...),
      tag("footer", nil, ("Made by espq %s from the files alone; this page loads nothing."):format(require("espq").version)))
   return "<!doctype html>\n" .. tostring(tag("html", { lang = "en" }, head, body)) .. "\n"
end

return html
