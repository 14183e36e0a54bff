-- SPDX-License-Identifier: MIT
-- The TLS servers that nginx's handlers ask, in a process of their own. Called as: upstream.lua folder; it prints the
-- ports. All want a client's certificate. "good" has the key that is pinned; "other" one that isn't; "stranger" is
-- of a CA that nobody trusts; "echo" gives back what comes; "mute" never answers a handshake; "signer", without TLS,
-- signs with the client's key: a line of digest and hash in hexadecimal, and the signature in the same way.

local core = require "cotls.core"
local luv = require "cotls.luv"
local tls = require "cotls"
local uv = require "luv"

local folder = ...
local counts = { asked = 0, refused = 0, open = 0, aborted = 0 }

local function context(name)
  return assert(tls.context { role = "server", certificate = folder .. name .. ".pem", key = folder .. name .. ".key",
    ca = folder .. "ca.pem", verify_client = "require", alpn = { "http/1.1" } })
end

local acts = {}

function acts.counts()
  return ("asked %d refused %d open %d aborted %d\n"):format(counts.asked, counts.refused, counts.open, counts.aborted)
end

-- Answers after a while, unless nobody waits for it any more.
function acts.slow(conn)
  conn:settimeout(60)
  local data, err = conn:recv(1)
  if not data and not (err and err.code == "timeout") then counts.aborted = counts.aborted + 1 end
  return "slow\n"
end

function acts.big()
  return ("x"):rep(1000000) .. "\n"
end

local function answer(conn)
  local path = (conn:read "l" or ""):match("(%w*) HTTP")
  repeat local line = conn:read "l" until not line or line == "\r" or line == ""
  counts.asked = counts.asked + 1
  local act = acts[path]
  local text = act and act(conn) or ("%s %s %s\n"):format(conn:version(), conn:alpn(),
    conn:peer_certificate():subject())
  conn:write(text)
end

local function echo(conn)
  local data = conn:recv(16384)
  while data and conn:write(data) do data = conn:recv(16384) end
end

local function serve(conn, act)
  counts.open = counts.open + 1
  if conn:accept() then act(conn) else counts.refused = counts.refused + 1 end
  conn:close()
  counts.open = counts.open - 1
end

local function listen(name, act, certificate)
  local listener = assert(tls.listen("127.0.0.1", 0, { context = context(certificate or name) }))
  print(name .. " " .. listener:port())
  luv.spawn(function()
    for conn in listener do luv.spawn(serve, conn, act) end
  end)
end

local function hexadecimal(bytes)
  return (bytes:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

local function sign(digest, hashed)
  local path = folder .. "hashed"
  local handle = assert(io.open(path, "wb"))
  handle:write((hashed:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)))
  handle:close()
  local signing = assert(io.popen(("openssl pkeyutl -sign -inkey %sclient.key -in %s -pkeyopt digest:%s"):format(folder,
    path, digest)))
  local signature = signing:read "*a"
  signing:close()
  return hexadecimal(signature)
end

local function listen_to_sign()
  local server = uv.new_tcp()
  assert(server:bind("127.0.0.1", 0))
  server:listen(64, function()
    local client, question = uv.new_tcp(), ""
    server:accept(client)
    client:read_start(function(_, data)
      question = question .. (data or "")
      local digest, hashed = question:match "^(%w+) (%x+)\n"
      if digest then client:write(sign(digest, hashed) .. "\n") end
      if digest or not data then client:close() end
    end)
  end)
  print("signer " .. math.floor(server:getsockname().port))
end

luv.run {
  on_error = function(err, traceback) io.stderr:write(tostring(err), "\n", traceback, "\n") end,
  main = function()
    listen("good", answer)
    listen("other", answer)
    listen("stranger", answer)
    listen("echo", echo, "good")
    local mute = assert(core.listen_socket("127.0.0.1", 0))
    print("mute " .. select(2, mute:address()))
    listen_to_sign()
    io.stdout:flush()
    while mute:fileno() do luv.sleep(60) end
  end,
}
