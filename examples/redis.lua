-- For the examples: redis.connect(port) → ask, a client for coroutines under cotls.luv: ask("GET", "x") → the answer,
-- or nil, reason, while others go on. redis.start() → { port =, ask =, stop = }, a redis-server of one's own.
local luv, uv = require "cotls.luv", require "luv"
local redis = {}
local START = [[
if ! command -v redis-server >/dev/null; then echo 'redis-server is missing (Debian: redis-server)' >&2; exit 1; fi
redis-server --bind 127.0.0.1 --port %d --save '' --appendonly no >/dev/null &
cat >/dev/null; kill $! 2>/dev/null; wait]] -- it does not outlive the pipe to this process

local function resume(co, ...) -- unless it was closed meanwhile
  if coroutine.status(co) == "suspended" then assert(coroutine.resume(co, ...)) end
end

-- The first answer in the text, where it ends, an error; nothing while it is incomplete. RESP2, without lists.
local function parse(text)
  local kind, value, past = text:match("^(.)([^\r]*)\r\n()")
  if kind == "-" then return nil, past, value end
  if kind ~= "$" or value == "-1" then return kind ~= "$" and value or nil, past end
  if #text > past + value then return text:sub(past, past + value - 1), past + value + 2 end
end

function redis.connect(port)
  local tcp, co, text, waiting = uv.new_tcp(), coroutine.running(), "", {}
  tcp:connect("127.0.0.1", port, function(err) resume(co, err) end)
  if coroutine.yield() then return tcp:close() end -- refused
  tcp:read_start(function(_, data)
    text = text .. (data or "")
    while waiting[1] do
      local answer, past, err = parse(text)
      if data and not past then return end
      text = text:sub(past or 1)
      resume(table.remove(waiting, 1), answer, err or not past and "Redis has gone" or nil)
    end
  end)
  return function(...)
    local parts = { ... }
    for i, part in ipairs(parts) do parts[i] = ("$%d\r\n%s\r\n"):format(#part, part) end
    tcp:write(("*%d\r\n"):format(#parts) .. table.concat(parts))
    waiting[#waiting + 1] = coroutine.running()
    return coroutine.yield()
  end
end

function redis.start()
  local pipe, probe, ended, ask = uv.new_pipe(false), uv.new_tcp(), false, nil
  local port = assert(probe:bind("127.0.0.1", 0)) and probe:getsockname().port
  probe:close()
  uv.spawn("sh", { args = { "-c", START:format(port) }, stdio = { pipe, nil, 2 } }, function() ended = true end)
  for _ = 1, 500 do
    if not (ask or ended) then luv.sleep(0.01) end
    ask = ask or redis.connect(port)
  end
  if not ask then os.exit(1) end
  return { port = port, ask = ask, stop = function()
    pipe:close()
    while not ended do luv.sleep(0.01) end
  end }
end

return redis
