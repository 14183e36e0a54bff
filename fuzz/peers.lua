-- SPDX-License-Identifier: MIT
-- What the targets share: contexts of every kind, made once, a reader of the fuzzer's bytes, and the rules that
-- each of them holds: a call gives a value, or nil and an error object.

local tls = require "cotls"
local tools = require "fuzz.tools"

local peers = {}

peers.ca = assert(tls.make_certificate { subject = "CN=Fuzz CA", is_ca = true })
peers.leaf = assert(tls.make_certificate { names = { "localhost" }, ca = peers.ca })

local function context(defaults, options)
  for name, value in pairs(options or {}) do defaults[name] = value end
  return assert(tls.context(defaults))
end

function peers.server(options)
  return context({ role = "server", certificate = peers.leaf.certificate, key = peers.leaf.key }, options)
end

function peers.client(options)
  return context({ ca = peers.ca.certificate, certificate = peers.leaf.certificate, key = peers.leaf.key }, options)
end

local function nothing() return nil end
local function yes() return true end

-- Every function that a server's hello may come to.
local hooks = {
  on_client_hello = function(_, hello) return #hello.ja4 > 0 end,
  on_server_name = yes, on_certificate = yes, on_ocsp = nothing, on_psk = nothing,
  on_alpn = function(_, offered) return offered[1] end,
  on_session_get = nothing, on_session_new = nothing, on_session_remove = nothing,
  on_verify = function(_, ok) return ok end,
  on_trace = nothing,
}

local many = { ["a.example"] = peers.server { alpn = { "h2" } } }

peers.servers = {
  peers.server(),
  peers.server { max_version = "1.2", renegotiation = "allow-client", alpn = { "h2", "http/1.1" } },
  peers.server { verify_client = "require", ca = peers.ca.certificate },
  peers.server(hooks),
  peers.server { names = many, max_early_data = 16384, ticket_keys = { ("k"):rep(80) } },
  peers.server { psk = { me = ("p"):rep(32) }, ca = peers.ca.certificate },
}

peers.clients = {
  peers.client(),
  peers.client { max_version = "1.2", renegotiation = "allow" },
  peers.client { ocsp = "request", alpn = { "h2" }, resume = true, session_key = "fuzz" },
  peers.client { on_verify = function(_, ok) return ok end, on_session_new = nothing, on_trace = nothing },
  peers.client { psk = { me = ("p"):rep(32) }, post_handshake_auth = true },
}

--- One of a list, by a byte.
function peers.choose(list, byte)
  return list[(byte or 0) % #list + 1]
end

--- The bytes of one number: n of them, the first the highest; as many as there are.
function peers.number(data, at, n)
  local value = 0
  for i = at, at + n - 1 do value = value * 256 + (data:byte(i) or 0) end
  return value
end

--- Pieces of bytes, each behind its length in two bytes.
function peers.pieces(data, at)
  local pieces = {}
  while at <= #data and #pieces < 16 do
    local n = peers.number(data, at, 2)
    pieces[#pieces + 1] = data:sub(at + 2, at + 1 + n)
    at = at + 2 + n
  end
  return pieces
end

--- Raises unless it is a value, or nil (at the end of a stream), or nil and an error object. Gives all back.
function peers.judge(...)
  local value, err = ...
  if value == nil and err ~= nil and not tls.is_error(err) then error("nil and no error object: " .. tostring(err)) end
  if value == nil and err ~= nil and tostring(err):find("\n", 1, true) then error("an error of several lines") end
  return ...
end

--- What is asked of every connection that has had to do with hostile bytes.
function peers.inspect(conn)
  conn:info()
  conn:stats()
  tostring(conn)
  peers.judge(conn:session())
  peers.judge(conn:write("x"))
  peers.judge(conn:shutdown())
  conn:close()
  conn:info()
end

--- Puts bytes before a connection, in pieces, and lets it do with them what it does. No wait.
-- @param first its first call, until it is done or fails: "accept" or "connect"
-- @param pieces list of strings
function peers.feed(ctx, options, first, pieces)
  local a, b = tools.socketpair()
  local conn = assert(ctx:wrap(a, options))
  conn:settimeout(0)
  local done, err = peers.judge(conn[first](conn))
  for _, piece in ipairs(pieces) do
    tools.send(b, piece)
    if not done then
      done, err = peers.judge(conn[first](conn))
    else
      repeat local data = peers.judge(conn:recv(4096)) until not data
    end
    if not done and err.code ~= "want_read" and err.code ~= "want_write" then break end
  end
  if done then error(first .. " has succeeded with nobody there") end
  peers.inspect(conn)
  tools.close(b)
end

--- A real handshake between two contexts. Gives both connections (timeout 0) and their descriptors; or nil.
function peers.handshake(client_context, server_context, client_options)
  local a, b = tools.socketpair()
  local client = assert(client_context:wrap(a, client_options or { server_name = "localhost" }))
  local server = assert(server_context:wrap(b))
  client:settimeout(0)
  server:settimeout(0)
  local connected, accepted
  for _ = 1, 20 do
    connected = connected or client:connect()
    accepted = accepted or server:accept()
    if connected and accepted then return client, server, a, b end
  end
  client:close()
  server:close()
end

return peers
