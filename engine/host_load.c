#include "engine/host_load.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

/* "running_ns waited_ns slices" (Documentation/scheduler/sched-stats.rst) */
static int64_t waited_of(int thread)
{
    char path[64], line[96];
    long long ran, waited;
    snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", thread);
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    bool read = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    return read && sscanf(line, "%lld %lld", &ran, &waited) == 2 ? waited : -1;
}

void host_load_read(struct host_load *out)
{
    struct rusage usage = {0};
    struct dirent *entry;
    DIR *tasks = opendir("/proc/self/task");
    out->count = 0;
    while (tasks && out->count < HOST_LOAD_THREADS && (entry = readdir(tasks)) != NULL) {
        int thread = atoi(entry->d_name);
        int64_t waited_ns = thread > 0 ? waited_of(thread) : -1;
        if (waited_ns < 0)
            continue;
        out->threads[out->count].thread = thread;
        out->threads[out->count++].waited_ns = waited_ns;
    }
    if (tasks)
        closedir(tasks);
    if (out->count == 0)
        out->count = -1;
    getrusage(RUSAGE_SELF, &usage);
    out->faults = usage.ru_majflt;
}

int64_t host_load_waited_ns(const struct host_load *before, const struct host_load *after)
{
    int64_t worst = 0;
    if (before->count < 0 || after->count < 0)
        return -1;
    for (int i = 0; i < after->count; i++) {
        int64_t waited_ns = after->threads[i].waited_ns;
        for (int k = 0; k < before->count; k++)
            if (before->threads[k].thread == after->threads[i].thread)
                waited_ns -= before->threads[k].waited_ns;
        worst = waited_ns > worst ? waited_ns : worst;
    }
    return worst;
}
