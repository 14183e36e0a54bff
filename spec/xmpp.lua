-- SPDX-License-Identifier: MIT
-- An XMPP client for the specs, as far as it takes to log in and to exchange messages (RFC 6120): plain, then by
-- STARTTLS a connection of cotls that verifies the server; PLAIN, or SCRAM-SHA-1-PLUS (RFC 5802) bound to TLS by
-- tls-unique. Under cotls.luv.run.

local bytes = require "spec.bytes"
local core = require "cotls.core"
local helper = require "spec.helper"
local luv = require "cotls.luv"
local tls = require "cotls"
local uv = require "luv"

local SECONDS = 10 -- what an answer may take

local Client = {}
Client.__index = Client

-- ---- base64, hashes ----

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  local encoded = text:gsub("..?.?", function(three)
    local a, b, c = (three .. "\0\0"):byte(1, 3)
    local number, digits = a * 65536 + b * 256 + c, ""
    for _ = 1, 4 do
      local digit = number % 64
      digits = DIGITS:sub(digit + 1, digit + 1) .. digits
      number = (number - digit) / 64
    end
    return digits:sub(1, #three + 1) .. ("="):rep(3 - #three)
  end)
  return encoded
end

local function unbase64(text)
  return (text:gsub("....", function(four)
    local number = 0
    for digit in four:gmatch "." do number = number * 64 + (DIGITS:find(digit, 1, true) or 1) - 1 end
    local c = number % 256
    local b = (number - c) / 256 % 256
    local three = string.char((number - c - b * 256) / 65536, b, c)
    return three:sub(1, 3 - select(2, four:gsub("=", "")))
  end))
end

local function hmac(key, text)
  return helper.openssl({ "dgst", "-sha1", "-mac", "HMAC", "-macopt", "hexkey:" .. bytes.hex(key), "-binary" }, text)
end

local function sha1(text)
  return helper.openssl({ "dgst", "-sha1", "-binary" }, text)
end

local function pbkdf2(password, salt, count)
  return helper.openssl { "kdf", "-keylen", "20", "-binary", "-kdfopt", "digest:SHA1", "-kdfopt", "pass:" .. password,
    "-kdfopt", "hexsalt:" .. bytes.hex(salt), "-kdfopt", "iter:" .. count, "PBKDF2" }
end

-- ---- what comes and goes ----

-- Plain text is read byte by byte: what follows the server's last word belongs to TLS.
local function read_plain(self)
  local byte, _, name = uv.fs_read(self.socket:fileno(), 1)
  if name == "EAGAIN" then
    assert(luv.wait(self.socket, "read", core.now() + SECONDS * helper.slow))
    return ""
  end
  return byte ~= "" and byte or nil, "the server has gone"
end

--- Reads on until the text that came matches; it is taken off with all before it.
-- @return the pattern's captures
function Client:expect(pattern)
  while true do
    local from, to = self.text:find(pattern)
    if from then
      local found = self.text:sub(from, to)
      self.text = self.text:sub(to + 1)
      return found:match(pattern)
    end
    local data, err
    if self.conn then data, err = self.conn:recv(65536) else data, err = read_plain(self) end
    if not data then error(("no %q: %s\n%s"):format(pattern, tostring(err), self.text:sub(-1000)), 2) end
    self.text = self.text .. data
  end
end

function Client:send(text)
  if self.conn then return assert(self.conn:write(text)) end
  assert(uv.fs_write(self.socket:fileno(), text) == #text)
end

-- A stream's beginning.
-- @return the server's features
function Client:open()
  self:send(("<?xml version='1.0'?><stream:stream to='%s' version='1.0' xmlns='jabber:client' "
    .. "xmlns:stream='http://etherx.jabber.org/streams'>"):format(self.domain))
  return self:expect "<stream:features>(.-)</stream:features>"
end

-- ---- TLS ----

local function start_tls(self, options)
  local features = self:open()
  assert(features:find "<starttls[^>]*>.*<required/>", features)
  assert(not features:find "mechanism", features)
  self:send "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
  self:expect "<proceed[^>]*>"
  luv.release(self.socket)
  return assert(tls.context(options)):wrap(self.socket, { server_name = self.domain, timeout = SECONDS * helper.slow })
end

-- ---- logging in ----

local function authenticate(self, mechanism, text)
  self:send(("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='%s'>%s</auth>"):format(mechanism, base64(text)))
end

local MECHANISMS = {}

-- The server's answer up to the end of its first tag; an error where it refuses.
local function check_success(self)
  local verdict = self:expect "<([sf]%l+) xmlns='urn:ietf:params:xml:ns:xmpp%-sasl'[^>]*>"
  if verdict ~= "success" then error("login refused: " .. self:expect "<([%l%-]+)/>", 0) end
end

MECHANISMS["PLAIN"] = function(self, user, password)
  authenticate(self, "PLAIN", "\0" .. user .. "\0" .. password)
  check_success(self)
end

local function xor(a, b)
  return (a:gsub("()(.)", function(at, c) return string.char(bytes.xor(c:byte(), b:byte(at))) end))
end

MECHANISMS["SCRAM-SHA-1-PLUS"] = function(self, user, password)
  local bare, binding = "n=" .. user .. ",r=a nonce of the client", "p=tls-unique,,"
  authenticate(self, "SCRAM-SHA-1-PLUS", binding .. bare)
  local challenge = unbase64(self:expect "<challenge[^>]*>(.-)</challenge>")
  local nonce, salt, count = challenge:match "^r=(.-),s=(.-),i=(%d+)"
  local final = "c=" .. base64(binding .. assert(self.conn:channel_binding "tls-unique")) .. ",r=" .. nonce
  local salted, said = pbkdf2(password, unbase64(salt), count), bare .. "," .. challenge .. "," .. final
  local key = hmac(salted, "Client Key")
  local proof = base64(xor(key, hmac(sha1(key), said)))
  final = base64(final .. ",p=" .. proof)
  self:send(("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>%s</response>"):format(final))
  check_success(self)
  local verifier = "v=" .. base64(hmac(hmac(salted, "Server Key"), said))
  assert(unbase64(self:expect "^(.-)</success>") == verifier, "the server does not know the password")
end

local function bind(self, resource)
  self:open()
  self:send(("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%s</resource></bind>"
    .. "</iq>"):format(resource))
  self.jid = self:expect "<jid>(.-)</jid>"
  self:send "<presence/>"
  self:expect "<presence.->"
end

--- Sends a chat message; the text must be none that XML would write in another way.
function Client:say(to, text)
  self:send(("<message type='chat' to='%s'><body>%s</body></message>"):format(to, text))
end

--- The next message.
-- @return from whom, its text
function Client:hear()
  local attributes, text = self:expect "<message([^>]*)>.-<body>([^<]*)</body>.-</message>"
  return attributes:match "from='([^']*)'", text
end

--- Ends the stream, waits for the server's end of it, and of TLS.
-- @return what the connection's last read gave: nil at a clean end
function Client:close()
  self:send "</stream:stream>"
  self:expect "</stream:stream>"
  local data, err = self.conn:recv(1)
  self.conn:close()
  return data, err
end

local xmpp = {}

--- A connection with TLS and the stream's features after it; not yet logged in. options: domain, context (a table of
-- tls.context), direct (TLS from the first byte).
-- @return a client; nil and the handshake's error
function xmpp.connect(port, options)
  local socket = assert(luv.connect("127.0.0.1", port, core.now() + SECONDS * helper.slow))
  local self = setmetatable({ socket = socket, domain = options.domain, text = "" }, Client)
  local conn
  if options.direct then
    conn = assert(tls.context(options.context)):wrap(socket,
      { server_name = options.server_name or self.domain, timeout = SECONDS * helper.slow })
  else
    conn = start_tls(self, options.context)
  end
  local ok, err = conn:connect()
  if not ok then return nil, err end
  assert(self.text == "", "plain text behind STARTTLS")
  self.conn = conn
  self.features = self:open()
  return self
end

--- A client that has logged in. options: user, password, mechanism, resource, and those of xmpp.connect.
function xmpp.log_in(port, options)
  local self = assert(xmpp.connect(port, options))
  assert(self.features:find("<mechanism>" .. options.mechanism:gsub("%-", "%%-") .. "</mechanism>"), self.features)
  MECHANISMS[options.mechanism](self, options.user, options.password)
  bind(self, options.resource)
  return self
end

return xmpp
