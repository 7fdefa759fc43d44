--- Training of a quantized graph from a script: espq.trainer.
local core = require "espq.core"
local check = require "espq.check"
local data = require "espq.data"
local executor = require "espq.executor"
local setting_tree = require "espq.setting"

local train = {}

local T = core.tensor
local MEMORY = 1 << 30          -- bytes that a walk may hold

---@class espq.Trainer
---@field graph userdata the graph it was made from, as it was until finish
---@field outputs string[] names of the tensors that the loss sees
local Trainer = {}
Trainer.__index = Trainer

local trainer_fields = {
   graph = "any!", optimizer = "string", lr = "number", schedule = "string", steps = "integer", warmup = "integer", end_factor = "number",
   factor = "number", every = "integer", loss = "string|function", parameters = "string", weight_decay = "number", momentum = "number",
   nesterov = "boolean", betas = "table", epsilon = "number", rates = "table", memory = "integer", seed = "integer", teacher = "any", teach = "table",
   temperature = "number", smoothing = "number", output = "string|integer", collate_fn = "function",
}
train.fields = trainer_fields

local parameter_words = { weights = { true, false }, scales = { false, true }, all = { true, true } }

-- ---- options ----

local function check_range(what, options, name, least, most)
   local value = options[name]
   if value ~= nil and not (value >= least and value <= most) then
      check.fail(("%s: %s has to lie between %g and %g, it is %g"):format(what, name, least, most, value))
   end
end

local function check_numbers(what, options)
   if options.lr ~= nil and not (options.lr > 0 and options.lr < math.huge) then
      check.fail(("%s: lr has to be above 0, it is %g"):format(what, options.lr))
   end
   for _, name in ipairs { "steps", "every", "memory" } do
      if options[name] and options[name] < 1 then check.fail(("%s: %s has to be at least 1, it is %d"):format(what, name, options[name])) end
   end
   check_range(what, options, "warmup", 0, options.steps or math.maxinteger)
   check_range(what, options, "weight_decay", 0, 1)
   check_range(what, options, "momentum", 0, 1)
   check_range(what, options, "smoothing", 0, 1)
   check_range(what, options, "end_factor", 0, 1)
   check_range(what, options, "temperature", 1e-3, 1e3)
   if options.schedule == "cosine" and not options.steps then
      check.fail(what .. ": schedule 'cosine' needs steps, the number of steps in all")
   end
   if options.schedule == "step" and not options.every then
      check.fail(what .. ": schedule 'step' needs every, the steps after which lr is multiplied by factor")
   end
end

local function engine_options(what, options, about)
   local names = core.train.names()
   check.word(what .. ": optimizer", options.optimizer or "adam", names.optimizer)
   check.word(what .. ": schedule", options.schedule or "constant", names.schedule)
   if type(options.loss) == "string" then check.word(what .. ": loss", options.loss, names.loss) end
   check.word(what .. ": parameters", options.parameters or "weights", check.keys(parameter_words))
   check_numbers(what, options)
   local rates = check.fields(what .. ": rates", options.rates or {}, { biases = "number", scales = "number" })
   for i = 1, 2 do
      local beta = options.betas and options.betas[i]
      if options.betas and not (type(beta) == "number" and beta >= 0 and beta < 1) then
         check.fail(what .. ": betas has to be two numbers from 0 to below 1", nil, "betas = { 0.9, 0.999 }")
      end
   end
   local betas, parts = options.betas or {}, parameter_words[options.parameters or "weights"]
   return {
      optimizer = options.optimizer or "adam", beta1 = betas[1], beta2 = betas[2], epsilon = options.epsilon, momentum = options.momentum,
      nesterov = options.nesterov, weight_decay = options.weight_decay, schedule = options.schedule or "constant", lr = options.lr or 1e-5,
      steps = options.steps, warmup = options.warmup, end_factor = options.end_factor, factor = options.factor, every = options.every,
      weights = parts[1], scales = parts[2], bias_rate = rates.biases, scale_rate = rates.scales, memory = options.memory or MEMORY,
      setting = setting_tree.engine(about.setting), exact = about.exact,
   }
end

-- ---- what the loss sees ----

-- Classes are judged by their logits: the tensor before a Softmax at the end.
local function logits_of(graph, name)
   local value = graph:tensor(name)
   while value.producer and (value.producer.type == "Softmax" or value.producer.type == "LogSoftmax") do value = value.producer.inputs[1] end
   return value.name
end

local function chosen_output(what, graph, output)
   if type(output) == "number" then
      if not graph.outputs[output] then check.fail(("%s: output %d: the graph has %d outputs"):format(what, output, #graph.outputs)) end
      return graph.outputs[output].name
   end
   if output then return graph:tensor(output).name end
   return graph.outputs[1].name
end

-- Names of all tensors that are asked for, each once; roles: name → "output" or "map".
local function tensors_to_see(what, self, options)
   local graph, names, roles = self.graph, {}, {}
   local function add(name, role)
      if roles[name] then return end
      roles[name] = role
      names[#names + 1] = name
   end
   if type(self.loss) == "function" then
      for _, output in ipairs(graph.outputs) do add(output.name, "output") end
   elseif options.output or self.loss == "cross_entropy" or self.loss == "kl" then
      self.judged = logits_of(graph, chosen_output(what, graph, options.output))
      add(self.judged, "output")
   else
      for _, output in ipairs(graph.outputs) do add(output.name, "output") end
   end
   for _, name in ipairs(options.teach or {}) do
      local value = graph:tensor(name)
      if value.value then check.fail(("%s: teach: '%s' is a constant"):format(what, name), nil, "name a tensor that a node makes") end
      add(name, "map")
   end
   return names, roles
end

local function default_loss(graph, teacher)
   if not teacher then return "cross_entropy" end
   local shape = graph.outputs[1] and graph.outputs[1].shape
   return #graph.outputs == 1 and shape and #shape == 2 and "kl" or "mse"
end

--- Trains a quantized graph. The graph stays as it is until trainer:finish().
---    local trainer = espq.trainer { graph = quantized, optimizer = "adam", lr = 1e-5, loss = "cross_entropy" }
---    for x, labels in loader() do print(trainer:step(x, labels)) end
---    trainer:finish()
---@param options table graph; optimizer: adam, adamw or sgd (momentum, nesterov, weight_decay, betas, epsilon); lr; schedule: constant, cosine
--- (steps, end_factor) or step (every, factor), warmup; loss: cross_entropy, mse, kl, cosine, or function(outputs, batch, labels) that gives the
--- loss and d loss / d outputs; parameters: weights, scales or all; rates: { biases =, scales = } times lr; teacher: true (the float form of the
--- graph) or a graph; teach: names of further tensors that should equal the teacher's; memory: bytes a step may keep, larger batches go through
--- in pieces; output: which one the loss judges; collate_fn; seed
---@return espq.Trainer
function train.make(options)
   local what = "trainer"
   check.fields(what, options, trainer_fields)
   local graph = options.graph
   if type(graph) ~= "userdata" then check.fail(what .. ": field 'graph' has to be a graph") end
   local about = core.graph.about(graph)
   if not about.quantized then check.fail(what .. ": the graph is not quantized", nil, "espq.quantize_graph{ graph = … } first") end
   if options.teach and not options.teacher then
      check.fail(what .. ": teach names tensors of a teacher", nil, "teacher = true: the float form of the graph")
   end
   local self = setmetatable({ graph = graph, options = options, loss = options.loss or default_loss(graph, options.teacher), seed = options.seed or 0 },
      Trainer)
   local engine = engine_options(what, options, about)
   self.outputs, self.roles = tensors_to_see(what, self, options)
   engine.outputs, engine.identity = self.outputs, core.road.digest(graph, false)
   self.dtypes = {}
   for i, input in ipairs(graph.inputs) do self.dtypes[i] = input.dtype or "float32" end
   if options.teacher then
      local teacher = options.teacher == true and graph:copy() or options.teacher
      if type(teacher) ~= "userdata" then check.fail(what .. ": teacher has to be true or a graph") end
      self.teacher = executor.make(teacher, { mode = "float", outputs = self.outputs })
   end
   self.engine = core.train.make(graph, engine)
   return self
end

-- ---- labels ----

local function class_numbers(what, labels)
   if type(labels) == "number" then labels = { labels } end
   if type(labels) ~= "table" then check.fail(("%s: labels have to be class numbers, this is a %s"):format(what, type(labels))) end
   for i, label in ipairs(labels) do
      if math.type(label) ~= "integer" then
         check.fail(("%s: label %d is %s: classes are whole numbers from 0"):format(what, i, tostring(label)), nil,
                    "turn names into numbers in the dataset, or by collate_fn")
      end
   end
   return T.tensor(labels, "int64")
end

-- What an output should be, by the user's labels.
local function target_of(what, labels, name, position, loss)
   if labels == nil then
      check.fail(("%s: loss '%s' needs labels"):format(what, loss), nil,
                 "trainer:step(batch, labels), a loader that gives batch, labels, or teacher = true")
   end
   if type(labels) == "table" and not T.is_tensor(labels) and (T.is_tensor(labels[1]) or T.is_tensor(labels[name])) then
      labels = labels[name] or labels[position]
   end
   if T.is_tensor(labels) then return labels end
   if loss == "cross_entropy" then return class_numbers(what, labels) end
   check.fail(("%s: loss '%s' needs a tensor of the shape of output '%s' as label, this is a %s"):format(what, loss, name, type(labels)))
end

local function check_classes(what, output, target, name)
   if target.size ~= output.size and target.size ~= output.size // output.shape[2] then
      check.fail(("%s: %d labels for %d samples"):format(what, target.size, output.shape[1]), name)
   end
   if target.dtype:find "int" and target:max():item() >= output.shape[2] then
      check.fail(("%s: label %d is outside 0 … %d"):format(what, target:max():item(), output.shape[2] - 1), name,
                 "labels are positions in the logits, from 0")
   end
end

-- ---- losses ----

local Sum = {}
Sum.__index = Sum

function Sum:add(position, value, gradient)
   self.value = self.value + value
   local before = self.gradients[position]
   self.gradients[position] = before and before + gradient or gradient
end

-- A teacher's tensors differ in size by orders: each counts by noise over signal.
local function relative(target)
   local power = (target * target):mean():item()
   return power > 0 and 1 / power or 0
end

local function add_taught(self, sum, outputs, targets)
   local options = self.options
   for i, name in ipairs(self.outputs) do
      if outputs[i].dtype == "float32" then
         local loss = self.loss
         if self.roles[name] == "map" or type(loss) == "function" then loss = "mse" end
         if loss == "cross_entropy" then loss = "kl" end
         local weight = loss == "mse" and relative(targets[i]) or 1
         if not (type(self.loss) == "function" and self.roles[name] == "output") then
            sum:add(i, core.train.loss(loss, outputs[i], targets[i], { weight = weight, temperature = options.temperature }))
         end
      end
   end
end

local function add_labelled(self, what, sum, outputs, labels)
   for i, name in ipairs(self.outputs) do
      if self.roles[name] == "output" and outputs[i].dtype == "float32" then
         local target = target_of(what, labels, name, i, self.loss)
         if self.loss == "cross_entropy" and outputs[i].ndim >= 2 then check_classes(what, outputs[i], target, name) end
         sum:add(i, core.train.loss(self.loss, outputs[i], target, { smoothing = self.options.smoothing, temperature = self.options.temperature }))
      end
   end
end

local function shape_text(tensor) return "[" .. table.concat(tensor.shape, ", ") .. "]" end

local function add_custom(self, what, sum, outputs, batch, labels)
   local value, gradients = self.loss(executor.name_outputs({ table.unpack(outputs) }, self.outputs), batch, labels)
   if T.is_tensor(value) and value.size == 1 then value = value:item() end
   if type(value) ~= "number" then
      check.fail(("%s: the loss function returned a %s as the loss"):format(what, T.is_tensor(value) and "tensor of several numbers" or type(value)), nil,
                 "return loss, gradients")
   end
   if T.is_tensor(gradients) then gradients = { gradients } end
   if type(gradients) ~= "table" then
      check.fail(("%s: the loss function returned a %s as gradients"):format(what, type(gradients)), nil,
                 "return the loss, and d loss / d output: a tensor, a list, or name = tensor")
   end
   local known, any = {}, false
   for i, name in ipairs(self.outputs) do known[i], known[name] = true, true end
   for key, gradient in pairs(gradients) do
      if not known[key] then check.fail(("%s: the loss function returned a gradient for '%s', which is no output%s"):format(what, tostring(key),
         check.hint(key, self.outputs))) end
      if not T.is_tensor(gradient) then
         check.fail(("%s: the loss function returned a %s as the gradient of '%s', not a tensor"):format(what, type(gradient), tostring(key)))
      end
   end
   for i, name in ipairs(self.outputs) do
      local gradient = gradients[name] or gradients[i]
      if gradient then
         if shape_text(gradient) ~= shape_text(outputs[i]) then
            check.fail(("%s: the loss function's gradient has shape %s, output '%s' has shape %s"):format(what, shape_text(gradient), name,
               shape_text(outputs[i])))
         end
         sum:add(i, 0, gradient:to "float32")
         any = true
      end
   end
   if not any then check.fail(what .. ": the loss function returned no gradient", nil, "return the loss, and d loss / d output of one output at least") end
   sum.value = value
end

--- A batch without its labels, and those: it may bring them along, { x, labels = y }.
function train.split(what, graph, collate_fn, batch, labels)
   if collate_fn then
      batch, labels = collate_fn(batch, labels)
      if batch == nil then check.fail(what .. ": collate_fn returned nothing", nil, "it has to return the batch, and its labels if there are any") end
   end
   if type(batch) == "table" and not T.is_tensor(batch) and batch.labels ~= nil and labels == nil and not (graph and graph:has_tensor "labels") then
      local inputs = {}
      for key, value in pairs(batch) do inputs[key] = value end
      inputs.labels, labels = nil, batch.labels
      batch = inputs
   end
   return batch, labels
end

local function forward(self, what, batch, labels)
   batch, labels = train.split(what, self.graph, self.options.collate_fn, batch, labels)
   local list = data.bind(what, self.graph.inputs, batch)
   local outputs = core.train.forward(self.engine, list, self.dtypes)
   local sum = setmetatable({ value = 0, gradients = {} }, Sum)
   if type(self.loss) == "function" then
      add_custom(self, what, sum, outputs, batch, labels)
   elseif not self.teacher or (self.loss == "cross_entropy" and labels ~= nil) then
      add_labelled(self, what, sum, outputs, labels)
   end
   if self.teacher then add_taught(self, sum, outputs, core.executor.run(self.teacher.engine, list)) end
   return sum, outputs
end

--- The loss of a batch, with nothing changed.
---@return number
function Trainer:evaluate(batch, labels) return (forward(self, "trainer:evaluate", batch, labels)).value end

--- One step: the batch's loss, its gradients, and better parameters. A step that fails changes nothing.
---@param batch any a tensor, a list, or name = tensor; may carry `labels = …`
---@param labels? any class numbers (a tensor or a list), or a tensor of an output's shape
---@return number loss before the step
function Trainer:step(batch, labels)
   local what = "trainer:step"
   self.diverged = false
   local sum = forward(self, what, batch, labels)
   if sum.value ~= sum.value or sum.value == math.huge or sum.value == -math.huge then
      self.diverged = true
      local about = core.train.about(self.engine)
      local value = sum.value ~= sum.value and "nan" or tostring(sum.value)
      check.fail(("%s: training diverges: the loss is %s in step %d at rate %g"):format(what, value, about.steps + 1, about.rate), nil,
                 "take a lower lr")
   end
   local gradients = {}
   for i = 1, #self.outputs do gradients[i] = sum.gradients[i] or false end
   local done, problem = pcall(core.train.back, self.engine, gradients)
   if not done then
      self.diverged = core.train.about(self.engine).diverged
      error(problem, 0)
   end
   return sum.value
end

--- What is trained: { steps =, rate = (of the next step), weights = { tensors, numbers }, biases =, slopes =, norms =, scales = }.
function Trainer:about()
   local about = core.train.about(self.engine)
   about.seed = self.seed
   return about
end

--- Write all that the next steps depend on, whole or not at all. note: a text of the script's own.
---@param path string
---@param note? string
function Trainer:save(path, note)
   core.train.save(self.engine, path, note or "")
   return self
end

--- Go on where a checkpoint was written: the same steps then give the same bytes as without the interruption. Gives its note.
---@param path string
---@return string note
function Trainer:load(path) return core.train.load(self.engine, path) end

--- A copy of the graph with what was learnt so far: to run, judge, export. The graph itself stays as it is.
---@return userdata
function Trainer:snapshot()
   local graph = self.graph:copy()
   core.train.apply(self.engine, graph)
   return graph
end

--- Put what was learnt into the graph; exponents of biases follow. It is ready for espq.export then.
---@return userdata graph
function Trainer:finish()
   core.train.apply(self.engine, self.graph)
   return self.graph
end

function Trainer:__tostring()
   local about, parts = self:about(), {}
   for _, name in ipairs { "weights", "biases", "slopes", "norms", "scales" } do
      if about[name][1] > 0 then parts[#parts + 1] = ("%d %s (%d numbers)"):format(about[name][1], name, about[name][2]) end
   end
   return ("trainer: step %d, trains %s"):format(about.steps, table.concat(parts, ", "))
end

return train
