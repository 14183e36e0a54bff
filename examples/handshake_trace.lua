-- handshake_trace.lua [HOST [PORT]]: a handshake as a message sequence chart, one line a message with its time.
-- Without a host the server is one of its own, and TLS 1.2 and 1.3 stand one below the other.
local tls, luv = require "cotls", require "cotls.luv"
local WIDTH = 46

-- An arrow with a text on it, from the client (sent) or to it.
local function arrow(event)
  local text = ("%s, %d bytes"):format(event.name, event.length)
  if event.type == "alert" then text = "alert " .. event.name end
  local line = ("-"):rep(WIDTH - #text - 3)
  return event.direction == "sent" and ("| %s %s>|"):format(text, line) or ("|<%s %s |"):format(line, text)
end

-- TLS 1.3's change_cipher_spec is there for what stands between the two; nothing comes of it.
local function show(_, event)
  local empty = event.type == "change_cipher_spec" and event.version == "TLSv1.3"
  if event.direction and not empty then print(("%8.2f ms  %s"):format(event.seconds * 1000, arrow(event))) end
end

local function visit(host, port, options)
  options.on_trace, options.timeout = show, 10
  print(("\n%13s%-" .. WIDTH - 4 .. "s%s"):format("", "client", "server"))
  local conn, err = tls.connect(host, port, options)
  if not conn then return print(("%13s%s"):format("", tostring(err))) end
  print(("%13s%s, %s%s"):format("", conn:version(), conn:cipher(), conn:resumed() and ", resumed" or ""))
  return conn
end

local function serve(conn)
  if conn:accept() then
    conn:write("hello")
    conn:shutdown()
  end
  conn:close()
end

local function both_versions()
  local made = assert(tls.make_certificate { names = { "localhost" } })
  local listener = assert(tls.listen("localhost", 0, { certificate = made.certificate, key = made.key, timeout = 10 }))
  luv.spawn(function() for conn in listener do luv.spawn(serve, conn) end end)
  for _, version in ipairs { "1.2", "1.3" } do
    local conn = assert(visit("localhost", listener:port(), { ca = made.certificate, max_version = version }))
    conn:read("a") -- with it TLS 1.3's tickets come, and the end
    conn:shutdown()
    conn:close()
  end
  listener:close()
end

luv.run(function()
  if not arg[1] then return both_versions() end
  local conn = visit(arg[1], tonumber(arg[2] or 443), {})
  if conn then conn:shutdown() end
end)
