-- SPDX-License-Identifier: MIT
-- cotls: coroutine TLS. The module's face; the types and their documentation are in cotls/types.lua.

local config = require "cotls.config"
local core = require "cotls.core"
local credentials = require "cotls.credentials"
local file = require "cotls.file"
local options = require "cotls.options"
local net = require "cotls.net"
local pair = require "cotls.pair"
local transport = require "cotls.transport"

local tls = {
  version = core.version,
  openssl_version = core.openssl_version,
  now = core.now,
  is_error = core.is_error,
  connect = net.connect,
  listen = net.listen,
  pair = pair.connections,
}
function tls.context(given)
  local settings, err = options.context(given or {}, "tls.context", 2)
  if not settings then return nil, err end
  return core.context(settings)
end

function tls.make_certificate(given)
  return core.make_certificate(options.certificate(given, "tls.make_certificate", 2))
end

function tls.parse_client_hello(bytes)
  return core.parse_client_hello(options.text(bytes, "tls.parse_client_hello", 2))
end

function tls.x509(given)
  options.certificate_file(given, "tls.x509", 2)
  if core.is_x509(given) then return given end
  local got, reason = file.read(given)
  if not got then return core.refused("x509", reason) end
  return core.x509(got.name, got.data)
end

function tls.session(exported)
  return core.session(options.text(exported, "tls.session", 2))
end

function tls.ciphers(list)
  return config.ciphers(options.ciphers(list, "tls.ciphers", 2))
end

local Context = core.methods("cotls.context")
local flush_sessions = Context.flush_sessions

function Context.flush_sessions(ctx)
  flush_sessions(ctx)
  for id, on_session_remove in core.take_removed, ctx do on_session_remove(ctx, id) end
  return ctx
end

function Context.set_ticket_keys(ctx, keys)
  if core.context_role(ctx) ~= "server" then error("set_ticket_keys: the context's role is \"client\"", 2) end
  return core.set_ticket_keys(ctx, options.ticket_keys(keys, "set_ticket_keys", 2))
end

function Context.wrap(ctx, object, given)
  local settings, reason
  if given ~= nil then
    settings, reason = options.connection(given, core.context_role(ctx), "wrap", 2)
    if not settings then return nil, reason end
  end
  if type(object) ~= "number" or settings and settings.transport then
    local stream
    stream, reason = transport.choose(object, settings and settings.transport)
    if reason then return core.refused("transport", reason) end
    if stream then
      settings = settings or {}
      settings.stream = stream
    end
  end
  return core.wrap(ctx, object, settings)
end

function Context.set_ocsp_response(ctx, given)
  options.file(given, "set_ocsp_response", 2)
  local got, reason = file.read(given)
  if not got then return core.refused("ocsp_response", reason) end
  return core.set_ocsp_response(ctx, got)
end

local Connection = core.methods("cotls.connection")

function Connection.use_certificate(conn, given)
  Connection.is_server(conn) -- raises for what is no connection
  local one, err = credentials.one(options.credential(given, "use_certificate", 2))
  if not one then return nil, err end
  return core.use_credential(conn, one)
end

function Connection.set_ocsp_response(conn, response)
  Connection.is_server(conn)
  return core.use_staple(conn, options.text(response, "set_ocsp_response", 2))
end

-- tls.scheduler is a property: the driver asks for it at each wait, and a wrong value is told where it is set.
return setmetatable(tls, {
  __index = function(_, name)
    if name == "scheduler" then return core.get_scheduler() end
  end,
  __newindex = function(_, name, value)
    if name ~= "scheduler" then return rawset(tls, name, value) end
    if value ~= nil and not options.is_scheduler(value) then
      error("tls.scheduler: a table with a function wait expected, got " .. type(value), 2)
    end
    core.set_scheduler(value)
  end,
})
