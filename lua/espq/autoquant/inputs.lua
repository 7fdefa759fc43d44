--- A few inputs of the calibration data, kept beside the trials: what `espq report` compares the layers of their files on.
local core = require "espq.core"

local inputs = {}

local MOST = 8                   -- samples
local BYTES = 16e6

local function bytes_of(tensor) return tensor.size * ((tonumber(tensor.dtype:match "%d+$") or 8) // 8) end

--- Write inputs.npz into a run directory: the first samples of the first batch, by the names of the model's inputs.
---@param folder string
---@param graph userdata
---@param batch userdata[]? tensors in the order of the graph's inputs
function inputs.keep(folder, graph, batch)
   if not batch then return end
   local count, bytes = MOST, 0
   for _, tensor in ipairs(batch) do
      if tensor.ndim == 0 or tensor.shape[1] == 0 then return end
      count = math.min(count, tensor.shape[1])
      bytes = bytes + bytes_of(tensor) / tensor.shape[1]
   end
   count = math.max(1, math.min(count, BYTES // math.max(bytes, 1)))
   local list = {}
   for i, value in ipairs(graph.inputs) do
      if batch[i] then list[#list + 1] = { value.name, batch[i]:slice { axis = 0, start = 0, stop = math.tointeger(count) } } end
   end
   core.tensor.save_npz(folder .. "/inputs.npz", list)
end

return inputs
