-- SPDX-License-Identifier: MIT
-- For nginx.conf in this folder: a handler that asks a TLS server as a client with a certificate of its own, with
-- ALPN, a pinned key, and a hook that waits while nginx serves others.

local tls = require "cotls"
tls.scheduler = require "cotls.ngx"

local ngx = ngx -- luacheck: ignore
local fetch = {}

-- Where one would ask somebody else whether the certificate is still good: here nobody, but it takes its time. What
-- OpenSSL has refused stays so, whatever this answers.
local function on_verify(_, ok)
  if ok then ngx.sleep(0.001) end
  return true
end

--- A context for init_by_lua: made once, by the master process, which may read the key.
function fetch.context(folder, pins)
  local context, err = tls.context {
    ca = folder .. "ca.pem",
    certificate = folder .. "client.pem",
    key = folder .. "client.key",
    alpn = { "http/1.1" },
    pins = pins,
    on_verify = on_verify,
    timeout = 10,
  }
  return context or error(tostring(err), 0)
end

-- A connection over a cosocket, handshaken; or nil, err.
local function connect(context, host, port, server_name)
  local socket = ngx.socket.tcp()
  local ok, err = socket:connect(host, port)
  if not ok then return nil, err end
  local conn = assert(context:wrap(socket, { server_name = server_name }))
  return conn:connect()
end

--- Answers the request with what the server says; 502 where it can't be trusted or reached.
function fetch.pass(context, host, port, server_name)
  local conn, err = connect(context, host, port, server_name)
  local answer
  if conn then
    conn:write("GET ", ngx.var.request_uri, " HTTP/1.0\r\nHost: ", server_name, "\r\n\r\n")
    answer, err = conn:read "a"
    conn:close()
  end
  if not answer then
    ngx.status = 502
    ngx.header.x_error = tls.is_error(err) and err.code or "no connection"
    answer = tostring(err) .. "\n"
  end
  ngx.header.content_length = #answer
  ngx.print(answer)
end

return fetch
