-- SPDX-License-Identifier: MIT
-- How the drop-in was installed: cotls' defaults in the place of LuaSec's (strict), waits that yield (yielding).

return { strict = false, yielding = false }
