-- POST /items, a set of a hundred; a thousand different bodies in turn.
require("report")
local bodies = require("bodies")

local requests, turn = {}, 0

local function set(number)
  local items = {}
  for member = 1, 100 do
    items[member] = bodies.item(number + member)
  end
  return "[" .. table.concat(items, ", ") .. "]"
end

function init()
  requests = bodies.posts(set)
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end
