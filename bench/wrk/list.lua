-- GET /items?limit=100, the first page.
require("report")

local request_bytes

function init()
  request_bytes = wrk.format("GET", "/items?limit=100")
end

function request()
  return request_bytes
end
