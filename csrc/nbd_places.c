/* nbd_places.c: see nbd_places.h.  One allocation: the struct, its items, and behind them the strings. */
#include "nbd_places.h"

#include "tls.h"

#include <stdlib.h>
#include <string.h>

static size_t size_of(const char *text)
{
    return text == NULL ? 0 : strlen(text) + 1;
}

static const char *keep(char **at, const char *text)
{
    char *kept = *at;

    if (text == NULL)
        return NULL;
    memcpy(kept, text, size_of(text));
    *at += size_of(text);
    return kept;
}

struct ntx_nbd_places *ntx_nbd_places_new(const struct ntx_nbd_place *places, size_t count, const char *export_name)
{
    size_t fixed = sizeof(struct ntx_nbd_places) + count * sizeof *places, strings = size_of(export_name);

    for (size_t i = 0; i < count; i++)
        strings +=
            size_of(places[i].path) + size_of(places[i].address) + size_of(places[i].host) + size_of(places[i].name);

    struct ntx_nbd_places *copy = calloc(1, fixed + strings);
    if (copy == NULL)
        return NULL;
    char *at = (char *)copy + fixed;
    copy->export_name = keep(&at, export_name);
    copy->count = count;
    copy->users = 1;
    for (size_t i = 0; i < count; i++) {
        copy->items[i] = places[i];
        copy->items[i].tls = ntx_tls_share(places[i].tls);
        copy->items[i].path = keep(&at, places[i].path);
        copy->items[i].address = keep(&at, places[i].address);
        copy->items[i].host = keep(&at, places[i].host);
        copy->items[i].name = keep(&at, places[i].name);
    }
    return copy;
}

struct ntx_nbd_places *ntx_nbd_places_share(struct ntx_nbd_places *places)
{
    atomic_fetch_add_explicit(&places->users, 1, memory_order_relaxed);
    return places;
}

void ntx_nbd_places_release(struct ntx_nbd_places *places)
{
    if (atomic_fetch_sub_explicit(&places->users, 1, memory_order_acq_rel) > 1)
        return;
    for (size_t i = 0; i < places->count; i++)
        ntx_tls_free(places->items[i].tls);
    free(places);
}

const struct ntx_nbd_place *ntx_nbd_places_next(struct ntx_nbd_places *places)
{
    return &places->items[atomic_fetch_add_explicit(&places->taken, 1, memory_order_relaxed) % places->count];
}
