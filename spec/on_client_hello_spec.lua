-- The hello that on_client_hello is given, and what the hook may do, over real handshakes.

local compat = require "cotls.compat"
local bytes = require "spec.bytes"
local helper = require "spec.helper"
local hellos = require "spec.hello"
local hello = require "spec.client_hello"
local luv = require "cotls.luv"
local tls = require "cotls"
local uv = require "luv"
local visits = require "spec.visit"

local ponder = helper.ponder

local CA = helper.ca.certificate
local ca_file = helper.temp_file(CA)

-- A client and a server meet, and a byte goes by: its error or nil, the server's, and the two connections, closed.
local function visit(client, server, options)
  local got = visits.greet(client, server, options)
  visits.close(got)
  return got.err, got.server_err, got.client, got.server
end

local function good(...)
  local err, server_err, a, b = visit(...)
  assert.is_nil(err or server_err, tostring(err) .. "; " .. tostring(server_err))
  return a, b
end

-- ---- other programs ----

-- A port that passes all on to another and keeps what came from the first client.
local function tap(port)
  local seen = { bytes = "" }
  local listener = uv.new_tcp()
  assert(listener:bind("127.0.0.1", 0))
  local function pass(from, to, note)
    from:read_start(function(_, data)
      if data and note then note(data) end
      if data and not to:is_closing() then to:write(data) end
      if data then return end
      for _, one in ipairs { from, to } do
        if not one:is_closing() then one:close() end
      end
    end)
  end
  assert(listener:listen(1, function()
    local near, far = uv.new_tcp(), uv.new_tcp()
    assert(listener:accept(near))
    listener:close()
    far:connect("127.0.0.1", port, function(err)
      assert(not err, err)
      pass(near, far, function(data) seen.bytes = seen.bytes .. data end)
      pass(far, near)
    end)
  end))
  seen.port = listener:getsockname().port
  return seen
end

-- What the hook is given when that program comes, and the bytes that it has sent.
local function met_by(command, context_options)
  local given, seen, accepted
  local options = { on_client_hello = function(_, it)
    given = it
    luv.sleep(0.01)
    return true
  end }
  for name, value in pairs(context_options or {}) do options[name] = value end
  helper.in_loop(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.server_context(options) }))
    seen = tap(listener:port())
    local finished = false
    luv.spawn(function()
      local conn = listener()
      listener:close()
      accepted = compat.pack(conn:accept())
      conn:close()
      finished = true
    end)
    helper.run(command(seen.port), "")
    helper.until_true(function() luv.sleep(0.005) return finished end, "the server's end")
  end)
  assert(accepted[1], tostring(accepted[2]))
  return given, seen.bytes
end

-- It is what the bytes say: by parse_client_hello, and by a reading that has nothing to do with ours.
local function assert_said(given, heard)
  local said = hello.read(hello.message(heard))
  assert.same({ said.types, said.contents, said.server_name, said.alpn, said.random, said.session_id },
    { given.extension_types, given.extensions, given.server_name, given.alpn, given.random, given.session_id })
  assert.same({ hello.ja3(said) }, { given.ja3_text, given.ja3 })
  assert.equal(hello.ja4(said), given.ja4)
  assert.same(tls.parse_client_hello(heard), given())
end

describe("the hello that on_client_hello is given", function()
  it("is openssl's", function()
    for version, flag in pairs { ["1.2"] = "-tls1_2", ["1.3"] = "-tls1_3" } do
      local given, heard = met_by(function(port)
        return { "openssl", "s_client", "-connect", "127.0.0.1:" .. port, "-servername", "www.example.org", flag,
          "-alpn", "h2,http/1.1", "-groups", "P-384:P-256", "-sigalgs", "ed25519:RSA-PSS+SHA256:ECDSA+SHA256",
          "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", "-ciphersuites", "TLS_AES_256_GCM_SHA384" }
      end)
      assert_said(given, heard)
      assert.equal("www.example.org", given.server_name)
      assert.same({ "h2", "http/1.1" }, given.alpn)
      assert.same({ "TLSv" .. version }, given.versions)
      assert.same({ "secp384r1", "secp256r1" }, given.groups)
      assert.same({ "ed25519", "rsa_pss_rsae_sha256", "ecdsa_secp256r1_sha256" }, given.signature_algorithms)
      assert.same({ version == "1.3" and "TLS_AES_256_GCM_SHA384" or "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_EMPTY_RENEGOTIATION_INFO_SCSV" }, given.ciphers)
      assert.equal(0x0303, given.legacy_version)
    end
  end)

  it("is curl's", function()
    local given, heard = met_by(function(port)
      return { "curl", "-s", "--max-time", "10", "--http1.1", "--cacert", ca_file, "https://localhost:" .. port .. "/" }
    end, { alpn = { "http/1.1" } })
    assert_said(given, heard)
    assert.equal("localhost", given.server_name)
    assert.same({ "http/1.1" }, given.alpn)
    assert.matches("^t13d%d%d%d%dh1_", given.ja4)
  end)

  it("is gnutls-cli's, which sends extensions that OpenSSL does not know", function()
    local given, heard = met_by(function(port)
      return { "gnutls-cli", "--x509cafile", ca_file, "--port", tostring(port), "localhost" }
    end)
    assert_said(given, heard)
    assert.equal("localhost", given.server_name)
    assert.truthy(given.extensions[28]) -- record_size_limit, RFC 8449
    assert.same({}, given.alpn)
  end)

  it("is that of cotls, whichever end tells it", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local given
      local context = helper.client_context { min_version = version, max_version = version, alpn = { "a" } }
      local client, server = good(context, helper.server_context { alpn = { "a" }, on_client_hello = function(_, it)
        given = it
        ponder()
        return true
      end })
      assert.equal(client:client_random(), given.random)
      assert.equal(server:server_name(), given.server_name)
      assert.equal(version == "1.3" and 32 or 0, #given.session_id)
      assert.same({ "a" }, given.alpn)
    end
  end)

  -- GREASE and what is unknown: OpenSSL's own functions would not tell of them, RFC 8701.
  it("has all extensions, also those that OpenSSL skips", function()
    local given
    local server = helper.server_context { on_client_hello = function(_, it) given = it return true end }
    local record = hellos.of(helper.client_context(), { server_name = "localhost" })
    local before = tls.parse_client_hello(record)
    record = hellos.with(hellos.with(record, 0x2a2a, "\0"), 0xfe0d, "abc")
    assert.equal("ServerHello", (hellos.meet(server, record)))
    assert_said(given, record)
    assert.same({ 0xfe0d, 0x2a2a }, { given.extension_types[1], given.extension_types[2] })
    assert.same({ "\0", "abc" }, { given.extensions[0x2a2a], given.extensions[0xfe0d] })
    assert.equal(before.ja3_text:gsub("^(%d+,[^,]*,)", "%165037-"), given.ja3_text)
  end)

  -- Its fields are made when they are asked for, of bytes that are its own.
  it("outlives the hook and the connection", function()
    local given, record = {}, hellos.of(helper.client_context { alpn = { "a" } }, { server_name = "localhost" })
    local server = helper.server_context { on_client_hello = function(_, it)
      given[#given + 1] = it
      assert.equal("localhost", it.server_name)
      return true
    end }
    local expected = tls.parse_client_hello(record)
    for _ = 1, 3 do hellos.meet(server, record) end
    server = nil
    collectgarbage()
    collectgarbage()
    assert.is_nil(server)
    for name, value in pairs(expected) do
      assert.same(value, given[1][name], name)
      assert.is_true(rawequal(given[1][name], given[1][name]), name)
    end
    assert.is_nil(given[1].nothing)
    assert.is_nil(given[1][1])
    assert.equal(given[2], given[2]())
    assert.same(expected, given[2]())
    if _VERSION ~= "Lua 5.1" then
      local all = {}
      for name, value in pairs(given[3]) do all[name] = value end
      assert.same(expected, all)
    end
  end)

  it("takes fields of the hook's own, and makes none of bytes that it has not got", function()
    local given
    local server = helper.server_context { on_client_hello = function(_, it) given = it return true end }
    hellos.meet(server, hellos.of(helper.client_context(), { server_name = "localhost" }))
    given.mine = 7
    for key, value in next, given do -- what it keeps the bytes under
      if key ~= "mine" then given[key] = value:sub(1, -2) end
    end
    assert.same({ 7 }, { given.mine, given.server_name, given.ja4, given.ciphers })
    assert.same({ mine = 7 }, given())
    local index = getmetatable(given).__index
    for _, wrong in ipairs { 1, "x", print } do assert.is_false(pcall(index, wrong, "ja4")) end
    assert.is_nil(index({}, "ja4"))
  end)

  -- OpenSSL takes a ClientHello in the form of SSL 2.0 still, RFC 5246 appendix E.2.
  it("is that of a client that speaks in SSL 2.0's form", function()
    local given
    local ciphers = "\0\0\156\0\192\043\7\0\192\0\0\255"
    local body = ("\1\3\3" .. bytes.pack(">I2 I2 I2", #ciphers, 0, 16)) .. ciphers .. ("c"):rep(16)
    local leaf = helper.leaf { key_type = "rsa" }
    local answer, err = hellos.meet(helper.server_context {
      certificate = leaf.certificate, key = leaf.key, ciphers = "AES128-GCM-SHA256", security_level = 0,
      signature_algorithms = "RSA+SHA256:RSA+SHA1",
      on_client_hello = function(_, it) given = it return true end,
    }, bytes.pack(">I2", 0x8000 + #body) .. body)
    assert.equal("ServerHello", answer, tostring(err))
    assert.same({ "TLS_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
      "TLS_EMPTY_RENEGOTIATION_INFO_SCSV" }, given.ciphers)
    assert.same({ { "TLSv1.2" }, {}, {}, "771,156-49195-255,,,", ("\0"):rep(16) .. ("c"):rep(16) },
      { given.versions, given.groups, given.extensions, given.ja3_text, given.random })
  end)
end)

describe("a fuzzed ClientHello at a server", function()
  local random = helper.random(11)

  -- Whatever OpenSSL lets through to the hook, the hook gets as parse_client_hello reads it.
  it("reaches the hook whole, or does not reach it", function()
    local given
    local server = helper.server_context { alpn = { "h2" }, on_client_hello = function(_, it)
      given = it
      return true
    end }
    local records = {}
    for i, version in ipairs { "1.2", "1.3" } do
      records[i] = hellos.of(helper.client_context { min_version = version, max_version = version },
        { server_name = "localhost", alpn = { "h2", "http/1.1" } })
    end
    local asked, answered, alerts = 0, 0, 0
    for _ = 1, 1000 / helper.slow do
      local record = records[random(2)]
      for _ = 1, random(3) do
        local at = 9 + random(#record - 9) -- behind the lengths of record and message
        record = record:sub(1, at - 1) .. string.char(random(256) - 1) .. record:sub(at + 1)
      end
      given = nil
      local answer = hellos.meet(server, record)
      if answer == "ServerHello" then
        answered = answered + 1
        assert.truthy(given)
      else
        alerts = alerts + 1
      end
      if given then
        asked = asked + 1
        assert.same(tls.parse_client_hello(record), given())
      end
    end
    assert.truthy(asked > answered and answered > 0 and alerts > 0, ("%d %d %d"):format(asked, answered, alerts))
  end)
end)

-- ---- what the hook may do ----

for _, version in ipairs { "1.2", "1.3" } do
  local only = { min_version = version, max_version = version }
  local client = helper.client_context(only)
  local function server(options) return helper.server_context(options) end

  describe("on_client_hello on TLS " .. version, function()
    it("may just look", function()
      local ja4
      local _, b = good(client, server { on_client_hello = function(_, it) ponder() ja4 = it.ja4 return true end })
      assert.matches("^t1%dd", ja4)
      assert.is_false(b:info().hello_retry)
    end)

    it("may switch the context, by what the hello says", function()
      local picky = server { verify_client = "require", ca = CA }
      local other = server { alpn = { "other" } }
      local door = server { alpn = { "door" }, on_client_hello = function(conn, it)
        ponder()
        if it.alpn[1] == "other" then conn:set_context(other) end
        if it.server_name == "127.0.0.1" or it.alpn[1] == "picky" then conn:set_context(picky) end
        return true
      end }
      local a = good(client, door, { alpn = { "other" } })
      assert.equal("other", a:alpn())
      a = good(client, door, { alpn = { "door" } })
      assert.equal("door", a:alpn())
      local err, server_err = visit(client, door, { alpn = { "picky" } })
      assert.truthy(err)
      assert.matches("peer did not return a certificate", tostring(server_err))
      local leaf = helper.leaf { subject = "CN=client" }
      good(helper.client_context { min_version = version, max_version = version, certificate = leaf.certificate,
        key = leaf.key }, door, { alpn = { "picky" } })
    end)

    it("refuses by the alert that it names", function()
      for name, expected in pairs { access_denied = "access_denied", unrecognized_name = "unrecognized_name",
        protocol_version = "protocol_version", internal_error = "internal_error" } do
        local err, server_err = visit(client, server {
          on_client_hello = function() ponder() return false, name end,
        })
        assert.same({ "alert", expected }, { err.code, err.alert.name })
        assert.same({ "hook", expected, true }, { server_err.code, server_err.alert.name, server_err.alert.sent })
      end
    end)

    it("refuses by whatever is not true", function()
      local function fails(hook)
        local err, server_err = visit(client, server { on_client_hello = hook })
        assert.same({ "alert", "hook" }, { err.code, server_err.code })
        return server_err
      end
      fails(function() ponder() end)
      fails(function() ponder() return nil end)
      fails(function() ponder() return 1 end)
      fails(function() ponder() return "true" end)
      fails(function() ponder() return {} end)
      local err = fails(function(_, it) ponder() return it.nothing.more end)
      assert.matches("attempt to index", err.cause.error)
    end)

    it("comes before names, which then choose", function()
      local order = {}
      local inner = server { alpn = { "inner" } }
      local door = server { names = { localhost = inner }, on_client_hello = function(_, it)
        order[#order + 1] = it.server_name
        ponder()
        return true
      end }
      local a = good(client, door, { alpn = { "inner" } })
      assert.equal("inner", a:alpn())
      assert.same({ "localhost" }, order)
      local strict = server { names = { ["www.example.org"] = inner }, strict_names = true,
        on_client_hello = function() ponder() return true end }
      local err = visit(client, strict)
      assert.equal("unrecognized_name", err.alert.name)
    end)

    it("keeps what it has chosen, whatever names say", function()
      local inner, mine = server { alpn = { "inner" } }, server { alpn = { "mine" } }
      local a = good(client, server { names = { localhost = inner }, on_client_hello = function(conn)
        ponder()
        return conn:set_context(mine) and true
      end }, { alpn = { "inner", "mine" } })
      assert.equal("mine", a:alpn())
    end)

    it("is asked once for each handshake", function()
      local count = 0
      local context = server { on_client_hello = function() count = count + 1 ponder() return true end }
      for i = 1, 3 do
        good(client, context)
        assert.equal(i, count)
      end
    end)
  end)
end

describe("on_client_hello goes with", function()
  it("hooks that wait in a job", function()
    local order = {}
    local function note(name, answer)
      return function(_, it)
        ponder()
        order[#order + 1] = name .. " " .. tostring(it.server_name or it)
        return answer
      end
    end
    local a = good(helper.client_context(), helper.server_context {
      on_client_hello = function(conn, it) return note("hello", true)(conn, it) end,
      on_server_name = function(conn, name) return note("name", true)(conn, { server_name = name }) end,
      on_alpn = function(conn, list) return note("alpn", "b")(conn, { server_name = table.concat(list, ",") }) end,
    }, { alpn = { "a", "b" } })
    assert.equal("b", a:alpn())
    assert.same({ "hello localhost", "name localhost", "alpn a,b" }, order)
  end)

  it("a resumption and early data", function()
    local given = {}
    local server = helper.server_context { max_early_data = 1000, on_client_hello = function(_, it)
      ponder()
      given[#given + 1] = it
      return true
    end }
    local first, second = {}, {}
    for _, got in ipairs { first, second } do
      local a, b = helper.pair(nil, { session = first.session, early_data = first.session and "early" or nil }, nil,
        { client = helper.client_context(), server = server })
      helper.together {
        function()
          assert(a:connect())
          assert(a:read(1))
        end,
        function()
          got.early = assert(b:read_early(100) or "none")
          assert(b:accept())
          assert(b:write("x"))
        end,
      }
      got.session, got.resumed = a:session(), a:resumed()
      a:close()
      b:close()
    end
    assert.same({ "none", false, "early", true }, { first.early, first.resumed, second.early, second.resumed })
    assert.equal(2, #given)
    assert.is_nil(given[1].extensions[42])
    assert.truthy(given[2].extensions[42] and given[2].extensions[41]) -- early_data, pre_shared_key
    assert.not_equal(given[1].random, given[2].random)
  end)

  it("a renegotiation, about which it is asked anew", function()
    local given = {}
    local only = { min_version = "1.2", max_version = "1.2", renegotiation = "allow" }
    local server = helper.server_context { max_version = "1.2", renegotiation = "allow-client",
      on_client_hello = function(_, it)
        ponder()
        given[#given + 1] = it
        return true
      end }
    local a, b = helper.handshaken(nil, nil, nil, { client = helper.client_context(only), server = server })
    helper.together {
      function()
        assert(a:renegotiate())
        assert(a:write("x"))
      end,
      function() assert.equal("x", b:read(1)) end,
    }
    a:close()
    b:close()
    assert.equal(2, #given)
    assert.not_equal(given[1].random, given[2].random)
    assert.equal("\0", given[1].extensions[0xff01] or "\0")
    assert.equal(13, #given[2].extensions[0xff01]) -- RFC 5746: the verify_data of the first
  end)
end)

describe("on_client_hello and a HelloRetryRequest", function()
  local client = helper.client_context { groups = "X25519:P-384" }

  it("is asked once, about the first hello", function()
    local given = {}
    local other = helper.server_context { groups = "P-384", alpn = { "other" } }
    local door = helper.server_context { groups = "P-384", on_client_hello = function(conn, it)
      given[#given + 1] = it
      ponder()
      return conn:set_context(other) and true
    end }
    local a, b = good(client, door, { alpn = { "other" } })
    assert.equal(1, #given)
    assert.equal("other", a:alpn())
    assert.same({ true, true, "secp384r1" }, { a:info().hello_retry, b:info().hello_retry, b:group() })
    assert.equal(29, bytes.unpack(">I2", given[1].extensions[51], 3)) -- the share is that of the first
    assert.is_nil(given[1].extensions[44]) -- no cookie yet
  end)

  it("is asked once where names choose", function()
    local count = 0
    local inner = helper.server_context { groups = "P-384", alpn = { "inner" } }
    local a, b = good(client, helper.server_context { groups = "P-384", names = { localhost = inner },
      on_client_hello = function() count = count + 1 ponder() return true end }, { alpn = { "inner" } })
    assert.same({ 1, "inner", true }, { count, a:alpn(), b:info().hello_retry })
  end)

  it("refuses after one, too: the answer is about the whole handshake", function()
    local count = 0
    local err, server_err = visit(client, helper.server_context { groups = "P-384",
      on_client_hello = function() count = count + 1 ponder() return false, "access_denied" end })
    assert.same({ 1, "access_denied", "hook" }, { count, err.alert.name, server_err.code })
  end)
end)

describe("on_client_hello under the loop", function()
  it("that waits where nothing can wait refuses", function()
    local server = helper.server_context { on_client_hello = function() coroutine.yield() return true end }
    local alert, err = hellos.meet(server, hellos.of(helper.client_context(), { server_name = "localhost" }))
    assert.same({ 40, "hook" }, { alert, err.code })
    assert.matches("yield", err.cause.error)
  end)

  it("that waits beyond the handshake's deadline has not accepted", function()
    local err, client_err, done
    helper.in_loop(function()
      local server = helper.server_context { handshake_timeout = 0.05 * helper.slow, on_client_hello = function()
        luv.sleep(0.2 * helper.slow)
        return true
      end }
      local listener = assert(tls.listen("127.0.0.1", 0, { context = server }))
      luv.spawn(function()
        local conn = listener()
        listener:close()
        done, err = conn:accept()
        conn:close()
      end)
      local conn
      conn, client_err = tls.connect("127.0.0.1", listener:port(), { context = helper.client_context(),
        server_name = "localhost" })
      if not conn then return end -- on TLS 1.3 the client is done before the server
      conn, client_err = conn:read(1)
      assert.is_nil(conn)
    end)
    assert.is_nil(done)
    assert.equal("timeout", err.code)
    assert.truthy(client_err)
  end)

  it("waits as long as it likes: many at once, each by its own clock", function()
    helper.in_loop(function()
      local server = helper.server_context { on_client_hello = function(_, it)
        luv.sleep(0.05)
        return it.server_name == "localhost"
      end }
      local listener = assert(tls.listen("127.0.0.1", 0, { context = server }))
      local port, done = listener:port(), 0
      luv.spawn(function()
        helper.each(listener, function(conn)
          luv.spawn(function()
            if conn:accept() then conn:write("x") end
            conn:close()
          end)
        end)
      end)
      local client = helper.client_context()
      for _ = 1, 20 do
        luv.spawn(function()
          local conn = assert(tls.connect("127.0.0.1", port, { context = client, server_name = "localhost" }))
          assert.equal("x", conn:read(1))
          conn:close()
          done = done + 1
        end)
      end
      helper.until_true(function() luv.sleep(0.01) return done == 20 end, "20 clients")
      listener:close()
    end)
  end)

  it("that is left by a close, a dead coroutine or the collector leaves nothing", function()
    for _, leave in ipairs {
      function(server) server:close() end,
      function() end,
      coroutine.close and function(_, co) coroutine.close(co) end,
    } do
      local a, b = helper.pair(nil, nil, nil, { client = helper.client_context(), server = helper.server_context {
        on_client_hello = function() coroutine.yield "in the hook" return true end,
      } })
      local co = coroutine.create(function() return b:accept() end)
      a:settimeout(0)
      local where
      helper.until_true(function()
        a:connect()
        local _
        _, where = coroutine.resume(co)
        return where == "in the hook"
      end, "the hook")
      leave(b, co)
      b, co = nil, nil
      collectgarbage()
      collectgarbage()
      assert.is_nil(b or co)
      a:close()
    end
  end)
end)
