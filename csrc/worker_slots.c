/* worker_slots.c: see worker_slots.h. */
#include "worker_slots.h"

#include <errno.h>
#include <stdlib.h>

int ntx_slots_init(struct ntx_slots *slots, unsigned count, size_t size)
{
    *slots = (struct ntx_slots){.size = size};
    slots->buffers = ntx_buffers_new(count + 1, size);
    slots->all = calloc(count, sizeof *slots->all);
    if (slots->buffers == NULL || slots->all == NULL)
        return -ENOMEM;
    slots->spare = ntx_buffers_take(slots->buffers);
    for (unsigned i = 0; i < count; i++) {
        slots->all[i].data = ntx_buffers_take(slots->buffers);
        slots->all[i].next = slots->free;
        slots->free = &slots->all[i];
    }
    return 0;
}

void ntx_slots_destroy(struct ntx_slots *slots)
{
    free(slots->all);
    ntx_buffers_free(slots->buffers);
}

/* The memory of one slot may not be written yet.  Then the slot goes on with the spare, which by now has been read: it
 * held what was answered before. */
static void leave_unread(struct ntx_slots *slots, struct ntx_slot *slot, const void *unread)
{
    const char *at = unread;
    char *data = slot->data;

    if (at == NULL || at < data || at >= data + slots->size)
        return;
    slot->data = slots->spare;
    slots->spare = data;
}

void ntx_slots_give_back(struct ntx_slots *slots, struct ntx_slot *slot, const void *unread)
{
    leave_unread(slots, slot, unread);
    slot->next = slots->free;
    slots->free = slot;
    slots->used--;
    slots->completed++;
}
