-- GET of paths drawn from those that a file lists, the second argument: one in each line.
require("report")

local requests = {}

function init(arguments)
  math.randomseed(tonumber(arguments[3]))
  for path in io.lines(arguments[2]) do
    requests[#requests + 1] = wrk.format("GET", path)
  end
end

function request()
  return requests[math.random(#requests)]
end
