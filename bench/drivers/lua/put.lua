-- PUT /items/{id}, each id of the seeded rows equally often; a thousand different bodies.
require("report")
local bodies = require("bodies")

local rows, head, tails

function init(arguments)
  math.randomseed(tonumber(arguments[3]))
  rows = tonumber(arguments[1])
  head, tails = bodies.puts()
end

function request()
  return head .. math.random(rows) .. tails[math.random(#tails)]
end
