/* SPDX-License-Identifier: MIT
 * The places that allocations come from: told apart by the calls that lead
 * there, as many as DEPTH. A handshake's thousands of allocations come from some
 * hundreds of places. A place is the same in another process. */
#define _GNU_SOURCE
#include "places.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 6, OURS = 7, SIZE = 1 << 16, CACHED = 1 << 12 };

static struct place {
    uint64_t calls; /* 0: none */
    lua_Integer first, last;
    bool known, failed;
} table[SIZE];

static size_t used;
static bool begun, noting;

static uint64_t mix(uint64_t hash, uint64_t value)
{
    return (hash ^ value) * 1099511628211U;
}

/* What a return address is called wherever its library lies; 0: it is this module's. */
static uint64_t name_of(void *address)
{
    static struct {
        void *address;
        uint64_t name;
    } cache[CACHED];
    Dl_info here, there;
    size_t i = ((uintptr_t)address ^ (uintptr_t)address >> 12) % CACHED;
    if (cache[i].address == address)
        return cache[i].name;
    uint64_t name = 0;
    if (!dladdr(address, &there) || !dladdr((void *)(uintptr_t)&places_note, &here))
        return 1;
    if (there.dli_fbase != here.dli_fbase) {
        name = (uint64_t)((uintptr_t)address - (uintptr_t)there.dli_fbase);
        for (const char *p = there.dli_fname; *p != '\0'; p++)
            name = mix(name, (unsigned char)*p);
    }
    cache[i].address = address;
    cache[i].name = name;
    return name;
}

static uint64_t calls_now(void)
{
    void *frames[OURS + DEPTH];
    int n = backtrace(frames, OURS + DEPTH), i = 0;
    uint64_t hash = 14695981039346656037U;
    while (i < n && name_of(frames[i]) != 0) /* a sanitizer's */
        i++;
    while (i < n && name_of(frames[i]) == 0)
        i++;
    for (int end = i + DEPTH < n ? i + DEPTH : n; i < end; i++)
        hash = mix(hash, name_of(frames[i]));
    return hash != 0 ? hash : 1;
}

static struct place *find(uint64_t calls)
{
    size_t i = (calls ^ calls >> 32) % SIZE;
    while (table[i].calls != 0 && table[i].calls != calls)
        i = (i + 1) % SIZE;
    if (table[i].calls == 0 && ++used > SIZE / 2)
        abort(); /* it takes a larger table */
    table[i].calls = calls;
    return &table[i];
}

void places_note(lua_Integer n, bool fails)
{
    if (!begun || (!noting && !fails))
        return;
    struct place *p = find(calls_now());
    p->failed = p->failed || fails;
    if (!noting)
        return;
    p->last = n;
    if (p->first == 0)
        p->first = n;
}

static char spared[128]; /* with a space before and behind each */

int places_spare(lua_State *L)
{
    snprintf(spared, sizeof spared, " %s ", luaL_optstring(L, 1, ""));
    return 0;
}

bool places_spared(void)
{
    void *frames[64];
    char name[sizeof spared];
    Dl_info caller;
    int n = spared[2] != '\0' ? backtrace(frames, 64) : 0;
    for (int i = 0; i < n; i++) {
        if (!dladdr(frames[i], &caller) || caller.dli_sname == NULL)
            continue;
        snprintf(name, sizeof name, " %s ", caller.dli_sname);
        if (strstr(spared, name) != NULL)
            return true;
    }
    return false;
}

static int compare(const void *a, const void *b)
{
    lua_Integer x = *(const lua_Integer *)a, y = *(const lua_Integer *)b;
    return (x > y) - (x < y);
}

/* The numbers of what is to fail. */
static size_t collect(lua_Integer *numbers)
{
    size_t count = 0;
    for (size_t i = 0; i < SIZE; i++) {
        const struct place *p = &table[i];
        if (p->first == 0 || p->failed || p->known)
            continue;
        numbers[count++] = p->first;
        if (p->last != p->first)
            numbers[count++] = p->last;
    }
    qsort(numbers, count, sizeof *numbers, compare);
    return count;
}

int places_round(lua_State *L)
{
    static lua_Integer numbers[2 * SIZE];
    begun = true;
    noting = lua_toboolean(L, 1);
    for (size_t i = 0; i < SIZE && noting; i++)
        table[i].first = table[i].last = 0;
    if (noting)
        return 0;
    size_t count = collect(numbers);
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        lua_pushinteger(L, numbers[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

int places_known(lua_State *L)
{
    for (lua_Integer i = 1; lua_istable(L, 1) && lua_rawgeti(L, 1, (int)i) == LUA_TSTRING; i++) {
        find(strtoull(lua_tostring(L, -1), NULL, 16))->known = true;
        lua_pop(L, 1);
    }
    lua_newtable(L);
    lua_Integer n = 0;
    for (size_t i = 0; i < SIZE; i++)
        if (table[i].failed) {
            char text[17];
            snprintf(text, sizeof text, "%016llx", (unsigned long long)table[i].calls);
            lua_pushstring(L, text);
            lua_rawseti(L, -2, (int)++n);
        }
    return 1;
}
