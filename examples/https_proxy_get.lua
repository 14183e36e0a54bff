-- https_proxy_get.lua [--ca FILE] PROXY URL: prints the answer to a GET of an HTTPS URL through an HTTPS proxy: TLS to
-- the proxy, CONNECT (RFC 9110 section 9.3.6) under it, and inside of that TLS to the server. Exit codes: 0 all of it,
-- 1 usage, 2 no trusted connection, 3 the proxy refuses, or the answer is cut short.
local tls = require "cotls"

local function check(code, value, err)
  if value then return value end
  io.stderr:write("https_proxy_get: ", tostring(err), "\n")
  os.exit(code, true)
end

local function parse(url)
  local host, port, target = url:match("^https://([%w%-%.]+):?(%d*)([^#]*)")
  local good = host and not target:find("^[^/]") and not target:find("[%s%c]")
  check(1, good, "[--ca FILE] https://PROXY https://HOST/PATH")
  return host, tonumber(port) or 443, target ~= "" and target or "/"
end

local ca = arg[1] == "--ca" and arg[2] or nil
local first = ca and 3 or 1
local proxy_host, proxy_port = parse(arg[first] or "")
local host, port, target = parse(arg[first + 1] or "")

local context = check(2, tls.context { ca = ca, alpn = { "http/1.1" }, timeout = 30, read_limit = 65536 })
local proxy = check(2, tls.connect(proxy_host, proxy_port, { context = context }))

local authority = ("%s:%d"):format(host, port)
check(3, proxy:write("CONNECT ", authority, " HTTP/1.1\r\nHost: ", authority, "\r\n\r\n"))
local status = check(3, proxy:read())
check(3, status:find("^HTTP/1%.[01] 2"), status)
while check(3, proxy:read()) ~= "\r" do end -- its headers

-- The connection to the proxy is the transport of the one to the server, which checks that server's own name.
local conn = check(2, context:wrap(proxy, { server_name = host }))
check(2, conn:connect())
check(3, conn:write("GET ", target, " HTTP/1.0\r\nHost: ", authority, "\r\n\r\n"))

-- Up to close_notify: an end without that is an error, also one that the proxy makes.
local data, err = conn:recv()
while data do
  assert(io.write(data))
  data, err = conn:recv()
end
check(3, not err, err)
conn:close() -- and the one below
