-- SPDX-License-Identifier: MIT
-- A client of each kind, and bytes from the network; see server.lua.

package.path = "./lua/?.lua;./lua/?/init.lua;./?.lua;" .. package.path
local peers = require "fuzz.peers"

return function(data)
  peers.feed(peers.choose(peers.clients, data:byte()), { server_name = "localhost" }, "connect", peers.pieces(data, 2))
end
