-- SPDX-License-Identifier: MIT
-- HTTP requests to nginx, many at a time, by libuv alone.

local helper = require "spec.helper"
local uv = require "luv"

local load = {}

local Client = {}
Client.__index = Client

-- One connection, which sends a request after the other while there are any.
local function client(run)
  local self = setmetatable({ run = run, tcp = uv.new_tcp(), received = "" }, Client)
  run.live = run.live + 1
  self.tcp:connect("127.0.0.1", run.port, function(err)
    if err then return self:stop("connect: " .. err) end
    self.tcp:read_start(function(failed, data) self:on_data(failed, data) end)
    self:send()
  end)
end

function Client:stop(why)
  local run = self.run
  if why then run.failures[#run.failures + 1] = why end
  run.live = run.live - 1
  if not self.tcp:is_closing() then self.tcp:close() end
end

function Client:send()
  local run = self.run
  if run.left == 0 then return self:stop() end
  run.left = run.left - 1
  self.busy = true
  local more = run.once and "Connection: close\r\n" or ""
  self.tcp:write("GET " .. run.path .. " HTTP/1.1\r\nHost: localhost\r\n" .. more .. "\r\n")
  if run.leave then self:leave_after(run.leave) end
end

-- Goes away without waiting for the answer.
function Client:leave_after(seconds)
  local timer = uv.new_timer()
  timer:start(math.ceil(seconds * 1000), 0, function()
    timer:close()
    self:stop()
    if self.run.left > 0 then client(self.run) end
  end)
end

function Client:on_data(err, data)
  if not data then -- nginx may close a connection between two requests
    if self.tcp:is_closing() then return end
    self:stop(self.busy and "the connection ended: " .. tostring(err) or nil)
    if not self.busy and self.run.left > 0 then client(self.run) end
    return
  end
  self.received = self.received .. data
  local head, rest = self.received:match("^(.-\r\n)\r\n()")
  local length = head and tonumber(head:lower():match("content%-length: (%d+)"))
  if not length or #self.received < rest + length - 1 then return end
  local status, run = tonumber(head:match("^HTTP/1.1 (%d+)")), self.run
  run.statuses[status] = (run.statuses[status] or 0) + 1
  run.head, run.body = head, self.received:sub(rest, rest + length - 1)
  self.received = self.received:sub(rest + length)
  self.busy = false
  if head:lower():find("connection: close", 1, true) then
    self:stop()
    if run.left > 0 then client(run) end
  else
    self:send()
  end
end

--- So many requests, so many at a time. options: leave (seconds after which each client goes away unanswered), once
-- (a connection for each request), meanwhile (called once, when half of them are on their way), seconds (a bound,
-- default 60).
-- @return { statuses = status → how often, failures = list, head, body = the last ones }
function load.run(port, path, count, at_once, options)
  options = options or {}
  local run = { port = port, path = path, left = count, live = 0, statuses = {}, failures = {},
    leave = options.leave, once = options.once }
  local half = math.floor(count / 2)
  for _ = 1, math.min(count, at_once) do client(run) end
  local ticks = uv.new_timer() -- so that the bound is looked at
  ticks:start(100, 100, function() end)
  local deadline = uv.hrtime() + (options.seconds or 60) * helper.slow * 1e9
  while run.live > 0 do
    uv.run("once")
    if options.meanwhile and run.left <= half then
      options.meanwhile()
      options.meanwhile = nil
    end
    assert(uv.hrtime() < deadline, "the requests take too long")
  end
  ticks:close()
  return run
end

return load
