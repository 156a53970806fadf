/* nbd_rx.c: see nbd_rx.h. */
#include "nbd_rx.h"

#include "error.h"
#include "nbd_proto.h"

#include <errno.h>
#include <stdio.h>

void ntx_nbd_rx_init(struct ntx_nbd_rx *rx, struct ntx_device *device, struct ntx_nbd_slots *slots,
                     const struct ntx_nbd_export *export)
{
    rx->device = device;
    rx->slots = slots;
    rx->export = export;
    rx->state = NTX_NBD_RX_HEADER;
    rx->slot = NULL;
    rx->start = 0;
    rx->end = 0;
}

/* The request has been answered; returns its io. */
static struct ntx_io *end_request(struct ntx_nbd_rx *rx)
{
    struct ntx_io *io = rx->slot->io;

    ntx_nbd_slots_release(rx->slots, rx->slot);
    rx->device->unread = rx->slots->newest_payload;
    rx->slot = NULL;
    return io;
}

void ntx_nbd_rx_complete(struct ntx_nbd_rx *rx)
{
    ntx_device_complete(rx->device, end_request(rx), 0);
}

/* A failed request leaves the caller's list as it was. */
static void restore_map(const struct ntx_nbd_slot *slot)
{
    struct ntx_extents *map = slot->io->map;

    map->count = slot->map_count;
    map->end = slot->map_end;
    if (map->count > 0)
        map->items[map->count - 1].length = map->end - map->items[map->count - 1].offset;
}

int ntx_nbd_rx_refuse(struct ntx_nbd_rx *rx, struct ntx_error *err)
{
    struct ntx_nbd_slot *slot = rx->slot;
    char text[128], cause[2 * NTX_NBD_REPLY_TEXT + sizeof text];

    if (slot->error == -ESHUTDOWN) {
        ntx_error_set(err, NTX_E_DEVICE, -ESHUTDOWN, "%s: the server is shutting down with %u requests in flight",
                      rx->device->info.name, rx->slots->used);
        return ntx_error_at(err, slot->offset, slot->length);
    }
    ntx_errno_text(slot->error, text, sizeof text);
    if (slot->text[0] != '\0')
        snprintf(cause, sizeof cause, "%s (the server says: %s)", text, slot->text);
    else
        snprintf(cause, sizeof cause, "%s", text);

    if (slot->command == NBD_CMD_BLOCK_STATUS)
        restore_map(slot);
    int code = slot->error;
    ntx_device_complete_failed(rx->device, end_request(rx), NTX_E_REPLY, code, cause);
    return 0;
}

int ntx_nbd_rx_broken(struct ntx_nbd_rx *rx, struct ntx_error *err, const char *what)
{
    ntx_error_set(err, NTX_E_PROTOCOL, -EPROTO, "%s: the server broke the protocol: %s", rx->device->info.name, what);
    return rx->slot != NULL ? ntx_error_at(err, rx->slot->offset, rx->slot->length) : err->code;
}
