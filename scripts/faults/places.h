/* SPDX-License-Identifier: MIT
 * The places that allocations come from: told apart by the calls that lead there. */
#include "../../src/compat.h"

#include <stdbool.h>

/* An allocation, the n-th since counting began, is made or fails. */
void places_note(lua_Integer n, bool fails);

/* Has the allocation that is about to fail one of the functions of inject.spare among its callers? */
bool places_spared(void);

/* inject.spare(functions or nil): what these call does not fail: OpenSSL would crash. */
int places_spare(lua_State *L);

/* inject.places(true): a round begins. inject.places(false): it is over → the numbers of the first and the last
 * allocation of each place where none has failed yet, in order. */
int places_round(lua_State *L);

/* inject.known(list or nil): these places, as strings, count as failed → a list of those where one has failed here. */
int places_known(lua_State *L);
