local tls = require "cotls"
local helper = require "spec.helper"
local visit = require "spec.visit"

local resumed, session_of = visit.resumed, visit.session

for _, version in ipairs { "1.2", "1.3" } do
  local function context(kind, options)
    return helper[kind .. "_context"](helper.with({ min_version = version, max_version = version }, options))
  end
  local function server_of(options) return context("server", options) end

  local mine = context("client")

  describe("ticket keys on TLS " .. version, function()
    it("are shared, rotated and taken away", function()
      local old, new = helper.noise(80, 1), helper.noise(80, 2)
      local first, second = server_of { ticket_keys = { old } }, server_of { ticket_keys = { new, old } }
      local session = session_of(mine, first)
      assert.is_true(resumed(mine, second, { session = session }))
      assert.equal(first, first:set_ticket_keys { new })
      assert.is_false(resumed(mine, first, { session = session }))
      assert.is_true(resumed(mine, second, { session = session_of(mine, first) }))
      assert.is_false(resumed(mine, server_of(), { session = session_of(mine, first) }))
    end)

    it("that are not the first renew the ticket", function()
      local old, new = helper.noise(80, 1), helper.noise(80, 2)
      local session = session_of(mine, server_of { ticket_keys = { old } })
      local got = visit.over(mine, server_of { ticket_keys = { new, old } }, { session = session })
      assert.is_true(got.resumed)
      assert.is_true(resumed(mine, server_of { ticket_keys = { new } }, { session = got.client:session() }))
      assert.is_false(resumed(mine, server_of { ticket_keys = { new } }, { session = session }))
    end)

    it("that share a name with another are told by the rest", function()
      local old = helper.noise(80, 1)
      local forged = old:sub(1, 16) .. helper.noise(64, 3)
      local session = session_of(mine, server_of { ticket_keys = { old } })
      assert.is_false(resumed(mine, server_of { ticket_keys = { forged } }, { session = session }))
    end)

    it("change while connections are open", function()
      local server = server_of { ticket_keys = { helper.noise(80, 1) } }
      local got = visit.good(mine, server)
      server:set_ticket_keys { helper.noise(80, 2) }
      collectgarbage()
      assert(got.server:write("y"))
      assert.equal("y", got.client:read(1))
      got.client:close()
      got.server:close()
      -- and between a hello and its answer
      local a, b = helper.pair(nil, { session = session_of(mine, server) }, nil, { client = mine, server = server })
      a:settimeout(0)
      assert.equal("want_read", helper.code_of(a:connect()))
      server:set_ticket_keys { helper.noise(80, 3) }
      a:settimeout(nil)
      helper.shake(a, b)
      assert.is_false(a:resumed())
      a:close()
      b:close()
    end)

    it("of a name are its own, and the door's serve those without", function()
      local ours, theirs = { helper.noise(80, 1) }, { helper.noise(80, 2) }
      local keyed, plain = server_of { ticket_keys = theirs }, server_of()
      local door = server_of { ticket_keys = ours, names = { ["a.example.org"] = keyed, ["b.example.org"] = plain } }
      local function at(name, session)
        return { server_name = name, verify_name = "localhost", session = session }
      end
      local session = session_of(mine, door, at "a.example.org")
      assert.is_true(resumed(mine, keyed, at("a.example.org", session)))
      assert.is_true(resumed(mine, server_of { ticket_keys = theirs }, at("a.example.org", session)))
      assert.is_false(resumed(mine, server_of { ticket_keys = ours }, at("a.example.org", session)))
      session = session_of(mine, door, at "b.example.org")
      assert.is_true(resumed(mine, server_of { ticket_keys = ours }, at("b.example.org", session)))
      assert.is_false(resumed(mine, plain, at("b.example.org", session)))
      assert.is_true(resumed(mine, door, at("b.example.org", session)))
      local bare = server_of { names = { ["a.example.org"] = keyed, ["b.example.org"] = plain } }
      assert.is_true(resumed(mine, keyed, at("a.example.org", session_of(mine, bare, at "a.example.org"))))
      assert.is_true(resumed(mine, bare, at("b.example.org", session_of(mine, bare, at "b.example.org"))))
    end)

    it("do not open what was sealed for other settings", function()
      local keys = { helper.noise(80, 1) }
      local CA, OTHER = helper.ca.certificate, helper.other_ca.certificate
      local own = helper.leaf { subject = "CN=client" }
      local other_name = helper.leaf { names = { "localhost", "example.org" } }
      local asked = { ticket_keys = keys, verify_client = "optional", ca = { CA, OTHER } }
      local function differing(name, value)
        local all = {}
        for k, v in pairs(asked) do all[k] = v end
        all[name] = value
        if name == "certificate" then all.certificate, all.key = value.certificate, value.key end
        return server_of(all)
      end
      local client = context("client", own)
      local session = session_of(client, server_of(asked))
      assert.is_true(resumed(client, server_of(asked), { session = session }))
      for name, value in pairs {
        verify_client = "require", ca = { CA }, verify_depth = 5, purpose = "any", partial_chain = true,
        security_level = 1, client_signature_algorithms = "ECDSA+SHA256", certificate = other_name,
        ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256",
      } do
        local changed = differing(name, value)
        assert.is_false(resumed(client, changed, { session = session }), name)
        assert.is_false(resumed(client, server_of(asked), { session = session_of(client, changed) }), name)
      end
      assert.is_false(resumed(client, server_of { ticket_keys = keys }, { session = session }))
      -- a certificate that is renewed has the same names
      local renewed = helper.leaf()
      assert.is_true(resumed(client, differing("certificate", renewed), { session = session }))
    end)
  end)

  describe("tickets on TLS " .. version, function()
    it("are as many as said", function()
      for _, count in ipairs { 0, 1, 3 } do
        local client = context("client", { resume = true, session_key = "a" })
        visit.over(client, server_of { tickets = count })
        local expected = version == "1.2" and 1 or count
        assert.equal(expected, client:session_stats().cached)
      end
    end)

    it("none: nothing to resume on 1.3", function()
      local session = session_of(mine, server_of { tickets = 0 })
      assert.equal(version == "1.2", session:is_resumable())
    end)

    it("false: sessions stay with the server", function()
      local server = server_of { tickets = false }
      local session = session_of(mine, server)
      assert.equal(version == "1.2", session:ticket_lifetime() == nil)
      assert.is_true(server:session_stats().cached > 0)
      assert.is_true(resumed(mine, server, { session = session }))
      assert.equal(server, server:flush_sessions())
      assert.equal(0, server:session_stats().cached)
      assert.is_false(resumed(mine, server, { session = session }))
      local keyed = { tickets = false, ticket_keys = { helper.noise(80, 1) } }
      assert.is_false(resumed(mine, server_of(keyed), { session = session_of(mine, server_of(keyed)) }))
    end)

    it("false, without a cache: nothing is resumed", function()
      local server = server_of { tickets = false, session_cache = false }
      local session = session_of(mine, server)
      assert.equal(0, server:session_stats().cached)
      assert.is_false(resumed(mine, server, { session = session }))
    end)

    it("are good without a cache", function()
      for _, none in ipairs { false, 0 } do
        local server = server_of { session_cache = none }
        assert.is_true(resumed(mine, server, { session = session_of(mine, server) }))
        assert.equal(0, server:session_stats().cached)
      end
    end)
  end)

  describe("session_cache on TLS " .. version, function()
    it("is as large as said", function()
      local server = server_of { tickets = false, session_cache = 3 }
      local sessions = {}
      for i = 1, 5 do sessions[i] = session_of(mine, server) end
      local stats = server:session_stats()
      assert.equal(3, stats.cached)
      assert.equal(version == "1.2" and 2 or 7, stats.cache_full)
      assert.is_false(resumed(mine, server, { session = sessions[1] }))
      assert.is_true(resumed(mine, server, { session = session_of(mine, server) }))
    end)
  end)
end

describe("session_timeout", function()
  it("ends tickets and kept sessions", function()
    local cases = {}
    for _, version in ipairs { "1.2", "1.3" } do
      for _, tickets in ipairs { 2, false } do
        local only = { min_version = version, max_version = version, session_timeout = 1, tickets = tickets }
        local one = { server = helper.server_context(only), client = helper.client_context {
          min_version = version, max_version = version } }
        one.session = session_of(one.client, one.server)
        one.what = ("%s, tickets = %s"):format(version, tostring(tickets))
        assert.is_true(version == "1.2" or one.session:ticket_lifetime() == 1)
        cases[#cases + 1] = one
      end
    end
    local last = os.time()
    helper.until_true(function() return os.time() > last + 1 end, "the second after the next")
    for _, one in ipairs(cases) do
      assert.equal(one.client and one.session:version() == "TLSv1.2", one.session:is_resumable(), one.what)
      assert.is_false(resumed(one.client, one.server, { session = one.session }), one.what)
    end
    assert.equal(1, cases[2].server:session_stats().timeouts)
  end)

  it("is the session's, 7200 seconds by default", function()
    assert.equal(300, session_of(helper.client_context(), helper.server_context { session_timeout = 300 })
      :ticket_lifetime())
  end)
end)

describe("session_stats", function()
  it("count", function()
    local server, client = helper.server_context { tickets = false }, helper.client_context { max_version = "1.2" }
    local session = session_of(client, server)
    assert.is_true(resumed(client, server, { session = session }))
    server:flush_sessions()
    assert.is_false(resumed(client, server, { session = session }))
    assert.same({ accepted = 3, cache_full = 0, cached = 1, connected = 0, resumed = 1, timeouts = 0, unknown = 1 },
      server:session_stats())
    assert.equal(3, client:session_stats().connected)
  end)
end)

describe("options of sessions", function()
  it("are refused by name", function()
    local function refused(options, text)
      local context, err = tls.context(options)
      assert.is_nil(context)
      assert.same({ "config", text }, { err.code, err.reason })
    end
    local own = helper.server_leaf
    for name, value in pairs { session_cache = 1, session_timeout = 1, tickets = 1,
      ticket_keys = { ("k"):rep(80) }, max_early_data = 1, anti_replay = false } do
      refused({ [name] = value }, name .. ": is for servers")
    end
    for name, value in pairs { resume = true, session_key = "a" } do
      refused({ role = "server", certificate = own.certificate, key = own.key, [name] = value },
        name .. ": is for clients")
    end
    local server = { role = "server", certificate = own.certificate, key = own.key, max_early_data = 0x100000000 }
    refused(server, "max_early_data: has 32 bits")
    server.max_early_data, server.session_cache = 1, false
    refused(server, "max_early_data: needs session_cache: a replayed ticket is told by its absence there")
    server.anti_replay = false
    assert(tls.context(server))
  end)

  it("raise where they are of another type", function()
    local function raises(name, value, what)
      assert.error_matches(function() tls.context { role = "server", [name] = value } end,
        "option '" .. name .. "': " .. what)
    end
    raises("session_cache", -1, "an integer, not negative, or false expected")
    raises("session_cache", true, "an integer, not negative, or false expected")
    raises("session_timeout", 0, "a positive integer expected")
    raises("session_timeout", 1.5, "a positive integer expected")
    raises("tickets", "2", "an integer, not negative, or false expected")
    raises("ticket_keys", {}, "a list of strings of 80 bytes expected")
    raises("ticket_keys", { ("k"):rep(79) }, "a list of strings of 80 bytes expected")
    raises("ticket_keys", ("k"):rep(80), "a list of strings of 80 bytes expected")
    raises("max_early_data", -1, "an integer, not negative expected")
    local server, client = helper.server_context(), helper.client_context()
    assert.error_matches(function() server:set_ticket_keys {} end, "set_ticket_keys: option 'ticket_keys': a list")
    assert.error_matches(function() client:set_ticket_keys { ("k"):rep(80) } end, "the context's role is \"client\"")
  end)
end)
