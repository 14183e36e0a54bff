-- SPDX-License-Identifier: MIT
-- Handlers of the nginx specs beside that of examples/nginx. `ports` has what spec/nginx/upstream.lua has printed.

local compat = require "cotls.compat"
local fetch = require "fetch"
local ports = require "ports"
local scheduler = require "cotls.ngx"
local tls = require "cotls"

local ngx = ngx -- luacheck: ignore
local folder = ngx.config.prefix()
local handlers, contexts = {}, {}

local function answer(text)
  ngx.header.content_length = #text
  ngx.print(text)
end

-- A context of the example's, with some options other than there.
local function context_with(options)
  local settings = { ca = folder .. "ca.pem", certificate = folder .. "client.pem", key = folder .. "client.key" }
  for name, value in pairs(options) do settings[name] = value or nil end
  local context, err = tls.context(settings)
  return context or error(tostring(err), 0)
end

-- The key is another process's, which is asked while OpenSSL waits in a job.
local function sign(_, request)
  local socket = ngx.socket.tcp()
  assert(socket:connect("127.0.0.1", ports.signer))
  local hashed = request.hashed:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end)
  assert(socket:send(request.digest .. " " .. hashed .. "\n"))
  local signature = assert(socket:receive "*l")
  socket:close()
  return (signature:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end))
end

function handlers.init(pin, other_pin)
  contexts.pinned = fetch.context(folder, { pin })
  contexts.other_pin = fetch.context(folder, { other_pin })
  contexts.anonymous = context_with { certificate = false, key = false }
  contexts.plain = context_with {}
  contexts.hasty = context_with { handshake_timeout = 0.1 }
  contexts.refusing = context_with { on_verify = function()
    ngx.sleep(0.001)
    return false
  end }
  contexts.failing = context_with { on_verify = function()
    ngx.sleep(0.001)
    error("on purpose")
  end }
  contexts.remote_key = context_with { key = false, sign = sign }
  contexts.keyless = context_with { key = false, sign = function()
    ngx.sleep(0.001)
    return false
  end }
  contexts.resuming = context_with { resume = true, session_key = "upstream" }
end

-- What fetch.pass makes of a server and a context: path → context, server's name in `ports`, name to verify.
local passes = {
  ["/pinned"] = { "pinned", "good" },
  ["/other_key"] = { "pinned", "other" },
  ["/other_pin"] = { "other_pin", "good" },
  ["/stranger"] = { "plain", "stranger" },
  ["/other_name"] = { "plain", "good", "example.org" },
  ["/anonymous"] = { "anonymous", "good" },
  ["/refusing"] = { "refusing", "good" },
  ["/failing"] = { "failing", "good" },
  ["/mute"] = { "hasty", "mute" },
  ["/slow"] = { "plain", "good" },
  ["/big"] = { "plain", "good" },
  ["/remote_key"] = { "remote_key", "good" },
  ["/keyless"] = { "keyless", "good" },
  ["/resuming"] = { "resuming", "good" },
}

local acts = {}

--- By tls.connect, which asks cotls.ngx for a cosocket.
acts["/connect"] = function()
  local conn, err = tls.connect("127.0.0.1", ports.good, { context = contexts.plain, server_name = "localhost" })
  if not conn then return answer(tostring(err)) end
  conn:write("GET / HTTP/1.0\r\n\r\n")
  answer(conn:read "*a" .. type(conn:transport().receiveany))
  conn:close()
end

acts["/nobody"] = function()
  local conn, err = tls.connect("127.0.0.1", ports.nobody, { context = contexts.plain, server_name = "localhost" })
  answer(tostring(conn) .. " " .. tostring(err) .. " " .. tostring(err and err.code))
end

--- One light thread writes while another reads.
acts["/duplex"] = function()
  local socket = ngx.socket.tcp()
  assert(socket:connect("127.0.0.1", ports.echo))
  local conn = assert(contexts.plain:wrap(socket, { server_name = "localhost" }))
  assert(conn:connect())
  local data = ("0123456789abcdef"):rep(50000)
  local writer = scheduler.spawn(function(text)
    assert(conn:write(text))
    return conn:shutdown "write"
  end, data)
  local got = conn:read "*a"
  ngx.thread.wait(writer)
  conn:close()
  answer(got == data and "the same" or "another")
end

--- A read's timeout, then the answer.
acts["/timeout"] = function()
  local conn = assert(tls.connect("127.0.0.1", ports.echo, { context = contexts.plain, server_name = "localhost" }))
  conn:settimeout(0.05)
  local started = tls.now()
  local _, err = conn:read(5)
  local seconds = tls.now() - started
  conn:settimeout(5)
  assert(conn:write("hello"))
  answer(("%s %s %s"):format(err.code, seconds >= 0.049 and seconds < 2, conn:read(5)))
  conn:close()
end

--- The scheduler alone: waits of what has no descriptor, and what it refuses.
acts["/scheduler"] = function()
  local waiter, order = { fileno = function() end }, {}
  for i = 1, 3 do
    scheduler.spawn(function()
      local ok = scheduler.wait(waiter, i == 3 and "write" or "read", tls.now() + 20)
      order[#order + 1] = (i == 3 and "write " or "read ") .. tostring(ok)
    end)
  end
  scheduler.wake(waiter, "read")
  scheduler.sleep(0.01)
  scheduler.wake(waiter, "write")
  scheduler.sleep(0.01)
  local started = tls.now()
  local ok, why = scheduler.wait(waiter, "read", started + 0.02)
  order[#order + 1] = tostring(ok) .. " " .. why .. " " .. tostring(tls.now() - started >= 0.019)
  scheduler.spawn(function() order[#order + 1] = "released " .. tostring(scheduler.wait(waiter, "read")) end)
  scheduler.release(waiter)
  scheduler.sleep(0.01)
  local _, err = scheduler.wait({ fileno = function() return 0 end }, "read")
  order[#order + 1] = err.code
  for _, bad in ipairs { { "sleep", "x" }, { "spawn", 1 } } do
    order[#order + 1] = tostring(compat.pack(pcall(scheduler[bad[1]], bad[2]))[2]):match("cotls%.ngx.*")
  end
  answer(table.concat(order, "\n"))
end

acts["/memory"] = function()
  collectgarbage()
  collectgarbage()
  answer(("%d %d"):format(ngx.worker.pid(), collectgarbage "count"))
end

function handlers.answer()
  local path = ngx.var.uri
  local pass = passes[path]
  if not pass then return acts[path]() end
  fetch.pass(contexts[pass[1]], "127.0.0.1", ports[pass[2]], pass[3] or "localhost")
end

return handlers
