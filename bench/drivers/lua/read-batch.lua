-- GET /items?ids=…, a thousand different batches of a hundred ids, spread over the seeded rows.
require("report")

local requests, turn = {}, 0

function init(arguments)
  math.randomseed(tonumber(arguments[3]))
  local rows = tonumber(arguments[1])
  local stride = math.max(1, math.floor(rows / 100))
  for number = 1, 1000 do
    local first, ids = math.random(rows), {}
    for member = 1, 100 do
      ids[member] = (first + member * stride) % rows + 1
    end
    requests[number] = wrk.format("GET", "/items?ids=" .. table.concat(ids, ","))
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end
