---@meta _
-- Looking into files. (See espq.lua.)
-- luacheck: ignore 212 241

---@class espq.VerifyOptions
---@field target? espq.Target
---@field model? string which one of a package
---@field version? string of the runtime
---@field mended? boolean compute without the known faults of chip and runtime
---@field traits? espq.Traits

---@class espq.CostOptions
---@field path? string a .espdl file
---@field graph? espq.Graph or a quantized graph
---@field target? espq.Target
---@field model? string which one of a package
---@field max_internal_size? integer bytes of internal memory that the plan may use

--- Cost of every node in the order of execution: rows name, type, macs, parameter_bytes, refetched_bytes, moved_bytes, us.
---@class espq.Cost: espq.Rows
---@field macs integer multiply-accumulates
---@field parameter_bytes integer
---@field moved_bytes integer
---@field refetched_bytes integer
---@field ms number? estimate; nil where no figures are published for the chip
---@field memory { variable: integer, internal: integer, live: integer, live_node: string?, tensors: table[] } planned bytes
---@field target string
---@field about string where the estimate comes from

---@class espq.ModelOption
---@field model? string which one of a package

---@class espq.TargetOptions
---@field target? espq.Target
---@field model? string which one of a package

---@class espq.Info
---@field name string
---@field container string
---@field model_version integer
---@field inputs table[] name, dtype, shape, exponents
---@field outputs table[]
---@field values table[]
---@field initializers table[] also bytes and layout
---@field nodes table[] name, type, inputs, outputs, attributes
---@field test_inputs table[]
---@field test_outputs table[]
---@field metadata table<string, string>

--- What a board printed beside what espq computes; print says it in words.
---@class espq.BoardLog
---@field equal boolean nothing differs
---@field first string? the first node that differs
---@field target string
---@field tensors? table[]
---@field counts? { equal: integer, differs: integer, missing: integer, undefined: integer }
---@field modules? table[] name, type, us, estimate
---@field memory? table[] KB
---@field notes string[]
