--- Sound: .wav files.
local core = require "espq.core"
local check = require "espq.check"
local datasets = require "espq.data.datasets"

local sound = {}
local T = core.tensor

--- Sound: .wav files of 8 or 16 bits, mono or mixed to mono, as float32 from -1 to 1. wav{ dir =, length = samples, transform = }.
function sound.wav(options)
   check.fields("data.wav", options, { dir = "string!", length = "integer", transform = "function" })
   local list = datasets.files_below(options.dir, function(name) return name:lower():match "%.wav$" ~= nil end, {}, "")
   if #list == 0 then check.fail("no .wav file in this folder", options.dir) end
   datasets.came_from(options.dir)
   return datasets.new(#list, function(i)
      local x = sound.read_wav(list[i].path)
      if options.length then
         x = #x >= options.length and x:slice(0, options.length) or x:pad { before = { 0 }, after = { options.length - #x } }
      end
      if options.transform then x = options.transform(x) end
      return x, list[i].name:match "^([^/]+)/"
   end)
end

--- One .wav file: the samples, and the rate in Hz.
function sound.read_wav(path)
   local file, message = io.open(path, "rb")
   if not file then check.fail(message) end
   local bytes = file:read "a"
   file:close()
   if #bytes < 12 or bytes:sub(1, 4) ~= "RIFF" or bytes:sub(9, 12) ~= "WAVE" then check.fail("this is no .wav file", path) end
   local at, channels, rate, bits, samples = 13, nil, nil, nil, nil
   while at + 8 <= #bytes + 1 do
      local id, size = bytes:sub(at, at + 3), string.unpack("<I4", bytes, at + 4)
      if id == "fmt " and size >= 16 and at + 24 <= #bytes + 1 then
         local format
         format, channels, rate, bits = string.unpack("<I2I2I4xxxxxxI2", bytes, at + 8)
         if (format ~= 1 and format ~= 0xFFFE) or (bits ~= 8 and bits ~= 16) or channels == 0 then
            check.fail(("only PCM of 8 or 16 bits is read, this is format %d with %d bits"):format(format, bits), path)
         end
      elseif id == "data" and channels then
         local width, values = bits // 8, {}
         local last = math.min(at + 7 + size, #bytes)
         for frame = at + 8, last - width * channels + 1, width * channels do
            local sum = 0
            for c = 0, channels - 1 do
               sum = sum + (bits == 16 and string.unpack("<i2", bytes, frame + 2 * c) / 32768 or (bytes:byte(frame + c) - 128) / 128)
            end
            values[#values + 1] = sum / channels
         end
         samples = values
      end
      at = at + 8 + size + size % 2
   end
   if not samples or #samples == 0 then check.fail("the file has no samples", path) end
   return T.tensor(samples, "float32"), rate
end

return sound
