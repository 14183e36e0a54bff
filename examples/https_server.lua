-- https_server.lua FOLDER PORT [CERTIFICATE KEY]: serves a folder over HTTPS, every connection a coroutine. Without a
-- certificate it makes one and prints it: https_server.lua . 8443 >ca.pem, curl --cacert ca.pem https://localhost:8443/
local tls, luv = require "cotls", require "cotls.luv"
local KINDS = { html = "text/html", txt = "text/plain", css = "text/css", js = "text/javascript", png = "image/png" }
local REASONS = { [200] = "OK", [400] = "Bad Request", [404] = "Not Found", [405] = "Method Not Allowed" }
local HEAD = "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nAllow: GET, HEAD\r\nConnection: %s\r\n\r\n"

-- A file's content and kind. Names are decoded after the split, and none that begins with a dot or holds a slash or
-- NUL is taken: a target leads only down. A symbolic link may lead anywhere: whoever fills the folder has put it there.
local function find(folder, target)
  local path = folder
  for name in target:gsub("%?.*", ""):gsub("/$", "/index.html"):gmatch("[^/]+") do
    name = name:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
    if name:find("^%.") or name:find("[/%z]") then return nil end
    path = path .. "/" .. name
  end
  local file = io.open(path, "rb")
  local content = file and file:read("*a")
  return content, file and file:close() and KINDS[path:match("%.(%w+)$")] or "application/octet-stream"
end

-- What a request is answered: status, may another follow, method, content, kind; nil when none comes.
local function next_answer(conn, folder)
  local head = ""
  repeat
    local line, err = conn:read("L")
    if #head > 65536 or err and err.code == "limit" then return 400 end
    if not line then return nil end
    head = head .. (head == "" and line or line:lower())
  until line == "\r\n" or line == "\n"
  local method, target, minor, fields = head:match("^(%u+) (/%S*) HTTP/1%.([01])\r?(\n.*)$")
  if not method or minor == "1" and not fields:find("\nhost:", 1, true) then return 400 end
  if method ~= "GET" and method ~= "HEAD" then return 405 end
  local content, kind = find(folder, target)
  local body = fields:find("\ncontent-length:", 1, true) or fields:find("\ntransfer-encoding:", 1, true) -- stays unread
  local last = minor == "0" or body or fields:find("\nconnection:[^\n]*close")
  return content and 200 or 404, not last, method, content, kind
end

local function serve(conn, folder)
  if not conn:accept() then return conn:close() end
  for status, keep, method, content, kind in function() return next_answer(conn, folder) end do
    if not content then content, kind = REASONS[status] .. "\n", "text/plain" end
    local head = HEAD:format(status, REASONS[status], kind, #content, keep and "keep-alive" or "close")
    if not conn:write(head, method == "HEAD" and "" or content) or not keep then break end
  end
  conn:shutdown() -- and read what is unread: else the system might drop the answer
  conn:close()
end

if ... == "examples.https_server" then return { serve = serve } end
luv.run(function(folder, port, certificate, key)
  local made = not certificate and assert(tls.make_certificate { names = { "localhost" } })
  local options = made or { certificate = certificate, key = key }
  options.timeout, options.read_limit = 30, 8192 -- seconds of each wait, bytes of a line
  local listener = assert(tls.listen("localhost", tonumber(port), options))
  io.stderr:write("https://localhost:", listener:port(), "/\n")
  if made then io.write(made.certificate) io.flush() end
  for conn in listener do luv.spawn(serve, conn, folder) end
end, ...)
