-- https_get.lua [--ca FILE] URL: prints what a URL holds. Exit codes: 0 all of it, 1 usage, 2 no trusted connection,
-- 3 cut short or not HTTP, 4 a status other than 200. No loop runs here, so every operation blocks.
local tls = require "cotls"

local function check(code, value, err)
  if value then return value end
  io.stderr:write("https_get: ", tostring(err), "\n")
  os.exit(code, true)
end

local function read_line(conn)
  local line, err = conn:read("L")
  return check(3, line and line:match("^(.-)\r?\n$"), err or "the answer ends too early")
end

-- So many bytes, or all up to close_notify. An end without that is an error: anybody can cut a wire.
local function copy(conn, count)
  while count ~= 0 do
    local data, err = conn:recv(count and math.min(count, 16384))
    if not data and not err and not count then return end
    assert(io.write(check(3, data, err or (count or "") .. " bytes are missing")))
    count = count and count - #data
  end
end

local function copy_chunks(conn) -- RFC 9112 section 7.1
  repeat
    local size = tonumber(read_line(conn):match("^%x+") or "", 16)
    check(3, size and size >= 0 and size < 2 ^ 53, "a chunk without a size")
    copy(conn, size)
    repeat until read_line(conn) == "" or size > 0 -- a trailer follows the last chunk
  until size == 0
end

local function read_head(conn)
  local start, headers = read_line(conn), {}
  for line in read_line, conn do
    if line == "" then break end
    local name, value = line:match("^([^%s:]+):%s*(.-)%s*$")
    if name then headers[name:lower()] = value end
  end
  if start:find("^HTTP/1%.[01] 1") then return read_head(conn) end -- "100 Continue": another follows
  return start, headers
end

local ca, url = arg[1] == "--ca" and arg[2] or nil, arg[1] == "--ca" and arg[3] or arg[1] or ""
local host, port, target = url:match("^https://([%w%-%.]+):?(%d*)([^#]*)")
if not host then host, port, target = url:match("^https://%[([%x:%.]+)%]:?(%d*)([^#]*)") end
check(1, host and not target:find("^[^/?]") and not target:find("[%s%c]"), "[--ca FILE] https://HOST[:PORT]/PATH")
local options = { ca = ca, alpn = { "http/1.1" }, timeout = 30, read_limit = 65536 }
local conn = check(2, tls.connect(host, tonumber(port) or 443, options))
target = target:find("^/") and target or "/" .. target
check(2, conn:write("GET ", target, " HTTP/1.1\r\nHost: ", url:match("//([^/?#]+)"), "\r\nConnection: close\r\n\r\n"))
local start, headers = read_head(conn)
check(4, start:find("^HTTP/1%.[01] 200"), start)
local chunked = (headers["transfer-encoding"] or ""):lower() == "chunked"
if chunked then copy_chunks(conn) else copy(conn, tonumber(headers["content-length"])) end
conn:close()
assert(io.stdout:flush())
