/* The screen on a machine with a GPU: typed as a user would, and kept as text. */
#include "support/gpu_tests.h"
#include "support/vt.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

void gpu_test_screen(const struct context *context, struct outcome *outcome)
{
    const char *const argv[] = {context->layertop, "demo:digits", NULL};
    struct vt *vt = vt_start(40, 140, argv, NULL);
    if (!vt || !vt_wait(vt, "live", 40000))
        outcome_fail(outcome, "no live screen within 40 s: %.1500s", vt ? vt_text(vt) : "no pty");
    if (vt && outcome->passed) {
        vt_type(vt, "devices cpu,0\r");
        if (!vt_wait(vt, "GPU|gpu:0", 40000))
            outcome_fail(outcome, "no GPU on the screen after `devices cpu,0`");
        vt_type(vt, "devices 0\r");
        vt_pump(vt, 3000);
        if (!vt_wait(vt, "cupti", 30000))
            outcome_fail(outcome, "the screen does not name cupti as its timing source");
        vt_type(vt, "batch 4\r");
        if (!vt_wait(vt, "b4", 10000))
            outcome_fail(outcome, "`batch 4` did not reach the prompt within 10 s");
        vt_pump(vt, 1500);
        char path[512];
        snprintf(path, sizeof path, "%s/gpu-screen.txt", context->out);
        FILE *file = fopen(path, "w");
        const char *text = vt_text(vt);
        if (file) {
            fputs(text, file);
            fclose(file);
        }
    }
    if (vt)
        vt_free(vt);
}

static void keep_screen(const struct context *context, struct vt *vt, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/gpu-screen-%s.txt", context->out, name);
    FILE *file = fopen(path, "w");
    if (file) {
        fputs(vt_text(vt), file);
        fclose(file);
    }
}

/* Typed as a user would: a batch, 20 s of looking, CPU beside GPU, a batch past the wall. */
void gpu_test_screens(const struct context *context, struct outcome *outcome)
{
    const char *const argv[] = {context->layertop, "demo:resnet50", NULL};
    struct vt *vt = vt_start(40, 140, argv, NULL);
    if (!vt || !vt_wait(vt, "live", 60000))
        outcome_fail(outcome, "no live screen within 60 s: %.1500s", vt ? vt_text(vt) : "no pty");
    if (vt && outcome->passed) {
        vt_type(vt, "devices 0\r");
        vt_type(vt, "batch 64\r");
        if (!vt_wait(vt, "b64", 30000))
            outcome_fail(outcome, "`batch 64` did not reach the prompt within 30 s");
        vt_pump(vt, 20000);
        keep_screen(context, vt, "batch64");
        if (!vt_wait(vt, "cupti", 5000))
            outcome_fail(outcome, "after 20 s the screen does not name cupti as its timing source");
        vt_type(vt, "batch 65536\r");
        if (!vt_wait(vt, "[Mm]emory", 20000))
            outcome_fail(outcome, "a batch past the wall says nothing of memory");
        keep_screen(context, vt, "oom");
        if (!vt_wait(vt, "b64", 5000) || !vt_wait(vt, "live", 5000))
            outcome_fail(outcome, "past the wall the old batch does not run on: %.1500s",
                         vt_text(vt));
        vt_type(vt, "batch 8\r");
        vt_type(vt, "devices cpu,0\r");
        vt_pump(vt, 8000);
        keep_screen(context, vt, "compare");
        if (!vt_wait(vt, "live", 30000))
            outcome_fail(outcome, "`devices cpu,0` does not run live: %.1500s", vt_text(vt));
    }
    if (vt)
        vt_free(vt);
}

/* The first process whose parent is `parent`, 0 if there is none (not every machine has pkill, nor
 * every kernel /proc/PID/task/PID/children). */
static pid_t child_of(pid_t parent)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    pid_t found = 0;
    while (processes && !found && (entry = readdir(processes))) {
        char path[300], text[512] = "";
        int of = 0;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *file = atoi(entry->d_name) > 0 ? fopen(path, "r") : NULL;
        if (!file)
            continue;
        text[fread(text, 1, sizeof text - 1, file)] = 0;
        fclose(file);
        const char *after = strrchr(text, ')'); /* pid (name) state ppid */
        if (after && sscanf(after + 1, " %*c %d", &of) == 1 && of == parent)
            found = atoi(entry->d_name);
    }
    if (processes)
        closedir(processes);
    return found;
}

void gpu_test_worker_killed(const struct context *context, struct outcome *outcome)
{
    const char *const argv[] = {context->layertop, "demo:digits", NULL};
    struct vt *vt = vt_start(30, 120, argv, NULL);
    if (!vt || !vt_wait(vt, "live", 40000))
        outcome_fail(outcome, "no live screen within 40 s: %.1500s", vt ? vt_text(vt) : "no pty");
    if (vt && outcome->passed) {
        pid_t worker = child_of(vt_pid(vt));
        if (worker <= 0 || kill(worker, SIGKILL) != 0)
            outcome_fail(outcome, "no worker to kill");
        if (!vt_wait(vt, "worker ended: signal 9", 3000))
            outcome_fail(outcome, "the screen does not say that the worker ended");
        vt_type(vt, "start\r");
        /* the header's state, not a word of the log */
        if (!vt_wait(vt, "digits +[^ ]+ live", 40000) || !vt_wait(vt, "gpu:0", 5000))
            outcome_fail(outcome, "`start` did not bring the GPU back: %.1500s", vt_text(vt));
    }
    if (vt)
        vt_free(vt);
}
