/* test_event.c: a wake-up stays until drained, from any thread, and never blocks. */
#include "check.h"
#include "event.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    return poll(&ready, 1, timeout_ms) == 1 && (ready.revents & POLLIN) != 0;
}

static void test_it_rings_once_however_often_it_was_rung(void)
{
    int fd = ntx_event_open();
    CHECK(fd >= 0);
    CHECK(!is_readable(fd, 0));
    CHECK(!ntx_event_drain(fd));

    ntx_event_signal(fd);
    ntx_event_signal(fd);

    CHECK(is_readable(fd, 0));
    CHECK(ntx_event_drain(fd));
    CHECK(!is_readable(fd, 0));
    CHECK(!ntx_event_drain(fd));
    ntx_event_close(fd);
}

static void test_it_is_closed_on_exec_and_does_not_block(void)
{
    int fd = ntx_event_open();

    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    ntx_event_close(fd);
    CHECK(fcntl(fd, F_GETFD) < 0);
}

static void test_a_full_counter_does_not_block_the_ringer(void)
{
    int fd = ntx_event_open();
    uint64_t most = UINT64_MAX - 1;
    CHECK(write(fd, &most, sizeof most) == sizeof most);

    ntx_event_signal(fd);

    CHECK(ntx_event_drain(fd));
    ntx_event_close(fd);
}

static void *ring(void *fd)
{
    ntx_event_signal(*(int *)fd);
    return NULL;
}

static void test_another_thread_wakes_the_poller(void)
{
    int fd = ntx_event_open();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, ring, &fd) == 0);

    CHECK(is_readable(fd, 10000));

    pthread_join(thread, NULL);
    ntx_event_close(fd);
}

static void test_no_descriptor_left_is_an_error(void)
{
    struct rlimit limit, none;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit;
    none.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);

    int fd = ntx_event_open();

    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_EQ_INT(fd, -EMFILE);
    ntx_event_close(fd);
}

int main(void)
{
    RUN(test_it_rings_once_however_often_it_was_rung);
    RUN(test_it_is_closed_on_exec_and_does_not_block);
    RUN(test_a_full_counter_does_not_block_the_ringer);
    RUN(test_another_thread_wakes_the_poller);
    RUN(test_no_descriptor_left_is_an_error);
    return 0;
}
