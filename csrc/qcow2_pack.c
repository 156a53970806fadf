/* qcow2_pack.c: see qcow2_pack.h. */
#include "qcow2_pack.h"

#include "bytes.h"
#include "file_io.h"

#include <errno.h>
#include <stdlib.h>
#include <zstd.h>

#define ROOM (32u * NTX_QCOW2_CLUSTER) /* one write of two MiB, of which little is left over */
#define ENTRIES_AT_ONCE 128u
#define MOST (NTX_QCOW2_CLUSTER - NTX_QCOW2_CLUSTER / 8) /* a frame that is longer costs more to read than it saves */

/* The bytes of a cluster that are looked at before it is tried.  Of 1024 random ones the squares of how often each
 * occurs add up to 5120; where little is to be gained they add up to not much more. */
#define SAMPLES 1024u
#define RANDOM_SQUARES 5800u
#define TRIAL 8192u /* bytes that are tried where the sample looks random: there may be repetitions all the same */

struct frame {
    uint64_t cluster;    /* of the disk */
    uint32_t at, length; /* in .gathered */
};

struct ntx_qcow2_pack {
    struct ntx_qcow2_image *image;
    int level;
    ZSTD_CCtx *packing;
    ZSTD_DCtx *unpacking;
    uint8_t *gathered; /* ROOM bytes, page-aligned */
    uint8_t *frame, *unpacked;
    uint32_t used; /* bytes of what is gathered */
    struct frame frames[NTX_QCOW2_MAX_FRAMES];
    unsigned count;
    int failed; /* -errno: something was lost */
};

uint32_t ntx_qcow2_pack_bytes(int level)
{
    /* What zstd 1.5.4 takes of memory to compress a cluster, a tenth rounded up; the other way it takes 94 KiB. */
    uint32_t context = level <= 3 ? 768 : level <= 10 ? 1152 : 2048;

    return ROOM + MOST + NTX_QCOW2_CLUSTER + (uint32_t)sizeof(struct ntx_qcow2_pack) + (context + 128) * NTX_KIB;
}

struct ntx_qcow2_pack *ntx_qcow2_pack_new(struct ntx_qcow2_image *image, int level)
{
    struct ntx_qcow2_pack *pack = calloc(1, sizeof *pack);

    if (pack == NULL)
        return NULL;
    pack->image = image;
    pack->level = level;
    pack->packing = ZSTD_createCCtx();
    pack->unpacking = ZSTD_createDCtx();
    pack->gathered = aligned_alloc(4096, ROOM);
    pack->frame = malloc(MOST);
    pack->unpacked = malloc(NTX_QCOW2_CLUSTER);
    if (pack->packing != NULL && pack->unpacking != NULL && pack->gathered != NULL && pack->frame != NULL &&
        pack->unpacked != NULL)
        return pack;
    ntx_qcow2_pack_free(pack);
    return NULL;
}

void ntx_qcow2_pack_free(struct ntx_qcow2_pack *pack)
{
    if (pack == NULL)
        return;
    free(pack->unpacked);
    free(pack->frame);
    free(pack->gathered);
    ZSTD_freeDCtx(pack->unpacking);
    ZSTD_freeCCtx(pack->packing);
    free(pack);
}

/* --------------------------------------------------------------------------------------------- making smaller */

static bool looks_random(const uint8_t *data)
{
    uint16_t counts[256] = {0};
    uint32_t squares = 0;

    for (unsigned i = 0; i < SAMPLES; i++)
        counts[data[i * (NTX_QCOW2_CLUSTER / SAMPLES) + i % 61]]++;
    for (unsigned i = 0; i < 256; i++)
        squares += (uint32_t)counts[i] * counts[i];
    return squares < RANDOM_SQUARES;
}

/* Bytes of the frame, or 0: it is longer than most. */
static size_t make_frame(struct ntx_qcow2_pack *pack, const uint8_t *data, size_t length, size_t most)
{
    size_t made = ZSTD_compressCCtx(pack->packing, pack->frame, most, data, length, pack->level);

    return ZSTD_isError(made) ? 0 : made;
}

static bool is_worth_trying(struct ntx_qcow2_pack *pack, const uint8_t *data)
{
    const uint8_t *middle = data + (NTX_QCOW2_CLUSTER - TRIAL) / 2;

    return !looks_random(data) || make_frame(pack, middle, TRIAL, TRIAL - TRIAL / 16) > 0;
}

static bool gives_back(struct ntx_qcow2_pack *pack, size_t length, const uint8_t *data)
{
    size_t given = ZSTD_decompressDCtx(pack->unpacking, pack->unpacked, NTX_QCOW2_CLUSTER, pack->frame, length);

    return given == NTX_QCOW2_CLUSTER && memcmp(pack->unpacked, data, NTX_QCOW2_CLUSTER) == 0;
}

/* ------------------------------------------------------------------------------------------------- gathering */

int ntx_qcow2_pack_take(struct ntx_qcow2_pack *pack, uint64_t cluster, const uint8_t *data, int fd)
{
    if (pack->failed != 0)
        return pack->failed;
    size_t length = is_worth_trying(pack, data) ? make_frame(pack, data, NTX_QCOW2_CLUSTER, MOST) : 0;
    if (length == 0)
        return 0;
    if (!gives_back(pack, length, data))
        return -EILSEQ;
    bool is_full = pack->used + length > ROOM || pack->count == NTX_QCOW2_MAX_FRAMES;
    int code = is_full ? ntx_qcow2_pack_settle(pack, fd) : 0;
    if (code != 0)
        return code;
    memcpy(pack->gathered + pack->used, pack->frame, length);
    pack->frames[pack->count++] = (struct frame){.cluster = cluster, .at = pack->used, .length = (uint32_t)length};
    pack->used += (uint32_t)length;
    return (int)length;
}

bool ntx_qcow2_pack_has(const struct ntx_qcow2_pack *pack, uint64_t first, uint64_t count)
{
    for (unsigned i = 0; i < pack->count; i++)
        if (pack->frames[i].cluster >= first && pack->frames[i].cluster - first < count)
            return true;
    return false;
}

/* -------------------------------------------------------------------------------------------------- settling */

/* Enter the frames, those of clusters that follow each other with one call. */
static int enter(struct ntx_qcow2_pack *pack, uint64_t host)
{
    uint8_t entries[8 * ENTRIES_AT_ONCE];
    unsigned run = 0;
    int code = 0;

    for (unsigned i = 0; code == 0 && i < pack->count; i++) {
        const struct frame *frame = &pack->frames[i];
        ntx_put64(entries + 8 * run++, ntx_qcow2_compressed_entry(host + frame->at, frame->length));
        if (run < ENTRIES_AT_ONCE && i + 1 < pack->count && frame[1].cluster == frame->cluster + 1)
            continue;
        code = ntx_qcow2_map_put(&pack->image->map, frame->cluster + 1 - run, run, entries);
        run = 0;
    }
    return code;
}

int ntx_qcow2_pack_settle(struct ntx_qcow2_pack *pack, int fd)
{
    uint32_t length = (uint32_t)ntx_round_up(pack->used, NTX_QCOW2_CLUSTER);

    if (length == 0 || pack->failed != 0)
        return pack->failed;
    memset(pack->gathered + pack->used, 0, length - pack->used);
    uint64_t host = ntx_qcow2_image_take(pack->image, length), at = host;
    int code = ntx_write_at(fd, pack->gathered, length, &at);
    if (code == -EINVAL && fd != pack->image->fd) { /* no direct I/O here after all */
        at = host;
        code = ntx_write_at(pack->image->fd, pack->gathered, length, &at);
    }
    if (code == 0)
        code = enter(pack, host);
    pack->failed = code;
    pack->count = 0;
    pack->used = 0;
    return code;
}
