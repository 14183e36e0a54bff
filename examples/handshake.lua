-- handshake.lua [1.2 or 1.3]: client and server hand in hand under a scheduler of ten lines. Where no scheduler is set,
-- an operation that must wait yields to who resumed it: the connection, "read" or "write", and a deadline or nil.
local tls, uv = require "cotls", require "luv"

local function tell(who, ...) print(("%-6s  "):format(who) .. table.concat({ ... }, "  ")) end

-- Resumes all in turn until they end. A resume that comes too early does no harm: the operation yields again. One for
-- the world would ask poll(2) or its kin about conn:fileno() first, and resume with nil, "timeout" at the deadline.
local function run(tasks)
  while #tasks > 0 do
    local task = table.remove(tasks, 1)
    local ok, conn, want, deadline = coroutine.resume(task.co)
    if not ok then error(conn, 0) end
    if coroutine.status(task.co) ~= "dead" then
      local left = deadline and ("within %.0f s"):format(deadline - tls.now()) or "any time"
      tell(task.name, ("wants to %-5s %-11s in %q"):format(want, left, conn:state()))
      tasks[#tasks + 1] = task
    end
  end
end

local function client(conn)
  assert(conn:connect()) -- set_connect_state and do_handshake in one
  tell("client", "done:", conn:version(), (conn:cipher()))
  assert(conn:write("hello\n"))
  tell("client", "heard:", assert(conn:read("l")))
  assert(conn:shutdown()) -- both ways
end

local function server(conn)
  conn:set_accept_state() -- SSL_set_accept_state(3): the side, no byte is sent yet
  assert(conn:do_handshake()) -- SSL_do_handshake(3): one call, however often it waits
  tell("server", "done:", conn:version(), (conn:cipher()))
  local line = conn:read("l")
  while line do
    tell("server", "heard:", line)
    assert(conn:write(line:upper(), "\n"))
    line = conn:read("l")
  end
  assert(conn:shutdown())
end

local made = assert(tls.make_certificate { names = { "localhost" } })
local trusting = assert(tls.context { ca = made.certificate, max_version = ... })
local proving = assert(tls.context { role = "server", certificate = made.certificate, key = made.key })
local fds = assert(uv.socketpair("stream", nil, { nonblock = true }, { nonblock = true }))
local near, far = assert(trusting:wrap(fds[1], { server_name = "localhost" })), assert(proving:wrap(fds[2]))
run {
  { name = "client", co = coroutine.create(function() client(near) end) },
  { name = "server", co = coroutine.create(function() server(far) end) },
}
