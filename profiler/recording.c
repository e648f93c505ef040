/* Reading recordings; see recording_pack.c for how the HDF5 file is made. */
#include "profiler/recording.h"
#include "engine/hdf5.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES (256u << 10)

static const unsigned char hdf5_signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};

struct recording {
    char *path;
    int fd;             /* of a journal, or -1 */
    hid_t file, stream; /* of HDF5, or -1 */
    uint64_t bytes;
};

static bool open_hdf5(struct recording *recording, struct error *error)
{
    const char *path = recording->path;
    /* its stack of errors would go to standard error, which is the log of the front */
    hdf5_prepare();
    recording->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (recording->file < 0)
        return error_set(error, ERROR_FILE, path,
                         "the recording is cut or damaged: HDF5 refuses it");
    recording->stream = H5Dopen2(recording->file, "stream", H5P_DEFAULT);
    if (recording->stream < 0)
        return error_set(error, ERROR_FILE, path, "this HDF5 file is no recording of layertop");
    hid_t space = H5Dget_space(recording->stream), type = H5Dget_type(recording->stream);
    hsize_t length = 0;
    bool good = space >= 0 && H5Sget_simple_extent_ndims(space) == 1 &&
                H5Sget_simple_extent_dims(space, &length, NULL) == 1 &&
                H5Tequal(type, H5T_STD_U8LE) > 0;
    H5Sclose(space);
    H5Tclose(type);
    recording->bytes = length;
    if (!good)
        return error_set(error, ERROR_FILE, path, "this HDF5 file is no recording of layertop");
    return true;
}

struct recording *recording_open(const char *path, struct error *error)
{
    unsigned char head[sizeof hdf5_signature];
    struct stat status;
    struct recording *recording = xcalloc(1, sizeof *recording);
    recording->path = xstrdup(path);
    recording->file = recording->stream = -1;
    recording->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold us up */
    bool ok = recording->fd >= 0 && fstat(recording->fd, &status) == 0;
    if (!ok) {
        error_set(error, ERROR_FILE, path, "cannot be read: %s", strerror(errno));
    } else if (!S_ISREG(status.st_mode)) {
        ok = error_set(error, ERROR_FILE, path, "is no regular file");
    } else if (pread(recording->fd, head, sizeof head, 0) == sizeof head &&
               memcmp(head, hdf5_signature, sizeof head) == 0) {
        close(recording->fd);
        recording->fd = -1;
        ok = open_hdf5(recording, error);
    } else {
        recording->bytes = (uint64_t)status.st_size;
    }
    if (ok)
        return recording;
    recording_close(recording);
    return NULL;
}

void recording_close(struct recording *recording)
{
    if (!recording)
        return;
    if (recording->fd >= 0)
        close(recording->fd);
    if (recording->stream >= 0)
        H5Dclose(recording->stream);
    if (recording->file >= 0)
        H5Fclose(recording->file);
    free(recording->path);
    free(recording);
}

uint64_t recording_bytes(const struct recording *recording)
{
    return recording->bytes;
}

static bool read_hdf5(struct recording *recording, uint64_t offset, void *out, size_t bytes)
{
    hsize_t start = offset, count = bytes;
    hid_t space = H5Dget_space(recording->stream), memory = H5Screate_simple(1, &count, NULL);
    bool ok = H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &count, NULL) >= 0 &&
              H5Dread(recording->stream, H5T_NATIVE_UINT8, memory, space, H5P_DEFAULT, out) >= 0;
    H5Sclose(memory);
    H5Sclose(space);
    return ok;
}

bool recording_read(struct recording *recording, uint64_t offset, void *out, size_t bytes,
                    struct error *error)
{
    bool ok = offset <= recording->bytes && bytes <= recording->bytes - offset;
    if (ok && recording->fd < 0)
        ok = bytes == 0 || read_hdf5(recording, offset, out, bytes);
    for (size_t done = 0; ok && recording->fd >= 0 && done < bytes;) {
        ssize_t got =
            pread(recording->fd, (char *)out + done, bytes - done, (off_t)(offset + done));
        if (got > 0)
            done += (size_t)got;
        else
            ok = got < 0 && errno == EINTR;
    }
    return ok || error_set(error, ERROR_FILE, recording->path, "cannot be read at byte %llu",
                           (unsigned long long)offset);
}

bool recording_walk(struct recording *recording,
                    bool (*handler)(void *context, const struct stream_frame *frame,
                                    uint64_t offset),
                    void *context, bool *whole, struct error *error)
{
    struct stream_decoder decoder;
    struct stream_frame frame;
    enum stream_result result = STREAM_MORE;
    uint64_t at = 0, offset = STREAM_PREAMBLE_BYTES;
    bool ok = true, wanted = true;
    uint8_t *block = xmalloc(BLOCK_BYTES);
    stream_decoder_init(&decoder);
    while (ok && wanted && result == STREAM_MORE && at < recording->bytes) {
        uint64_t left = recording->bytes - at;
        size_t bytes = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
        ok = recording_read(recording, at, block, bytes, error);
        if (!ok)
            break;
        at += bytes;
        stream_decoder_feed(&decoder, block, bytes);
        while (wanted && (result = stream_decoder_next(&decoder, &frame, NULL)) == STREAM_FRAME) {
            offset += STREAM_HEADER_BYTES;
            wanted = handler(context, &frame, offset + decoder.skipped);
            offset += frame.bytes;
        }
    }
    bool greeted = decoder.greeted;
    if (whole)
        *whole = offset + decoder.skipped == recording->bytes;
    stream_decoder_free(&decoder);
    free(block);
    if (ok && !greeted)
        return error_set(error, ERROR_FILE, recording->path, "is no recording of layertop");
    return ok;
}
