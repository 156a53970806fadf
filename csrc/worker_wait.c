/* worker_wait.c: see worker_wait.h. */
#include "worker_wait.h"

#include "bytes.h"
#include "clock.h"
#include "error.h"

#include <errno.h>
#include <poll.h>

static int timed_out(unsigned timeout_ms, struct ntx_device *device, struct ntx_error *err)
{
    device->lost = true;
    return ntx_error_set(err, NTX_E_TIMEOUT, -ETIMEDOUT, "%s: no answer to %u requests within %g s", device->info.name,
                         device->old, timeout_ms / 1000.0);
}

static int flush_timed_out(unsigned timeout_ms, struct ntx_device *target, struct ntx_error *err)
{
    target->lost = true;
    return ntx_error_set(err, NTX_E_TIMEOUT, -ETIMEDOUT, "%s: flush failed: no answer within %g s", target->info.name,
                         timeout_ms / 1000.0);
}

/* When device must have answered what is old.  Neither bytes that never become an answer count, for a server could
 * trickle for ever, nor answers to other requests.  requests: in flight, but for a flush. */
static uint64_t due_ns_of(struct ntx_device *device, unsigned requests, unsigned timeout_ms, uint64_t now_ns,
                          uint64_t *due_ns)
{
    if (requests == 0 || device->is_patient)
        return UINT64_MAX;
    if (device->old == 0) {
        device->old_up_to = device->submitted;
        device->old = requests;
        *due_ns = ntx_deadline_ns(now_ns, timeout_ms);
    }
    return *due_ns;
}

/* Whether the flush is what the target must have answered first. */
static bool has_limit_of_flush(const struct ntx_wait *wait, const struct ntx_device *target, uint64_t due_ns)
{
    return wait->flush_due_ns > 0 && (wait->flush_due_ns <= due_ns || target->old_up_to >= wait->held_up_from);
}

static void poll_until(struct pollfd *fds, nfds_t count, uint64_t now_ns, uint64_t until_ns)
{
    /* Interrupted or early: whoever waits looks again at what there is, and waits again. */
    (void)poll(fds, count, ntx_left_ms(now_ns, until_ns));
}

int ntx_wait_check(struct ntx_wait *wait, struct ntx_device *source, struct ntx_device *target, uint64_t heard_ns,
                   uint64_t now_ns, struct ntx_error *err)
{
    unsigned requests = target->in_flight - (wait->flush_due_ns > 0);
    uint64_t target_due_ns = due_ns_of(target, requests, wait->timeout_ms, now_ns, &wait->target_due_ns);
    uint64_t source_due_ns = due_ns_of(source, source->in_flight, wait->timeout_ms, now_ns, &wait->source_due_ns);
    bool is_flush = has_limit_of_flush(wait, target, target_due_ns);
    if (is_flush)
        target_due_ns = wait->flush_due_ns;

    wait->due_ns = ntx_min64(target_due_ns, source_due_ns);
    if (heard_ns < wait->due_ns)
        return 0;
    if (source_due_ns < target_due_ns)
        return timed_out(wait->timeout_ms, source, err);
    return is_flush ? flush_timed_out(wait->flush_timeout_ms, target, err) : timed_out(wait->timeout_ms, target, err);
}

int ntx_wait(struct ntx_wait *wait, struct ntx_device *source, struct ntx_device *target, uint64_t now_ns,
             uint64_t interval_ns, struct ntx_error *err)
{
    struct pollfd fds[3] = {
        {.fd = source->in_flight > 0 ? source->fd : -1, .events = source->events},
        {.fd = target->in_flight > 0 ? target->fd : -1, .events = target->events},
        {.fd = wait->stop_fd, .events = POLLIN},
    };
    int rc = ntx_wait_check(wait, source, target, now_ns, now_ns, err);
    uint64_t until_ns = wait->due_ns;

    if (rc < 0)
        return rc;
    if ((source->in_flight > 0 && source->is_ready) || (target->in_flight > 0 && target->is_ready))
        return 0;
    if (wait->limited_until_ns > now_ns)
        until_ns = ntx_min64(until_ns, wait->limited_until_ns);
    bool waits_for_end = source->in_flight > 0 || target->in_flight > 0;
    if (until_ns == UINT64_MAX && !waits_for_end) /* the rate limit, all that was waited for, has just ended */
        return 0;
    if (interval_ns != UINT64_MAX)
        until_ns = ntx_min64(until_ns, now_ns + interval_ns);
    poll_until(fds, 3, now_ns, until_ns);
    return 0;
}

void ntx_wait_for_device(const struct ntx_device *device, const struct ntx_stop *stop, uint64_t now_ns,
                         uint64_t until_ns)
{
    struct pollfd ready[2] = {
        {.fd = device->fd, .events = device->events},
        {.fd = ntx_stop_is_set(stop) ? -1 : stop->fd, .events = POLLIN},
    };

    if (!device->is_ready)
        poll_until(ready, 2, now_ns, until_ns);
}
