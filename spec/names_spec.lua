local tls = require "cotls"
local helper = require "spec.helper"
local visits = require "spec.visit"

local CA = helper.ca.certificate

-- A server's context with a certificate for those names.
local function context(options, ...)
  local leaf = helper.leaf { names = { ... }, subject = "CN=" .. (...) }
  return helper.server_context(helper.with({ certificate = leaf.certificate, key = leaf.key }, options))
end

-- What a client that asks for the name, and the server, come to.
local function visit(server, name, client_options, options)
  options = options or {}
  options.server_name = name
  return visits.greet(helper.client_context(client_options), server, options)
end

local function good(...) return visits.well(visit(...)) end

describe("names", function()
  local exact = context({}, "www.example.org")
  local wild = context({}, "*.example.org")
  local server = context({ names = { ["www.example.org"] = exact, ["*.Example.org"] = wild } }, "localhost")

  it("choose the exact name, then the wildcard of one label, else the context itself", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local only = { min_version = version, max_version = version }
      good(server, "www.example.org", only)
      good(server, "WWW.Example.Org", only)
      good(server, "other.example.org", only)
      good(server, "localhost", only)
      assert.equal(62, visit(server, "a.b.example.org", only).err.verify.code)
      assert.equal(62, visit(server, "example.org", only).err.verify.code)
    end
    assert.equal("www.example.org", good(server, "www.example.org").server:server_name())
  end)

  it("leave the connection's context what it was wrapped with", function()
    assert.equal(server, good(server, "www.example.org").server:context())
  end)

  for _, strict in ipairs { "by option", "without a certificate of its own" } do
    it("refuse others with unrecognized_name, strict " .. strict, function()
      local options = { names = { ["www.example.org"] = exact } }
      local one = strict == "by option" and options or nil
      if one then one.strict_names = true end
      local ctx = one and context(one, "localhost") or assert(tls.context { role = "server", names = options.names })
      good(ctx, "www.example.org")
      for _, name in ipairs { "localhost", "127.0.0.1" } do
        local got = visit(ctx, name)
        assert.equal("alert", got.err.code)
        assert.same({ "unrecognized_name", false }, { got.err.alert.name, got.err.alert.sent })
        assert.same({ "unrecognized_name", true }, { got.server_err.alert.name, got.server_err.alert.sent })
        assert.matches("server name", got.server_err.reason)
      end
    end)
  end
end)

describe("a name's context brings", function()
  local function under(options)
    return context({ names = { ["www.example.org"] = context(options, "www.example.org") } }, "localhost")
  end

  for _, version in ipairs { "1.2", "1.3" } do
    it("its verify mode and its trust, on " .. version, function()
      local only = { min_version = version, max_version = version }
      local server = under { verify_client = "require", ca = CA }
      good(server, "localhost", only)
      assert.equal(version == "1.2" and "handshake_failure" or "certificate_required",
        visit(server, "www.example.org", only).err.alert.name)
      for issuer, alert in pairs { [helper.ca] = "none", [helper.other_ca] = "unknown_ca" } do
        local own = helper.leaf { ca = issuer, subject = "CN=client" }
        only.certificate, only.key = own.certificate, own.key
        local got = visit(server, "www.example.org", only)
        assert.equal(alert, got.ok and "none" or got.err.alert.name)
      end
    end)
  end

  it("no verification where the first one asks for certificates", function()
    local inner = context({}, "www.example.org")
    local server = context({ names = { ["www.example.org"] = inner }, verify_client = "require", ca = CA }, "localhost")
    good(server, "www.example.org")
    assert.equal("certificate_required", visit(server, "localhost").err.alert.name)
  end)

  it("its protocol range", function()
    local old = under { max_version = "1.2" }
    assert.equal("TLSv1.2", good(old, "www.example.org").client:version())
    assert.equal("TLSv1.3", good(old, "localhost").client:version())
    local new = under { min_version = "1.3" }
    assert.equal("protocol_version", visit(new, "www.example.org", { max_version = "1.2" }).err.alert.name)
    good(new, "localhost", { max_version = "1.2" })
    local wider = context({ max_version = "1.2", names = {
      ["www.example.org"] = context({ min_version = "1.3" }, "www.example.org") } }, "localhost")
    assert.equal("TLSv1.3", good(wider, "www.example.org").client:version())
  end)

  it("its ALPN", function()
    local server = context({ alpn = { "outer" }, names = {
      ["www.example.org"] = context({ alpn = { "inner" } }, "www.example.org"),
      ["plain.example.org"] = context({}, "plain.example.org"),
    } }, "localhost")
    local both = { alpn = { "outer", "inner" } }
    assert.equal("outer", good(server, "localhost", nil, both).server:alpn())
    assert.equal("inner", good(server, "www.example.org", nil, both).server:alpn())
    assert.is_nil(good(server, "plain.example.org", nil, both).server:alpn())
    local got = visit(server, "www.example.org", nil, { alpn = { "outer" } })
    assert.equal("no_application_protocol", got.err.alert.name)
    assert.equal("no_application_protocol", got.server_err.alert.name)
  end)
end)

describe("a listener", function()
  it("leaves ALPN to the context of the name", function()
    helper.in_loop(function()
      local luv = require "cotls.luv"
      local inner = context({ alpn = { "inner" } }, "www.example.org")
      local listener = assert(tls.listen("127.0.0.1", 0, { certificate = helper.server_leaf.certificate,
        key = helper.server_leaf.key, alpn = { "outer" }, names = { ["www.example.org"] = inner } }))
      luv.spawn(function()
        helper.each(listener, function(conn)
          assert(conn:accept())
          conn:close()
        end)
      end)
      for name, protocol in pairs { localhost = "outer", ["www.example.org"] = "inner" } do
        local conn = assert(tls.connect("127.0.0.1", listener:port(), { ca = CA, server_name = name,
          alpn = { "outer", "inner" } }))
        assert.equal(protocol, conn:alpn())
        conn:close()
      end
      listener:close()
    end)
  end)
end)

describe("names that can't be used", function()
  local ctx = context({}, "www.example.org")

  it("are refused by name", function()
    local function refused(names, text)
      local value, err = tls.context { role = "server", names = names }
      assert.is_nil(value)
      assert.equal("config", err.code)
      assert.is_truthy(err.reason:find(text, 1, true), err.reason)
    end
    refused({ ["127.0.0.1"] = ctx }, "names: '127.0.0.1': not a server name")
    refused({ ["w*.example.org"] = ctx }, "names: 'w*.example.org': ")
    refused({ ["*.*.org"] = ctx }, "names: '*.*.org': ")
    refused({ ["*"] = ctx }, "names: '*': ")
    refused({ ["a..b"] = ctx }, "names: 'a..b': a name has no empty label")
    refused({ ["a.b"] = ctx, ["A.b"] = ctx }, "stands there twice")
    refused({ ["a.b"] = helper.client_context() }, "names: the context of 'a.b' is a client's")
    local value, err = tls.context { names = { ["a.b"] = ctx } }
    assert.is_nil(value)
    assert.equal("names: is for servers", err.reason)
    value, err = tls.context { role = "server", certificate = helper.server_leaf.certificate,
      key = helper.server_leaf.key, strict_names = true }
    assert.is_nil(value)
    assert.equal("strict_names: needs names", err.reason)
  end)

  it("raise where they are of another type", function()
    for _, names in ipairs { {}, { "a" }, { ["a.b"] = true }, { ctx } } do
      local got = next(names) and "table" or "an empty table"
      assert.has_error(function() tls.context { role = "server", names = names } end,
        "tls.context: option 'names': a table of contexts by server name expected, got " .. got)
    end
  end)
end)
