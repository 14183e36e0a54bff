/*
 * SPDX-License-Identifier: MIT
 *
 * The benchmark's main program: which servers, which rounds, what to print. Rounds interleave: each group of
 * scenarios runs on every server before the next group, and the order of servers rotates from round to
 * round, so that a machine that slows down slows all of them.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* select() takes descriptors below 1024; some of these are the process's own. */
enum { NO_LIMIT = 1000000, SELECT_LIMIT = 1000, ARGUMENTS = 12, DEFAULT_ROUNDS = 5 };

struct server {
    struct kind kind;
    const char *program[5];
};

static const struct server servers[] = {
    {{"yardstick", NO_LIMIT, false}, {"%o/yardstick"}},
    {{"cotls", NO_LIMIT, false}, {"%l", "%d/server_cotls.lua"}},
    {{"cotls-hooks", NO_LIMIT, true}, {"%l", "%d/server_cotls.lua", "hooks"}},
    {{"cotls-remote-key", NO_LIMIT, true}, {"%l", "%d/server_cotls.lua", "remote"}},
    {{"cotls-stream", NO_LIMIT, false}, {"%l", "%d/server_cotls.lua", "stream"}},
    {{"cotls-cqueues", NO_LIMIT, false}, {"%l", "%d/server_cotls.lua", "cqueues"}},
    {{"luaossl-cqueues", NO_LIMIT, false}, {"%l", "%d/server_luaossl.lua"}},
    {{"luasec-select", SELECT_LIMIT, false}, {"%l", "%d/server_luasec.lua", "select"}},
    {{"luasec-luv", NO_LIMIT, false}, {"%l", "%d/server_luasec.lua", "luv"}},
    {{"luasec-blocking", 1, true}, {"%l", "%d/server_luasec.lua", "blocking"}},
    {{"drop-in-select", SELECT_LIMIT, false},
     {"%l", "-lcotls.luasec_preload", "%d/server_luasec.lua", "select"}},
    {{"drop-in-luv", NO_LIMIT, false}, {"%l", "-lcotls.luasec_preload", "%d/server_luasec.lua", "luv"}},
    {{"drop-in-blocking", 1, true}, {"%l", "-lcotls.luasec_preload", "%d/server_luasec.lua", "blocking"}},
    {{"node", NO_LIMIT, false}, {"%n", "--expose-gc", "%d/server_node.js"}},
};

enum { SERVERS = sizeof servers / sizeof servers[0] };
_Static_assert((int)SERVERS <= (int)MAX_SERVERS, "the report has room for every server");

struct settings {
    struct scale scale;
    int rounds;
    char certificate[4096], key[4096];
    const char *directory, *output, *lua, *node, *csv, *servers, *groups, *wrapper;
};

char failure[256];

bool fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure, sizeof failure, format, arguments);
    va_end(arguments);
    return false;
}

double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const struct scale full_scale = {.full = 1500,
                                        .resumed = 1500,
                                        .echoes = 60000,
                                        .blocks = 40000,
                                        .small = 50,
                                        .large = 1000,
                                        .held_small = 2000,
                                        .held_large = 10000,
                                        .limit = 60};

static const struct scale quick_scale = {.full = 100,
                                         .resumed = 100,
                                         .echoes = 2000,
                                         .blocks = 640,
                                         .small = 20,
                                         .large = 100,
                                         .held_small = 100,
                                         .held_large = 300,
                                         .limit = 5};

static const char help[] =
    "usage: load [options]\n"
    "  --quick           one small round that only has to finish\n"
    "  --rounds N        rounds (default 5)\n"
    "  --servers LIST    only these, by name, separated by commas; the yardstick always runs\n"
    "  --groups LIST     only these groups of scenarios: handshake,echo,bulk,idle\n"
    "  --directory DIR   where the server scripts are (default .)\n"
    "  --output DIR      where the yardstick is and where files go (default out)\n"
    "  --lua PROGRAM     (default lua5.4)\n"
    "  --node PROGRAM    (default node)\n"
    "  --csv FILE        (default DIR/results.csv)\n"
    "  --wrapper PROGRAM is called with a server's name and command line instead of the server\n";

/* Options with a text have their index in `texts` as value; the two others have values above these. */
static bool parse(int argc, char **argv, struct settings *s)
{
    enum { QUICK = 100, ROUNDS };
    const char **const texts[] = {&s->servers, &s->groups, &s->directory, &s->output,
                                  &s->lua,     &s->node,   &s->csv,       &s->wrapper};
    static const struct option options[] = {
        {"servers", required_argument, NULL, 0},
        {"groups", required_argument, NULL, 1},
        {"directory", required_argument, NULL, 2},
        {"output", required_argument, NULL, 3},
        {"lua", required_argument, NULL, 4},
        {"node", required_argument, NULL, 5},
        {"csv", required_argument, NULL, 6},
        {"wrapper", required_argument, NULL, 7},
        {"quick", no_argument, NULL, QUICK},
        {"rounds", required_argument, NULL, ROUNDS},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == QUICK) {
            s->scale = quick_scale;
            s->rounds = 1;
        } else if (option == ROUNDS) {
            s->rounds = atoi(optarg);
        } else if (option >= 0 && option < QUICK && option != '?') {
            *texts[option] = optarg;
        } else {
            return false;
        }
    }
    return optind == argc && s->rounds >= 1 && s->rounds <= MAX_ROUNDS;
}

/* Whether `name` is one of the words of a comma-separated list; no list means all. */
static bool listed(const char *list, const char *name)
{
    size_t size = strlen(name);
    if (list == NULL)
        return true;
    for (const char *at = list; *at != '\0'; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == size && strncmp(at, name, size) == 0)
            return true;
    return false;
}

static char *expand(const struct settings *s, const char *word)
{
    char *text = NULL;
    const char *value = word[0] != '%'   ? ""
                        : word[1] == 'o' ? s->output
                        : word[1] == 'd' ? s->directory
                        : word[1] == 'l' ? s->lua
                                         : s->node;
    if (asprintf(&text, "%s%s", value, word[0] == '%' ? word + 2 : word) < 0)
        abort();
    return text;
}

/* Every server is called as: [wrapper name] program [its own words] certificate key */
static void command_line(const struct settings *s, const struct server *server, char **argv)
{
    int n = 0;
    if (s->wrapper != NULL) {
        argv[n++] = expand(s, s->wrapper);
        argv[n++] = expand(s, server->kind.name);
    }
    for (int i = 0; i < 5 && server->program[i] != NULL; i++)
        argv[n++] = expand(s, server->program[i]);
    argv[n++] = expand(s, s->certificate);
    argv[n++] = expand(s, s->key);
    argv[n] = NULL;
}

/* The state of a whole run: which servers take part, and what became of them. */
struct session {
    const struct settings *settings;
    struct report report;
    const struct server *servers[SERVERS];
    char *arguments[SERVERS][ARGUMENTS];
    bool ours_failed;
};

static bool is_ours(const struct server *server)
{
    return server == &servers[0] || server == &servers[1];
}

static void session_fill(struct session *session, const struct settings *settings)
{
    struct report *r = &session->report;
    session->settings = settings;
    r->rounds = settings->rounds;
    r->scenario_count = scenario_count();
    scenario_names(r->scenarios, &settings->scale);
    for (size_t i = 0; i < SERVERS; i++) {
        size_t n = r->server_count;
        if (i != 0 && !listed(settings->servers, servers[i].kind.name))
            continue;
        session->servers[n] = &servers[i];
        r->servers[n] = servers[i].kind.name;
        command_line(settings, &servers[i], session->arguments[n]);
        r->server_count++;
    }
    for (size_t i = 0; i < MAX_SCENARIOS; i++)
        for (size_t j = 0; j < MAX_SERVERS; j++)
            for (int k = 0; k < MAX_ROUNDS; k++)
                r->results[i][j].value[k] = NAN;
}

static void session_free(struct session *session)
{
    for (size_t i = 0; i < session->report.server_count; i++)
        for (char **word = session->arguments[i]; *word != NULL; word++)
            free(*word);
    free(session);
}

static void measure(struct session *session, int round, int group, size_t i)
{
    const struct server *server = session->servers[i];
    struct report *r = &session->report;
    double values[MAX_SCENARIOS];
    bool missing = false;
    if (r->notes[i] != NULL)
        return;
    failure[0] = '\0';
    bool ok = scenario_run(group, &server->kind, session->arguments[i], &session->settings->scale, values,
                           &missing);
    if (!ok)
        fprintf(stderr, "%s, %s: %s\n", server->kind.name, scenario_group(group), failure);
    if (missing)
        r->notes[i] = "not installed";
    if (is_ours(server) && (!ok || missing))
        session->ours_failed = true;
    for (size_t s = 0; s < r->scenario_count; s++)
        if (!isnan(values[s]))
            r->results[s][i].value[round] = values[s];
}

static void session_run(struct session *session)
{
    size_t n = session->report.server_count;
    for (int round = 0; round < session->settings->rounds; round++) {
        fprintf(stderr, "round %d of %d:", round + 1, session->settings->rounds);
        for (int group = 0; group < GROUPS; group++) {
            if (!listed(session->settings->groups, scenario_group(group)))
                continue;
            fprintf(stderr, " %s", scenario_group(group));
            for (size_t i = 0; i < n; i++)
                measure(session, round, group, (i + (size_t)round) % n);
        }
        fprintf(stderr, "\n");
    }
}

/* Each held connection is a descriptor on either side. */
static void raise_descriptors(struct scale *scale)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < scale->held_large + 100) {
        scale->held_large = limit.rlim_cur - 100;
        fprintf(stderr, "note: only %zu descriptors, so %zu connections are held\n", (size_t)limit.rlim_cur,
                scale->held_large);
    }
}

/* Named after this process: two runs at once must not take each other's key. */
static bool make_certificate(struct settings *s)
{
    snprintf(s->certificate, sizeof s->certificate, "%s/certificate-%d.pem", s->output, (int)getpid());
    snprintf(s->key, sizeof s->key, "%s/key-%d.pem", s->output, (int)getpid());
    return certificate_make(s->certificate, s->key);
}

static void remove_certificate(const struct settings *s)
{
    unlink(s->certificate);
    unlink(s->key);
}

static int run(struct settings *settings)
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL || !client_setup() || !make_certificate(settings)) {
        fprintf(stderr, "load: %s\n", session == NULL ? "out of memory" : failure);
        free(session);
        remove_certificate(settings);
        return 1;
    }
    session_fill(session, settings);
    session_run(session);
    report_print(&session->report);
    char *csv = settings->csv != NULL ? expand(settings, settings->csv) : expand(settings, "%o/results.csv");
    bool ok = report_csv(&session->report, csv);
    if (!ok)
        fprintf(stderr, "load: %s\n", failure);
    ok = ok && !session->ours_failed;
    free(csv);
    session_free(session);
    remove_certificate(settings);
    client_teardown();
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct settings settings = {.scale = full_scale,
                                .rounds = DEFAULT_ROUNDS,
                                .directory = ".",
                                .output = "out",
                                .lua = "lua5.4",
                                .node = "node"};
    if (!parse(argc, argv, &settings)) {
        fputs(help, stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    raise_descriptors(&settings.scale);
    process_place_load();
    return run(&settings);
}
