/*
 * qcow2_finish.c: what makes a file an image: L2 and L1 tables, reference counts, the header, and at last its magic.
 *
 *   | header | clusters ... | L2 tables | L1 table | table of counts | counts |
 *   0        64 KiB         ^ end       all of one reference each            ^ end of the file
 *
 * Counts are made from the map alone, so they are always those of what is referred to; a gap has 0.  In memory are the
 * L1 table (8 bytes for 512 MiB of the disk) and the counts of 256 GiB of the file (8 MiB): for what is larger the map
 * is read again for each of these.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "bytes.h"
#include "error.h"
#include "file_io.h"
#include "qcow2_image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define WINDOW (128u * NTX_QCOW2_COUNTS) /* clusters of the file that are counted at once */
#define IS_ALONE 0x8000u                 /* in a count: it is of a cluster that is not shared */
#define MAGIC_SIZE 4u

struct finish {
    struct ntx_qcow2_image *image;
    uint8_t *table;  /* one page of the map, and whatever else fills a cluster */
    uint8_t *l1;     /* as it is stored */
    uint16_t *count; /* of `window` clusters */
    uint64_t window;
    uint64_t l2_end, l1_offset, counts_offset, blocks_offset, end; /* of the file */
    uint64_t l1_entries, blocks, counts_clusters;
    bool has_compressed;
};

static int failed(const struct finish *f, int code, const char *action, struct ntx_error *err)
{
    return ntx_error_errno(err, NTX_E_DEVICE, code, "%s: %s failed", f->image->path, action);
}

static int write_at(const struct finish *f, const void *data, uint64_t length, uint64_t offset, const char *action,
                    struct ntx_error *err)
{
    int code = ntx_write_at(f->image->fd, data, length, &offset);

    return code == 0 ? 0 : failed(f, code, action, err);
}

static int next_page(const struct finish *f, uint64_t *page, struct ntx_error *err)
{
    int code = ntx_qcow2_map_next(&f->image->map, *page, page, f->table);

    return code == 0 ? 0 : failed(f, code, "reading its map", err);
}

static bool is_empty(const uint8_t table[NTX_QCOW2_CLUSTER])
{
    return ntx_is_zero(table, NTX_QCOW2_CLUSTER);
}

/* Every page that has an entry is an L2 table. */
static int write_l2(struct finish *f, struct ntx_error *err)
{
    uint64_t at = atomic_load(&f->image->end);
    int code = 0;

    for (uint64_t page = 0; (code = next_page(f, &page, err)) == 0 && page < f->image->map.pages; page++) {
        if (is_empty(f->table))
            continue;
        code = write_at(f, f->table, NTX_QCOW2_CLUSTER, at, "writing an L2 table", err);
        if (code != 0)
            break;
        ntx_put64(f->l1 + 8 * page, at | NTX_QCOW2_COPIED);
        at += NTX_QCOW2_CLUSTER;
    }
    f->l2_end = at;
    return code;
}

/* Where all else goes.  The counts count their own clusters too. */
static void lay_out(struct finish *f)
{
    uint64_t before, total;

    f->l1_offset = f->l2_end;
    f->counts_offset = f->l1_offset + ntx_round_up(8 * f->l1_entries, NTX_QCOW2_CLUSTER);
    before = f->counts_offset / NTX_QCOW2_CLUSTER;
    f->blocks = f->counts_clusters = 0;
    do {
        total = before + f->counts_clusters + f->blocks;
        f->blocks = (total + NTX_QCOW2_COUNTS - 1) / NTX_QCOW2_COUNTS;
        f->counts_clusters = ntx_qcow2_clusters(8 * f->blocks);
    } while (total != before + f->counts_clusters + f->blocks);
    f->blocks_offset = f->counts_offset + f->counts_clusters * NTX_QCOW2_CLUSTER;
    f->end = total * NTX_QCOW2_CLUSTER;
}

/* -------------------------------------------------------------------------------------------------- counts */

/* Count a reference to a cluster of the file.  One that is not compressed is alone in its place. */
static bool count_reference(struct finish *f, uint64_t cluster, uint64_t first, bool is_compressed)
{
    if (cluster < first || cluster - first >= f->window)
        return true;
    uint16_t *count = &f->count[cluster - first];
    if (is_compressed)
        return ++*count <= NTX_QCOW2_MAX_FRAMES; /* that of one that is alone is greater */
    bool is_first = *count == 0;
    *count = IS_ALONE | 1;
    return is_first;
}

/* Count what an entry refers to. */
static bool count_entry(struct finish *f, uint64_t entry, uint64_t first)
{
    uint64_t data_end = atomic_load(&f->image->end), last;

    if (ntx_qcow2_check_entry(entry, data_end, &last) != 0)
        return false;
    if (last == 0)
        return true;
    if ((entry & NTX_QCOW2_COMPRESSED) == 0)
        return count_reference(f, last / NTX_QCOW2_CLUSTER - 1, first, false);
    uint32_t length;
    uint64_t cluster = ntx_qcow2_compressed_place(entry, &length) / NTX_QCOW2_CLUSTER;
    f->has_compressed = true;
    for (; cluster < last / NTX_QCOW2_CLUSTER; cluster++)
        if (!count_reference(f, cluster, first, true))
            return false;
    return true;
}

static int count_page(struct finish *f, uint64_t page, uint64_t first, struct ntx_error *err)
{
    for (unsigned i = 0; i < NTX_QCOW2_ENTRIES; i++) {
        uint64_t entry = ntx_get64(f->table + 8 * i);
        if (!count_entry(f, entry, first))
            return ntx_error_set(err, NTX_E_DEVICE, -EBADMSG,
                                 "%s: the map of this image is damaged: cluster %" PRIu64 " is %#" PRIx64,
                                 f->image->path, page * NTX_QCOW2_ENTRIES + i, entry);
    }
    return 0;
}

/* Count the references to a window of clusters, from `first` on. */
static int count_window(struct finish *f, uint64_t first, struct ntx_error *err)
{
    uint64_t data_end = atomic_load(&f->image->end) / NTX_QCOW2_CLUSTER, end = f->end / NTX_QCOW2_CLUSTER;
    int code = 0;

    memset(f->count, 0, f->window * sizeof *f->count);
    for (uint64_t page = 0; first < data_end; page++) {
        code = next_page(f, &page, err);
        if (code != 0 || page == f->image->map.pages)
            break;
        code = count_page(f, page, first, err);
        if (code != 0)
            break;
    }
    if (first == 0)
        f->count[0] = 1; /* the header */
    for (uint64_t i = ntx_max64(first, data_end); i < ntx_min64(end, first + f->window); i++)
        f->count[i - first] = 1; /* the tables */
    return code;
}

static int write_counts(struct finish *f, struct ntx_error *err)
{
    uint64_t clusters = f->blocks * NTX_QCOW2_COUNTS; /* those behind the end of the file have no reference */
    int code = 0;

    f->window = ntx_min64(clusters, WINDOW);
    f->count = malloc(f->window * sizeof *f->count);
    if (f->count == NULL)
        return failed(f, -ENOMEM, "counting references", err);
    for (uint64_t first = 0; code == 0 && first < clusters; first += f->window) {
        uint64_t counted = ntx_min64(clusters - first, f->window);
        code = count_window(f, first, err);
        for (uint64_t i = 0; i < counted; i++)
            f->count[i] = htobe16(f->count[i] & ~IS_ALONE);
        if (code == 0)
            code = write_at(f, f->count, 2 * counted, f->blocks_offset + 2 * first, "writing reference counts", err);
    }
    return code;
}

/* The table that says where the counts are.  It is written in pieces of a cluster. */
static int write_counts_table(struct finish *f, struct ntx_error *err)
{
    int code = 0;

    for (uint64_t i = 0; code == 0 && i < f->counts_clusters; i++) {
        memset(f->table, 0, NTX_QCOW2_CLUSTER);
        for (uint64_t j = 0; j < NTX_QCOW2_ENTRIES && i * NTX_QCOW2_ENTRIES + j < f->blocks; j++)
            ntx_put64(f->table + 8 * j, f->blocks_offset + (i * NTX_QCOW2_ENTRIES + j) * NTX_QCOW2_CLUSTER);
        code = write_at(f, f->table, NTX_QCOW2_CLUSTER, f->counts_offset + i * NTX_QCOW2_CLUSTER,
                        "writing the table of reference counts", err);
    }
    return code;
}

/* -------------------------------------------------------------------------------------------------- the end */

/* All of the header but the magic. */
static int write_header(struct finish *f, struct ntx_error *err)
{
    struct ntx_qcow2_header header = {
        .size = ntx_round_up(f->image->size, NTX_QCOW2_SECTOR),
        .backing_name = f->image->backing_name[0] != '\0' ? f->image->backing_name : NULL,
        .is_zstd = f->has_compressed,
        .l1_offset = f->l1_offset,
        .l1_entries = (uint32_t)f->l1_entries,
        .counts_offset = f->counts_offset,
        .counts_clusters = (uint32_t)f->counts_clusters,
    };
    int code = ntx_qcow2_put_header(&header, f->table);

    if (code != 0)
        return failed(f, code, "making its header", err);
    memset(f->table + NTX_QCOW2_AT_MAGIC, 0, MAGIC_SIZE);
    return write_at(f, f->table, NTX_QCOW2_CLUSTER, 0, "writing its header", err);
}

/* From here on it is an image.  So few bytes are never written in part: a disk writes whole sectors. */
static int write_magic(struct finish *f, struct ntx_error *err)
{
    uint8_t magic[MAGIC_SIZE];

    ntx_put32(magic, NTX_QCOW2_MAGIC);
    return write_at(f, magic, sizeof magic, NTX_QCOW2_AT_MAGIC, "writing its header", err);
}

static int sync_image(struct finish *f, struct ntx_error *err)
{
    int code = ntx_sync_file(f->image->fd, f->end, NULL);

    return code == 0 ? 0 : failed(f, code, "syncing it", err);
}

static int write_all(struct finish *f, struct ntx_error *err)
{
    int code = write_l2(f, err);

    lay_out(f);
    if (code == 0 && ftruncate(f->image->fd, (off_t)f->end) < 0)
        code = failed(f, -errno, "setting its size", err);
    if (code == 0)
        code = write_at(f, f->l1, ntx_round_up(8 * f->l1_entries, NTX_QCOW2_CLUSTER), f->l1_offset,
                        "writing the L1 table", err);
    if (code == 0)
        code = write_counts(f, err);
    if (code == 0)
        code = write_counts_table(f, err);
    if (code == 0)
        code = write_header(f, err);
    if (code == 0)
        code = sync_image(f, err);
    if (code == 0)
        code = write_magic(f, err);
    return code == 0 ? sync_image(f, err) : code;
}

static uint64_t l1_bytes(uint64_t entries)
{
    return ntx_round_up(8 * entries + 1, NTX_QCOW2_CLUSTER); /* a disk may be empty */
}

uint64_t ntx_qcow2_image_finish_bytes(uint64_t size)
{
    uint64_t pages = size / NTX_QCOW2_CLUSTER / NTX_QCOW2_ENTRIES + 1;

    return NTX_QCOW2_CLUSTER + l1_bytes(pages) + WINDOW * sizeof(uint16_t);
}

int ntx_qcow2_image_finish(struct ntx_qcow2_image *image, struct ntx_error *err)
{
    struct finish f = {.image = image, .l1_entries = image->map.pages};
    int code;

    if (image->is_whole)
        return 0;
    f.table = malloc(NTX_QCOW2_CLUSTER);
    f.l1 = calloc(1, l1_bytes(f.l1_entries));
    if (f.table == NULL || f.l1 == NULL)
        code = ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: no memory for its tables", image->path);
    else
        code = write_all(&f, err);
    image->is_whole = code == 0;
    free(f.count);
    free(f.l1);
    free(f.table);
    return code;
}
