/*
 * SPDX-License-Identifier: MIT
 *
 * A server under measurement: started, asked for its CPU time and memory, stopped by its pid.
 *
 * CPU time is the process's own CPU clock (clock_getcpuclockid): nanoseconds, all of its threads, user and
 * system. /proc/PID/stat counts ticks of 10 ms, /proc/PID/schedstat only the main thread.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOT_INSTALLED = 77, START_TIMEOUT = 10000 };

static int server_cpu = -1;

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set);
}

/* Load on the first processor that we may use, servers on the last; with one processor nothing is pinned. */
void process_place_load(void)
{
    cpu_set_t set;
    int first = -1;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set))
            continue;
        if (first < 0)
            first = cpu;
        else
            server_cpu = cpu;
    }
    if (server_cpu >= 0)
        pin(first);
}

/*
 * The child dies with us, whatever happens. Huge pages would make resident sizes jump by 2 MiB; the setting
 * survives exec.
 */
static void child(char *const argv[], int output, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    if (getppid() != parent)
        _exit(1);
    if (server_cpu >= 0)
        pin(server_cpu);
    dup2(output, STDOUT_FILENO);
    execvp(argv[0], argv);
    _exit(errno == ENOENT ? NOT_INSTALLED : 1);
}

/* The port is the first line that a server prints, once it listens. */
static int read_port(int fd)
{
    char line[64];
    size_t n = 0;
    double end = seconds_now() + START_TIMEOUT / 1000.0;
    while (n < sizeof line - 1 && seconds_now() < end) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t got = poll(&p, 1, START_TIMEOUT) == 1 ? read(fd, line + n, sizeof line - 1 - n) : -1;
        if (got <= 0)
            return 0;
        n += (size_t)got;
        line[n] = '\0';
        if (strchr(line, '\n') != NULL)
            return atoi(line);
    }
    return 0;
}

static int reap(pid_t pid, double limit)
{
    int status = 0;
    double end = seconds_now() + limit;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (seconds_now() > end) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            break;
        }
        usleep(1000);
    }
    return status;
}

enum started process_start(struct process *p, char *const argv[])
{
    int ends[2];
    pid_t parent = getpid();
    if (pipe2(ends, O_CLOEXEC) != 0 || (p->pid = fork()) < 0) {
        fail("%s: %s", argv[0], strerror(errno));
        return BROKEN;
    }
    if (p->pid == 0)
        child(argv, ends[1], parent);
    close(ends[1]);
    p->output = ends[0];
    p->port = read_port(p->output);
    if (p->port > 0 && clock_getcpuclockid(p->pid, &p->clock) == 0)
        return STARTED;
    int status = reap(p->pid, 1.0);
    close(p->output);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_INSTALLED)
        return MISSING;
    fail("the server did not start");
    return BROKEN;
}

void process_stop(struct process *p)
{
    kill(p->pid, SIGTERM);
    reap(p->pid, 3.0);
    close(p->output);
}

double process_cpu(const struct process *p)
{
    struct timespec t = {0, 0};
    clock_gettime(p->clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The number behind `field` in /proc/PID/name, or -1. */
static double proc_number(const struct process *p, const char *name, const char *field)
{
    char path[64], line[256];
    double value = -1;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)p->pid, name);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return -1;
    while (value < 0 && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            value = atof(line + strlen(field));
    fclose(f);
    return value;
}

/* smaps_rollup walks the page tables; the counters behind VmRSS are batched and may lag. */
double process_memory(const struct process *p)
{
    double kib = proc_number(p, "smaps_rollup", "Rss:");
    if (kib < 0)
        kib = proc_number(p, "status", "VmRSS:");
    return kib * 1024;
}

double process_sleeps(const struct process *p)
{
    return proc_number(p, "status", "voluntary_ctxt_switches:");
}
