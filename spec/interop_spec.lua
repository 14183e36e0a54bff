-- Against OpenSSL's, curl's and GnuTLS's programs, in both roles, over TLS 1.2 and 1.3.

local compat = require "cotls.compat"
local tls = require "cotls"
local luv = require "cotls.luv"
local helper = require "spec.helper"

local append = helper.append

local VERSIONS = {
  { name = "1.2", openssl = "-tls1_2", curl = { "--tlsv1.2", "--tls-max", "1.2" }, gnutls = "+VERS-TLS1.2" },
  { name = "1.3", openssl = "-tls1_3", curl = { "--tlsv1.3" }, gnutls = "+VERS-TLS1.3" },
}

local OWN = helper.leaf { subject = "CN=client" }
local STRANGER = helper.leaf { subject = "CN=stranger", ca = helper.other_ca }
local LARGE = ("0123456789abcdef"):rep(16 * 1024) -- 256 KiB

local FILES = helper.files { own = OWN, stranger = STRANGER }
FILES.large = helper.temp_file(LARGE)

local function priority(version)
  return "NORMAL:-VERS-ALL:" .. version.gnutls
end

-- ---- our server ----

-- Serves one connection with that context in the loop and runs the client's program beside it.
-- serve(conn) is called after a good handshake; client(port) gives the program.
-- The result: what accept's error is, serve's results, and the child, which has ended.
local function served(context_options, serve, client, stdin)
  local result = {}
  helper.in_loop(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.server_context(context_options) }))
    luv.spawn(function()
      local conn = listener()
      listener:close()
      local ok, err = conn:accept()
      result.err = err
      if ok then
        result.version, result.alpn, result.peer = conn:version(), conn:alpn(), conn:peer_certificate()
        result.served = compat.pack(serve(conn))
      end
      conn:close()
    end)
    local child = helper.start(client(listener:port()), { stdin = stdin })
    result.status = child:wait(20)
    child:stop()
    result.out, result.all = child.stdout, child.stdout .. child.stderr
  end, 30)
  assert.is_truthy(result.status, "the client did not end")
  return result
end

-- Answers a line, then wants the peer's clean end.
local function answer(conn)
  local line = conn:read()
  assert(conn:write("got ", tostring(line), "\n"))
  return line, conn:read("a")
end

describe("our server and openssl s_client", function()
  for _, version in ipairs(VERSIONS) do
    local function s_client(...)
      local more = compat.pack(...)
      return function(port)
        return append({ "openssl", "s_client", version.openssl, "-connect", "127.0.0.1:" .. port, "-CAfile", FILES.ca,
          "-verify_return_error", "-servername", "localhost", "-verify_hostname", "localhost" }, compat.unpack(more))
      end
    end

    it(version.name .. ": data both ways, and its clean close seen as such", function()
      local got = served({}, function(conn)
        local line = conn:read()
        assert(conn:write("got ", line, "\n"))
        assert(conn:shutdown()) -- ours goes out, theirs comes in
        return line, conn:read(1)
      end, s_client("-ign_eof"), "hello\n")
      assert.equal("TLSv" .. version.name, got.version)
      assert.same({ n = 2, "hello", nil }, got.served)
      assert.matches("got hello\n", got.out)
      assert.matches("\nclosed\n", got.all) -- it saw our close_notify
      assert.equal(0, got.status)
    end)

    it(version.name .. ": it closes first", function()
      local got = served({}, function(conn) return answer(conn) end, s_client(), "hello\n")
      assert.same({ n = 2, "hello", "" }, got.served)
    end)

    it(version.name .. ": ALPN, agreed and not", function()
      local got = served({ alpn = { "b", "a" } }, answer, s_client("-alpn", "a,b"), "x\n")
      assert.equal("b", got.alpn)
      assert.matches("ALPN protocol: b\n", got.out)
      got = served({ alpn = { "c" } }, answer, s_client("-alpn", "a,b"), "x\n")
      assert.equal("no_application_protocol", got.err.alert.name)
      assert.is_true(got.status ~= 0)
      assert.matches("no application protocol", got.all)
    end)

    it(version.name .. ": client certificates", function()
      local context = { verify_client = "require", ca = helper.ca.certificate }
      local got = served(context, answer, s_client("-cert", FILES.own_cert, "-key", FILES.own_key), "hello\n")
      assert.equal(OWN.certificate, got.peer:pem())
      assert.equal("hello", got.served[1])
      got = served(context, answer, s_client("-ign_eof", "-cert", FILES.stranger_cert, "-key", FILES.stranger_key),
        "hello\n")
      assert.equal("verify", got.err.code)
      assert.matches("unknown ca", got.all)
      got = served(context, answer, s_client(), "hello\n")
      assert.equal("tls", got.err.code)
    end)
  end
end)

describe("our server and curl", function()
  -- One request with its body; an answer that ends with the stream.
  local function http(body)
    return function(conn)
      local length = 0
      helper.each(conn:lines(), function(line)
        length = tonumber(line:lower():match("^content%-length: (%d+)")) or length
        if line:find("^Expect: 100") then assert(conn:write("HTTP/1.1 100 Continue\r\n\r\n")) end
        return line == "\r"
      end)
      local sent = length > 0 and conn:read(length) or ""
      assert(conn:write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", body))
      return sent
    end
  end

  for _, version in ipairs(VERSIONS) do
    local function curl(...)
      local more = compat.pack(...)
      return function(port)
        local argv = append({ "curl", "-sS", "--noproxy", "*", "--cacert", FILES.ca, "--max-time", "20" },
          compat.unpack(version.curl))
        append(argv, compat.unpack(more))
        return append(argv, "https://localhost:" .. port .. "/")
      end
    end

    it(version.name .. ": large data both ways, to the clean end", function()
      local got = served({}, http(LARGE), curl("--data-binary", "@" .. FILES.large))
      assert.equal("TLSv" .. version.name, got.version)
      assert.is_true(got.served[1] == LARGE)
      assert.equal(0, got.status, got.all:sub(-300))
      assert.is_true(got.out == LARGE)
    end)

    it(version.name .. ": ALPN", function()
      local got = served({ alpn = { "http/1.1" } }, http "x", curl("-w", "HTTP/%{http_version}"))
      assert.equal("http/1.1", got.alpn)
      assert.equal("xHTTP/1.1", got.out)
    end)

    it(version.name .. ": client certificates", function()
      local context = { verify_client = "require", ca = helper.ca.certificate }
      local got = served(context, http "welcome", curl("--cert", FILES.own_cert, "--key", FILES.own_key))
      assert.equal("welcome", got.out)
      assert.equal(OWN.certificate, got.peer:pem())
      got = served(context, http "welcome", curl())
      assert.equal("tls", got.err.code)
      assert.is_true(got.status ~= 0)
    end)
  end

  it("refuses a server whose certificate is for another name", function()
    local leaf = helper.leaf { names = { "other.example" } }
    local serve = function(conn) return conn:read() end
    local got = served({ certificate = leaf.certificate, key = leaf.key }, serve, function(port)
      return { "curl", "-sS", "--noproxy", "*", "--cacert", FILES.ca, "https://localhost:" .. port .. "/" }
    end)
    assert.equal(60, got.status) -- CURLE_PEER_FAILED_VERIFICATION
  end)
end)

describe("our server and gnutls-cli", function()
  for _, version in ipairs(VERSIONS) do
    local function gnutls_cli(...)
      local more = compat.pack(...)
      return function(port)
        local argv = append({ "gnutls-cli", "--x509cafile", FILES.ca, "--priority", priority(version), "--port",
          tostring(port) }, compat.unpack(more))
        return append(argv, "localhost")
      end
    end

    it(version.name .. ": data both ways, and a clean close of either side", function()
      local got = served({}, answer, gnutls_cli(), "hello\n")
      assert.equal("TLSv" .. version.name, got.version)
      assert.same({ n = 2, "hello", "" }, got.served)
      got = served({}, function(conn)
        assert(conn:write("first\n"))
        assert(conn:shutdown("write"))
        return conn:read("a")
      end, gnutls_cli())
      assert.matches("first\n", got.out)
      assert.matches("Peer has closed the GnuTLS connection", got.all)
      assert.equal(0, got.status)
    end)

    it(version.name .. ": it tells a stream that is cut from a clean end", function()
      helper.in_loop(function()
        local listener = assert(tls.listen("127.0.0.1", 0, { context = helper.contexts().server }))
        luv.spawn(function()
          local conn = listener()
          assert(conn:accept())
          assert(conn:write("half\n"))
          conn:read()
          getmetatable(conn).__close(conn, "an error")
        end)
        local child = helper.start(gnutls_cli()(listener:port()))
        child:wait_for("half")
        child:write("go\n")
        child:wait_for("non%-properly terminated")
        child:stop()
        listener:close()
      end, 20)
    end)

    it(version.name .. ": ALPN", function()
      local got = served({ alpn = { "two", "one" } }, answer, gnutls_cli("--alpn", "one", "--alpn", "two"), "x\n")
      assert.equal("two", got.alpn)
      assert.matches("Application protocol: two", got.all)
    end)

    it(version.name .. ": client certificates", function()
      local context = { verify_client = "require", ca = helper.ca.certificate }
      local got = served(context, answer,
        gnutls_cli("--x509certfile", FILES.own_cert, "--x509keyfile", FILES.own_key), "hello\n")
      assert.equal(OWN.certificate, got.peer:pem())
      assert.equal("hello", got.served[1])
      got = served(context, answer, gnutls_cli(), "hello\n")
      assert.equal("tls", got.err.code)
    end)
  end
end)

-- ---- our client ----

-- Starts a server's program, waits until it listens, and calls fn(connect, child) in the loop;
-- connect(options) is tls.connect to it.
local function against(argv, ready, port, fn)
  helper.in_loop(function()
    local child = helper.start(argv)
    local ok, err = compat.pcall(function()
      child:wait_for(ready)
      fn(function(options)
        local all = { context = helper.contexts().client, timeout = 10 }
        for name, value in pairs(options or {}) do all[name] = value or nil end
        return tls.connect("localhost", port, all)
      end, child)
    end)
    child:stop()
    assert(ok, tostring(err) .. "\n" .. child.stdout .. child.stderr)
  end, 30)
end

describe("our client and openssl s_server", function()
  for _, version in ipairs(VERSIONS) do
    local function s_server(fn, ...)
      local port = helper.free_port()
      local argv = append({ "openssl", "s_server", version.openssl, "-accept", "127.0.0.1:" .. port, "-cert",
        FILES.cert, "-key", FILES.key }, ...)
      against(argv, "ACCEPT", port, fn)
    end

    it(version.name .. ": data both ways, and a clean close of either side", function()
      s_server(function(connect)
        local conn = assert(connect())
        assert.equal("TLSv" .. version.name, conn:version())
        assert(conn:write("hello\n"))
        assert.equal("olleh", conn:read())
        assert(conn:shutdown("write"))
        assert.same({ n = 1, "" }, compat.pack(conn:read("a")))
        conn:close()
      end, "-rev")
      s_server(function(connect)
        local conn = assert(connect())
        assert(conn:write("GET / HTTP/1.0\r\n\r\n"))
        local page, err = conn:read("a")
        assert(page, tostring(err)) -- to the clean end
        assert.matches("^http/1.0 200 ok\r\n.*</html>%s*$", page:lower())
        conn:close()
      end, "-www")
    end)

    it(version.name .. ": large data", function()
      s_server(function(connect)
        local conn = assert(connect())
        local line = ("x"):rep(4000)
        luv.spawn(function()
          for i = 1, 50 do assert(conn:write(i % 10, line, "\n")) end
        end)
        for i = 1, 50 do assert.equal(line .. i % 10, conn:read()) end
        conn:close()
      end, "-rev")
    end)

    it(version.name .. ": ALPN, agreed and not", function()
      s_server(function(connect)
        local conn = assert(connect { alpn = { "a", "b" } })
        assert.equal("b", conn:alpn())
        conn:close()
      end, "-rev", "-alpn", "b,a")
      s_server(function(connect)
        local conn, err = connect { alpn = { "c" } }
        assert.is_nil(conn)
        assert.same({ "alert", "no_application_protocol", false }, { err.code, err.alert.name, err.alert.sent })
      end, "-rev", "-alpn", "b,a")
    end)

    it(version.name .. ": client certificates", function()
      local function context(one)
        return helper.client_context { certificate = one.certificate, key = one.key }
      end
      s_server(function(connect, child)
        local conn = assert(connect { context = context(OWN) })
        assert(conn:write("hello\n"))
        assert.equal("olleh", conn:read())
        conn:close()
        child:wait_for("CN ?= ?client")
      end, "-rev", "-Verify", "2", "-CAfile", FILES.ca, "-verify_return_error")
      for name, one in pairs { unknown_ca = STRANGER, none = {} } do
        s_server(function(connect)
          local conn, err = connect { context = context(one) }
          if conn then err = select(2, conn:read(1)) end -- TLS 1.3: its verdict comes later
          assert.equal("alert", err.code)
          if name == "unknown_ca" then
            assert.equal(name, err.alert.name)
          else
            assert.equal(version.name == "1.3" and "certificate_required" or "handshake_failure", err.alert.name)
          end
        end, "-rev", "-Verify", "2", "-CAfile", FILES.ca, "-verify_return_error")
      end
    end)

    it(version.name .. ": a server that is killed is a truncation", function()
      s_server(function(connect, child)
        local conn = assert(connect())
        assert(conn:write("hello\n"))
        assert.equal("olleh", conn:read())
        child:kill("sigkill")
        local data, err = conn:read("a")
        assert.is_nil(data)
        assert.is_true(err.code == "truncated" or err.code == "system", tostring(err))
        conn:close()
      end, "-rev")
    end)
  end

  it("RSA and Ed25519 certificates", function()
    for _, kind in ipairs { "rsa", "ed25519" } do
      local leaf = helper.leaf { key_type = kind }
      local port = helper.free_port()
      against({ "openssl", "s_server", "-accept", "127.0.0.1:" .. port, "-cert", helper.temp_file(leaf.certificate),
        "-key", helper.temp_file(leaf.key), "-rev" }, "ACCEPT", port, function(connect)
        local conn = assert(connect())
        assert.equal(leaf.certificate, conn:peer_certificate():pem())
        conn:close()
      end)
    end
  end)
end)

describe("our client and gnutls-serv", function()
  for _, version in ipairs(VERSIONS) do
    local function gnutls_serv(fn, ...)
      local port = helper.free_port()
      local argv = append({ "gnutls-serv", "--port", tostring(port), "--x509certfile", FILES.cert, "--x509keyfile",
        FILES.key, "--priority", priority(version) }, ...)
      against(argv, "listening on IPv4[^\n]*done", port, fn)
    end

    it(version.name .. ": data both ways, and a clean close of either side", function()
      gnutls_serv(function(connect)
        local conn = assert(connect())
        assert.equal("TLSv" .. version.name, conn:version())
        assert(conn:write("hello\n"))
        assert.equal("hello", conn:read())
        assert(conn:shutdown())
        assert.is_nil(conn:read(1))
        conn:close()
      end, "--echo")
      gnutls_serv(function(connect)
        local conn = assert(connect())
        assert(conn:write("GET / HTTP/1.0\r\n\r\n"))
        local page, err = conn:read("a")
        assert(page, tostring(err))
        assert.matches("^HTTP/1.0 200 OK", page)
        conn:close()
      end, "--http")
    end)

    it(version.name .. ": ALPN", function()
      gnutls_serv(function(connect)
        local conn = assert(connect { alpn = { "x", "proto" } })
        assert.equal("proto", conn:alpn())
        conn:close()
      end, "--echo", "--alpn", "proto")
    end)

    it(version.name .. ": client certificates", function()
      gnutls_serv(function(connect)
        local context = helper.client_context { certificate = OWN.certificate, key = OWN.key }
        local conn = assert(connect { context = context })
        assert(conn:write("hello\n"))
        assert.equal("hello", conn:read())
        conn:close()
        local err
        conn, err = connect()
        if conn then err = select(2, conn:read(1)) end
        assert.equal("alert", err.code, tostring(err))
        assert.is_false(err.alert.sent)
      end, "--echo", "--x509cafile", FILES.ca, "--require-client-cert", "--verify-client-cert")
    end)
  end
end)
