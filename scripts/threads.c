/* SPDX-License-Identifier: MIT
 * Runs a Lua program in two threads at once, a Lua state in each, and closes the
 * states with whatever the program has left alive. `make tsan` runs it under
 * ThreadSanitizer: what threads.lua does in one state must touch nothing of the other.
 *   threads program       arg[1] in the program is the thread's number */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>

struct work {
    pthread_t thread;
    int number;
    const char *program;
    int failed;
};

static void *run(void *arg)
{
    struct work *w = arg;
    lua_State *L = luaL_newstate();
    if (L == NULL)
        return NULL;
    luaL_openlibs(L);
    lua_newtable(L);
    lua_pushinteger(L, w->number);
    lua_rawseti(L, -2, 1);
    lua_setglobal(L, "arg");
    w->failed = luaL_dofile(L, w->program);
    if (w->failed)
        fprintf(stderr, "thread %d: %s\n", w->number, lua_tostring(L, -1));
    lua_settop(L, 0);
    lua_close(L);
    return NULL;
}

int main(int argc, char **argv)
{
    struct work work[2];
    int failed = argc < 2;
    for (int i = 0; i < 2 && !failed; i++) {
        work[i] = (struct work){.number = i + 1, .program = argv[1], .failed = 1};
        failed = pthread_create(&work[i].thread, NULL, run, &work[i]);
    }
    for (int i = 0; i < 2 && !failed; i++)
        pthread_join(work[i].thread, NULL);
    for (int i = 0; i < 2 && !failed; i++)
        failed = work[i].failed;
    if (!failed)
        puts("both threads are done");
    return failed;
}
