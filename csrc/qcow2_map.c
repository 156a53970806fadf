/* qcow2_map.c: see qcow2_map.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* SEEK_DATA, fallocate() */
#endif
#include "qcow2_map.h"

#include "bytes.h"
#include "file_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD_SIZE NTX_QCOW2_CLUSTER
#define MAGIC "NTXQMAP"

/* Where the fields of the head are; its digest is of all that comes before it. */
enum { AT_MAGIC = 0, AT_VERSION = 8, AT_SIZE = 16, AT_NAME = 24, AT_DIGEST = AT_NAME + NTX_QCOW2_MAX_NAME + 1 };
#define HEAD_USED (AT_DIGEST + NTX_DIGEST_SIZE)

#define ENTRIES_AT_ONCE 512u /* that are entered with one call */

static uint64_t place_of(uint64_t cluster)
{
    return HEAD_SIZE + 8 * cluster;
}

static void fill_head(uint8_t head[HEAD_USED], uint64_t size, const char *backing_name)
{
    memset(head, 0, HEAD_USED);
    memcpy(head + AT_MAGIC, MAGIC, sizeof MAGIC);
    ntx_put32(head + AT_VERSION, NTX_QCOW2_MAP_VERSION);
    ntx_put64(head + AT_SIZE, size);
    memcpy(head + AT_NAME, backing_name, strlen(backing_name));
    ntx_digest(head, AT_DIGEST, head + AT_DIGEST);
}

static int open_file(struct ntx_qcow2_map *map, const char *path, int flags, uint64_t size, const char *backing_name)
{
    *map = (struct ntx_qcow2_map){
        .fd = -1,
        .clusters = ntx_qcow2_clusters(size),
        .pages = size / NTX_QCOW2_L2_BYTES + (size % NTX_QCOW2_L2_BYTES != 0),
    };
    struct stat status;

    if (strlen(backing_name) > NTX_QCOW2_MAX_NAME)
        return -ENAMETOOLONG;
    map->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | flags, 0600);
    if (map->fd < 0)
        return -errno;
    if (flock(map->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) /* any other failure: no locks here */
        return -EBUSY;
    if (fstat(map->fd, &status) < 0)
        return -errno;
    return status.st_nlink > 0 ? 0 : -ENOENT; /* whoever wrote the image made it whole meanwhile */
}

int ntx_qcow2_map_new(struct ntx_qcow2_map *map, const char *path, uint64_t size, const char *backing_name)
{
    uint8_t head[HEAD_USED];
    uint64_t at = 0;
    int code = open_file(map, path, O_CREAT | O_EXCL, size, backing_name);

    if (code != 0)
        return code;
    fill_head(head, size, backing_name);
    code = ntx_write_at(map->fd, head, sizeof head, &at);
    if (code == 0 && ftruncate(map->fd, (off_t)place_of(map->pages * NTX_QCOW2_ENTRIES)) < 0)
        code = -errno;
    return code;
}

int ntx_qcow2_map_open(struct ntx_qcow2_map *map, const char *path, uint64_t size, const char *backing_name)
{
    uint8_t head[HEAD_USED], expected[HEAD_USED];
    uint64_t at = 0;
    int code = open_file(map, path, 0, size, backing_name);

    if (code == 0)
        code = ntx_read_at(map->fd, head, sizeof head, &at);
    if (code != 0)
        return code == -ENODATA ? -ESTALE : code;
    fill_head(expected, size, backing_name);
    if (memcmp(head, expected, sizeof head) != 0)
        return -ESTALE;
    off_t end = lseek(map->fd, 0, SEEK_END);
    return end >= 0 && (uint64_t)end == place_of(map->pages * NTX_QCOW2_ENTRIES) ? 0 : -ESTALE;
}

void ntx_qcow2_map_close(struct ntx_qcow2_map *map)
{
    if (map->fd >= 0)
        close(map->fd);
    map->fd = -1;
}

/* Enter clusters one after the other: first_entry, and each next one greater by step. */
static int put(struct ntx_qcow2_map *map, uint64_t first, uint64_t count, uint64_t entry, uint64_t step)
{
    uint8_t entries[8 * ENTRIES_AT_ONCE];
    uint64_t at = place_of(first);

    while (count > 0) {
        uint64_t part = ntx_min64(count, ENTRIES_AT_ONCE);
        for (uint64_t i = 0; i < part; i++, entry += step)
            ntx_put64(entries + 8 * i, entry);
        int code = ntx_write_at(map->fd, entries, 8 * part, &at);
        if (code != 0)
            return code;
        count -= part;
    }
    return 0;
}

int ntx_qcow2_map_put_zeros(struct ntx_qcow2_map *map, uint64_t first, uint64_t count)
{
    return put(map, first, count, NTX_QCOW2_ZERO, 0);
}

int ntx_qcow2_map_put_data(struct ntx_qcow2_map *map, uint64_t first, uint64_t count, uint64_t host)
{
    return put(map, first, count, host | NTX_QCOW2_COPIED, NTX_QCOW2_CLUSTER);
}

int ntx_qcow2_map_put(struct ntx_qcow2_map *map, uint64_t first, uint64_t count, const uint8_t *entries)
{
    uint64_t at = place_of(first);

    return ntx_write_at(map->fd, entries, 8 * count, &at);
}

int ntx_qcow2_map_get(struct ntx_qcow2_map *map, uint64_t first, uint64_t count, uint8_t *entries)
{
    uint64_t at = place_of(first);
    int code = ntx_read_at(map->fd, entries, 8 * count, &at);

    return code == -ENODATA ? -EIO : code;
}

/* Where data of the file begins at or behind `at`, before end; end: there is none.  A file system that cannot tell has
 * data everywhere. */
static int next_data(int fd, uint64_t at, uint64_t end, uint64_t *found)
{
    off_t data = lseek(fd, (off_t)at, SEEK_DATA);

    if (data < 0 && errno == ENXIO)
        *found = end;
    else
        *found = data < 0 ? at : ntx_min64((uint64_t)data, end);
    return data < 0 && errno != ENXIO && errno != EINVAL && errno != EOPNOTSUPP ? -errno : 0;
}

int ntx_qcow2_map_forget(struct ntx_qcow2_map *map, uint64_t first, uint64_t count)
{
    uint64_t at = place_of(first), end = place_of(first + count);
    int code = next_data(map->fd, at, end, &at);

    if (code != 0 || at >= end)
        return code;
    at = ntx_round_down(at - HEAD_SIZE, 8) + HEAD_SIZE;
    if (fallocate(map->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)(end - at)) == 0)
        return 0;
    if (!ntx_is_unsupported(-errno) && errno != EINTR)
        return -errno;
    return put(map, (at - HEAD_SIZE) / 8, (end - at) / 8, 0, 0);
}

int ntx_qcow2_map_next(struct ntx_qcow2_map *map, uint64_t page, uint64_t *found, uint8_t table[NTX_QCOW2_CLUSTER])
{
    uint64_t end = place_of(map->pages * NTX_QCOW2_ENTRIES), at = end;
    int code = page < map->pages ? next_data(map->fd, place_of(page * NTX_QCOW2_ENTRIES), end, &at) : 0;

    *found = map->pages;
    if (code != 0 || at >= end)
        return code;
    *found = (at - HEAD_SIZE) / NTX_QCOW2_CLUSTER;
    at = place_of(*found * NTX_QCOW2_ENTRIES);
    code = ntx_read_at(map->fd, table, NTX_QCOW2_CLUSTER, &at);
    return code == -ENODATA ? -EIO : code;
}

int ntx_qcow2_map_sync(struct ntx_qcow2_map *map, const struct ntx_stop *stop)
{
    return ntx_sync_file(map->fd, place_of(map->clusters), stop);
}
