/* nbd_slot.c: see nbd_slot.h. */
#include "nbd_slot.h"

#include "nbd_proto.h"

_Static_assert(NTX_MAX_IN_FLIGHT == 64, "the free slots are the bits of one word");

void ntx_nbd_slots_init(struct ntx_nbd_slots *slots)
{
    slots->free = UINT64_MAX;
    slots->used = 0;
    slots->reads = 0;
    slots->sequence = 0;
    slots->newest_ended = 0;
    slots->newest_payload = NULL;
    for (unsigned i = 0; i < NTX_MAX_IN_FLIGHT; i++) {
        slots->items[i].io = NULL;
        slots->items[i].generation = 0;
    }
}

struct ntx_nbd_slot *ntx_nbd_slots_acquire(struct ntx_nbd_slots *slots, struct ntx_io *io, uint16_t command)
{
    if (slots->free == 0)
        return NULL;

    unsigned index = (unsigned)__builtin_ctzll(slots->free);
    struct ntx_nbd_slot *slot = &slots->items[index];

    slots->free &= ~(1ull << index);
    slots->used++;
    slots->reads += command == NBD_CMD_READ;
    slot->io = io;
    slot->sequence = ++slots->sequence;
    slot->generation++;
    slot->command = command;
    slot->is_sent = false;
    slot->offset = 0;
    slot->length = 0;
    slot->chunks = 0;
    slot->error_chunks = 0;
    slot->error = 0;
    slot->has_status = false;
    slot->map_is_full = false;
    slot->text[0] = '\0';
    slot->coverage.count = 0;
    return slot;
}

void ntx_nbd_slots_release(struct ntx_nbd_slots *slots, struct ntx_nbd_slot *slot)
{
    unsigned index = (unsigned)(slot - slots->items);

    slots->free |= 1ull << index;
    slots->used--;
    slots->reads -= slot->command == NBD_CMD_READ;
    if (slot->sequence > slots->newest_ended) {
        slots->newest_ended = slot->sequence;
        slots->newest_payload = slot->command == NBD_CMD_WRITE ? slot->io->data : NULL;
    }
    slot->io = NULL;
}

uint64_t ntx_nbd_slots_cookie(const struct ntx_nbd_slots *slots, const struct ntx_nbd_slot *slot)
{
    return (uint64_t)slot->generation << 32 | (uint64_t)(slot - slots->items);
}

struct ntx_nbd_slot *ntx_nbd_slots_find(struct ntx_nbd_slots *slots, uint64_t cookie)
{
    uint32_t index = (uint32_t)cookie;

    if (index >= NTX_MAX_IN_FLIGHT)
        return NULL;

    struct ntx_nbd_slot *slot = &slots->items[index];
    bool is_awaited = slot->io != NULL && slot->is_sent && slot->generation == cookie >> 32;
    return is_awaited ? slot : NULL;
}
