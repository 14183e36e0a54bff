-- SPDX-License-Identifier: MIT
-- ssl.https: LuaSocket's HTTP over TLS.

local http = require "socket.http"
local ltn12 = require "ltn12"
local socket = require "socket"
local url = require "socket.url"

local core = require "cotls.luasec.core"
local settings = require "cotls.luasec.settings"
local ssl = require "cotls.luasec.ssl"

local https = {
  _VERSION = ssl._VERSION,
  _COPYRIGHT = core.copyright(),
  PORT = 443,
  TIMEOUT = 60,
}

-- The parameters of a connection where a request has none. Strict ones verify.
local function default(name)
  if name == "protocol" then return "any" end
  if name == "options" then return { "all", "no_sslv2", "no_sslv3", "no_tlsv1" } end
  if name == "verify" and not settings.strict then return "none" end
  return nil
end

local function with_port(address)
  return url.build(url.parse(address, { port = https.PORT }))
end

-- The wrapped socket's methods, on the object that LuaSocket's HTTP knows.
local function forward(conn)
  for name, method in pairs(getmetatable(conn.sock).__index) do
    if type(method) == "function" then
      conn[name] = function(self, ...) return method(self.sock, ...) end
    end
  end
end

--- What LuaSocket's HTTP takes as `create`: a function that makes an object whose `connect` makes a TLS connection.
function https.tcp(params)
  params = params or {}
  for _, name in ipairs { "protocol", "options", "verify" } do
    if params[name] == nil then params[name] = default(name) end
  end
  params.mode = "client"
  return function()
    local conn = { sock = socket.try(socket.tcp()) }
    function conn:settimeout()
      return self.sock:settimeout(https.TIMEOUT)
    end
    function conn:connect(host, port)
      socket.try(self.sock:connect(host, port))
      self.sock = socket.try(ssl.wrap(self.sock, params))
      self.sock:sni(host)
      self.sock:settimeout(https.TIMEOUT)
      socket.try(self.sock:dohandshake())
      forward(self)
      return 1
    end
    function conn:close()
      return self.sock:close()
    end
    return conn
  end
end

--- LuaSocket's http.request, with the parameters of a context among its own.
-- @return the body (1 where a table was given), status code, headers, status line; or nil and a text
function https.request(request, body)
  local simple, pieces = type(request) == "string", {}
  if simple then
    request = { url = request, method = body and "POST" or "GET", sink = ltn12.sink.table(pieces) }
    if body then
      request.source = ltn12.source.string(body)
      request.headers = {
        ["content-length"] = #body,
        ["content-type"] = "application/x-www-form-urlencoded",
      }
    end
  end
  request.url = with_port(request.url)
  if http.PROXY or request.proxy then return nil, "proxy not supported" end
  if request.redirect then return nil, "redirect not supported" end
  if request.create then return nil, "create function not permitted" end
  request.create = https.tcp(request)
  local result, code, headers, status = http.request(request)
  if result and simple then result = table.concat(pieces) end
  return result, code, headers, status
end

return https
