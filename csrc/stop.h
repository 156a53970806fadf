/*
 * stop.h: something is to end early.  Asked for once, by any thread, and never taken back: a flag for who works, and a
 * descriptor for who waits, which polls readable from then on.
 */
#ifndef NTX_STOP_H
#define NTX_STOP_H

#include <stdatomic.h>
#include <stdbool.h>

struct ntx_stop {
    _Atomic bool is_set;
    int fd;
};

/* Errors: 0, or -EMFILE, -ENFILE, -ENOMEM.  Undone by ntx_stop_destroy(), also after a failure. */
int ntx_stop_init(struct ntx_stop *stop);
void ntx_stop_destroy(struct ntx_stop *stop);

/* Never blocks. */
void ntx_stop_set(struct ntx_stop *stop);

static inline bool ntx_stop_is_set(const struct ntx_stop *stop)
{
    return atomic_load(&stop->is_set);
}

#endif
