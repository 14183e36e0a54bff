-- What a client verifies: six servers that differ in one thing each, and what becomes of a connection to them.
local tls, luv = require "cotls", require "cotls.luv"

local ca = assert(tls.make_certificate { subject = "CN=our CA", is_ca = true })
local stranger = assert(tls.make_certificate { subject = "CN=somebody", is_ca = true })

local function issue(options)
  options.subject = "CN=server"
  options.names = options.names or { "localhost" }
  options.ca = options.ca or ca
  return assert(tls.make_certificate(options))
end

local good = issue {}
local servers = {
  { "a good certificate", good },
  { "another name", issue { names = { "www.example.org" } } },
  { "an unknown CA", issue { ca = stranger } },
  { "expired", issue { days = -1 } },
  { "a pin that matches", good, { pins = tls.x509(good.certificate):spki_pin() } },
  { "a pin that does not", good, { pins = tls.x509(ca.certificate):spki_pin():gsub("^sha256/....", "sha256/AAAA") } },
}

-- Listens until one client has come.
local function serve(pair)
  local listener = assert(tls.listen("localhost", 0, { certificate = pair.certificate, key = pair.key }))
  luv.spawn(function()
    local conn = listener()
    listener:close()
    if conn:accept() then conn:shutdown() end -- a client that refuses is heard of here
    conn:close()
  end)
  return listener:port()
end

luv.run(function()
  for _, one in ipairs(servers) do
    local what, pair, options = one[1], one[2], one[3] or {}
    options.ca, options.timeout = ca.certificate, 10
    local conn, err = tls.connect("localhost", serve(pair), options)
    if conn then
      print(("%-20s accepted: %s"):format(what, (conn:peer_certificate():subject())))
      conn:close()
    else
      local verify = err.verify -- code, text, depth in the chain (0: the peer's own), subject
      print(("%-20s refused: %s (depth %d, %s)"):format(what, verify.text, verify.depth, verify.subject))
    end
  end
end)
