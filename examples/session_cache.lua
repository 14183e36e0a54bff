-- Sessions in Redis: two server processes resume each other's, by id on TLS 1.2 and by ticket on 1.3, and early data is
-- taken once, wherever it comes. session_cache.lua starts itself twice more, with the port of its Redis.
local tls, luv, uv, redis = require "cotls", require "cotls.luv", require "luv", require "examples.redis"

-- One of the server processes. A session is a string, and Redis forgets it when it is too old.
local function serve(port)
  local ask = redis.connect(port)
  local pem = ask("GET", "certificate")
  local listener = assert(tls.listen("127.0.0.1", 0, {
    certificate = pem, key = pem, timeout = 10, session_timeout = 3600, max_early_data = 1000,
    on_session_new = function(_, new) ask("SET", "session:" .. new:id(), new:export(), "EX", "3600") end,
    session_get_takes = true, -- GETDEL: whoever comes again with the same early data finds nothing
    on_session_get = function(_, id, take) return (ask(take and "GETDEL" or "GET", "session:" .. id)) end,
  }))
  luv.spawn(function()
    redis.connect(port)("BLMOVE", "quit", "done", "LEFT", "LEFT", "0") -- waits until someone says so
    listener:close()
  end)
  ask("RPUSH", "servers", ("%d"):format(listener:port()))
  for conn in listener do
    luv.spawn(function()
      local early = conn:read_early()
      if conn:accept() then conn:write("early data: ", early or "none", "\n") end
      conn:close()
    end)
  end
end

-- One visit; the session that it leaves.
local function visit(version, server, options)
  options.min_version, options.max_version, options.timeout = version, version, 10
  local conn = assert(tls.connect("127.0.0.1", server.port, options))
  local answer = assert(conn:read())
  local how = conn:resumed() and "resumed" or "full handshake"
  print(("TLS %s  server %d  %-14s  %s"):format(version, server.number, how, answer))
  conn:close()
  return conn:session()
end

local function main()
  local store = redis.start()
  local ask = store.ask
  local made = assert(tls.make_certificate { names = { "127.0.0.1" } })
  ask("SET", "certificate", made.certificate .. made.key)
  local servers = {}
  for number = 1, 2 do
    assert(uv.spawn(os.getenv "LUA" or arg[-1], { args = { arg[0], tostring(store.port) }, stdio = { nil, 1, 2 } }))
    local port = assert(ask("BLMOVE", "servers", "known", "LEFT", "LEFT", "30"), "the server does not start")
    servers[number] = { number = number, port = tonumber(port) }
  end
  for _, version in ipairs { "1.2", "1.3" } do
    local session = visit(version, servers[1], { ca = made.certificate })
    local options = { ca = made.certificate, session = session, early_data = version == "1.3" and "pay 5" or nil }
    visit(version, servers[2], options)
    if version == "1.3" then visit(version, servers[1], options) end -- the same again
  end
  return ask("RPUSH", "quit", "now", "now") and store.stop()
end

luv.run(arg[1] and function() serve(tonumber(arg[1])) end or main)
