/*
 * clock.h: the time, and how long there is until a deadline.  The only place that reads a clock.
 *
 * A deadline is a moment of the monotonic clock in ns; UINT64_MAX is never.
 */
#ifndef NTX_CLOCK_H
#define NTX_CLOCK_H

#include <stdint.h>

#define NTX_NS_PER_MS 1000000ull
#define NTX_NS_PER_S (1000 * NTX_NS_PER_MS)

/* Monotonic. */
uint64_t ntx_now_ns(void);

/* Processor time of the calling thread, of all threads of the process. */
uint64_t ntx_thread_cpu_ns(void);
uint64_t ntx_process_cpu_ns(void);

static inline uint64_t ntx_deadline_ns(uint64_t now_ns, unsigned timeout_ms)
{
    return now_ns + timeout_ms * NTX_NS_PER_MS;
}

/* What poll() may wait: rounded up, so that it does not end just before the deadline; 0 when it has passed. */
int ntx_left_ms(uint64_t now_ns, uint64_t deadline_ns);

#endif
