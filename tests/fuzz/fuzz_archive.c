/* The .keras archive: libzip, and where its members lie. What they hold is the other targets'. */
#include "tests/fuzz/fuzz.h"

#include "engine/keras/reader.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_BYTES (128u << 20)

static void look_at(const struct keras_files *files, const struct zip_member *member)
{
    const struct keras_memory *memory = files->memory;
    volatile unsigned char last;
    if (!member->found)
        return;
    size_t end = member->offset + member->size;
    fuzz_must(end >= member->offset && end <= (member->stored ? files->main.size : memory->used));
    last = (member->stored ? files->main.data : memory->data)[end - 1];
    (void)last;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32];
    struct keras_memory memory = {.fd = fuzz_file("", 0, path), .limit = MEMORY_BYTES};
    memory.data =
        mmap(NULL, memory.limit, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory.fd, 0);
    struct keras_files files = {.name = "fuzz", .main = {data, size}, .memory = &memory};
    struct zip_found found;
    struct error error = {0};
    if (zip_read(&files, &found, &error)) {
        look_at(&files, &found.config);
        look_at(&files, &found.metadata);
        look_at(&files, &found.weights);
    } else {
        fuzz_must(error.code != ERROR_NONE && error.why[0] != '\0');
    }
    munmap(memory.data, memory.limit);
    close(memory.fd);
    return 0;
}
