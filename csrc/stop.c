/* stop.c: see stop.h. */
#include "stop.h"

#include "event.h"

int ntx_stop_init(struct ntx_stop *stop)
{
    atomic_init(&stop->is_set, false);
    stop->fd = ntx_event_open();
    return stop->fd < 0 ? stop->fd : 0;
}

void ntx_stop_destroy(struct ntx_stop *stop)
{
    ntx_event_close(stop->fd);
}

void ntx_stop_set(struct ntx_stop *stop)
{
    atomic_store(&stop->is_set, true);
    ntx_event_signal(stop->fd);
}
