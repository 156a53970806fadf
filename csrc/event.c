/* event.c: see event.h. */
#include "event.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int ntx_event_open(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    return fd >= 0 ? fd : -errno;
}

void ntx_event_signal(int fd)
{
    uint64_t one = 1;
    ssize_t written;

    /* EAGAIN means that the counter is at its limit: the fd is readable, which is all that was wanted. */
    do {
        written = write(fd, &one, sizeof one);
    } while (written < 0 && errno == EINTR);
}

bool ntx_event_drain(int fd)
{
    uint64_t count;
    ssize_t got;

    do {
        got = read(fd, &count, sizeof count);
    } while (got < 0 && errno == EINTR);
    return got == sizeof count;
}

void ntx_event_close(int fd)
{
    if (fd >= 0)
        close(fd);
}
