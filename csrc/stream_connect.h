/* stream_connect.h: from a place to a plain stream. */
#ifndef NTX_STREAM_CONNECT_H
#define NTX_STREAM_CONNECT_H

#include "ntx.h"
#include "stream.h"

/*
 * Connect to place.
 * Ownership: name is the subject of messages; the caller closes *stream.
 * Units:     the address of place is numeric.
 * Threads:   blocks until the end of until.
 * Errors:    0, or -errno of connect(), -EAFNOSUPPORT (DEVICE), -ETIMEDOUT (TIMEOUT), -ECANCELED (CANCELLED),
 *            -EINVAL (OPTIONS: no numeric address, no path), -ENAMETOOLONG (OPTIONS), -EMFILE... (SYSTEM).
 */
int ntx_stream_connect(const struct ntx_nbd_place *place, const char *name, const struct ntx_until *until,
                       struct ntx_stream **stream, struct ntx_error *err);

#endif
