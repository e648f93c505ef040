/* HDF5 filter 32000: h5py's LZF compression, which libhdf5 does not have. Decoding only.
 *
 * The format is that of Marc Lehmann's LZF: a byte below 32 is followed by that many literals and
 * one more; else its upper three bits are a length (7: more in the next byte) and its lower five,
 * with the byte after, how far back to copy from. h5py writes the size of a decoded chunk as the
 * filter's third number. Bytes come from a file: nothing is read or written past its end. */
#include "engine/keras/reader.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES_MAX (1u << 30)

/* Returns the bytes written, 0 if the input is broken or does not fit. */
static size_t decode(const unsigned char *in, size_t in_size, unsigned char *out, size_t out_size)
{
    size_t at = 0, made = 0;
    while (at < in_size) {
        unsigned control = in[at++];
        if (control < 32) {
            size_t length = control + 1;
            if (length > in_size - at || length > out_size - made)
                return 0;
            memcpy(out + made, in + at, length);
            at += length;
            made += length;
            continue;
        }
        size_t length = control >> 5;
        if (length == 7) {
            if (at == in_size)
                return 0;
            length += in[at++];
        }
        length += 2;
        if (at == in_size)
            return 0;
        size_t back = ((size_t)(control & 31) << 8 | in[at++]) + 1;
        if (back > made || length > out_size - made)
            return 0;
        for (size_t i = 0; i < length; i++, made++) /* may overlap what it writes */
            out[made] = out[made - back];
    }
    return made;
}

static size_t filter(unsigned flags, size_t value_count, const unsigned values[], size_t bytes,
                     size_t *buffer_bytes, void **buffer)
{
    size_t room = value_count >= 3 && values[2] > 0 ? values[2] : 0;
    if (!(flags & H5Z_FLAG_REVERSE) || room == 0 || room > CHUNK_BYTES_MAX)
        return 0;
    unsigned char *out = malloc(room);
    size_t made = out ? decode(*buffer, bytes, out, room) : 0;
    if (made == 0) {
        free(out);
        return 0;
    }
    free(*buffer);
    *buffer = out;
    *buffer_bytes = room;
    return made;
}

bool lzf_register(void)
{
    static const H5Z_class2_t lzf = {
        .version = H5Z_CLASS_T_VERS,
        .id = LZF_FILTER,
        .encoder_present = 0,
        .decoder_present = 1,
        .name = "lzf",
        .filter = filter,
    };
    return H5Zfilter_avail(LZF_FILTER) > 0 || H5Zregister(&lzf) >= 0;
}
