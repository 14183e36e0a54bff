-- `make demo`: an HTTPS server and three kinds of clients at once; in this process every connection is a coroutine.
local tls, luv, uv, write = require "cotls", require "cotls.luv", require "luv", require "examples.write_file"
local https = require "examples.https_server"
local ca = assert(tls.make_certificate { subject = "CN=demo CA", is_ca = true })
local made = assert(tls.make_certificate { names = { "cotls.test", "curl.test", "openssl.test" }, ca = ca })
local page = ("Whoever reads this has checked from whom it comes.\n"):rep(2000)
local request = "GET /page.txt HTTP/1.1\r\nHost: demo.test\r\nConnection: close\r\n\r\n"
local files = { ["page.txt"] = page, ["ca.pem"] = ca.certificate, request = request, curl = "", openssl = "" }
local folder = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/cotls-XXXXXX")) .. "/"
local CALLS = { curl = "curl -sSm 9 --cacert ca.pem --resolve curl.test:PORT:127.0.0.1 https://curl.test:PORT/page.txt",
  openssl = "openssl s_client -quiet -verify_quiet -tls1_2 -alpn http/1.1 -connect 127.0.0.1:PORT -CAfile ca.pem "
    .. "-verify_return_error -servername openssl.test -verify_hostname openssl.test <request" }
local children, served, done, right = {}, {}, 0, 0
local function run(name, port) -- a program; the coroutine waits for its end
  local co, command = coroutine.running(), "exec " .. CALLS[name]:gsub("PORT", port) .. " >" .. name
  local options = { args = { "-c", command }, cwd = folder, stdio = { 0, 1, 2 }, env = { "PATH=" .. os.getenv "PATH" } }
  local child, pid = uv.spawn("sh", options, function(status) assert(coroutine.resume(co, status)) end)
  children[pid] = assert(child, pid)
  local status = coroutine.yield()
  children[pid] = nil
  return status == 0 and assert(io.open(folder .. name)):read("*a") or "exit status " .. status
end

local function get(name, port)
  local options = { server_name = name .. ".test", ca = ca.certificate, alpn = { "http/1.1" }, timeout = 10 }
  local conn = assert(tls.connect("127.0.0.1", port, options))
  return assert(conn:write(request)) and assert(conn:read("a")), conn:close()
end

local function visit(name, fetch, listener)
  local ok, answer = pcall(fetch, name, listener:port())
  local good = ok and answer:sub(-#page) == page
  if not good then io.stderr:write(name, ": ", tostring(answer), "\n") end
  done, right = done + 1, right + (good and 1 or 0)
  if done == 3 then listener:close() end
end

local function serve(conn) -- the first waits for the last: they are served at once
  if conn:accept() then served[#served + 1] = conn end
  for _ = 1, 500 do if #served + done < 3 then luv.sleep(0.01) end end
  https.serve(conn, folder)
end

for name, text in pairs(files) do write(folder .. name, text) end
luv.run(function()
  made.alpn, made.timeout = { "http/1.1" }, 10
  local listener = assert(tls.listen("127.0.0.1", 0, made))
  for name, fetch in pairs { cotls = get, curl = run, openssl = run } do luv.spawn(visit, name, fetch, listener) end
  for conn in listener do luv.spawn(serve, conn) end
end)
local ROW = "%-8s %-8s %-30s %-9s %9s"
print(ROW:format("client", "version", "cipher", "ALPN", "handshake"))
for _, conn in ipairs(served) do
  local time = ("%.2f ms"):format(conn:stats().handshake_seconds * 1000)
  print(ROW:format(conn:server_name():gsub("%..*", ""), conn:version(), conn:cipher(), conn:alpn(), time))
end
for pid in pairs(children) do uv.kill(pid, "sigterm") end
for name in pairs(files) do os.remove(folder .. name) end
uv.fs_rmdir(folder)
os.exit(right == 3 and 0 or 1, true)
