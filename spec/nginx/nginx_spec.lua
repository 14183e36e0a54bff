-- SPDX-License-Identifier: MIT
-- cotls in nginx, for real: `make test-nginx`, with the handler of examples/nginx. COTLS_NGINX is the folder of
-- scripts/nginx.sh, COTLS_LUAJIT the one in which cotls/core.so for LuaJIT is.

local helper = require "spec.helper"
local load = require "spec.nginx.load"
local tls = require "cotls"
local tree = require "spec.tree"
local uv = require "luv"

local nginx_folder = assert(os.getenv "COTLS_NGINX", "run make test-nginx")
local luajit_folder = assert(os.getenv "COTLS_LUAJIT", "run make test-nginx")

local AT_ONCE = 200
local REQUESTS = tonumber(os.getenv "COTLS_REQUESTS") or 10000

local root = uv.cwd() .. "/"
local folder, nginx, upstream, port
local ports = {}

local function write(name, text)
  local handle = assert(io.open(folder .. name, "wb"))
  assert(handle:write(text))
  handle:close()
end

local function put_credential(name, leaf)
  write(name .. ".pem", leaf.certificate)
  write(name .. ".key", leaf.key)
end

-- ---- starting ----

local function start_upstream()
  write("ca.pem", helper.ca.certificate)
  put_credential("good", helper.server_leaf)
  put_credential("other", helper.leaf())
  put_credential("stranger", helper.leaf { ca = helper.other_ca })
  put_credential("client", helper.leaf { subject = "CN=nginx" })
  upstream = helper.start { helper.lua, "spec/nginx/upstream.lua", folder }
  for _, name in ipairs { "good", "other", "stranger", "echo", "mute", "signer" } do
    ports[name] = tonumber((upstream:wait_for(name .. " (%d+)")))
  end
  ports.nobody = helper.free_port()
end

-- The example's configuration, with these ports and one location more.
local function configure()
  local modules = nginx_folder .. "/usr/lib/nginx/modules/"
  local pins = ("%q, %q"):format(tls.x509(helper.server_leaf.certificate):spki_pin(),
    tls.x509(helper.other_ca.certificate):spki_pin())
  local lines = {}
  for name, number in pairs(ports) do lines[#lines + 1] = ("  %s = %d,"):format(name, number) end
  write("ports.lua", "return {\n" .. table.concat(lines, "\n") .. "\n}\n")
  write("modules.conf", ("load_module %sndk_http_module.so;\nload_module %sngx_http_lua_module.so;\n"):format(modules,
    modules))
  write("paths.conf", ('lua_package_path "%s?.lua;%slua/?.lua;%slua/?/init.lua;%s/usr/share/lua/5.1/?.lua;;";\n'
    .. 'lua_package_cpath "%s/?.so;;";\n'):format(folder, root, root, nginx_folder, luajit_folder)
    .. ("client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t;\n"))
  for _, name in ipairs { "fetch.lua" } do write(name, tree.read("examples/nginx/" .. name)) end
  write("handlers.lua", tree.read "spec/nginx/handlers.lua")
  local conf = tree.read "examples/nginx/nginx.conf"
  local function replace(text, by)
    local at, last = conf:find(text, 1, true)
    assert(at, "not in the example: " .. text)
    conf = conf:sub(1, at - 1) .. by .. conf:sub(last + 1)
  end
  replace("8080", port)
  replace("8443", ports.good)
  replace("fetch.context(ngx.config.prefix())",
    "fetch.context(ngx.config.prefix())\n    handlers = require \"handlers\"\n    handlers.init(" .. pins .. ")")
  replace("location / {", [[location ~ ^/\w+$ {
      content_by_lua_block { handlers.answer() }
    }
    location / {]])
  write("nginx.conf", conf)
end

local function read_log()
  local handle = assert(io.open(folder .. "error.log"))
  local text = handle:read "*a"
  handle:close()
  return text
end

local function start_nginx()
  local libraries = {}
  local scan = nginx_folder .. "/usr/lib"
  for _, path in ipairs { scan, nginx_folder .. "/lib" } do
    local request = uv.fs_scandir(path)
    local name = request and uv.fs_scandir_next(request)
    while name do
      if name:find("-linux-", 1, true) then libraries[#libraries + 1] = path .. "/" .. name end
      name = uv.fs_scandir_next(request)
    end
  end
  nginx = helper.start({ nginx_folder .. "/usr/sbin/nginx", "-p", folder, "-c", "nginx.conf", "-e", "error.log" },
    { env = { LD_LIBRARY_PATH = table.concat(libraries, ":") } })
  helper.until_true(function()
    assert(nginx.status == nil, nginx.stderr)
    return load.run(port, "/memory", 1, 1).statuses[200]
  end, "nginx", 20)
end

-- ---- asking ----

local function ask(path)
  local run = load.run(port, path, 1, 1)
  assert.same({}, run.failures)
  return next(run.statuses), run.body, run.head
end

local function assert_all_ok(run, count)
  assert.same({}, run.failures)
  assert.same({ [200] = count }, run.statuses)
end

-- The worker's pid, and its resident KiB after a full collection.
local function worker()
  local _, body = ask "/memory"
  local pid = tonumber(body:match "^(%d+)")
  local handle = assert(io.open("/proc/" .. pid .. "/statm"))
  local pages = tonumber((handle:read "*a"):match "^%d+ (%d+)")
  handle:close()
  return pid, pages * 4, tonumber(body:match " (%d+)$")
end

-- What the upstream server has counted.
local function counted(name)
  local _, body = ask "/ask/counts"
  return tonumber(body:match(name .. " (%d+)"))
end

describe("cotls in nginx", function()
  setup(function()
    folder = helper.temp_dir() .. "/"
    port = helper.free_port()
    start_upstream()
    configure()
    start_nginx()
  end)

  teardown(function()
    nginx:stop()
    upstream:stop()
    assert.equal("", upstream.stderr)
    local log = read_log()
    if os.getenv "COTLS_NGINX_LOG" then print(log) end
    for _, bad in ipairs { "exited on signal", "[alert]", "[emerg]", "[crit]", "attempt to yield" } do
      assert.is_nil(log:find(bad, 1, true), log)
    end
  end)

  it("a handler is a TLS client with a certificate, ALPN and a hook that sleeps", function()
    local status, body = ask "/"
    assert.equal(200, status, body)
    assert.equal("TLSv1.3 http/1.1 CN=nginx\n", body)
  end)

  it("and with a pinned key", function()
    local status, body = ask "/pinned"
    assert.equal(200, status, body)
    assert.equal("TLSv1.3 http/1.1 CN=nginx\n", body)
  end)

  it("tls.connect takes a cosocket of cotls.ngx's", function()
    local status, body = ask "/connect"
    assert.equal(200, status, body)
    assert.equal("TLSv1.3 nil CN=nginx\nfunction", body)
    status, body = ask "/nobody"
    assert.equal(200, status, body)
    assert.matches("^nil connect: 127.0.0.1: connection refused.* system$", body)
  end)

  describe("what can't be trusted ends as a clean 502:", function()
    for path, expected in pairs {
      ["/other_key"] = { "verify", "pin" }, ["/other_pin"] = { "verify", "pin" },
      ["/stranger"] = { "verify", "issuer" }, ["/other_name"] = { "verify", "[Hh]ost" },
      ["/refusing"] = { "hook", "on_verify" }, ["/failing"] = { "hook", "on purpose" },
      ["/anonymous"] = { "alert", "certificate" }, ["/mute"] = { "timeout", "handshake_timeout" },
      ["/keyless"] = { "hook", "sign" },
    } do
      it(path, function()
        for _ = 1, 3 do
          local status, body, head = ask(path)
          assert.equal(502, status, body)
          assert.matches("x_error: " .. expected[1], head:lower():gsub("x%-error", "x_error"), 1)
          assert.matches(expected[2], body)
        end
      end)
    end

    it("200 at a time", function()
      for _, path in ipairs { "/stranger", "/other_key", "/refusing", "/anonymous" } do
        local run = load.run(port, path, AT_ONCE, AT_ONCE)
        assert.same({}, run.failures)
        assert.same({ [502] = AT_ONCE }, run.statuses)
      end
      assert.equal(200, (ask "/"))
    end)
  end)

  it("signs with a key that is another process's, asked over a cosocket in the hook", function()
    local status, body = ask "/remote_key"
    assert.equal(200, status, body)
    assert.equal("TLSv1.3 nil CN=nginx\n", body)
    assert_all_ok(load.run(port, "/remote_key", 60, 20), 60)
  end)

  it("one light thread reads while another writes", function()
    for _ = 1, 3 do
      local status, body = ask "/duplex"
      assert.equal(200, status, body)
      assert.equal("the same", body)
    end
    assert_all_ok(load.run(port, "/duplex", 20, 10), 20)
  end)

  it("a read's timeout is one, and nothing else", function()
    local status, body = ask "/timeout"
    assert.equal(200, status, body)
    assert.equal("timeout true hello", body)
  end)

  it("a megabyte comes through", function()
    local status, body = ask "/big"
    assert.equal(200, status)
    assert.equal(("x"):rep(1000000) .. "\n", body)
  end)

  it("the scheduler wakes, times out, releases and refuses", function()
    local status, body = ask "/scheduler"
    assert.equal(200, status, body)
    assert.equal(table.concat({ "read true", "read true", "write true", "false timeout true", "released true",
      "cancelled", "cotls.ngx.sleep: a number of seconds expected, got string",
      "cotls.ngx.spawn: a function expected, got number" }, "\n"), body)
  end)

  it("a context resumes its sessions in all requests", function()
    assert_all_ok(load.run(port, "/resuming", 100, 10), 100)
  end)

  it("serves 200 at a time", function()
    assert_all_ok(load.run(port, "/", 5 * AT_ONCE, AT_ONCE), 5 * AT_ONCE)
  end)

  it("requests whose clients go away take their connections with them", function()
    local pid, before = worker()
    local run = load.run(port, "/slow", AT_ONCE, AT_ONCE, { leave = 3 * helper.slow })
    assert.same({}, run.statuses)
    helper.until_true(function() return counted "open" == 1 end, "the end of all", 20)
    assert.is_true(counted "aborted" > AT_ONCE / 2, counted "aborted" .. " were there to see their client go")
    assert_all_ok(load.run(port, "/", AT_ONCE, 20), AT_ONCE)
    local now, after = worker()
    assert.equal(pid, now)
    assert.is_true(after - before < 8192, ("%d KiB before, %d after"):format(before, after))
  end)

  it("a reload under load loses no request", function()
    local pid = worker()
    local function reload() uv.kill(nginx.pid, "sighup") end
    assert_all_ok(load.run(port, "/", 4 * AT_ONCE, 50, { once = true, meanwhile = reload }), 4 * AT_ONCE)
    helper.until_true(function() return worker() ~= pid end, "a new worker")
    helper.until_true(function()
      uv.run("nowait")
      return not uv.fs_stat("/proc/" .. pid)
    end, "the end of the old worker", 20)
  end)

  it(("%d requests leave its memory flat"):format(REQUESTS), function()
    local warm = math.floor(REQUESTS * 0.4) -- until the allocator's pools are filled
    assert_all_ok(load.run(port, "/", warm, AT_ONCE), warm)
    local pid, before, lua_before = worker()
    local asked, started = counted "asked", tls.now()
    assert_all_ok(load.run(port, "/", REQUESTS, AT_ONCE, { seconds = 250 }), REQUESTS)
    local seconds = tls.now() - started
    local now, after, lua_after = worker()
    print(("\n%d requests in %.1f s; the worker's memory: %d KiB before, %d after; Lua's: %d and %d"):format(REQUESTS,
      seconds, before, after, lua_before, lua_after))
    assert.equal(pid, now)
    assert.equal(asked + REQUESTS + 1, counted "asked")
    -- by 200 bytes a request: an SSL has a hundred times as much
    assert.is_true(after - before < REQUESTS / 5, ("%d KiB before, %d after"):format(before, after))
    assert.is_true(lua_after - lua_before < 256, ("%d KiB before, %d after"):format(lua_before, lua_after))
  end)
end)
