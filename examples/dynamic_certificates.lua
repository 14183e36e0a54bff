-- Certificates by server name, from Redis, while the handshake waits: names come and go while the server serves.
local tls, luv, redis = require "cotls", require "cotls.luv", require "examples.redis"

local ca = assert(tls.make_certificate { subject = "CN=example CA", is_ca = true })

-- A new certificate and its key, in one text.
local function issue(name)
  local made = assert(tls.make_certificate { names = { name }, ca = ca })
  return made.certificate .. made.key
end

-- In a coroutine of its own: while it waits for Redis, the server goes on with other clients.
local function fetch(ask, conn)
  local pem, err = ask("GET", "certificate:" .. (conn:server_name() or "default"))
  if err then error(err) end -- the handshake is refused, and accept says why
  return pem ~= nil and conn:use_certificate { certificate = pem, key = pem } ~= nil
end

local function serve(conn)
  local ok, err = conn:accept()
  if not ok then print("server  " .. tostring(err):gsub(" %[peer.*", "")) end
  if ok then conn:write("this is ", conn:certificate():names().dns[1], "\n") end
  conn:close()
end

local function visit(port, name)
  local conn, err = tls.connect("127.0.0.1", port, { server_name = name, ca = ca.certificate, timeout = 10 })
  print(("client  %-16s %s"):format(name, conn and conn:read() or err.alert and err.alert.name or err))
  if conn then conn:close() end
end

luv.run(function()
  local server = redis.start()
  local ask = server.ask
  local listener = assert(tls.listen("127.0.0.1", 0, {
    on_certificate = function(conn) return fetch(ask, conn) end, handshake_timeout = 10,
  }))
  luv.spawn(function() for conn in listener do luv.spawn(serve, conn) end end)
  ask("SET", "certificate:www.example.org", issue "www.example.org")
  visit(listener:port(), "www.example.org")
  visit(listener:port(), "shop.example.org")
  ask("SET", "certificate:shop.example.org", issue "shop.example.org")
  visit(listener:port(), "shop.example.org")
  ask("DEL", "certificate:www.example.org")
  visit(listener:port(), "www.example.org")
  listener:close()
  server.stop()
end)
