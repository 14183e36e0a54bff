-- Revocation lists: of the leaf, of a CA, that have expired, that are missing or not the issuer's; from files, memory
-- and directories; and against openssl.

local tls = require "cotls"
local helper = require "spec.helper"
local judge = require "spec.judge"
local pki = require "spec.pki"
local visit = require "spec.visit"

local DAY = 86400
local ROOT = assert(tls.make_certificate { subject = "CN=root", is_ca = true })
local MID = assert(tls.make_certificate { subject = "CN=mid", is_ca = true, ca = ROOT })
local LEAF = helper.leaf { ca = MID }
local CHAIN = { certificate = LEAF.certificate .. MID.certificate, key = LEAF.key }

local EMPTY, ROOTS = pki.crl { ca = MID }, pki.crl { ca = ROOT }
local REVOKED = pki.crl { ca = MID, revoked = { LEAF } }

local function trust(crl, check)
  return { ca = ROOT.certificate, crl = crl, crl_check = check }
end

local function refused(code, text, alert, depth)
  return { code = code, text = text, alert = alert, depth = depth, subject = depth == 1 and "CN=mid" or "CN=leaf" }
end

local GONE = refused(23, "certificate revoked", "certificate_revoked")
local MISSING = refused(3, "unable to get certificate CRL", "unknown_ca")

describe("with crl", function()
  it("a certificate that is not on its issuer's list is accepted", function()
    judge.both(CHAIN, trust(EMPTY))
    judge.both(CHAIN, trust(pki.crl { ca = MID, revoked = { helper.leaf { ca = MID } } }))
  end)

  it("a certificate that is on it is refused", function()
    judge.both(CHAIN, trust(REVOKED), GONE)
    local reason = { certificate = LEAF, reason = "key_compromise" }
    judge.both(CHAIN, trust(pki.crl { ca = MID, revoked = { reason } }), GONE)
  end)

  it("a certificate whose issuer has no list is refused", function()
    judge.both(CHAIN, trust(ROOTS), MISSING)
    judge.both(CHAIN, trust(pki.crl { ca = helper.other_ca, revoked = { LEAF } }), MISSING)
  end)

  it("a list that has expired is none", function()
    judge.both(CHAIN, trust(pki.crl { ca = MID, this_update = pki.now() - 2 * DAY, next_update = pki.now() - 60 }),
      refused(12, "CRL has expired", "certificate_expired"))
  end)

  it("a list that is not valid yet is none", function()
    judge.both(CHAIN, trust(pki.crl { ca = MID, this_update = pki.now() + 600 }),
      refused(11, "CRL is not yet valid", "bad_certificate"))
  end)

  it("a list with a wrong signature is none", function()
    local wrong = refused(8, "CRL signature failure", "decrypt_error")
    judge.both(CHAIN, trust(pki.crl { ca = MID, tamper = true }), wrong)
    judge.both(CHAIN, trust(pki.crl { ca = MID, signer = helper.other_ca }), wrong)
  end)

  it("of two lists of an issuer the one that is valid counts", function()
    local old = pki.crl { ca = MID, this_update = pki.now() - 2 * DAY, next_update = pki.now() - 60 }
    judge.both(CHAIN, trust { old, EMPTY })
    judge.both(CHAIN, trust { old, REVOKED }, GONE)
  end)
end)

describe("crl_check", function()
  local MID_GONE = pki.crl { ca = ROOT, revoked = { MID } }

  it("\"leaf\" is the default: CAs are not looked up", function()
    judge.both(CHAIN, trust { EMPTY, MID_GONE })
    judge.both(CHAIN, trust({ EMPTY, MID_GONE }, "leaf"))
  end)

  it("\"chain\" refuses a CA that is revoked", function()
    judge.both(CHAIN, trust({ EMPTY, MID_GONE }, "chain"),
      refused(23, "certificate revoked", "certificate_revoked", 1))
    judge.both(CHAIN, trust({ EMPTY, ROOTS }, "chain"))
  end)

  it("\"chain\" wants a list of every CA", function()
    judge.both(CHAIN, trust(EMPTY, "chain"), refused(3, "unable to get certificate CRL", "unknown_ca", 1))
    judge.both(CHAIN, trust(ROOTS, "chain"), MISSING)
    judge.both(CHAIN, trust({ REVOKED, ROOTS }, "chain"), GONE)
  end)

  it("\"chain\" refuses a chain that ends before the root: who has issued the last one is not in it", function()
    local trusted = { ca = MID.certificate, partial_chain = true, crl = { EMPTY, ROOTS }, crl_check = "chain" }
    judge.both(LEAF, trusted, refused(3, "unable to get certificate CRL", "unknown_ca", 1))
    trusted.crl_check = "leaf"
    judge.both(LEAF, trusted)
    trusted.crl = REVOKED
    judge.both(LEAF, trusted, GONE)
  end)

  it("is one of these words", function()
    local context, err = tls.context(trust(EMPTY, "all"))
    assert.is_nil(context)
    assert.equal('crl_check: must be "leaf" or "chain"', err.reason)
  end)
end)

describe("the lists", function()
  local der = helper.openssl({ "crl", "-outform", "DER" }, EMPTY)

  it("are taken in every form of a file, several in one, and as a list", function()
    local roots = helper.openssl({ "crl", "-outform", "DER" }, ROOTS)
    for _, crl in ipairs { EMPTY .. ROOTS, ROOTS .. EMPTY, { EMPTY, ROOTS }, { der, roots }, { data = der .. roots },
      helper.temp_file(EMPTY .. ROOTS), { helper.temp_file(der), { file = helper.temp_file(ROOTS) } },
      { EMPTY, EMPTY, ROOTS }, "text before\n" .. EMPTY .. "between\n" .. ROOTS } do
      judge.accepted { client = trust(crl, "chain"), server = { role = "server", certificate = CHAIN.certificate,
        key = CHAIN.key }, versions = { "1.3" } }
    end
  end)

  it("that can't be read are refused, with the file's name", function()
    local folder, missing = helper.temp_dir(), "/nonexistent/x.crl"
    local junk, empty = helper.temp_file("junk"), helper.temp_file("")
    local certificate = helper.temp_file(MID.certificate)
    local cut = helper.temp_file(EMPTY:sub(1, 200))
    local broken = helper.temp_file(der:sub(1, -10))
    local half = helper.temp_file(EMPTY .. ROOTS:sub(1, 200))
    for path, why in pairs { [missing] = "No such file", [folder] = "directory", [junk] = "no CRL in it",
      [empty] = "no CRL in it", [certificate] = "no CRL in it", [cut] = ".", [broken] = ".", [half] = "." } do
      local context, err = tls.context(trust { EMPTY, path })
      assert.is_nil(context, path)
      assert.equal("config", err.code)
      assert.is_truthy(err.reason:find("crl: " .. path, 1, true), err.reason)
      assert.matches(why, err.reason)
      assert.is_nil(err.reason:find("\n"))
    end
    for _, value in ipairs { 1, {}, { 1 }, true, tls.x509(MID.certificate) } do
      assert.error_matches(function() tls.context { crl = value } end, "option 'crl': a file")
    end
  end)

  it("may lie by hash in a directory of ca, where new ones are found while the context lives", function()
    local dir = helper.temp_dir()
    local function put(name, text)
      local handle = assert(io.open(dir .. "/" .. name, "w"))
      handle:write(text)
      handle:close()
    end
    put("root.pem", ROOT.certificate)
    assert(os.execute("openssl rehash " .. dir))
    local options = { ca = dir, crl_check = "leaf" }
    local client = assert(tls.context(options))
    local server = assert(tls.context { role = "server", certificate = CHAIN.certificate, key = CHAIN.key })
    assert.equal(3, judge.meet(client, server).client_error.verify.code)
    put("mid.crl", EMPTY)
    assert(os.execute("openssl rehash " .. dir))
    assert.is_nil(judge.meet(client, server).client_error)
    local hash = helper.openssl({ "crl", "-noout", "-hash" }, EMPTY):match("%x+")
    put(hash .. ".r1", pki.crl { ca = MID, revoked = { LEAF }, number = 2, this_update = pki.now() })
    assert.equal(23, judge.meet(client, server).client_error.verify.code)
    judge.both(CHAIN, options, GONE)
  end)

  it("must be somewhere if they are to be checked", function()
    for _, options in ipairs { { crl_check = "leaf" }, { ca = ROOT.certificate, crl_check = "chain" } } do
      local context, err = tls.context(options)
      assert.is_nil(context)
      assert.equal("config", err.code)
      assert.matches("^crl_check: there is nothing to check by: give crl, or in ca a directory", err.reason)
    end
  end)

  it("are those of the context that the server name chooses", function()
    judge.by_name(CHAIN, trust(REVOKED), trust(), GONE)
  end)

  it("are part of what a session stands for", function()
    local session
    local function resumes(crl)
      local server = assert(tls.context { role = "server", certificate = CHAIN.certificate, key = CHAIN.key,
        ticket_keys = { ("k"):rep(80) } })
      local got = visit.over(assert(tls.context(trust(crl))), server, { session = session })
      session = got.client:session():export()
      return got.resumed
    end
    assert.is_false(resumes(EMPTY))
    assert.is_true(resumes(EMPTY))
    assert.is_false(resumes { EMPTY, ROOTS })
    assert.is_true(resumes { EMPTY, ROOTS })
    assert.is_false(resumes(nil))
  end)
end)

describe("against openssl, CRLs:", function()
  for _, version in ipairs { "1.2", "1.3" } do
    local flag = "-tls" .. version:gsub("%.", "_")

    it(version .. ": our client and s_server", function()
      local port = helper.free_port()
      local server = helper.start { "openssl", "s_server", flag, "-accept", "127.0.0.1:" .. port, "-cert",
        helper.temp_file(LEAF.certificate), "-key", helper.temp_file(LEAF.key), "-cert_chain",
        helper.temp_file(MID.certificate), "-naccept", "3", "-rev" }
      server:wait_for "ACCEPT"
      helper.in_loop(function()
        local function try(crl)
          local options = trust(crl)
          options.server_name = "localhost"
          local conn, err = tls.connect("127.0.0.1", port, options)
          if conn then return conn:close() end
          return err.verify and err.verify.code
        end
        assert.equal(true, try(EMPTY))
        assert.equal(23, try(REVOKED))
        assert.equal(3, try(ROOTS))
      end)
      server:stop()
    end)

    it(version .. ": s_client with a client's certificate and our server", function()
      local function knock(crl)
        local err
        local options = trust(crl)
        options.role, options.verify_client = "server", "require"
        options.certificate, options.key = helper.server_leaf.certificate, helper.server_leaf.key
        helper.in_loop(function()
          local listener = assert(tls.listen("127.0.0.1", 0, options))
          local child = helper.start({ "openssl", "s_client", flag, "-connect", "127.0.0.1:" .. listener:port(),
            "-cert", helper.temp_file(LEAF.certificate), "-key", helper.temp_file(LEAF.key), "-cert_chain",
            helper.temp_file(MID.certificate), "-ign_eof" }, { stdin = "" })
          local conn = listener()
          listener:close()
          local ok
          ok, err = conn:accept()
          if ok then conn:shutdown() end
          conn:close()
          child:wait(20)
          child:stop()
          assert.equal(not ok, (child.stdout .. child.stderr):find("certificate revoked", 1, true) ~= nil)
        end)
        return err and err.verify.code
      end
      assert.is_nil(knock(EMPTY))
      assert.equal(23, knock(REVOKED))
    end)
  end
end)
