--- Slurm: job files, submitting, what the cluster says of itself.
local check = require "espq.check"
local core = require "espq.core"
local files = require "espq.autoquant.files"

local slurm = {}

--- A word as the shell takes it.
function slurm.word(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- What a command prints (both ways), and whether it succeeded.
local function output_of(command)
   local pipe = io.popen(command .. " 2>&1", "r")
   if not pipe then return "", false end
   local text = pipe:read "a"
   local done = pipe:close()
   return text, done and true or false
end

local function has(program)
   local _, found = output_of("command -v " .. program)
   return found
end

--- Is this a machine from which jobs can be submitted? An error says what is missing.
function slurm.require()
   if has "sbatch" then return end
   check.fail("there is no sbatch here: this machine belongs to no Slurm cluster, or its programs are not in PATH", nil,
              "call it on a login node of the cluster; without --slurm the search runs on this machine; --dry-run shows the jobs")
end

--- Names of the machines behind a partition (nil: all), and how many nodes they are.
---@return string[] hosts, integer nodes
function slurm.hosts(partition)
   local text, done = output_of("sinfo -h -N -o '%N %n'" .. (partition and " -p " .. slurm.word(partition) or ""))
   if not done then check.fail("sinfo failed: " .. text:gsub("%s+$", ""), nil, "does `sinfo` show the cluster?") end
   local hosts, seen, nodes = {}, {}, 0
   for node, host in text:gmatch "(%S+) (%S+)\n" do
      if not seen[" " .. node] then nodes = nodes + 1 end
      if not seen[host] then hosts[#hosts + 1] = host end
      seen[" " .. node], seen[host] = true, true
   end
   if nodes == 0 then
      check.fail(partition and ("the partition '%s' has no nodes"):format(partition) or "the cluster has no nodes", nil, "`sinfo` lists partitions")
   end
   return hosts, nodes
end

-- ---- folders ----

-- File systems that are in this machine's memory, or were put together for it alone: no node sees them.
local PRIVATE = { tmpfs = true, ramfs = true, devtmpfs = true, overlay = true, aufs = true, squashfs = true, proc = true }

-- The type of the file system on which a path lies, as the kernel lists them.
local function file_system(path)
   local best, kind = -1, nil
   for line in (files.read "/proc/self/mounts" or ""):gmatch "[^\n]+" do
      local mount, type_name = line:match "^%S+ (%S+) (%S+)"
      mount = mount and mount:gsub("\\(%d%d%d)", function(code) return string.char(tonumber(code, 8)) end)
      local inside = mount and (mount == "/" or path == mount or path:sub(1, #mount + 1) == mount .. "/")
      if inside and #mount >= best then best, kind = #mount, type_name end
   end
   return kind
end

--- An error when one of these paths lies where other machines cannot see it. What a machine exports cannot be told from here: each job
--- looks again.
---@param paths table<string, string> what it is → absolute path
function slurm.check_shared(paths, hosts)
   local _, own = core.system.process()
   own = own:match "^[^.]+"
   local others = {}
   for _, host in ipairs(hosts) do
      if host:match "^[^.]+" ~= own and host ~= "localhost" then others[#others + 1] = host end
   end
   if #others == 0 then return end
   for _, what in ipairs(check.keys(paths)) do
      local kind = file_system(paths[what])
      if kind and PRIVATE[kind] then
         check.fail(("%s lies on a file system of this machine alone (%s): %s%s cannot see it"):format(what, kind,
            table.concat(others, ", ", 1, math.min(3, #others)), #others > 3 and (" and %d other machines"):format(#others - 3) or ""), paths[what],
            "put script, data, model and run_dir in folders that all nodes share, for example under /home")
      end
   end
end

-- ---- jobs ----

local JOB = [[
# Appears where a job runs that cannot see what it needs.
for path in %s; do
   [ -r "$path" ] || { echo "espq: $path is not there on $(hostname): it has to lie in a folder that all nodes share" >&2; exit 1; }
done
export ESPQ_SEARCH_JOB=%s
%s &
work=$!
# A minute before the time of the job is over it begins anew, and goes on from where it is. One that is not much longer would begin for ever.
begun=$(date +%%s)
trap '[ $(($(date +%%s) - begun)) -lt 60 ] || { kill "$work"; scontrol requeue "%s"; }' USR1
while wait "$work"; code=$?; kill -0 "$work" 2>/dev/null; do :; done
exit $code
]]

--- A job file.
---@param job table name, array (number of elements or nil), log, folder, command, needs (paths), options (partition, time, mem, cpus)
---@return string
function slurm.file(job)
   local lines = { "#!/bin/sh" }
   local function set(name, value)
      if not value then return end
      local shown = tostring(value)
      lines[#lines + 1] = ("#SBATCH --%s%s"):format(name, value == true and "" or "=" .. (shown:find "%s" and '"' .. shown .. '"' or shown))
   end
   set("job-name", "espq-" .. job.name)
   set("array", job.array and ("0-%d"):format(job.array - 1))
   set("partition", job.options.partition)
   set("nodes", 1)
   set("ntasks", 1)
   set("cpus-per-task", job.options.cpus)
   set("mem", job.options.mem)
   set("time", job.options.time)
   set("requeue", true)
   set("open-mode", "append")
   set("signal", "B:USR1@60")
   set("chdir", job.folder)
   set("output", job.log .. (job.array and "-%a.log" or ".log"))
   local needs = {}
   for i, path in ipairs(job.needs) do needs[i] = slurm.word(path) end
   local id = job.array and "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}" or "$SLURM_JOB_ID"
   return table.concat(lines, "\n") .. "\n" .. JOB:format(table.concat(needs, " "), job.name, job.command, id)
end

--- Submit a job file. Gives the number of the job.
---@param path string
---@param after string? number of the job after whose end it may begin, however that ends
---@return string
function slurm.submit(path, after)
   local text, done = output_of(("sbatch --parsable %s%s"):format(after and ("--dependency=afterany:%s "):format(after) or "", slurm.word(path)))
   local id = text:match "(%d+)[^\n]*\n*$"
   if not done or not id then check.fail("sbatch refused the job: " .. text:gsub("%s+$", ""), path, "the file can be submitted by hand to try") end
   return id
end

function slurm.cancel(ids) return output_of("scancel " .. table.concat(ids, " ")) end

--- Which of these jobs are waiting or running?
---@param ids string[]
---@return string[]
function slurm.alive(ids)
   local list = {}
   for _, id in ipairs(ids) do
      local text, done = output_of("squeue -h -o %A -j " .. id)
      if done and text:find "%d" then list[#list + 1] = id end
   end
   return list
end

return slurm
