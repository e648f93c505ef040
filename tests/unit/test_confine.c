/* The reader's cell: what runs inside cannot reach out, and cannot run for ever. */
#include "engine/keras/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static json_t *answer(void *data, bool filtered)
{
    (void)data;
    return json_pack("{s:b}", "filtered", filtered);
}

/* What the prisoner may do: everything that succeeded is listed. */
static json_t *escape(void *data, bool filtered)
{
    (void)filtered;
    json_t *done = json_array();
    int kept = *(int *)data;
    if (open("/etc/passwd", O_RDONLY) >= 0)
        json_array_append_new(done, json_string("open"));
    if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0)
        json_array_append_new(done, json_string("socket"));
    if (fork() >= 0)
        json_array_append_new(done, json_string("fork"));
    if (kill(getppid(), 0) == 0)
        json_array_append_new(done, json_string("kill"));
    if (write(2, "", 0) >= 0)
        json_array_append_new(done, json_string("stderr"));
    if (unlink("/tmp/nothing") == 0 || errno != EPERM)
        json_array_append_new(done, json_string("unlink"));
    if (ftruncate(kept, 10) == 0)
        json_array_append_new(done, json_string("kept"));
    return json_pack("{s:o}", "done", done);
}

static json_t *spin(void *data, bool filtered)
{
    for (volatile uint64_t *count = data; filtered || !filtered;)
        ++*count;
    return NULL;
}

static json_t *eat(void *data, bool filtered)
{
    (void)filtered;
    for (;;) {
        char *memory = xmalloc(1u << 20);
        memset(memory, 1, 1u << 20);
        *(char **)data = memory;
    }
    return NULL;
}

static json_t *crash(void *data, bool filtered)
{
    (void)data;
    (void)filtered;
    raise(SIGSEGV);
    return NULL;
}

static json_t *grow(void *data, bool filtered)
{
    (void)filtered;
    return json_pack("{s:i}", "result", ftruncate(*(int *)data, 1 << 20));
}

static const struct confine_limits limits = {
    .name = "test",
    .memory_bytes = 64u << 20,
    .file_bytes = 4096,
    .cpu_ns = 200000000,
    .wall_ns = INT64_C(5000000000),
    .keep = -1,
};

static void answers(void **state)
{
    (void)state;
    struct error error = {0};
    json_t *reply = confine_run(answer, NULL, &limits, &error);
    assert_non_null(reply);
    assert_non_null(json_object_get(reply, "filtered"));
    json_decref(reply);
}

static void cannot_reach_out(void **state)
{
    (void)state;
    struct error error = {0};
    json_t *reply = confine_run(answer, NULL, &limits, &error);
    bool filtered = json_is_true(json_object_get(reply, "filtered"));
    json_decref(reply);
    if (!filtered)
        skip(); /* this kernel has no seccomp */
    FILE *file = tmpfile();
    int keep = fileno(file);
    struct confine_limits mine = limits;
    mine.keep = keep;
    reply = confine_run(escape, &keep, &mine, &error);
    assert_non_null(reply);
    json_t *done = json_object_get(reply, "done");
    assert_int_equal(json_array_size(done), 1);
    assert_string_equal(json_string_value(json_array_get(done, 0)), "kept");
    json_decref(reply);
    fclose(file);
}

static void must_fail(json_t *(*work)(void *, bool), void *data, int keep, const char *why)
{
    struct error error = {0};
    struct confine_limits mine = limits;
    mine.keep = keep;
    json_t *reply = confine_run(work, data, &mine, &error);
    assert_null(reply);
    if (strstr(error.why, why) == NULL)
        fail_msg("\"%s\" without \"%s\"", error.why, why);
}

static void limits_hold(void **state)
{
    (void)state;
    uint64_t count = 0;
    char *memory = NULL;
    must_fail(spin, &count, -1, "processor time");
    must_fail(crash, NULL, -1, "signal 11");
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they end in their own way */
    must_fail(eat, &memory, -1, "memory");
#else
    (void)memory;
    (void)eat;
#endif
    FILE *file = tmpfile();
    int keep = fileno(file);
    must_fail(grow, &keep, keep, "more data");
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers),
        cmocka_unit_test(cannot_reach_out),
        cmocka_unit_test(limits_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
