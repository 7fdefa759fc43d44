---@meta _
-- Analyses. (See espq.lua.)
-- luacheck: ignore 212 241

---@class espq.AnalyseOptions
---@field graph espq.Graph
---@field dataloader espq.Loader
---@field steps? integer batches, 8 when nothing is said
---@field method? "snr"|"cosine"|"mse"
---@field collate_fn? espq.Collate

---@class espq.HeadroomOptions
---@field graph espq.Graph
---@field dataloader espq.Loader
---@field steps? integer batches, 8 when nothing is said
---@field collate_fn? espq.Collate
---@field version? string of the runtime
---@field mended? boolean compute without the known faults of chip and runtime
---@field traits? espq.Traits

---@class espq.CompareOptions: espq.HeadroomOptions
---@field with? "integer"
---@field samples? integer at most
---@field headroom? boolean the accumulators, too

---@class espq.ResolutionOptions
---@field graph espq.Graph
---@field dataloader espq.Loader
---@field steps? integer batches, 8 when nothing is said
---@field bands? table<string, number[]> output = { low, high }: where it is decided, in the user's units
---@field units? table<string, { scale: number?, offset: number?, name: string? }> what an output's numbers mean
---@field collate_fn? espq.Collate

---@class espq.GraphOptions
---@field graph espq.Graph

--- Analyses of quantized graphs; each gives rows.
---@class espq.AnalyseModule
local analyse = {}

--- How far each layer's output is from float when everything before it is quantized too: rows name, type, and the method.
---@param options espq.AnalyseOptions
---@return espq.Rows
function analyse.graphwise(options) end

--- What each layer, quantized alone, costs at the outputs: rows name, type, and the method.
---@param options espq.AnalyseOptions
---@return espq.Rows
function analyse.layerwise(options) end

--- Noise and distribution of every end of every quantized node: rows op, variable, snr …
---@param options espq.AnalyseOptions
---@return espq.Rows
function analyse.statistical(options) end

--- Range, deviation and mean of every parameter: rows variable, op, range, std, mean_abs.
---@param options espq.GraphOptions
---@return espq.Rows
function analyse.parameters(options) end

--- What each layer costs at the outputs, the dearest first, with the setting that would mend it: rows name, type, noise, share, advice.
---@param options espq.AnalyseOptions
---@return espq.Rows
function analyse.sensitivity(options) end

--- Where the chip's integers differ from the simulation: rows node, type, alone, differ, largest, mean, bits,
--- cause: shares, and steps of the tensor. Field first: the first node that differs by itself.
---@param options espq.CompareOptions
---@return espq.Rows
function analyse.compare(options) end

--- How full the accumulators get: rows node, type, largest, limit, bits_left, saturated, clipped, count.
---@param options espq.HeadroomOptions
---@return espq.Rows
function analyse.headroom(options) end

--- What each node does on the chip, without data: rows node, type, width, computes, shift, entries, table_largest, table_mean, finding.
---@param options espq.GraphOptions
---@return espq.Rows
function analyse.device(options) end

--- Is each output's step fine enough? Rows output, bits, step, unit, band, judged, levels, clipped, undecided, cure.
---@param options espq.ResolutionOptions
---@return espq.Rows
function analyse.resolution(options) end
