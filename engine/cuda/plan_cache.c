#define _GNU_SOURCE
#include "engine/cuda/plan_cache.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES    (256u << 10) /* a larger file is none of ours */
#define ROWS_MAX      4096
#define STALE_SECONDS 3600 /* of a temporary file whose writer has died */

uint64_t plan_hash(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

bool plan_cache_folder(char *out, size_t size)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache != NULL && cache[0] == '/') {
        return (size_t)snprintf(out, size, "%s/layertop/plans", cache) < size;
    }
    return home != NULL && home[0] == '/' &&
           (size_t)snprintf(out, size, "%s/.cache/layertop/plans", home) < size;
}

static bool file_name(char *out, size_t size, const char *folder, const char *key)
{
    uint64_t hash = plan_hash(PLAN_HASH_START, key, strlen(key));
    return (size_t)snprintf(out, size, "%s/%016" PRIx64 ".plan", folder, hash) < size;
}

void plan_cache_clear(struct plan_cache *cache)
{
    for (size_t i = 0; i < cache->count; i++) {
        free(cache->rows[i].choice);
    }
    free(cache->rows);
    cache->rows = NULL;
    cache->count = 0;
}

const struct plan_cache_row *plan_cache_find(const struct plan_cache *cache, const char *problem)
{
    for (size_t i = 0; i < cache->count; i++) {
        if (strcmp(cache->rows[i].problem, problem) == 0) {
            return &cache->rows[i];
        }
    }
    return NULL;
}

void plan_cache_put(struct plan_cache *cache, const char *problem, const char *choice,
                    int64_t time_ns)
{
    struct plan_cache_row *row =
        (struct plan_cache_row *)(uintptr_t)plan_cache_find(cache, problem);
    if (row == NULL) {
        cache->rows = xrealloc(cache->rows, (cache->count + 1) * sizeof *cache->rows);
        row = &cache->rows[cache->count++];
        snprintf(row->problem, sizeof row->problem, "%s", problem);
    } else {
        free(row->choice);
    }
    row->time_ns = time_ns;
    row->choice = xstrdup(choice);
}

/* -- reading --------------------------------------------------------------------------------- */

/* Take the next line off *text, without its end; NULL if none is whole. */
static char *next_line(char **text)
{
    char *line = *text, *end = strchr(line, '\n');
    if (end == NULL) {
        return NULL;
    }
    *end = '\0';
    *text = end + 1;
    return line;
}

/* The checksum of the last line must be that of all before it. */
static bool sum_agrees(const char *text, size_t bytes)
{
    static const char mark[] = "sum ";
    const char *last = bytes > 1 ? memrchr(text, '\n', bytes - 1) : NULL;
    char wanted[40];
    if (last == NULL || text[bytes - 1] != '\n' || memchr(text, '\0', bytes) != NULL) {
        return false;
    }
    size_t body = (size_t)(last + 1 - text);
    snprintf(wanted, sizeof wanted, "%s%016" PRIx64 "\n", mark,
             plan_hash(PLAN_HASH_START, text, body));
    return bytes - body == strlen(wanted) && memcmp(last + 1, wanted, bytes - body) == 0;
}

/* "row PROBLEM TIME CHOICE..." */
static bool parse_row(struct plan_cache *cache, char *line)
{
    char problem[24];
    int64_t time_ns;
    int used = 0;
    if (sscanf(line, "row %23s %" SCNd64 " %n", problem, &time_ns, &used) != 2 || used == 0 ||
        time_ns < 0 || line[used] == '\0' || cache->count >= ROWS_MAX) {
        return false;
    }
    plan_cache_put(cache, problem, line + used, time_ns);
    return true;
}

/* Parse a whole file; why it is no good, "" if it is another key's, NULL if it is good. */
static const char *parse(struct plan_cache *cache, char *text, size_t bytes)
{
    char first[64];
    snprintf(first, sizeof first, "layertop plan %d", PLAN_CACHE_FORMAT);
    if (!sum_agrees(text, bytes)) {
        return "its checksum is wrong";
    }
    char *at = text, *line = next_line(&at);
    if (line == NULL || strcmp(line, first) != 0) {
        return ""; /* another version's */
    }
    line = next_line(&at);
    if (line == NULL || strncmp(line, "key ", 4) != 0 || strcmp(line + 4, cache->key) != 0) {
        return "";
    }
    while ((line = next_line(&at)) != NULL && strncmp(line, "sum ", 4) != 0) {
        if (!parse_row(cache, line)) {
            return "a line makes no sense";
        }
    }
    return NULL;
}

bool plan_cache_load(struct plan_cache *cache, const char *folder, char *note, size_t size)
{
    char path[4096];
    note[0] = '\0';
    plan_cache_clear(cache);
    if (!file_name(path, sizeof path, folder, cache->key)) {
        return false;
    }
    FILE *file = fopen(path, "rbe");
    if (file == NULL) {
        return false;
    }
    char *text = xmalloc(FILE_BYTES + 2);
    size_t bytes = fread(text, 1, FILE_BYTES + 1, file);
    bool failed = ferror(file) != 0;
    fclose(file);
    text[bytes] = '\0';
    const char *why = failed               ? "it cannot be read"
                      : bytes > FILE_BYTES ? "it is too large"
                                           : parse(cache, text, bytes);
    free(text);
    if (why == NULL) {
        utimensat(AT_FDCWD, path, NULL, 0); /* used now */
        return true;
    }
    plan_cache_clear(cache);
    if (why[0] != '\0') {
        snprintf(note, size, "the plan cache %s is damaged (%s): it is ignored", path, why);
    }
    return false;
}

/* -- writing --------------------------------------------------------------------------------- */

static bool make_folders(const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", folder);
    for (char *at = strchr(path + 1, '/');; at = strchr(at + 1, '/')) {
        if (at != NULL) {
            *at = '\0';
        }
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            return false;
        }
        if (at == NULL) {
            return true;
        }
        *at = '/';
    }
}

struct kept {
    char name[64];
    struct timespec used;
    uint64_t bytes;
};

static int newest_first(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec) {
        return x->used.tv_sec < y->used.tv_sec ? 1 : -1;
    }
    return x->used.tv_nsec < y->used.tv_nsec ? 1 : x->used.tv_nsec > y->used.tv_nsec ? -1 : 0;
}

static bool ends_in(const char *name, const char *end)
{
    size_t length = strlen(name), tail = strlen(end);
    return length > tail && strcmp(name + length - tail, end) == 0;
}

/* Remove what is too much, and temporary files that nobody will rename. */
static void bound(const char *folder)
{
    DIR *directory = opendir(folder);
    struct kept *files = NULL;
    size_t count = 0;
    uint64_t total = 0;

    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        struct stat status;
        if (strlen(entry->d_name) >= sizeof files->name ||
            fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(status.st_mode)) {
            continue;
        }
        if (strstr(entry->d_name, ".plan.") != NULL &&
            time(NULL) - status.st_mtim.tv_sec > STALE_SECONDS) {
            unlinkat(dirfd(directory), entry->d_name, 0);
        }
        if (ends_in(entry->d_name, ".plan")) {
            files = xrealloc(files, (count + 1) * sizeof *files);
            memcpy(files[count].name, entry->d_name, strlen(entry->d_name) + 1);
            files[count].used = status.st_mtim;
            files[count++].bytes = (uint64_t)status.st_size;
        }
    }
    if (count > 0) {
        qsort(files, count, sizeof *files, newest_first);
    }
    for (size_t i = 0; i < count; i++) {
        total += files[i].bytes;
        if (i >= PLAN_CACHE_FILES || total > PLAN_CACHE_BYTES) {
            unlinkat(dirfd(directory), files[i].name, 0);
        }
    }
    free(files);
    if (directory != NULL) {
        closedir(directory);
    }
}

static char *format(const struct plan_cache *cache, size_t *bytes)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, bytes);
    if (out == NULL) {
        return NULL;
    }
    fprintf(out, "layertop plan %d\nkey %s\n", PLAN_CACHE_FORMAT, cache->key);
    for (size_t i = 0; i < cache->count; i++) {
        fprintf(out, "row %s %" PRId64 " %s\n", cache->rows[i].problem, cache->rows[i].time_ns,
                cache->rows[i].choice);
    }
    fflush(out);
    fprintf(out, "sum %016" PRIx64 "\n", plan_hash(PLAN_HASH_START, text, *bytes));
    fclose(out);
    return text;
}

bool plan_cache_save(const struct plan_cache *cache, const char *folder, struct error *error)
{
    char path[4096], temporary[4160];
    size_t bytes = 0;

    if (!file_name(path, sizeof path, folder, cache->key) || !make_folders(folder)) {
        return error_set(error, ERROR_FILE, "plan cache", "%s cannot be made: %s", folder,
                         strerror(errno));
    }
    char *text = format(cache, &bytes);
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    int fd = text != NULL ? mkstemp(temporary) : -1;
    bool good = fd >= 0 && write(fd, text, bytes) == (ssize_t)bytes;
    if (fd >= 0) {
        good = close(fd) == 0 && good && rename(temporary, path) == 0;
    }
    if (!good) {
        error_set(error, ERROR_FILE, "plan cache", "%s cannot be written: %s", path,
                  strerror(errno));
        if (fd >= 0) {
            unlink(temporary);
        }
    }
    free(text);
    bound(folder);
    return good;
}
