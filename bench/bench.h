/*
 * SPDX-License-Identifier: MIT
 *
 * What the files of the load program share. process.c starts, watches and stops a server; client.c is the
 * TLS side of the load; scenario.c knows what is measured; report.c turns numbers into a table and a CSV.
 * Functions that can fail return false and leave the reason in `failure`.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum { MESSAGE = 100, BLOCK = 16384, SPREAD = 16 };

extern char failure[256];
bool fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
double seconds_now(void);

/* process.c */
struct process {
    pid_t pid;
    int port;
    int output;
    clockid_t clock;
};

enum started { STARTED, MISSING, BROKEN };

void process_place_load(void);
enum started process_start(struct process *p, char *const argv[]);
void process_stop(struct process *p);
double process_cpu(const struct process *p);
double process_memory(const struct process *p);
double process_sleeps(const struct process *p);

/* client.c */
struct fleet;

bool client_setup(void);
void client_teardown(void);
struct fleet *fleet_new(int port, size_t capacity, double limit);
void fleet_free(struct fleet *f);
bool fleet_handshakes(struct fleet *f, size_t at_once, size_t total, bool resumed);
bool fleet_hold(struct fleet *f, size_t count);
bool fleet_open(struct fleet *f, size_t count);
bool fleet_echo(struct fleet *f, size_t spread_over, size_t total);
bool fleet_bulk(struct fleet *f, size_t blocks);
bool fleet_collect(struct fleet *f);

/* certificate.c */
bool certificate_make(const char *certificate, const char *key);

/* scenario.c */
enum { GROUPS = 4, MAX_SCENARIOS = 8, MAX_SERVERS = 16, MAX_ROUNDS = 101 };

struct scale {
    size_t full, resumed, echoes, blocks, small, large, held_small, held_large;
    double limit;
};

struct kind {
    const char *name;
    size_t most;
    bool one_at_a_time;
};

struct scenario {
    char name[48];
    const char *unit;
};

void scenario_names(struct scenario *list, const struct scale *scale);
size_t scenario_count(void);
const char *scenario_group(int group);
bool scenario_run(int group, const struct kind *kind, char *const argv[], const struct scale *scale,
                  double *values, bool *missing);

/* report.c */
struct result {
    double value[MAX_ROUNDS];
};

struct report {
    struct scenario scenarios[MAX_SCENARIOS];
    size_t scenario_count;
    const char *servers[MAX_SERVERS];
    const char *notes[MAX_SERVERS];
    size_t server_count;
    int rounds;
    struct result results[MAX_SCENARIOS][MAX_SERVERS];
};

void report_print(const struct report *r);
bool report_csv(const struct report *r, const char *path);

#endif
