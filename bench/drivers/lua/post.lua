-- POST /items, one item; a thousand different bodies in turn.
require("report")
local bodies = require("bodies")

local requests, turn = {}, 0

function init()
  requests = bodies.posts(bodies.item)
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end
