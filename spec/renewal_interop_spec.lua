-- SPDX-License-Identifier: MIT
-- After the handshake, with openssl's programs: what they are told by a letter at the beginning of a line, and what
-- they say they saw (-msg).

local compat = require "cotls.compat"
local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"

local append = helper.append

local OWN = helper.leaf { subject = "CN=client" }
local STRANGER = helper.leaf { subject = "CN=stranger", ca = helper.other_ca }

local FILES = helper.files { own = OWN, stranger = STRANGER }

local VERSION = { ["1.2"] = "-tls1_2", ["1.3"] = "-tls1_3" }

local function only(version, options)
  return helper.with({ min_version = version, max_version = version, timeout = 10 * helper.slow }, options)
end

-- Serves one s_client: fn(conn, child) is called after the handshake.
local function with_client(version, options, fn, ...)
  local more = { ... }
  helper.in_loop(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.server_context(only(version, options)) }))
    local child = helper.start(append({ "openssl", "s_client", VERSION[version], "-connect",
      "127.0.0.1:" .. listener:port(), "-CAfile", FILES.ca, "-msg" }, compat.unpack(more)))
    local ok, err = compat.pcall(function()
      local conn = listener()
      assert(conn:accept())
      fn(conn, child)
      conn:close()
    end)
    listener:close()
    child:stop()
    assert(ok, tostring(err) .. "\n" .. (child.stdout .. child.stderr):sub(-1500))
  end, 40)
end

-- Connects to an s_server: fn(conn, child) is called after the handshake.
local function with_server(version, options, fn, ...)
  local more = { ... }
  local port = helper.free_port()
  helper.in_loop(function()
    local child = helper.start(append({ "openssl", "s_server", VERSION[version], "-accept", "127.0.0.1:" .. port,
      "-cert", FILES.cert, "-key", FILES.key, "-CAfile", FILES.ca, "-msg" }, compat.unpack(more)))
    local ok, err = compat.pcall(function()
      child:wait_for "ACCEPT"
      local context = helper.client_context(only(version, options))
      local conn = assert(tls.connect("localhost", port, { context = context }))
      fn(conn, child)
      conn:close()
    end)
    child:stop()
    assert(ok, tostring(err) .. "\n" .. (child.stdout .. child.stderr):sub(-1500))
  end, 40)
end

-- A line each way.
local function exchange(conn, child, word)
  child:write(word .. " to us\n")
  assert.equal(word .. " to us", (assert(conn:read())))
  assert(conn:write(word .. " to it\n"))
  child:wait_for(word .. " to it")
end

-- The program does what the letter says; once its output has the pattern it writes a line, for which we wait.
local function command(conn, child, letter, pattern)
  child:write(letter .. "\n") -- alone: it takes all that it reads at once for the command
  luv.spawn(function()
    child:wait_for(pattern)
    child:write("done " .. letter .. "\n")
  end)
  assert.equal("done " .. letter, (assert(conn:read())))
end

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

local RECEIVED = "<<< TLS 1.3, Handshake %[length 0005%], KeyUpdate"
local SENT = ">>> TLS 1.3, Handshake %[length 0005%], KeyUpdate"

for name, with in pairs { ["openssl s_client"] = with_client, ["openssl s_server"] = with_server } do
  describe("key_update and " .. name, function()
    it("from our side", function()
      with("1.3", {}, function(conn, child)
        exchange(conn, child, "first")
        assert(conn:key_update())
        exchange(conn, child, "second")
        assert.equal(1, count(child.stdout, RECEIVED))
        assert.equal(0, count(child.stdout, SENT))
        assert(conn:key_update(true))
        exchange(conn, child, "third")
        assert.equal(2, count(child.stdout, RECEIVED))
        exchange(conn, child, "fourth")
        assert.equal(1, count(child.stdout, SENT)) -- its answer, before what it wrote next
      end)
    end)

    it("from its side", function()
      with("1.3", {}, function(conn, child)
        exchange(conn, child, "first")
        child:write "k\n"
        child:wait_for(SENT)
        exchange(conn, child, "second")
        assert.equal(0, count(child.stdout, RECEIVED))
        child:write "K\n"
        child:wait_for(SENT .. ".*" .. SENT)
        exchange(conn, child, "third")
        assert.equal(1, count(child.stdout, RECEIVED)) -- our answer
      end)
    end)
  end)
end

-- The program asks for a renegotiation, and we refuse.
local function refused(conn, child)
  child:write "R\n"
  local data, err = conn:read()
  assert.is_nil(data)
  assert.equal("alert", err.code)
  assert.equal("handshake_failure", err.alert.name)
  child:wait_for "no renegotiation"
end

describe("renegotiation and openssl s_client", function()
  for _, mode in ipairs { "never", "allow" } do
    it("unasked, under " .. mode .. ": it is refused", function()
      with_client("1.2", { renegotiation = mode }, function(conn, child)
        exchange(conn, child, "first")
        refused(conn, child)
      end)
    end)
  end

  it("unasked, under allow-client: it takes place", function()
    with_client("1.2", { renegotiation = "allow-client", verify_client = "require", ca = helper.ca.certificate },
      function(conn, child)
        local finished = "<<< TLS 1.2, Handshake[^\n]*Finished"
        for times = 2, 3 do
          exchange(conn, child, "before")
          command(conn, child, "R", finished .. (".*" .. finished):rep(times - 1))
          exchange(conn, child, "after")
        end
        assert.equal(3, count(child.stdout, finished))
        assert.equal(OWN.certificate, conn:peer_certificate():pem())
      end, "-cert", FILES.own_cert, "-key", FILES.own_key)
  end)

  it("asked by us", function()
    with_client("1.2", { renegotiation = "allow" }, function(conn, child)
      exchange(conn, child, "first")
      assert(conn:renegotiate())
      exchange(conn, child, "second")
      assert.equal(2, count(child.stdout, ">>> TLS 1.2, Handshake[^\n]*Finished"))
    end)
  end)

  it("asked by us, which it refuses", function()
    with_client("1.2", { renegotiation = "allow" }, function(conn)
      local ok, err = conn:renegotiate()
      assert.is_nil(ok)
      assert.equal("the peer refuses to renegotiate", err.reason)
      assert.is_nil(conn:fileno())
    end, "-no_renegotiation")
  end)
end)

describe("renegotiation and openssl s_server", function()
  it("asked by it, under never: it is refused", function()
    with_server("1.2", {}, function(conn, child)
      exchange(conn, child, "first")
      refused(conn, child)
    end)
  end)

  it("asked by it, under allow: it takes place while we read and write", function()
    with_server("1.2", { renegotiation = "allow" }, function(conn, child)
      exchange(conn, child, "first")
      local stop = false
      luv.spawn(function()
        while not stop do
          assert(conn:write("a line of ours\n"))
          luv.sleep(0)
        end
      end)
      local finished = "<<< TLS 1.2, Handshake[^\n]*Finished"
      command(conn, child, "R", finished .. ".*" .. finished)
      stop = true
      exchange(conn, child, "second")
    end)
  end)

  it("asked by us, where it allows that", function()
    with_server("1.2", { renegotiation = "allow" }, function(conn, child)
      exchange(conn, child, "first")
      assert(conn:renegotiate())
      exchange(conn, child, "second")
      assert.equal(2, count(child.stdout, "<<< TLS 1.2, Handshake[^\n]*Finished"))
    end, "-client_renegotiation")
  end)

  it("asked by us, where it does not", function()
    with_server("1.2", { renegotiation = "allow" }, function(conn)
      local ok, err = conn:renegotiate()
      assert.is_nil(ok)
      assert.equal("the peer refuses to renegotiate", err.reason)
      assert.is_nil(conn:fileno())
    end)
  end)
end)

describe("a request for a certificate and openssl s_client", function()
  local function asked(fn, ...)
    with_client("1.3", { ca = helper.ca.certificate }, function(conn, child)
      exchange(conn, child, "first")
      assert.is_nil(conn:peer_certificate())
      fn(conn, child)
    end, ...)
  end

  it("that has one", function()
    asked(function(conn, child)
      for _, word in ipairs { "second", "third" } do
        assert(conn:request_client_certificate())
        child:wait_for "CertificateRequest"
        exchange(conn, child, word)
        assert.equal(OWN.certificate, conn:peer_certificate():pem())
      end
    end, "-enable_pha", "-cert", FILES.own_cert, "-key", FILES.own_key)
  end)

  it("that has none", function()
    asked(function(conn, child)
      assert(conn:request_client_certificate())
      child:wait_for "CertificateRequest"
      exchange(conn, child, "second")
      assert.is_nil(conn:peer_certificate())
    end, "-enable_pha")
  end)

  it("that has one of a stranger's", function()
    asked(function(conn, child)
      assert(conn:request_client_certificate())
      local data, err = conn:read()
      assert.is_nil(data)
      assert.equal("verify", err.code)
      child:wait_for "unknown ca"
    end, "-enable_pha", "-cert", FILES.stranger_cert, "-key", FILES.stranger_key)
  end)

  it("that has not offered it", function()
    asked(function(conn, child)
      local ok, err = conn:request_client_certificate()
      assert.is_nil(ok)
      assert.equal("the client has not offered post_handshake_auth", err.reason)
      exchange(conn, child, "second")
    end, "-cert", FILES.own_cert, "-key", FILES.own_key)
  end)
end)

describe("a request for a certificate by openssl s_server", function()
  it("is answered where it was offered", function()
    with_server("1.3", { post_handshake_auth = true, certificate = OWN.certificate, key = OWN.key },
      function(conn, child)
        exchange(conn, child, "first")
        local answer = "<<< TLS 1.3, Handshake[^\n]*CertificateVerify"
        command(conn, child, "c", answer .. ".*" .. answer) -- the first was the handshake's
        exchange(conn, child, "second")
        child:wait_for "CN ?= ?client"
      end, "-verify", "2")
  end)

  it("can't be made where it was not", function()
    with_server("1.3", { certificate = OWN.certificate, key = OWN.key }, function(conn, child)
      exchange(conn, child, "first")
      child:write "c\n"
      child:wait_for "extension not received"
      exchange(conn, child, "second")
    end)
  end)
end)

describe("a peer without secure renegotiation", function()
  it("is not asked to renegotiate", function()
    helper.in_loop(function()
      local listener = assert(tls.listen("127.0.0.1", 0, {
        context = helper.server_context(only("1.2", { renegotiation = "allow" })) }))
      local child = helper.start { "gnutls-cli", "--x509cafile", FILES.ca, "--port", tostring(listener:port()),
        "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2:%DISABLE_SAFE_RENEGOTIATION", "localhost" }
      local ok, err = compat.pcall(function()
        local conn = listener()
        assert(conn:accept())
        local none, why = conn:renegotiate()
        assert.is_nil(none)
        assert.equal("the peer has no secure renegotiation (RFC 5746)", why.reason)
        assert(conn:write("still here\n")) -- nothing has happened
        child:wait_for("still here")
        conn:close()
      end)
      listener:close()
      child:stop()
      assert(ok, tostring(err) .. "\n" .. (child.stdout .. child.stderr):sub(-1500))
    end, 40)
  end)
end)
