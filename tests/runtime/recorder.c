// SPDX-License-Identifier: Apache-2.0 OR MIT
// Stands for a runtime and writes all that a program gets from who starts it to the file `record` beside the path that
// it was started by. A container's first process that says which signals reach it, if it is one. In C, because the
// runtimes of languages change just what is looked at: signals, standard descriptors, the environment.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// More than any test opens.
#define DESCRIPTORS 64
// Of /proc/self/status: what differs between two runs anyway, such as sizes, is left out.
static const char *const STATUS[] = {"Name", "Umask", "Uid",    "Gid",    "Groups", "Threads",    "ShdPnd",  "SigPnd",
                                     "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
                                     "NoNewPrivs", "Seccomp", "Cpus_allowed", "Mems_allowed"};
static const char *const WHOLE[] = {"limits",      "oom_score_adj", "timerslack_ns",
                                    "personality", "cgroup",        "coredump_filter"};

static int first_of_container(const char *order) {
    if (strcmp(order, "end") == 0)
        return 5;
    int is_loud = strcmp(order, "loud") == 0;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    if (is_loud)
        dprintf(1, "ready\n");
    for (;;) {
        int number = 0;
        if (sigwait(&all, &number) == 0 && is_loud && number != SIGCHLD)
            dprintf(1, "signal %d\n", number);
    }
}

static void lines_of_status(int out) {
    FILE *status = fopen("/proc/self/status", "re");
    char line[4096];
    while (status && fgets(line, sizeof line, status))
        for (size_t i = 0; i < sizeof STATUS / sizeof *STATUS; i++)
            if (strncmp(line, STATUS[i], strlen(STATUS[i])) == 0 && line[strlen(STATUS[i])] == ':')
                dprintf(out, "%s", line);
    if (status)
        fclose(status);
}

static int copy(int in, int out) {
    char bytes[4096];
    ssize_t count;
    while ((count = read(in, bytes, sizeof bytes)) > 0)
        if (write(out, bytes, count) != count)
            return 93;
    dprintf(out, "%s\n", count < 0 ? strerror(errno) : "");
    return 0;
}

int main(int argc, char **argv, char **environment) {
    if (getpid() == 1)
        return first_of_container(argc > 1 ? argv[1] : "");

    // Before anything is opened.
    static struct {
        int flags, own_flags;
        long long position;
        char target[4096];
    } seen[DESCRIPTORS];
    for (int fd = 0; fd < DESCRIPTORS; fd++) {
        seen[fd].flags = fcntl(fd, F_GETFL);
        if (seen[fd].flags < 0)
            continue;
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        seen[fd].own_flags = fcntl(fd, F_GETFD);
        seen[fd].position = lseek(fd, 0, SEEK_CUR);
        if (readlink(link, seen[fd].target, sizeof seen[fd].target - 1) < 0)
            return 90;
    }
    sigset_t pending;
    sigpending(&pending);
    int child = waitpid(-1, NULL, WNOHANG);
    int child_error = child < 0 ? errno : 0;

    char path[4096];
    snprintf(path, sizeof path, "%s", (const char *)getauxval(AT_EXECFN));
    char *slash = strrchr(path, '/');
    if (!slash || strlen(path) > sizeof path - 16)
        return 91;
    strcpy(slash + 1, "state.json");
    if (argc > 1 && strcmp(argv[1], "state") == 0 && access(path, R_OK) == 0)
        return copy(open(path, O_RDONLY | O_CLOEXEC), 1);
    strcpy(slash + 1, "record");
    mode_t mask = umask(022);
    int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    umask(mask);
    if (out < 0)
        return 92;

    dprintf(out, "pid %d\n", getpid());
    dprintf(out, "parent %d group %d session %d\n", getppid(), getpgrp(), getsid(0));
    dprintf(out, "started as %s\n", (const char *)getauxval(AT_EXECFN));
    for (int i = 0; i < argc; i++)
        dprintf(out, "argument %zu bytes: %s\n", strlen(argv[i]), argv[i]);
    for (char **each = environment; *each; each++)
        dprintf(out, "environment %zu bytes: %s\n", strlen(*each), *each);
    char directory[4096];
    dprintf(out, "directory %s\n", getcwd(directory, sizeof directory) ? directory : strerror(errno));
    for (int fd = 0; fd < DESCRIPTORS; fd++)
        if (seen[fd].flags >= 0)
            dprintf(out, "descriptor %d: %s, flags %o, own %d, position %lld\n", fd, seen[fd].target, seen[fd].flags,
                    seen[fd].own_flags, seen[fd].position);
    dprintf(out, "children %d: %s\n", child, strerror(child_error));
    int subreaper = 0, on_parents_death = 0;
    prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
    prctl(PR_GET_PDEATHSIG, &on_parents_death);
    dprintf(out, "nice %d, policy %d, subreaper %d, parent's death %d, dumpable %d, keeps %d, pages %d\n",
            getpriority(PRIO_PROCESS, 0), sched_getscheduler(0), subreaper, on_parents_death, prctl(PR_GET_DUMPABLE),
            prctl(PR_GET_KEEPCAPS), prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    lines_of_status(out);
    for (size_t i = 0; i < sizeof WHOLE / sizeof *WHOLE; i++) {
        snprintf(path, sizeof path, "/proc/self/%s", WHOLE[i]);
        int in = open(path, O_RDONLY | O_CLOEXEC);
        dprintf(out, "%s:\n", WHOLE[i]);
        copy(in, out);
        close(in);
    }
    // Where one of the first three was closed, the record is in its place.
    if (seen[0].flags >= 0) {
        dprintf(out, "standard input:\n");
        copy(0, out);
    }
    if (seen[1].flags >= 0)
        dprintf(1, "to standard output\n");
    if (seen[2].flags >= 0)
        dprintf(2, "to standard error\n");
    return 7;
}
