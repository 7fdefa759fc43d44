--- What a quantization found out, and tables for people.
local core = require "espq.core"

local report = {}

local Report = {}
Report.__index = Report

--- graphwise, layerwise: lists of rows; notes, warnings, floats (what is not quantized, and why), tables (what the chip looks up): lists of lines.
--- chip: what the chip makes of the graph that the simulation does not show: lines, and the rows of analyse's compare, device and resolution.
function report.new()
   return setmetatable({ graphwise = {}, layerwise = {}, notes = {}, warnings = {}, floats = {}, tables = {}, chip = { lines = {} } }, Report)
end

function Report.__tostring(self)
   local parts = {}
   if self.random then parts[#parts + 1] = "Calibrated on random numbers: the figures below say nothing about accuracy.\n" end
   if self.graphwise_text
         and #self.graphwise > 0 then parts[#parts + 1] = "Graphwise error: how far each layer's output is from float\n" .. self.graphwise_text end
   if self.layerwise_text and #self.layerwise > 0 then
      parts[#parts + 1] = "Layerwise error: what each layer alone costs at the outputs\n" .. self.layerwise_text
   end
   if #parts == 0 then return "nothing was measured" end
   return (table.concat(parts, "\n"):gsub("\n+$", ""))
end

--- A table for people: columns of equal width, numbers to the right.
---@param rows table[]
---@param columns table[] { key =, title =, format = }
function report.table(rows, columns)
   local lines, widths, cells = {}, {}, {}
   for c, column in ipairs(columns) do widths[c] = utf8.len(column.title or column.key) or #column.key end
   for r, row in ipairs(rows) do
      cells[r] = {}
      for c, column in ipairs(columns) do
         local value = row[column.key]
         local text = value == nil and "" or value
         if type(value) == "table" then
            text = table.concat(value, ", ")
         elseif type(value) == "boolean" then
            text = value and "yes" or "–"
         elseif column.format and type(value) == "number" then
            text = type(column.format) == "function" and column.format(value) or column.format:format(value)
         elseif type(value) == "number" then
            text = math.type(value) == "integer" and tostring(value) or core.base.number(value)
         end
         text = tostring(text):gsub("%c", "?")
         cells[r][c] = text
         widths[c] = math.max(widths[c], utf8.len(text) or #text)
      end
   end
   local function line(texts, values)
      local parts = {}
      for c in ipairs(columns) do
         local pad = (" "):rep(widths[c] - (utf8.len(texts[c]) or #texts[c]))
         parts[c] = values and type(values[columns[c].key]) == "number" and pad .. texts[c] or texts[c] .. pad
      end
      lines[#lines + 1] = (table.concat(parts, "  "):gsub("%s+$", ""))
   end
   local titles = {}
   for c, column in ipairs(columns) do titles[c] = column.title or column.key end
   line(titles)
   for r, row in ipairs(rows) do line(cells[r], row) end
   return table.concat(lines, "\n")
end

local function csv_cell(value)
   if value == nil then return "" end
   local text = type(value) == "number" and math.type(value) == "float" and core.base.number(value) or tostring(value)
   if text:find '[",\n]' then text = '"' .. text:gsub('"', '""') .. '"' end
   return text
end

local Rows = {}
Rows.__index = Rows

--- A list of rows that prints as a table and saves as .json, .csv or .html.
function report.rows(list, columns, text)
   return setmetatable(list, { __index = Rows, columns = columns, text = text, __tostring = function(self)
      return text or report.table(self, columns)
   end })
end

local function html_cell(value)
   return (csv_cell(value):gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

--- Save as .json, .csv or .html, by the name's ending.
---@param path string
function Rows:save(path)
   local columns = getmetatable(self).columns
   local ending = path:lower():match "%.(%w+)$"
   local check = require "espq.check"
   check.word("save: ending of the file", ending, { "json", "csv", "html" })
   local text
   if ending == "json" then
      local json = require "espq.json"
      local plain = json.list {}
      for i, row in ipairs(self) do plain[i] = row end
      text = json.encode(plain, 2) .. "\n"
   else
      local head, lines = {}, {}
      for c, column in ipairs(columns) do head[c] = column.key end
      if ending == "csv" then
         lines[1] = table.concat(head, ",")
         for _, row in ipairs(self) do
            local cells = {}
            for c, key in ipairs(head) do cells[c] = csv_cell(row[key]) end
            lines[#lines + 1] = table.concat(cells, ",")
         end
      else
         lines[1] = '<!doctype html><meta charset="utf-8"><table border="1"><tr><th>' .. table.concat(head, "</th><th>") .. "</th></tr>"
         for _, row in ipairs(self) do
            local cells = {}
            for c, key in ipairs(head) do cells[c] = html_cell(row[key]) end
            lines[#lines + 1] = "<tr><td>" .. table.concat(cells, "</td><td>") .. "</td></tr>"
         end
         lines[#lines + 1] = "</table>"
      end
      text = table.concat(lines, "\n") .. "\n"
   end
   core.base.write(path, text)
   return self
end

return report
