-- Promise: workers change how long a search takes and nothing else, and one that dies costs its trial only.
local espq = require "espq"
local core = require "espq.core"
local lfs = require "lfs"
local program = require "lua.program"
local small = require "autoquant.small"

local folder

before_each(function()
   espq.verbose = 0
   folder = small.folder()
end)
after_each(function() program.remove(folder) end)

local function search(setting, evaluate_fn, change)
   change = change or {}
   change.workers = change.workers or 2
   return small.search(folder, setting, evaluate_fn, change)
end

describe("workers", function()
   for _, mode in ipairs { "exhaustive", "fast" } do
      it("do not change the files of an " .. mode .. " search", function()
         local function run(count)
            local setting = small.setting(folder, { search_mode = mode, top_strategy = 2, early_stop_patience = 2, num_of_candidates = 3 })
            setting.strategy_space.bias_correction = { true, false }
            setting.param_space.bias_correction = { block_size = { 2, 1 }, steps = { 2 }, topk = { -1, 1 } }
            setting.run_dir = folder .. "/run" .. count
            search(setting, nil, { workers = count })
            return small.contents(setting.run_dir)
         end
         local alone = run(1)
         assert.equal(alone, run(3))
      end)
   end

   it("leave nothing undone that they finished before the time was over", function()
      local setting = small.setting(folder)
      setting.budget = { seconds = 0.5 }
      search(setting, function(graph)
         if graph:node("one").input_config[1].observer == "minmax" then
            local mark = folder .. "/slow"
            if not core.base.exists(mark) then
               core.base.write(mark, "")
               os.execute "sleep 2"
            end
         end
         return 1, {}
      end)
      local list = small.list(folder .. "/run/summary.json")
      assert.is_true(#list > 1, "only the trial that was slow is recorded")
      for i, record in ipairs(list) do assert.same({ i - 1, "done" }, { record.index, record.status }) end
   end)

   it("see what the script has made, print into the trial's folder, and say that they are workers", function()
      local secret = espq.full({ 1 }, 41)
      search(small.setting(folder), function()
         print(espq.is_worker)
         return secret:item() + 1, {}
      end)
      assert.is_false(espq.is_worker)
      assert.equal(42, small.list(folder .. "/run/summary.json")[1].score)
      assert.equal("true\n", program.read(folder .. "/run/0000/log"))
   end)

   it("that die cost a second try, then their trial", function()
      local function kill_me() os.execute("kill -9 " .. core.system.process()) end
      local setting = small.setting(folder, { share = false })
      search(setting, function(graph)
         local method = graph:node("one").input_config[1].observer
         local mark = folder .. "/died"
         if method == "kl" then kill_me() end
         if not core.base.exists(mark) then
            core.base.write(mark, "")
            kill_me()
         end
         return 1, {}
      end)
      local states = {}
      for i, record in ipairs(small.list(folder .. "/run/summary.json")) do
         states[i] = record.status
         if record.status == "failed" then assert.matches("died 2 times, the last time by signal 9", record.error, 1, true) end
      end
      assert.same({ "done", "failed", "done", "failed" }, states)     -- minmax, kl, minmax, kl
   end)

   it("are stopped when a trial takes too long", function()
      local setting = small.setting(folder, { share = false })
      search(setting, function(graph)
         if graph:node("one").input_config[1].observer == "kl" then os.execute(("ESPQ_HANGS='%s' sleep 20; true"):format(folder)) end
         return 1, {}
      end, { trial_timeout = 1.5, workers = 2 })
      local list = small.list(folder .. "/run/summary.json")
      for entry in lfs.dir "/proc" do                       -- what evaluate_fn started has ended, too
         local words = entry:find "^%d+$" and program.read(("/proc/%s/environ"):format(entry)) or ""
         assert.is_nil(words:find("ESPQ_HANGS=" .. folder, 1, true))
      end
      assert.equal("done", list[1].status)
      assert.matches("longer than trial_timeout = 1.5 seconds", list[4].error, 1, true)
   end)

   it("begin no trial beyond the budget", function()
      search(small.setting(folder, { budget = { trials = 2 }, share = false }), function()
         core.system.append(folder .. "/asked", ".")
         os.execute "sleep 0.1"
         return 1, {}
      end, { workers = 4 })
      assert.equal("..", program.read(folder .. "/asked"))
   end)

   it("give programs that read from stdin its end, not the terminal", function()
      search(small.setting(folder), nil, { evaluate_command = [[test -e {espdl} && cat && echo '{"score": 1}']], trial_timeout = 20 })
      for _, record in ipairs(small.list(folder .. "/run/summary.json")) do assert.equal("done", record.status) end
   end)

   it("hand a breach of the contract to the script", function()
      local err = assert.error(function() search(small.setting(folder), function() return 0 / 0, {} end) end)
      assert.matches("not finite", tostring(err), 1, true)
      assert.is_true(espq.json.decode(program.read(folder .. "/run/summary.json"))[1] == nil)
   end)
end)
