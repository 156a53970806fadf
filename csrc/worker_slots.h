/* worker_slots.h: the buffers of one worker.  A slot holds a span from its read until all of it has been sent. */
#ifndef NTX_WORKER_SLOTS_H
#define NTX_WORKER_SLOTS_H

#include "buffer.h"
#include "device.h"
#include "worker_span.h"

struct ntx_slot {
    void *data; /* request_size bytes, page-aligned */
    struct ntx_io read;
    struct ntx_span span;
    unsigned writes; /* in flight out of data */
    bool emitted;    /* all of it was submitted */
    struct ntx_slot *next;
};

struct ntx_slots {
    struct ntx_buffers *buffers;
    size_t size; /* of one buffer */
    void *spare; /* for a slot whose own memory the target may not have read; max_buffer_bytes does not count it */
    struct ntx_slot *all, *free;
    unsigned used;      /* slots that are not free */
    unsigned limit;     /* slots that may be used in this pass */
    uint64_t completed; /* slots that were filled and emptied, since the scheduler was told */
};

/* Errors: -ENOMEM.  Undone by ntx_slots_destroy(), also after a failure. */
int ntx_slots_init(struct ntx_slots *slots, unsigned count, size_t size);
void ntx_slots_destroy(struct ntx_slots *slots);

static inline bool ntx_slots_may_take(const struct ntx_slots *slots)
{
    return slots->free != NULL && slots->used < slots->limit;
}

static inline struct ntx_slot *ntx_slots_take(struct ntx_slots *slots)
{
    struct ntx_slot *slot = slots->free;

    slots->free = slot->next;
    slots->used++;
    slot->writes = 0;
    slot->emitted = false;
    return slot;
}

/* The slot is empty.  unread: the memory that the target has answered for and perhaps not read, or NULL. */
void ntx_slots_give_back(struct ntx_slots *slots, struct ntx_slot *slot, const void *unread);

#endif
