-- SPDX-License-Identifier: MIT
--
-- The benchmark's server on luaossl with cqueues' loop and sockets. README.md tells the wire protocol.
-- Called as: server_luaossl.lua certificate key

local function need(name)
  local have, module = pcall(require, name)
  if have then return module end
  io.stderr:write(tostring(module):match("[^\n]*"), "\n")
  os.exit(77)
end

local cqueues, socket = need("cqueues"), need("cqueues.socket")
local ssl_context, x509, pkey = need("openssl.ssl.context"), need("openssl.x509"), need("openssl.pkey")

local certificate, key = ...
local block = ("b"):rep(16384)

local function contents(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function make_context()
  local context = ssl_context.new("TLS", true)
  context:setOptions(ssl_context.OP_NO_COMPRESSION + ssl_context.OP_CIPHER_SERVER_PREFERENCE -- bits, each once
    + ssl_context.OP_NO_SSLv3 + ssl_context.OP_NO_TLSv1 + ssl_context.OP_NO_TLSv1_1)
  context:setCertificate(x509.new(contents(certificate)))
  context:setPrivateKey(pkey.new(contents(key)))
  return context
end

local function command(conn, data)
  if data:sub(1, 1) == "G" then
    collectgarbage()
    collectgarbage()
    return conn:xwrite("g", "bn")
  end
  -- An output buffer of two blocks only where blocks are written: every connection would pay for it.
  conn:setbufsiz(4096, 2 * #block)
  for _ = 1, tonumber(data:match("%d+")) do
    if not conn:xwrite(block, "bn") then return nil end
  end
  return conn
end

local function serve(conn, context)
  if conn:starttls(context) then
    local data = conn:xread(-16384, "bn")
    while data and data:find("^[GB]") do
      data = command(conn, data) and conn:xread(-16384, "bn")
    end
    while data and conn:xwrite(data, "bn") do data = conn:xread(-16384, "bn") end
    conn:shutdown("rw")
  end
  conn:close()
end

-- Errors become results instead of being thrown, as a server wants them.
local function quiet(_, _, why)
  return why
end

local loop = cqueues.new()

loop:wrap(function()
  local context = make_context()
  local listener = socket.listen { host = "127.0.0.1", port = 0, nodelay = true }
  assert(listener:listen())
  local _, _, port = listener:localname()
  print(port)
  io.stdout:flush()
  for conn in listener:clients { nodelay = true } do
    conn:setmode("bn", "bn")
    conn:onerror(quiet)
    loop:wrap(serve, conn, context)
  end
end)

assert(loop:loop())
