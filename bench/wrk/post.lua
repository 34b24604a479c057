-- POST /items, one item; a thousand different bodies in turn.
require("report")

local requests, turn = {}, 0

function init()
  local headers = { ["Content-Type"] = "application/json" }
  for number = 1, 1000 do
    local body = string.format('{"name": "wrk-%d", "price": %d.25, "in_stock": true}', number, number)
    requests[number] = wrk.format("POST", "/items", headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end
