/*
 * test_device_clone.c: several threads connect again to a device that another one uses: what a job does.
 *
 * Under ThreadSanitizer this holds that clone() reads only what does not change.
 */
#include "check_device.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define SIZE (4 * NTX_MIB)
#define CLONERS 3
#define ROUNDS 20

struct cloners {
    struct ntx_device *device;
    bool is_target;
    _Atomic unsigned running;
};

static void use(struct ntx_device *device, bool is_target, unsigned seed)
{
    static const uint8_t zeros[4096];
    uint64_t at = seed * 4096ull % (SIZE - 4096);
    struct ntx_error err;
    uint8_t data[4096];

    CHECK_OK(do_io(device, NTX_OP_READ, at, sizeof data, data, &err), err);
    if (!is_target)
        return;
    CHECK_OK(do_io(device, NTX_OP_WRITE, at, sizeof data, (void *)zeros, &err), err);
    CHECK_OK(do_io(device, NTX_OP_ZERO, at, sizeof data, NULL, &err), err);
    CHECK_OK(do_io(device, NTX_OP_FLUSH, 0, 0, NULL, &err), err);
}

static void *clone_again_and_again(void *argument)
{
    struct cloners *cloners = argument;

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct ntx_device *other;
        struct ntx_error err;
        CHECK_OK(cloners->device->ops->clone(cloners->device, -1, &other, &err), err);
        CHECK_EQ_U64(other->info.size, cloners->device->info.size);
        use(other, cloners->is_target, i);
        ntx_close(other);
    }
    cloners->running--;
    return NULL;
}

/* Closes the device. */
static void check_clones(struct ntx_device *device, bool is_target)
{
    struct cloners cloners = {.device = device, .is_target = is_target, .running = CLONERS};
    pthread_t threads[CLONERS];

    for (unsigned i = 0; i < CLONERS; i++)
        CHECK(pthread_create(&threads[i], NULL, clone_again_and_again, &cloners) == 0);
    for (unsigned i = 0; cloners.running > 0; i++)
        use(device, is_target, i);
    for (unsigned i = 0; i < CLONERS; i++)
        pthread_join(threads[i], NULL);
    ntx_close(device);
}

static void make_file(void)
{
    uint8_t *sample = new_sample(SIZE);

    put_file("disk", sample, SIZE);
    free(sample);
}

static void test_a_file_is_opened_again_while_it_is_used(void)
{
    make_file();

    check_clones(open_file("disk", NTX_OPEN_READ, false), false);
    check_clones(open_file("disk", NTX_OPEN_WRITE, false), true);
    check_clones(open_file("disk", NTX_OPEN_WRITE, true), true);
}

static void test_a_mapped_disk_is_opened_again_while_it_is_used(void)
{
    const struct ntx_mapped_extent extents[] = {{.length = SIZE / 2, .place = SIZE / 2},
                                                {.offset = SIZE / 2, .length = SIZE / 2, .flags = NTX_EXTENT_ZERO}};
    struct ntx_device *device;
    struct ntx_error err;
    make_file();
    int fd = open("disk", O_RDONLY);

    CHECK_OK(ntx_open_mapped("mapped", SIZE, &fd, 1, extents, 2, &device, &err), err);
    close(fd);

    check_clones(device, false);
}

static void test_null_and_pattern_are_opened_again_while_they_are_used(void)
{
    struct ntx_device *device;
    struct ntx_error err;

    CHECK_OK(ntx_open_null(SIZE, &device, &err), err);
    check_clones(device, true);
    CHECK_OK(ntx_open_pattern(SIZE, &device, &err), err);
    check_clones(device, false);
}

static pid_t start_nbdkit(const char *socket_path)
{
    pid_t parent = getpid(), pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        execlp("nbdkit", "nbdkit", "-f", "-U", socket_path, "memory", "4M", (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void test_an_export_is_connected_to_again_while_it_is_used(void)
{
    char directory[] = "/tmp/ntx-clone-XXXXXX", path[64];
    struct ntx_device *device = NULL;
    struct ntx_error err;
    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/s", directory);
    pid_t pid = start_nbdkit(path);
    int ended = 0;

    for (unsigned i = 0; i < 1000 && device == NULL && ended == 0; i++) {
        if (open_unix(path, "", NTX_OPEN_WRITE, CHECK_TIMEOUT_MS, &device, &err) != 0)
            usleep(10000);
        ended = waitpid(pid, NULL, WNOHANG);
    }
    CHECK(device != NULL || ended != 0);
    if (device != NULL)
        check_clones(device, true);
    else
        printf("  nbdkit is not installed\n");

    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    unlink(path);
    rmdir(directory);
}

int main(void)
{
    RUN(test_a_file_is_opened_again_while_it_is_used);
    RUN(test_a_mapped_disk_is_opened_again_while_it_is_used);
    RUN(test_null_and_pattern_are_opened_again_while_they_are_used);
    RUN(test_an_export_is_connected_to_again_while_it_is_used);
    return 0;
}
