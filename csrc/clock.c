/* clock.c: see clock.h. */
#include "clock.h"

#include <limits.h>
#include <time.h>

static uint64_t read_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NTX_NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t ntx_now_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t ntx_thread_cpu_ns(void)
{
    return read_ns(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t ntx_process_cpu_ns(void)
{
    return read_ns(CLOCK_PROCESS_CPUTIME_ID);
}

int ntx_left_ms(uint64_t now_ns, uint64_t deadline_ns)
{
    if (deadline_ns <= now_ns)
        return 0;
    uint64_t left_ms = (deadline_ns - now_ns - 1) / NTX_NS_PER_MS + 1;
    return left_ms < INT_MAX ? (int)left_ms : INT_MAX;
}
