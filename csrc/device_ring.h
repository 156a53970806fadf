/*
 * device_ring.h: reads and writes in flight on a descriptor that bypasses the page cache.  Blocking calls have one each
 * thread; a ring keeps as many as are asked for, at half the cost (bench/notes/paths.md).
 *
 *   read, write --> ring --> the kernel fills or takes the buffer meanwhile --> fd polls readable --> next
 *
 * Not every system permits it (kernels before 5.6, containers, hardened hosts): then there is no ring, and the caller
 * makes blocking calls.
 */
#ifndef NTX_DEVICE_RING_H
#define NTX_DEVICE_RING_H

#include "ntx.h"

struct ntx_ring;

/* Bytes of a write that are well spent: it costs CPU for itself, besides its bytes (bench/notes/images.md). */
#define NTX_RING_WRITE (2u * NTX_MIB)

/* Memory that a ring takes: its queues, of 64 and 128 entries, and what the library keeps. */
#define NTX_RING_BYTES (16u * NTX_KIB)

/* A ring for NTX_MAX_IN_FLIGHT requests, or NULL: the system does not permit one, or not to use it. */
struct ntx_ring *ntx_ring_new(void);

/* What is in flight is given up: the buffers of reads may be written until they end, and the kernel holds the pages. */
void ntx_ring_free(struct ntx_ring *ring);

/* Wait for the end of all that is in flight, however it ends.  Blocks as long as the device does. */
void ntx_ring_drain(struct ntx_ring *ring);

/* Polls readable while ntx_ring_next() has something. */
int ntx_ring_fd(const struct ntx_ring *ring);

/*
 * Begin a read, or a write; token comes back with its end.  Submit and take ends in one thread: what a thread has begun
 * ends with it.
 * Errors: 0, or -errno: it was not begun.
 */
int ntx_ring_read(struct ntx_ring *ring, int fd, void *data, uint64_t length, uint64_t offset, void *token);
int ntx_ring_write(struct ntx_ring *ring, int fd, const void *data, uint64_t length, uint64_t offset, void *token);

/*
 * Take the end of one: its token, and in *result bytes or -errno.  NULL: none has ended.
 * LIMIT: with fewer bytes than were asked for, none of them is sure.  The kernel goes on by itself after a part, and on
 * FUSE from a wrong place in the buffer (6.18; a blocking call does not).  The counts do not fit then, so that a result
 * of all bytes is right.
 */
void *ntx_ring_next(struct ntx_ring *ring, int64_t *result);

#endif
