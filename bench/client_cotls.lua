-- SPDX-License-Identifier: MIT
--
-- What a handshake costs a client of cotls, full and with `resume = true`: CPU of this process, against the
-- yardstick. Called as: client_cotls.lua yardstick [handshakes a round [rounds [csv]]]

local compat = require "cotls.compat"
local tls = require "cotls"
local luv = require "cotls.luv"
local uv = require "luv"

local program, count, rounds, csv = arg[1], tonumber(arg[2]) or 1000, tonumber(arg[3]) or 5, arg[4]
local WARM_UP = 50

local function temp_file(text)
  local fd, path = assert(uv.fs_mkstemp((os.getenv "TMPDIR" or "/tmp") .. "/bench-XXXXXX"))
  assert(uv.fs_write(fd, text))
  uv.fs_close(fd)
  return path
end

-- Starts the server; its port is the first line that it prints.
local function start_server(certificate, key)
  local output, port = uv.new_pipe(false), nil
  local handle = assert(uv.spawn(program, { args = { certificate, key }, stdio = { nil, output, 2 } }, function() end))
  output:read_start(function(_, data) port = port or tonumber((data or ""):match("%d+")) end)
  local deadline = tls.now() + 10
  while not port and tls.now() < deadline do luv.sleep(0.01) end
  output:close()
  return handle, assert(port, "the server prints no port")
end

-- One connection from its connect to both close_notifys, with which the tickets come.
local function visit(context, port, resumed)
  local conn = assert(tls.connect("127.0.0.1", port, { context = context, server_name = "localhost" }))
  assert(conn:resumed() == resumed)
  assert(conn:shutdown())
  conn:close()
end

-- CPU microseconds of one connection.
local function measure(context, port, resumed)
  for _ = 1, WARM_UP do visit(context, port, resumed) end
  local before = os.clock()
  for _ = 1, count do visit(context, port, resumed) end
  return (os.clock() - before) / count * 1e6
end

local function median(list)
  table.sort(list)
  local middle = math.floor((#list + 1) / 2)
  return (list[middle] + list[#list + 1 - middle]) / 2
end

local function run(port, ca)
  local full = assert(tls.context { ca = ca })
  local resuming = assert(tls.context { ca = ca, resume = true })
  visit(resuming, port, false)
  local fulls, resumes, ratios = {}, {}, {}
  for i = 1, rounds do
    fulls[i] = measure(full, port, false)
    resumes[i] = measure(resuming, port, true)
    ratios[i] = fulls[i] / resumes[i]
  end
  return median(fulls), median(resumes), median(ratios), ratios
end

local made = assert(tls.make_certificate { names = { "localhost" } })
local certificate, key = temp_file(made.certificate), temp_file(made.key)
local full, resume, ratio, ratios = luv.run(function()
  local server, port = start_server(certificate, key)
  local results = compat.pack(pcall(run, port, made.certificate))
  server:kill("sigterm")
  server:close()
  assert(results[1], results[2])
  return compat.unpack(results, 2, results.n)
end)
os.remove(certificate)
os.remove(key)

print(("client, full handshake     %8.2f us"):format(full))
print(("client, resume = true      %8.2f us   %.2f times cheaper (%.2f..%.2f)"):format(resume, ratio, ratios[1],
  ratios[#ratios]))
if csv then
  local handle = assert(io.open(csv, "a"))
  handle:write(('"client: resumed to full",cotls,us,%.3f,%.3f,%.3f,%.3f,%d\n'):format(resume, 1 / ratio,
    1 / ratios[#ratios], 1 / ratios[1], rounds))
  handle:close()
end
