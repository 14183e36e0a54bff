-- Every example is run for real, as its own process: the servers against curl, openssl and cotls.

local compat = require "cotls.compat"
local helper = require "spec.helper"
local tls = require "cotls"
local luv = require "cotls.luv"
local uv = require "luv"
local tree = require "spec.tree"

local root = tree.root

local function example(name, ...)
  return { helper.lua, root .. "examples/" .. name, ... }
end

local function write(path, content)
  local handle = assert(io.open(path, "wb"))
  assert(handle:write(content))
  handle:close()
  return path
end

-- AddressSanitizer tells, once in a process, that it can't see where a stack of OpenSSL's jobs ends.
local function without_note(text)
  return (text:gsub("==%d+==WARNING: ASan is ignoring requested __asan_handle_no_return:[^\n]*\n" ..
    "False positive error reports may follow\nFor details see [^\n]*\n", ""))
end

-- What a program says, which must end well.
local function output_of(argv, options)
  local status, out, err = helper.run(argv, nil, options)
  assert.equal(0, status, out .. err)
  assert.equal("", without_note(err))
  return out
end

-- Ends a server as Ctrl-C does: it must go by itself, without complaint.
local function interrupt(server)
  server:kill("sigint")
  local status = server:wait()
  server:stop()
  assert.equal(0, status, server.stderr)
end

local function curl(ca, ...)
  local argv = { "curl", "-q", "-sS", "--noproxy", "*", "--path-as-is", "--max-time", "20", "--cacert", ca, ... }
  local status, out, err = helper.run(argv)
  assert.equal(0, status, err)
  return out
end

-- What comes back for these bytes up to the server's close, which must be in order.
local function raw(port, ca, request)
  local conn = assert(tls.connect("localhost", port, { ca = ca, timeout = 10 * helper.slow }))
  assert(conn:write(request))
  local answer = assert(conn:read("a"))
  conn:close()
  return answer
end

describe("examples/https_server.lua", function()
  local server, url, port, ca, outside
  local LONG = ("0123456789abcdef"):rep(20000) -- 320,000 bytes: many records

  setup(function()
    outside = helper.temp_dir()
    local folder = outside .. "/www"
    assert(uv.fs_mkdir(folder, 448))
    assert(uv.fs_mkdir(folder .. "/sub", 448))
    write(outside .. "/secret.txt", "the secret\n")
    write(folder .. "/page.txt", "a page\n")
    write(folder .. "/a b.txt", "a space\n")
    write(folder .. "/empty.css", "")
    write(folder .. "/index.html", "<p>the index\n")
    write(folder .. "/sub/index.html", "<p>the sub-index\n")
    write(folder .. "/.hidden", "hidden\n")
    write(folder .. "/long.bin", LONG)
    server = helper.start(example("https_server.lua", folder, "0"))
    url, port = server:wait_for("(https://localhost:(%d+)/)\n")
    port = tonumber(port)
    server:wait_for("END CERTIFICATE")
    ca = write(outside .. "/ca.pem", server.stdout)
  end)

  teardown(function() interrupt(server) end)

  it("serves files with their length and kind, all of each", function()
    for path, expected in pairs {
      ["page.txt"] = { "a page\n", "text/plain" },
      ["page.txt?query=/../x"] = { "a page\n", "text/plain" },
      ["a%20b.txt"] = { "a space\n", "text/plain" },
      ["%70age.txt"] = { "a page\n", "text/plain" },
      ["empty.css"] = { "", "text/css" },
      [""] = { "<p>the index\n", "text/html" },
      ["sub/"] = { "<p>the sub-index\n", "text/html" },
      ["long.bin"] = { LONG, "application/octet-stream" },
    } do
      local out = curl(ca, "-i", url .. path)
      local head, body = out:match("^(.-\r\n)\r\n(.*)$")
      assert.truthy(head:find("^HTTP/1%.1 200 OK\r\n"), path)
      assert.truthy(head:find("\nContent-Type: " .. expected[2] .. "\r\n", 1, true), path)
      assert.truthy(head:find("\nContent-Length: " .. #expected[1] .. "\r\n", 1, true), path)
      assert.truthy(expected[1] == body, path)
    end
  end)

  it("keeps a connection for the next request, also after a 404", function()
    local out = curl(ca, "-w", "%{http_code} %{num_connects}\n", url .. "page.txt", url .. "none", url .. "page.txt")
    assert.equal("a page\n200 1\nNot Found\n404 0\na page\n200 0\n", out)
  end)

  it("closes when asked to, after HTTP/1.0 and after a request with a body, in order", function()
    for _, request in ipairs {
      "GET /page.txt HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Close\r\n\r\n",
      "GET /page.txt HTTP/1.0\r\n\r\n",
      "GET /page.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 24\r\n\r\nGET /none HTTP/1.1\r\n\r\n\r\n",
      "GET /page.txt HTTP/1.1\nhost:x\ntransfer-encoding: chunked\n\n0\r\n\r\n",
    } do
      local out = raw(port, ca, request)
      assert.truthy(out:find("^HTTP/1%.1 200 OK\r\n.*\r\nConnection: close\r\n\r\na page\n$"), request .. out)
    end
  end)

  it("gives a HEAD all but the content", function()
    local out = raw(port, ca, "HEAD /long.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert.truthy(out:find("^HTTP/1%.1 200 OK\r\n"))
    assert.truthy(out:find("\nContent-Length: 320000\r\n", 1, true))
    assert.truthy(out:find("\r\n\r\n$"))
    out = raw(port, ca, "HEAD /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert.truthy(out:find("^HTTP/1%.1 404 Not Found\r\n.*\r\n\r\n$"))
  end)

  it("says 404 for what is not there, a folder, and a hidden file", function()
    for _, path in ipairs { "none", "page.txt/", "page.txt/x", "sub", ".hidden", "%2ehidden", "sub//none" } do
      assert.equal("404", curl(ca, "-o", "/dev/null", "-w", "%{http_code}", url .. path), path)
    end
  end)

  it("lets no path out of the folder", function()
    assert.truthy(uv.fs_stat(outside .. "/www/../secret.txt")) -- what the paths below are after
    for _, path in ipairs {
      "/../secret.txt", "/%2e%2e/secret.txt", "/.%2E/secret.txt", "/..%2fsecret.txt", "/%2e%2e%2fsecret.txt",
      "/sub/../../secret.txt", "/sub/%2e%2e/%2e%2e/secret.txt", "/sub/..%2f..%2fsecret.txt", "/x/../../secret.txt",
      "//..//secret.txt", "/" .. outside .. "/secret.txt", "/%2f.." .. outside .. "/secret.txt",
      "/page.txt%00", "/page.txt%00.html", "/%00/../../secret.txt", "/..\\secret.txt", "/%252e%252e/secret.txt",
      "/../www/page.txt", "/sub/../page.txt",
    } do
      local out = raw(port, ca, "GET " .. path .. " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      assert.truthy(out:find("^HTTP/1%.1 404 "), path .. "\n" .. out)
      assert.falsy(out:find("secret", 1, true), path)
    end
  end)

  it("says 405 and what is allowed to any other method", function()
    for _, method in ipairs { "POST", "PUT", "DELETE", "OPTIONS", "TRACE" } do
      local out = curl(ca, "-i", "-X", method, "-d", "a=b", url .. "page.txt")
      assert.truthy(out:find("^HTTP/1%.1 405 Method Not Allowed\r\n"), out)
      assert.truthy(out:find("\r\nAllow: GET, HEAD\r\n", 1, true))
    end
  end)

  it("goes on reading what a refused client has still to send", function()
    local conn = assert(tls.connect("localhost", port, { ca = ca, timeout = 10 * helper.slow }))
    assert(conn:write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n"))
    assert.truthy(assert(conn:read("a")):find("^HTTP/1%.1 405 "))
    for _ = 1, 4 do assert(conn:write(("x"):rep(10000))) end -- a socket that is closed would answer by a reset
    assert(conn:shutdown())
    conn:close()
  end)

  it("says 400 to what is no request, and to one whose head is too long", function()
    for _, request in ipairs {
      "\r\n\r\n", "hello\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/2\r\n\r\n", "GET page.txt HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nX-Host: x\r\n\r\n", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /" .. ("x"):rep(9000) .. " HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\nX: " .. ("x"):rep(9000) .. "\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\n" .. ("X: " .. ("x"):rep(1000) .. "\r\n"):rep(80) .. "\r\n",
    } do
      local out = raw(port, ca, request)
      assert.truthy(out:find("^HTTP/1%.1 400 Bad Request\r\n"), request:sub(1, 80) .. "\n" .. out)
    end
  end)

  it("serves openssl s_client", function()
    local status, out = helper.run({ "openssl", "s_client", "-quiet", "-CAfile", ca, "-verify_return_error",
      "-verify_hostname", "localhost", "-connect", "localhost:" .. port },
      "GET /page.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert.equal(0, status)
    assert.truthy(out:find("\r\n\r\na page\n$"))
  end)

  it("does not mind clients that go away, and serves many at once", function()
    helper.in_loop(function()
      local answers = 0
      for i = 1, 50 do
        luv.spawn(function()
          local conn = assert(tls.connect("localhost", port, { ca = ca, timeout = 20 * helper.slow }))
          if i % 2 == 0 then return conn:close() end
          assert(conn:write("GET /long.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
          if i % 5 == 0 then return conn:close() end
          assert.equal(#LONG, #assert(conn:read("a")):match("\r\n\r\n(.*)$"))
          conn:close()
          answers = answers + 1
        end)
      end
      helper.until_true(function()
        luv.sleep(0.01)
        return answers == 20
      end, "20 answers", 20)
    end, 30)
    assert.equal("a page\n", curl(ca, url .. "page.txt"))
  end)

  it("takes a certificate and its key", function()
    local folder = helper.temp_dir()
    write(folder .. "/page.txt", "a page\n")
    local certificate = helper.temp_file(helper.server_leaf.certificate)
    local key = helper.temp_file(helper.server_leaf.key)
    local other = helper.start(example("https_server.lua", folder, "0", certificate, key))
    finally(function() other:stop() end)
    local its_url = other:wait_for("https://localhost:%d+/")
    assert.equal("a page\n", curl(helper.temp_file(helper.ca.certificate), its_url .. "page.txt"))
    assert.equal("", other.stdout)
    interrupt(other)
  end)

  it("fails on a port that is taken, and on none", function()
    for wrong, message in pairs { [tostring(port)] = "Address already in use", ["x"] = "a port from 0 to 65535" } do
      local status, _, err = helper.run(example("https_server.lua", ".", wrong))
      assert.equal(1, status)
      assert.truthy(err:find(message, 1, true), err)
    end
  end)
end)

describe("examples/https_get.lua", function()
  local ca = helper.temp_file(helper.ca.certificate)

  -- Runs it against a server that answers with these bytes, then ends in order or cuts the stream.
  local function get(answer, cut, path, leaf)
    local pair = leaf or helper.server_leaf
    local requested, status, out, err
    helper.in_loop(function()
      local listener = assert(tls.listen("localhost", 0, { certificate = pair.certificate, key = pair.key }))
      luv.spawn(function()
        while true do
          local conn = listener()
          if not conn then break end
          luv.spawn(function()
            if not conn:accept() then return conn:close() end
            requested = ""
            repeat
              local line = assert(conn:read("L"))
              requested = requested .. line
            until line == "\r\n"
            conn:write(answer)
            if cut then getmetatable(conn).__close(conn, "no close_notify") else conn:close() end
          end)
        end
      end)
      local url = ("https://localhost:%d%s"):format(listener:port(), path or "/page")
      status, out, err = helper.run(example("https_get.lua", "--ca", ca, url))
      requested = requested and requested:gsub(":" .. listener:port(), ":PORT")
      listener:close()
    end, 30)
    return status, out, err, requested
  end

  local LENGTH = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
  local CHUNKS = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
  local CLOSE = "HTTP/1.0 200 OK\r\nServer: x\r\n\r\n"

  it("prints all of an answer: of a length, in chunks, to the close", function()
    for answer, expected in pairs {
      [LENGTH .. "hello"] = "hello",
      [LENGTH .. "hello and more"] = "hello",
      [CHUNKS .. "5\r\nhello\r\nA;x=y\r\n, how are \r\n4\r\nyou?\r\n0\r\n\r\n"] = "hello, how are you?",
      [CHUNKS .. "3\r\na\nb\r\n0\r\nTrailer: x\r\n\r\n"] = "a\nb",
      [CHUNKS .. "0\r\n\r\n"] = "",
      [CLOSE .. "hello"] = "hello",
      [CLOSE] = "",
      ["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" .. LENGTH .. "hello"] = "hello",
      ["HTTP/1.1 200 OK\ncontent-length:5\n\nhello"] = "hello",
    } do
      local status, out, err = get(answer)
      assert.equal(0, status, answer .. err)
      assert.equal(expected, out)
      assert.equal("", err)
    end
    local long = ("x"):rep(300000)
    local status, out = get(CLOSE .. long)
    assert.equal(0, status)
    assert.truthy(out == long)
  end)

  it("asks for the path and the host", function()
    for path, target in pairs { [""] = "/", ["/"] = "/", ["/a?b=c"] = "/a?b=c", ["?b"] = "/?b", ["/a#part"] = "/a" } do
      local _, _, _, requested = get(LENGTH .. "hello", false, path)
      assert.equal("GET " .. target .. " HTTP/1.1\r\nHost: localhost:PORT\r\nConnection: close\r\n\r\n", requested)
    end
  end)

  it("tells truncation, with and without close_notify", function()
    for answer, cut in pairs {
      [LENGTH .. "hell"] = true, [CHUNKS .. "5\r\nhell"] = true, [CHUNKS .. "5\r\nhello\r\n"] = true,
      [CLOSE .. "hell"] = true, ["HTTP/1.1 200 OK\r\nContent-Le"] = true, [""] = true,
      [LENGTH .. "hel"] = false, [CHUNKS .. "5\r\nhel"] = false, [CHUNKS .. "5\r\nhello\r\n0\r\n"] = false,
      ["HTTP/1.1 200 OK\r\n"] = false,
    } do
      local status, _, err = get(answer, cut)
      assert.equal(3, status, answer .. err)
      assert.truthy(err:find("^https_get: [^\n]+\n$"), err)
    end
    local status, out, err = get(LENGTH .. "hell", true)
    assert.equal(3, status)
    assert.equal("hell", out)
    assert.truthy(err:find("without close_notify", 1, true), err)
  end)

  it("takes nothing else for HTTP", function()
    for _, answer in ipairs {
      CHUNKS .. "x\r\nhello\r\n0\r\n\r\n", CHUNKS .. "-5\r\nhello\r\n0\r\n\r\n",
      CHUNKS .. "ffffffffffffffff\r\nhello\r\n",
    } do
      local status, _, err = get(answer)
      assert.equal(3, status, answer)
      assert.truthy(err:find("a chunk without a size", 1, true), err)
    end
  end)

  it("has an exit code for another status", function()
    local status, out, err = get("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
    assert.equal(4, status)
    assert.equal("", out)
    assert.equal("https_get: HTTP/1.1 404 Not Found\n", err)
  end)

  it("trusts nobody but the CA and the name", function()
    local other = helper.leaf { names = { "example.org" } }
    local status, out, err, requested = get(LENGTH .. "hello", false, "/", other)
    assert.equal(2, status)
    assert.equal("", out)
    assert.truthy(err:find("hostname mismatch", 1, true), err)
    assert.is_nil(requested)
    status, out, err = get(LENGTH .. "hello", false, "/", helper.leaf { ca = helper.other_ca })
    assert.equal(2, status)
    assert.truthy(err:find("unable to get local issuer certificate", 1, true), err)
    assert.equal("", out)
    status, out, err = helper.run(example("https_get.lua", "https://localhost:" .. helper.free_port()))
    assert.equal(2, status)
    assert.equal("", out)
    assert.truthy(err:find("Connection refused", 1, true), err)
  end)

  it("says how it is used", function()
    for _, url in ipairs { "", "http://localhost/", "https://", "https:///x", "https://user@host/", "https://host:x/",
      "https://localhost/a b", "https://localhost/\r\nX: y" } do
      local status, out, err = helper.run(example("https_get.lua", url))
      assert.equal(1, status, url)
      assert.equal("", out)
      assert.equal("https_get: [--ca FILE] https://HOST[:PORT]/PATH\n", err)
    end
  end)
end)

describe("examples/echo_server.lua", function()
  it("serves clients of its own and ends", function()
    local out = output_of(example("echo_server.lua"))
    for number = 1, 3 do
      local words = {}
      for word in out:gmatch("client " .. number .. ", TLSv1%.3: (%a+)\n") do words[#words + 1] = word end
      assert.equal("there and back", table.concat(words, " "))
    end
    assert.truthy(out:find("client 1.*client 2.*client 1")) -- at once, not one by one
  end)

  it("serves others on a port", function()
    local server = helper.start(example("echo_server.lua", "0"))
    finally(function() server:stop() end)
    local port = tonumber((server:wait_for("port (%d+)\n")))
    local ca = server:wait_for("(%-%-%-%-%-BEGIN.-END CERTIFICATE%-%-%-%-%-\n)")
    local conn = assert(tls.connect("localhost", port, { ca = ca, timeout = 10 * helper.slow }))
    local long = ("0123456789"):rep(20000)
    for at = 1, #long, 1000 do
      assert(conn:write(long:sub(at, at + 999)))
      assert.equal(long:sub(at, at + 999), assert(conn:read(1000)))
    end
    local status, out = helper.run { "openssl", "s_client", "-quiet", "-no_ign_eof", "-connect", "localhost:" .. port }
    assert.equal(0, status)
    assert.equal("", out)
    assert(conn:shutdown())
    assert.equal("", server.stderr)
    interrupt(server)
  end)
end)

describe("examples/starttls.lua", function()
  it("turns to TLS in place", function()
    assert.equal([[
server  plain    220 ready
client  plain    HELLO
server  plain    530 STARTTLS first
client  plain    STARTTLS
server  plain    220 go ahead
client  TLSv1.3  HELLO
server  TLSv1.3  250 HELLO is for your ears only
]], output_of(example("starttls.lua")))
  end)
end)

describe("examples/handshake.lua", function()
  for version, waits in pairs { ["1.2"] = 3, ["1.3"] = 2 } do
    it("shows what a handshake of TLS " .. version .. " waits for", function()
      local out = output_of(example("handshake.lua", version))
      local _, wants = out:gsub('wants to %a+ +within %d+ s +in "', "")
      assert.equal(waits, wants, out)
      for _, who in ipairs { "client", "server" } do
        assert.truthy(out:find(who .. "  done:  TLSv" .. version, 1, true), out)
      end
      assert.truthy(out:find("server  heard:  hello\n.*client  heard:  HELLO\n"), out)
    end)
  end
end)

describe("examples/mutual_tls.lua", function()
  it("lets in one of three, and each learns why", function()
    local out = output_of(example("mutual_tls.lua"))
    for _, line in ipairs {
      "server  lets in alice\nclient  alice: welcome, alice\n",
      "server  refuses: accept: [^\n]*%(CN=mallory%) %(alert sent: unknown_ca%)\n",
      "client  mallory: read: [^\n]*%(alert received: unknown_ca%)\n",
      "server  refuses: accept: peer did not return a certificate %(alert sent: certificate_required%)\n",
      "client  nobody: read: [^\n]*%(alert received: certificate_required%)\n",
    } do
      assert.truthy(out:find(line), line .. "\n" .. out)
    end
  end)
end)

-- A program's whole output, line by line: each is a pattern.
local function says(name, lines)
  local out, n = output_of(example(name)), 0
  for line in out:gmatch("[^\n]+") do
    n = n + 1
    assert.truthy(line:find("^" .. (lines[n] or "nothing more") .. "$"), ("%s\ninstead of %s"):format(line, lines[n]))
  end
  assert.equal(#lines, n, out)
end

describe("examples/verify_peer.lua", function()
  it("accepts what is good, and says why not", function()
    says("verify_peer.lua", {
      "a good certificate +accepted: CN=server",
      "another name +refused: hostname mismatch %(depth 0, CN=server%)",
      "an unknown CA +refused: unable to get local issuer certificate %(depth 0, CN=server%)",
      "expired +refused: certificate has expired %(depth 0, CN=server%)",
      "a pin that matches +accepted: CN=server",
      "a pin that does not +refused: no key of the verified chain is among the pins %(depth 0, CN=server%)",
    })
  end)
end)

describe("examples/many_names.lua", function()
  it("answers for each name as its context says", function()
    says("many_names.lua", {
      "www.example.org +this is www.example.org, TLSv1.3, http/1.1",
      "wiki.staff.example.org +this is wiki.staff.example.org, TLSv1.3, no ALPN",
      "wiki.staff.example.org +read: .*%(alert received: certificate_required%)",
      "mail.example.org +connect: .*%(alert received: unrecognized_name%)",
    })
  end)
end)

describe("examples/resumption.lua", function()
  it("resumes as long as the keys are known", function()
    says("resumption.lua", {
      "the first connection +full handshake",
      "the second +resumed",
      "the other server +resumed",
      "a new key beside the old one +resumed",
      "all forgotten +full handshake",
    })
  end)
end)

describe("examples/early_data.lua", function()
  it("takes early what does no harm twice", function()
    says("early_data.lua", {
      "GET balance +not_sent +balance is 100",
      "GET balance +accepted +balance is 100",
      "PAY 10 +accepted +425 too early; paid, balance is 90",
    })
  end)
end)

describe("examples/demo.lua", function()
  local function names_in(folder)
    local names, scan = {}, assert(uv.fs_scandir(folder))
    for name in uv.fs_scandir_next, scan do names[#names + 1] = name end
    return table.concat(names, " ")
  end

  it("serves three kinds of clients, tells what was negotiated, and leaves nothing", function()
    local folder = helper.temp_dir()
    local out = output_of(example("demo.lua"), { env = { TMPDIR = folder } })
    local lines = {}
    for line in out:gmatch("[^\n]+") do lines[#lines + 1] = line end
    assert.equal(4, #lines, out)
    assert.truthy(lines[1]:find("^client +version +cipher +ALPN +handshake$"))
    for name, version in pairs { cotls = "TLSv1%.3", curl = "TLSv1%.3", openssl = "TLSv1%.2" } do
      assert.truthy(out:find("\n" .. name .. " +" .. version .. " +%S+ +http/1%.1 +%d+%.%d+ ms\n"), out)
    end
    for _, line in ipairs(lines) do assert.equal(#lines[1], #line) end
    assert.equal("", names_in(folder))
  end)

  it("fails when a client does, and still leaves nothing", function()
    local folder, programs = helper.temp_dir(), helper.temp_dir()
    write(programs .. "/curl", "#!/bin/sh\necho 'not the page'\n")
    assert(uv.fs_chmod(programs .. "/curl", 448))
    local path = programs .. ":" .. os.getenv "PATH"
    local env = { TMPDIR = folder, PATH = path }
    local status, out, err = helper.run(example("demo.lua"), nil, { env = env })
    assert.equal(1, status, out .. err)
    assert.equal("curl: not the page\n\n", err)
    assert.equal("", names_in(folder))
  end)
end)

describe("README.md", function()
  local text = helper.read_file(root .. "README.md")

  -- The Lua blocks in their order.
  local blocks = {}
  for block in text:gmatch("\n```lua\n(.-)\n```\n") do blocks[#blocks + 1] = block .. "\n" end
  local SERVER, CLIENT, CERTIFICATE, RAW, CQUEUES = compat.unpack(blocks)

  local folder, port, server

  -- A block as a program in the folder, on this run's port.
  local function program(name, block)
    return { helper.lua, write(folder .. "/" .. name, (block:gsub("8443", tostring(port)))) }
  end

  setup(function()
    folder, port = helper.temp_dir(), helper.free_port()
    local status, _, err = helper.run(program("certificate.lua", CERTIFICATE), nil, { cwd = folder })
    assert.equal(0, status, err)
    server = helper.start(program("server.lua", SERVER), { cwd = folder })
    helper.until_true(function()
      local conn = tls.connect("localhost", port, { insecure = true })
      return conn and conn:close()
    end, "the server")
  end)

  teardown(function() interrupt(server) end)

  it("has five blocks of Lua, the first two of at most fifteen lines", function()
    assert.equal(5, #blocks)
    for i = 1, 2 do
      local _, lines = blocks[i]:gsub("\n", "")
      assert.truthy(lines <= 15, lines)
    end
  end)

  it("begins with a title, three lines and the two commands", function()
    local lines = text:match("^# cotls\n\n(.-)\n\n```sh\nmake demo  [^\n]*\nmake test  [^\n]*\n```\n")
    assert.truthy(lines and select(2, lines:gsub("\n", "")) <= 2, lines)
  end)

  it("has a server and a client that work", function()
    for _ = 1, 3 do
      local status, out, err = helper.run(program("client.lua", CLIENT), nil, { cwd = folder })
      assert.equal(0, status, err)
      assert.truthy(out:find("^TLSv1%.3\tx25519\t[%w_]+\nyou said hello\nyou said goodbye\n$"), out)
    end
  end)

  -- Talks to the server, as a coroutine.
  local TALK = [[
    local conn = assert(tls.connect("127.0.0.1", PORT, { ca = "chain.pem", server_name = "localhost" }))
    conn:settimeout(TIMEOUT)
    assert(conn:write("hello\n"))
    table.insert(said, (assert(conn:read())))
    local _, err = conn:read()
    assert(err.code == "timeout", err)
    assert(conn:write("still here\n"))
    table.insert(said, (assert(conn:read())))
    assert(conn:shutdown())
    conn:close()
  ]]
  local USE = {
    raw = [[
      local tls, uv = require "cotls", require "luv"
      BLOCK
      local function wait_for(fd, want, seconds)
        local poll, timer, ready = uv.new_poll(fd), uv.new_timer(), false
        poll:start(want:sub(1, 1), function() ready = true uv.stop() end)
        if seconds then timer:start(math.max(math.ceil(seconds * 1000), 0), 0, function() uv.stop() end) end
        uv.run()
        poll:close()
        timer:close()
        uv.run("nowait")
        return ready
      end
      local said = {}
      run(function() TALK end, wait_for)
      print(table.concat(said, ", "))
    ]],
    cqueues = [[
      local tls = require "cotls"
      BLOCK
      local said, loop = {}, cqueues.new()
      for _ = 1, 3 do loop:wrap(function() TALK end) end
      assert(loop:loop())
      print(table.concat(said, ", "))
    ]],
  }

  local function use(name, block)
    local words = { BLOCK = block, TALK = TALK:gsub("PORT", port):gsub("TIMEOUT", 0.2 * helper.slow) }
    local argv = program("use_" .. name .. ".lua", (USE[name]:gsub("%u%u%u%u+", words)))
    local status, out, err = helper.run(argv, nil, { cwd = folder })
    assert.equal(0, status, err)
    return out
  end

  it("has the raw yields in ten lines", function()
    assert.equal("you said hello, you said still here\n", use("raw", RAW))
  end)

  it("has a scheduler for cqueues", function()
    if not pcall(require, "cqueues") then return pending("cqueues is not installed") end
    assert.equal(("you said hello, "):rep(3) .. "you said still here, you said still here, you said still here\n",
      use("cqueues", CQUEUES))
  end)

  it("names every error code, and none that is not", function()
    local types = helper.read_file(root .. "lua/cotls/types.lua")
    local known, named = {}, {}
    for code in types:match("@alias cotls.ErrorCode\n(.-)\n\n"):gmatch("'\"([%l_]+)\"'") do known[#known + 1] = code end
    for codes in text:gmatch("\n| (`[^|]+) |") do
      for code in codes:gmatch("`([%l_]+)`") do named[#named + 1] = code end
    end
    table.sort(known)
    table.sort(named)
    assert.same(known, named)
  end)

  it("links to what is there", function()
    for target in text:gmatch("%]%(([^)]+)%)") do
      if not target:find("^https://") and target ~= "bench/results.svg" then
        assert.truthy(uv.fs_stat((root == "" and "." or root) .. "/" .. target), target)
      end
    end
  end)
end)

describe("examples/remote_signer.lua", function()
  it("has its handshake signed by another process, whose socket goes", function()
    local folder = helper.temp_dir()
    local out = output_of(example("remote_signer.lua"), { env = { TMPDIR = folder, LUA = helper.lua } })
    assert.equal("TLSv1.3, signed elsewhere by ecdsa_secp256r1_sha256\n", out)
    assert.is_nil(uv.fs_scandir_next(uv.fs_scandir(folder)))
  end)
end)
