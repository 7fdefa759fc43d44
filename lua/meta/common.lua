---@meta _
-- What all the others name: words, options, errors. (See espq.lua.)
-- luacheck: ignore 212 241

---@alias espq.Dtype "float32"|"float64"|"int8"|"uint8"|"int16"|"int32"|"int64"|"bool"
---@alias espq.Target "c"|"esp32"|"esp32s2"|"esp32s3"|"esp32c2"|"esp32c3"|"esp32c5"|"esp32c6"|"esp32p4"|"esp32s31"|string
---@alias espq.CalibAlgorithm "kl"|"minmax"|"percentile"|"mse"|"isotone"|"constant"|"floating"
---@alias espq.Batch espq.Tensor|espq.Tensor[]|table<string, espq.Tensor> one input, inputs in their order, or name = tensor
---@alias espq.Labels espq.Tensor|any[] class numbers from 0, or what a dataset says of its samples
---@alias espq.Iterator fun(): espq.Batch?, espq.Labels?
---@alias espq.Loader espq.DataLoader|espq.Dataset|espq.Cache|espq.Tensor|espq.Batch[]|fun(epoch: integer?): espq.Iterator
---@alias espq.Collate fun(batch: any, labels: any): espq.Batch
---@alias espq.InputShape integer[]|integer[][]|table<string, integer[]> of one input, of all in their order, or name = shape
---@alias espq.Filter "nearest"|"box"|"bilinear"|"hamming"|"bicubic"|"lanczos" as PIL computes them
---@alias espq.Traits table<string, boolean> `espq targets --defects` lists them: name = in force or not

---@class espq.TensorOptions
---@field dtype? espq.Dtype float32 when nothing is said

---@class espq.RandomOptions: espq.TensorOptions
---@field seed? integer a sequence of its own; without it the numbers follow espq.seed

---@class espq.AxisOptions
---@field axis? integer from 0, negative from the end

---@class espq.ReduceOptions
---@field axis? integer|integer[] from 0, negative from the end; all axes when nothing is said
---@field keepdims? boolean the axes stay, with size 1

---@class espq.SortOptions: espq.AxisOptions
---@field descending? boolean largest first

---@class espq.SliceOptions: espq.AxisOptions
---@field start? integer from 0
---@field stop? integer the first that is left out
---@field step? integer

---@class espq.PadOptions
---@field before? integer[] how many elements in front, one number an axis
---@field after? integer[] how many elements behind, one number an axis
---@field value? number what they are, 0 when nothing is said

---@class espq.CloseOptions
---@field rtol? number share of the other's magnitude, 1e-5 when nothing is said
---@field atol? number 1e-8 when nothing is said

---@class espq.ImageOptions
---@field mode? "RGB"|"BGR"|"GRAY" RGB when nothing is said

-- ---- errors ----

--- What espq raises: a table that prints as one paragraph; `..` works on it.
---@class espq.Error
---@field what string what happened
---@field where? string file, node, tensor, trial
---@field cure? string what to do
---@field code "input"|"memory"|"file"|"interrupted"|"callback"|"internal"
---@operator concat(any): string
