---@meta _
-- Tensors. (See espq.lua.)
-- luacheck: ignore 212 241

--- A tensor. Axes, positions and labels count from 0; views share memory, arithmetic makes new tensors.
---@class espq.Tensor
---@field shape integer[] sizes of the axes
---@field dtype espq.Dtype
---@field ndim integer number of axes
---@field size integer number of elements
---@field [integer] espq.Tensor a row along the first axis, from 0; a number or a tensor can be assigned
---@operator add(espq.Tensor|number): espq.Tensor
---@operator sub(espq.Tensor|number): espq.Tensor
---@operator mul(espq.Tensor|number): espq.Tensor
---@operator div(espq.Tensor|number): espq.Tensor
---@operator idiv(espq.Tensor|number): espq.Tensor
---@operator mod(espq.Tensor|number): espq.Tensor
---@operator pow(espq.Tensor|number): espq.Tensor
---@operator unm: espq.Tensor
---@operator len: integer
---@operator concat(any): string
local Tensor = {}

--- One element, by its positions from 0.
---@param ... integer
---@return number|boolean
function Tensor:get(...) end

--- Write one element: positions from 0, then the value. Gives the tensor.
---@param ... integer|number|boolean
---@return espq.Tensor
function Tensor:set(...) end

--- The number of a tensor with one element.
---@return number
function Tensor:item() end

--- Nested Lua tables (a number for rank 0); tables count from 1.
---@return any
function Tensor:tolist() end

--- The same elements in another shape; one size may be -1.
---@param ... integer|integer[]
---@return espq.Tensor
function Tensor:view(...) end

--- As view.
---@param ... integer|integer[]
---@return espq.Tensor
function Tensor:reshape(...) end

--- One axis with all elements.
---@return espq.Tensor
function Tensor:flatten() end

--- A further axis of size 1, at this place.
---@param axis integer
---@return espq.Tensor
function Tensor:unsqueeze(axis) end

--- Without this axis of size 1, or without all of them.
---@param axis? integer
---@return espq.Tensor
function Tensor:squeeze(axis) end

--- The axes in another order.
---@param ... integer|integer[]
---@return espq.Tensor
function Tensor:permute(...) end

--- Two axes change places, the last two when nothing is said.
---@param a? integer
---@param b? integer
---@return espq.Tensor
function Tensor:transpose(a, b) end

--- A view of a part: `slice(2, 5)` along the first axis, or `slice { axis = 1, start = 0, stop = 4, step = 2 }`.
---@param start integer|espq.SliceOptions
---@param stop? integer the first that is left out
---@return espq.Tensor
function Tensor:slice(start, stop) end

--- One position of an axis; the axis goes.
---@param axis integer
---@param position integer
---@return espq.Tensor
function Tensor:select(axis, position) end

--- Walk the first axis: `for i, row in t:rows()`, i from 0.
---@return fun(tensor: espq.Tensor, i: integer?): integer, espq.Tensor
---@return espq.Tensor
function Tensor:rows() end

--- Write an .npy file.
---@param path string
function Tensor:save(path) end

--- A tensor with memory of its own.
---@return espq.Tensor
function Tensor:copy() end

--- As copy.
---@return espq.Tensor
function Tensor:clone() end

--- The same values in another type; floats are cut towards zero.
---@param dtype espq.Dtype
---@return espq.Tensor
function Tensor:to(dtype) end

--- e to the power of each element.
---@return espq.Tensor
function Tensor:exp() end

--- Natural logarithm.
---@return espq.Tensor
function Tensor:log() end

--- Square root.
---@return espq.Tensor
function Tensor:sqrt() end

--- Absolute value.
---@return espq.Tensor
function Tensor:abs() end

--- To the nearest whole number, halves to even.
---@return espq.Tensor
function Tensor:round() end

--- The next whole number below.
---@return espq.Tensor
function Tensor:floor() end

--- The next whole number above.
---@return espq.Tensor
function Tensor:ceil() end

--- 1 / (1 + exp(-x)).
---@return espq.Tensor
function Tensor:sigmoid() end

--- Hyperbolic tangent.
---@return espq.Tensor
function Tensor:tanh() end

--- Sine of radians.
---@return espq.Tensor
function Tensor:sin() end

--- Cosine of radians.
---@return espq.Tensor
function Tensor:cos() end

--- With the other sign.
---@return espq.Tensor
function Tensor:neg() end

--- Where both are equal: a tensor of bool.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:eq(other) end

--- Where they differ: a tensor of bool.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:ne(other) end

--- Where this is less: a tensor of bool.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:lt(other) end

--- Where this is less or equal: a tensor of bool.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:le(other) end

--- Where this is greater: a tensor of bool.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:gt(other) end

--- Where this is greater or equal: a tensor of bool.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:ge(other) end

--- The greater of both, element by element.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:maximum(other) end

--- The less of both, element by element.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:minimum(other) end

--- To the power of.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:pow(other) end

--- Sum of all, or along axes: `t:sum()`, `t:sum(1)`, `t:sum { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:sum(axis) end

--- Mean of all, or along axes: `t:mean()`, `t:mean(1)`, `t:mean { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:mean(axis) end

--- Least element of all, or along axes: `t:min()`, `t:min(1)`, `t:min { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:min(axis) end

--- Greatest element of all, or along axes: `t:max()`, `t:max(1)`, `t:max { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:max(axis) end

--- Position, from 0, of the greatest element of all (counted through), or along axes, as with sum.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:argmax(axis) end

--- Position, from 0, of the least element of all (counted through), or along axes, as with sum.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:argmin(axis) end

--- Standard deviation of all, or along axes: `t:std()`, `t:std(1)`, `t:std { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:std(axis) end

--- Euclidean norm of all, or along axes: `t:norm()`, `t:norm(1)`, `t:norm { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:norm(axis) end

--- Product of all, or along axes: `t:prod()`, `t:prod(1)`, `t:prod { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:prod(axis) end

--- Softmax along an axis, the last when nothing is said.
---@param axis? integer|espq.AxisOptions
---@return espq.Tensor
function Tensor:softmax(axis) end

--- Not below `least`, not above `most`; nil: no bound.
---@param least? number
---@param most? number
---@return espq.Tensor
function Tensor:clamp(least, most) end

--- This tensor of bool chooses: a where it is true, b where not.
---@param a espq.Tensor|number
---@param b espq.Tensor|number
---@return espq.Tensor
function Tensor:where(a, b) end

--- Matrix product over the last two axes, with broadcasting of the others.
---@param other espq.Tensor
---@return espq.Tensor
function Tensor:matmul(other) end

--- The k largest along an axis (the last), largest first, and their positions from 0.
---@param k integer
---@param options? integer|espq.AxisOptions
---@return espq.Tensor values
---@return espq.Tensor positions
function Tensor:topk(k, options) end

--- In order along an axis (the last), least first.
---@param options? integer|espq.SortOptions
---@return espq.Tensor
function Tensor:sort(options) end

--- The positions, from 0, that sort would take the elements from.
---@param options? integer|espq.SortOptions
---@return espq.Tensor
function Tensor:argsort(options) end

--- This tensor and others behind each other along an axis, 0 when nothing is said.
---@param others espq.Tensor|espq.Tensor[]
---@param options? integer|espq.AxisOptions
---@return espq.Tensor
function Tensor:cat(others, options) end

--- This tensor and others of its shape along a new axis, 0 when nothing is said.
---@param others espq.Tensor|espq.Tensor[]
---@param options? integer|espq.AxisOptions
---@return espq.Tensor
function Tensor:stack(others, options) end

--- Larger by a border: `t:pad { before = { 0, 1 }, after = { 0, 1 }, value = 0 }`.
---@param options espq.PadOptions
---@return espq.Tensor
function Tensor:pad(options) end

--- The other way round along an axis, 0 when nothing is said.
---@param axis? integer|espq.AxisOptions
---@return espq.Tensor
function Tensor:flip(axis) end

--- Same type, shape and elements?
---@param other espq.Tensor
---@return boolean
function Tensor:equal(other) end

--- Equal but for rounding?
---@param other espq.Tensor
---@param options? espq.CloseOptions
---@return boolean
function Tensor:allclose(other, options) end

--- A new tensor of what the function makes of each element.
---@param fn fun(x: number): number|boolean
---@return espq.Tensor
function Tensor:apply(fn) end
