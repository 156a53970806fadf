/*
 * device_ring.h: reads in flight on a descriptor that is read past the page cache.  Blocking calls have one each
 * thread; a ring keeps as many as are asked for, at half the cost (bench/notes/paths.md).
 *
 *   read --> ring --> the kernel fills the buffer meanwhile --> fd polls readable --> next
 *
 * Not every system permits it (kernels before 5.6, containers, hardened hosts): then there is no ring, and the caller
 * reads with blocking calls.
 */
#ifndef NTX_DEVICE_RING_H
#define NTX_DEVICE_RING_H

#include "ntx.h"

struct ntx_ring;

/* A ring for NTX_MAX_IN_FLIGHT reads, or NULL: the system does not permit one, or not to use it. */
struct ntx_ring *ntx_ring_new(void);

/* Reads in flight are given up: their buffers may be written until they end, and the kernel holds the pages. */
void ntx_ring_free(struct ntx_ring *ring);

/* Polls readable while ntx_ring_next() has something. */
int ntx_ring_fd(const struct ntx_ring *ring);

/*
 * Begin a read; token comes back with its end.  Submit and take ends in one thread: reads of a thread end with it.
 * Errors: 0, or -errno: it was not begun.
 */
int ntx_ring_read(struct ntx_ring *ring, int fd, void *data, uint64_t length, uint64_t offset, void *token);

/* Take the end of one read: its token, and in *result bytes or -errno.  NULL: none has ended. */
void *ntx_ring_next(struct ntx_ring *ring, int64_t *result);

#endif
