-- SPDX-License-Identifier: MIT
-- One body of specs, under each way to wait.

local scheduling = require "spec.scheduling"

for _, bed in ipairs(require "spec.beds") do scheduling(bed) end
