-- SPDX-License-Identifier: MIT
-- Names for cotls.cqueues, looked up by cqueues' own resolver: /etc/hosts and what /etc/resolv.conf names.

local dns = require "cqueues.dns"
local core = require "cotls.core"
local net = require "cotls.net"
local tasks = require "cotls.tasks"

local names = {}

-- The addresses of one record type: a list, or nil, err.
local function look_up(host, port, kind, deadline)
  local packet = dns.query(host, kind, "IN", tasks.left(deadline))
  local list = {}
  if packet then
    for record in packet:grep { section = "answer", type = kind } do
      list[#list + 1] = { address = record:addr(), port = port }
    end
  end
  if list[1] then return list end
  local code = deadline and core.now() >= deadline and "timeout" or "system"
  local reason = host .. ": " .. (code == "timeout" and code or "no address found")
  return nil, core.error { code = code, operation = "connect", reason = reason }
end

--- All IPv4 addresses in turn, then those of IPv6, which is asked for only then.
function names.connect(host, port, deadline, scheduler)
  if core.is_ip(host) then return net.connect_any({ { address = host, port = port } }, deadline, scheduler) end
  local list, socket, first, err
  for _, kind in ipairs { "A", "AAAA" } do
    list, err = look_up(host, port, kind, deadline)
    if list then socket, err = net.connect_any(list, deadline, scheduler) end
    if socket then return socket end
    first = first or err
    if err.code == "cancelled" or err.code == "timeout" then break end
  end
  return nil, first
end

return names
