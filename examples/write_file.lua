-- For the examples: write_file(path, content).
return function(path, content)
  local file = assert(io.open(path, "wb"))
  assert(file:write(content))
  return file:close()
end
