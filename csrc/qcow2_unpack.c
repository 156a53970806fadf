/* qcow2_unpack.c: see qcow2_unpack.h. */
#include "qcow2_unpack.h"

#include "file_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define NO_IMAGE UINT32_MAX
#define CONTEXT_BYTES (128u * NTX_KIB) /* of zstd: 94 KiB of 1.5.4; none grows with what is unpacked */

struct ntx_qcow2_unpacker {
    ZSTD_DCtx *context;
    /* What of a file is in .frames, and which cluster in .cluster. */
    uint32_t frames_image, cluster_image;
    uint64_t frames_place, frames_end, cluster_place;
    uint8_t frames[NTX_QCOW2_PACKED_READ];
    uint8_t cluster[NTX_QCOW2_CLUSTER];
};

size_t ntx_qcow2_unpacker_bytes(void)
{
    return sizeof(struct ntx_qcow2_unpacker) + CONTEXT_BYTES;
}

struct ntx_qcow2_unpacker *ntx_qcow2_unpacker_new(void)
{
    struct ntx_qcow2_unpacker *unpacker = malloc(sizeof *unpacker);

    if (unpacker == NULL)
        return NULL;
    unpacker->frames_image = unpacker->cluster_image = NO_IMAGE;
    unpacker->context = ZSTD_createDCtx();
    if (unpacker->context == NULL) {
        free(unpacker);
        return NULL;
    }
    return unpacker;
}

void ntx_qcow2_unpacker_free(struct ntx_qcow2_unpacker *unpacker)
{
    if (unpacker == NULL)
        return;
    ZSTD_freeDCtx(unpacker->context);
    free(unpacker);
}

/* Have what is packed in .frames. */
static int read_frames(struct ntx_qcow2_unpacker *unpacker, const struct ntx_qcow2_packed *packed, uint64_t *at)
{
    if (unpacker->frames_image == packed->image && packed->place >= unpacker->frames_place &&
        packed->place + packed->length <= unpacker->frames_end)
        return 0;
    unpacker->frames_image = NO_IMAGE;
    *at = packed->place;
    int code = ntx_read_at(packed->fd, unpacker->frames, packed->end - packed->place, at);
    if (code != 0)
        return code;
    unpacker->frames_image = packed->image;
    unpacker->frames_place = packed->place;
    unpacker->frames_end = packed->end;
    return 0;
}

/* Returns what is wrong with the frame, or NULL.  Behind it is what fills its last sector. */
static const char *unpack(ZSTD_DCtx *context, const uint8_t *frame, size_t length, uint8_t *cluster)
{
    static const uint8_t magic[] = {0x28, 0xb5, 0x2f, 0xfd}; /* the library may know others: older formats */

    if (length < sizeof magic || memcmp(frame, magic, sizeof magic) != 0)
        return "a compressed cluster that is no zstd frame";
    size_t exact = ZSTD_findFrameCompressedSize(frame, length);
    if (ZSTD_isError(exact))
        return "a compressed cluster that is damaged, or cut off";
    if (ZSTD_decompressDCtx(context, cluster, NTX_QCOW2_CLUSTER, frame, exact) != NTX_QCOW2_CLUSTER)
        return "a compressed cluster that is damaged, or not of 64 KiB";
    return NULL;
}

int ntx_qcow2_unpack(struct ntx_qcow2_unpacker *unpacker, const struct ntx_qcow2_packed *packed, uint32_t offset,
                     void *data, uint32_t length, uint64_t *at, const char **what)
{
    bool is_whole = length == NTX_QCOW2_CLUSTER;
    uint8_t *cluster = is_whole ? data : unpacker->cluster;

    *what = NULL;
    if (is_whole || unpacker->cluster_image != packed->image || unpacker->cluster_place != packed->place) {
        int code = read_frames(unpacker, packed, at);
        if (code != 0)
            return code;
        if (!is_whole)
            unpacker->cluster_image = NO_IMAGE;
        *at = packed->place;
        *what = unpack(unpacker->context, unpacker->frames + (packed->place - unpacker->frames_place), packed->length,
                       cluster);
        if (*what != NULL)
            return -EUCLEAN;
    }
    if (is_whole)
        return 0;
    unpacker->cluster_image = packed->image;
    unpacker->cluster_place = packed->place;
    memcpy(data, unpacker->cluster + offset, length);
    return 0;
}
