#define _GNU_SOURCE /* accept4 */
#include "support/baton.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_MS 30000 /* of real time: a worker that says nothing for so long hangs */

struct order { /* test to worker */
    uint64_t serial;
    int64_t now_ns;
};

struct answer { /* worker to test */
    uint64_t serial;
    int64_t until_ns;
    pid_t pid;
};

static struct sockaddr_un address(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    return name;
}

bool baton_open(struct baton *baton, const char *path)
{
    struct sockaddr_un name = address(path);
    *baton = (struct baton){.peer = -1, .worker_until_ns = CLOCK_NEVER};
    baton->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    return baton->listener >= 0 &&
           bind(baton->listener, (const struct sockaddr *)&name, sizeof name) == 0 &&
           listen(baton->listener, 4) == 0 && setenv(BATON_SOCKET, path, 1) == 0;
}

void baton_close(struct baton *baton)
{
    close(baton->listener);
    if (baton->peer >= 0)
        close(baton->peer);
}

/* Wait until a descriptor can be read, or one of `fds` is ready; false if it is one of those. */
static bool wait_for(int own, struct pollfd *fds, size_t count)
{
    struct pollfd all[16] = {{.fd = own, .events = POLLIN}};
    if (count > 0)
        memcpy(&all[1], fds, count * sizeof *fds);
    if (poll(all, (nfds_t)count + 1, PATIENCE_MS) <= 0) {
        fprintf(stderr, "the worker neither answers nor ends\n");
        _exit(3);
    }
    return all[0].revents != 0;
}

bool baton_pass(struct baton *baton, int64_t now_ns, struct pollfd *fds, size_t count)
{
    struct order order = {++baton->serial, now_ns};
    struct answer answer = {0};
    bool sent = false;
    while (answer.serial != order.serial) {
        if (baton->peer < 0) {
            sent = false;
            if (!wait_for(baton->listener, fds, count))
                return false;
            baton->peer = accept4(baton->listener, NULL, NULL, SOCK_CLOEXEC);
            continue;
        }
        if (!sent)
            sent = send(baton->peer, &order, sizeof order, MSG_NOSIGNAL) == sizeof order;
        wait_for(baton->peer, NULL, 0);
        if (recv(baton->peer, &answer, sizeof answer, 0) != sizeof answer) {
            close(baton->peer); /* that worker is gone; is there another? */
            baton->peer = -1;
        }
    }
    baton->worker = answer.pid;
    baton->worker_until_ns = answer.until_ns;
    return true;
}

/* ---- the worker's side ---- */

static struct {
    int fd;
    bool owes; /* the last order is not answered */
    struct order order;
} follower;

static void take_order(void)
{
    if (recv(follower.fd, &follower.order, sizeof follower.order, 0) != sizeof follower.order)
        _exit(0); /* the test has ended */
    follower.owes = true;
}

static int64_t follower_now_ns(void *context)
{
    (void)context;
    return follower.order.now_ns;
}

static int follower_wait(void *context, struct pollfd *fds, size_t count, int64_t until_ns)
{
    (void)context;
    for (;;) {
        int ready = poll(fds, (nfds_t)count, 0);
        if (ready != 0 || until_ns <= follower.order.now_ns)
            return ready;
        if (follower.owes) {
            struct answer answer = {follower.order.serial, until_ns, getpid()};
            if (send(follower.fd, &answer, sizeof answer, MSG_NOSIGNAL) < 0)
                _exit(0);
            follower.owes = false;
        }
        struct pollfd all[8] = {{.fd = follower.fd, .events = POLLIN}};
        memcpy(&all[1], fds, count * sizeof *fds);
        if (poll(all, (nfds_t)count + 1, -1) > 0 && all[0].revents != 0)
            take_order();
    }
}

const struct clock *baton_follow(void)
{
    static const struct clock clock = {.now_ns = follower_now_ns, .wait = follower_wait};
    const char *path = getenv(BATON_SOCKET);
    struct sockaddr_un name = address(path != NULL ? path : "");
    follower.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (connect(follower.fd, (const struct sockaddr *)&name, sizeof name) != 0)
        _exit(4);
    take_order();
    return &clock;
}
