-- 0-RTT: a request that goes with the hello. It may be replayed, so this server does for it only what does no harm
-- twice; the client sends again what was not taken.
local tls, luv = require "cotls", require "cotls.luv"

local pair = assert(tls.make_certificate { names = { "localhost" } })
local balance = 100

local function answer(request, early)
  if request == "GET balance" then return "balance is " .. balance end
  if early then return "425 too early" end -- RFC 8470: ask again when the handshake is done
  balance = balance - 10
  return "paid, balance is " .. balance
end

local function serve(conn)
  local early, request, err = {}, conn:read_early() -- never given out by read
  while request do
    early[#early + 1] = request
    request, err = conn:read_early()
  end
  if err or not conn:accept() then return conn:close() end
  for line in table.concat(early):gmatch("(.-)\n") do conn:write(answer(line, true), "\n") end
  for line in conn:lines() do conn:write(answer(line), "\n") end
  conn:shutdown()
  conn:close()
end

luv.run(function()
  local listener = assert(tls.listen("localhost", 0, {
    certificate = pair.certificate, key = pair.key, max_early_data = 1024, timeout = 10,
  }))
  luv.spawn(function()
    for conn in listener do luv.spawn(serve, conn) end
  end)
  local client = assert(tls.context { ca = pair.certificate, resume = true })

  local function ask(request)
    local line = request .. "\n"
    local options = { context = client, early_data = line, timeout = 10 }
    local conn = assert(tls.connect("localhost", listener:port(), options))
    local status = conn:early_data_status()
    if status ~= "accepted" then assert(conn:write(line)) end
    local reply = assert(conn:read())
    if reply:find("^425") then
      assert(conn:write(line))
      reply = reply .. "; " .. assert(conn:read())
    end
    print(("%-12s %-10s %s"):format(request, status, reply))
    assert(conn:shutdown())
    conn:close()
  end

  ask "GET balance"
  ask "GET balance"
  ask "PAY 10"
  listener:close()
end)
