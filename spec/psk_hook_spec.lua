-- SPDX-License-Identifier: MIT
-- A server's on_psk: keys that are looked up while the handshake waits, on TLS 1.2 and 1.3.

local compat = require "cotls.compat"
local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"

local ponder = helper.ponder

local KEY = helper.noise(32, 7)
local HEX = KEY:gsub(".", function(c) return ("%02x"):format(c:byte()) end)

-- A client trusts helper.ca: loading the system's takes its time.
local function with(options, more)
  if options.role ~= "server" then options.ca = helper.ca.certificate end
  for name, value in pairs(more or {}) do options[name] = value end
  return assert(tls.context(options))
end

-- A client with a key meets a server: the client's and the server's errors or "x", the connections.
local function meet(client, server, options)
  local a, b = helper.pair(nil, options, nil, { client = client, server = server })
  local got, others = helper.greet(a, b)
  return got[1] or got[2], others[1] and "x" or others[2], a, b
end

for _, version in ipairs { "1.2", "1.3" } do
  describe("on_psk on TLS " .. version, function()
    local asked

    local function client(identity, more)
      return with({ psk = { [identity] = KEY }, min_version = version, max_version = version }, more)
    end

    -- Without a certificate, unless `more` has one.
    local function server(answer, more)
      asked = {}
      return with({
        role = "server", min_version = version, max_version = version,
        on_psk = function(_, identity)
          ponder()
          asked[#asked + 1] = identity
          return answer(identity)
        end,
      }, more)
    end

    local function known(identity) return identity == "me" and KEY or nil end

    it("gives the key of an identity", function()
      local seen, served, a, b = meet(client "me", server(known))
      assert.same({ "x", "x" }, { seen, served })
      assert.same({ "me" }, asked)
      assert.same({ "me", "me", false }, { a:psk_identity(), b:psk_identity(), b:resumed() })
      assert.is_nil(a:peer_certificate())
    end)

    it("gives keys of every length, with NULs", function()
      for _, length in ipairs { 1, 64, 512 } do
        local key = "\0" .. helper.noise(length - 1)
        local seen = meet(with { psk = { me = key }, max_version = version }, server(function() return key end))
        assert.equal("x", seen)
      end
    end)

    it("nil is an unknown identity", function()
      local err, server_err = meet(client "you", server(known))
      assert.same({ "you" }, asked)
      assert.same({ "alert", version == "1.2" and "unknown_psk_identity" or "handshake_failure" },
        { err.code, err.alert.name })
      assert.equal("tls", server_err.code)
    end)

    it("an error and a wrong answer refuse", function()
      local wrong = { function() error "no" end, function() return false end, function() return true end,
        function() return "" end, function() return ("k"):rep(513) end, function() return 7 end }
      for _, answer in ipairs(wrong) do
        local leaf = helper.server_leaf
        local err, server_err = meet(client "me", server(answer, { certificate = leaf.certificate, key = leaf.key }))
        assert.same({ "alert", "unknown_psk_identity" }, { err.code, err.alert.name })
        assert.equal("hook", server_err.code)
        assert.matches("^on_psk ", server_err.reason)
      end
    end)

    it("is not asked what the option psk knows", function()
      local seen, _, _, b = meet(client "me", server(function() error "asked" end, { psk = { me = KEY } }))
      assert.same({ "x", "me" }, { seen, b:psk_identity() })
      seen, _, _, b = meet(client "me", server(known, { psk = { you = "other" } }))
      assert.same({ "x", "me" }, { seen, b:psk_identity() })
    end)

    it("is preferred to a certificate, and not asked where the client has none", function()
      local leaf = helper.server_leaf
      local context = server(known, { certificate = leaf.certificate, key = leaf.key })
      local _, _, a = meet(client "me", context)
      assert.is_nil(a:peer_certificate())
      local seen, _, plain = meet(helper.client_context { min_version = version, max_version = version }, context)
      assert.equal("x", seen)
      assert.truthy(plain:peer_certificate())
      assert.same({ "me" }, asked)
    end)

    it("is asked about identities that are as long as tickets", function()
      local long = ("i"):rep(120)
      local seen, served, a, b = meet(client(long), server(function(identity) return identity == long and KEY end))
      assert.same({ "x", "x" }, { seen, served })
      assert.same({ long }, asked)
      a:close()
      b:close()
    end)

    it("is not asked about tickets of ours", function()
      local keys = { tickets = false, ticket_keys = { ticket_keys = { helper.noise(80) } }, default = {} }
      keys.tickets = { tickets = false }
      keys.early = { max_early_data = version == "1.3" and 100 or nil }
      keys.hook = { on_ticket_key = function() return helper.noise(80) end }
      for name, more in pairs(keys) do
        local context = server(known, more)
        local own = client("me", { resume = true, session_key = "somebody" })
        for round = 1, 3 do
          local seen, served, a, b = meet(own, context)
          assert.same({ "x", "x" }, { seen, served }, name)
          assert.equal(round > 1, b:resumed(), name)
          assert.equal("me", b:psk_identity())
          a:close()
          b:close()
        end
        for _, identity in ipairs(asked) do assert.equal("me", identity, name) end
      end
    end)

    it("counts in the context that the server name chooses, and only there", function()
      local leaf = helper.server_leaf
      local named = server(known)
      local door = with { role = "server", certificate = leaf.certificate, key = leaf.key, max_version = version,
        names = { localhost = named } }
      local seen, _, _, b = meet(client "me", door)
      assert.same({ "x", "me" }, { seen, b:psk_identity() })
      local plain = helper.server_context { max_version = version }
      door = server(known, { names = { localhost = plain } })
      seen, _, _, b = meet(client("me", { ca = helper.ca.certificate }), door)
      assert.is_nil(b:psk_identity())
      assert.equal("x", seen) -- by the certificate
      assert.same({}, asked)
    end)

    it("answers openssl s_client", function()
      local flag = version == "1.2" and "-tls1_2" or "-tls1_3"
      local function serves(answer, ...)
        local more, got = { ... }, {}
        helper.in_loop(function()
          local listener = assert(tls.listen("127.0.0.1", 0, { context = with {
            role = "server", max_version = version, on_psk = function(_, identity)
              luv.sleep(0.01)
              got.identity = identity
              return answer
            end } }))
          luv.spawn(function()
            local conn = listener()
            listener:close()
            got.ok, got.err = conn:accept()
            got.psk_identity = conn:psk_identity()
            if got.ok then conn:shutdown() end
            conn:close()
          end)
          local argv = { "openssl", "s_client", flag, "-connect", "127.0.0.1:" .. listener:port(), "-psk", HEX,
            "-psk_identity", "me", compat.unpack(more) }
          got.status, got.out = helper.run(argv)
        end)
        return got
      end
      local got = serves(KEY)
      assert.same({ "me", "me" }, { got.identity, got.psk_identity }, tostring(got.err))
      if version == "1.3" then
        assert.equal("me", serves(KEY, "-groups", "X25519:P-256").psk_identity)
      end
      got = serves("wrong")
      assert.equal("tls", got.err.code)
      got = serves(nil)
      assert.equal("tls", got.err.code)
    end)
  end)
end

describe("on_psk", function()
  it("is asked once, also after a HelloRetryRequest", function()
    local count = 0
    local context = with { role = "server", min_version = "1.3", groups = "P-256", on_psk = function()
      ponder()
      count = count + 1
      return KEY
    end }
    local seen, _, _, b = meet(with { psk = { me = KEY }, groups = "X25519:P-256" }, context)
    assert.same({ "x", "me", 1, true }, { seen, b:psk_identity(), count, b:info().hello_retry })
  end)

  it("is asked for TLS 1.2 where the server has no more, though the client offers 1.3", function()
    local asked = {}
    local context = with { role = "server", max_version = "1.2", on_psk = function(_, identity)
      asked[#asked + 1] = identity
      return KEY
    end }
    local seen, _, _, b = meet(with { psk = { me = KEY } }, context)
    assert.same({ "x", "me", "TLSv1.2" }, { seen, b:psk_identity(), b:version() })
    assert.same({ "me" }, asked)
  end)

  it("is refused beside a required certificate", function()
    helper.assert_refused("on_psk", { "verify_client" },
      tls.context { role = "server", on_psk = print, verify_client = "require", ca = helper.ca.certificate })
  end)
end)
