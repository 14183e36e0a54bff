-- Both sides prove who they are: a server that lets in whom its own CA vouches for, and three who knock.
local tls, luv = require "cotls", require "cotls.luv"

local our_ca = assert(tls.make_certificate { subject = "CN=our CA", is_ca = true })
local other_ca = assert(tls.make_certificate { subject = "CN=another CA", is_ca = true })

local function issue(ca, name)
  return assert(tls.make_certificate { subject = "CN=" .. name, names = { name }, ca = ca })
end

local server, alice, mallory = issue(our_ca, "localhost"), issue(our_ca, "alice"), issue(other_ca, "mallory")

local function serve(conn)
  local ok, err = conn:accept() -- the client's certificate is judged in here
  if not ok then
    print("server  refuses: " .. tostring(err):gsub(" %[peer.*", ""))
    return conn:close()
  end
  local name = conn:peer_certificate():names().dns[1] -- our CA has vouched for it
  print("server  lets in " .. name)
  conn:write("welcome, ", name, "\n")
  conn:shutdown()
  conn:close()
end

-- In TLS 1.3 the client is done first: what the server thinks of its certificate comes with the first read.
local function knock(name, port, pair)
  local conn, err = tls.connect("localhost", port, {
    ca = our_ca.certificate, certificate = pair and pair.certificate, key = pair and pair.key, timeout = 10,
  })
  local answer
  if conn then
    answer, err = conn:read("l")
    conn:close()
  end
  print(("client  %s: %s"):format(name, answer or tostring(err):gsub(" %[peer.*", "")))
end

luv.run(function()
  local listener = assert(tls.listen("localhost", 0, {
    certificate = server.certificate, key = server.key, ca = our_ca.certificate, verify_client = "require",
  }))
  luv.spawn(function()
    knock("alice", listener:port(), alice)
    knock("mallory", listener:port(), mallory)
    knock("nobody", listener:port())
    listener:close()
  end)
  for conn in listener do luv.spawn(serve, conn) end
end)
