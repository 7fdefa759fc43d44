-- Promise: on every case of the runtime's own results, each tensor that espq computes in integers has the numbers that the runtime's kernels made.
local judge = dofile "tests/chip/vectors.lua"

describe("the integer executor", function()
   it("computes what the runtime's kernels computed, in every case", function()
      if not judge.available() then return pending("no vectors: " .. judge.root .. "chip is not there") end
      local lines = {}
      local total = judge.run { print = function(line) lines[#lines + 1] = line end, limit = 20 }
      assert(total.cases > 1000 or #total.failed > 0, "few cases were run")
      assert.equal("", table.concat(lines, "\n"))
   end)

   -- Promise: the judge sees a difference: the results of one chip are not those of another.
   it("is told from another chip's", function()
      if not judge.available() then return pending("no vectors: " .. judge.root .. "chip is not there") end
      local differing = 0
      for _, case in ipairs(judge.index()) do
         if case.set == "saturation" and case.target == "esp32s3" then
            case.target = "esp32p4"
            if not judge.case(case).exact then differing = differing + 1 end
         end
      end
      assert.equal(2, differing)
   end)
end)
