/* nbd_text.c: see nbd_text.h. */
#include "nbd_text.h"

#include "nbd_proto.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* ASCII only: UTF-8 would let a peer turn a log line around (bidirectional marks) or hide parts of it. */
static bool is_printable(unsigned char byte)
{
    return byte >= 0x20 && byte < 0x7f;
}

void ntx_nbd_printable(char *to, size_t size, const void *from, size_t length)
{
    const unsigned char *bytes = from;

    if (size == 0)
        return;
    if (length > size - 1)
        length = size - 1;
    for (size_t i = 0; i < length; i++)
        to[i] = is_printable(bytes[i]) ? (char)bytes[i] : '?';
    to[length] = '\0';
}

struct writer {
    char *at, *end; /* end: where the final NUL must fit */
};

static void put(struct writer *w, const char *text)
{
    for (; *text != '\0' && w->at < w->end; text++)
        *w->at++ = *text;
}

/* RFC 3986 "unreserved", and what is harmless where we put it. */
static bool is_plain(unsigned char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           (byte != '\0' && strchr("-._~/:@,+=", byte) != NULL);
}

static void put_encoded(struct writer *w, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";

    for (; *text != '\0' && w->at < w->end; text++) {
        unsigned char byte = (unsigned char)*text;
        if (is_plain(byte)) {
            *w->at++ = *text;
        } else if (w->end - w->at >= 3) {
            *w->at++ = '%';
            *w->at++ = digits[byte >> 4];
            *w->at++ = digits[byte & 15];
        } else {
            break;
        }
    }
}

void ntx_nbd_uri_unix(char *to, size_t size, const char *scheme, const char *path, const char *export_name)
{
    struct writer w = {to, to + size - 1};

    put(&w, scheme);
    put(&w, ":///");
    put_encoded(&w, export_name);
    put(&w, "?socket=");
    put_encoded(&w, path);
    *w.at = '\0';
}

void ntx_nbd_uri_tcp(char *to, size_t size, const char *scheme, const char *host, const char *port,
                     const char *export_name)
{
    struct writer w = {to, to + size - 1};
    bool is_ipv6 = strchr(host, ':') != NULL;

    put(&w, scheme);
    put(&w, is_ipv6 ? "://[" : "://");
    put_encoded(&w, host);
    put(&w, is_ipv6 ? "]:" : ":");
    put_encoded(&w, port);
    put(&w, "/");
    put_encoded(&w, export_name);
    *w.at = '\0';
}

int ntx_nbd_errno(uint32_t error)
{
    switch (error) {
    case NBD_EPERM:
        return -EPERM;
    case NBD_EIO:
        return -EIO;
    case NBD_ENOMEM:
        return -ENOMEM;
    case NBD_ENOSPC:
        return -ENOSPC;
    case NBD_EOVERFLOW:
        return -EOVERFLOW;
    case NBD_ENOTSUP:
        return -ENOTSUP;
    case NBD_ESHUTDOWN:
        return -ESHUTDOWN;
    case NBD_EINVAL:
    default:
        return -EINVAL; /* proto.md "Error values": treat an unexpected value as EINVAL */
    }
}
