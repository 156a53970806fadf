/* about.c: what was found on this machine and chosen, for people who ask why it is fast or slow. */
#include "device_ring.h"
#include "digest.h"
#include "sock_pages.h"
#include "zero.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROBE_SIZE 4096 /* a page, or part of one */

/* Send a page to ourselves the way a connection sends its blocks. */
static bool try_reference(int from, int to)
{
    struct ntx_sock_pages pages;
    uint8_t received[PROBE_SIZE];
    void *page = mmap(NULL, PROBE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool works = false;

    if (page == MAP_FAILED)
        return false;
    memset(page, 1, PROBE_SIZE);
    ntx_sock_pages_init(&pages);
    if (ntx_sock_pages_can_send(&pages)) {
        struct iovec vector = {page, PROBE_SIZE};
        ssize_t sent = ntx_sock_pages_send(&pages, from, &vector, 1);
        works = sent > 0 && recv(to, received, sizeof received, MSG_DONTWAIT) == sent &&
                memcmp(received, page, (size_t)sent) == 0;
    }
    ntx_sock_pages_close(&pages);
    munmap(page, PROBE_SIZE);
    return works;
}

static bool can_read_in_flight(void)
{
    struct ntx_ring *ring = ntx_ring_new();

    ntx_ring_free(ring);
    return ring != NULL;
}

static bool can_send_by_reference(void)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return false;
    bool works = try_reference(ends[0], ends[1]);
    close(ends[0]);
    close(ends[1]);
    return works;
}

void ntx_about(struct ntx_about *about)
{
    const struct ntx_zero_kernel *zero = ntx_zero_kernel();

    *about = (struct ntx_about){
        .zero_kernel = zero->name,
        .zero_reason = zero->reason,
        .digest_kernel = ntx_digest_kernel(),
        .digest_reason = ntx_digest_kernel_reason(),
        .xxhash_version = ntx_digest_library_version(),
        .can_send_by_reference = can_send_by_reference(),
        .can_read_in_flight = can_read_in_flight(),
    };
#if defined(__x86_64__)
    about->has_sse2 = __builtin_cpu_supports("sse2");
    about->has_avx2 = __builtin_cpu_supports("avx2");
    about->has_avx512f = __builtin_cpu_supports("avx512f");
#endif
}
