-- What a service's day looks like: of a hundred requests 75 GET, 10 PUT, 5 pages and 10 POST.
require("report")
local bodies = require("bodies")

local rows, get_head, get_tail, put_head, put_tails, pages, posts

function init(arguments)
  math.randomseed(tonumber(arguments[3]))
  rows = tonumber(arguments[1])
  local get = wrk.format("GET", "/items/@")
  local at = get:find("@", 1, true)
  get_head, get_tail = get:sub(1, at - 1), get:sub(at + 1)
  put_head, put_tails = bodies.puts()
  posts = bodies.posts(bodies.item)
  pages = {}
  for path in io.lines(arguments[2]) do
    pages[#pages + 1] = wrk.format("GET", path)
  end
end

function request()
  local chance = math.random(100)
  if chance <= 75 then
    return get_head .. math.random(rows) .. get_tail
  elseif chance <= 85 then
    return put_head .. math.random(rows) .. put_tails[math.random(#put_tails)]
  elseif chance <= 90 then
    return pages[math.random(#pages)]
  end
  return posts[math.random(#posts)]
end
