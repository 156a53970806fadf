/* nbd_export.c: see nbd_export.h. */
#include "nbd_export.h"

#include "bytes.h"
#include "error.h"
#include "nbd_proto.h"

#include <errno.h>
#include <inttypes.h>

/*
 * What to assume of a server that names no limits.  A server should then accept any alignment, and a client should
 * keep to 512 bytes (proto.md "Size constraints").  Both are kept where the size permits: 512 is lowered only to
 * the largest power of two that divides the size, because the last bytes of a 511-byte export could otherwise never
 * be asked for.  A server that needs 512 has a size that is a multiple of it.
 */
static void assume_block_sizes(struct ntx_nbd_export *export)
{
    uint64_t lowest_bit = export->size & (~export->size + 1);

    export->min_block = NBD_DEFAULT_MIN_BLOCK;
    if (lowest_bit != 0 && lowest_bit < NBD_DEFAULT_MIN_BLOCK)
        export->min_block = (uint32_t)lowest_bit;
    export->preferred_block = NBD_DEFAULT_PREFERRED_BLOCK;
    export->max_payload = NBD_DEFAULT_MAX_PAYLOAD;
}

static int check_block_sizes(const struct ntx_nbd_export *export, const char *name, struct ntx_error *err)
{
    bool is_min_good = ntx_is_power_of_two(export->min_block) && export->min_block <= NBD_MAX_MIN_BLOCK;
    bool is_preferred_good =
        ntx_is_power_of_two(export->preferred_block) && export->preferred_block >= export->min_block;

    if (is_min_good && is_preferred_good && export->max_payload >= export->min_block)
        return 0;
    return ntx_error_set(err, NTX_E_PROTOCOL, -EPROTO,
                         "%s: handshake failed: the server broke the protocol: block sizes minimum %" PRIu32
                         " preferred %" PRIu32 " maximum %" PRIu32,
                         name, export->min_block, export->preferred_block, export->max_payload);
}

int ntx_nbd_export_settle(struct ntx_nbd_export *export, bool has_block_sizes, const char *name, struct ntx_error *err)
{
    if (export->size > NTX_MAX_DEVICE_SIZE)
        return ntx_error_set(err, NTX_E_NEGOTIATION, -EOVERFLOW,
                             "%s: opening the export failed: a size of %" PRIu64 " bytes is more than the %" PRIu64
                             " that can be handled",
                             name, export->size, (uint64_t)NTX_MAX_DEVICE_SIZE);
    if (!has_block_sizes)
        assume_block_sizes(export);
    int result = check_block_sizes(export, name, err);
    if (result != 0)
        return result;
    /* The last bytes could not be asked for, and a copy without them would look whole. */
    if ((export->size & (export->min_block - 1)) != 0)
        return ntx_error_set(err, NTX_E_NEGOTIATION, -ENOTSUP,
                             "%s: opening the export failed: its size of %" PRIu64
                             " bytes is not a multiple of its minimum block of %" PRIu32
                             " bytes, so its end cannot be reached",
                             name, export->size, export->min_block);
    export->max_payload =
        (uint32_t)ntx_round_down(ntx_min64(export->max_payload, NTX_MAX_REQUEST_SIZE), export->min_block);
    while (export->preferred_block > export->max_payload && export->preferred_block > export->min_block)
        export->preferred_block /= 2; /* the server prefers what it forbids: stay below what it forbids */
    return 0;
}
