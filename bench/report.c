/*
 * SPDX-License-Identifier: MIT
 *
 * Rounds in, a table and a CSV out. A ratio is formed within a round, between neighbours in time; what is
 * printed is the median of these ratios with their smallest and largest. Server 0 is the yardstick.
 */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct summary {
    double median, ratio, least, most;
    int rounds;
};

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *list, int n)
{
    qsort(list, (size_t)n, sizeof *list, ascending);
    return n % 2 == 1 ? list[n / 2] : (list[n / 2 - 1] + list[n / 2]) / 2;
}

static struct summary summarize(const struct report *r, size_t scenario, size_t server)
{
    double values[MAX_ROUNDS], ratios[MAX_ROUNDS];
    int n = 0;
    for (int round = 0; round < r->rounds; round++) {
        double value = r->results[scenario][server].value[round];
        double yardstick = r->results[scenario][0].value[round];
        if (isnan(value) || isnan(yardstick))
            continue;
        values[n] = value;
        ratios[n++] = value / yardstick;
    }
    struct summary s = {.rounds = n};
    if (n > 0) {
        s.median = median(values, n);
        s.ratio = median(ratios, n);
        s.least = ratios[0];
        s.most = ratios[n - 1];
    }
    return s;
}

/* A scenario that no server ran was not asked for. */
static bool was_run(const struct report *r, size_t scenario)
{
    for (size_t server = 0; server < r->server_count; server++)
        for (int round = 0; round < r->rounds; round++)
            if (!isnan(r->results[scenario][server].value[round]))
                return true;
    return false;
}

static void print_row(const struct report *r, size_t scenario, size_t server)
{
    const struct scenario *what = &r->scenarios[scenario];
    struct summary s = summarize(r, scenario, server);
    printf("%-26s %-16s ", server == 0 ? what->name : "", r->servers[server]);
    if (s.rounds == 0)
        printf("%12s\n", r->notes[server] != NULL ? r->notes[server] : "-");
    else
        printf("%8.2f %-3s  %6.2f   %5.2f..%.2f\n", s.median, what->unit, s.ratio, s.least, s.most);
}

void report_print(const struct report *r)
{
    printf("%-26s %-16s %12s  %6s   %s\n", "scenario", "server", "median", "ratio", "min..max");
    for (size_t scenario = 0; scenario < r->scenario_count; scenario++)
        for (size_t server = 0; was_run(r, scenario) && server < r->server_count; server++)
            print_row(r, scenario, server);
    printf("\nus: server CPU microseconds per operation; KiB: resident memory per connection.\n");
}

bool report_csv(const struct report *r, const char *path)
{
    FILE *f = fopen(path, "w");
    if (f == NULL)
        return fail("%s: %s", path, strerror(errno));
    fprintf(f, "scenario,server,unit,median,ratio,ratio_min,ratio_max,rounds\n");
    for (size_t scenario = 0; scenario < r->scenario_count; scenario++)
        for (size_t server = 0; server < r->server_count; server++) {
            const struct scenario *what = &r->scenarios[scenario];
            struct summary s = summarize(r, scenario, server);
            if (s.rounds > 0)
                fprintf(f, "\"%s\",%s,%s,%.3f,%.3f,%.3f,%.3f,%d\n", what->name, r->servers[server],
                        what->unit, s.median, s.ratio, s.least, s.most, s.rounds);
        }
    return fclose(f) == 0 || fail("%s: can't write it", path);
}
