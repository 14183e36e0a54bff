-- Sessions that are kept elsewhere: on_session_get, on_session_new, on_session_remove.

local compat = require "cotls.compat"
local helper = require "spec.helper"
local tls = require "cotls"
local visit = require "spec.visit"

local ponder, with = helper.ponder, helper.with

-- A store, and the server options that use it; calls are noted.
local function store_of(options)
  local store = { sessions = {}, asked = {}, new = 0 }
  store.options = with({
    on_session_get = function(conn, id, take)
      assert(tostring(conn):find("cotls.connection", 1, true))
      ponder()
      store.asked[#store.asked + 1] = { id = id, take = take }
      local found = store.sessions[id]
      if take then store.sessions[id] = nil end
      return found
    end,
    on_session_new = function(_, session)
      ponder()
      store.new = store.new + 1
      store.sessions[session:id()] = session:export()
    end,
  }, options or {})
  return store
end

local function replace_all(store, replace)
  for id, exported in pairs(store.sessions) do store.sessions[id] = replace(exported, id) end
end

for _, version in ipairs { "1.2", "1.3" } do
  local only = { min_version = version, max_version = version }
  local client = helper.client_context(only)

  -- Two servers of the same options stand for two processes.
  local function two(options)
    local store = store_of(with(only, options or {}))
    return helper.server_context(store.options), helper.server_context(store.options), store
  end

  describe("a store of sessions, on TLS " .. version, function()
    it("is where a session made at one server resumes at the other", function()
      local first, second, store = two()
      local session = visit.session(client, first)
      assert.equal(0, #store.asked)
      assert.equal(version == "1.2" and 1 or 2, store.new)
      assert.equal(version == "1.3", session:ticket_lifetime() ~= nil)
      local got = visit.over(client, second, { session = session })
      assert.is_true(got.resumed)
      assert.equal(1, #store.asked)
      assert.equal(32, #store.asked[1].id)
      assert.is_false(store.asked[1].take)
    end)

    it("is not asked for what the server itself knows", function()
      local first, _, store = two()
      local session = visit.session(client, first)
      assert.is_true(visit.resumed(client, first, { session = session }))
      assert.equal(0, #store.asked)
    end)

    it("is all there is without a cache of the server's own", function()
      local first, second, store = two { session_cache = false }
      for _, server in ipairs { first, second } do
        local session = visit.session(client, first)
        assert.is_true(visit.resumed(client, server, { session = session }))
      end
      assert.equal(2, #store.asked)
      local session = visit.session(client, first)
      store.sessions = {}
      assert.is_false(visit.resumed(client, first, { session = session }))
    end)

    it("may give the session as an object", function()
      local first, second, store = two()
      local session = visit.session(client, first)
      replace_all(store, function(exported) return assert(tls.session(exported)) end)
      assert.is_true(visit.resumed(client, second, { session = session }))
    end)

    it("gives a full handshake where it has none", function()
      local first, second, store = two()
      local session = visit.session(client, first)
      store.sessions = {}
      assert.is_false(visit.resumed(client, second, { session = session }))
      assert.equal(1, #store.asked)
    end)

    it("resumes nothing that is damaged", function()
      for what, damage in pairs {
        cut = function(exported) return exported:sub(1, -2) end,
        longer = function(exported) return exported .. "\0" end,
        noise = function() return helper.noise(200) end,
        byte = function() return "\0" end,
        sequence = function() return "\48\0" end,
      } do
        local first, second, store = two()
        local session = visit.session(client, first)
        replace_all(store, damage)
        assert.is_false(visit.resumed(client, second, { session = session }), what)
        assert.equal(1, #store.asked, what)
      end
    end)

    it("resumes nothing but the session of that id", function()
      local first, second, store = two()
      local session = visit.session(client, first)
      visit.over(client, first)
      local ids = {}
      for id in pairs(store.sessions) do ids[#ids + 1] = id end
      local swapped = {}
      for i, id in ipairs(ids) do swapped[id] = store.sessions[ids[i % #ids + 1]] end
      assert.truthy(#ids > 1)
      store.sessions = swapped
      assert.is_false(visit.resumed(client, second, { session = session }))
      assert.equal(1, #store.asked)
    end)

    it("resumes nothing of a context with other settings of verification", function()
      local store = store_of(only)
      local first = helper.server_context(store.options)
      local strict = helper.server_context(with(store.options, { ca = helper.ca.certificate,
        verify_client = "optional" }))
      local session = visit.session(client, first)
      assert.is_false(visit.resumed(client, strict, { session = session }))
      assert.equal(1, #store.asked)
      session = visit.session(client, strict)
      assert.is_false(visit.resumed(client, first, { session = session }))
      assert.is_true(visit.resumed(client, helper.server_context(with(store.options, { ca = helper.ca.certificate,
        verify_client = "optional" })), { session = visit.session(client, strict) }))
    end)

    it("never gets anyone around the certificate that is required", function()
      local store = store_of(only)
      local first = helper.server_context(store.options)
      local strict = helper.server_context(with(store.options, { ca = helper.ca.certificate,
        verify_client = "require" }))
      local session = visit.session(client, first)
      local _, err = visit.failure(client, strict, { session = session })
      assert.equal("peer did not return a certificate", err.reason)
    end)

    it("resumes nothing that is too old", function()
      local first, second, store = two { session_timeout = 1 }
      local session = visit.session(client, first)
      local made = session:time()
      helper.until_true(function() return os.time() > made + 1 end, "the session's end")
      assert.is_false(visit.resumed(client, second, { session = session:export() }))
      assert.equal(version == "1.2" and 1 or 0, #store.asked) -- TLS 1.3's ticket has told the client
    end)

    it("that fails, or answers wrongly, refuses the handshake", function()
      for reason, hook in pairs {
        ["on_session_get failed: no store"] = function() error("no store", 0) end,
        ["on_session_get refuses"] = function() return false end,
        ["on_session_get gave a number, where a session, what it exports, or nil is expected"] =
          function() return 1 end,
        ["on_session_get gave a table, where a session, what it exports, or nil is expected"] =
          function() return {} end,
        ["on_session_get gave a string, where a session, what it exports, or nil is expected"] =
          function() return "" end,
      } do
        local first, _, store = two()
        local second = helper.server_context(with(store.options, { on_session_get = function()
          ponder()
          return hook()
        end }))
        local session = visit.session(client, first)
        local client_err, err = visit.failure(client, second, { session = session })
        assert.equal("hook", err.code, tostring(err))
        assert.equal(reason, err.reason)
        assert.same({ "internal_error", true }, { err.alert.name, err.alert.sent })
        assert.equal("internal_error", client_err.alert.name)
        if reason:find "failed" then
          assert.equal("no store", err.cause.error)
          assert.equal("string", type(err.cause.traceback))
        end
      end
    end)

    it("whose on_session_new fails, fails the operation", function()
      local server = helper.server_context(with(only, { tickets = false,
        on_session_new = function() error("full", 0) end }))
      local _, err = visit.failure(client, server)
      assert.equal("hook", err.code)
      assert.equal("on_session_new failed: full", err.reason)
    end)

    it("may be asked where nothing can wait: then by what blocks, or else it refuses", function()
      local first, _, store = two()
      local session = visit.session(client, first)
      for _, waits in ipairs { false, true } do
        local second = helper.server_context(with(only, { on_session_get = function(_, id)
          if waits then coroutine.yield() end
          return store.sessions[id]
        end }))
        local near, far = helper.socketpair()
        local a = assert(client:wrap(near, { server_name = "localhost", session = session, timeout = 0 }))
        local b = assert(second:wrap(far, { timeout = 0 }))
        assert.equal("want_read", helper.code_of(a:connect()))
        -- not under a coroutine
        local ok, err = b:accept()
        if waits then
          assert.equal("hook", err.code)
          assert.truthy(err.reason:find("attempt to yield", 1, true), err.reason)
        else
          assert.is_nil(ok)
          assert.equal("want_read", err.code)
          assert(a:connect())
          assert(b:accept())
          assert.is_true(b:resumed())
        end
        a:close()
        b:close()
      end
    end)

    it("is told of the session that a client has, fit to be offered again", function()
      local told = {}
      local mine = helper.client_context(with(only, { on_session_new = function(conn, session)
        assert(not conn:is_server())
        ponder()
        told[#told + 1] = session
      end }))
      local server = helper.server_context(only)
      assert.is_false(visit.over(mine, server).resumed)
      assert.truthy(#told >= 1)
      assert.equal("TLSv" .. version, told[1]:version())
      assert.is_true(visit.resumed(mine, server, { session = told[1] }))
      assert.is_true(visit.resumed(mine, server, { session = told[1]:export() }))
      local strict = helper.client_context(with(only, { verify_depth = 3 }))
      assert.is_false(visit.resumed(strict, server, { session = told[1] }))
    end)

    it("works beside a client's own memory", function()
      local count = 0
      local mine = helper.client_context(with(only, { resume = true, session_key = "x",
        on_session_new = function() count = count + 1 end }))
      local server = helper.server_context(only)
      assert.is_false(visit.resumed(mine, server))
      assert.is_true(visit.resumed(mine, server))
      assert.truthy(count >= 1)
    end)

    it("is asked once even after a HelloRetryRequest", function()
      if version == "1.2" then return end
      local first, _, store = two()
      local second = helper.server_context(with(store.options, { groups = "P-256" }))
      local mine = helper.client_context(with(only, { groups = "X25519:P-256" }))
      local session = visit.session(mine, first)
      local got = visit.over(mine, second, { session = session })
      assert.is_true(got.server:info().hello_retry)
      assert.is_true(got.resumed)
      assert.equal(1, #store.asked)
    end)

    it("is that of the context that the server name chose", function()
      local store, door = store_of(only), store_of(only)
      local function server()
        return helper.server_context(with(door.options, { names = {
          localhost = helper.server_context(store.options) } }))
      end
      local first, second = server(), server()
      local session = visit.session(client, first)
      assert.same({ 0, version == "1.2" and 1 or 2 }, { door.new, store.new })
      assert.is_true(visit.resumed(client, second, { session = session }))
      assert.same({ 0, 1 }, { #door.asked, #store.asked })
    end)
  end)

  describe("on_session_remove, on TLS " .. version, function()
    local function server_with(options)
      local removed = {}
      local ctx
      ctx = helper.server_context(with(only, { tickets = false, on_session_remove = function(context, id)
        assert.equal(ctx, context)
        ponder()
        removed[#removed + 1] = id
      end }, options or {}))
      return ctx, removed
    end

    it("is told what the cache has no more room for", function()
      local kept = {}
      local server, removed = server_with { session_cache = 2,
        on_session_new = function(_, session) kept[#kept + 1] = session:id() end }
      for _ = 1, 4 do visit.over(client, server) end
      assert.truthy(#removed >= 1)
      for i, id in ipairs(removed) do assert.equal(kept[i], id) end
      assert.equal(#kept, #removed + server:session_stats().cached)
    end)

    it("is told what flush_sessions takes away, before that returns", function()
      local kept = {}
      local server, removed = server_with {
        on_session_new = function(_, session) kept[session:id()] = true end }
      for _ = 1, 3 do visit.over(client, server) end
      local results = helper.together { function() return server:flush_sessions() end }
      assert.equal(server, results[1][1])
      assert.equal(version == "1.2" and 3 or 6, #removed)
      for _, id in ipairs(removed) do
        assert.is_true(kept[id])
        kept[id] = nil
      end
      assert.equal(0, server:session_stats().cached)
    end)

    it("raises from flush_sessions what the function raises, and goes on the next time", function()
      local count = 0
      local server = server_with { on_session_remove = function()
        count = count + 1
        if count == 1 then error("no", 0) end
      end }
      for _ = 1, 2 do visit.over(client, server) end
      assert.has_error(function() server:flush_sessions() end, "no")
      server:flush_sessions()
      assert.equal(version == "1.2" and 2 or 4, count)
    end)

    it("is told, at the next operation, of a session whose connection failed", function()
      local server, removed = server_with()
      local got = visit.good(client, server)
      helper.write_fd(got.client:fileno(), "\23\3\3\0\32" .. helper.noise(32))
      local results = helper.together { function() return got.server:read(1) end }
      assert.equal("bad_record_mac", results[1][2].alert.name)
      got.client:close()
      got.server:close()
      assert.equal(1, #removed)
    end)

    it("fails the operation with an error of its own", function()
      local server = server_with { session_cache = 1, on_session_remove = function() error("no", 0) end }
      local last
      for _ = 1, 3 do
        local got = visit.once(client, server)
        last = last or got.server_error
        got.client:close()
        got.server:close()
      end
      assert.equal("hook", last.code)
      assert.equal("on_session_remove failed: no", last.reason)
    end)

    it("is not told what goes with the context", function()
      local count = 0
      do
        local server = helper.server_context(with(only, { tickets = false,
          on_session_remove = function() count = count + 1 end }))
        visit.over(client, server)
      end
      collectgarbage()
      collectgarbage()
      assert.equal(0, count)
    end)

    it("is that of the context at the door: the cache is there", function()
      local removed = 0
      local inner = helper.server_context(with(only, { tickets = false,
        on_session_remove = function() removed = removed - 1000 end }))
      local server = server_with { names = { localhost = inner },
        on_session_remove = function() removed = removed + 1 end }
      visit.over(client, server)
      server:flush_sessions()
      assert.equal(version == "1.2" and 1 or 2, removed)
    end)
  end)
end

describe("early data and a store", function()
  local client = helper.client_context { min_version = "1.3" }
  local EARLY = { max_early_data = 100, session_get_takes = true }

  it("go together only where the store forgets what it gives", function()
    local function refused(options, reason)
      local ctx, err = tls.context(with({ role = "server", certificate = helper.server_leaf.certificate,
        key = helper.server_leaf.key }, options))
      assert.is_nil(ctx)
      assert.equal("config", err.code)
      assert.equal(reason, tostring(err))
    end
    local function get() end
    local reason = "on_session_get: with max_early_data the store must forget what it gives (session_get_takes)"
    refused({ max_early_data = 100, on_session_get = get }, reason)
    refused({ max_early_data = 100, on_session_get = get, session_get_takes = false }, reason)
    refused({ session_get_takes = true }, "session_get_takes: needs on_session_get")
    helper.server_context { on_session_get = get }
    helper.server_context { on_session_get = get, max_early_data = 0 }
    helper.server_context { on_session_get = get, max_early_data = 100, session_get_takes = true }
  end)

  it("the store is asked to take, also by the server that made the session", function()
    local store = store_of(EARLY)
    local first = helper.server_context(store.options)
    local session = visit.session(client, first)
    local got = visit.over(client, first, { session = session, early_data = "pay 5", read_early = 100 })
    assert.same({ true, "accepted", "pay 5" }, { got.resumed, got.status, table.concat(got.early) })
    assert.equal(1, #store.asked)
    assert.is_true(store.asked[1].take)
  end)

  it("it is not asked to take on TLS 1.2", function()
    local store = store_of(EARLY)
    local old = helper.client_context { max_version = "1.2" }
    local first, second = helper.server_context(store.options), helper.server_context(store.options)
    local session = visit.session(old, first)
    for _, server in ipairs { first, second, first } do
      assert.is_true(visit.resumed(old, server, { session = session }))
    end
    for _, one in ipairs(store.asked) do assert.is_false(one.take) end
  end)

  it("is accepted once, whichever of two servers is asked first and second", function()
    for _, order in ipairs { { 1, 2, 1, 2 }, { 2, 1, 2, 1 }, { 1, 1, 2 }, { 2, 2, 1 } } do
      local store = store_of(EARLY)
      local servers = { helper.server_context(store.options), helper.server_context(store.options) }
      local session = visit.session(client, servers[1]):export()
      for i, number in ipairs(order) do
        local got = visit.over(client, servers[number], { session = session, early_data = "pay 5", read_early = 100 })
        assert.equal(i == 1 and "accepted" or "rejected", got.status, table.concat(order) .. " " .. i)
        assert.equal(i == 1, got.resumed)
      end
    end
  end)

  it("is accepted once where the server name chooses the context", function()
    local store = store_of(EARLY)
    local function server()
      return helper.server_context { names = { localhost = helper.server_context(store.options) } }
    end
    local first, second = server(), server()
    local session = visit.session(client, first):export()
    for i, one in ipairs { second, first, second, first } do
      local got = visit.over(client, one, { session = session, early_data = "pay 5", read_early = 100 })
      assert.equal(i == 1 and "accepted" or "rejected", got.status, i)
    end
  end)

  it("is accepted once where a hook sets the context", function()
    local store = store_of(EARLY)
    local function server()
      local inner = helper.server_context(store.options)
      return helper.server_context { on_client_hello = function(conn)
        ponder()
        conn:set_context(inner)
        return true
      end }
    end
    local first, second = server(), server()
    local session = visit.session(client, first):export()
    assert.equal(2, store.new)
    for i, one in ipairs { second, first, second, first } do
      local got = visit.over(client, one, { session = session, early_data = "pay 5", read_early = 100 })
      assert.same({ i == 1 and "accepted" or "rejected", i == 1 }, { got.status, got.resumed })
      assert.equal(i, #store.asked)
    end
  end)

  it("is rejected where a server's session takes none", function()
    local store = store_of(EARLY)
    local session = visit.session(client, helper.server_context(store.options))
    local none = helper.server_context(with(store.options, { max_early_data = 0 }))
    local got = visit.over(client, none, { session = session, early_data = "pay 5", read_early = 100 })
    assert.same({ "rejected", 0 }, { got.status, #got.early })
  end)
end)

-- ---- two processes ----

-- A server whose sessions are files of a folder. It tells what each connection was.
local SERVER = helper.temp_file [[
local bytes, tls, luv = require "spec.bytes", require "cotls", require "cotls.luv"
local folder, certificate, key, early = arg[1], arg[2], arg[3], arg[4]
local function path(id)
  return folder .. "/" .. bytes.hex(id)
end
local taken = 0
local ctx = assert(tls.context {
  role = "server", certificate = certificate, key = key, max_early_data = early and tonumber(early) or nil,
  session_get_takes = early and true or nil,
  on_session_new = function(_, session)
    luv.sleep(0.01)
    local name = path(session:id())
    local handle = assert(io.open(name .. ".new", "wb"))
    handle:write(session:export())
    handle:close()
    assert(os.rename(name .. ".new", name))
  end,
  on_session_get = function(_, id, take)
    luv.sleep(0.01)
    local name = path(id)
    if take then
      taken = taken + 1
      local mine = ("%s.%s.%d"):format(name, tostring(ctx):gsub("%W", ""), taken)
      if not os.rename(name, mine) then return nil end -- one of those who ask gets it
      name = mine
    end
    local handle = io.open(name, "rb")
    local exported = handle and handle:read("*a")
    if handle then handle:close() end
    return exported
  end,
})
require "spec.resuming_server" (ctx)
]]

-- Runs fn with the ports of two servers that share a folder.
local function with_servers(early, fn)
  local folder = helper.temp_dir()
  local children, ports = {}, {}
  local ok, err = xpcall(function()
    for i = 1, 2 do
      children[i] = helper.start { helper.lua, SERVER, folder, helper.server_leaf.certificate,
        helper.server_leaf.key, early }
      ports[i] = tonumber(children[i]:wait_for("port (%d+)\n", 20))
    end
    helper.in_loop(function() fn(compat.unpack(ports)) end, 30)
  end, debug.traceback)
  for _, child in ipairs(children) do child:stop() end
  if not ok then error(err, 0) end
end

-- @return { resumed, status, early data }, the session
local function call(port, context, options)
  local conn = assert(tls.connect("127.0.0.1", port, with({ context = context, server_name = "localhost" },
    options or {})))
  local resumed, status, early = assert(conn:read()):match("^(%w+) (%S+) (.*)$")
  assert.equal(resumed, tostring(conn:resumed()))
  conn:close()
  return { resumed == "true", status, early }, conn:session()
end

describe("two server processes and one store", function()
  for _, version in ipairs { "1.2", "1.3" } do
    it("resume each other's sessions on TLS " .. version, function()
      local context = helper.client_context { min_version = version, max_version = version }
      with_servers(nil, function(first, second)
        local was, session = call(first, context)
        assert.is_false(was[1])
        for _, port in ipairs { second, first, second } do
          assert.is_true(call(port, context, { session = session })[1])
        end
        local other = helper.client_context { min_version = version, max_version = version }
        assert.is_false(call(second, other)[1])
      end)
    end)

    it("resume those of openssl s_client on TLS " .. version, function()
      with_servers(nil, function(first, second)
        local file = helper.temp_dir() .. "/session"
        local function run(port, ...)
          local status, out, err = helper.run({ "openssl", "s_client", "-ign_eof", "-connect", "127.0.0.1:" .. port,
            "-servername", "localhost", version == "1.2" and "-tls1_2" or "-tls1_3", ... }, nil, { seconds = 10 })
          assert.equal(0, status, err)
          return out
        end
        run(first, "-sess_out", file)
        assert.truthy(run(second, "-sess_in", file):find("\nReused, TLSv" .. version, 1, true))
      end)
    end)
  end

  it("accept a replayed ticket's early data once", function()
    local context = helper.client_context { min_version = "1.3" }
    with_servers("100", function(first, second)
      for _, order in ipairs { { first, second }, { second, first } } do
        local _, session = call(first, context)
        local replay = { session = session:export(), early_data = "pay 5" }
        assert.same({ true, "accepted", "pay 5" }, (call(order[1], context, replay)))
        for _, port in ipairs { order[2], order[1], order[2] } do
          assert.same({ false, "rejected", "" }, (call(port, context, replay)))
        end
      end
    end)
  end)

  it("accept it once from two at the same time", function()
    local context = helper.client_context { min_version = "1.3" }
    local luv = require "cotls.luv"
    with_servers("100", function(first, second)
      local _, session = call(first, context)
      local replay = { session = session:export(), early_data = "pay 5" }
      local accepted, done = 0, 0
      for i = 1, 6 do
        luv.spawn(function()
          local got = call(i % 2 == 0 and first or second, context, replay)
          if got[2] == "accepted" then accepted = accepted + 1 end
          done = done + 1
        end)
      end
      while done < 6 do luv.sleep(0.01) end
      assert.equal(1, accepted)
    end)
  end)
end)
