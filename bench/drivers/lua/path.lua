-- GET of one and the same path, the second argument.
require("report")

local request_bytes

function init(arguments)
  request_bytes = wrk.format("GET", arguments[2])
end

function request()
  return request_bytes
end
