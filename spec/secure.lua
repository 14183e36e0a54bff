-- What the specs of the drop-in for LuaSec share: LuaSec's own modules beside the drop-in's, in one process, and
-- pairs of connections over TCP that take their steps in turns.

local socket = require "socket"
local tls = require "cotls"
local luasec = require "cotls.luasec"
local helper = require "spec.helper"

local secure = {}

local function modules(get)
  local all = {}
  for _, name in ipairs { "ssl", "ssl.core", "ssl.context", "ssl.x509", "ssl.config" } do all[name] = get(name) end
  all.newcontext, all.wrap = all.ssl.newcontext, all.ssl.wrap
  all.core, all.context = all["ssl.core"], all["ssl.context"]
  return all
end

--- LuaSec, Debian's, and the drop-in.
secure.real = modules(require)
secure.ours = modules(luasec.module)

--- Both, by name, as the specs that run for each say.
secure.each = { { "LuaSec", secure.real }, { "the drop-in", secure.ours } }

-- ---- files ----

local files = {}

--- A file with this content, made once.
function secure.file(content)
  if not files[content] then files[content] = helper.temp_file(content) end
  return files[content]
end

secure.ca = secure.file(helper.ca.certificate)
secure.certificate = secure.file(helper.server_leaf.certificate)
secure.key = secure.file(helper.server_leaf.key)

local rsa
--- An RSA certificate and key, as files; made once.
function secure.rsa()
  if not rsa then
    local made = tls.make_certificate { subject = "CN=rsa", names = { "localhost" }, ca = helper.ca, key_type = "rsa" }
    rsa = { certificate = secure.file(made.certificate), key = secure.file(made.key) }
  end
  return rsa
end

-- ---- parameters ----

function secure.server(more)
  return helper.with({ mode = "server", protocol = "any", certificate = secure.certificate, key = secure.key }, more)
end

function secure.client(more)
  return helper.with({ mode = "client", protocol = "any" }, more)
end

-- ---- pairs ----

--- Two connected LuaSocket objects.
function secure.sockets()
  local listener = assert(socket.tcp4())
  assert(listener:bind("127.0.0.1", 0))
  assert(listener:listen())
  local _, port = listener:getsockname()
  local client = assert(socket.tcp4())
  assert(client:connect("127.0.0.1", port))
  local server = assert(listener:accept())
  listener:close()
  return server, client
end

--- Two objects, the server's first, before the handshake; `there` and `here` are modules, the options parameters or
-- contexts.
function secure.pair(there, server_options, here, client_options)
  local server, client = secure.sockets()
  server = assert(there.wrap(server, server_options or secure.server()))
  client = assert(here.wrap(client, client_options or secure.client()))
  server:settimeout(0)
  client:settimeout(0)
  return server, client
end

local WANTS = { wantread = true, wantwrite = true }

--- Handshakes in turns. @return ok and error of the server, then of the client
function secure.shake(server, client)
  local done, why, done_too, why_too
  for _ = 1, 1000 do
    if not done and (not why or WANTS[why]) then done, why = server:dohandshake() end
    if not done_too and (not why_too or WANTS[why_too]) then done_too, why_too = client:dohandshake() end
    local stuck, stuck_too = done or not WANTS[why], done_too or not WANTS[why_too]
    if stuck and stuck_too then break end
    if stuck and not done and not stuck_too then -- what the other says to that; who has failed is not asked again
      done_too, why_too = client:dohandshake()
      break
    elseif stuck_too and not done_too and not stuck then
      done, why = server:dohandshake()
      break
    end
    socket.select(nil, nil, 0.001)
  end
  return done, why, done_too, why_too
end

--- A pair whose handshake is done.
function secure.connected(...)
  local server, client = secure.pair(...)
  local ok, why, ok_too, why_too = secure.shake(server, client)
  if not ok or not ok_too then error(("server: %s, client: %s"):format(tostring(why), tostring(why_too)), 2) end
  return server, client
end

--- What conn:receive gives once there is something to give: a want is tried again.
function secure.receive(conn, pattern)
  local data, err, part = conn:receive(pattern)
  for _ = 1, 1000 do
    if data or not WANTS[err] then break end
    socket.select({ conn }, nil, 0.01)
    data, err, part = conn:receive(pattern, part)
  end
  return data, err, part
end

--- Sends all of it while the other side reads as much.
function secure.pass(from, to, data)
  local sent, got = 0, {}
  local length = 0
  for _ = 1, 100000 do
    if sent < #data then
      local last, err, upto = from:send(data, sent + 1)
      assert(last or WANTS[err], err)
      sent = last or upto
    end
    local piece, err, part = to:receive(16384)
    piece = piece or part
    assert(piece ~= "" or WANTS[err], err)
    got[#got + 1] = piece
    length = length + #piece
    if length >= #data then break end
  end
  if sent < #data then from:send(data, sent + 1) end
  return table.concat(got)
end

return secure
