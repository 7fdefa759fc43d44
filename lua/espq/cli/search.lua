--- espq search
local core = require "espq.core"
local options = require "espq.cli.options"

local command = {
   usage = "search SCRIPT [--slurm] [options] [-- ARGS OF THE SCRIPT]", words = 1,
   help = "run the search of a script: here, or as jobs of a Slurm cluster, where script, data, model and run_dir have to lie in folders that all nodes share",
}

local spec = {
   { "--slurm", help = "submit it: an array of jobs that share the trials, then one that gathers them and runs the script to its end" },
   { "--partition", value = "NAME", help = "where the jobs run" },
   { "--array", value = "N", help = "so many jobs at once (default: one a node of the partition)" },
   { "--nodes", value = "N", help = "the same", key = "array" },
   { "--cpus", value = "N", help = "processors a job; it runs as many trials at once (default 1)" },
   { "--mem", value = "SIZE", help = "memory a job, as Slurm takes it: 4G" },
   { "--time", value = "LIMIT", help = "time a job, as Slurm takes it: 2:00:00; a job whose time is over goes on in the next" },
   { "--dry-run", help = "print the files of the jobs, and do nothing" },
   { "--resume", help = "go on from what run_dir holds, as setting.resume = true" },
   { "--json", help = [[
stdout is a line of JSON for each event; all that the script prints goes to stderr
                      {"event": "begin", run_dir, mode, recorded}
                      {"event": "trial", index, hash, status, score, error, seconds, best, left}
                      {"event": "end", complete, tried, known, failed, best, run_dir, error}]] },
   { "--cancel", help = "stop the jobs; what was tried stays" },
   { "--merge", help = "write what is finished so far into summary.json and candidates.json; at any time, by anybody" },
}

local function count_of(given, name)
   if not given[name] then return nil end
   local value = options.number("--" .. name, given[name])
   if math.type(value) ~= "integer" or value < 1 then options.usage(("--%s is a whole number from 1, not '%s'"):format(name, given[name])) end
   return value
end

local function role_of(given)
   local job = os.getenv "ESPQ_SEARCH_JOB"
   if job and os.getenv "SLURM_JOB_ID" then return job end
   if given.merge then return "merge" end
   if given.dry_run then return "dry-run" end
   if given.cancel then return "cancel" end
   return given.slurm and "submit" or nil
end

local function own_path()
   local link = ("/proc/%d/exe"):format((core.system.process()))
   local pipe = io.popen("readlink " .. link)
   local path = pipe and pipe:read "l"
   if pipe then pipe:close() end
   if not path then core.error.raise { what = "cannot find out where this program lies", where = link, code = "input" } end
   return path
end

return function(arguments)
   local own, of_script = {}, nil
   for _, word in ipairs(arguments) do
      if of_script then of_script[#of_script + 1] = word
      elseif word == "--" then of_script = {}
      else own[#own + 1] = word end
   end
   of_script = of_script or {}
   local words, given = options.parse(command, spec, own)
   if not words then return 0 end
   local script = words[1]
   local chunk, message = loadfile(script)
   if not chunk then
      if not core.base.exists(script) then message = "cannot open " .. script end
      core.error.raise { what = message, code = "input" }
   end
   local role = role_of(given)
   if given.json then
      if given.slurm or given.dry_run or given.cancel then options.usage "--json is for a search on this machine, and for --merge" end
      require("espq.autoquant.progress").reserve_stdout()
   end
   local call = require "espq.autoquant.call"
   if role then
      require("espq").is_worker = role == "trials" or role == "pick" or role == "chains"
      call.search = require("espq.autoquant.cluster").searcher {
         role = role, script = script, arguments = of_script, program = own_path(),
         options = { partition = given.partition, array = count_of(given, "array"), cpus = count_of(given, "cpus") or 1, mem = given.mem, time = given.time,
                     resume = given.resume },
      }
   elseif given.resume then
      local search = call.search
      call.search = function(what)
         what.setting.resume = true
         return search(what)
      end
   end
   rawset(_G, "arg", table.move(of_script, 1, #of_script, 1, { [0] = script }))
   chunk(table.unpack(of_script))
   return 0
end
