/*
 * Preloaded behind the sanitizers' runtimes. SPDX-License-Identifier: MIT
 *
 * The interpreter's children must not inherit the preload: they aren't ours, and
 * their leaks would count. And modules stay mapped until the very end, or leak
 * reports could not name the functions in them.
 */
#include <stdlib.h>

int dlclose(void *handle);

__attribute__((constructor)) static void forget_preload(void)
{
    unsetenv("LD_PRELOAD");
}

int dlclose(void *handle)
{
    (void)handle;
    return 0;
}
