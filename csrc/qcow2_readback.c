/* qcow2_readback.c: what was written to an image that is not whole yet, found by its map. */
#include "bytes.h"
#include "file_io.h"
#include "qcow2_image.h"
#include "qcow2_unpack.h"

#include <errno.h>

#define ENTRIES_AT_ONCE 512u

/* Clusters from the first entry on that are all zero, or lie behind each other. */
static unsigned run_of(const uint8_t *entries, unsigned count)
{
    uint64_t first = ntx_get64(entries), step = (first & NTX_QCOW2_OFFSET) != 0 ? NTX_QCOW2_CLUSTER : 0;
    unsigned run = 1;

    while ((first & NTX_QCOW2_COMPRESSED) == 0 && run < count && ntx_get64(entries + 8 * run) == first + run * step)
        run++;
    return run;
}

/* One compressed cluster.  What unpacks it is made for it alone: few are read back so. */
static int read_packed(const struct ntx_qcow2_image *image, uint64_t entry, uint64_t length, uint8_t *data)
{
    struct ntx_qcow2_unpacker *unpacker = ntx_qcow2_unpacker_new();
    struct ntx_qcow2_packed packed = {.fd = image->fd};
    uint64_t at, last;
    const char *what;
    int code = ntx_qcow2_check_entry(entry, atomic_load(&image->end), &last);

    packed.place = ntx_qcow2_compressed_place(entry, &packed.length);
    packed.end = packed.place + packed.length;
    if (code == 0)
        code = unpacker == NULL ? -ENOMEM : ntx_qcow2_unpack(unpacker, &packed, 0, data, (uint32_t)length, &at, &what);
    ntx_qcow2_unpacker_free(unpacker);
    return code == -ENODATA ? -EIO : code;
}

static int read_run(const struct ntx_qcow2_image *image, uint64_t entry, unsigned count, uint64_t length, uint8_t *data)
{
    uint64_t end = atomic_load(&image->end), last, at = entry & NTX_QCOW2_OFFSET;

    if ((entry & NTX_QCOW2_COMPRESSED) != 0)
        return read_packed(image, entry, length, data);
    if (ntx_qcow2_check_entry(entry, end, &last) != 0)
        return -EBADMSG;
    if (last == 0) {
        memset(data, 0, length);
        return 0;
    }
    if ((count - 1) * (uint64_t)NTX_QCOW2_CLUSTER > end - last)
        return -EBADMSG;
    int code = ntx_read_at(image->fd, data, length, &at);
    return code == -ENODATA ? -EIO : code;
}

int ntx_qcow2_image_read(struct ntx_qcow2_image *image, uint64_t offset, uint64_t length, uint8_t *data)
{
    uint8_t entries[8 * ENTRIES_AT_ONCE];
    int code = image->backing_name[0] != '\0' ? -ENOTSUP : 0;

    while (code == 0 && length > 0) {
        unsigned count = (unsigned)ntx_min64(ntx_qcow2_clusters(length), ENTRIES_AT_ONCE);
        code = ntx_qcow2_map_get(&image->map, offset / NTX_QCOW2_CLUSTER, count, entries);
        for (unsigned i = 0, run; code == 0 && i < count; i += run) {
            run = run_of(entries + 8 * i, count - i);
            uint64_t part = ntx_min64((uint64_t)run * NTX_QCOW2_CLUSTER, length);
            code = read_run(image, ntx_get64(entries + 8 * i), run, part, data);
            data += part;
            offset += part;
            length -= part;
        }
    }
    return code;
}
