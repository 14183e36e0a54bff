-- The private key lives in another process, which makes it, keeps it, and signs over a Unix socket (here by openssl).
-- The server has the certificate only; while it waits for a signature it serves others.
local tls, luv, uv, write = require "cotls", require "cotls.luv", require "luv", require "examples.write_file"

-- The other process: a question is a digest and a hash, the answer the signature. An empty question ends it.
local function keep_key(path)
  local pair, key, server = assert(tls.make_certificate { names = { "localhost" } }), os.tmpname(), uv.new_pipe(false)
  write(key, pair.key)
  local function sign(digest, hashed)
    write(key .. ".in", hashed)
    return io.popen(("openssl pkeyutl -sign -inkey %s -in %s.in -pkeyopt digest:%s"):format(key, key, digest)):read "*a"
  end
  assert(server:bind(path))
  server:listen(16, function()
    local client, question = uv.new_pipe(false), ""
    server:accept(client)
    client:read_start(function(_, data)
      if data then question = question .. data return end
      if question == "" then server:close() else client:write(sign(question:match "(%S+) (.+)")) end
      client:shutdown(function() client:close() end)
    end)
  end)
  io.write(#pair.certificate, "\n", pair.certificate)
  io.flush()
  uv.run()
  return os.remove(key) and os.remove(key .. ".in")
end

-- Asks it, for at most five seconds, in which this coroutine only sleeps.
local function ask(path, question)
  local pipe, timer, co, reply, over, err = uv.new_pipe(false), uv.new_timer(), coroutine.running(), "", false, nil
  local function done(why)
    over, err = true, why
    pipe:close()
    timer:close()
    assert(coroutine.resume(co))
  end
  timer:start(5000, 0, function() done "no answer in time" end)
  pipe:connect(path, function(why)
    if why then return done(why) end
    pipe:write(question)
    pipe:shutdown()
    pipe:read_start(function(_, data) if data then reply = reply .. data else done() end end)
  end)
  repeat coroutine.yield() until over
  return not err and reply, err
end
if arg[1] then return keep_key(arg[1]) end
local path = ("%s/signer.%d"):format(uv.os_tmpdir(), uv.os_getpid())
local signer = io.popen(("exec '%s' '%s' '%s'"):format(os.getenv "LUA" or arg[-1], arg[0], path))
local certificate = signer:read(signer:read("*n") + 1)
luv.run(function()
  local listener = assert(tls.listen("localhost", 0, { certificate = certificate, timeout = 10,
    sign = function(_, request) return ask(path, request.digest .. " " .. request.hashed) end }))
  luv.spawn(function() for conn in listener do luv.spawn(conn.accept, conn) end end)
  local conn = assert(tls.connect("localhost", listener:port(), { ca = certificate, timeout = 10 }))
  print(conn:version() .. ", signed elsewhere by " .. conn:peer_signature_algorithm())
  return conn:close() and listener:close() and ask(path, "")
end)
signer:close()
