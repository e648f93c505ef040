#include "commands/batch_fit.h"

#include <math.h>
#include <stdbool.h>

#define R2_GOOD 0.9

void batch_fit(const struct batch_point *points, size_t count, struct batch_fit *out)
{
    /* weights 1/t^2 make the squares those of relative errors */
    double w = 0, wx = 0, wy = 0, wxx = 0, wxy = 0;
    *out = (struct batch_fit){NAN, NAN, NAN};
    for (size_t i = 0; i < count; i++) {
        double x = (double)points[i].batch, y = points[i].time_ms, weight = 1 / (y * y);
        w += weight;
        wx += weight * x;
        wy += weight * y;
        wxx += weight * x * x;
        wxy += weight * x * y;
    }
    double spread = w * wxx - wx * wx;
    if (count < 2 || !(spread > 0))
        return;
    out->b_ms = (w * wxy - wx * wy) / spread;
    out->a_ms = (wy - out->b_ms * wx) / w;
    double residual = 0, total = 0, mean = wy / w;
    for (size_t i = 0; i < count; i++) {
        double y = points[i].time_ms, weight = 1 / (y * y);
        double error = y - out->a_ms - out->b_ms * (double)points[i].batch;
        residual += weight * error * error;
        total += weight * (y - mean) * (y - mean);
    }
    out->r2 = total > 0 ? 1 - residual / total : 1;
}

static int64_t measured_knee(const struct batch_point *points, size_t count, int64_t most)
{
    double best = 0;
    int64_t knee = 0;
    for (size_t i = 0; i < count; i++)
        best = fmax(best, (double)points[i].batch / points[i].time_ms);
    for (size_t i = 0; i < count; i++) {
        bool near = (double)points[i].batch / points[i].time_ms >= BATCH_KNEE_SHARE * best;
        if (near && points[i].batch <= most && (knee == 0 || points[i].batch < knee))
            knee = points[i].batch;
    }
    return knee;
}

int64_t batch_knee(const struct batch_fit *fit, const struct batch_point *points, size_t count,
                   int64_t most, int *measured)
{
    *measured = !(fit->r2 >= R2_GOOD && fit->b_ms > 0);
    if (*measured)
        return measured_knee(points, count, most);
    double knee = ceil(BATCH_KNEE_SHARE / (1 - BATCH_KNEE_SHARE) * fit->a_ms / fit->b_ms);
    return knee <= 1 ? (most < 1 ? most : 1) : knee >= (double)most ? most : (int64_t)knee;
}

int64_t batch_within(const struct batch_fit *fit, double time_ms, int64_t most)
{
    if (!(fit->b_ms > 0))
        return fit->a_ms <= time_ms ? most : 0;
    double batch = floor((time_ms - fit->a_ms) / fit->b_ms);
    return batch < 1 ? 0 : batch >= (double)most ? most : (int64_t)batch;
}
