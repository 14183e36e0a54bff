-- SPDX-License-Identifier: MIT
-- After a TLS 1.3 handshake: a peer that knows the keys and sends what it likes, as records of any type. The first
-- byte chooses who is attacked and how; then pieces: their first byte is the record's type.

package.path = "./lua/?.lua;./lua/?/init.lua;./?.lua;" .. package.path
local peers = require "fuzz.peers"
local tools = require "fuzz.tools"

local secrets = {} -- label → bytes, of the handshake at hand

local function keep(_, line)
  local label, hex = line:match("^(%u[%u_0-9]*) %x+ (%x+)$")
  secrets[label] = hex:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)
end

local COMMON = { ciphersuites = "TLS_AES_128_GCM_SHA256", min_version = "1.3" }

local function with(more)
  for name, value in pairs(COMMON) do more[name] = value end
  return more
end

local server = peers.server(with { tickets = 0, ca = peers.ca.certificate, on_keylog = keep })
local hooked = peers.server(with {
  tickets = 0, ca = peers.ca.certificate, on_keylog = keep, on_verify = function(_, ok) return ok end,
})
local client = peers.client(with { post_handshake_auth = true, resume = true, session_key = "fuzz", on_keylog = keep })

-- The label of who attacks, who is attacked, what the attacked does first.
local attacks = {
  { "CLIENT_TRAFFIC_SECRET_0", server },
  { "SERVER_TRAFFIC_SECRET_0", server },
  { "CLIENT_TRAFFIC_SECRET_0", server, function(conn) conn:request_client_certificate() end },
  { "CLIENT_TRAFFIC_SECRET_0", hooked, function(conn) conn:request_client_certificate() end },
  { "CLIENT_TRAFFIC_SECRET_0", server, function(conn) conn:key_update(true) end },
  { "SERVER_TRAFFIC_SECRET_0", server, function(conn) conn:write("x") end },
}

-- A type of 0 is padding: the type is the last byte that is not, RFC 8446 section 5.4.
local function inner(content, kind)
  while kind == 0 and content ~= "" do
    content, kind = content:sub(1, -2), content:byte(-1)
  end
  return kind, content
end

-- What arrives of application data is what was sent as such, in order.
local function read(conn, sent)
  local got = ""
  repeat
    local data = peers.judge(conn:recv(4096))
    got = got .. (data or "")
  until not data
  local expected = table.concat(sent)
  assert(expected:sub(1, #got) == got, "reads what was not sent as application data")
end

return function(data)
  local attack = peers.choose(attacks, data:byte())
  local connected, accepted, client_fd, server_fd = peers.handshake(client, attack[2])
  assert(connected, "no handshake")
  local to_server = attack[1]:find("CLIENT", 1, true)
  local conn, from = to_server and accepted or connected, to_server and client_fd or server_fd
  local other = to_server and connected or accepted
  if attack[3] then attack[3](conn) end
  local sent, n = {}, 0
  for _, piece in ipairs(peers.pieces(data, 2)) do
    if #piece > 0 and #piece < 16384 then
      local kind, content = inner(piece:sub(2), piece:byte())
      tools.send(from, tools.seal(secrets[attack[1]], n, kind, content))
      n = n + 1
      if kind == 23 then sent[#sent + 1] = content end
    end
  end
  read(conn, sent)
  peers.inspect(conn)
  other:close()
end
