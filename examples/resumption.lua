-- Resumption: a client that remembers sessions, two servers that share their ticket keys, and keys that change.
local tls, luv = require "cotls", require "cotls.luv"

local pair = assert(tls.make_certificate { names = { "localhost" } })

-- 80 random bytes; in earnest they come from where all servers get them.
local function new_key()
  local handle = assert(io.open("/dev/urandom", "rb"))
  local key = handle:read(80)
  handle:close()
  return key
end

local keys = { new_key() }

local function serve()
  local context = assert(tls.context {
    role = "server", certificate = pair.certificate, key = pair.key, ticket_keys = keys,
  })
  local listener = assert(tls.listen("localhost", 0, { context = context }))
  luv.spawn(function()
    for conn in listener do
      luv.spawn(function()
        if conn:accept() then conn:shutdown() end
        conn:close()
      end)
    end
  end)
  return { port = listener:port(), context = context, listener = listener }
end

luv.run(function()
  local one, other = serve(), serve()
  -- session_key: both are the same service, so what one of them gave is offered to the other
  local client = assert(tls.context { ca = pair.certificate, resume = true, session_key = "the service" })

  local function visit(what, server)
    local conn = assert(tls.connect("localhost", server.port, { context = client, timeout = 10 }))
    print(("%-32s %s"):format(what, conn:resumed() and "resumed" or "full handshake"))
    assert(conn:shutdown()) -- reads to the end, and the tickets of TLS 1.3 with it
    conn:close()
  end

  visit("the first connection", one)
  visit("the second", one)
  visit("the other server", other)
  table.insert(keys, 1, new_key()) -- the first encrypts, all decrypt
  for _, server in ipairs { one, other } do server.context:set_ticket_keys(keys) end
  visit("a new key beside the old one", one)
  table.remove(keys)
  for _, server in ipairs { one, other } do server.context:set_ticket_keys { new_key() } end
  client:flush_sessions()
  visit("all forgotten", one)
  for _, server in ipairs { one, other } do server.listener:close() end
end)
