---@meta _
-- Quantizing. (See espq.lua.)
-- luacheck: ignore 212 241

---@class espq.QuantizeFields
---@field espdl_export_file? string .info and .json are written beside it
---@field calib_dataloader? espq.Loader|"random" "random" needs no data: for structure and speed only
---@field calib_steps? integer batches; needed with a loader
---@field inputs? espq.Batch test inputs for the file
---@field target? espq.Target esp32p4 when nothing is said
---@field num_of_bits? 8|16 8 when nothing is said
---@field collate_fn? espq.Collate makes what the model reads of what the loader gives
---@field setting? espq.Setting espq.setting.espdl() when nothing is said
---@field device? "cpu"
---@field error_report? boolean false: the report's figures are not measured
---@field skip_export? boolean true: nothing is written
---@field export_config? boolean false: no .json
---@field export_test_values? boolean false: none in the file
---@field test_values? "chip"|"simulated" chip: integers as the runtime computes them
---@field test_output_names? string[] names of tensors
---@field hi_precision? boolean
---@field metadata_props? table<string, any> for the file
---@field verbose? integer|boolean how much is said, 0 to 2
---@field dispatching_method? string deprecated: setting.dispatcher
---@field dispatching_override? table<string, espq.Platform> deprecated: setting.dispatching_table
---@field model_version? integer
---@field int16_lut_step? integer distance of the entries of 16-bit tables
---@field evaluate_fn? fun(graph: espq.Graph): number the metric, larger is better; alone: its loss is reported
---@field max_drop? number of the metric below float: the cheapest setting that keeps it is looked for
---@field check? boolean prove that the graph is legal after every pass

---@class espq.QuantizeOnnxFields: espq.QuantizeFields
---@field input_shape? espq.InputShape with the batch; fixes symbolic dimensions
---@field outputs? string[] cut the model at these tensors
---@field cut_inputs? string[] begin the model at these tensors
---@field rename_outputs? string[]|table<string, string> in their order, or old = new

---@class espq.QuantizeOnnxOptions: espq.QuantizeOnnxFields
---@field onnx_import_file string

---@class espq.QuantizeGraphOptions: espq.QuantizeFields
---@field graph espq.Graph quantized in place

---@class espq.ExportOptions
---@field graph espq.Graph a quantized one
---@field espdl_export_file string
---@field export_config? boolean false: no .json
---@field export_test_values? boolean false: none in the file
---@field test_values? "chip"|"simulated"
---@field test_output_names? string[] names of tensors
---@field inputs? espq.Batch test inputs for the file
---@field metadata_props? table<string, any> for the file
---@field model_version? integer
---@field int16_lut_step? integer distance of the entries of 16-bit tables
---@field setting? espq.Setting the graph's own when nothing is said

--- What a quantization found out; print shows the tables.
---@class espq.Report
---@field graphwise table[] rows name, type, snr
---@field layerwise table[] rows name, type, snr
---@field notes string[]
---@field warnings string[]
---@field floats string[] what is not quantized, and why
---@field tables string[] what the chip looks up in tables
---@field chip table lines, and the rows of analyse's compare, device and resolution
---@field file? string the export
---@field goal? espq.Goal with evaluate_fn

--- What an accuracy goal came to; print says it in words.
---@class espq.Goal
---@field float_score number
---@field score number
---@field drop number float_score - score
---@field max_drop number?
---@field kept boolean?
---@field misses_by number?
---@field words string how it was reached
---@field tried integer settings
---@field setting espq.Setting
---@field bits 8|16
---@field target string
---@field snippet string lines of Lua that make the setting
---@field cost? espq.Cost
---@field cost_line? string

---@class espq.PassOptions
---@field name string
---@field after string the pass it follows, see `espq passes`
---@field run fun(graph: espq.Graph, setting: espq.Setting)
---@field help? string

---@class espq.ObserverOptions
---@field name string for calib_algorithm
---@field begin? fun(slot: espq.Slot): any the state that the others get
---@field observe fun(state: any, tensor: espq.Tensor)
---@field scale fun(state: any, slot: espq.Slot): integer the exponent
---@field help? string

---@class espq.OperatorNode
---@field name string
---@field type string
---@field inputs table[]
---@field outputs table[]
---@field attributes table<string, any>

---@class espq.OperatorOptions
---@field type string
---@field infer fun(node: espq.OperatorNode): integer[]|{ shape: integer[], dtype: espq.Dtype? }[] the output's shape, or one a output
---@field run fun(node: espq.OperatorNode, inputs: (espq.Tensor|false)[]): espq.Tensor|espq.Tensor[]
---@field help? string

---@class espq.ApplyOptions
---@field graph espq.Graph
---@field pass string see `espq passes`
---@field setting? espq.Setting|table<string, any> a setting, or the pass's own fields
---@field dataloader? espq.Loader
---@field steps? integer batches at most
---@field collate_fn? espq.Collate
---@field target? espq.Target
---@field num_of_bits? 8|16

---@class espq.GraphNode
---@field type string
---@field name? string
---@field inputs? (string|espq.Tensor|false)[] names, or tensors that stand for themselves; "" or false: left out
---@field outputs? string[]
---@field attributes? table<string, any>

---@class espq.GraphSpec
---@field name? string
---@field inputs table name = shape, or a list of { name =, shape =, dtype = }
---@field outputs string[]
---@field nodes espq.GraphNode[] in any order
---@field constants? table<string, espq.Tensor>

---@class espq.LoadOnnxOptions
---@field input_shape? espq.InputShape
