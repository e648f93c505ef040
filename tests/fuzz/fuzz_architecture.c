/* JSON → model → graph. The text is an architecture, or one with a recipe for its weights (what
 * engine/keras/recipe.c reads), so that layers with weights reach the lowering too. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32];
    static const char mark[] = "{\"weights\"";
    if (size < sizeof mark || memcmp(data, mark, sizeof mark - 1) != 0) {
        int fd = fuzz_file(data, size, path);
        fuzz_model(path, NULL, false);
        close(fd);
        return 0;
    }
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)size};
    fuzz_must(deflateInit2(&stream, 0, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    uLong room = deflateBound(&stream, (uLong)size);
    stream.next_out = malloc(room);
    unsigned char *packed = stream.next_out;
    stream.avail_out = (uInt)room;
    fuzz_must(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    int fd = fuzz_file(packed, stream.total_out, path);
    deflateEnd(&stream);
    free(packed);
    fuzz_model(path, NULL, true);
    close(fd);
    return 0;
}
