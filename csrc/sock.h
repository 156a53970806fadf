/*
 * sock.h: stream sockets: connecting, and exchanging whole messages, within a deadline.  For the handshake; a
 * connection in use is polled by its owner instead.  A deadline is a time of the monotonic clock in ms.
 */
#ifndef NTX_SOCK_H
#define NTX_SOCK_H

#include "ntx.h"

/* The moment timeout_ms from now. */
int64_t ntx_sock_deadline_ms(unsigned timeout_ms);

/*
 * Connect.  The socket is non-blocking and close-on-exec; name is for messages.
 * Ownership: the caller closes *fd.
 * Errors:    0, or -errno of connect() (DEVICE), -EHOSTUNREACH (DEVICE: the host name means nothing),
 *            -ETIMEDOUT (TIMEOUT), -ENAMETOOLONG (OPTIONS), -EMFILE... (SYSTEM).
 */
int ntx_sock_connect_unix(const char *path, const char *name, int64_t deadline_ms, int *fd, struct ntx_error *err);
int ntx_sock_connect_tcp(const char *host, const char *port, const char *name, int64_t deadline_ms, int *fd,
                         struct ntx_error *err);

/*
 * Send, or receive, exactly length bytes.
 * Errors: 0, or -errno, -ETIMEDOUT, -ECONNRESET (the peer closed; *received tells how much came before, may be NULL).
 */
int ntx_sock_send_all(int fd, const void *data, size_t length, int64_t deadline_ms);
int ntx_sock_recv_all(int fd, void *data, size_t length, int64_t deadline_ms, size_t *received);

/* Send what fits without waiting; whether it arrives is nobody's business.  For saying goodbye. */
void ntx_sock_send_hint(int fd, const void *data, size_t length);

/* Shut down and close; fd may be -1. */
void ntx_sock_close(int fd);

#endif
