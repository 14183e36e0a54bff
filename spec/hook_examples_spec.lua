-- The examples of hooks, each run for real as its own process, with Debian's redis-server where they want one.

local helper = require "spec.helper"
local uv = require "luv"

local root = debug.getinfo(1, "S").source:match("^@(.*)spec/[^/]*$") or ""
local redis_server = io.popen("command -v redis-server"):read()

local function example(name, ...)
  return { helper.lua, root .. "examples/" .. name, ... }
end

-- Tests the output of an example, line by line: each is a pattern.
local function says(argv, lines, options)
  local status, out, err = helper.run(argv, nil, options)
  if helper.slow == 1 then assert.equal("", err) end -- AddressSanitizer remarks on the stacks of OpenSSL's jobs
  assert.equal(0, status, out)
  local n = 0
  for line in out:gmatch("([^\n]*)\n") do
    n = n + 1
    assert.truthy(line:find("^" .. (lines[n] or "nothing more") .. "$"), ("%s\ninstead of %s"):format(line, lines[n]))
  end
  assert.equal(#lines, n, out)
end

describe("examples/handshake_trace.lua", function()
  local HEAD = " +client +server"
  local function sent(what) return " +%d+%.%d%d ms  | " .. what .. " %-+>|" end
  local function received(what) return " +%d+%.%d%d ms  |<%-+ " .. what .. " |" end

  it("draws a handshake of TLS 1.2 and one of 1.3", function()
    says(example("handshake_trace.lua"), {
      "", HEAD,
      sent "client_hello, %d+ bytes", received "server_hello, %d+ bytes", received "certificate, %d+ bytes",
      received "server_key_exchange, %d+ bytes", received "server_hello_done, 4 bytes",
      sent "client_key_exchange, %d+ bytes", sent "change_cipher_spec, 1 bytes", sent "finished, 16 bytes",
      received "new_session_ticket, %d+ bytes", received "change_cipher_spec, 1 bytes",
      received "finished, 16 bytes", " +TLSv1%.2, ECDHE%S+",
      received "alert close_notify", sent "alert close_notify",
      "", HEAD,
      sent "client_hello, %d+ bytes", received "server_hello, %d+ bytes", received "encrypted_extensions, %d+ bytes",
      received "certificate, %d+ bytes", received "certificate_verify, %d+ bytes", received "finished, %d+ bytes",
      sent "finished, %d+ bytes", " +TLSv1%.3, TLS_%S+",
      received "new_session_ticket, %d+ bytes", received "new_session_ticket, %d+ bytes",
      received "alert close_notify", sent "alert close_notify",
    })
  end)

  it("draws one with another server, up to where it fails", function()
    local made = helper.leaf { ca = false }
    local server = helper.start { "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert",
      helper.temp_file(made.certificate), "-key", helper.temp_file(made.key), "-groups", "P-384" }
    finally(function() server:stop() end)
    local port = server:wait_for("ACCEPT [%d%.]+:(%d+)\n")
    says(example("handshake_trace.lua", "localhost", port), {
      "", HEAD,
      sent "client_hello, %d+ bytes", received "hello_retry_request, %d+ bytes", sent "client_hello, %d+ bytes",
      received "server_hello, %d+ bytes", received "encrypted_extensions, %d+ bytes",
      received "certificate, %d+ bytes", sent "alert unknown_ca", " +connect: .*self%-signed certificate.*",
    })
  end)
end)

describe("with Redis", function()
  -- A path on which redis-server tells its process's number.
  local function watched()
    local folder = helper.temp_dir()
    local program = assert(io.open(folder .. "/redis-server", "w"))
    program:write("#!/bin/sh\necho $$ >", folder, "/pid\nexec ", redis_server, ' "$@"\n')
    program:close()
    assert(uv.fs_chmod(folder .. "/redis-server", 448))
    return folder
  end

  local function is_running(folder)
    local pid
    helper.until_true(function()
      local handle = io.open(folder .. "/pid")
      pid = handle and handle:read("*n")
      if handle then handle:close() end
      return pid
    end, "the server's number")
    return uv.kill(pid, 0) == 0
  end

  local function says_with_redis(name, lines)
    assert(redis_server, "redis-server is not installed")
    local folder = watched()
    says(example(name), lines, { env = { PATH = folder .. ":" .. os.getenv "PATH" } })
    assert.is_false(is_running(folder))
  end

  it("examples/dynamic_certificates.lua has the names that are there now", function()
    says_with_redis("dynamic_certificates.lua", {
      "client  www%.example%.org +this is www%.example%.org",
      "server  accept: on_certificate refuses %(alert sent: internal_error%)",
      "client  shop%.example%.org +internal_error",
      "client  shop%.example%.org +this is shop%.example%.org",
      "server  accept: on_certificate refuses %(alert sent: internal_error%)",
      "client  www%.example%.org +internal_error",
    })
  end)

  it("examples/session_cache.lua resumes at the other server, and takes early data once", function()
    says_with_redis("session_cache.lua", {
      "TLS 1%.2  server 1  full handshake  early data: none",
      "TLS 1%.2  server 2  resumed +early data: none",
      "TLS 1%.3  server 1  full handshake  early data: none",
      "TLS 1%.3  server 2  resumed +early data: pay 5",
      "TLS 1%.3  server 1  full handshake  early data: none",
    })
  end)

  it("a client gets each its own answer, an error, one in pieces; the server goes with it", function()
    assert(redis_server, "redis-server is not installed")
    local script = helper.temp_file [[
local luv, redis = require "cotls.luv", require "examples.redis"
io.stdout:setvbuf("no")
luv.run(function()
  local server = redis.start()
  local ask, left = server.ask, 20
  local long = ("0123456789abcdef"):rep(65536)
  for i = 1, 20 do
    luv.spawn(function()
      assert(ask("SET", "key " .. i, long .. i .. "\r\n") == "OK")
      assert(ask("GET", "key " .. i) == long .. i .. "\r\n")
      local none, err = ask("NONSENSE")
      assert(none == nil and err:find("^ERR unknown command"))
      assert(select("#", ask("GET", "nothing")) > 0 and ask("GET", "nothing") == nil)
      assert(ask("INCR", "count " .. i) == "1" and ask("SET", "", "") == "OK" and ask("GET", "") == "")
      left = left - 1
    end)
  end
  while left > 0 do luv.sleep(0.01) end
  print "good"
  if arg[1] == "stay" then luv.sleep(100) end
  ask("SHUTDOWN")
  print(select(2, ask("GET", "x")))
end)
]]
    local folder = watched()
    local env = { PATH = folder .. ":" .. os.getenv "PATH" }
    local status, out, err = helper.run({ helper.lua, script }, nil, { env = env })
    assert.same({ 0, "good\nRedis has gone\n", "" }, { status, out, err })
    local child = helper.start({ helper.lua, script, "stay" }, { env = env })
    finally(function() child:stop() end)
    child:wait_for("good\n")
    assert.is_true(is_running(folder))
    child:kill("sigkill")
    helper.until_true(function() return not is_running(folder) end, "the server's end")
  end)

  it("says what is missing where it is not installed", function()
    local folder = helper.temp_dir()
    for _, name in ipairs { "sh", "cat", "env" } do
      local handle = io.popen("command -v " .. name)
      assert(uv.fs_symlink(handle:read(), folder .. "/" .. name))
      handle:close()
    end
    local interpreter = helper.lua:find("/", 1, true) and helper.lua or io.popen("command -v " .. helper.lua):read()
    for _, name in ipairs { "dynamic_certificates.lua", "session_cache.lua" } do
      local argv = example(name)
      argv[1] = interpreter
      local status, out, err = helper.run(argv, nil, { env = helper.with(helper.ends_open, { PATH = folder }) })
      assert.same({ 1, "", "redis-server is missing (Debian: redis-server)\n" }, { status, out, err })
    end
  end)
end)
