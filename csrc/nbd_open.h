/* nbd_open.h: opening an NBD export through any kind of stream.  ntx_open_nbd() does it through plain ones. */
#ifndef NTX_NBD_OPEN_H
#define NTX_NBD_OPEN_H

#include "ntx.h"
#include "stream.h"

/* How a stream to a place is made; ntx_stream_connect() is one. */
typedef int ntx_stream_opener(const struct ntx_nbd_place *place, const char *name, const struct ntx_until *until,
                              struct ntx_stream **stream, struct ntx_error *err);

/* As ntx_open_nbd().  Every clone opens its stream in the same way. */
int ntx_nbd_open_through(ntx_stream_opener *open_stream, const struct ntx_nbd_place *places, size_t count,
                         const char *export_name, enum ntx_open_mode mode, unsigned timeout_ms, int stop_fd,
                         struct ntx_device **device, struct ntx_error *err);

#endif
