---@meta _
-- Training. (See espq.lua.)
-- luacheck: ignore 212 241

---@alias espq.Loss fun(outputs: espq.Outputs, batch: any, labels: any): number, any the loss, and its gradients by the outputs

---@class espq.TrainerFields
---@field optimizer? "adam"|"adamw"|"sgd"
---@field lr? number learning rate
---@field schedule? "constant"|"cosine"|"step" cosine needs steps, step needs every
---@field steps? integer of the whole training
---@field warmup? integer steps in which the rate rises
---@field end_factor? number cosine: what is left of lr at the end
---@field factor? number step: what lr is multiplied with
---@field every? integer step: how many steps lie between
---@field loss? "cross_entropy"|"mse"|"kl"|"cosine"|espq.Loss
---@field parameters? "weights"|"scales"|"all"
---@field weight_decay? number
---@field momentum? number of sgd
---@field nesterov? boolean
---@field betas? number[] of adam
---@field epsilon? number
---@field rates? { biases: number?, scales: number? } times lr
---@field memory? integer bytes a step may keep; larger batches go through in pieces
---@field seed? integer
---@field teach? string[] further tensors that should equal the teacher's
---@field temperature? number of kl
---@field smoothing? number of labels
---@field output? string|integer which one the loss judges, from 1

---@class espq.TrainerOptions: espq.TrainerFields
---@field graph espq.Graph a quantized one; it stays as it is until finish
---@field teacher? true|espq.Graph true: the float form of the graph
---@field collate_fn? espq.Collate

---@class espq.QatOptions: espq.QuantizeOnnxFields, espq.TrainerFields
---@field onnx_import_file? string this, or graph
---@field graph? espq.Graph a quantized one
---@field train_dataloader espq.Loader gives batch, labels; called with the number of the epoch
---@field epochs integer
---@field steps_per_epoch? integer
---@field distill? boolean the float model teaches: no labels are needed
---@field score_direction? "maximize"|"minimize"
---@field checkpoint_dir? string last.ckpt and best.ckpt, written after each epoch
---@field resume? boolean go on from checkpoint_dir

--- What a training came to; print shows the epochs.
---@class espq.QatReport
---@field epochs { epoch: integer, loss: number?, score: number, figures: table? }[] 0: untrained
---@field best { epoch: integer, score: number }
---@field quantize espq.Report?
---@field file? string the export
---@field seed integer
---@field trained table
---@field diverged? string
---@field warnings? string[]

--- Trains a quantized graph, step by step.
---@class espq.Trainer
---@field graph espq.Graph
---@field outputs string[] names of the tensors that the loss sees
---@field seed integer
local Trainer = {}

--- One step: gives the batch's loss before it. A step that fails changes nothing.
---@param batch espq.Batch
---@param labels? any class numbers from 0, or a tensor of an output's shape
---@return number loss
function Trainer:step(batch, labels) end

--- The loss of a batch, with nothing changed.
---@param batch espq.Batch
---@param labels? any
---@return number loss
function Trainer:evaluate(batch, labels) end

--- What is trained: steps, the next step's rate, and how many weights, biases, slopes, norms, scales.
---@return table
function Trainer:about() end

--- Write all that the next steps depend on.
---@param path string
---@param note? string a text of the script's own
---@return espq.Trainer
function Trainer:save(path, note) end

--- Go on where a checkpoint was written. Gives its note.
---@param path string
---@return string note
function Trainer:load(path) end

--- A copy of the graph with what was learnt so far.
---@return espq.Graph
function Trainer:snapshot() end

--- Put what was learnt into the graph: it is ready for espq.export then.
---@return espq.Graph
function Trainer:finish() end
