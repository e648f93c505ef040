#define _GNU_SOURCE /* sched_getaffinity, sched_setaffinity */
/* What the kernel says about this machine: cores, memory, the processor's name. */
#include "engine/cpu/cpu.h"
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* First line of a small file; false if it cannot be read. */
static bool read_line(const char *path, char *line, int size)
{
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    bool ok = fgets(line, size, file) != NULL;
    fclose(file);
    return ok;
}

static long read_number(const char *path, long missing)
{
    char line[64];
    return read_line(path, line, sizeof line) ? strtol(line, NULL, 10) : missing;
}

/* The processors this process may use. Where OpenMP binds threads, it has already bound this one to
 * its own place when its library was loaded: ask it for all places. */
static bool allowed_processors(cpu_set_t *allowed)
{
    CPU_ZERO(allowed);
    for (int place = 0; place < omp_get_num_places(); place++) {
        int ids[CPU_SETSIZE];
        int count = omp_get_place_num_procs(place);
        if (count > CPU_SETSIZE)
            continue;
        omp_get_place_proc_ids(place, ids);
        for (int i = 0; i < count; i++)
            if (ids[i] >= 0 && ids[i] < CPU_SETSIZE)
                CPU_SET(ids[i], allowed);
    }
    return CPU_COUNT(allowed) > 0 || sched_getaffinity(0, sizeof *allowed, allowed) == 0;
}

int machine_allowed_processors(unsigned char *allowed, int capacity)
{
    cpu_set_t set;
    if (!allowed_processors(&set))
        return -1;
    for (int cpu = 0; cpu < capacity; cpu++)
        allowed[cpu] = cpu < CPU_SETSIZE && CPU_ISSET(cpu, &set);
    return CPU_COUNT(&set);
}

void machine_unbind_thread(void)
{
    cpu_set_t set;
    if (allowed_processors(&set))
        sched_setaffinity(0, sizeof set, &set);
}

int machine_physical_cores(void)
{
    cpu_set_t allowed;
    long seen[CPU_SETSIZE];
    int count = 0;
    if (!allowed_processors(&allowed))
        return 1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        char path[96];
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/core_id", cpu);
        long core = read_number(path, cpu);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/physical_package_id",
                 cpu);
        core += read_number(path, 0) * 65536;
        bool known = false; /* the other hyperthread of a core */
        for (int i = 0; i < count; i++)
            known |= seen[i] == core;
        if (!known)
            seen[count++] = core;
    }
    return count > 0 ? count : 1;
}

/* "Name:   123 kB" in a /proc file, in bytes; UINT64_MAX if it is not there. */
static uint64_t proc_field(const char *path, const char *name)
{
    char line[256];
    uint64_t bytes = UINT64_MAX;
    size_t length = strlen(name);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            bytes = strtoull(line + length + 1, NULL, 10) * 1024;
            break;
        }
    }
    if (file)
        fclose(file);
    return bytes;
}

/* A number of the memory cgroup (version 2, then 1); UINT64_MAX for "max" or none. */
static uint64_t cgroup_bytes(const char *v2, const char *v1)
{
    char path[128], line[64];
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s", v2);
    if (!read_line(path, line, sizeof line)) {
        snprintf(path, sizeof path, "/sys/fs/cgroup/memory/%s", v1);
        if (!read_line(path, line, sizeof line))
            return UINT64_MAX;
    }
    return line[0] >= '0' && line[0] <= '9' ? strtoull(line, NULL, 10) : UINT64_MAX;
}

uint64_t machine_total_bytes(void)
{
    uint64_t total = proc_field("/proc/meminfo", "MemTotal");
    uint64_t limit = cgroup_bytes("memory.max", "memory.limit_in_bytes");
    return limit < total ? limit : total;
}

uint64_t machine_available_bytes(void)
{
    uint64_t available = proc_field("/proc/meminfo", "MemAvailable");
    uint64_t limit = cgroup_bytes("memory.max", "memory.limit_in_bytes");
    uint64_t used = cgroup_bytes("memory.current", "memory.usage_in_bytes");
    if (limit == UINT64_MAX || used == UINT64_MAX)
        return available;
    uint64_t left = used < limit ? limit - used : 0;
    return left < available ? left : available;
}

uint64_t machine_anonymous_bytes(void)
{
    return proc_field("/proc/self/status", "RssAnon");
}

void machine_cpu_name(char *out, size_t size)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(out, size, "CPU");
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(out, size, "%s", colon + 1 + strspn(colon + 1, " "));
            break;
        }
    }
    if (file)
        fclose(file);
}
