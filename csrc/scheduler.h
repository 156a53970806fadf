/*
 * scheduler.h: hands out the work of one job to its threads, and holds what they share under the only lock.
 *
 *   lock ---- plan, pace, checkpoint, first error  (handed out, chosen and kept under the lock)
 *   share ---- of the rate limit, which has a lock of its own
 *   stop      the job ends, for an error or for the caller: every poll() has it
 *   stop_connecting   no more connections are wanted: all work is handed out, or the job ends
 *   cancel    the caller wants it: then nothing that comes after the work is worth waiting for
 *   done_fd   tells the caller: wants extents, or finished
 */
#ifndef NTX_SCHEDULER_H
#define NTX_SCHEDULER_H

#include "checkpoint.h"
#include "limiter.h"
#include "ntx.h"
#include "pace.h"
#include "plan.h"
#include "stop.h"

#include <pthread.h>
#include <stdatomic.h>

/* How long a flush may take. */
static inline unsigned ntx_flush_timeout_ms(const struct ntx_limits *limits)
{
    return limits->flush_timeout_ms > 0 ? limits->flush_timeout_ms : INT32_MAX;
}

struct ntx_scheduler {
    struct ntx_job_options options; /* as chosen; the same for the life of the job */
    uint64_t size;                  /* of the disk */
    unsigned in_flight;             /* requests, and slots, per connection: the most there may be */
    struct ntx_share share;         /* of the rate limit */

    pthread_mutex_t lock;
    pthread_cond_t more;              /* extents were fed, or the feed ended, or the job stops */
    struct ntx_plan plan;             /* lock */
    struct ntx_pace pace;             /* lock */
    struct ntx_checkpoint checkpoint; /* lock */
    struct ntx_error error;           /* lock: the first one */
    bool wants_extents_told;          /* lock */

    /* Workers have a rank, in the order in which they got their connections; those with a low one work. */
    unsigned connected, connecting; /* lock */
    unsigned at_work;               /* lock: connected and not at their end */
    bool first_has_left;            /* lock: the worker of rank 0 is at its end */
    unsigned refused;               /* lock: connections that could not be had, */
    struct ntx_error refusal;       /* lock: and why the first of them could not */
    bool lacked_extents;            /* lock: a worker found none, since the pace was last updated */

    /* What the pace is now, and what it is told. */
    _Atomic unsigned active, slot_limit; /* workers of a lower rank work; slots that each may use */
    _Atomic bool starting;               /* slot_limit may change at any time */
    _Atomic uint64_t completions, waiting_ns, pace_due_ns;
    _Atomic uint64_t busy_ranks;        /* a bit for each worker that has a work range */
    _Atomic unsigned checkpoints_asked; /* as checkpoint.asked */
    _Atomic uint64_t flush_ns;          /* of checkpoints */

    struct ntx_stop stop, stop_connecting, cancel;
    int done_fd;
};

/* options, size, in_flight and pace.limits are filled in already.
 * Errors: 0, -ENOMEM, -EMFILE.  Undone by ntx_scheduler_destroy(), also after a failure. */
int ntx_scheduler_init(struct ntx_scheduler *scheduler, const struct ntx_range_bytes *range_bytes,
                       struct ntx_error *err);
void ntx_scheduler_destroy(struct ntx_scheduler *scheduler);

/* For the feeder: see ntx_job_feed(). */
int ntx_scheduler_feed(struct ntx_scheduler *scheduler, const struct ntx_extent *extents, size_t count, size_t *taken,
                       struct ntx_error *err);
void ntx_scheduler_feed_end(struct ntx_scheduler *scheduler);
/* There is nothing at end or behind it: what was fed and not taken lies there, and no more will come. */
void ntx_scheduler_cut(struct ntx_scheduler *scheduler, uint64_t end);
bool ntx_scheduler_wants_extents(struct ntx_scheduler *scheduler);

/* Next work range for the worker of that rank; waits for the feed, and while no more workers than its rank are
 * active.  NTX_TAKE_WAIT only when may_wait is false, the job stops, or it has to tell of more than `checkpoint`. */
enum ntx_take ntx_scheduler_take(struct ntx_scheduler *scheduler, unsigned rank, struct ntx_work_range *range,
                                 bool may_wait, unsigned checkpoint);

/* The worker of that rank has no work range any more. */
void ntx_scheduler_release_range(struct ntx_scheduler *scheduler, unsigned rank);

/* Wait until one more connection is wanted; false when there will be nothing to do for it.  After true, and for the
 * first worker, which has one, say how it went: add_connection() returns the worker's rank, and the number of
 * checkpoints that are not its concern; after give_up_connection() the job goes on with those there are. */
bool ntx_scheduler_await_connection_wanted(struct ntx_scheduler *scheduler);
unsigned ntx_scheduler_add_connection(struct ntx_scheduler *scheduler, unsigned *checkpoint);
void ntx_scheduler_give_up_connection(struct ntx_scheduler *scheduler, const struct ntx_error *why);

/* See ntx_job_checkpoint(). */
bool ntx_scheduler_ask_checkpoint(struct ntx_scheduler *scheduler);

/* The worker of that rank holds nothing below low, and has told so of *checkpoint before.  Not taken from the first
 * worker before all others have told.  true: it has to flush and then to make the checkpoint. */
bool ntx_scheduler_tell_checkpoint(struct ntx_scheduler *scheduler, unsigned rank, unsigned *checkpoint, uint64_t low);
void ntx_scheduler_make_checkpoint(struct ntx_scheduler *scheduler, uint64_t flush_ns);

/* The worker of that rank has come to its end: it holds nothing, and is not asked any more.  With the first one
 * checkpoints end: nobody flushes for one that is under way. */
void ntx_scheduler_leave(struct ntx_scheduler *scheduler, unsigned rank, unsigned *checkpoint);

/* See ntx_job_refused(). */
unsigned ntx_scheduler_refused(struct ntx_scheduler *scheduler, struct ntx_error *first);

/* Fill in what progress says of connections and requests in flight. */
void ntx_scheduler_get_pace(struct ntx_scheduler *scheduler, struct ntx_job_progress *progress);

/* Let the pace judge the counters, if it is time. */
void ntx_scheduler_update_pace(struct ntx_scheduler *scheduler, uint64_t now_ns);

/* After the last worker, when the closing flush was confirmed: nothing is open below low. */
void ntx_scheduler_set_stored_to(struct ntx_scheduler *scheduler, uint64_t low);

/* Record an error, if it is the first, and stop everybody. */
void ntx_scheduler_fail(struct ntx_scheduler *scheduler, const struct ntx_error *err);

/* The same because the caller wants it; whoever sees that the job stops, sees that it is cancelled. */
void ntx_scheduler_cancel(struct ntx_scheduler *scheduler);

#endif
