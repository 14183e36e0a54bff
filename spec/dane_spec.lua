-- TLSA records: which match, what each usage asks of chain and name, what is refused, and against openssl.

local compat = require "cotls.compat"
local tls = require "cotls"
local bytes = require "spec.bytes"
local helper = require "spec.helper"
local judge = require "spec.judge"

-- A root, a CA under it, and a leaf under that; what the server sends.
local ROOT = assert(tls.make_certificate { subject = "CN=root", is_ca = true })
local MID = assert(tls.make_certificate { subject = "CN=mid", is_ca = true, ca = ROOT })
local LEAF = helper.leaf { ca = MID }

local function with_chain(leaf, ...)
  return { certificate = leaf.certificate .. table.concat { ... }, key = leaf.key }
end

local function hash(data, algorithm)
  local status, out = helper.run({ "openssl", "dgst", "-" .. algorithm, "-binary" }, data)
  assert(status == 0)
  return out
end

-- What a record of that selector and matching type says of a certificate; SHA-256 and SHA-512 by openssl.
local made = {}

local function association(certificate, selector, matching_type)
  local key = certificate .. selector .. matching_type
  if not made[key] then
    local form = selector == 0 and { "x509", "-outform", "DER" } or { "x509", "-noout", "-pubkey" }
    local status, data = helper.run({ "openssl", compat.unpack(form) }, certificate)
    if status == 0 and selector == 1 then
      status, data = helper.run({ "openssl", "pkey", "-pubin", "-outform", "DER" }, data)
    end
    assert(status == 0)
    made[key] = matching_type == 0 and data or hash(data, matching_type == 1 and "sha256" or "sha512")
  end
  return made[key]
end

local function record(usage, selector, matching_type, certificate)
  return { usage = usage, selector = selector, matching_type = matching_type,
    data = association(certificate, selector, matching_type) }
end

local function meeting(leaf, records, trust, more)
  return {
    client = { ca = trust or helper.other_ca.certificate },
    server = { role = "server", certificate = leaf.certificate, key = leaf.key },
    options = helper.with({ dane = records }, more),
  }
end

local CHAIN = with_chain(LEAF, MID.certificate, ROOT.certificate)
local NO_MATCH = { code = 65, text = "no matching DANE TLSA records", alert = "bad_certificate" }
local NO_MATCH_ABOVE = { code = 65, depth = 2, text = NO_MATCH.text, alert = NO_MATCH.alert }
local WRONG_NAME = { code = 62, text = "[Hh]ostname mismatch", alert = "bad_certificate" }

-- Accepted, by that record, at that depth.
local function accepted(given, wanted, depth)
  judge.accepted(given, function(got)
    wanted.depth = depth
    assert.same(wanted, got.client:dane_result())
    wanted.depth = nil
  end)
end

describe("a TLSA record", function()
  for selector = 0, 1 do
    for matching_type = 0, 2 do
      local name = (" %d %d"):format(selector, matching_type)

      it("3" .. name .. " matches the server's certificate, and needs no CA", function()
        local good = record(3, selector, matching_type, LEAF.certificate)
        accepted(meeting(LEAF, { good }), good, 0)
        judge.refused(meeting(helper.leaf { ca = MID }, { good }), NO_MATCH)
      end)

      it("2" .. name .. " matches a CA of the chain, and needs no other", function()
        local good = record(2, selector, matching_type, ROOT.certificate)
        accepted(meeting(CHAIN, { good }), good, 2)
        good = record(2, selector, matching_type, MID.certificate)
        accepted(meeting(CHAIN, { good }), good, 1)
        local other = record(2, selector, matching_type, helper.other_ca.certificate)
        judge.refused(meeting(CHAIN, { other }), NO_MATCH_ABOVE)
      end)

      it("1" .. name .. " matches the server's certificate, and the CA must be trusted too", function()
        local good = record(1, selector, matching_type, LEAF.certificate)
        accepted(meeting(CHAIN, { good }, ROOT.certificate), good, 0)
        judge.refused(meeting(CHAIN, { good }), { code = 19, depth = 2, text = "self.signed", alert = "unknown_ca" })
        judge.refused(meeting(with_chain(helper.leaf { ca = MID }, MID.certificate), { good }, ROOT.certificate),
          NO_MATCH)
      end)

      it("0" .. name .. " matches a CA of the chain, which must be trusted too", function()
        local good = record(0, selector, matching_type, ROOT.certificate)
        accepted(meeting(CHAIN, { good }, ROOT.certificate), good, 2)
        good = record(0, selector, matching_type, MID.certificate)
        accepted(meeting(CHAIN, { good }, ROOT.certificate), good, 1)
        judge.refused(meeting(CHAIN, { good }), { code = 19, depth = 2, text = "self.signed", alert = "unknown_ca" })
        local other = record(0, selector, matching_type, helper.other_ca.certificate)
        judge.refused(meeting(CHAIN, { other }, { ROOT.certificate, helper.other_ca.certificate }), NO_MATCH_ABOVE)
      end)
    end
  end

  it("2 1 0, a CA's bare key, serves a chain without that CA", function()
    local good = record(2, 1, 0, ROOT.certificate)
    accepted(meeting(with_chain(LEAF, MID.certificate), { good }), good, 1) -- what the key has signed
  end)

  it("2 0 0, a CA's certificate, serves a chain without that CA", function()
    local good = record(2, 0, 0, ROOT.certificate)
    accepted(meeting(with_chain(LEAF, MID.certificate), { good }), good, 2)
  end)
end)

describe("the names", function()
  local elsewhere = { server_name = "other.example" }

  it("don't count for DANE-EE(3), nor do dates", function()
    local good = record(3, 1, 1, LEAF.certificate)
    accepted(meeting(LEAF, { good }, nil, elsewhere), good, 0)
    accepted(meeting(LEAF, { good }, nil, { server_name = "127.0.0.9" }), good, 0)
    local old = helper.leaf { ca = MID, days = -1 }
    good = record(3, 1, 1, old.certificate)
    accepted(meeting(old, { good }, nil, elsewhere), good, 0)
  end)

  it("don't count for DANE-EE(3), nor do CRLs; for the other usages they do", function()
    local pki = require "spec.pki"
    local crl = pki.crl { ca = MID, revoked = { LEAF } }
    local given = meeting(CHAIN, { record(3, 1, 1, LEAF.certificate) })
    given.client.crl = crl
    judge.accepted(given)
    given = meeting(CHAIN, { record(2, 1, 1, ROOT.certificate) })
    given.client.crl = crl
    judge.refused(given, { code = 23, text = "revoked", alert = "certificate_revoked" })
  end)

  it("count for the other usages, and so do dates", function()
    judge.refused(meeting(CHAIN, { record(2, 1, 1, ROOT.certificate) }, nil, elsewhere), WRONG_NAME)
    judge.refused(meeting(CHAIN, { record(1, 1, 1, LEAF.certificate) }, ROOT.certificate, elsewhere), WRONG_NAME)
    judge.refused(meeting(CHAIN, { record(0, 1, 1, ROOT.certificate) }, ROOT.certificate, elsewhere), WRONG_NAME)
    local old = with_chain(helper.leaf { ca = MID, days = -1 }, MID.certificate, ROOT.certificate)
    judge.refused(meeting(old, { record(2, 1, 1, ROOT.certificate) }),
      { code = 10, text = "expired", alert = "certificate_expired" })
  end)

  it("may be any of verify_name, addresses among them", function()
    local good = record(2, 1, 1, ROOT.certificate)
    accepted(meeting(CHAIN, { good }, nil, { verify_name = { "other.example", "localhost" } }), good, 2)
    accepted(meeting(CHAIN, { good }, nil, { verify_name = { "other.example", "127.0.0.1" } }), good, 2)
    accepted(meeting(CHAIN, { good }, nil, { server_name = "::1" }), good, 2)
    judge.refused(meeting(CHAIN, { good }, nil, { verify_name = { "a.example", "b.example" } }), WRONG_NAME)
  end)

  it("that are sent are the user's: no SNI for verify_name or an address", function()
    local options = { dane = { record(3, 1, 1, helper.server_leaf.certificate) } }
    local function asked(more)
      local fd, other = helper.socketpair()
      for name, value in pairs(options) do more[name] = value end
      local client = assert(helper.contexts().client:wrap(fd, more))
      local server = assert(helper.contexts().server:wrap(other))
      helper.shake(client, server)
      local name = server:server_name()
      client:close()
      server:close()
      return name
    end
    assert.equal("some.example", asked { server_name = "some.example" })
    assert.is_nil(asked { verify_name = "some.example" })
    assert.is_nil(asked { server_name = "127.0.0.1" })
  end)
end)

describe("of several records", function()
  it("one must match", function()
    local good, bad = record(3, 1, 1, LEAF.certificate), record(3, 1, 1, ROOT.certificate)
    accepted(meeting(LEAF, { bad, good }), good, 0)
    accepted(meeting(LEAF, { good, bad, record(2, 0, 2, helper.other_ca.certificate) }), good, 0)
    judge.refused(meeting(LEAF, { bad, record(3, 0, 2, ROOT.certificate) }), NO_MATCH)
  end)

  it("those that can't be used are skipped", function()
    local good = record(3, 1, 1, LEAF.certificate)
    accepted(meeting(LEAF, {
      { usage = 4, selector = 1, matching_type = 1, data = good.data },
      { usage = 3, selector = 2, matching_type = 1, data = good.data },
      { usage = 3, selector = 1, matching_type = 3, data = good.data },
      { usage = 3, selector = 1, matching_type = 1, data = "short" },
      { usage = 255, selector = 255, matching_type = 255, data = "" },
      good,
    }), good, 0)
  end)

  it("that can't be used only, nothing is left to verify by: refused, by name", function()
    local client = helper.client_context()
    local right = record(3, 1, 1, LEAF.certificate).data
    for _, one in ipairs {
      { usage = 4, selector = 1, matching_type = 1, data = right },
      { usage = 3, selector = 2, matching_type = 1, data = right },
      { usage = 3, selector = 1, matching_type = 9, data = right },
      { usage = 3, selector = 1, matching_type = 1, data = right:sub(2) },
      { usage = 3, selector = 0, matching_type = 0, data = "no certificate" },
      { usage = 3, selector = 1, matching_type = 1, data = "" },
    } do
      local fd, other = helper.socketpair()
      local conn, err = client:wrap(fd, { server_name = "localhost", dane = { one } })
      assert.is_nil(conn)
      assert.equal("config", err.code)
      assert.matches("^dane: none of the records can be used: .", err.reason)
      helper.close_fd(fd)
      helper.close_fd(other)
    end
  end)
end)

describe("the option dane", function()
  local good = record(3, 1, 1, helper.server_leaf.certificate)

  local function refused(context, options, why)
    local fd, other = helper.socketpair()
    local conn, err = context:wrap(fd, options)
    assert.is_nil(conn)
    assert.equal("config", err.code)
    assert.matches("^dane: " .. why, err.reason)
    helper.close_fd(fd)
    helper.close_fd(other)
  end

  it("is for clients that verify", function()
    refused(helper.server_context(), { dane = { good } }, "is for clients")
    refused(helper.client_context { insecure = true }, { server_name = "localhost", dane = { good } },
      "nothing is verified: the context is insecure")
  end)

  it("is a list of records: anything else raises", function()
    local client = helper.client_context()
    for _, value in ipairs {
      "3 1 1 abc", {}, { "3 1 1 abc" }, { { 3, 1, 1, "abc" } }, good,
      { { usage = 3, selector = 1, matching_type = 1 } },
      { { usage = 3, selector = 1, matching_type = 1, data = 1 } },
      { { usage = "3", selector = 1, matching_type = 1, data = "x" } },
      { { usage = 256, selector = 1, matching_type = 1, data = "x" } },
      { { usage = 3, selector = -1, matching_type = 1, data = "x" } },
      { { usage = 3, selector = 1, matching_type = 1.5, data = "x" } },
    } do
      assert.error_matches(function() client:wrap(0, { server_name = "localhost", dane = value }) end,
        "option 'dane': a list of")
    end
  end)

  it("is of one connection: the next of the same context verifies as usual", function()
    local client = assert(tls.context { ca = helper.other_ca.certificate })
    local server = helper.contexts().server
    for _ = 1, 2 do
      local got = judge.meet(client, server, { dane = { good } })
      assert.is_nil(got.client_error)
      assert.equal(3, got.client:dane_result().usage)
      got = judge.meet(client, server)
      assert.equal(20, got.client_error.verify.code)
      assert.is_nil(got.client:dane_result())
    end
  end)

  it("leaves pins and limits of the context in force", function()
    local one = meeting(LEAF, { record(3, 1, 1, LEAF.certificate) })
    one.client.pins = "sha256/" .. ("A"):rep(43) .. "="
    judge.refused(one, { code = 50, text = "pins", alert = "handshake_failure" })
  end)

  it("is part of what a session stands for", function()
    local client = helper.client_context { resume = true, session_key = "one" }
    local server = helper.contexts().server
    local other = record(3, 0, 1, helper.server_leaf.certificate)
    local function resumes(records)
      local resumed
      local one, two = helper.pair(nil, { dane = records }, nil, { client = client, server = server })
      helper.together {
        function()
          assert(one:connect())
          assert(one:read(1)) -- tickets come before it
          resumed = one:resumed()
          assert.equal(records ~= nil and not resumed, one:dane_result() ~= nil)
        end,
        function()
          assert(two:accept())
          assert(two:write("x"))
        end,
      }
      one:close()
      two:close()
      return resumed
    end
    assert.is_false(resumes())
    assert.is_true(resumes())
    assert.is_false(resumes { good })
    assert.is_true(resumes { good })
    assert.is_false(resumes { good, other })
    assert.is_true(resumes { other, good }) -- their order doesn't matter
    assert.is_true(resumes())
  end)

  it("has a result only after the verdict", function()
    local client, server = helper.pair(nil, { dane = { good } })
    assert.is_nil(client:dane_result())
    helper.shake(client, server)
    local expected = { usage = 3, selector = 1, matching_type = 1, data = good.data, depth = 0 }
    assert.same(expected, client:dane_result())
    assert.is_nil(server:dane_result())
    client:close()
    server:close()
    collectgarbage()
    assert.same(expected, client:dane_result())
  end)
end)

describe("against openssl, DANE:", function()
  local function file(text) return helper.temp_file(text) end

  for _, version in ipairs { "1.2", "1.3" } do
    local flag = "-tls" .. version:gsub("%.", "_")

    it(version .. ": our client and s_server", function()
      local luv = require "cotls.luv"
      local port = helper.free_port()
      local server = helper.start { "openssl", "s_server", flag, "-accept", "127.0.0.1:" .. port, "-cert",
        file(LEAF.certificate), "-key", file(LEAF.key), "-cert_chain", file(MID.certificate .. ROOT.certificate),
        "-naccept", "3", "-rev" }
      server:wait_for "ACCEPT"
      helper.in_loop(function()
        local context = assert(tls.context { ca = helper.other_ca.certificate })
        local function try(usage, certificate)
          local given = { context = context, server_name = "localhost", scheduler = luv }
          given.dane = { record(usage, 1, 1, certificate) }
          local conn, err = tls.connect("127.0.0.1", port, given)
          if not conn then return err.verify and err.verify.code end
          local result = conn:dane_result()
          conn:close()
          return ("%d at %d"):format(result.usage, result.depth)
        end
        assert.equal("3 at 0", try(3, LEAF.certificate))
        assert.equal("2 at 2", try(2, ROOT.certificate))
        assert.equal(65, try(3, MID.certificate))
      end)
      server:stop()
    end)

    it(version .. ": s_client and our server", function()
      local luv = require "cotls.luv"
      local function s_client(...)
        local said
        local rrdata = { ... }
        helper.in_loop(function()
          local listener = assert(tls.listen("127.0.0.1", 0, { role = "server", certificate = CHAIN.certificate,
            key = CHAIN.key }))
          luv.spawn(function()
            local conn = listener()
            listener:close()
            if conn:accept() then conn:read("a") end
            conn:close()
          end)
          local argv = { "openssl", "s_client", flag, "-connect", "127.0.0.1:" .. listener:port(),
            "-verify_return_error", "-servername", "localhost", "-dane_tlsa_domain", "localhost" }
          for _, one in ipairs(rrdata) do
            argv[#argv + 1] = "-dane_tlsa_rrdata"
            argv[#argv + 1] = one
          end
          local child = helper.start(argv, { stdin = "" })
          child:wait(20)
          child:stop()
          said = child.stdout .. child.stderr
        end, 30)
        return said
      end
      local function text(usage, certificate)
        local one = record(usage, 1, 1, certificate)
        return ("%d 1 1 %s"):format(usage, bytes.hex(one.data))
      end
      assert.matches("Verified peername: localhost", s_client(text(2, ROOT.certificate)))
      assert.matches("DANE TLSA 3 1 1 %S+ matched EE certificate at depth 0",
        s_client(text(3, MID.certificate), text(3, LEAF.certificate)))
      assert.matches("no matching DANE TLSA records", s_client(text(3, MID.certificate)))
    end)
  end
end)
