---@meta _
-- Datasets and loaders. (See espq.lua.)
-- luacheck: ignore 212 241

--- Samples with a length and a method get. Also a loader of single samples.
---@class espq.Dataset
---@field names? table<integer, string> of coco: the names of the classes, from 0
---@operator len: integer
---@overload fun(): espq.Iterator
local Dataset = {}

--- Sample i, from 1, and its label.
---@param i integer
---@return espq.Batch sample
---@return any label
function Dataset:get(i) end

--- Batches of a dataset: `for x, labels in loader() do`.
---@class espq.DataLoader
---@operator len: integer
---@overload fun(epoch: integer?): espq.Iterator

--- A loader whose decoded batches are kept.
---@class espq.Cache
---@operator len: integer
---@overload fun(): espq.Iterator

---@class espq.LoaderOptions
---@field dataset espq.Dataset|espq.Tensor|any[] what has a length and get(i), a tensor, or a list of samples
---@field batch_size? integer 1 when nothing is said
---@field shuffle? boolean training asks for another order each epoch
---@field seed? integer of the order
---@field limit? integer samples at most
---@field transform? fun(x: any, label: any): any, any what becomes of each sample
---@field workers? integer taken as it is; has no effect
---@field drop_last? boolean leave out a last batch that is not full

---@class espq.PictureOptions
---@field size? integer|integer[] resize to it, or { height, width }; with crop a number is that of the shorter side
---@field crop? integer|integer[] cut this much out of the middle
---@field letterbox? boolean keep the ratio and fill the rest of `size` with grey
---@field interpolation? espq.Filter bilinear when nothing is said
---@field mode? "RGB"|"BGR"|"GRAY" RGB when nothing is said
---@field scale? number of each byte, 1 / 255 when nothing is said
---@field mean? number|number[] taken off after scaling, one number or one a channel
---@field std? number|number[] divided by, one number or one a channel

---@class espq.ImagesOptions: espq.PictureOptions
---@field dir string a folder, with those below it
---@field labels? string a file of lines name<TAB>label; without it the sub-folder's name is the label
---@field limit? integer pictures at most

---@class espq.CocoOptions: espq.PictureOptions
---@field images string the folder of pictures
---@field annotations string COCO's JSON
---@field limit? integer pictures at most

---@class espq.NpzOptions
---@field path string
---@field inputs? string|string[]|table<string, string> names of arrays, or input = array; all but the labels when nothing is said
---@field labels? string the array of labels; labels, y or label when nothing is said

---@class espq.FolderOptions
---@field dir string
---@field read fun(path: string): espq.Batch, any a sample, and its label
---@field pattern? string of the files' names, "*" when nothing is said

---@class espq.WavOptions
---@field dir string
---@field length? integer samples; longer ones are cut, shorter ones filled with zeros
---@field transform? fun(x: espq.Tensor): espq.Tensor

--- Datasets and loaders.
---@class espq.DataModule
local data = {}

--- Batches of a dataset, in the same order on every walk.
---@param options espq.LoaderOptions
---@return espq.DataLoader
function data.loader(options) end

--- Pictures of a folder: float32 [channels, height, width]. Labels: the sub-folder's name, or from a file.
---@param options espq.ImagesOptions
---@return espq.Dataset
function data.images(options) end

--- COCO's pictures with their boxes: a label is { id, width, height, truths, ratio, left, top }, boxes in the picture's own pixels.
---@param options espq.CocoOptions
---@return espq.Dataset
function data.coco(options) end

--- Samples along the first axis of an .npy file or of a tensor.
---@param source string|espq.Tensor
---@return espq.Dataset
function data.npy(source) end

--- Samples of the arrays of an .npz file.
---@param options string|espq.NpzOptions
---@return espq.Dataset
function data.npz(options) end

--- Samples of a list; an item may be { sample, label }.
---@param items any[]
---@return espq.Dataset
function data.list(items) end

--- Files of a folder and of those below it, read by a function.
---@param options espq.FolderOptions
---@return espq.Dataset
function data.folder(options) end

--- Sound of .wav files: float32 from -1 to 1, mixed to mono. The sub-folder's name is the label.
---@param options espq.WavOptions
---@return espq.Dataset
function data.wav(options) end

--- One .wav file: its samples, and the rate in Hz.
---@param path string
---@return espq.Tensor samples
---@return integer rate
function data.read_wav(path) end

--- Keep decoded batches in memory, up to 1 GB or as many bytes as are said.
---@param source espq.Loader
---@param options? { bytes: integer? }
---@return espq.Cache
function data.cache(source, options) end

--- What a picture goes through on its way into a network, as a function of a path or of a tensor from espq.image.
---@param options espq.PictureOptions
---@return fun(source: string|espq.Tensor): espq.Tensor
function data.picture(options) end

--- Where a picture of height × width comes to lie in a frame of h × w, in pixels.
---@param height integer
---@param width integer
---@param h integer
---@param w integer
---@return number ratio
---@return integer new_height
---@return integer new_width
---@return integer top
---@return integer left
function data.letterbox(height, width, h, w) end
