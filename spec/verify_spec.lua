local compat = require "cotls.compat"
local tls = require "cotls"
local helper = require "spec.helper"

local CA = helper.ca.certificate

-- What comes of a client (with connection options) and a server with that leaf.
local function meet(leaf, options, client_context)
  local client, server = helper.pair(nil, options, nil, {
    client = client_context or helper.contexts().client,
    server = helper.server_context { certificate = leaf.certificate, key = leaf.key },
  })
  local mine, theirs = helper.meet(client, server)
  if mine[1] then client:close() end
  return mine[1], mine[2], theirs[2], client, server
end

-- Refused with that code of X509_verify_cert_error_string(3), text of it, and alert.
local function refused(leaf, options, code, text, alert, context)
  local ok, err, seen, client, server = meet(leaf, options, context)
  assert.is_nil(ok)
  assert.equal("verify", err.code)
  assert.equal("connect", err.operation)
  assert.equal(code, err.verify.code)
  assert.matches(text, err.verify.text)
  assert.equal("integer", compat.math_type(err.verify.depth))
  assert.is_string(err.verify.subject)
  assert.is_truthy(tostring(err):find(err.verify.text, 1, true))
  assert.is_truthy(tostring(err):find(err.verify.subject, 1, true))
  assert.same({ alert, true }, { err.alert.name, err.alert.sent })
  assert.equal(alert, tostring(err.alert))
  -- the connection is closed, never plaintext
  assert.is_nil(client:fileno())
  assert.is_false(client:handshake_done())
  local _, closed = client:write("secret")
  assert.equal("closed", closed.code)
  assert.equal(code, client:verify_result().code)
  -- the peer is told
  assert.equal("alert", seen.code)
  assert.same({ alert, false }, { seen.alert.name, seen.alert.sent })
  server:close()
  return err
end

local function accepted(leaf, options)
  local ok, err, _, client, server = meet(leaf, options)
  assert.is_truthy(ok, tostring(err))
  assert.equal(0, client:verify_result().code)
  server:close()
end

local HOSTNAME_MISMATCH, IP_MISMATCH = 62, 64

local function wrong_name(leaf, options)
  local err = refused(leaf, options, HOSTNAME_MISMATCH, "[Hh]ostname mismatch", "bad_certificate")
  assert.equal(0, err.verify.depth)
  return err
end

local function wrong_ip(leaf, options)
  local err = refused(leaf, options, IP_MISMATCH, "IP address mismatch", "bad_certificate")
  assert.equal(0, err.verify.depth)
end

local function named(...)
  return helper.leaf { names = { ... }, subject = "CN=named" }
end

describe("the chain:", function()
  it("an unknown CA is refused", function()
    local err = refused(helper.leaf { ca = helper.other_ca }, nil, 20, "unable to get local issuer", "unknown_ca")
    assert.equal("CN=leaf", err.verify.subject)
    assert.equal(0, err.verify.depth)
  end)

  it("a CA of the same name and another key is refused", function()
    local twin = assert(tls.make_certificate { subject = "CN=Test CA", is_ca = true })
    local ok, err = meet(helper.leaf { ca = twin })
    assert.is_nil(ok)
    assert.equal("verify", err.code)
  end)

  it("a self-signed certificate is refused, unless it is trusted itself", function()
    local own = helper.leaf { ca = false }
    refused(own, nil, 18, "self.signed certificate", "unknown_ca")
    local context = assert(tls.context { ca = own.certificate })
    local ok, err, _, _, server = meet(own, nil, context)
    assert.is_truthy(ok, tostring(err))
    server:close()
  end)

  it("a self-signed CA in the chain that isn't trusted is refused, with its depth", function()
    local leaf = helper.leaf { ca = helper.other_ca }
    leaf.certificate = leaf.certificate .. helper.other_ca.certificate
    local err = refused(leaf, nil, 19, "self.signed certificate in", "unknown_ca")
    assert.equal(1, err.verify.depth)
    assert.equal("CN=Other CA", err.verify.subject)
  end)

  it("an expired certificate is refused, and an expired CA, with its depth", function()
    local err = refused(helper.leaf { days = -1 }, nil, 10, "expired", "certificate_expired")
    assert.equal(0, err.verify.depth)
    local old = assert(tls.make_certificate { subject = "CN=Old", is_ca = true, days = -1 })
    err = refused(helper.leaf { ca = old }, nil, 10, "expired", "certificate_expired",
      assert(tls.context { ca = old.certificate }))
    assert.equal(1, err.verify.depth)
    assert.equal("CN=Old", err.verify.subject)
  end)

  it("a leaf can't issue", function()
    local leaf = helper.leaf()
    local under = helper.leaf { ca = leaf }
    under.certificate = under.certificate .. leaf.certificate
    local ok, err = meet(under)
    assert.is_nil(ok)
    assert.equal("verify", err.code)
    assert.is_true(err.verify.depth >= 0)
  end)

  it("a certificate for something else is refused", function()
    -- a CA's own certificate is no server's name, but its chain is fine: the name decides
    wrong_name({ certificate = CA, key = helper.ca.key }, { server_name = "localhost" })
  end)
end)

describe("the name:", function()
  it("is looked for in the SAN only: a CN alone is no name", function()
    local no_san = assert(tls.make_certificate { subject = "CN=localhost", ca = helper.ca })
    wrong_name(no_san, { server_name = "localhost" })
    local other_san = helper.leaf { subject = "CN=localhost", names = { "other.example" } }
    wrong_name(other_san, { server_name = "localhost" })
    local only_ip = helper.leaf { subject = "CN=localhost", names = { "127.0.0.1" } }
    wrong_name(only_ip, { server_name = "localhost" })
  end)

  it("matches in any case, and with a trailing dot", function()
    local leaf = named("Some.Example")
    accepted(leaf, { server_name = "some.example" })
    accepted(leaf, { server_name = "SOME.EXAMPLE" })
    accepted(leaf, { server_name = "some.example." })
    wrong_name(leaf, { server_name = "some.example.org" })
    wrong_name(leaf, { server_name = "a.some.example" })
    wrong_name(leaf, { server_name = "example" })
  end)

  it("a wildcard stands for one whole label, the first", function()
    local leaf = named("*.w.example")
    accepted(leaf, { server_name = "a.w.example" })
    accepted(leaf, { server_name = "any-thing.W.example" })
    for _, name in ipairs { "w.example", "a.b.w.example", "aw.example", "a.w.example.org" } do
      wrong_name(leaf, { server_name = name })
    end
    for _, pattern in ipairs { "f*.w.example", "*f.w.example", "f*o.w.example" } do
      wrong_name(named(pattern), { server_name = "foo.w.example" })
    end
    wrong_name(named("a.*.example"), { server_name = "a.b.example" })
    wrong_name(named("*.*.example"), { server_name = "a.b.example" })
    wrong_name(named("*"), { server_name = "localhost" })
    wrong_name(named("*.example"), { server_name = "a.b.example" })
  end)

  it("a leading dot in a name asks for no subdomain", function()
    local options = { server_name = ".w.example" }
    local fd, other = helper.socketpair()
    local conn, err = helper.contexts().client:wrap(fd, options)
    assert.is_nil(conn)
    assert.matches("empty label", err.reason)
    helper.close_fd(fd)
    helper.close_fd(other)
  end)

  it("an address is looked for in the SAN's addresses only", function()
    local leaf = named("10.1.2.3", "2001:db8::7")
    accepted(leaf, { server_name = "10.1.2.3" })
    accepted(leaf, { server_name = "2001:db8::7" })
    accepted(leaf, { server_name = "2001:0DB8:0:0:0:0:0:7" })
    wrong_ip(leaf, { server_name = "10.1.2.4" })
    wrong_ip(leaf, { server_name = "2001:db8::8" })
    wrong_name(leaf, { server_name = "named" })
    -- an address as CN, or in the shape of a DNS name, is none
    wrong_ip(helper.leaf { subject = "CN=10.1.2.3", names = { "other.example" } }, { server_name = "10.1.2.3" })
    wrong_ip(named("*.1.2.3.example"), { server_name = "10.1.2.3" })
  end)

  it("verify_name is checked instead of server_name", function()
    local leaf = named("real.example")
    accepted(leaf, { server_name = "front.example", verify_name = "real.example" })
    wrong_name(leaf, { server_name = "real.example", verify_name = "other.example" })
    accepted(leaf, { server_name = "front.example", verify_name = "real.example." })
  end)

  it("of a list of verify_name any will do, addresses among them", function()
    local leaf = named("real.example", "10.1.2.3")
    accepted(leaf, { verify_name = { "a.example", "real.example" } })
    accepted(leaf, { verify_name = { "a.example", "10.1.2.3" } })
    accepted(leaf, { verify_name = { "10.9.9.9", "10.1.2.3" } })
    accepted(leaf, { verify_name = { "10.9.9.9", "::1", "real.example" } })
    wrong_name(leaf, { verify_name = { "a.example", "10.9.9.9" } })
    wrong_ip(leaf, { verify_name = { "10.9.9.9", "a.example" } })
  end)

  it("over both versions alike", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local context = helper.client_context { max_version = version }
      refused(named("other.example"), { server_name = "localhost" }, HOSTNAME_MISMATCH, "mismatch", "bad_certificate",
        context)
    end
  end)

  it("a name that passes doesn't save a bad chain", function()
    refused(helper.leaf { ca = helper.other_ca, names = { "localhost" } }, nil, 20, "issuer", "unknown_ca")
  end)

  it("what one connection found out doesn't reach the next", function()
    local context = helper.contexts().client
    for _ = 1, 3 do
      wrong_name(named("other.example"), { server_name = "localhost" })
      local ok, err, _, client, server = meet(helper.server_leaf, nil, context)
      assert.is_truthy(ok, tostring(err))
      assert.same({ code = 0, text = "ok" }, client:verify_result())
      server:close()
    end
  end)
end)

describe("SNI", function()
  local function sent(options)
    local client, server = helper.pair(nil, options, nil, { client = helper.client_context { insecure = true },
      server = helper.contexts().server })
    helper.shake(client, server)
    local name = server:server_name()
    assert.equal(name, client:server_name())
    client:close()
    assert.equal(name, client:server_name()) -- recorded
    server:close()
    return name
  end

  it("is the server_name, without a trailing dot", function()
    assert.equal("some.example", sent { server_name = "some.example" })
    assert.equal("some.example", sent { server_name = "some.example." })
    assert.equal("x_y.example", sent { server_name = "x_y.example" })
    assert.equal(("x"):rep(63) .. ".example", sent { server_name = ("x"):rep(63) .. ".example" })
  end)

  it("is not sent for an address", function()
    for _, address in ipairs { "127.0.0.1", "::1", "2001:db8::1" } do
      assert.is_nil(sent { server_name = address })
    end
  end)

  it("is not sent for a verify_name", function()
    local client, server = helper.pair(nil, { server_name = nil, verify_name = "x" }, nil,
      { client = helper.client_context { insecure = true }, server = helper.contexts().server })
    client:close()
    server:close()
    local fd, other = helper.socketpair()
    client = assert(helper.contexts().client:wrap(fd, { verify_name = "localhost" }))
    server = assert(helper.contexts().server:wrap(other))
    helper.shake(client, server)
    assert.is_nil(server:server_name())
    client:close()
    server:close()
  end)
end)
