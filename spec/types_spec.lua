-- The types file says what the modules export, no more and no less. Where a list can be had from the running
-- module it is; the names of options are read off the sources, and each is then tried.

local compat = require "cotls.compat"
local helper = require "spec.helper"
local tls = require "cotls"
local core = require "cotls.core"
local luv = require "cotls.luv"
local uv = require "luv"
local tree = require "spec.tree"

local root, read = tree.root, tree.read

-- The texts of a folder's files whose names have the pattern.
local function sources(folder, pattern)
  local texts, scan = {}, assert(uv.fs_scandir(root .. folder))
  for name in uv.fs_scandir_next, scan do
    if name:find(pattern) then texts[#texts + 1] = read(folder .. "/" .. name) end
  end
  assert(#texts > 5, "too few files in " .. folder)
  return texts
end

-- ---- the types file ----

-- What a line of a comment declares: a class, its fields, an alias, its values.
local function read_tag(doc, line, state)
  local class, alias = line:match("^@class ([%w%.]+)"), line:match("^@alias ([%w%.]+)")
  local field, value = line:match("^@field ([%w_]+)"), line:match('^| \'"(.-)"\'')
  if class then
    doc.fields[class] = {}
    state.fields = doc.fields[class]
  elseif alias then
    doc.values[alias] = {}
    state.values = doc.values[alias]
  elseif field then
    state.fields[field] = true
  elseif value then
    state.values[value] = true
  end
end

-- { fields = class → set, values = alias → set, functions = variable → name → { arguments, documented, text } }
local function read_types(text)
  local doc, block, state = { fields = {}, values = {}, functions = {} }, {}, {}
  for line in text:gmatch("([^\n]*)\n") do
    local comment = line:match("^%-%-%-(.*)$")
    local owner, name, arguments = line:match("^function (%w+)[%.:]([%w_]+)%((.-)%) end$")
    if comment then
      read_tag(doc, comment, state)
      block[#block + 1] = comment
    elseif owner then
      local documented = {}
      for _, one in ipairs(block) do documented[#documented + 1] = one:match("^@param ([%w_%.]+)") end
      documented = table.concat(documented, ", ")
      doc.functions[owner] = doc.functions[owner] or {}
      doc.functions[owner][name] = {
        arguments = arguments, documented = documented, text = block[1] and block[1]:match("^[^@].*"),
      }
    end
    if not comment then block = {} end
  end
  return doc
end

local TYPES = read "lua/cotls/types.lua"
local doc = read_types(TYPES)

-- ---- comparing ----

local function names(set)
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return table.concat(list, " ")
end

local function set_of(text, pattern)
  local set = {}
  for name in text:gmatch(pattern) do set[name] = true end
  assert(next(set), "nothing found by " .. pattern)
  return set
end

local function keys(from, is)
  local set = {}
  for name, value in pairs(from) do
    if is(value) and not name:find("^_") then set[name] = true end
  end
  return set
end

local function is_function(value) return type(value) == "function" end
local function is_value(value) return type(value) ~= "function" end

local function with(...)
  local all = {}
  for _, set in ipairs { ... } do
    for name in pairs(set) do all[name] = true end
  end
  return all
end

-- The keys of a table in a source: `name = {` at the margin, its entries by two spaces.
local function keys_of_table(source, name)
  return set_of(source:match("\nlocal " .. name .. " = {\n(.-)\n}"):gsub("^", "\n"), "\n  ([%w_]+) = ")
end

local listener = assert(tls.listen("127.0.0.1", 0, { certificate = helper.server_leaf.certificate,
  key = helper.server_leaf.key }))
listener:close()

-- Outside of nginx its Lua module's own modules are missing.
package.preload["ngx.semaphore"] = function() return {} end

local EXPORTS = {
  { variable = "tls", lua = true, class = "cotls", table = tls, self = 0 },
  { variable = "luv", lua = true, class = "cotls.luv", table = luv, self = 0 },
  { variable = "cqueues", lua = true, class = "cotls.cqueues", table = require "cotls.cqueues", self = 0 },
  { variable = "ngx", lua = true, class = "cotls.ngx", table = require "cotls.ngx", self = 0 },
  { variable = "blocking", lua = true, class = "cotls.blocking", table = require "cotls.blocking", self = 0 },
  { variable = "luasec", lua = true, class = "cotls.luasec", table = require "cotls.luasec", self = 0 },
  { variable = "Context", lua = true, class = "cotls.Context", table = core.methods "cotls.context", self = 1 },
  { variable = "Connection", class = "cotls.Connection", table = core.methods "cotls.connection", self = 1 },
  { variable = "X509", class = "cotls.X509", table = core.methods "cotls.x509", self = 1 },
  { variable = "Session", class = "cotls.Session", table = core.methods "cotls.session", self = 1 },
  { variable = "Listener", lua = true, class = "cotls.Listener", table = getmetatable(listener).__index, self = 1 },
}

describe("the types file", function()
  it("is Lua that gives a table", function()
    assert.equal("table", type(assert(compat.loadstring(TYPES, "=types.lua"))()))
  end)

  for _, export in ipairs(EXPORTS) do
    local declared = doc.functions[export.variable]

    it("has all functions of " .. export.class .. " and no other", function()
      assert.equal(names(keys(export.table, is_function)), names(declared))
    end)

    it("has the parameters of " .. export.class, function()
      local compared = 0
      for name, one in pairs(declared) do
        local info = debug.getinfo(export.table[name], "u")
        local what = export.variable .. "." .. name
        assert.truthy(one.text, what .. " has no text")
        assert.equal(one.arguments, one.documented, what)
        local _, count = one.arguments:gsub("[%w_]+", "")
        local source = debug.getinfo(export.table[name], "S")
        local told = info.nparams and not source.source:find("cotls/loop.lua", 1, true) -- whose functions stand for C
        if source.what == "Lua" and told then
          compared = compared + 1
          assert.equal(count + export.self, info.nparams, what)
          assert.equal(one.arguments:find("...", 1, true) ~= nil, info.isvararg, what)
        end
      end
      local tells = debug.getinfo(print, "u").nparams -- not in Lua 5.1
      assert.truthy(compared > 0 or not export.lua or not tells)
    end)
  end

  it("has the other values of the module, and its one property", function()
    assert.equal(names(with(keys(tls, is_value), { scheduler = true })), names(doc.fields["cotls"]))
    local before = tls.scheduler
    tls.scheduler = { wait = print }
    assert.equal(print, tls.scheduler.wait)
    assert.is_nil(rawget(tls, "scheduler"))
    tls.scheduler = before
    assert.equal("", names(keys(luv, is_value)))
  end)
end)

describe("the options in the types file", function()
  local source = read "lua/cotls/options.lua"
  local context, connection = keys_of_table(source, "context_types"), keys_of_table(source, "connection_types")
  local wrong = coroutine.create(function() end) -- no option is a thread

  -- Is the name known? Then a thread is refused for its type.
  local function knows(name, fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok, name)
    assert.truthy(tostring(err):find("'" .. name .. "'", 1, true) or tostring(err):find(name .. " must", 1, true), err)
    return not tostring(err):find("unknown option", 1, true)
  end

  it("are all that a context takes", function()
    assert.equal(names(context), names(doc.fields["cotls.ContextOptions"]))
    for name in pairs(context) do assert.is_true(knows(name, tls.context, { [name] = wrong })) end
    assert.is_false(knows("server_name", tls.context, { server_name = "x" }))
  end)

  it("are all that one of a context's credentials takes", function()
    local credential = keys_of_table(source, "credential_types")
    assert.equal(names(credential), names(doc.fields["cotls.Credential"]))
    for name in pairs(credential) do
      assert.is_true(knows("credentials[1]." .. name, tls.context, { credentials = { { [name] = wrong } } }))
    end
    assert.is_false(knows("credentials[1].ca", tls.context, { credentials = { { ca = "x" } } }))
  end)

  it("are all that a connection takes", function()
    local client = helper.client_context()
    assert.equal(names(connection), names(doc.fields["cotls.ConnectionOptions"]))
    for name in pairs(connection) do assert.is_true(knows(name, client.wrap, client, 0, { [name] = wrong })) end
    assert.is_false(knows("ca", client.wrap, client, 0, { ca = "x" }))
  end)

  it("are all that connect and listen take", function()
    assert.equal("context", names(doc.fields["cotls.ConnectOptions"]))
    assert.equal("context", names(doc.fields["cotls.ListenOptions"]))
    for name in pairs(with(context, connection)) do
      assert.is_true(knows(name, tls.connect, "127.0.0.1", 1, { [name] = wrong }))
      local given = { certificate = helper.server_leaf.certificate, key = helper.server_leaf.key }
      given[name] = wrong
      assert.is_true(knows(name, tls.listen, "127.0.0.1", 0, given))
    end
    for _, class in ipairs { "ConnectOptions", "ListenOptions" } do
      local line = "@class cotls." .. class .. " : cotls.ContextOptions, cotls.ConnectionOptions\n"
      assert.truthy(TYPES:find(line, 1, true))
    end
  end)

  it("are all that make_certificate takes", function()
    local list = read("src/make_certificate.c"):match("\n} options%[%] = {\n(.-)\n};")
    local certificate = set_of(list, '{"([%w_]+)",')
    assert.equal(names(certificate), names(doc.fields["cotls.CertificateOptions"]))
    for name in pairs(certificate) do
      assert.is_true(knows(name, tls.make_certificate, { [name] = wrong }))
    end
    assert.equal(names(helper.ca), names(doc.fields["cotls.Certificate"]))
  end)

  it("are all that a run of the loop takes", function()
    local used = set_of(read "lua/cotls/luv.lua", "[^%w_]settings%.([%w_]+)")
    assert.equal(names(with(used, { main = true })), names(doc.fields["cotls.RunOptions"]))
  end)

  it("are all that is asked of a scheduler", function()
    local asked = with(
      set_of(read "lua/cotls/net.lua", "[^%w_%.]scheduler%.([%w_]+)"),
      set_of(read "src/drive.c" .. read "src/scheduler.c", 'lua_getfield%(L, %-?1, "([%w_]+)"%)')
    )
    asked.scheduler = nil -- the option in which it stands
    assert.equal(names(asked), names(doc.fields["cotls.Scheduler"]))
  end)
end)

describe("the shapes in the types file", function()
  local seen = {}

  local function note(class, value)
    seen[class] = with(seen[class] or {}, value)
    return value
  end

  local function note_error(err)
    assert.is_true(tls.is_error(err))
    note("cotls.Error", err)
    assert.is_true(doc.values["cotls.ErrorCode"][err.code], err.code)
    if err.alert then note("cotls.Alert", err.alert) end
    if err.verify then note("cotls.Verify", err.verify) end
    for _, entry in ipairs(err.queue or {}) do note("cotls.QueueEntry", entry) end
  end

  setup(function()
    local client, server = helper.pair("TCP", nil, nil, helper.strangers())
    helper.together {
      function() note_error(select(2, client:connect())) end, -- verify, and an alert that is sent
      function() note_error(select(2, server:accept())) end, -- an alert that is received
    }
    note("cotls.Verify", client:verify_result())
    client, server = helper.handshaken("small buffers")
    note("cotls.Verify", client:verify_result())
    note("cotls.Stats", client:stats())
    for _, cipher in ipairs(tls.ciphers "ALL") do note("cotls.Cipher", cipher) end
    note("cotls.Info", client:info())
    note("cotls.Info", server:info())
    local cert = client:peer_certificate()
    note("cotls.Names", cert:names())
    note("cotls.Key", cert:key())
    note("cotls.NameAttribute", select(2, cert:subject())[1])
    note("cotls.NameAttribute", { der = "" }) -- of what is no text
    for _, extension in ipairs(cert:extensions()) do note("cotls.Extension", extension) end
    client:settimeout(0)
    assert(server:write("abc"))
    note_error(select(2, client:read(10))) -- partial
    note_error(select(2, client:write(("x"):rep(1000000)))) -- written
    note_error(select(2, tls.connect("127.0.0.1", helper.free_port()))) -- errno, peer
    note_error(select(2, tls.context { role = "server" }))
    server:close()
    client:close()
    note_error(select(2, client:read()))
    client, server = helper.pair(nil, nil, nil, { client = helper.contexts().client,
      server = helper.server_context {
        on_client_hello = function() error "no" end,
        on_trace = function(_, event) note("cotls.TraceEvent", event) end,
      } })
    helper.together {
      function() client:connect() end,
      function() note_error(select(2, server:accept())) end, -- cause
    }
  end)

  it("have the fields that values have, and no other", function()
    for _, class in ipairs { "Error", "Alert", "Verify", "QueueEntry", "Stats", "Cipher", "Names", "Key",
      "NameAttribute", "Extension", "TraceEvent" } do
      assert.equal(names(seen["cotls." .. class]), names(doc.fields["cotls." .. class]), class)
    end
  end)

  it("have what info tells, and no other", function()
    local source = read "src/info.c"
    local told = with({ hello_retry = true },
      set_of(source:match("\nstatic const char %*const getters%[%] = {(.-)};"), '"([%l_]+)"'),
      set_of(source:match("\nstatic void set_cipher.-names%[%] = {(.-)};"), '"([%l_]+)"'))
    assert.equal(names(told), names(doc.fields["cotls.Info"]))
    for name in pairs(seen["cotls.Info"]) do assert.is_true(doc.fields["cotls.Info"][name], name) end
    for name in pairs(doc.fields["cotls.Info"]) do
      assert.truthy(core.methods "cotls.connection"[name] or name:find "^cipher_" or name == "hello_retry", name)
    end
  end)

  it("have all codes that errors are made with, and no other", function()
    local made = {}
    for _, source in ipairs(sources("src", "%.c$")) do
      for _, pattern in ipairs {
        'cotls_error_plain%(L, "([%l_]+)"', 'cotls_end_with%(L, c, [&%w]+, "([%l_]+)"',
        'cotls_end_with%(L, c, s, write %? "([%l_]+)"', 'cotls_end_with%(L, c, s, write %? "[%l_]+" : "([%l_]+)"',
        'cotls_fail%(L, "([%l_]+)"', 'push_new%(L, "([%l_]+)"',
      } do
        for code in source:gmatch(pattern) do made[code] = true end
      end
    end
    local chooser = read("src/error.c"):match("\nstatic const char %*failure_code(.-)\n}")
    made = with(made, set_of(chooser, '"([%l_]+)"'))
    for _, source in ipairs(sources("lua/cotls", "%.lua$")) do
      for code in source:gmatch('code = "([%l_]+)"') do made[code] = true end
    end
    assert.equal(names(doc.values["cotls.ErrorCode"]), names(made))
  end)

  it("have the wants", function()
    assert.equal(names(set_of(read("src/drive.c"):match("static void push_want(.-)\n}"), '"([%l]+)"')),
      names(doc.values["cotls.Want"]))
  end)
end)

describe("a ClientHello in the types file", function()
  it("has the fields of what the hook is given", function()
    local given
    local server = helper.server_context { on_client_hello = function(_, it) given = it return true end }
    local client, conn = helper.handshaken(nil, nil, nil, { client = helper.client_context(), server = server })
    assert.equal(names(given()), names(doc.fields["cotls.Hello"]))
    client:close()
    conn:close()
  end)
end)

describe("a TLSA record in the types file", function()
  it("has the fields of dane and of dane_result", function()
    local der = tls.x509(helper.server_leaf.certificate):der()
    local given = { usage = 3, selector = 0, matching_type = 0, data = der }
    local client, server = helper.handshaken(nil, { dane = { given } })
    assert.equal(names(given), names(doc.fields["cotls.Tlsa"]))
    assert.equal(names(client:dane_result()), names(with(doc.fields["cotls.Tlsa"], doc.fields["cotls.DaneResult"])))
    client:close()
    server:close()
  end)
end)

describe("a difference between types and module", function()
  it("would be found", function()
    local text = TYPES
      :gsub("function Connection:recv%(max%)", "function Connection:receive(max)")
      :gsub("%-%-%-@field alpn%? string%[%][^\n]*\n", "", 1)
      :gsub("function tls.connect%(host, port, options%)", "function tls.connect(host, port)")
    local changed = read_types(text)
    assert.is_nil(changed.functions.Connection.recv)
    assert.truthy(changed.functions.Connection.receive)
    assert.is_nil(changed.fields["cotls.ContextOptions"].alpn)
    assert.truthy(changed.fields["cotls.ConnectionOptions"].alpn)
    assert.not_equal(changed.functions.tls.connect.arguments, changed.functions.tls.connect.documented)
  end)
end)
