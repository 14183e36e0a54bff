/*
 * SPDX-License-Identifier: MIT
 *
 * What is measured. Scenarios come in groups; a group runs on a server process of its own, so that what one
 * group left in the heap is not another's. Values are server CPU seconds per operation or bytes per
 * connection; NAN says "not measured".
 */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { FULL, RESUMED, ECHO_SMALL, ECHO_LARGE, BULK, IDLE_SMALL, IDLE_LARGE, ECHO_HELD, SCENARIOS };

enum { AT_ONCE = 16, BULK_CONNECTIONS = 4 };

struct run {
    const struct scale *scale;
    const struct kind *kind;
    struct process process;
    struct fleet *fleet;
    double *values;
};

static const char *const group_names[GROUPS] = {"handshake", "echo", "bulk", "idle"};

size_t scenario_count(void)
{
    return SCENARIOS;
}

const char *scenario_group(int group)
{
    return group_names[group];
}

void scenario_names(struct scenario *list, const struct scale *scale)
{
    static const char *const formats[SCENARIOS] = {
        "full handshake",      "resumed handshake", "echo 100 B, %zu conns", "echo 100 B, %zu conns",
        "bulk, 16 KiB writes", "idle, %zu conns",   "idle, %zu conns",       "echo while %zu are held",
    };
    const size_t counts[SCENARIOS] = {
        0, 0, scale->small, scale->large, 0, scale->held_small, scale->held_large, scale->held_large,
    };
    for (int i = 0; i < SCENARIOS; i++) {
        snprintf(list[i].name, sizeof list[i].name, formats[i], counts[i]);
        list[i].unit = i == IDLE_SMALL || i == IDLE_LARGE ? "KiB" : "us";
    }
}

/* The server may still be closing the last connections when their clients have seen the end. */
static double settled_cpu(const struct run *r)
{
    usleep(5000);
    return process_cpu(&r->process);
}

static void store(struct run *r, int scenario, double before, size_t operations)
{
    r->values[scenario] = (settled_cpu(r) - before) / (double)operations * 1e6;
}

static bool handshakes(struct run *r, int scenario, size_t total)
{
    bool resumed = scenario == RESUMED;
    if (!fleet_handshakes(r->fleet, AT_ONCE, total / 10 + 1, resumed))
        return false;
    double before = settled_cpu(r);
    if (!fleet_handshakes(r->fleet, AT_ONCE, total, resumed))
        return false;
    store(r, scenario, before, total);
    return true;
}

static bool run_handshakes(struct run *r)
{
    return handshakes(r, FULL, r->scale->full) && handshakes(r, RESUMED, r->scale->resumed);
}

static bool echoes(struct run *r, int scenario, size_t spread_over)
{
    size_t total = r->scale->echoes;
    if (!fleet_echo(r->fleet, spread_over, total / 3 + spread_over))
        return false;
    double before = settled_cpu(r);
    if (!fleet_echo(r->fleet, spread_over, total))
        return false;
    store(r, scenario, before, total);
    return true;
}

static bool run_echo(struct run *r)
{
    const struct scale *s = r->scale;
    return fleet_hold(r->fleet, s->small) && echoes(r, ECHO_SMALL, s->small) &&
           (s->large > r->kind->most || (fleet_hold(r->fleet, s->large) && echoes(r, ECHO_LARGE, s->large)));
}

static bool run_bulk(struct run *r)
{
    size_t blocks = r->scale->blocks;
    if (!fleet_open(r->fleet, BULK_CONNECTIONS) || !fleet_bulk(r->fleet, blocks / 10))
        return false;
    double before = settled_cpu(r);
    if (!fleet_bulk(r->fleet, blocks))
        return false;
    store(r, BULK, before, blocks);
    return true;
}

static bool collected_memory(struct run *r, double *bytes)
{
    if (!fleet_collect(r->fleet))
        return false;
    usleep(20000);
    *bytes = process_memory(&r->process);
    return *bytes > 0 || fail("can't read the server's memory");
}

static bool idle(struct run *r, int scenario, size_t count, double empty)
{
    double bytes;
    if (count > r->kind->most)
        return true;
    if (!fleet_hold(r->fleet, count) || !collected_memory(r, &bytes))
        return false;
    r->values[scenario] = (bytes - empty) / (double)count / 1024;
    return true;
}

static bool run_idle(struct run *r)
{
    const struct scale *s = r->scale;
    double empty;
    if (s->held_small > r->kind->most)
        return true;
    return collected_memory(r, &empty) && idle(r, IDLE_SMALL, s->held_small, empty) &&
           idle(r, IDLE_LARGE, s->held_large, empty) &&
           (s->held_large > r->kind->most || echoes(r, ECHO_HELD, s->small));
}

/* A failed group says why and leaves what was measured before it failed. */
bool scenario_run(int group, const struct kind *kind, char *const argv[], const struct scale *scale,
                  double *values, bool *missing)
{
    static bool (*const runs[GROUPS])(struct run *) = {run_handshakes, run_echo, run_bulk, run_idle};
    struct run r = {.scale = scale, .kind = kind, .values = values};
    for (int i = 0; i < SCENARIOS; i++)
        values[i] = NAN;
    if (kind->one_at_a_time && group != 0)
        return true;
    enum started started = process_start(&r.process, argv);
    *missing = started == MISSING;
    if (started != STARTED)
        return started == MISSING;
    r.fleet = fleet_new(r.process.port, scale->held_large, scale->limit);
    bool ok = r.fleet != NULL && runs[group](&r);
    process_stop(&r.process);
    fleet_free(r.fleet);
    return ok;
}
