-- What `make tsan` runs in each of two threads (threads.c): handshakes whose hooks wait in jobs, on TLS 1.2 and 1.3,
-- with a key that lives elsewhere, closed in mid-hook, and some left waiting when the state is closed.

local tls = require "cotls"
local uv = require "luv"

local ROUNDS, LEFT = 12, 8

local ca = assert(tls.make_certificate { subject = "CN=CA", is_ca = true })
local leaf = assert(tls.make_certificate { names = { "localhost" }, ca = ca })
local own = assert(tls.make_certificate { subject = "CN=me", ca = ca })
local KEY = ("k"):rep(80)

local function temp_file(text)
  local path = os.tmpname()
  local handle = assert(io.open(path, "wb"))
  handle:write(text)
  handle:close()
  return path
end

local key_file = temp_file(leaf.key)

-- As the owner of the key would, by openssl-dgst(1).
local function sign(request)
  local path = temp_file(request.message)
  local handle = assert(io.popen(("openssl dgst -%s -sign %s %s"):format(request.digest:lower(), key_file, path), "r"))
  local signature = handle:read "*a"
  handle:close()
  os.remove(path)
  return signature
end

local function after_two(answer)
  return function()
    for _ = 1, 2 do coroutine.yield "hook" end
    return answer
  end
end

local sessions = {}

local function contexts(version, remote)
  local server = { role = "server", min_version = version, max_version = version, ca = ca.certificate,
    certificate = leaf.certificate, key = leaf.key, verify_client = "require",
    on_client_hello = function(_, hello) coroutine.yield "hook" return hello.ja4 ~= nil end,
    on_server_name = after_two(true), on_certificate = after_two(true), on_verify = after_two(true),
    on_ocsp = after_two(nil),
    on_alpn = function(_, offered) coroutine.yield "hook" return offered[1] end,
    on_trace = after_two(nil), on_keylog = after_two(nil),
    on_session_get = function(_, id) coroutine.yield "hook" return sessions[id] end,
    on_session_new = function(_, session) coroutine.yield "hook" sessions[session:id()] = session:export() end }
  if remote then
    server.key = nil
    server.sign = function(_, request) coroutine.yield "hook" return sign(request) end
  else
    server.on_session_get, server.on_session_new = nil, nil
    server.on_ticket_key = after_two(KEY)
  end
  local client = { min_version = version, max_version = version, ca = ca.certificate, certificate = own.certificate,
    key = own.key, alpn = { "a" }, ocsp = "request", on_verify = function(_, ok) coroutine.yield "hook" return ok end }
  return assert(tls.context(client)), assert(tls.context(server))
end

-- Both sides, resumed in turn until they end, or for so many turns.
local function meet(client, server, session, turns)
  local fds = assert(uv.socketpair("stream", nil, { nonblock = true }, { nonblock = true }))
  local a = assert(client:wrap(fds[1], { server_name = "localhost", session = session }))
  local b = assert(server:wrap(fds[2]))
  local cos, errors = {}, {}
  local function side(conn, verb, more)
    cos[#cos + 1] = coroutine.create(function()
      local ok, err = conn[verb](conn)
      if ok then ok, err = more() end
      errors[verb] = not ok and err or nil
    end)
  end
  side(a, "connect", function() return a:read(1) end)
  side(b, "accept", function() return b:write "x" end)
  for _ = 1, turns or 1000 do
    local waiting = false
    for _, co in ipairs(cos) do
      if coroutine.status(co) == "suspended" then
        assert(coroutine.resume(co))
        waiting = true
      end
    end
    if not waiting then break end
  end
  return a, b, errors, cos
end

local left = {}

for _, version in ipairs { "1.2", "1.3" } do
  for _, remote in ipairs { false, true } do
    local client, server = contexts(version, remote)
    local session
    for round = 1, remote and 3 or ROUNDS do
      local a, b, errors = meet(client, server, session)
      assert(not (errors.connect or errors.accept), tostring(errors.connect or errors.accept))
      session = round % 3 > 0 and a:session() or nil
      a:close()
      b:close()
    end
    for turns = 1, LEFT do -- closed in mid-hook
      local a, b = meet(client, server, nil, turns)
      b:close()
      a:close()
    end
    collectgarbage()
    for turns = 1, LEFT do left[#left + 1] = { meet(client, server, nil, turns) } end -- and left so
  end
end

os.remove(key_file)
package.loaded.left_alive = left
