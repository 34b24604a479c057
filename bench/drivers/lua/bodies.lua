-- A thousand different requests with a body; `write(number)` gives one item as JSON.
local bodies = { headers = { ["Content-Type"] = "application/json" }, count = 1000 }

-- Those of the command line, which the headers of a request would replace.
for name, value in pairs(wrk.headers) do
  bodies.headers[name] = value
end

function bodies.item(number)
  return string.format('{"name": "wrk-%d", "price": %d.25, "in_stock": true}', number, number)
end

-- POST /items with each of the bodies that `write` makes.
function bodies.posts(write)
  local requests = {}
  for number = 1, bodies.count do
    requests[number] = wrk.format("POST", "/items", bodies.headers, write(number))
  end
  return requests
end

-- PUT /items/{id}: what stands before the id, and what may stand after it.
function bodies.puts()
  local head, tails = nil, {}
  for number = 1, bodies.count do
    local request = wrk.format("PUT", "/items/@", bodies.headers, bodies.item(number))
    local at = request:find("@", 1, true)
    head, tails[number] = request:sub(1, at - 1), request:sub(at + 1)
  end
  return head, tails
end

return bodies
