/* worker_wait.c: what a thread waits for that has nothing to do, for how long, and which stage the time counts for. See
 * worker.h. */
#include "bytes.h"
#include "clock.h"
#include "error.h"
#include "worker.h"

#include <errno.h>
#include <poll.h>

/* How soon a thread that waits for an answer learns that there is more to do, and that it may have more in flight.
 * Later than at the start it learns that with the next answer. */
#define FEED_INTERVAL_NS (20 * NTX_NS_PER_MS)
#define LIMIT_INTERVAL_NS (2 * NTX_NS_PER_MS)

static _Atomic uint64_t *stage_waited_on(struct ntx_worker *w)
{
    if (w->source->in_flight > 0 && ntx_may_use_slot(w))
        return &w->counters.source_ns;
    if (w->target->in_flight > 0)
        return &w->counters.target_ns;
    return w->source->in_flight > 0 ? &w->counters.source_ns : &w->counters.limit_ns;
}

static int timed_out(struct ntx_worker *w, struct ntx_device *device, struct ntx_error *err)
{
    device->lost = true;
    return ntx_error_set(err, NTX_E_TIMEOUT, -ETIMEDOUT, "%s: no answer to %u requests within %u s", device->info.name,
                         device->in_flight, w->scheduler->options.timeout_ms / 1000);
}

/* When device must have answered.  Bytes that never become an answer do not count: a server could trickle for ever. */
static uint64_t due_ns_of(const struct ntx_worker *w, const struct ntx_device *device, uint64_t now_ns,
                          uint64_t *answer_due_ns)
{
    if (device->in_flight == 0) {
        *answer_due_ns = 0;
        return UINT64_MAX;
    }
    if (*answer_due_ns == 0)
        *answer_due_ns = ntx_deadline_ns(now_ns, w->scheduler->options.timeout_ms);
    return *answer_due_ns;
}

static void poll_until(struct pollfd *fds, nfds_t count, uint64_t now_ns, uint64_t until_ns)
{
    /* Interrupted or early: whoever waits looks again at what there is, and waits again. */
    (void)poll(fds, count, ntx_left_ms(now_ns, until_ns));
}

int ntx_worker_wait(struct ntx_worker *w, struct ntx_error *err)
{
    struct pollfd fds[3] = {
        {.fd = w->source->in_flight > 0 ? w->source->fd : -1, .events = w->source->events},
        {.fd = w->target->in_flight > 0 ? w->target->fd : -1, .events = w->target->events},
        {.fd = w->scheduler->stop.fd, .events = POLLIN},
    };
    uint64_t since = ntx_now_ns();
    uint64_t target_due_ns = due_ns_of(w, w->target, since, &w->target_answer_due_ns);
    uint64_t source_due_ns = due_ns_of(w, w->source, since, &w->source_answer_due_ns);
    if (since >= ntx_min64(target_due_ns, source_due_ns))
        return timed_out(w, target_due_ns <= source_due_ns ? w->target : w->source, err);

    uint64_t until_ns = ntx_min64(target_due_ns, source_due_ns);
    if (w->limited_until_ns > since)
        until_ns = ntx_min64(until_ns, w->limited_until_ns);
    /* In this order: a limit that was raised for the last time is seen here, or else the flag still is. */
    bool is_starting = atomic_load(&w->scheduler->starting);
    if (atomic_load(&w->scheduler->slot_limit) != w->slot_limit)
        return 0;
    if (until_ns == UINT64_MAX) /* the rate limit, all that was waited for, has just ended */
        return 0;
    if (w->waits_for_extents)
        until_ns = ntx_min64(until_ns, since + FEED_INTERVAL_NS);
    if (is_starting)
        until_ns = ntx_min64(until_ns, since + LIMIT_INTERVAL_NS);
    _Atomic uint64_t *counter = stage_waited_on(w);
    bool waiting = !ntx_may_use_slot(w);
    uint64_t began = since;
    poll_until(fds, 3, since, until_ns);
    ntx_spend(counter, &since);
    if (waiting)
        atomic_fetch_add_explicit(&w->scheduler->waiting_ns, since - began, memory_order_relaxed);
    return 0;
}

void ntx_wait_for_device(const struct ntx_device *device, uint64_t now_ns, uint64_t until_ns)
{
    struct pollfd ready = {.fd = device->fd, .events = device->events};

    poll_until(&ready, 1, now_ns, until_ns);
}
