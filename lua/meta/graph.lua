---@meta _
-- Graphs, nodes, values. (See espq.lua.)
-- luacheck: ignore 212 241

--- A graph: nodes and the tensors between them. print shows it, # counts the nodes.
---@class espq.Graph
---@field name string
---@field source string? the file it was read from
---@field opset integer
---@field inputs espq.Value[]
---@field outputs espq.Value[]
---@operator len: integer
local Graph = {}

--- Walk the nodes in the order in which they came; the graph may be edited on the way.
---@return fun(): espq.Node?
function Graph:nodes() end

--- Walk all tensors of the graph: activations and parameters.
---@return fun(): espq.Value?
function Graph:tensors() end

--- The nodes in the order of execution.
---@return espq.Node[]
function Graph:sorted() end

--- The node of this name; an error names the nearest.
---@param name string
---@return espq.Node
function Graph:node(name) end

--- The tensor of this name; an error names the nearest.
---@param name string
---@return espq.Value
function Graph:tensor(name) end

--- Is there a node of this name?
---@param name string
---@return boolean
function Graph:has_node(name) end

--- Is there a tensor of this name?
---@param name string
---@return boolean
function Graph:has_tensor(name) end

--- A graph of its own; parameters are shared until one of them is written.
---@return espq.Graph
function Graph:copy() end

--- Prove that the graph is legal: links, names, order. An error says what is not.
---@return true
function Graph:check() end

--- Shapes and types of all tensors, anew from the inputs.
---@return espq.Graph
function Graph:infer() end

--- Write a float graph as ONNX.
---@param path string
---@return espq.Graph
function Graph:save_onnx(path) end

--- Write the graph as it stands, quantization included: espq.load_native goes on with it.
---@param path string
---@return espq.Graph
function Graph:save_native(path) end

---@class espq.InsertOptions
---@field type string the operator's type
---@field name? string
---@field attributes? table<string, any>
---@field inputs? (espq.Tensor|espq.Value|string)[] further inputs, behind the first

--- Put a node behind a tensor: all its readers read the new node instead. A graph output keeps its name.
---@param value string|espq.Value
---@param spec string|espq.InsertOptions an operator's type, or more
---@return espq.Node
function Graph:insert_after(value, spec) end

--- Take a node out: the readers of its first output read its first input; { disconnect = true } just cuts the edges.
---@param node string|espq.Node
---@param options? { disconnect: boolean? }
---@return espq.Graph
function Graph:remove(node, options) end

---@class espq.ReplaceOptions
---@field pattern string|(string|fun(node: espq.Node): boolean)[] types behind each other; "*" fits all
---@field with string|espq.InsertOptions|fun(graph: espq.Graph, nodes: espq.Node[]): boolean? a function that returns false did nothing

--- Replace chains of nodes. Gives how many were replaced.
---@param options espq.ReplaceOptions
---@return integer
function Graph:replace(options) end

---@class espq.ExtractOptions
---@field inputs? string[] names of tensors; the graph's inputs when nothing is said
---@field outputs? string[] names of tensors; the graph's outputs when nothing is said

--- The part between these tensors, as a graph of its own.
---@param options espq.ExtractOptions
---@return espq.Graph
function Graph:extract(options) end

--- A node of a graph.
---@class espq.Node
---@field name string can be assigned
---@field type string the operator, for example "Conv"
---@field domain string
---@field platform string what it is quantized for
---@field quantized boolean
---@field inputs (espq.Value|false)[] false: an input that is left out
---@field outputs (espq.Value|false)[]
---@field attributes table<string, any> a copy; can be assigned as a whole
---@field input_config espq.Slot[] how each input is quantized
---@field output_config espq.Slot[] how each output is quantized
---@field graph espq.Graph
---@field removed boolean a pass or an edit took it away
local Node = {}

--- An attribute, or `otherwise` when the node does not have it.
---@param name string
---@param otherwise? any
---@return any
function Node:get(name, otherwise) end

--- Set an attribute; nil takes it away.
---@param name string
---@param value any
function Node:set(name, value) end

--- Let an input, from 1, read this tensor; nil leaves it out.
---@param position integer
---@param value espq.Value|string|nil
function Node:set_input(position, value) end

--- Let an output, from 1, be this tensor.
---@param position integer
---@param value espq.Value|string|nil
function Node:set_output(position, value) end

--- A tensor of a graph: an activation or a parameter.
---@class espq.Value
---@field name string can be assigned
---@field dtype espq.Dtype? nil: not known
---@field shape integer[]? nil: not known
---@field value espq.Tensor? of a parameter: a copy; can be assigned
---@field is_parameter boolean
---@field is_input boolean of the graph
---@field is_output boolean of the graph
---@field producer espq.Node?
---@field consumers espq.Node[]
---@field graph espq.Graph
---@field removed boolean a pass or an edit took it away

--- How one end of a node is quantized: value = integer × 2^exponent.
---@class espq.Slot
---@field state string for example "ACTIVATED", "PASSIVE", "OVERLAPPED", "FP32"
---@field bits integer
---@field exponent integer|integer[]|nil one, or one a channel; can be assigned, and is kept then
---@field rounding string
---@field minimum integer the least integer
---@field maximum integer the greatest integer
---@field per_channel boolean
---@field channel_axis integer
---@field observer espq.CalibAlgorithm|string can be assigned
---@field bins integer of histograms; can be assigned
---@field percentile number can be assigned
---@field master espq.Slot? the slot whose exponent this one takes
---@field node espq.Node
---@field tensor espq.Value
---@field overridden boolean a script wrote the exponent
---@field quantizes boolean are values rounded here?
---@field is_parameter boolean
---@field is_output boolean
