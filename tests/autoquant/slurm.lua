-- A Slurm cluster on this machine for the specs: munged, slurmctld and four slurmd in a folder, two nodes to a partition ("main", "other"), so that
-- searches run side by side. They end with the process that started them, whatever becomes of it.
local core = require "espq.core"
local program = require "lua.program"

local M = {}

local function output(command)
   local pipe = io.popen(command .. " 2>/dev/null")
   local text = pipe:read "a"
   pipe:close()
   return (text:gsub("%s+$", ""))
end

--- What is missing for it, or nil.
function M.missing()
   for _, name in ipairs { "munged", "slurmctld", "slurmd", "sbatch" } do
      if output("PATH=$PATH:/usr/sbin:/sbin command -v " .. name) == "" then
         return "Slurm is not installed here (" .. name .. "): apt-get install slurm-wlm munge"
      end
   end
end

local CONFIG = [[
ClusterName=espq
SlurmctldHost=@HOST(127.0.0.1)
SlurmctldPort=@PORT0
AuthType=auth/munge
AuthInfo=socket=@/munge/socket
CredType=cred/munge
SlurmUser=@USER
SlurmdUser=@USER
StateSaveLocation=@/state
SlurmdSpoolDir=@/spool-%n
SlurmctldPidFile=@/slurmctld.pid
SlurmdPidFile=@/slurmd-%n.pid
SlurmctldLogFile=@/slurmctld.log
SlurmdLogFile=@/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmdTimeout=60
KillWait=1
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
NodeName=node1 NodeHostname=@HOST NodeAddr=127.0.0.1 Port=@PORT1 CPUs=1 State=UNKNOWN
NodeName=node2 NodeHostname=@HOST NodeAddr=127.0.0.1 Port=@PORT2 CPUs=1 State=UNKNOWN
NodeName=node3 NodeHostname=@HOST NodeAddr=127.0.0.1 Port=@PORT3 CPUs=1 State=UNKNOWN
NodeName=node4 NodeHostname=@HOST NodeAddr=127.0.0.1 Port=@PORT4 CPUs=1 State=UNKNOWN
PartitionName=main Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
PartitionName=other Nodes=node3,node4 MaxTime=INFINITE State=UP
]]

-- Ends what has the cluster's folder in its environment: daemons, their steps, and the jobs.
local STOP = [[
end_all() {
   for entry in $(grep -lzxF "SLURM_CONF=@/slurm.conf" /proc/[0-9]*/environ 2>/dev/null); do
      entry=${entry#/proc/}
      kill -9 "${entry%/environ}"
   done 2>/dev/null
}
]]

local START = STOP .. [[
cd '@' && export PATH=$PATH:/usr/sbin:/sbin
(umask 077; mkdir -p munge state; dd if=/dev/urandom of=munge/key bs=128 count=1 2>/dev/null)
SLURM_CONF=@/slurm.conf munged --foreground --force --key-file=@/munge/key --socket=@/munge/socket --pid-file=@/munge/pid \
   --log-file=@/munge/log --seed-file=@/munge/seed >munge.out 2>&1 &
for i in 1 2 3 4 5 6 7 8 9 10; do [ -S munge/socket ] && break; sleep 0.1; done
SLURM_CONF=@/slurm.conf slurmctld -D -c >slurmctld.out 2>&1 &
for i in 1 2 3 4; do SLURM_CONF=@/slurm.conf sh @/node.sh node$i; done
while kill -0 @PARENT 2>/dev/null && [ -e '@/slurm.conf' ]; do sleep 0.5; done
end_all
]]

local Cluster = {}
Cluster.__index = Cluster

local function filled(self, text)
   return (text:gsub("@PORT(%d)", function(i) return ("%d"):format(self.port + i) end)
      :gsub("@(%u+)", { HOST = output "hostname -s", USER = output "id -un", PARENT = tostring((core.system.process())) }):gsub("@", self.folder))
end

--- Start it. Gives nil and what its log says when it does not come up.
function M.start()
   local self = setmetatable({ folder = program.folder(), port = 20000 + core.system.process() % 8000 * 5 }, Cluster)
   program.write(self.folder .. "/slurm.conf", filled(self, CONFIG))
   program.write(self.folder .. "/node.sh", filled(self, "PATH=$PATH:/usr/sbin:/sbin\nslurmd -D -N $1 >@/$1.out 2>&1 &\necho $! >@/$1.pid\n"))
   program.write(self.folder .. "/start.sh", filled(self, START))
   os.execute(("setsid sh '%s/start.sh' >/dev/null 2>&1 </dev/null &"):format(self.folder))
   if self:wait_until(function() return self:idle() == 4 end, 30) then return self end
   local why = output(("tail -n 2 '%s/slurmctld.out' '%s/munge.out'"):format(self.folder, self.folder))
   self:stop()
   return nil, "Slurm does not start here: " .. why:gsub("%s+", " ")
end

function M.pause(seconds) os.execute("sleep " .. seconds) end

function Cluster.wait_until(_, test, seconds)
   local last = core.system.clock() + seconds
   repeat
      local value = test()
      if value then return value end
      M.pause(0.1)
   until core.system.clock() > last
end

function Cluster:ask(command) return output(("SLURM_CONF='%s/slurm.conf' %s"):format(self.folder, command)) end

function Cluster:idle() return select(2, self:ask("sinfo -h -N -o %t"):gsub("idle\n?", "")) end

--- A node dies: its daemon and all that runs on it, by their process numbers.
function Cluster:kill_node(name)
   local pid = program.read(("%s/%s.pid"):format(self.folder, name)):match "%d+"
   os.execute("kill -9 " .. pid)
   os.execute(filled(self, ([[
      for entry in $(grep -lzxF SLURMD_NODENAME=NODE /proc/[0-9]*/environ 2>/dev/null); do
         grep -qzxF "SLURM_CONF=@/slurm.conf" "$entry" || continue
         entry=${entry%/environ}
         kill -9 $(cut -d' ' -f4 "$entry/stat") "${entry#/proc/}"
      done 2>/dev/null]]):gsub("NODE", name)))
   self:ask(("scontrol update nodename=%s state=down reason=killed"):format(name))
end

--- Is a job waiting or running in this partition?
function Cluster:busy(partition) return self:ask("squeue -h -o %A -p " .. partition) ~= "" end

--- Jobs that wait two minutes after the end of a node do not, here.
function Cluster:hurry()
   for id in self:ask("squeue -h -t PENDING -o '%i %r'"):gmatch "(%S+) BeginTime" do self:ask(("scontrol update jobid=%s starttime=now"):format(id)) end
end

function Cluster:stop()
   os.execute(filled(self, STOP .. "end_all"))
   program.remove(self.folder)
end

return M
