local compat = require "cotls.compat"
local helper = require "spec.helper"
local tls = require "cotls"

local UNKNOWN_CA = helper.leaf { ca = helper.other_ca }

-- Both sides of a connection, each with an on_trace that gathers.
-- @return { client =, server = (lists of events), errors =, a =, b = (connections) }
local function traced(options, fn)
  local got = { client = {}, server = {} }
  local function gather(side)
    return function(conn, event)
      assert.equal("cotls.connection", tostring(conn):match("^%S+"))
      local list = got[side]
      list[#list + 1] = event
      if options.ponder then coroutine.yield() end
    end
  end
  local client, server = { on_trace = gather "client" }, { on_trace = gather "server" }
  for name, value in pairs(options.client or {}) do client[name] = value end
  for name, value in pairs(options.server or {}) do server[name] = value end
  got.a, got.b = helper.pair(options.transport, nil, nil, { client = helper.client_context(client),
    server = helper.server_context(server) })
  local results = helper.together {
    function() return got.a:connect() end,
    function() return got.b:accept() end,
  }
  got.errors = { results[1][2], results[2][2] }
  if fn then fn(got) end
  got.a:close()
  got.b:close()
  return got
end

-- What went by, in order: "sent client_hello", …
local function wire(events)
  local list = {}
  for _, event in ipairs(events) do
    if event.direction then list[#list + 1] = event.direction .. " " .. event.name end
  end
  return list
end

-- The same list seen from the other side.
local function mirrored(list)
  local other = {}
  for i, text in ipairs(list) do
    other[i] = text:gsub("^%a+", { sent = "received", received = "sent" })
  end
  return other
end

local function states(events)
  local list = {}
  for _, event in ipairs(events) do
    if event.type == "state" then list[#list + 1] = event.name end
  end
  return list
end

local TLS12 = {
  "sent client_hello", "received server_hello", "received certificate", "received server_key_exchange",
  "received server_hello_done", "sent client_key_exchange", "sent change_cipher_spec", "sent finished",
  "received new_session_ticket", "received change_cipher_spec", "received finished",
}

local TLS13 = {
  "sent client_hello", "received server_hello", "received encrypted_extensions", "received certificate",
  "received certificate_verify", "received finished", "sent finished",
}

-- TLS 1.3's change_cipher_spec means nothing, and OpenSSL does not tell that one is received.
local function without(list, word)
  local rest = {}
  for _, text in ipairs(list) do
    if not text:find(word, 1, true) then rest[#rest + 1] = text end
  end
  return rest
end

describe("on_trace", function()
  it("is told of a handshake of TLS 1.2, in order, on both sides", function()
    local got = traced { client = { max_version = "1.2" } }
    assert.same(TLS12, wire(got.client))
    assert.same(mirrored(TLS12), wire(got.server))
  end)

  it("is told of a handshake of TLS 1.3, in order, on both sides", function()
    local got = traced { client = { min_version = "1.3" } }
    assert.same(TLS13, without(wire(got.client), "change_cipher_spec"))
    local server = without(wire(got.server), "change_cipher_spec")
    assert.same({ "sent new_session_ticket", "sent new_session_ticket" }, { server[8], server[9] })
    server[8], server[9] = nil, nil
    assert.same(mirrored(TLS13), server)
  end)

  it("gives each event its fields", function()
    for version, text in pairs { ["1.2"] = "TLSv1.2", ["1.3"] = "TLSv1.3" } do
      local before = tls.now()
      local got = traced { client = { max_version = version, min_version = version } }
      for _, side in ipairs { "client", "server" } do
        local last = 0
        assert.truthy(#states(got[side]) > 5)
        for _, event in ipairs(got[side]) do
          assert.truthy(event.seconds >= last and event.seconds <= tls.now() - before, event.seconds)
          last = event.seconds
          if event.type == "state" then
            assert.same({}, { event.direction, event.length })
          else
            assert.equal("integer", compat.math_type(event.length))
            assert.truthy(event.direction == "sent" or event.direction == "received")
          end
          assert.truthy(event.type == "handshake" or event.type == "state" or
            event.name == "change_cipher_spec" and event.type == event.name and event.length == 1, event.name)
        end
        assert.equal(text, got[side][#got[side]].version)
      end
      for _, pair in ipairs { { got.client, got.server }, { got.server, got.client } } do
        local received = {}
        for _, event in ipairs(pair[2]) do
          if event.direction == "received" then received[event.name] = event.length end
        end
        for _, event in ipairs(pair[1]) do -- what one side sends has the length that the other receives
          if event.direction == "sent" and received[event.name] then
            assert.equal(event.length, received[event.name], event.name)
          end
        end
      end
    end
  end)

  it("tells a state once while it lasts, by OpenSSL's text", function()
    local list = states(traced({ client = { max_version = "1.2" } }).client)
    for i = 2, #list do assert.not_equal(list[i - 1], list[i]) end
    local all = table.concat(list, "\n")
    for _, text in ipairs { "write client hello", "read server hello", "write finished", "read finished" } do
      assert.truthy(all:find(text, 1, true), text .. " in\n" .. all)
    end
  end)

  it("tells a HelloRetryRequest by that name", function()
    local got = traced { client = { groups = "X25519:P-256" }, server = { groups = "P-256" } }
    local expected = { "sent client_hello", "received hello_retry_request", "sent client_hello" }
    assert.same(expected, compat.move(without(wire(got.client), "change_cipher_spec"), 1, 3, 1, {}))
    assert.same(mirrored(expected), compat.move(without(wire(got.server), "change_cipher_spec"), 1, 3, 1, {}))
  end)

  it("tells alerts, and those that end a handshake before its failure is returned", function()
    local got = traced { server = { certificate = UNKNOWN_CA.certificate, key = UNKNOWN_CA.key } }
    assert.equal("verify", got.errors[1].code)
    assert.equal("alert", got.errors[2].code)
    local sent, received = wire(got.client), wire(got.server)
    assert.equal("sent unknown_ca", sent[#sent])
    assert.equal("received unknown_ca", received[#received])
    for _, event in ipairs(got.client) do
      if event.name == "unknown_ca" then assert.same({ "alert", 2 }, { event.type, event.length }) end
    end
  end)

  it("tells what comes after the handshake", function()
    for version, more in pairs { ["1.2"] = {}, ["1.3"] = { "sent key_update", "received key_update" } } do
      local got = traced({ client = { max_version = version } }, function(got)
        got.client = {}
        helper.together {
          function()
            if version == "1.3" then assert(got.a:key_update(true)) end
            assert(got.a:write("x"))
            assert(got.a:read(1))
            assert(got.a:shutdown())
          end,
          function()
            assert(got.b:read(1))
            assert(got.b:write("y"))
            assert(got.b:shutdown())
          end,
        }
      end)
      local expected = compat.move({ "sent close_notify", "received close_notify" }, 1, 2, #more + 1, more)
      assert.same(expected, without(wire(got.client), "new_session_ticket"))
    end
  end)

  it("may wait, and the events keep their order and their times", function()
    helper.collect = true
    finally(function() helper.collect = false end)
    for _, version in ipairs { "1.2", "1.3" } do
      local at_once = traced { client = { max_version = version } }
      local later = traced { ponder = true, client = { max_version = version } }
      assert.same(wire(at_once.client), wire(later.client))
      assert.same(states(at_once.client), states(later.client))
      assert.same(wire(at_once.server), wire(later.server))
    end
  end)

  it("fails the operation with an error of its own", function()
    for _, version in ipairs { "1.2", "1.3" } do
      local got = traced { client = { max_version = version, on_trace = function() error("no more", 0) end } }
      assert.equal("hook", got.errors[1].code)
      assert.equal("on_trace failed: no more", got.errors[1].reason)
      assert.equal("no more", got.errors[1].cause.error)
      assert.truthy(got.errors[1].cause.traceback:find("trace_spec", 1, true))
    end
  end)

  it("may close the connection", function()
    local got = traced { client = { on_trace = function(conn) conn:close() end } }
    assert.equal("closed", got.errors[1].code)
  end)

  it("is that of the context at the door where the server name chooses another", function()
    local door, inner = {}, 0
    local other = helper.server_context { on_trace = function() inner = inner + 1 end }
    traced { server = {
      names = { localhost = other },
      on_trace = function(_, event) door[#door + 1] = event end,
    } }
    assert.equal("received client_hello", wire(door)[1])
    assert.truthy(#wire(door) > 5)
    assert.equal(0, inner)
  end)

  it("is told no flood: what is beyond a step's 512 events is lost, and it goes on", function()
    local count, floods = helper.slow < 10 and 3000 or 1500, 0
    traced({ client = { min_version = "1.3" }, transport = "TCP" }, function(got)
      for _ = 1, 2 do
        local told = #got.client
        local results = helper.together {
          function() return got.a:read(1) end,
          function()
            for _ = 1, count do assert(got.b:key_update()) end
            return got.b:write("x")
          end,
        }
        assert.equal("x", results[1][1])
        floods = floods + (#got.client - told)
      end
      got.client = {}
      helper.together { function() assert(got.a:shutdown()) end, function() assert(got.b:shutdown()) end }
      assert.same({ "sent close_notify", "received close_notify" }, wire(got.client))
    end)
    assert.truthy(floods > 512 and floods < 2 * count, floods)
  end)

  it("is a function", function()
    assert.has_error(function() tls.context { on_trace = true } end,
      "tls.context: option 'on_trace': function expected, got boolean")
  end)
end)
