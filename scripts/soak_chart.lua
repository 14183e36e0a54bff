-- SPDX-License-Identifier: MIT
-- Draws soak.csv as an SVG: resident memory, descriptors and lateness of both processes over time. The same CSV gives
-- the same bytes. Colours as in bench/chart.lua.
-- Called as: soak_chart.lua soak.csv soak.svg

local source, target = ...

local TEXT, AXIS, SERVER, CLIENT = "#6e7781", "#8c959f", "#1f83e0", "#d9822b"
local WIDTH, LEFT, RIGHT, HEIGHT, GAP, TOP = 860, 70, 20, 120, 50, 60

local rows = {}
for line in io.lines(source) do
  local row = {}
  for number in line:gmatch("[^,]+") do row[#row + 1] = tonumber(number) end
  if row[1] then rows[#rows + 1] = row end
end

local MIB = 1024 * 1024
local panels = {
  { title = "resident memory, MiB", scale = MIB, columns = { { 2, SERVER }, { 4, CLIENT } } },
  { title = "descriptors", scale = 1, columns = { { 3, SERVER }, { 5, CLIENT } } },
  { title = "milliseconds behind a deadline that the load does not explain, at worst until then", scale = 1, least = 50,
    columns = { { 7, CLIENT } } },
}

local out = {}

local function put(format, ...)
  out[#out + 1] = format:format(...)
end

local function text(x, y, anchor, size, colour, words)
  put('<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="%s">%s</text>', x, y, anchor, size, colour, words)
end

local function x_of(second)
  return LEFT + (second - 1) / math.max(#rows - 1, 1) * (WIDTH - LEFT - RIGHT)
end

local function draw(panel, top)
  local most = panel.least or 0
  for _, column in ipairs(panel.columns) do
    for _, row in ipairs(rows) do most = math.max(most, row[column[1]] / panel.scale) end
  end
  most = math.max(most * 1.1, 1)
  text(LEFT, top - 8, "start", 12, TEXT, panel.title)
  for i = 0, 2 do
    local y = top + HEIGHT - i / 2 * HEIGHT
    put('<path d="M%d %.1f H%d" stroke="%s" stroke-width="0.5" stroke-dasharray="2 3"/>', LEFT, y, WIDTH - RIGHT, AXIS)
    text(LEFT - 6, y + 4, "end", 11, TEXT, ("%.0f"):format(most * i / 2))
  end
  for _, column in ipairs(panel.columns) do
    local points = {}
    for i, row in ipairs(rows) do
      points[i] = ("%.1f,%.1f"):format(x_of(i), top + HEIGHT * (1 - row[column[1]] / panel.scale / most))
    end
    put('<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>', table.concat(points, " "), column[2])
  end
end

local height = TOP + #panels * (HEIGHT + GAP)
for i, panel in ipairs(panels) do draw(panel, TOP + 20 + (i - 1) * (HEIGHT + GAP)) end
text(WIDTH - RIGHT, height - 12, "end", 11, TEXT, ("%d seconds"):format(#rows))
text(LEFT, 40, "start", 11, SERVER, "server")
text(LEFT + 60, 40, "start", 11, CLIENT, "clients")

local file = assert(io.open(target, "w"))
assert(file:write(([[
<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img"
 font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">
<title>A server and its clients under churn: memory, descriptors, lateness over time</title>
<text x="%d" y="24" font-size="14" font-weight="600" fill="%s">%s</text>
]]):format(WIDTH, height, WIDTH, height, LEFT, TEXT, "Churn: memory, descriptors, lateness"),
  table.concat(out, "\n"), "\n</svg>\n"))
assert(file:close())
