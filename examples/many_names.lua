-- Many names on one port: each with a certificate, protocols and rules of its own, chosen by what the client asks for.
local tls, luv = require "cotls", require "cotls.luv"

local ca = assert(tls.make_certificate { subject = "CN=our CA", is_ca = true })

local function issue(...)
  return assert(tls.make_certificate { names = { ... }, ca = ca })
end

local function context(pair, options)
  options.role, options.certificate, options.key = "server", pair.certificate, pair.key
  return assert(tls.context(options))
end

local www, staff = issue("www.example.org"), issue("*.staff.example.org")
local server = assert(tls.context {
  role = "server",
  names = {
    ["www.example.org"] = context(www, { alpn = { "h2", "http/1.1" } }),
    ["*.staff.example.org"] = context(staff, { verify_client = "require", ca = ca.certificate, min_version = "1.3" }),
  },
  strict_names = true, -- any other name: unrecognized_name
})

local function serve(conn)
  if conn:accept() then
    conn:write("this is ", conn:server_name(), "\n")
    conn:shutdown()
  end
  conn:close()
end

local function visit(port, name, options)
  options.server_name, options.ca, options.timeout = name, ca.certificate, 10
  local conn, err = tls.connect("127.0.0.1", port, options)
  local answer
  if conn then
    answer, err = conn:read("l")
    answer = answer and ("%s, %s, %s"):format(answer, conn:version(), conn:alpn() or "no ALPN")
    conn:close()
  end
  print(("%-24s %s"):format(name, answer or tostring(err):gsub(" %[peer.*", "")))
end

luv.run(function()
  local listener = assert(tls.listen("127.0.0.1", 0, { context = server }))
  luv.spawn(function()
    local port, me = listener:port(), issue("me")
    visit(port, "www.example.org", { alpn = { "http/1.1" } })
    visit(port, "wiki.staff.example.org", { certificate = me.certificate, key = me.key })
    visit(port, "wiki.staff.example.org", {})
    visit(port, "mail.example.org", {})
    listener:close()
  end)
  for conn in listener do luv.spawn(serve, conn) end
end)
