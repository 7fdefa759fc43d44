-- Promise: trials come in the reference's order, under its names, and its candidates are chosen from them.
local espq = require "espq"

local folder = "../shared/data/reference/search/"

-- The recorded setting as a script would write it.
local function setting_of(spec)
   local setting = espq.autoquant_setting {
      search_mode = spec.search_mode, num_of_candidates = spec.num_of_candidates, score_direction = spec.score_direction,
      top_strategy = spec.top_strategy, early_stop_patience = spec.early_stop_patience, structural_knobs = spec.structural_knobs,
   }
   for name, values in pairs(spec.strategy_space) do setting.strategy_space[name] = values end
   for name, knobs in pairs(spec.param_space) do
      for knob, values in pairs(knobs) do setting.param_space[name][knob] = values.range and espq.range(table.unpack(values.range)) or values end
   end
   return setting
end

local function recorded(name)
   local file = io.open(folder .. name .. ".json")
   if not file then pending("needs " .. folder) end
   local text = file:read "a"
   file:close()
   return espq.json.decode(text)
end

local function score_of(trial) return tonumber(trial.hash:sub(1, 8), 16) / 2^32 end

local function differs(trial, record)
   if trial.hash ~= record.hash then return "hash" end
   for name, on in pairs(record.strategy) do
      if trial.strategy[name] ~= on then return name end
   end
   for name, knobs in pairs(record.params) do
      for knob, value in pairs(knobs ~= espq.json.null and knobs or {}) do
         if trial.params[name][knob] ~= value then return name .. "." .. knob end
      end
   end
end

describe("the order of trials", function()
   it("is the reference's in the default space, wherever it begins", function()
      local reference = recorded "enumerate_default"
      local setting = espq.autoquant_setting {}
      assert.equal(reference.total, espq.autoquant.count(setting))
      for _, list in ipairs { reference.first, reference.samples, { reference.last } } do
         for _, record in ipairs(list) do
            local trial = espq.autoquant.enumerate(setting, { from = record.index })()
            assert.is_nil(differs(trial, record), ("trial %d"):format(record.index))
         end
      end
   end)

   for _, name in ipairs { "fast_default", "fast_custom", "exhaustive_custom" } do
      it("is the reference's in " .. name .. ", and so are the candidates", function()
         local reference = recorded(name)
         local setting = setting_of(reference.setting)
         local by_index, records = {}, {}
         for _, record in ipairs(reference.trials) do by_index[record.index] = record end
         for trial in espq.autoquant.enumerate(setting, { score = score_of }) do
            local record = by_index[trial.ordinal]
            if record then assert.is_nil(differs(trial, record), ("trial %d"):format(trial.ordinal)) end
            if reference.order then assert.equal(reference.order:sub(8 * trial.ordinal + 1, 8 * trial.ordinal + 8), trial.hash:sub(1, 8)) end
            records[#records + 1] = { index = trial.ordinal, score = score_of(trial), strategy = trial.strategy }
         end
         assert.equal(reference.total or #reference.trials, #records)
         local chosen = {}
         for i, record in ipairs(espq.autoquant.candidates(setting, records)) do chosen[i] = record.index end
         local wanted = {}
         for i, record in ipairs(reference.candidates) do wanted[i] = record.index end
         assert.same(wanted, chosen)
      end)
   end

   it("is lazy: the last of a million trials is there at once", function()
      local trial = espq.autoquant.enumerate(espq.autoquant_setting {}, { from = 1067039 })()
      assert.equal("51de9b4fa56859a4a1b315141fa327946a47d020", trial.hash)
   end)
end)

describe("numbers in names", function()
   local text = require "espq.autoquant.text"
   local cases = {
      { 1e-5, "1e-05" }, { 0.1, "0.1" }, { 2, "2" }, { 0.0, "0.0" }, { 2.0, "2.0" }, { 1e16, "1e+16" }, { 123456.0, "123456.0" }, { 0.0001, "0.0001" },
      { 1e15, "1000000000000000.0" }, { -2.5e-7, "-2.5e-07" }, { 1e100, "1e+100" }, { 1.25e-5, "1.25e-05" }, { 9007199254740993.0, "9007199254740992.0" },
   }
   for _, case in ipairs(cases) do
      it("are spelled as Python does: " .. case[2], function() assert.equal(case[2], text.number(case[1])) end)
   end
end)
