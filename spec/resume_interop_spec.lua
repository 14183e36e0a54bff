-- Sessions and early data with OpenSSL's and GnuTLS's programs, in both roles, over TLS 1.2 and 1.3.

local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"

local VERSIONS = {
  { name = "1.2", openssl = "-tls1_2", gnutls = "NORMAL:-VERS-ALL:+VERS-TLS1.2" },
  { name = "1.3", openssl = "-tls1_3", gnutls = "NORMAL:-VERS-ALL:+VERS-TLS1.3" },
}
local FILES = helper.files()
FILES.early = helper.temp_file("early bird")

-- ---- our server ----

-- Serves in the loop while fn runs; each connection's line is answered.
-- @param fn called with the port
-- @return what each connection was: { resumed =, early =, status =, err = }
local function serve(context, fn)
  local seen = {}
  helper.in_loop(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { context = context }))
    luv.spawn(function()
      helper.each(listener, function(conn)
        luv.spawn(function()
          local one = { early = "" }
          seen[#seen + 1] = one
          helper.each(function() return conn:read_early() end, function(data) one.early = one.early .. data end)
          local ok, err = conn:accept()
          one.err, one.resumed, one.status, one.name = err, conn:resumed(), conn:early_data_status(), conn:server_name()
          local line = ok and conn:read()
          if line then
            conn:write("got ", line, "\n")
            conn:shutdown()
          end
          conn:close()
        end)
      end)
    end)
    fn(listener:port())
    listener:close()
  end, 30)
  return seen
end

local function s_client(port, version, ...)
  local argv = { "openssl", "s_client", version.openssl, "-connect", "127.0.0.1:" .. port, "-CAfile", FILES.ca,
    "-verify_return_error", "-servername", "localhost", "-ign_eof", ... }
  local child = helper.start(argv, { stdin = "hello\n" })
  local status = child:wait(20)
  child:stop()
  assert.equal(0, status, child.stderr)
  assert.matches("got hello", child.stdout)
  return child.stdout
end

describe("our server and openssl s_client", function()
  for _, version in ipairs(VERSIONS) do
    local file = helper.temp_file()

    for what, options in pairs { tickets = {}, ["sessions that stay with it"] = { tickets = false } } do
      it(version.name .. ": resumption by " .. what, function()
        local seen = serve(helper.server_context(options), function(port)
          assert.matches("New, TLSv", s_client(port, version, "-sess_out", file))
          assert.matches("Reused, TLSv", s_client(port, version, "-sess_in", file))
        end)
        assert.same({ false, true }, { seen[1].resumed, seen[2].resumed })
        assert.same({ "localhost", "localhost" }, { seen[1].name, seen[2].name })
      end)
    end

    it(version.name .. ": a client without tickets", function()
      local seen = serve(helper.server_context(), function(port)
        s_client(port, version, "-no_ticket", "-sess_out", file)
        s_client(port, version, "-no_ticket", "-sess_in", file)
      end)
      assert.same({ false, true }, { seen[1].resumed, seen[2].resumed })
    end)

    it(version.name .. ": names, and who may give clients their certificates", function()
      local inner = helper.server_context { verify_client = "optional", ca = helper.other_ca.certificate }
      serve(helper.server_context { names = { ["www.example.org"] = inner } }, function(port)
        local out = s_client(port, version, "-servername", "www.example.org", "-sess_out", file)
        assert.matches("Acceptable client certificate CA names\nCN = Other CA\n", out)
        out = s_client(port, version, "-sess_in", file)
        assert.matches("No client certificate CA names sent", out)
        assert.matches("New, TLSv", out)
      end)
    end)
  end

  local v13 = VERSIONS[2]
  it("1.3: as many tickets as said", function()
    for _, count in ipairs { 0, 1, 5 } do
      serve(helper.server_context { tickets = count }, function(port)
        local _, found = s_client(port, v13):gsub("Post%-Handshake New Session Ticket arrived", "")
        assert.equal(count, found)
      end)
    end
  end)

  it("1.3: early data, once", function()
    local file = helper.temp_file()
    local seen = serve(helper.server_context { max_early_data = 100, tickets = 1 }, function(port)
      assert.matches("Max Early Data: 100", s_client(port, v13, "-sess_out", file))
      assert.matches("Early data was accepted", s_client(port, v13, "-sess_in", file, "-early_data", FILES.early))
      assert.matches("Early data was rejected", s_client(port, v13, "-sess_in", file, "-early_data", FILES.early))
    end)
    assert.same({ "", "not_sent", false }, { seen[1].early, seen[1].status, seen[1].resumed })
    assert.same({ "early bird", "accepted", true }, { seen[2].early, seen[2].status, seen[2].resumed })
    assert.same({ "", "rejected", false }, { seen[3].early, seen[3].status, seen[3].resumed })
  end)
end)

describe("our server and gnutls-cli", function()
  local function gnutls_cli(port, version, ...)
    local child = helper.start({ "gnutls-cli", "--x509cafile", FILES.ca, "--priority", version.gnutls, "--port",
      tostring(port), "--sni-hostname", "localhost", "--verify-hostname", "localhost", "--resume", ..., "127.0.0.1" },
      { stdin = "hello\n" })
    local status = child:wait(20)
    child:stop()
    assert.equal(0, status, child.stdout .. child.stderr)
    return child.stdout
  end

  for _, version in ipairs(VERSIONS) do
    it(version.name .. ": resumption", function()
      local seen = serve(helper.server_context(), function(port)
        assert.matches("This is a resumed session", gnutls_cli(port, version, "--waitresumption"))
      end)
      assert.same({ false, true }, { seen[1].resumed, seen[2].resumed })
    end)
  end
end)

-- ---- our client ----

-- Runs a server's program and, in the loop, fn(visit): visit(options) → resumed, conn (closed)
local function against(argv, ready, port, context, fn)
  local child = helper.start(argv)
  helper.in_loop(function()
    child:wait_for(ready)
    fn(function(options)
      options = options or {}
      options.context, options.server_name = context, "localhost"
      local conn = assert(tls.connect("127.0.0.1", port, options))
      assert(conn:write("hello\n"))
      assert.is_truthy(conn:read())
      local was = conn:resumed()
      conn:close()
      return was, conn
    end)
  end, 30)
  child:stop()
  return child
end

local function with_s_server(version, context, fn, ...)
  local port = helper.free_port()
  return against({ "openssl", "s_server", version.openssl, "-accept", "127.0.0.1:" .. port, "-cert", FILES.cert, "-key",
    FILES.key, "-rev", ... }, "ACCEPT", port, context, fn)
end

describe("our client and openssl s_server", function()
  for _, version in ipairs(VERSIONS) do
    it(version.name .. ": resumption, by hand and by itself", function()
      with_s_server(version, helper.client_context(), function(visit)
        local was, conn = visit()
        assert.is_false(was)
        assert.is_true((visit { session = conn:session() }))
        assert.is_true((visit { session = conn:session():export() }))
      end)
      with_s_server(version, helper.client_context { resume = true }, function(visit)
        assert.is_false((visit()))
        for _ = 1, 3 do assert.is_true((visit())) end
      end)
    end)

    it(version.name .. ": a server without tickets", function()
      with_s_server(version, helper.client_context { resume = true }, function(visit)
        assert.is_false((visit()))
        assert.is_true((visit()))
      end, "-no_ticket")
    end)

    it(version.name .. ": a server that resumes nothing", function()
      with_s_server(version, helper.client_context { resume = true }, function(visit)
        for _ = 1, 3 do assert.is_false((visit())) end
      end, "-no_ticket", "-no_cache")
    end)
  end

  it("1.3: as many tickets as the server sends", function()
    for count, expected in pairs { [0] = 0, [1] = 1, [3] = 3 } do
      local context = helper.client_context { resume = true }
      with_s_server(VERSIONS[2], context, function(visit)
        visit()
        assert.equal(expected, context:session_stats().cached)
        assert.equal(expected > 0, (visit()))
      end, "-num_tickets", tostring(count))
    end
  end)

  it("1.3: early data, once", function()
    local port, context = helper.free_port(), helper.client_context()
    local child = helper.start { "openssl", "s_server", "-tls1_3", "-accept", "127.0.0.1:" .. port, "-cert", FILES.cert,
      "-key", FILES.key, "-early_data", "-max_early_data", "100", "-num_tickets", "1" }
    helper.in_loop(function()
      child:wait_for("ACCEPT")
      local function visit(session, data)
        local conn = assert(tls.connect("127.0.0.1", port, { context = context, server_name = "localhost",
          session = session, early_data = data }))
        child:write("hello\n")
        assert.equal("hello", conn:read())
        conn:close()
        return conn
      end
      local session = visit():session()
      assert.equal(100, session:max_early_data())
      assert.equal("accepted", visit(session, "early bird"):early_data_status())
      child:wait_for("early bird")
      assert.equal("rejected", visit(session, "early worm"):early_data_status())
    end, 30)
    child:stop()
    assert.is_nil(child.stdout:find("early worm", 1, true))
  end)
end)

describe("our client and gnutls-serv", function()
  local function with_gnutls(version, context, fn, ...)
    local port = helper.free_port()
    return against({ "gnutls-serv", "--port", tostring(port), "--x509certfile", FILES.cert, "--x509keyfile", FILES.key,
      "--priority", version.gnutls, "--echo", ... }, "listening on IPv4[^\n]*done", port, context, fn)
  end

  for _, version in ipairs(VERSIONS) do
    it(version.name .. ": resumption", function()
      with_gnutls(version, helper.client_context { resume = true }, function(visit)
        assert.is_false((visit()))
        assert.is_true((visit()))
        assert.is_true((visit()))
      end)
    end)
  end

  it("1.3: early data", function()
    with_gnutls(VERSIONS[2], helper.client_context { resume = true }, function(visit)
      visit()
      local was, conn = visit { early_data = "early bird" }
      assert.same({ true, "accepted" }, { was, conn:early_data_status() })
    end, "--earlydata", "--maxearlydata", "100")
  end)
end)
