/*
 * test_device_qcow2_power.c: a cut of the power at any step of writing an image.  Whatever is on the disk then either
 * has no magic, or is the whole image.  pwrite() and fdatasync() below take the place of libc's in this program: they
 * tell what is on a disk that keeps what was synced, and of the rest some sectors.
 *
 * The control: where a sync of `finish` does nothing, such a cut leaves what looks like an image and is none, or no
 * image where it was said to be one.
 */
#define _GNU_SOURCE
#include "check_qcow2.h"

#include <liburing.h>
#include <sys/syscall.h>

#define DRAWS 16u        /* of what a cut leaves, at each step */
#define MOST (4u << 20)  /* bytes of the file */
#define SECTOR 512u      /* is written whole, or not at all */
#define NEVER UINT32_MAX /* as the number of a sync that does nothing: there is no such */

enum left { NO_IMAGE, WHOLE, BROKEN };

static struct {
    bool is_on;
    uint8_t stored[MOST], written[MOST], cut[MOST];
    size_t size;                /* of the file, as written */
    unsigned syncs, lost_sync;  /* the first is 1 */
    unsigned found[BROKEN + 1]; /* how many cuts left that */
    unsigned misread;           /* images that open and are read without an error, as another disk */
} power;

static uint32_t state = 1;

static uint32_t chance(uint32_t below)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % below;
}

/* ------------------------------------------------------------------------------------------------ the disk */

static bool is_of_image(int fd)
{
    struct stat image, it;

    return stat("image", &image) == 0 && fstat(fd, &it) == 0 && it.st_ino == image.st_ino;
}

static void look_at_file(void)
{
    int fd = open("image", O_RDONLY);
    long got = syscall(SYS_pread64, fd, power.written, sizeof power.written, 0);

    CHECK(got >= 0 && (size_t)got < sizeof power.written);
    memset(power.written + got, 0, sizeof power.written - (size_t)got);
    power.size = (size_t)got;
    close(fd);
}

/* Whether what a cut left is read without an error, as something else than was written. */
static bool is_misread(void)
{
    uint8_t *data = malloc(SIZE);
    struct ntx_device *device;
    struct ntx_error err;
    bool is_read;

    put_file("cut", power.cut, power.size);
    int fd = open("cut", O_RDONLY);
    is_read = ntx_open_qcow2_chain("cut", &fd, 1, &device, &err) == 0;
    if (is_read) {
        is_read = do_io(device, NTX_OP_READ, 0, SIZE, data, &err) == 0;
        ntx_close(device);
    }
    bool is_other = false;
    for (unsigned i = 0; is_read && i < SIZE / BLOCK; i++)
        is_other |= memcmp(data + i * BLOCK, block_of((uint8_t)(i + 1)), BLOCK) != 0;
    close(fd);
    free(data);
    return is_other;
}

static enum left cut_power(void)
{
    uint32_t of_ten = 1 + chance(9); /* sectors that are not synced are on the disk */

    for (size_t at = 0; at < power.size; at += SECTOR)
        memcpy(power.cut + at, (chance(10) < of_ten ? power.written : power.stored) + at, SECTOR);
    if (!ntx_qcow2_has_magic(power.cut))
        return NO_IMAGE;
    return memcmp(power.cut, power.written, power.size) == 0 ? WHOLE : BROKEN;
}

static void cut_many_times(void)
{
    for (unsigned i = 0; i < DRAWS; i++) {
        enum left left = cut_power();

        power.found[left]++;
        power.misread += left == BROKEN && is_misread();
    }
}

/* Without a ring all goes through the calls below. */
int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    (void)entries;
    (void)ring;
    (void)flags;
    return -EPERM;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    ssize_t put = syscall(SYS_pwrite64, fd, data, length, offset);

    if (power.is_on && is_of_image(fd)) {
        look_at_file();
        cut_many_times();
    }
    return put;
}

int fdatasync(int fd)
{
    if (power.is_on && is_of_image(fd) && ++power.syncs != power.lost_sync) {
        look_at_file();
        memcpy(power.stored, power.written, sizeof power.stored);
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* --------------------------------------------------------------------------------------------------- tests */

/* Write an image, while one of the syncs may do nothing; returns what cuts leave once it is finished. */
static enum left write_image(int level, unsigned lost_sync)
{
    struct ntx_qcow2_options options = options_of(SIZE);

    power.is_on = false;
    options.zstd_level = level;
    struct ntx_device *device = make(&options);
    memset(&power, 0, sizeof power);
    power.is_on = true;
    power.lost_sync = lost_sync;
    for (unsigned i = 0; i < SIZE / BLOCK; i++)
        write_block(device, i, (uint8_t)(i + 1));
    finish(device);
    power.is_on = false;
    ntx_close(device);
    look_at_file();
    CHECK(is_image() && power.syncs == 2);
    enum left worst = WHOLE;
    for (unsigned i = 0; i < DRAWS; i++) {
        enum left left = cut_power();
        worst = left == WHOLE ? worst : left;
    }
    return worst;
}

static void test_what_a_cut_leaves_is_the_whole_image_or_none(void)
{
    for (int level = 0; level < 2; level++) {
        CHECK_EQ_INT(write_image(level, NEVER), WHOLE);

        CHECK(power.found[NO_IMAGE] > 0);
        CHECK(power.found[WHOLE] > 0); /* the magic may be there before it is synced */
        CHECK_EQ_INT(power.found[BROKEN], 0);
    }
}

static void test_without_the_first_sync_a_cut_leaves_what_looks_whole_and_is_not(void)
{
    write_image(0, 1);

    CHECK(power.found[BROKEN] > 0);
    CHECK(power.misread > 0);
}

static void test_without_the_second_sync_a_cut_leaves_no_image_where_one_was_promised(void)
{
    CHECK_EQ_INT(write_image(0, 2), NO_IMAGE);

    CHECK_EQ_INT(power.found[BROKEN], 0);
}

int main(void)
{
    RUN(test_what_a_cut_leaves_is_the_whole_image_or_none);
    RUN(test_without_the_first_sync_a_cut_leaves_what_looks_whole_and_is_not);
    RUN(test_without_the_second_sync_a_cut_leaves_no_image_where_one_was_promised);
    return 0;
}
