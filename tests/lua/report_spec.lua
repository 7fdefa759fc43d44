-- Promise: `espq report` makes one page that needs nothing else, of a search or of a model, and says clearly what it cannot read.
local espq = require "espq"
local lfs = require "lfs"
local program = require "lua.program"
local small = require "autoquant.small"

local shared = "../shared/data/reference/search"

local folder

before_each(function()
   espq.verbose = 0
   folder = small.folder()
end)
after_each(function() program.remove(folder) end)

-- Four trials, of which the third fails with text that looks like HTML.
local function search()
   local count = 0
   local setting = small.setting(folder, { share = false })
   small.search(folder, setting, function()
      count = count + 1
      if count == 3 then error "<script>alert('no')</script> & \"more\"" end
      return count * 0.5, { size = count }
   end)
   return folder .. "/run"
end

local function report(words)
   local code, out, err = program.run(folder, "@ report " .. words)
   assert.equal(0, code, err)
   return program.read(folder .. "/" .. out:match "^[^\n]+"), err
end

local function record(index, score, modules, knobs)
   return { hash = ("%040x"):format(index), index = index, folder = "run/0000", files = espq.json.list {}, score = score,
            strategy = { tqt = modules.tqt or false, weight_equalization = modules.weight_equalization or false },
            params = { tqt = modules.tqt and (knobs or { steps = 500 }) or espq.json.null } }
end

-- A folder as the reference leaves it: no journal, no status.
local function reference_folder(list)
   lfs.mkdir(folder .. "/old")
   program.write(folder .. "/old/summary.json", espq.json.encode(espq.json.list(list), 4))
   program.write(folder .. "/old/candidates.json", espq.json.encode(espq.json.list { list[1] }, 4))
end

describe("the report of a search", function()
   it("shows candidates with links, the worth of modules, costs, layers, failures and the way onto the chip", function()
      search()
      local page = report "run"
      assert.matches('href="run/0003/out.espdl"', page, 1, true)
      for _, id in ipairs { "candidates", "time", "worth", "pareto", "layers", "failed", "deploy" } do
         assert.matches('<section aria-labelledby="' .. id, page, 1, true)
         assert.matches('href="#' .. id, page, 1, true)
      end
      assert.matches("on 2 inputs, with the chip&#39;s integers", page, 1, true)
      assert.matches(">two</th><td>Conv</td>", page, 1, true)
      assert.matches("espq_fill_0", page, 1, true)
      assert.matches("setting.param_space.calib_algorithm.method = { &quot;kl&quot; }", page, 1, true)
   end)

   it("loads nothing, and shows what looks like HTML as text", function()
      search()
      local page = report "run"
      assert.matches("&lt;script&gt;alert(&#39;no&#39;)&lt;/script&gt; &amp; &quot;more&quot;", page, 1, true)
      for _, word in ipairs { "<script", "http:", "https:", "url(", "@import", "<img", "<link" } do assert.is_nil(page:find(word, 1, true), word) end
   end)

   it("is the same again, and leaves the folder as it was", function()
      search()
      local before = program.names(folder .. "/run")
      assert.equal(report "run", report "run")
      assert.same(before, program.names(folder .. "/run"))
   end)

   it("knows trials that the summary lacks, since the search was killed", function()
      search()
      local path = folder .. "/run/summary.json"
      program.write(path, program.read(path):sub(1, 300))
      local page = report "run"
      assert.matches("taken from the journal, since summary.json is cut", page, 1, true)
      assert.matches("run/0003/out.espdl", page, 1, true)
   end)

   -- Equalization scales the channels between two layers: the same function, but the first layer's output is up to four times what float has, an
   -- error of the size of the signal if the scales were not undone.
   it("undoes what equalization did to the channels before it compares the layers", function()
      local function chain(scales)
         local first, second = espq.randn({ 4, 3, 1, 1 }, { seed = 1 }), espq.randn({ 4, 4, 1, 1 }, { seed = 3 })
         return espq.graph {
            name = "chain", inputs = { x = { 1, 3, 6, 6 } }, outputs = { "y" },
            nodes = {
               { type = "Conv", name = "one", inputs = { "x", first * scales:view(4, 1, 1, 1) }, outputs = { "a" } },
               { type = "Relu", name = "relu", inputs = { "a" }, outputs = { "r" } },
               { type = "Conv", name = "two", inputs = { "r", second / scales:view(1, 4, 1, 1) }, outputs = { "y" } },
            },
         }
      end
      chain(espq.ones { 4 }):save_onnx(folder .. "/chain.onnx")
      espq.quantize_graph { graph = chain(espq.tensor { 0.5, 1.0, 2.0, 4.0 }), calib_dataloader = small.loader(), calib_steps = 4, target = "esp32s3",
                            error_report = false, espdl_export_file = folder .. "/scaled.espdl" }
      espq.save_npz(folder .. "/inputs.npz", { x = espq.randn({ 8, 3, 6, 6 }, { seed = 5 }) })
      local lists = assert(require("espq.report.layers").errors({ onnx_import_file = folder .. "/chain.onnx", input_shape = { 3, 6, 6 }, target = "esp32s3" },
         { folder .. "/scaled.espdl" }, folder .. "/inputs.npz", 8))
      assert.same({ "one", true, "two", false }, { lists[1][1].name, lists[1][1].rescaled, lists[1][2].name, lists[1][2].rescaled })
      assert.is_true(lists[1][1].snr < 0.01)
      assert.is_true(lists[1][2].snr < 0.01)
   end)

   it("looks at every layer of a model that has more than an executor watches at once", function()
      local weight, nodes = espq.tensor { { { { 1.0 } } } }, {}
      for i = 1, 260 do
         nodes[i] = { type = "Conv", name = "c" .. i, inputs = { i == 1 and "x" or "t" .. i - 1, weight }, outputs = { i == 260 and "y" or "t" .. i } }
      end
      local function deep() return espq.graph { name = "deep", inputs = { x = { 1, 1, 2, 2 } }, outputs = { "y" }, nodes = nodes } end
      deep():save_onnx(folder .. "/deep.onnx")
      local data = espq.randn({ 2, 1, 2, 2 }, { seed = 5 })
      espq.quantize_graph { graph = deep(), calib_dataloader = { data }, calib_steps = 1, target = "esp32s3", error_report = false,
                            espdl_export_file = folder .. "/deep.espdl" }
      espq.save_npz(folder .. "/inputs.npz", { x = data })
      local lists = assert(require("espq.report.layers").errors({ onnx_import_file = folder .. "/deep.onnx", input_shape = { 1, 2, 2 }, target = "esp32s3" },
         { folder .. "/deep.espdl" }, folder .. "/inputs.npz", 8))
      assert.equal(260, #lists[1])
   end)

   -- 1 → 3 and 2 → 4 with tqt on, equalization alike: mean 2, spread 0; equalization 1 → 2 and 3 → 4: mean 1.
   it("compares trials that are equal in all else", function()
      local effects = require "espq.report.effects"
      local rows = effects.of {
         record(0, 1.0, {}), record(1, 3.0, { tqt = true }), record(2, 2.0, { weight_equalization = true }),
         record(3, 4.0, { tqt = true, weight_equalization = true }),
      }
      assert.same({ { "weight_equalization", 1.0, 0.0, 2, true }, { "tqt", 2.0, 0.0, 2, true } },
                  { { rows[1].module, rows[1].mean, rows[1].spread, rows[1].count, rows[1].matched },
                    { rows[2].module, rows[2].mean, rows[2].spread, rows[2].count, rows[2].matched } })
   end)

   -- steps 500 gives 3, 1000 gives 5: one below and one above their mean.
   it("compares the values of a knob with their mean", function()
      local rows = require("espq.report.effects").of { record(0, 3.0, { tqt = true }, { steps = 500 }), record(1, 5.0, { tqt = true }, { steps = 1000 }) }
      assert.same({ { "500", -1.0 }, { "1000", 1.0 } }, { { rows[1].value, rows[1].mean }, { rows[2].value, rows[2].mean } })
   end)

   it("reads a folder of the reference, of which only the lists are left", function()
      reference_folder { record(0, 3.0, { tqt = true }), record(1, 1.0, {}) }
      local page = report "old -o old.html"
      assert.matches("not here", page, 1, true)
      assert.matches("best score</dt><dd><strong>3<", page, 1, true)
   end)

   it("takes the best trials where candidates.json is cut, and says so", function()
      reference_folder { record(0, 3.0, { tqt = true }), record(1, 1.0, {}) }
      program.write(folder .. "/old/candidates.json", "[{")
      local page = report "old -o old.html"
      assert.matches("candidates.json is cut or damaged", page, 1, true)
      assert.matches("best score</dt><dd><strong>3<", page, 1, true)
   end)

   it("shows knobs that are tables or look like HTML as text", function()
      reference_folder { record(0, 3.0, { tqt = true }, { steps = { 1, 2 }, ["<i>"] = "<b>" }),
                         record(1, 1.0, { tqt = true }, { steps = { 3 }, ["<i>"] = "</b>" }) }
      local page = report "old -o old.html"
      assert.matches("tqt.steps = [1,2]", page, 1, true)
      assert.matches("tqt.&lt;i&gt; = &lt;b&gt;", page, 1, true)
      assert.is_nil(page:find("<b>", 1, true))
   end)

   it("tells pruned trials from failed ones", function()
      local pruned, failed = record(1, nil, { tqt = true }), record(2, nil, {})
      pruned.status, pruned.error, failed.status, failed.error = "pruned", "hopeless", "failed", "broken"
      reference_folder { record(0, 3.0, { tqt = true }), pruned, failed }
      local page = report "old -o old.html"
      assert.matches("1 failed, 1 pruned", page, 1, true)
      for _, text in ipairs { "Failed.*broken", "Pruned.*hopeless" } do assert.matches(text, page) end
   end)

   for _, name in ipairs { "cnn_fast_top1", "sin_exhaustive_default_score" } do
      it("reads the reference's search " .. name, function()
         if not lfs.attributes(shared) then pending("needs " .. shared) end
         local best = espq.json.decode(program.read(shared .. "/" .. name .. "/candidates.json"))[1]
         local page = report(("'%s/%s/%s'"):format(lfs.currentdir(), shared, name))
         assert.matches(("best score</dt><dd><strong>%.6g</strong><small> trial %d,"):format(best.score, best.index), page, 1, true)
      end)
   end
end)

describe("the report of a model", function()
   it("shows inputs, layers, cost and the memory plan", function()
      search()
      local page = report "run/0000/out.espdl -o model.html"
      assert.matches("out.espdl</h1>", page, 1, true)
      for _, id in ipairs { "ends", "layers", "memory" } do assert.matches('<section aria-labelledby="' .. id, page, 1, true) end
      assert.matches('class="tensor"', page, 1, true)
      assert.is_nil(page:find("<script", 1, true))
   end)
end)

describe("what the report cannot read", function()
   local cases = {
      { "nothing", "nowhere", "there is no such folder" },
      { "an empty folder", "empty", "this is no run directory: it has no summary.json" },
      { "a cut summary", "cut", "summary.json is cut or damaged" },
      { "a list of something else", "other", "record 1 has no index" },
      { "a file that is no model", "model.onnx", "model.onnx" },
   }
   for _, case in ipairs(cases) do
      it("is named: " .. case[1], function()
         for _, name in ipairs { "empty", "cut", "other" } do lfs.mkdir(folder .. "/" .. name) end
         program.write(folder .. "/cut/summary.json", '[{"hash": "00", "ind')
         program.write(folder .. "/other/summary.json", '[{"name": "x"}]')
         local code, _, err = program.run(folder, "@ report " .. case[2])
         assert.equal(1, code)
         assert.matches(case[3], err, 1, true)
         assert.is_nil(program.read(folder .. "/report.html"))
      end)
   end
end)

-- ---- in a browser ----

local function browser()
   for _, name in ipairs { "chromium", "chromium-browser", "google-chrome" } do
      if os.execute(("command -v %s >/dev/null 2>&1"):format(name)) then return name end
   end
end

-- Two frames as wide as a phone; their pages' widths and number of marks are written where --dump-dom shows them.
local PHONE = [[
<!doctype html><body><p id="found"></p>
<iframe src="report.html" width="360" height="800"></iframe><iframe src="model.html" width="360" height="800"></iframe>
<script>
addEventListener("load", () => {
   const list = []
   for (const frame of document.querySelectorAll("iframe")) {
      const page = frame.contentDocument, root = page.documentElement
      const cut = [...page.querySelectorAll(".cards")].filter(table => table.parentNode.scrollWidth > table.parentNode.clientWidth).length
      list.push(root.scrollWidth + " of " + root.clientWidth + ", drawings " + (page.querySelectorAll("svg").length > 0) + ", tables cut " + cut)
   }
   document.getElementById("found").textContent = "[" + list.join("; ") + "]"
})
</script></body>]]

describe("the pages in a browser", function()
   it("fit a phone without scrolling, print, and report no errors", function()
      local name = browser()
      if not name then pending "needs chromium (apt-get install chromium)" end
      search()
      report "run"
      report "run/0000/out.espdl -o model.html"
      program.write(folder .. "/phone.html", PHONE)
      local common = ("timeout 60 %s --headless --no-sandbox --disable-gpu --hide-scrollbars --disable-dev-shm-usage --user-data-dir=.profile"):format(name)
      local code, out, err = program.run(folder, ("HOME=. %s --allow-file-access-from-files --enable-logging=stderr --dump-dom file://%s/phone.html"):format(
         common, folder))
      assert.equal(0, code, err)
      assert.matches("[360 of 360, drawings true, tables cut 0; 360 of 360, drawings true, tables cut 0]", out, 1, true)
      assert.is_nil(err:find "CONSOLE", err)
      code, out, err = program.run(folder, ("HOME=. %s --print-to-pdf=page.pdf file://%s/report.html"):format(common, folder))
      assert.equal(0, code, out .. err)
      assert.equal("%PDF", program.read(folder .. "/page.pdf"):sub(1, 4))
   end)
end)
