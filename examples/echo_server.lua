-- echo_server.lua [PORT [CERTIFICATE KEY]]: sends back what comes, every connection a coroutine. Without a port three
-- clients of its own come by, and it ends after them. Without a certificate it makes one and prints it.
local tls, luv = require "cotls", require "cotls.luv"
local CLIENTS = 3

local function echo(conn)
  local ok, err = conn:accept()
  while ok do
    local data
    data, err = conn:recv()
    ok = data and conn:write(data)
  end
  if err then io.stderr:write(tostring(err), "\n") end -- nil: the client said goodbye
  conn:close()
end

local function client(number, port, ca)
  local conn = assert(tls.connect("localhost", port, { ca = ca, timeout = 10 }))
  for _, word in ipairs { "there", "and", "back" } do
    assert(conn:write(word, "\n"))
    print(("client %d, %s: %s"):format(number, conn:version(), assert(conn:read("l"))))
    luv.sleep(0.01) -- let the others have a word
  end
  conn:close()
end

luv.run(function(port, certificate, key)
  local made = not certificate and assert(tls.make_certificate { names = { "localhost" } })
  local options = made or { certificate = certificate, key = key }
  options.timeout = 300
  local listener = assert(tls.listen("localhost", tonumber(port) or 0, options))
  print("echo on localhost, port " .. listener:port())
  if port and made then print(made.certificate) end
  io.stdout:flush()
  local left = CLIENTS
  for number = 1, port and 0 or CLIENTS do
    luv.spawn(function()
      client(number, listener:port(), made.certificate)
      left = left - 1
      if left == 0 then listener:close() end -- and the loop below ends
    end)
  end
  for conn in listener do luv.spawn(echo, conn) end
end, ...)
