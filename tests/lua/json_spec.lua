-- Promise: JSON is read and written exactly, and broken text is refused with its line.
local json = require "espq.json"

describe("JSON", function()
   for _, text in ipairs {
      '{"a":[1,2.5,true,null],"b":{"c":"x"}}', '[]', '"\\u0001\\"\\\\"', '[1e-05,0.1,100000]', '{"k":""}',
   } do
      it("comes back as it was: " .. text, function()
         assert.equal(text, json.encode(json.decode(text)))
      end)
   end

   it("reads escapes beyond the first plane", function()
      assert.equal("😀", json.decode '"\\ud83d\\ude00"')
   end)

   for _, text in ipairs { '', '{', '[1,]', '{"a" 1}', '"abc', '[1] 2', 'nul', '{"a":}', '"\\x"' } do
      it("refuses " .. text, function()
         assert.error_matches(function() json.decode(text) end, "JSON: ")
      end)
   end

   it("refuses thousands of levels instead of crashing", function()
      assert.error_matches(function() json.decode(("["):rep(54000)) end, "levels")
   end)

   it("names the line", function()
      assert.error_matches(function() json.decode '{\n"a": 1,\n!}' end, "line 3")
   end)
end)
