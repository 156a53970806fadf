/*
 * stream_connect.h: from the name of a place to a plain stream.
 */
#ifndef NTX_STREAM_CONNECT_H
#define NTX_STREAM_CONNECT_H

#include "ntx.h"
#include "stream.h"

/*
 * Connect to a unix socket, or over TCP.
 * Ownership: name is the subject of messages; the caller closes *stream.
 * Threads:   blocks until the end of until.
 * Errors:    0, or -errno of connect() (DEVICE), -EHOSTUNREACH (DEVICE: the host name means nothing),
 *            -ETIMEDOUT (TIMEOUT), -ECANCELED (CANCELLED), -ENAMETOOLONG (OPTIONS), -EMFILE... (SYSTEM).
 */
int ntx_stream_connect_unix(const char *path, const char *name, const struct ntx_until *until,
                            struct ntx_stream **stream, struct ntx_error *err);
int ntx_stream_connect_tcp(const char *host, const char *port, const char *name, const struct ntx_until *until,
                           struct ntx_stream **stream, struct ntx_error *err);

#endif
