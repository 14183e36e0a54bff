-- LuaSocket's socket.http with ssl.https, LuaSec's and the drop-in's: every call gives the same.

local compat = require "cotls.compat"
local core = require "cotls.core"
local luv = require "cotls.luv"
local tls = require "cotls"
local helper = require "spec.helper"
local tree = require "spec.tree"

local CLIENT = helper.leaf { subject = "CN=a client" }
local FILES = helper.files { other = helper.other_ca, client = CLIENT }
FILES.other_ca = FILES.other_cert

local HEAD = "HTTP/1.1 %s\r\nContent-Type: text/plain\r\n"
local LONG = ("0123456789abcdef"):rep(64 * 1024) -- 1 MiB

local function plain(text)
  return HEAD:format("200 OK") .. ("Content-Length: %d\r\n\r\n"):format(#text) .. text
end

local function redirect(to)
  return HEAD:format("302 Found") .. "Content-Length: 0\r\nLocation: " .. to .. "\r\n\r\n"
end

-- What a path is answered: fn(conn, request) → the answer; "": none; nil: it has answered and closed itself.
local PATHS = {
  text = function() return plain "some text\n" end,
  long = function() return plain(LONG) end,
  chunked = function()
    return HEAD:format("200 OK") .. "Transfer-Encoding: chunked\r\n\r\n6\r\nsome t\r\n4\r\next\n\r\n0\r\n\r\n"
  end,
  open = function() return HEAD:format("200 OK") .. "\r\nall of it" end,
  cut = function() return HEAD:format("200 OK") .. "Content-Length: 100\r\n\r\nonly this" end,
  torn = function(conn)
    conn:write(HEAD:format("200 OK"), "\r\nall of it?")
    getmetatable(conn).__close(conn, "no close_notify")
  end,
  redirect = function(_, request) return redirect("https://" .. request.fields.host .. "/text") end,
  relative = function() return redirect "/text" end,
  loop = function(_, request) return redirect("https://" .. request.fields.host .. "/loop") end,
  downgrade = function() return redirect "http://localhost:9/" end,
  version = function(conn) return plain(conn:version()) end,
  who = function(conn)
    local peer = conn:peer_certificate()
    return plain(peer and peer:subject() or "nobody")
  end,
  silence = function(conn)
    conn:read("a")
    return ""
  end,
}

function PATHS.echo(conn, request)
  local body = ""
  if request.fields["content-length"] then
    body = conn:read(tonumber(request.fields["content-length"]))
  elseif request.fields["transfer-encoding"] == "chunked" then
    repeat
      local n = tonumber((conn:read("l"):gsub("\r", "")), 16)
      body = body .. (n > 0 and conn:read(n) or "")
      conn:read("l")
    until n == 0
  end
  return plain(("%s %s %s"):format(request.method, body, request.fields["content-type"]))
end

local function read_request(conn)
  local line = conn:read("L")
  local method, path = (line or ""):match("^(%u+) /(%S*) HTTP/1%.1\r\n$")
  if not method then return nil end
  local request = { method = method, path = path, fields = {} }
  while true do
    local name, value = (conn:read("L") or ""):match("^([^%s:]+):%s*(.-)\r\n$")
    if not name then return request end
    request.fields[name:lower()] = value
  end
end

local function serve(conn)
  local request = conn:accept() and read_request(conn)
  local answer = ""
  if request then
    local fn = PATHS[request.path]
    answer = fn and fn(conn, request) or not fn and HEAD:format("404 Not Found") .. "Content-Length: 0\r\n\r\n"
  end
  if not answer then return end
  if request and request.method == "HEAD" then answer = answer:match("^.-\r\n\r\n") end
  conn:write(answer)
  conn:close()
end

-- Runs the program beside the server.
-- @return what it has printed, by name
local function ask(preload)
  local child
  helper.in_loop(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { role = "server", certificate = FILES.cert, key = FILES.key,
      ca = FILES.ca, verify_client = "optional", timeout = 20 }))
    local deaf = assert(core.listen_socket("127.0.0.1", 0))
    luv.spawn(function() helper.each(listener, function(conn) luv.spawn(serve, conn) end) end)
    local url = "https://localhost:%d/"
    local argv = helper.append({ helper.lua }, compat.unpack(preload))
    helper.append(argv, tree.root .. "spec/luasec_https_client.lua", url:format(listener:port()), FILES.ca,
      FILES.other_ca, FILES.client_cert, FILES.client_key, url:format((select(2, deaf:address()))),
      url:format(helper.free_port()))
    child = helper.start(argv, { env = { http_proxy = false, https_proxy = false } })
    child.result = child:wait(30)
    child:stop()
    listener:close()
    deaf:close()
  end, 40)
  assert.equal(0, child.result, child.stdout .. child.stderr)
  local results = {}
  for name, result in child.stdout:gmatch("([^\n]-): ([^\n]*)\n") do results[name] = result end
  assert.equal(#preload == 0 and "LuaSec" or "cotls", results["made by"])
  results["made by"] = nil
  return results
end


-- Every call, and what both give: body, code, content type and location, status line. URL stands for the server's.
local OK = "some text|, 200, text/plain nil, HTTP/1.1 200 OK"
local FOUND = ", 302, text/plain URLtext, HTTP/1.1 302 Found"
local EXPECTED = {
  ["simple"] = OK,
  ["post"] = "POST a=b&c=d application/x-www-form-urlencoded, 200, text/plain nil, HTTP/1.1 200 OK",
  ["missing"] = ", 404, text/plain nil, HTTP/1.1 404 Not Found",
  ["long"] = "1048576 bytes 311182, 200, text/plain nil, HTTP/1.1 200 OK",
  ["chunked"] = OK,
  ["until the end"] = "all of it, 200, text/plain nil, HTTP/1.1 200 OK",
  ["cut"] = "nil, closed, nil, nil",
  ["no close_notify"] = "nil, unexpected eof while reading, nil, nil",
  ["redirect"] = "some text|, 200, text/plain URLtext, HTTP/1.1 200 OK",
  ["redirect for ever"] = ", 302, text/plain URLloop, HTTP/1.1 302 Found",
  ["redirect to http"] = ", 302, text/plain http://localhost:9/, HTTP/1.1 302 Found",
  ["table"] = OK,
  ["table, HEAD"] = ", 200, text/plain nil, HTTP/1.1 200 OK",
  ["table, PUT"] = "PUT chunks of it text/x-spec, 200, text/plain nil, HTTP/1.1 200 OK",
  ["table, redirect"] = "some text|, 200, text/plain URLtext, HTTP/1.1 200 OK",
  ["table, redirect = false"] = FOUND,
  ["table, redirect = true"] = "nil, redirect not supported, nil, nil",
  ["table, proxy"] = "nil, proxy not supported, nil, nil",
  ["table, create"] = "nil, create function not permitted, nil, nil",
  ["table, TLS 1.2"] = "TLSv1.2, 200, text/plain nil, HTTP/1.1 200 OK",
  ["table, TLS 1.3"] = "TLSv1.3, 200, text/plain nil, HTTP/1.1 200 OK",
  ["table, verified"] = OK,
  ["table, not verified"] = "nil, certificate verify failed, nil, nil",
  ["table, a certificate"] = "CN=a client, 200, text/plain nil, HTTP/1.1 200 OK",
  ["table, no such file"] = "nil, error loading CA locations ((null)), nil, nil",
  ["table, no such protocol"] = "nil, invalid protocol (tlsv9), nil, nil",
  ["tcp"] = "1, 200, text/plain nil, HTTP/1.1 200 OK",
  ["tcp, not verified"] = "nil, certificate verify failed, nil, nil",
  ["LuaSocket's own"] = OK,
  ["LuaSocket's own, redirect"] = "some text|, 200, text/plain URLtext, HTTP/1.1 200 OK",
  ["nobody there"] = "nil, connection refused, nil, nil",
  ["no handshake"] = "nil, wantread, nil, nil",
  ["no answer"] = "nil, wantread, nil, nil",
  ["proxy"] = "nil, proxy not supported, nil, nil",
}

for name, preload in pairs { ["LuaSec"] = {}, ["the drop-in"] = { "-l", "cotls.luasec_preload" } } do
  describe("ssl.https of " .. name, function()
    it("gives LuaSocket's HTTP what it asks for, and says in LuaSec's words what fails", function()
      assert.same(EXPECTED, ask(preload))
    end)
  end)
end

describe("ssl.https of a strict drop-in", function()
  it("trusts nobody whom the system's CAs do not vouch for", function()
    local got = ask { "-e", "require('cotls.luasec').install { strict = true }" }
    for call, result in pairs(EXPECTED) do
      if result:find(", 200,", 1, true) or result:find(", 404,", 1, true) then
        local verified = call == "table, verified" or call == "tcp"
        assert.equal(verified and result or "nil, certificate verify failed, nil, nil", got[call], call)
      end
    end
  end)
end)
