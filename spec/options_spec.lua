local tls = require "cotls"
local helper = require "spec.helper"

local LEAF = helper.server_leaf
local CA = helper.ca.certificate

-- Both sides of a handshake: client's result and error, server's result and error, the connections.
local function shake(contexts, client_options, server_options)
  local client, server = helper.pair(nil, client_options, server_options, contexts)
  local mine, theirs = helper.greet(client, server)
  return { client = mine[1], client_err = mine[2], server = theirs[1], server_err = theirs[2] }, client, server
end

local function raises(pattern, fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, pattern)
  assert.is_truthy(tostring(err):find(pattern, 1, true), tostring(err) .. "\nwithout: " .. pattern)
  return err
end

local function refused(pattern, value, err)
  assert.is_nil(value)
  assert.is_true(tls.is_error(err))
  assert.equal("config", err.code)
  assert.is_truthy(err.reason:find(pattern, 1, true), err.reason .. "\nwithout: " .. pattern)
  assert.is_nil(tostring(err):find("\n"), tostring(err))
end

local function wrap(options, ctx)
  local fd, other = helper.socketpair()
  local conn, err = (ctx or helper.contexts().client):wrap(fd, options)
  helper.close_fd(other)
  if not conn then helper.close_fd(fd) end
  return conn, err
end

describe("an unknown option", function()
  it("raises with its name and the nearest known one", function()
    for given, meant in pairs { certficate = "certificate", Key = "key", alpns = "alpn",
      verify_clients = "verify_client", time_out = "timeout", minversion = "min_version", readlimit = "read_limit",
      insecur = "insecure" } do
      raises(("unknown option '%s'; did you mean '%s'?"):format(given, meant), tls.context, { [given] = true })
    end
    for given, meant in pairs { servername = "server_name", verifyname = "verify_name", own = "owns",
      transprot = "transport" } do
      raises(("unknown option '%s'; did you mean '%s'?"):format(given, meant), wrap, { [given] = true })
    end
  end)

  it("that is near nothing raises with its name alone", function()
    local err = raises("tls.context: unknown option 'qqqqqqqqqqqq'", tls.context, { qqqqqqqqqqqq = 1 })
    assert.is_nil(err:find("did you mean", 1, true))
    raises("unknown option '1'", tls.context, { "x" })
    raises("unknown option 'true'", tls.context, { [true] = 1 })
  end)

  it("of the other kind raises, too", function()
    raises("tls.context: unknown option 'server_name'", tls.context, { server_name = "x" })
    raises("wrap: unknown option 'certificate'", wrap, { certificate = "x" })
    raises("wrap: unknown option 'ca'", wrap, { ca = "x" })
  end)

  it("the error points at the caller's line", function()
    assert.matches("options_spec.lua:%d+: ", raises("'zz'", function() tls.context { zz = 1 } end))
    assert.matches("options_spec.lua:%d+: ", raises("'zz'", function()
      local conn = helper.contexts().client:wrap(0, { zz = 1 })
      return conn
    end))
  end)
end)

describe("an ill-typed option", function()
  local context = {
    role = { 1, true, {} },
    certificate = { 1, true, {}, { "x", 1 }, { file = 1 }, { data = {} }, { file = "x", data = "y" } },
    key = { 1, true, {}, { "x" }, { file = 1 } },
    password = { 1, true, {} },
    ca = { 1, true, {}, { 1 } },
    insecure = { 1, "true", {} },
    verify_client = { 1, true, {} },
    min_version = { true, {} },
    max_version = { true, {} },
    alpn = { "h2", 1, true, {}, { 1 }, { "h2", true } },
    timeout = { "1", true, {}, -1, 0 / 0 },
    handshake_timeout = { "1", true, {}, -0.001, 0 / 0 },
    read_limit = { "1", true, {}, 0, -1, 1.5 },
    scheduler = { 1, "x", true, {} },
  }
  local connection = {
    server_name = { 1, true, {} },
    verify_name = { 1, true, {}, { 1 } },
    alpn = context.alpn,
    timeout = context.timeout,
    handshake_timeout = context.handshake_timeout,
    read_limit = context.read_limit,
    scheduler = context.scheduler,
    transport = { 1, true, {} },
    owns = { 1, "x", {} },
  }

  it("of a context raises and is named", function()
    for name, values in pairs(context) do
      for _, value in ipairs(values) do
        raises(("tls.context: option '%s'"):format(name), tls.context, { [name] = value })
      end
    end
  end)

  it("of a connection raises and is named", function()
    for name, values in pairs(connection) do
      for _, value in ipairs(values) do raises(("wrap: option '%s'"):format(name), wrap, { [name] = value }) end
    end
  end)

  it("no table at all raises", function()
    for _, value in ipairs { 1, "x", true } do
      raises("a table of options expected", tls.context, value)
      raises("a table of options expected", wrap, value)
    end
  end)
end)

describe("a value that is refused", function()
  it("of a context is an error with the option's name", function()
    local server = { role = "server", certificate = LEAF.certificate, key = LEAF.key }
    local function with(base, name, value)
      local options = {}
      for k, v in pairs(base) do options[k] = v end
      options[name] = value
      return options
    end
    refused("role: ", tls.context { role = "Server", certificate = LEAF.certificate, key = LEAF.key })
    refused("role: ", tls.context { role = "peer" })
    for _, version in ipairs { "9.9", "", "tls1.2", "SSLv3", "TLSv1.4", 2, 1.25 } do
      refused("min_version: ", tls.context { min_version = version })
      refused("max_version: ", tls.context { max_version = version })
    end
    refused("max_version: ", tls.context { max_version = "1.1" }) -- below the default floor
    refused("max_version: ", tls.context { min_version = "1.3", max_version = "1.2" })
    refused("verify_client: ", tls.context(with(with(server, "ca", CA), "verify_client", "maybe")))
    refused("verify_client: ", tls.context(with(server, "verify_client", "require"))) -- without ca
    refused("verify_client: ", tls.context { verify_client = "require", ca = CA }) -- a client
    refused("insecure: ", tls.context(with(server, "insecure", true)))
    refused("alpn: ", tls.context { alpn = { "" } })
    refused("alpn: ", tls.context { alpn = { ("x"):rep(256) } })
    local many = {}
    for i = 1, 300 do many[i] = ("x"):rep(250) .. i end
    refused("alpn: ", tls.context { alpn = many })
    refused("certificate: ", tls.context { role = "server" })
    refused("certificate", tls.context { role = "server", key = LEAF.key })
    refused("key: ", tls.context { key = LEAF.key })
    refused("key: ", tls.context { role = "server", certificate = LEAF.certificate })
  end)

  it("of a connection, too", function()
    refused("transport: ", wrap { server_name = "x", transport = "carrier pigeon" })
    refused("alpn: ", wrap { server_name = "x", alpn = { "" } })
    for _, name in ipairs { "a\0b", "a..b", ".a", "", ".", "m\195\188ller.example", "has space", "a\nb", ("x"):rep(64),
      ("x."):rep(127) .. "y", "1:2", "[::1]", "a\127b" } do
      refused("server_name: ", wrap { server_name = name })
      refused("verify_name: ", wrap { verify_name = name })
      refused("verify_name: ", wrap { verify_name = { "fine.example", name } })
    end
    refused("server_name: ", wrap {}) -- a client that verifies needs a name
    refused("server_name: ", wrap())
  end)

  it("is for the other side", function()
    for _, name in ipairs { "on_client_hello", "on_server_name", "on_alpn", "on_session_get", "on_session_remove",
      "on_ticket_key", "on_ocsp" } do
      refused(name .. ": is for servers", tls.context { [name] = print })
    end
    for name, value in pairs { server_name = "x", verify_name = "x", session = "x", session_key = "x", early_data = "x",
      dane = { { usage = 3, selector = 0, matching_type = 0, data = "x" } } } do
      refused(name .. ": is for clients", wrap({ [name] = value }, helper.contexts().server))
    end
  end)

  it("of a connection leaves the transport to the caller", function()
    local fd, other = helper.socketpair()
    refused("alpn: ", helper.contexts().client:wrap(fd, { server_name = "x", alpn = { "" } }))
    refused("server_name: ", helper.contexts().client:wrap(fd, {}))
    collectgarbage()
    collectgarbage()
    assert.equal(1, helper.write_fd(fd, "x")) -- it is open
    helper.close_fd(fd)
    helper.close_fd(other)
  end)
end)

describe("min_version and max_version", function()
  local function version(client, server)
    local got, conn = shake {
      client = helper.client_context(client),
      server = helper.server_context(server),
    }
    return got.client and conn:version(), got
  end

  it("decide what is negotiated; both forms, text or number", function()
    assert.equal("TLSv1.3", (version({}, {})))
    for _, two in ipairs { "1.2", "TLSv1.2", 1.2 } do
      assert.equal("TLSv1.2", (version({ max_version = two }, {})))
      assert.equal("TLSv1.2", (version({}, { max_version = two })))
    end
    for _, three in ipairs { "1.3", "TLSv1.3", 1.3 } do
      assert.equal("TLSv1.3", (version({ min_version = three }, {})))
      assert.equal("TLSv1.3", (version({}, { min_version = three })))
    end
  end)

  it("without a version in common both sides fail, with the alert", function()
    for _, case in ipairs { { { max_version = "1.2" }, { min_version = "1.3" } },
      { { min_version = "1.3" }, { max_version = "1.2" } } } do
      local ok, got = version(case[1], case[2])
      assert.is_nil(ok)
      assert.equal("alert", got.client_err.code)
      assert.equal("protocol_version", got.client_err.alert.name)
      assert.is_false(got.client_err.alert.sent)
      assert.equal("tls", got.server_err.code)
      assert.is_true(got.server_err.alert.sent)
      assert.equal(70, got.server_err.alert.number)
    end
  end)

  it("the floor is TLS 1.2 unless told otherwise", function()
    -- openssl would speak TLS 1.0 and 1.1 here, the security level lowered
    for _, flag in ipairs { "-tls1", "-tls1_1" } do
      local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.contexts().server }))
      helper.in_loop(function()
        local err
        require("cotls.luv").spawn(function()
          local conn = listener()
          err = select(2, conn:accept())
        end)
        local status = helper.run { "openssl", "s_client", flag, "-cipher", "ALL:@SECLEVEL=0", "-connect",
          "127.0.0.1:" .. listener:port() }
        assert.is_true(status ~= 0)
        assert.equal("tls", err.code)
        assert.equal("protocol_version", err.alert.name)
      end)
      listener:close()
    end
  end)
end)

describe("alpn", function()
  local function negotiate(client, server, client_options, server_options)
    local got, c, s = shake({
      client = helper.client_context { alpn = client },
      server = helper.server_context { alpn = server },
    }, client_options, server_options)
    return got, got.client and c:alpn(), got.server and s:alpn()
  end

  it("the server's order decides", function()
    local _, client, server = negotiate({ "http/1.1", "h2" }, { "h2", "http/1.1" })
    assert.equal("h2", client)
    assert.equal("h2", server)
  end)

  it("per connection it replaces the context's, on both sides", function()
    local _, client, server = negotiate({ "a" }, { "b" }, { alpn = { "c", "d" } }, { alpn = { "d", "c" } })
    assert.equal("d", client)
    assert.equal("d", server)
  end)

  it("names are bytes of any kind, up to 255", function()
    local odd, long = "\0\255\n", ("x"):rep(255)
    local _, client = negotiate({ "a", odd }, { odd })
    assert.equal(odd, client)
    _, client = negotiate({ long }, { "y", long })
    assert.equal(long, client)
  end)

  it("with none on one side nothing is negotiated", function()
    local got, client, server = negotiate({ "h2" }, nil)
    assert.is_truthy(got.client)
    assert.is_nil(client)
    assert.is_nil(server)
    got, client, server = negotiate(nil, { "h2" })
    assert.is_truthy(got.client)
    assert.is_nil(client)
    assert.is_nil(server)
  end)

  it("without one in common both sides fail with no_application_protocol", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local got = shake {
        client = helper.client_context { alpn = { "a" }, max_version = version },
        server = helper.server_context { alpn = { "b" }, max_version = version },
      }
      assert.equal("alert", got.client_err.code)
      assert.same({ "no_application_protocol", 120, false },
        { got.client_err.alert.name, got.client_err.alert.number, got.client_err.alert.sent })
      assert.equal("tls", got.server_err.code)
      assert.same({ "no_application_protocol", true }, { got.server_err.alert.name, got.server_err.alert.sent })
    end
  end)
end)

describe("verify_client", function()
  local good = helper.leaf { subject = "CN=client" }
  local foreign = helper.leaf { subject = "CN=stranger", ca = helper.other_ca }

  local function ask(mode, own, version)
    own = own or {}
    return shake {
      client = helper.client_context { certificate = own.certificate, key = own.key, max_version = version },
      server = helper.server_context { verify_client = mode, ca = mode ~= "none" and CA or nil },
    }
  end

  for _, version in ipairs { "1.2", "1.3" } do
    it("over TLS " .. version, function()
      local got, _, server = ask("none", good, version)
      assert.is_truthy(got.server)
      assert.is_nil(server:peer_certificate())

      got, _, server = ask("optional", nil, version)
      assert.is_truthy(got.server and got.client)
      assert.is_nil(server:peer_certificate())

      for _, mode in ipairs { "optional", "require" } do
        got, _, server = ask(mode, good, version)
        assert.is_truthy(got.server and got.client)
        assert.equal(good.certificate, server:peer_certificate():pem())
        assert.equal(0, server:verify_result().code)

        got = ask(mode, foreign, version)
        assert.equal("verify", got.server_err.code)
        assert.equal("CN=stranger", got.server_err.verify.subject)
        assert.equal("alert", got.client_err.code)
        assert.equal("unknown_ca", got.client_err.alert.name)
      end

      got = ask("require", nil, version)
      assert.is_nil(got.server)
      assert.equal("tls", got.server_err.code)
      assert.is_true(got.server_err.alert.sent)
      assert.equal("alert", got.client_err.code)
      assert.equal(version == "1.3" and "certificate_required" or "handshake_failure", got.client_err.alert.name)
    end)
  end

  it("an expired one is refused", function()
    local got = ask("require", helper.leaf { days = -1 })
    assert.equal("verify", got.server_err.code)
    assert.equal(10, got.server_err.verify.code) -- X509_V_ERR_CERT_HAS_EXPIRED
    assert.equal("certificate_expired", got.client_err.alert.name)
  end)
end)

describe("insecure", function()
  it("verifies neither chain nor name", function()
    local foreign = helper.leaf { ca = helper.other_ca, names = { "elsewhere.example" }, days = -1 }
    local contexts = {
      client = helper.client_context { insecure = true },
      server = helper.server_context { certificate = foreign.certificate, key = foreign.key },
    }
    local client, server = helper.pair(nil, { server_name = "localhost" }, nil, contexts)
    helper.shake(client, server)
    assert.is_true(client:verify_result().code ~= 0) -- and says what it has not demanded
    assert.equal(foreign.certificate, client:peer_certificate():pem())
    local conn = assert(wrap(nil, contexts.client)) -- nor needs it a name
    conn:close()
    local secure = helper.client_context { insecure = false, ca = CA }
    assert.is_truthy(shake({ client = secure, server = helper.contexts().server }).client)
  end)
end)

describe("timeout, handshake_timeout, read_limit, scheduler", function()
  local function timed(contexts, client_options, how)
    local client, server = helper.pair(nil, client_options, nil, contexts)
    if how == "read" then
      client, server = helper.handshaken(nil, client_options, nil, contexts)
    end
    local started = tls.now()
    local ok, err
    if how == "read" then ok, err = client:read(1) else ok, err = client:connect() end
    local took = tls.now() - started
    server:close()
    assert.is_nil(ok)
    assert.equal("timeout", err.code)
    return took, client
  end

  it("of a context hold for its connections; of a connection, over those", function()
    local short = { client = helper.client_context { timeout = 0.02 }, server = helper.contexts().server }
    for _, how in ipairs { "read", "connect" } do
      local took = timed(short, nil, how)
      assert.is_true(took >= 0.019 and took < 1 * helper.slow)
      took = timed(short, { timeout = 0.1 }, how)
      assert.is_true(took >= 0.099)
    end
    short.client = helper.client_context { handshake_timeout = 0.02 }
    local took, client = timed(short, nil, "connect")
    assert.is_true(took >= 0.019 and took < 1 * helper.slow)
    assert.is_nil(client:fileno()) -- the handshake's own time is over: it is closed
    took = timed(short, { handshake_timeout = 0.1 }, "connect")
    assert.is_true(took >= 0.099)
  end)

  it("false means none", function()
    local contexts = { client = helper.client_context { timeout = 0.02, handshake_timeout = 0.02 },
      server = helper.contexts().server }
    local client, server = helper.pair(nil, { timeout = false, handshake_timeout = false }, nil, contexts)
    local co = coroutine.create(function() return client:connect() end)
    assert.same({ true, client, "read", nil }, { coroutine.resume(co) })
    client:close()
    server:close()
  end)

  it("0 never waits, and leaves the handshake to be gone on with", function()
    local client, server = helper.pair(nil, { timeout = 0 }, { timeout = 0 })
    local ok, err = client:connect()
    assert.is_nil(ok)
    assert.equal("want_read", err.code)
    assert.is_false(client:handshake_done())
    for _ = 1, 10 do
      server:accept()
      client:connect()
    end
    assert.is_true(client:handshake_done() and server:handshake_done())
  end)

  it("read_limit bounds a line", function()
    for _, case in ipairs { { nil, { read_limit = 10 } }, { { read_limit = 10 }, nil },
      { { read_limit = 10 }, { read_limit = 1000 } } } do
      local contexts = { client = helper.client_context(case[2]), server = helper.contexts().server }
      local client, server = helper.handshaken(nil, case[1], nil, contexts)
      helper.together { function() assert(server:write("0123456789\n0123456789a\n")) end }
      assert.equal("0123456789", client:read("l"))
      local line, err = client:read("l")
      assert.is_nil(line)
      assert.equal("limit", err.code)
      assert.equal("0123456789a\n", client:recv(100)) -- and loses nothing
      client:close()
      server:close()
    end
  end)

  it("a scheduler of the connection comes before the context's, that before the module's", function()
    local function scheduler(name, asked)
      return { blocking = true, wait = function()
        asked[#asked + 1] = name
        return nil, "timeout"
      end }
    end
    local asked = {}
    tls.scheduler = scheduler("module", asked)
    local contexts = { client = helper.client_context { scheduler = scheduler("context", asked) },
      server = helper.contexts().server }
    local pairs_of = {
      { helper.pair(nil, { scheduler = scheduler("connection", asked) }, nil, contexts) },
      { helper.pair(nil, nil, nil, contexts) },
      { helper.pair() },
    }
    for _, pair in ipairs(pairs_of) do
      local _, err = pair[1]:connect()
      assert.equal("timeout", err.code)
    end
    tls.scheduler = nil
    assert.same({ "connection", "context", "module" }, asked)
  end)
end)

describe("owns and transport", function()
  it("the transport is closed with the connection, unless owns is false", function()
    for _, owns in ipairs { true, false } do
      local a, b = helper.socketpair()
      local conn = assert(helper.contexts().server:wrap(a, { owns = owns }))
      assert.equal(a, conn:transport())
      conn:close()
      local n, name = helper.write_fd(b, "x")
      if owns then
        assert.equal("EPIPE", name)
      else
        assert.equal(1, n)
        helper.close_fd(a)
      end
      helper.close_fd(b)
    end
  end)

  it("transport = \"fd\" is what a descriptor is anyway", function()
    local conn = assert(wrap { server_name = "x", transport = "fd" })
    conn:close()
  end)
end)

describe("options that a metatable gives", function()
  it("are checked like any others", function()
    local function inherit(options) return setmetatable({}, { __index = options }) end
    assert.error_matches(function() tls.context(inherit { insecure = "no, please" }) end, "insecure")
    assert.error_matches(function() tls.connect("localhost", 1, inherit { alpn = 5 }) end, "alpn")
    local context, err = tls.context(inherit { min_version = "9.9" })
    assert.is_nil(context)
    assert.matches("min_version", err.reason)
  end)
end)
