-- GET /items/{id}, each id of the seeded rows equally often.
require("report")

local rows, head, tail

function init(arguments)
  math.randomseed(tonumber(arguments[3]))
  rows = tonumber(arguments[1])
  local request = wrk.format("GET", "/items/@")
  local at = request:find("@", 1, true)
  head, tail = request:sub(1, at - 1), request:sub(at + 1)
end

function request()
  return head .. math.random(rows) .. tail
end
