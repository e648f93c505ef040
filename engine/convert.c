#include "engine/convert.h"

#include <math.h>
#include <string.h>

/* IEEE 754 binary16, by its definition. */
static double half_value(uint16_t bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double sign = (bits & 0x8000) != 0 ? -1 : 1;
    if (exponent == 31)
        return fraction != 0 ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, -24);
    return sign * ldexp(1024 + fraction, exponent - 25);
}

#define READ_AS(type)                                                                              \
    {                                                                                              \
        type value;                                                                                \
        memcpy(&value, data, sizeof value);                                                        \
        return (double)value;                                                                      \
    }

double convert_read(const void *data, enum dtype dtype)
{
    uint16_t bits;
    uint32_t wide;
    float single;
    switch (dtype) {
    case DTYPE_F32:
        READ_AS(float)
    case DTYPE_F64:
        READ_AS(double)
    case DTYPE_I8:
        READ_AS(int8_t)
    case DTYPE_U8:
        READ_AS(uint8_t)
    case DTYPE_I16:
        READ_AS(int16_t)
    case DTYPE_U16:
        READ_AS(uint16_t)
    case DTYPE_I32:
        READ_AS(int32_t)
    case DTYPE_I64:
        READ_AS(int64_t)
    case DTYPE_F16:
        memcpy(&bits, data, sizeof bits);
        return half_value(bits);
    case DTYPE_BF16:
        memcpy(&bits, data, sizeof bits);
        wide = (uint32_t)bits << 16;
        memcpy(&single, &wide, sizeof single);
        return single;
    case DTYPE_BOOL:
        return *(const uint8_t *)data != 0;
    default:
        return NAN;
    }
}

#define WRITE_AS(type, minimum, maximum)                                                           \
    {                                                                                              \
        type stored = isnan(value)                 ? 0                                             \
                      : value <= (double)(minimum) ? (minimum)                                     \
                      : value >= (double)(maximum) ? (maximum)                                     \
                                                   : (type)value;                                  \
        memcpy(data, &stored, sizeof stored);                                                      \
        break;                                                                                     \
    }

void convert_write(void *data, enum dtype dtype, double value)
{
    float single = (float)value;
    switch (dtype) {
    case DTYPE_I8:
        WRITE_AS(int8_t, INT8_MIN, INT8_MAX)
    case DTYPE_U8:
        WRITE_AS(uint8_t, 0, UINT8_MAX)
    case DTYPE_I16:
        WRITE_AS(int16_t, INT16_MIN, INT16_MAX)
    case DTYPE_U16:
        WRITE_AS(uint16_t, 0, UINT16_MAX)
    case DTYPE_I32:
        WRITE_AS(int32_t, INT32_MIN, INT32_MAX)
    case DTYPE_I64:
        WRITE_AS(int64_t, INT64_MIN, INT64_MAX)
    case DTYPE_BOOL:
        *(uint8_t *)data = value != 0;
        break;
    default:
        memcpy(data, &single, sizeof single);
        break;
    }
}

void convert_many(const void *in, enum dtype from, void *out, enum dtype to, size_t count)
{
    size_t in_bytes = dtype_bytes(from), out_bytes = dtype_bytes(to);
    if (from == to) {
        memcpy(out, in, count * in_bytes);
        return;
    }
    for (size_t i = 0; i < count; i++)
        convert_write((char *)out + i * out_bytes, to,
                      convert_read((const char *)in + i * in_bytes, from));
}
