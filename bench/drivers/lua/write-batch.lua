-- POST /items, a batch of a hundred; a thousand different bodies in turn.
require("report")
local bodies = require("bodies")

local requests, turn = {}, 0

local function batch(number)
  local items = {}
  for member = 1, 100 do
    items[member] = bodies.item(number + member)
  end
  return "[" .. table.concat(items, ", ") .. "]"
end

function init()
  requests = bodies.posts(batch)
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end
