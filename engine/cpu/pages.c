/* Pages of our own: taken from the system at once, or refused by it. */
#include "engine/cpu/cpu.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB        (1024.0 * 1024.0)
/* Filled at once: 10 to 20 ms, and on a machine short of memory many times that. */
#define FILL_BYTES ((size_t)64 << 20)

/* Address space of this process now, bytes; UINT64_MAX if unknown. */
static uint64_t address_space(void)
{
    unsigned long long pages = 0;
    long page = sysconf(_SC_PAGESIZE);
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return UINT64_MAX;
    bool read = fscanf(file, "%llu", &pages) == 1;
    fclose(file);
    return read && page > 0 ? pages * (uint64_t)page : UINT64_MAX;
}

/* Map with the address space fenced at `most_bytes` more than now. Other threads may be refused as
 * well while the fence stands: it does for this one call, and only when it is going to matter. */
static void *map_fenced(size_t bytes, uint64_t most_bytes)
{
    struct rlimit old, fence;
    uint64_t now = address_space();
    bool fenced = bytes > most_bytes && now != UINT64_MAX && getrlimit(RLIMIT_AS, &old) == 0;
    if (fenced) {
        fence = old;
        if (now + most_bytes < fence.rlim_cur)
            fence.rlim_cur = now + most_bytes;
        fenced = setrlimit(RLIMIT_AS, &fence) == 0;
        if (!fenced) {
            errno = ENOMEM; /* never take what the machine does not have */
            return MAP_FAILED;
        }
    }
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int why = errno;
    if (fenced)
        setrlimit(RLIMIT_AS, &old);
    errno = why;
    return pages;
}

/* Resident now: a shortage shows here and not in the middle of a step. */
static void fill(char *pages, size_t bytes)
{
#ifdef MADV_POPULATE_WRITE
    if (madvise(pages, bytes, MADV_POPULATE_WRITE) == 0)
        return;
#endif
    memset(pages, 0, bytes);
}

void *pages_new(size_t bytes, uint64_t most_bytes, const char *what,
                const struct plan_options *options, struct error *error)
{
    void *pages = map_fenced(bytes, most_bytes);
    if (pages == MAP_FAILED) {
        error_set(error, ERROR_MEMORY, what, "the system refused %.1f MiB: mmap: %s",
                  (double)bytes / MIB, strerror(errno));
        return NULL;
    }
    madvise(pages, bytes, MADV_HUGEPAGE);
    for (size_t done = 0; done < bytes; done += FILL_BYTES) {
        if (options->goes_on && !options->goes_on(options->context, 0, 1)) {
            munmap(pages, bytes);
            error_set(error, ERROR_INTERRUPTED, what, "stopped while memory was taken");
            return NULL;
        }
        fill((char *)pages + done, bytes - done < FILL_BYTES ? bytes - done : FILL_BYTES);
    }
    return pages;
}

void pages_free(void *pages, size_t bytes)
{
    if (pages)
        munmap(pages, bytes);
}
