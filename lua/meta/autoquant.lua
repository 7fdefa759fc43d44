---@meta _
-- AutoQuant. (See espq.lua.)
-- luacheck: ignore 212 241

---@alias espq.Candidates any[]|espq.Range

--- Candidates from start to end, end included.
---@class espq.Range

---@class espq.NumOfBitsKnobs
---@field value integer[]|espq.Range

---@class espq.CalibAlgorithmKnobs
---@field method string[]

---@class espq.WeightEqualizationKnobs
---@field iterations integer[]|espq.Range
---@field value_threshold number[]|espq.Range
---@field opt_level integer[]|espq.Range

---@class espq.HorizontalLayerSplitKnobs
---@field topk integer[]|espq.Range the worst layers
---@field value_threshold number[]|espq.Range

---@class espq.BiasCorrectionKnobs
---@field block_size integer[]|espq.Range
---@field steps integer[]|espq.Range
---@field topk integer[]|espq.Range the worst layers; -1: all

---@class espq.MixedPrecisionKnobs
---@field topk integer[]|espq.Range the worst layers

---@class espq.TqtKnobs
---@field lr number[]|espq.Range
---@field steps integer[]|espq.Range
---@field block_size integer[]|espq.Range
---@field is_scale_trainable boolean[]
---@field gamma number[]|espq.Range
---@field int_lambda number[]|espq.Range
---@field collecting_device string[]
---@field topk integer[]|espq.Range the worst layers; -1: all

---@class espq.FusionAlignmentKnobs
---@field elementwise_to string[]
---@field concat_to string[]
---@field avgpooling_to string[]
---@field resize_to string[]
---@field force_overlap boolean[]

---@class espq.BlockwiseReconstructionKnobs
---@field is_scale_trainable boolean[]
---@field topk integer[]|espq.Range the worst layers; -1: all
---@field block_size integer[]|espq.Range
---@field steps integer[]|espq.Range
---@field lr number[]|espq.Range
---@field gamma number[]|espq.Range
---@field collecting_device string[]

--- Which modules are tried: { true, false } tries both. Modules of espq.strategy stand here, too.
---@class espq.StrategySpace
---@field num_of_bits boolean[]
---@field calib_algorithm boolean[]
---@field weight_equalization boolean[]
---@field horizontal_layer_split boolean[]
---@field bias_correction boolean[]
---@field mixed_precision boolean[]
---@field tqt boolean[]
---@field fusion_alignment boolean[]
---@field blockwise_reconstruction boolean[]
---@field [string] boolean[]

--- The candidates of each module's knobs.
---@class espq.ParamSpace
---@field num_of_bits espq.NumOfBitsKnobs
---@field calib_algorithm espq.CalibAlgorithmKnobs
---@field weight_equalization espq.WeightEqualizationKnobs
---@field horizontal_layer_split espq.HorizontalLayerSplitKnobs
---@field bias_correction espq.BiasCorrectionKnobs
---@field mixed_precision espq.MixedPrecisionKnobs
---@field tqt espq.TqtKnobs
---@field fusion_alignment espq.FusionAlignmentKnobs
---@field blockwise_reconstruction espq.BlockwiseReconstructionKnobs
---@field [string] table<string, espq.Candidates>

---@class espq.AutoQuantFields
---@field num_of_candidates? integer how many of the best are kept, 5 when nothing is said
---@field search_mode? "exhaustive"|"fast"|"tpe"|"pareto"
---@field candidate_filter? (fun(record: espq.Record): boolean)|false which candidates come first; false: none
---@field score_direction? "maximize"|"minimize"
---@field run_dir? string the folder of trials and results
---@field resume? boolean go on where run_dir ends; without it the search begins anew
---@field top_strategy? integer fast: how many strategies the knobs are tried for
---@field early_stop_patience? integer fast: how many trials may bring nothing
---@field structural_knobs? table<string, string[]> fast: module = knobs that are tried with the strategies
---@field strategy_space? espq.StrategySpace|table<string, boolean[]>
---@field param_space? espq.ParamSpace|table<string, table<string, espq.Candidates>>
---@field seed? integer
---@field share? boolean false: every trial from scratch
---@field prune? boolean leave out the evaluation of trials whose graphwise error is hopeless
---@field pareto_cost? "latency"|"bytes" the second aim of search_mode "pareto"
---@field budget? { trials: integer?, seconds: number? }
---@field base? espq.Setting what every trial starts from

--- The setting of a search. Its spaces are edited in part: setting.param_space.tqt.lr = { 1e-5, 5e-5 }.
---@class espq.AutoQuantSetting: espq.AutoQuantFields
---@field num_of_candidates integer
---@field search_mode "exhaustive"|"fast"|"tpe"|"pareto"
---@field score_direction "maximize"|"minimize"
---@field run_dir string
---@field resume boolean
---@field top_strategy integer
---@field early_stop_patience integer
---@field structural_knobs table<string, string[]>
---@field strategy_space espq.StrategySpace
---@field param_space espq.ParamSpace
---@field seed integer
---@field share boolean
---@field prune boolean
---@field pareto_cost "latency"|"bytes"

---@class espq.AutoQuantOptions
---@field onnx_import_file string
---@field espdl_export_file string its name is that of the files in the trials' folders
---@field calib_dataloader espq.Loader
---@field calib_steps integer batches
---@field input_shape espq.InputShape without the batch
---@field evaluate_fn? fun(graph: espq.Graph): number, table<string, any>? the score, and further figures for the record
---@field evaluate_fast? fun(graph: espq.Graph): number, table<string, any>? ranks the trials; evaluate_fn judges the candidates
---@field evaluate_command? string instead: a program that prints { "score": … }; {espdl} stands for the trial's file
---@field target? espq.Target esp32p4 when nothing is said
---@field collate_fn? espq.Collate
---@field setting? espq.AutoQuantSetting
---@field device? "cpu"
---@field verbose? integer|boolean how much is said, 0 to 2
---@field workers? integer processes; one a core when nothing is said, 1: none is forked
---@field trial_timeout? number seconds

---@class espq.StrategyOptions
---@field name string
---@field knobs? table<string, espq.Candidates>
---@field apply fun(setting: espq.Setting, knobs: table<string, any>)
---@field switch? boolean[] what is tried, { true, false } when nothing is said

--- A trial as summary.json has it; the figures of evaluate_fn are further fields.
---@class espq.Record
---@field hash? string
---@field index? integer
---@field folder? string
---@field files? table
---@field strategy table<string, boolean>
---@field params table<string, table<string, any>>
---@field score? number
---@field status? "done"|"failed"|"pruned"
---@field error? string
---@field seconds? number
---@field seed? integer
---@field [string] any

---@class espq.Trial
---@field ordinal integer its place in the enumeration, from 0
---@field hash string
---@field strategy table<string, boolean>
---@field params table<string, table<string, any>> a module that is off has none

---@class espq.EnumerateOptions
---@field from? integer begin at this ordinal; exhaustive mode
---@field score? fun(trial: espq.Trial): number, number? what the other modes decide by; pareto: score and cost

--- The search without quantizing.
---@class espq.AutoQuantModule
local autoquant = {}

--- Walk the trials of a setting in their order; nothing is quantized.
---@param search espq.AutoQuantSetting
---@param options? espq.EnumerateOptions
---@return fun(): espq.Trial?
function autoquant.enumerate(search, options) end

--- How many trials the space has.
---@param search espq.AutoQuantSetting
---@return integer
function autoquant.count(search) end

--- The best that such records (index, score, strategy) give.
---@param search espq.AutoQuantSetting
---@param records espq.Record[]
---@return espq.Record[]
function autoquant.candidates(search, records) end

--- True when neither mixed_precision nor horizontal_layer_split is on: such models run fastest.
---@param record espq.Record
---@return boolean
function autoquant.low_latency_candidate_filter(record) end
