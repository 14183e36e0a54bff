-- A plain-text protocol that turns to TLS in place, as SMTP does (RFC 3207): a client and a server over a socket pair.
local tls, luv, uv = require "cotls", require "cotls.luv", require "luv"

local function say(who, how, line)
  print(("%s  %-7s  %s"):format(who, how, line))
  return line
end

-- Plain lines over a descriptor, here one of a socket pair. cotls.luv waits for whatever has a fileno.
local Plain = {}
Plain.__index = Plain
function Plain:fileno() return self.fd end
function Plain:write(...) return uv.fs_write(self.fd, table.concat { ... }) and self end
-- Byte by byte: what is read too far would be missing from the handshake, and what somebody slips in behind
-- STARTTLS is no command that was given under TLS.
function Plain:read()
  local line = ""
  while line:sub(-1) ~= "\n" do
    local byte, err, name = uv.fs_read(self.fd, 1)
    if name == "EAGAIN" then assert(luv.wait(self, "read", tls.now() + 10))
    elseif not byte or byte == "" then error(err or "the peer has gone")
    else line = line .. byte end
  end
  return line:sub(1, -2)
end
-- From here on the descriptor is the connection's; the loop must not watch it for two.
function Plain:upgrade(context, options)
  luv.release(self)
  return assert(context:wrap(self.fd, options))
end

local function serve(plain, context)
  plain:write("220 ready\n")
  while plain:read() ~= "STARTTLS" do plain:write("530 STARTTLS first\n") end
  plain:write("220 go ahead\n")
  local conn = assert(plain:upgrade(context):accept())
  for line in conn:lines() do assert(conn:write("250 ", line, " is for your ears only\n")) end
  conn:close()
end

local function ask(stream, how, line)
  assert(stream:write(say("client", how, line), "\n"))
  return say("server", how, assert(stream:read()))
end

local function client(plain, context)
  say("server", "plain", plain:read())
  ask(plain, "plain", "HELLO")
  assert(ask(plain, "plain", "STARTTLS"):find("^220"), "no TLS: not a word more")
  local conn = assert(plain:upgrade(context, { server_name = "localhost" }):connect())
  ask(conn, conn:version(), "HELLO")
  conn:close()
end
local made = assert(tls.make_certificate { names = { "localhost" } })
local fds = assert(uv.socketpair("stream", nil, { nonblock = true }, { nonblock = true }))
made.role = "server"
luv.run(function()
  luv.spawn(serve, setmetatable({ fd = fds[1] }, Plain), assert(tls.context(made)))
  client(setmetatable({ fd = fds[2] }, Plain), assert(tls.context { ca = made.certificate }))
end)
