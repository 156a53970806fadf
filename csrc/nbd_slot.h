/*
 * nbd_slot.h: the requests in flight on one connection.
 *
 *   cookie = generation of the slot (32 bits) | index of the slot (32 bits)
 *
 * A slot's generation grows with every request, so that an answer to a request that has ended is recognised.
 */
#ifndef NTX_NBD_SLOT_H
#define NTX_NBD_SLOT_H

#include "device.h"
#include "nbd_coverage.h"

#define NTX_NBD_REPLY_TEXT 128u /* of a server's explanation, what a message has room for */

struct ntx_nbd_slot {
    struct ntx_io *io; /* NULL: the slot is free */
    uint64_t sequence; /* of requests, in the order of the stream */
    uint32_t generation;
    uint16_t command; /* NBD_CMD_* */
    bool is_sent;     /* the stream has taken the whole request; only then may an answer come */
    uint64_t offset;
    uint32_t length; /* as asked of the server; a MAP may ask for less than the io */

    /* The reply so far. */
    uint32_t chunks;
    uint32_t error_chunks;
    int error; /* negative errno of the first error chunk, or 0 */
    bool has_status;
    bool map_is_full;
    uint64_t map_end;                 /* MAP: what the caller's list held before, ... */
    size_t map_count;                 /* ... to be restored if the request fails */
    char text[NTX_NBD_REPLY_TEXT];    /* with .error: what the server said of it */
    struct ntx_nbd_coverage coverage; /* READ: what has been answered */
};

struct ntx_nbd_slots {
    struct ntx_nbd_slot items[NTX_MAX_IN_FLIGHT];
    uint64_t free;  /* bit per slot */
    unsigned used;  /* requests in flight */
    unsigned reads; /* of these, READ: a payload will come */

    /* Of the requests that ended, the one that was sent last.  Its answer shows that the peer has read all that came
     * before it in the stream, and its header; of its payload it shows nothing. */
    uint64_t sequence, newest_ended; /* of the last one acquired; of that one */
    const void *newest_payload;      /* NULL: it had none */
};

void ntx_nbd_slots_init(struct ntx_nbd_slots *slots);

/* A slot for io, with a new cookie and an empty reply; NULL when NTX_MAX_IN_FLIGHT are in use. */
struct ntx_nbd_slot *ntx_nbd_slots_acquire(struct ntx_nbd_slots *slots, struct ntx_io *io, uint16_t command);
void ntx_nbd_slots_release(struct ntx_nbd_slots *slots, struct ntx_nbd_slot *slot);

uint64_t ntx_nbd_slots_cookie(const struct ntx_nbd_slots *slots, const struct ntx_nbd_slot *slot);

/* The slot that waits for an answer to cookie, or NULL: never sent, or ended. */
struct ntx_nbd_slot *ntx_nbd_slots_find(struct ntx_nbd_slots *slots, uint64_t cookie);

#endif
