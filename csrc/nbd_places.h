/*
 * nbd_places.h: where the connections of one device go.  Shared by all of them, whichever thread they belong to.
 *
 *   places   [0] [1] [2]
 *   open      *              the first connection
 *   clones        *   *   and round again
 */
#ifndef NTX_NBD_PLACES_H
#define NTX_NBD_PLACES_H

#include "ntx.h"

#include <stdatomic.h>

struct ntx_nbd_places {
    const char *export_name;
    size_t count;
    _Atomic size_t taken;   /* by connections, also those that failed */
    _Atomic unsigned users; /* the last one frees */
    struct ntx_nbd_place items[];
};

/*
 * Copy places and all their strings.
 * Ownership: the caller is the first user.
 * Units:     count at least 1.
 * Threads:   any.
 * Errors:    NULL: no memory.
 */
struct ntx_nbd_places *ntx_nbd_places_new(const struct ntx_nbd_place *places, size_t count, const char *export_name);

/* Become another user, and stop being one; any thread. */
struct ntx_nbd_places *ntx_nbd_places_share(struct ntx_nbd_places *places);
void ntx_nbd_places_release(struct ntx_nbd_places *places);

/* The place of the next connection; any thread.  Lives as long as places. */
const struct ntx_nbd_place *ntx_nbd_places_next(struct ntx_nbd_places *places);

#endif
