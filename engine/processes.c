#include "engine/processes.h"

#include <ctype.h>
#include <dirent.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void process_describe(int pid, char *name, size_t name_size, char *user, size_t user_size)
{
    char path[64], line[256] = "", room[1024];
    struct stat status;
    struct passwd entry, *found = NULL;
    name[0] = user[0] = '\0';
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fgets(line, sizeof line, file) != NULL)
            line[strcspn(line, "\n")] = '\0';
        fclose(file);
        text_clean(name, name_size, line);
    }
    snprintf(path, sizeof path, "/proc/%d", pid);
    if (stat(path, &status) == 0 &&
        getpwuid_r(status.st_uid, &entry, room, sizeof room, &found) == 0 && found != NULL)
        text_clean(user, user_size, found->pw_name);
    else if (name[0] != '\0')
        snprintf(user, user_size, "uid %u", (unsigned)status.st_uid);
}

/* Anonymous resident bytes; 0 for what cannot be read or has none (a kernel thread). */
static uint64_t anonymous_bytes(int pid)
{
    char path[64], line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1)
            break;
    }
    if (file != NULL)
        fclose(file);
    return kib * 1024;
}

static void insert(struct device_process *list, size_t *count, size_t capacity, int pid,
                   uint64_t bytes)
{
    size_t at = *count < capacity ? *count : capacity;
    while (at > 0 && list[at - 1].bytes < bytes)
        at--;
    if (at == capacity)
        return;
    size_t kept = *count < capacity ? *count : capacity - 1;
    memmove(list + at + 1, list + at, (kept - at) * sizeof *list);
    list[at] = (struct device_process){.pid = pid, .bytes = bytes};
    *count = kept + 1;
}

size_t processes_largest(struct device_process *out, size_t capacity)
{
    size_t count = 0;
    DIR *folder = opendir("/proc");
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        int pid = atoi(entry->d_name);
        uint64_t bytes = anonymous_bytes(pid);
        if (bytes > 0)
            insert(out, &count, capacity, pid, bytes);
    }
    if (folder != NULL)
        closedir(folder);
    return count;
}
