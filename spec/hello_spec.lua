local bytes = require "spec.bytes"
local helper = require "spec.helper"
local hello = require "spec.hello"

local CA = helper.ca.certificate
local NAME = hello.SERVER_NAME

-- What OpenSSL makes of it, with a door that takes every name, and with a strict one.
local DECODE_ERROR, UNRECOGNIZED = 50, 112
local oddities = {
  { "two names", hello.server_name("www.example.org", "localhost"), DECODE_ERROR },
  { "one name twice", hello.server_name("www.example.org", "www.example.org"), DECODE_ERROR },
  { "an empty list", hello.server_name(), DECODE_ERROR },
  { "nothing", "", DECODE_ERROR },
  { "an empty name", hello.server_name(""), "ServerHello" },
  { "a name with NUL", hello.server_name("www.example.org\0.example.net"), UNRECOGNIZED },
  { "a name that ends with NUL", hello.server_name("www.example.org\0"), UNRECOGNIZED },
  { "255 bytes", hello.server_name(("a"):rep(255)), "ServerHello" },
  { "256 bytes", hello.server_name(("a"):rep(256)), UNRECOGNIZED },
  { "1000 bytes", hello.server_name(("a."):rep(500)), UNRECOGNIZED },
  { "15000 bytes", hello.server_name(("a"):rep(15000)), UNRECOGNIZED },
  { "another type of name", bytes.pack(">s2", hello.entry("www.example.org", 1)), DECODE_ERROR },
  { "a byte too many", hello.server_name("www.example.org") .. "x", DECODE_ERROR },
  { "a byte too few", hello.server_name("www.example.org"):sub(1, -2), DECODE_ERROR },
  { "a list too long", bytes.pack(">I2", 100) .. hello.entry("www.example.org"), DECODE_ERROR },
  { "a dot", hello.server_name("."), "ServerHello" },
  { "dots", hello.server_name("..."), "ServerHello" },
  { "no name", false, "ServerHello" },
  { "what is not ASCII", hello.server_name("www.\255example.org"), "ServerHello" },
  { "a wildcard's rest", hello.server_name(".example.org"), "ServerHello" },
}

for _, version in ipairs { "1.2", "1.3" } do
  describe("a server name on " .. version .. " that is", function()
    -- Whoever gets in there without a certificate is not a client of ours.
    local inner = helper.server_context { verify_client = "require", ca = CA }
    local names = { ["www.example.org"] = inner, ["*.example.org"] = inner }
    local door = helper.server_context { names = names }
    local strict = helper.server_context { names = names, strict_names = true }
    local record = hello.of(helper.client_context { min_version = version, max_version = version },
      { server_name = "localhost" })

    for _, one in ipairs(oddities) do
      it(one[1], function()
        local odd = hello.with(record, NAME, one[2])
        assert.equal(one[3], (hello.meet(helper.server_context(), odd)))
        assert.equal(one[3], (hello.meet(door, odd)))
        local alert, err = hello.meet(strict, odd)
        assert.equal(UNRECOGNIZED, alert)
        assert.same({ "tls", "the client asks for no server name of names" }, { err.code, err.reason })
      end)
    end

    it("one of names, with a dot behind it and in other letters", function()
      for _, name in ipairs { "www.example.org", "www.example.org.", "WWW.EXAMPLE.ORG", "a.example.org." } do
        assert.equal("ServerHello", (hello.meet(strict, hello.with(record, NAME, hello.server_name(name)))))
      end
    end)
  end)
end

-- What comes of it is nobody's matter, as long as it comes to an end.
describe("a ClientHello with a wrong byte", function()
  local inner = helper.server_context { alpn = { "a" }, groups = "P-384" }
  local server = helper.server_context { names = { ["www.example.org"] = inner }, groups = "P-384", max_early_data = 9 }
  local client = helper.client_context { groups = "X25519:P-384" }
  local record = hello.of(client, { server_name = "www.example.org", alpn = { "a", "b" } })

  local function offer(data, verb)
    local a, b = helper.socketpair()
    local conn = assert(server:wrap(b, { timeout = 0 }))
    assert(helper.write_fd(a, data))
    local ok, err = conn[verb](conn)
    assert.is_nil(ok)
    assert.is_true(err == nil or err.code == "tls" or err.code == "want_read", tostring(err))
    conn:close()
    helper.close_fd(a)
  end

  it("is refused, or none", function()
    for i = 1, #record do
      for _, bits in ipairs { 1, 0xFF } do
        local odd = bytes.flip(record, i, bits)
        offer(odd, i % 2 == 0 and "accept" or "read_early")
      end
    end
    for i = 1, #record - 1 do offer(record:sub(1, i), "accept") end
  end)

  it("is refused after a HelloRetryRequest", function()
    local count = helper.slow > 1 and 40 or 120
    for i = 1, count do
      local alert = hello.retry(server, client, { server_name = "www.example.org" }, function(second)
        local at = 10 + (i * 7919) % (#second - 10) -- the lengths of record and message stay
        return bytes.flip(second, at, 0xFF)
      end)
      assert.is_truthy(alert)
    end
  end)
end)

describe("after a HelloRetryRequest", function()
  local open = helper.server_context { groups = "P-384" }
  local closed = helper.server_context { groups = "P-384", verify_client = "require", ca = CA }
  local server = helper.server_context { groups = "P-384", names = {
    ["open.example.org"] = open, ["closed.example.org"] = closed,
  } }
  local client = helper.client_context { groups = "X25519:P-384" }

  local function second(first, name)
    return hello.retry(server, client, { server_name = first }, function(record)
      return hello.with(record, NAME, name and hello.server_name(name))
    end)
  end

  it("the name stays", function()
    for _, name in ipairs { "open.example.org", "closed.example.org", "localhost" } do
      assert.equal("ServerHello", (second(name, name)))
    end
  end)

  it("another name is refused, whichever context it was that answered the first", function()
    for _, names in ipairs {
      { "open.example.org", "closed.example.org" }, { "closed.example.org", "open.example.org" },
      { "open.example.org", "localhost" }, { "open.example.org", false },
      { "localhost", "closed.example.org" }, { "localhost", "open.example.org" },
    } do
      local alert, err, conn = second(names[1], names[2])
      assert.equal(47, alert)
      assert.same({ "tls", "the client has changed the server name it asks for", "illegal_parameter" },
        { err.code, err.reason, err.alert.name })
      assert.is_nil(conn:group())
    end
  end)

  it("another name is no matter to a context that is its own door", function()
    local alert = hello.retry(open, client, { server_name = "open.example.org" }, function(record)
      return hello.with(record, NAME, hello.server_name("localhost"))
    end)
    assert.equal("ServerHello", alert)
  end)
end)
