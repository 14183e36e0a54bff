-- SPDX-License-Identifier: MIT
-- After the handshake: key_update, renegotiate, request_client_certificate, with a peer that is ours and with openssl's
-- programs, over every transport.

local compat = require "cotls.compat"
local tls = require "cotls"
local helper = require "spec.helper"

local code_of, noise = helper.code_of, helper.noise

local OWN = helper.leaf { subject = "CN=client" }
local STRANGER = helper.leaf { subject = "CN=stranger", ca = helper.other_ca }

local with = helper.with

-- Contexts of one version.
local function contexts(version, client, server)
  local only = { min_version = version, max_version = version }
  return { client = helper.client_context(with(only, client)), server = helper.server_context(with(only, server)) }
end

local function bearing(leaf, more)
  return with({ post_handshake_auth = true, certificate = leaf and leaf.certificate, key = leaf and leaf.key }, more)
end

-- Runs one function against another's connection.
local function both(pump, first, second)
  return helper.together({ first, second }, pump)
end

-- How much passes over a transport in reasonable time.
local function amount(transport, most)
  if transport.name:find("small") then most = math.min(most, 1500) end -- both write, and nobody reads yet
  return transport.width == 1 and 3000 or transport.width == 64 and math.min(most, 20000) or most
end

local function pem_of(certificate)
  return certificate and certificate:pem()
end

-- The method, without arguments, refuses for that reason.
local function assert_refused(method, conn, reason)
  local ok, err = conn[method](conn)
  assert.equal("tls", code_of(ok, err))
  assert.equal(reason, err.reason)
end

local function started(conn, verb, ...)
  local co = coroutine.create(function(...) return conn[verb](conn, ...) end)
  assert(coroutine.resume(co, ...))
  assert.equal("suspended", coroutine.status(co))
  return co
end

-- Writes until the socket is full; how much it took.
local function fill_up(conn)
  conn:settimeout(0)
  local data = noise(4000000)
  local ok, err = conn:write(data)
  assert.equal("want_write", code_of(ok, err))
  conn:settimeout(nil)
  return data:sub(1, err.written)
end

-- ---- key_update ----

describe("key_update", function()
  local pair = contexts "1.3"

  for _, transport in ipairs(helper.some_transports()) do
    it("from either side, with and without an answer, over " .. transport.name, function()
      local client, server, pump = helper.handshaken(transport, nil, nil, pair)
      local data = noise(amount(transport, 60000))
      both(pump, function()
        assert.equal(client, client:key_update())
        assert(client:write("one\n", data))
        assert.equal(client, client:key_update(true))
        assert(client:write("two\n"))
        assert.equal("three", client:read())
        assert.equal("four", client:read())
        assert.equal("five", client:read())
        assert(client:shutdown("write"))
      end, function()
        assert.equal("one", server:read())
        assert.is_true(data == server:read(#data))
        assert.equal("two", server:read())
        local before = server:stats().bytes_out
        assert(server:write("three\n"))
        local behind = server:stats().bytes_out
        assert(server:write("four\n"))
        local after = server:stats().bytes_out
        assert.equal(27, behind - before - (after - behind) - 1) -- its answer goes before what it writes next
        assert.equal(server, server:key_update(true))
        assert.equal(server, server:key_update(false))
        assert(server:write("five\n"))
        assert.equal("", server:read("a"))
      end)
    end)

    it("while both read and write, over " .. transport.name, function()
      local client, server, pump = helper.handshaken(transport, nil, nil, pair)
      local data = noise(amount(transport, 200000))
        local step = 1 + math.floor(#data / 7)
      local function writer(conn)
        return function()
          for at = 1, #data, step do
            assert(conn:write(data:sub(at, at + step - 1)))
            assert(conn:key_update(at % 2 == 1))
          end
          assert(conn:shutdown("write"))
        end
      end
      local results = helper.together({
        writer(client), writer(server), function() return client:read("a") end, function() return server:read("a") end,
      }, pump)
      assert.is_true(data == results[3][1])
      assert.is_true(data == results[4][1])
    end)
  end

  it("shakes hands first, as a write does", function()
    local client, server = helper.pair(nil, nil, nil, pair)
    client:set_connect_state()
    both(nil, function() assert(client:key_update()) end, function() assert(server:accept()) end)
    assert.is_true(client:handshake_done())
  end)

  it("is \"busy\" while a write is under way, not while somebody reads", function()
    local client, server = helper.handshaken(nil, nil, nil, pair)
    local reader = started(client, "read")
    assert(client:key_update(true))
    local writer = started(client, "write", noise(4000000))
    local ok, err = client:key_update()
    assert.equal("busy", code_of(ok, err))
    assert.equal("key_update", err.operation)
    assert.is_truthy(writer)
    assert(server:write("x\n"))
    assert.same({ true, "x" }, { coroutine.resume(reader) })
  end)

  it("waits for output, and the keys change only behind it", function()
    local client, server = helper.handshaken(nil, nil, nil, pair)
    local data = fill_up(client)
    client:settimeout(0)
    assert.equal("want_write", code_of(client:key_update()))
    client:settimeout(0.01)
    assert.equal("timeout", code_of(client:key_update()))
    client:settimeout(nil)
    both(nil, function()
      assert(client:key_update(true))
      assert(client:write("after"))
      assert(client:shutdown("write"))
    end, function() assert.is_true(data .. "after" == server:read("a")) end)
  end)

  it("is told its limits", function()
    local client, server = helper.handshaken(nil, nil, nil, contexts "1.2")
    local ok, err = client:key_update()
    assert.equal("tls", code_of(ok, err))
    assert.equal("key_update: TLS 1.2 has no key update", tostring(err):gsub(" %[peer.*", ""))
    assert(client:write("x\n")) -- nothing has happened
    assert.equal("x", server:read())
    client, server = helper.handshaken(nil, nil, nil, pair)
    assert(client:shutdown("write"))
    assert.equal("closed", code_of(client:key_update()))
    assert.equal("", server:read("a"))
    assert(server:key_update()) -- its own direction is still open
    client:close()
    assert.equal("closed", code_of(client:key_update()))
  end)
end)

describe("a flood of key update requests", function()
  local MOST = 5 * 17 * 1024 -- bytes of one step: bio_fd.c's limit, and one record

  -- A victim that reads under a scheduler, and a peer that sends requests through a relay and reads nothing.
  local function flooded(bytes, options)
    local a, b, relay = helper.relay(65536)
    local pair = contexts "1.3"
    local client = assert(pair.client:wrap(a, { server_name = "localhost" }))
    local server = assert(pair.server:wrap(b, with({ scheduler = { wait = coroutine.yield } }, options)))
    helper.shake(client, server, function() relay:pump() end)
    client:settimeout(0)
    local goal = client:stats().bytes_out + bytes

    -- Sends until the victim's socket and all before it are full.
    local function feed()
      local passed
      repeat
        passed = relay.passed
        while client:stats().bytes_out < goal do
          local ok, err = client:key_update(true)
          if not ok then
            assert.equal("want_write", err.code)
            break
          end
        end
        relay:pump()
      until relay.passed == passed
      return client:stats().bytes_out < goal
    end
    return server, feed, client
  end

  it("is taken in bounded steps, between which others have their turn, and answered up to a limit", function()
    local limit = 1024 * 1024 -- bio_fd.c's, of output
    local server, feed, client = flooded(helper.slow < 10 and 2 * limit or limit / 16)
    local sent, steps, turns = server:stats().bytes_out, 0, 0
    local victim = coroutine.create(function() return server:read() end)
    local taken, ok, conn, want, deadline
    repeat
      local more = feed()
      local had = server:stats().bytes_in
      ok, conn, want, deadline = coroutine.resume(victim)
      assert(ok, conn)
      assert.equal(server, conn)
      taken = server:stats().bytes_in - had
      assert.is_true(taken <= MOST, taken .. " bytes in one step")
      if deadline then turns = turns + 1 end
      steps = steps + 1
      assert.is_true(steps < 10000)
    until taken == 0 and (want == "write" or not more)
    assert.is_true(server:stats().bytes_out - sent < 1.5 * limit)
    if helper.slow < 10 then -- else it is too little
      assert.is_true(turns > 0, "no step was full")
      assert.equal("write", want)
    end
    -- it was only too much: once the peer reads, all goes on
    local results = helper.together {
      function()
        while true do
          feed()
          local data, err = client:recv()
          if data then return data end
          assert.equal("want_read", err.code)
          coroutine.yield(client, "read")
        end
      end,
      function() assert(server:write("still there")) end,
    }
    assert.equal("still there", results[1][1])
  end)

  it("does not put off a deadline", function()
    local server, feed = flooded(2 ^ 52, { timeout = 0.05 * helper.slow })
    local began, result = tls.now(), nil
    local victim = coroutine.create(function() result = compat.pack(server:read()) end)
    while not result do
      feed()
      assert(coroutine.resume(victim))
      assert.is_true(tls.now() < began + 5 * helper.slow, "it never ends")
    end
    assert.equal("timeout", result[2].code)
  end)

  it("does not hold up an operation that never waits", function()
    local server, feed = flooded(2 ^ 52)
    server:settimeout(0)
    for _ = 1, 5 do
      feed()
      local taken = server:stats().bytes_in
      assert.equal("want_read", code_of(server:read()))
      assert.is_true(server:stats().bytes_in - taken <= MOST)
    end
  end)
end)

-- ---- renegotiate ----

describe("renegotiate", function()
  local OWN_CLIENT = { renegotiation = "allow", certificate = OWN.certificate, key = OWN.key }
  local OPEN_SERVER = { renegotiation = "allow-client", ca = helper.ca.certificate, verify_client = "require" }
  local open = contexts("1.2", OWN_CLIENT, OPEN_SERVER)
  local allow = contexts("1.2", { renegotiation = "allow" }, { renegotiation = "allow" })

  for _, transport in ipairs(helper.some_transports()) do
    for _, side in ipairs { "client", "server" } do
      it("by the " .. side .. ", with data on their way both ways, over " .. transport.name, function()
        local client, server, pump = helper.handshaken(transport, nil, nil, open)
        local starter, other = client, server
        if side == "server" then starter, other = server, client end
        local data = noise(amount(transport, 30000))
        both(pump, function()
          assert(starter:write("before", data))
          assert.equal(starter, starter:renegotiate())
          assert(starter:write("after"))
          assert.is_true("early" .. data .. "late" == starter:read(#data + 9))
          assert.equal(starter, starter:renegotiate()) -- again
          assert(starter:write("end"))
          assert(starter:shutdown("write"))
        end, function()
          assert(other:write("early", data))
          assert.is_true("before" .. data .. "after" == other:read(#data + 11))
          assert(other:write("late"))
          assert.equal("end", other:read("a"))
        end)
        assert.equal(helper.server_leaf.certificate, pem_of(client:peer_certificate()))
        assert.equal(OWN.certificate, pem_of(server:peer_certificate()))
        assert.is_false(client:resumed()) -- each is a full handshake
        assert.equal(0, client:verify_result().code)
      end)
    end

    it("while the other side reads and writes in two coroutines, over " .. transport.name, function()
      for _, side in ipairs { "client", "server" } do
        local client, server, pump = helper.handshaken(transport, nil, nil, open)
        local starter, other = client, server
        if side == "server" then starter, other = server, client end
        local data = noise(amount(transport, 50000))
        local results = helper.together({
          function()
            for _ = 1, 3 do assert(starter:renegotiate()) end
            local got = starter:read(#data)
            assert(starter:write("done"))
            assert(starter:shutdown("write"))
            return got
          end,
          function() return other:read("a") end,
          function()
            for at = 1, #data, 1000 do assert(other:write(data:sub(at, at + 999))) end
          end,
        }, pump)
        assert.is_true(data == results[1][1])
        assert.equal("done", results[2][1])
      end
    end)

    it("that the client or the server is not allowed, over " .. transport.name, function()
      for _, case in ipairs { { "client", "allow", "never" }, { "client", "allow", "allow" },
        { "server", "never", "allow" }, { "server", "never", "allow-client" } } do
        local pair = contexts("1.2", { renegotiation = case[2] }, { renegotiation = case[3] })
        local client, server, pump = helper.handshaken(transport, nil, nil, pair)
        local starter, other = client, server
        if case[1] == "server" then starter, other = server, client end
        both(pump, function()
          local ok, err = starter:renegotiate()
          assert.equal("tls", code_of(ok, err))
          assert.equal("renegotiate", err.operation)
          assert.equal("the peer refuses to renegotiate", err.reason)
          assert.is_nil(starter:fileno()) -- a handshake that failed
        end, function()
          local ok, err = other:read()
          assert.equal("alert", code_of(ok, err))
          assert.equal("handshake_failure", err.alert.name)
        end)
      end
    end)
  end

  it("keeps what arrives meanwhile up to 64 KiB, then fails with \"limit\" and can be gone on with", function()
    local client, server = helper.handshaken(nil, nil, nil, open)
    local data = noise(150000)
    both(nil, function()
      local ok, err = client:renegotiate()
      assert.equal("limit", code_of(ok, err))
      local first = client:recv(1000000)
      assert.is_true(#first > 64 * 1024 and #first <= 64 * 1024 + 16384)
      assert.is_true(data:sub(#first + 1) == client:read(#data - #first))
      assert.equal(client, client:renegotiate())
      assert.equal(first, data:sub(1, #first))
      assert(client:write("x\n"))
    end, function()
      assert(server:write(data))
      assert.equal("x", server:read())
    end)
  end)

  it("is waited for by a write, which keeps no more than that either", function()
    local client, server = helper.handshaken(nil, nil, nil, open)
    local data = noise(150000)
    both(nil, function()
      client:settimeout(0)
      assert.equal("want_read", code_of(client:renegotiate())) -- it is begun
      client:settimeout(10 * helper.slow)
      local ok, err = client:write("x\n")
      assert.equal("limit", code_of(ok, err))
      assert.equal(0, err.written)
      local first = client:recv(1000000)
      assert.is_true(#first > 64 * 1024 and first == data:sub(1, #first))
      assert.is_true(data:sub(#first + 1) == client:read(#data - #first))
      assert(client:write("x\n"))
    end, function()
      assert(server:write(data))
      assert.equal("x", server:read())
    end)
  end)

  it("is \"busy\" while another coroutine reads or writes, and keeps both out", function()
    local client, server = helper.handshaken(nil, nil, nil, open)
    local reader = started(client, "read")
    assert.equal("busy", code_of(client:renegotiate()))
    assert(server:write("x\n"))
    assert(coroutine.resume(reader))
    local writer = started(client, "write", noise(4000000))
    assert.equal("busy", code_of(client:renegotiate()))
    assert.is_truthy(writer)
    client, server = helper.handshaken(nil, nil, nil, open)
    local co = started(client, "renegotiate")
    for _, verb in ipairs { "read", "write", "renegotiate", "shutdown" } do
      assert.equal("busy", code_of(client[verb](client)))
    end
    both(nil, function()
      while coroutine.status(co) ~= "dead" do
        assert(coroutine.resume(co))
        coroutine.yield(client, "read")
      end
      assert(client:write("x\n"))
    end, function() assert.equal("x", server:read()) end)
  end)

  it("that nobody answers ends by handshake_timeout; one of a call's can be gone on with", function()
    local client, server = helper.handshaken(nil, { handshake_timeout = 0.2 * helper.slow }, nil, open)
    client:settimeout(0)
    assert.equal("want_read", code_of(client:renegotiate()))
    helper.together { function()
      repeat
        local ok, err = client:renegotiate()
        if not ok then assert.equal("want_read", err.code) end
        coroutine.yield(client, "read")
      until ok
      assert(client:write("x\n"))
    end, function() assert.equal("x", server:read()) end }
    client:settimeout(nil)
    local results = helper.together { function() return client:renegotiate() end }
    local err = results[1][2]
    assert.equal("timeout", err.code)
    assert.matches("handshake_timeout", err.reason)
    assert.is_nil(client:fileno())
    assert.equal("truncated", code_of(select(1, server:read()), select(2, server:read())))
  end)

  it("verifies anew: a certificate that has expired since ends it", function()
    local leaf = assert(tls.make_certificate { names = { "localhost" }, ca = helper.ca, not_before = os.time() - 60,
      not_after = os.time() + 1 + 2 * helper.slow })
    local pair = contexts("1.2", { renegotiation = "allow" }, { renegotiation = "allow-client",
      certificate = leaf.certificate, key = leaf.key })
    local client, server = helper.handshaken(nil, nil, nil, pair)
    local _, err
    both(nil, function()
      local bound = tls.now() + 20 * helper.slow
      repeat
        assert.is_true(tls.now() < bound)
        _, err = client:renegotiate()
      until err
    end, function()
      local ok, failure = server:read()
      assert.equal("alert", code_of(ok, failure))
      assert.equal("certificate_expired", failure.alert.name)
    end)
    assert.equal("verify", err.code)
    assert.equal("certificate has expired", err.verify.text)
    assert.is_nil(client:fileno())
  end)

  it("does not make an error of data that meet a write of its other side", function()
    for _, with_reader in ipairs { true, false } do
      local client, server = helper.handshaken(nil, nil, nil, open)
      server:settimeout(0)
      assert.equal("want_read", code_of(server:renegotiate())) -- its request is out
      local reader
      if with_reader then
        reader = started(client, "read", "a")
        assert(coroutine.resume(reader)) -- has taken the request and sent its hello
      else
        client:settimeout(0)
        assert.equal("want_read", code_of(client:read()))
        client:settimeout(nil)
      end
      assert(server:write("data")) -- allowed until the server has seen that hello
      server:settimeout(nil)
      local writer = started(client, "write", "x\n")
      helper.together {
        function()
          while coroutine.status(writer) ~= "dead" do
            local ok, err = coroutine.resume(writer)
            assert(ok, err)
            if coroutine.status(writer) == "dead" then assert.equal(client, err) end
            coroutine.yield(client, "read")
          end
        end,
        function()
          assert(server:renegotiate())
          assert.equal("x", server:read())
          assert(server:shutdown("write"))
        end,
      }
      if reader then
        local got
        helper.until_true(function()
          got = compat.pack(coroutine.resume(reader))
          return coroutine.status(reader) == "dead"
        end, "the end")
        assert.same({ n = 2, true, "data" }, got)
      else
        assert.equal("data", client:read("a"))
      end
    end
  end)

  it("keeps writes and shutdowns of its other side waiting until it is over", function()
    for _, verb in ipairs { "write", "shutdown" } do
      local client, server, pump, relay = helper.handshaken("a relay of 1 byte", nil, nil, open)
      local co = started(client, "renegotiate")
      both(pump, function()
        while coroutine.status(co) ~= "dead" do
          assert(coroutine.resume(co))
          coroutine.yield(client, "read")
        end
        if verb == "write" then assert.equal("x", client:read()) end
        if verb == "shutdown" then assert.equal("", client:read("a")) end
      end, function()
        server:settimeout(0)
        local before = server:stats().bytes_out
        while server:stats().bytes_out == before do -- in the middle: its flight is out
          assert.equal("want_read", code_of(server:recv()))
          coroutine.yield(server, "read")
        end
        server:settimeout(nil)
        if verb == "write" then assert(server:write("x\n")) else assert(server:shutdown("write")) end
      end)
      assert.is_truthy(relay)
    end
  end)

  it("is told its limits", function()
    local client, server = helper.handshaken(nil, nil, nil, contexts "1.2")
    assert_refused("renegotiate", client, 'the context\'s renegotiation is "never"')
    assert_refused("renegotiate", server, 'the context\'s renegotiation is "never"')
    assert(client:write("x\n")) -- nothing has happened
    assert.equal("x", server:read())
    client = helper.handshaken(nil, nil, nil, contexts("1.3", { renegotiation = "allow" }))
    assert_refused("renegotiate", client, "TLS 1.3 has no renegotiation: key_update renews the keys")
    client = helper.pair(nil, nil, nil, allow)
    client:set_connect_state()
    assert_refused("renegotiate", client, "the handshake is not done")
    client:close()
    assert.equal("closed", code_of(client:renegotiate()))
    client, server = helper.handshaken(nil, nil, nil, allow)
    assert(client:shutdown("write"))
    assert.equal("closed", code_of(client:renegotiate()))
    assert.equal("", server:read("a"))
    assert.equal("closed", code_of(server:renegotiate()))
  end)

  it("is an option of three words", function()
    for _, case in ipairs { { "sometimes", {} }, { "allow-client", {} }, { "", {} } } do
      local ok, err = tls.context { renegotiation = case[1] }
      assert.equal("config", code_of(ok, err))
      assert.matches("^renegotiation: ", err.reason)
    end
  end)
end)

-- ---- request_client_certificate ----

describe("request_client_certificate", function()
  local function asking(verify_client, client, more)
    return contexts("1.3", client, with({ ca = helper.ca.certificate, verify_client = verify_client }, more))
  end

  -- Asks for a certificate between two lines: what the server has then.
  local function after_asking(client, server, pump)
    both(pump, function()
      assert.equal("go on", client:read())
      assert(client:write("two\n"))
    end, function()
      assert(server:request_client_certificate())
      assert(server:write("go on\n"))
      assert.equal("two", server:read())
    end)
    return server:peer_certificate()
  end

  for _, transport in ipairs(helper.some_transports()) do
    for _, verify in ipairs { "none", "optional" } do
      it(("whatever verify_client says (%s), over %s"):format(verify, transport.name), function()
        -- without a certificate at the handshake, for "optional" would ask then
        local client, server, pump = helper.handshaken(transport, nil, nil, asking(verify, bearing(OWN)))
        both(pump, function()
          assert(client:write("one\n"))
          assert.equal("go on", client:read())
          assert(client:write("two\n"))
          assert.equal("end", client:read("a"))
          assert(client:shutdown())
        end, function()
          if verify == "none" then assert.is_nil(server:peer_certificate()) end
          assert.equal("one", server:read())
          assert.equal(server, server:request_client_certificate())
          assert(server:write("go on\n"))
          assert.equal("two", server:read())
          assert.equal(OWN.certificate, pem_of(server:peer_certificate()))
          assert.equal(0, server:verify_result().code)
          assert.equal(server, server:request_client_certificate()) -- again
          assert(server:write("end"))
          assert(server:shutdown())
        end)
      end)
    end

    it("of a client that has none, over " .. transport.name, function()
      assert.is_nil(after_asking(helper.handshaken(transport, nil, nil, asking("none", bearing()))))
    end)

    it("of one whose certificate is not good, over " .. transport.name, function()
      local client, server, pump = helper.handshaken(transport, nil, nil, asking("none", bearing(STRANGER)))
      both(pump, function()
        local ok, err = client:read()
        assert.equal("alert", code_of(ok, err))
        assert.equal("unknown_ca", err.alert.name)
      end, function()
        assert(server:request_client_certificate())
        local ok, err = server:read()
        assert.equal("verify", code_of(ok, err))
        assert.equal("unable to get local issuer certificate", err.verify.text)
        assert.equal("unknown_ca", err.alert.name)
        assert.equal(err.verify, select(2, server:write("x")).verify) -- for good
      end)
    end)

    it("while both read and write, over " .. transport.name, function()
      local client, server, pump = helper.handshaken(transport, nil, nil, asking("none", bearing(OWN)))
      local data, asked = noise(amount(transport, 60000)), false
      local function writer(conn)
        return function()
          for at = 1, #data, 1000 do
            assert(conn:write(data:sub(at, at + 999)))
            if conn == server and at == 1001 then assert(server:request_client_certificate()) end
          end
          while conn == client and not asked do coroutine.yield(client, "read") end -- the answer goes first
          assert(conn:shutdown("write"))
        end
      end
      local results = helper.together({
        writer(client), writer(server), function()
          local all = client:read("a")
          asked = true
          return all
        end, function() return server:read("a") end,
      }, pump)
      assert.is_true(data == results[3][1])
      assert.is_true(data == results[4][1])
      assert.equal(OWN.certificate, pem_of(server:peer_certificate()))
    end)
  end

  it("of one that must have one: \"require\" holds", function()
    -- a PSK of its own aside, a client gets past "require" only with a certificate: it is asked for another one
    local brought = after_asking(helper.handshaken(nil, nil, nil, asking("require", bearing(OWN))))
    assert.equal(OWN.certificate, pem_of(brought))
  end)

  it("is \"busy\" while a write is under way, not while somebody reads", function()
    local client, server = helper.handshaken(nil, nil, nil, asking("none", bearing(OWN)))
    local reader = started(server, "read")
    assert(server:request_client_certificate())
    local writer = started(server, "write", noise(4000000))
    local ok, err = server:request_client_certificate()
    assert.equal("busy", code_of(ok, err))
    assert.equal("request_client_certificate", err.operation)
    assert.is_truthy(writer)
    both(nil, function()
      assert(client:recv())
      assert(client:write("x\n"))
    end, function()
      while coroutine.status(reader) ~= "dead" do
        assert(coroutine.resume(reader))
        coroutine.yield(server, "read")
      end
    end)
    assert.equal(OWN.certificate, pem_of(server:peer_certificate()))
  end)

  it("is told its limits, and nothing has happened", function()
    local function still_good(client, server)
      both(nil, function()
        assert.equal("y", client:read())
        assert(client:write("x\n"))
      end, function()
        assert(server:write("y\n"))
        assert.equal("x", server:read())
      end)
    end
    local client, server = helper.handshaken(nil, nil, nil, asking("none", {}))
    assert_refused("request_client_certificate", server, "the client has not offered post_handshake_auth")
    still_good(client, server)
    assert_refused("request_client_certificate", client, "only a server can ask its client for a certificate")
    still_good(client, server)
    client, server = helper.handshaken(nil, nil, nil, asking("none", bearing(OWN)))
    assert(server:request_client_certificate())
    assert_refused("request_client_certificate", server, "a request is pending: a read takes in the answer")
    still_good(client, server)
    assert.equal(OWN.certificate, pem_of(server:peer_certificate()))
    client, server = helper.handshaken(nil, nil, nil, contexts("1.3", bearing(OWN)))
    assert_refused("request_client_certificate", server,
      "the context has no ca: whom a client's certificate must come from")
    still_good(client, server)
    client, server = helper.handshaken(nil, nil, nil, contexts("1.2", bearing(OWN), { ca = helper.ca.certificate }))
    assert_refused("request_client_certificate", server, "TLS 1.2 has no request for a certificate after the handshake")
    still_good(client, server)
    local ended, other = helper.handshaken(nil, nil, nil, asking("none", bearing(OWN)))
    assert(ended:shutdown("write"))
    assert.is_nil((other:read()))
    assert.equal("closed", code_of(other:request_client_certificate())) -- nobody is there to answer
    ended:close()
    other:close()
    server:close()
    assert.equal("closed", code_of(server:request_client_certificate()))
  end)

  it("is offered by clients only", function()
    local ok, err = tls.context(with(helper.server_leaf, { role = "server", post_handshake_auth = true }))
    assert.equal("config", code_of(ok, err))
    assert.matches("^post_handshake_auth: is for clients", err.reason)
    assert(tls.context(with(helper.server_leaf, { role = "server", post_handshake_auth = false })))
  end)
end)
