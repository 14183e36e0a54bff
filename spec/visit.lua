-- SPDX-License-Identifier: MIT
-- A client visits a server and comes again: what was resumed, what was early. For specs of names, sessions, tickets
-- and early data.
--
--   visit.once(client, server, options)     → what came of it, both connections still open
--   visit.good(client, server, options)     the same; it must go well
--   visit.over(client, server, options)     the same; both are closed then
--   visit.resumed(client, server, options)  → was it? Both are closed.
--   visit.session(client, server, options)  → the client's session; both are closed.
--   visit.failure(client, server, options)  → the client's error, the server's; it must go wrong
--   visit.greet(client, server, options)    → what each side got by helper.greet, both connections still open
--   visit.well(got)                         → got, in which all must have gone well
--   visit.close(got)                        closes both connections

local assert = require "luassert"
local helper = require "spec.helper"

local visit = {}

local NOT_THE_CLIENTS = { transport = true, read_early = true }

-- Early data, by at most so many bytes at a time: a list; nil, err.
local function read_early(conn, max)
  local got = {}
  repeat
    local data, err = conn:read_early(max)
    if err then return nil, err end
    got[#got + 1] = data
  until not data
  return got
end

local function shake_as_server(conn, max, got)
  local err
  if max then
    got.early, err = read_early(conn, max)
    if not got.early then return nil, err end
  end
  local ok
  ok, err = conn:accept()
  if ok then ok, err = conn:write("x") end -- with it TLS 1.3's tickets come
  return ok, err
end

--- One visit: handshake, then a byte for the client.
-- @param options of the client's connection (server_name is "localhost" unless given), and `transport`, one of
-- helper.transports or its name, `read_early`, at most how many bytes the server reads early at a time
-- @return { client =, server = (connections), client_error =, server_error = (or nil), early = (a list or nil) }
function visit.once(client, server, options)
  local own = {}
  for name, value in pairs(options or {}) do
    if not NOT_THE_CLIENTS[name] then own[name] = value end
  end
  options = options or {}
  local a, b, pump = helper.pair(options.transport, own, nil, { client = client, server = server })
  local got = { client = a, server = b }
  helper.together({
    function()
      local ok, err = a:connect()
      if ok then ok, err = a:read(1) end
      got.client_error = ok == nil and (err or "the end") or nil
    end,
    function()
      local ok, err = shake_as_server(b, options.read_early, got)
      got.server_error = ok == nil and err or nil
    end,
  }, pump)
  return got
end

--- Closes both connections of what `once`, `good` or `greet` gave.
function visit.close(got)
  got.client:close()
  got.server:close()
end

--- A visit that must go well: as `once`, and resumed =, status =, which both sides tell alike.
function visit.good(...)
  local got = visit.once(...)
  if got.client_error or got.server_error then
    error(("the client: %s; the server: %s"):format(got.client_error, got.server_error), 2)
  end
  got.resumed, got.status = got.client:resumed(), got.client:early_data_status()
  assert.equal(got.resumed, got.server:resumed())
  assert.equal(got.status, got.server:early_data_status())
  return got
end

--- A visit that goes well; both close.
function visit.over(...)
  local got = visit.good(...)
  visit.close(got)
  return got
end

--- Was the session resumed?
function visit.resumed(...)
  return visit.over(...).resumed
end

--- The client's session, after a visit.
function visit.session(...)
  local got = visit.good(...)
  local session = assert(got.client:session())
  visit.close(got)
  return session
end

--- A visit that must fail; both close.
-- @return the client's error, the server's
function visit.failure(...)
  local got = visit.once(...)
  visit.close(got)
  assert.is_truthy(got.client_error or got.server_error, "it went well")
  return got.client_error, got.server_error
end

--- A handshake, and a byte goes by, by contexts.
-- @return { ok = the byte or nil, err =, server_ok =, server_err =, client =, server = (connections) }
function visit.greet(client, server, options)
  local a, b = helper.pair(nil, options, nil, { client = client, server = server })
  local got, others = helper.greet(a, b)
  return { ok = got[1], err = got[2], server_ok = others[1], server_err = others[2], client = a, server = b }
end

--- What `greet` gave, if it went well.
function visit.well(got)
  assert.equal("x", got.ok, tostring(got.err) .. "; " .. tostring(got.server_err))
  return got
end

return visit
