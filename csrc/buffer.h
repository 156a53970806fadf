/*
 * buffer.h: a fixed number of equal, page-aligned buffers in one region.
 *
 *   region   [ buffer 0 ][ buffer 1 ] ... [ buffer N-1 ]
 *   free     a stack of the numbers of those that nobody holds
 *
 * The region comes zeroed from the kernel and not from the heap: whatever a faulty reply leaves unwritten can only
 * be zeros or earlier payload of the same pool, never keys or pointers.  Buffers that nobody holds are poisoned
 * where AddressSanitizer watches.  A pool belongs to one thread.
 */
#ifndef NTX_BUFFER_H
#define NTX_BUFFER_H

#include "ntx.h"

struct ntx_buffers;

/* Bytes that so many take; 0: sizes that no memory could hold, or neither count nor size may be 0. */
size_t ntx_buffers_bytes(unsigned count, size_t buffer_size);

/* Map count buffers of buffer_size bytes, neither 0.  NULL: no memory, or sizes that no memory could hold. */
struct ntx_buffers *ntx_buffers_new(unsigned count, size_t buffer_size);

/* One that nobody holds, the most recently used first (it may still be in the cache), or NULL. */
void *ntx_buffers_take(struct ntx_buffers *pool);

/* Give one back that was taken.  NULL is allowed. */
void ntx_buffers_give(struct ntx_buffers *pool, void *buffer);

/* Release the region, with whatever is still held.  NULL is allowed. */
void ntx_buffers_free(struct ntx_buffers *pool);

#endif
