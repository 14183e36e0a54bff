-- SPDX-License-Identifier: MIT
-- A program for the specs of the drop-in: HTTPS as software that knows LuaSocket and LuaSec asks for it. Called as:
-- luasec_https_client.lua URL CA OTHER_CA CERTIFICATE KEY DEAF_URL CLOSED_URL. It prints what each call gives.

local http = require "socket.http"
local https = require "ssl.https"
local ltn12 = require "ltn12"

local url, ca, other_ca, certificate, key, deaf, closed = ...

local function text_of(value)
  if type(value) == "string" and #value > 200 then
    local sum = 0
    for i = 1, #value do sum = (sum * 31 + value:byte(i)) % 1000003 end
    return ("%d bytes %d"):format(#value, sum)
  end
  return tostring(value):gsub("\n", "|")
end

-- Headers are shown by what the server says of itself.
local function show(name, body, code, headers, status)
  local said = type(headers) == "table" and ("%s %s"):format(tostring(headers["content-type"]),
    (tostring(headers.location):gsub("^" .. url, "URL"))) or nil
  print(("%s: %s, %s, %s, %s"):format(name, text_of(body), tostring(code), tostring(said), tostring(status)))
end

-- A request in table form, whose body comes in place of the 1.
local function ask(request)
  local parts = {}
  request.sink = ltn12.sink.table(parts)
  local ok, code, headers, status = https.request(request)
  return ok and table.concat(parts), code, headers, status
end

print("made by: " .. require "ssl"._COPYRIGHT:match "^%a+")
show("simple", https.request(url .. "text"))
show("post", https.request(url .. "echo", "a=b&c=d"))
show("missing", https.request(url .. "nothing"))
show("long", https.request(url .. "long"))
show("chunked", https.request(url .. "chunked"))
show("until the end", https.request(url .. "open"))
show("cut", https.request(url .. "cut"))
show("no close_notify", https.request(url .. "torn"))
show("redirect", https.request(url .. "redirect"))
show("redirect for ever", https.request(url .. "loop"))
show("redirect to http", https.request(url .. "downgrade"))

show("table", ask { url = url .. "text" })
show("table, HEAD", ask { url = url .. "text", method = "HEAD" })
show("table, PUT", ask { url = url .. "echo", method = "PUT", source = ltn12.source.string "chunks of it",
  headers = { ["content-type"] = "text/x-spec" } })
show("table, redirect", ask { url = url .. "redirect" })
show("table, redirect = false", ask { url = url .. "redirect", redirect = false })
show("table, redirect = true", ask { url = url .. "redirect", redirect = true })
show("table, proxy", ask { url = url .. "text", proxy = "http://127.0.0.1:9/" })
show("table, create", ask { url = url .. "text", create = https.tcp() })
show("table, TLS 1.2", ask { url = url .. "version", protocol = "tlsv1_2" })
show("table, TLS 1.3", ask { url = url .. "version", protocol = "tlsv1_3" })
show("table, verified", ask { url = url .. "text", verify = "peer", cafile = ca })
show("table, not verified", ask { url = url .. "text", verify = "peer", cafile = other_ca })
show("table, a certificate", ask { url = url .. "who", certificate = certificate, key = key })
show("table, no such file", ask { url = url .. "text", cafile = "/nowhere" })
show("table, no such protocol", ask { url = url .. "text", protocol = "tlsv9" })

show("tcp", http.request { url = url .. "text", create = https.tcp { verify = "peer", cafile = ca } })
local wary = https.tcp { verify = "peer", cafile = other_ca }
show("tcp, not verified", http.request { url = url .. "text", create = wary })
show("LuaSocket's own", http.request(url .. "text"))
show("LuaSocket's own, redirect", http.request(url .. "redirect"))

show("nobody there", https.request(closed))
https.TIMEOUT = 0.3
show("no handshake", https.request(deaf))
show("no answer", https.request(url .. "silence"))
http.PROXY = "http://127.0.0.1:9/"
show("proxy", https.request(url .. "text"))
