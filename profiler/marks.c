#include "profiler/marks.h"

#include "profiler/records.h"

#include <stdio.h>
#include <string.h>

static const struct reason {
    uint64_t bit;
    const char *name, *text;
} reasons[] = {
    {0x04, "sw_power_cap", "the power cap"},
    {0x08, "hw_slowdown", "a hardware slowdown"},
    {0x20, "sw_thermal_slowdown", "temperature (software)"},
    {0x40, "hw_thermal_slowdown", "temperature (hardware)"},
    {0x80, "hw_power_brake", "the power brake"},
};

void marks_clear(struct marks *marks)
{
    *marks = (struct marks){.throttle = RECORD_UNKNOWN, .tenants = RECORD_UNKNOWN};
}

void marks_add(struct marks *marks, const struct record_device *sample)
{
    marks->samples++;
    if (sample->throttle != RECORD_UNKNOWN)
        marks->throttle =
            (marks->throttle == RECORD_UNKNOWN ? 0 : marks->throttle) | sample->throttle;
    if (sample->tenants != RECORD_UNKNOWN &&
        (marks->tenants == RECORD_UNKNOWN || sample->tenants > marks->tenants))
        marks->tenants = sample->tenants;
}

uint64_t marks_throttled(const struct marks *marks)
{
    uint64_t bad = 0;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        bad |= reasons[i].bit;
    return marks->throttle == RECORD_UNKNOWN ? 0 : marks->throttle & bad;
}

json_t *marks_throttle_json(const struct marks *marks)
{
    if (marks->throttle == RECORD_UNKNOWN)
        return json_null();
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (marks->throttle & reasons[i].bit)
            json_array_append_new(list, json_string(reasons[i].name));
    }
    return list;
}

char *marks_text(const struct marks *marks, char *out, size_t size)
{
    uint64_t throttled = marks_throttled(marks);
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons && used < size; i++) {
        if (throttled & reasons[i].bit)
            used += (size_t)snprintf(out + used, size - used, "%s%s",
                                     used ? " and " : "clocks held down by ", reasons[i].text);
    }
    if (marks->tenants != RECORD_UNKNOWN && marks->tenants > 0 && used < size)
        snprintf(out + used, size - used, "%s%llu other process%s on the GPU", used ? "; " : "",
                 (unsigned long long)marks->tenants, marks->tenants == 1 ? "" : "es");
    return out;
}
