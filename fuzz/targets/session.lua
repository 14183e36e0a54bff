-- SPDX-License-Identifier: MIT
-- tls.session: what it takes can be asked everything, and offered to a server, who does not resume it.

package.path = "./lua/?.lua;./lua/?/init.lua;./?.lua;" .. package.path
local tls = require "cotls"
local core = require "cotls.core"
local peers = require "fuzz.peers"

local getters = core.methods "cotls.session"
local client, server = peers.client(), peers.server()

return function(data)
  local session = peers.judge(tls.session(data))
  if not session then return end
  for _, getter in pairs(getters) do peers.judge(getter(session)) end
  local again = assert(tls.session(assert(session:export())))
  assert(again:export() == session:export(), "exports something else")
  local conn, peer = peers.handshake(client, server, { server_name = "localhost", session = session })
  if not conn then return end
  assert(not conn:resumed() and not peer:resumed(), "resumes what was never there")
  conn:close()
  peer:close()
end
