/* test_stop.c: what is asked for once stays asked for, for those who look and for those who wait. */
#include "check.h"
#include "stop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>

static bool is_readable(const struct ntx_stop *stop, int timeout_ms)
{
    struct pollfd ready = {.fd = stop->fd, .events = POLLIN};

    return poll(&ready, 1, timeout_ms) == 1;
}

static void *set(void *argument)
{
    ntx_stop_set(argument);
    return NULL;
}

static void test_it_is_set_for_ever(void)
{
    struct ntx_stop stop;
    pthread_t other;
    CHECK_EQ_INT(ntx_stop_init(&stop), 0);
    CHECK(!ntx_stop_is_set(&stop));
    CHECK(!is_readable(&stop, 0));

    CHECK(pthread_create(&other, NULL, set, &stop) == 0);
    CHECK(is_readable(&stop, 10000));
    CHECK(pthread_join(other, NULL) == 0);

    CHECK(ntx_stop_is_set(&stop));
    CHECK(is_readable(&stop, 0));
    ntx_stop_set(&stop);
    CHECK(is_readable(&stop, 0));
    ntx_stop_destroy(&stop);
}

static void test_without_a_descriptor_there_is_none(void)
{
    struct rlimit before, none;
    struct ntx_stop stop;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = before;
    none.rlim_cur = 0;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);

    int result = ntx_stop_init(&stop);

    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK_EQ_INT(result, -EMFILE);
    ntx_stop_destroy(&stop);
}

int main(void)
{
    RUN(test_it_is_set_for_ever);
    RUN(test_without_a_descriptor_there_is_none);
    return 0;
}
