-- SPDX-License-Identifier: MIT
-- For programs of specs: a server that tells, in a line, what each connection was: was it resumed, the status of early
-- data, those data. It prints its port first.

local luv = require "cotls.luv"
local tls = require "cotls"

local function tell(conn, before)
  local early = {}
  local data = conn:read_early()
  while data do
    early[#early + 1] = data
    data = conn:read_early()
  end
  if not conn:accept() then return conn:close() end
  if before then before(conn) end
  conn:write(("%s %s %s\n"):format(tostring(conn:resumed()), conn:early_data_status(), table.concat(early)))
  conn:close()
end

--- Serves, until it is killed.
-- @param before called with each connection after its handshake, or nil
return function(context, before)
  io.stdout:setvbuf("no")
  luv.run(function()
    local listener = assert(tls.listen("127.0.0.1", 0, { context = context, timeout = 10 }))
    print("port " .. listener:port())
    local accepted = listener()
    while accepted do
      luv.spawn(tell, accepted, before)
      accepted = listener()
    end
  end)
end
