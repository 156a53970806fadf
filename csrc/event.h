/*
 * event.h: a wake-up between threads that can be polled (an eventfd).  Signals before a drain count once.
 * Non-blocking and closed on exec.
 */
#ifndef NTX_EVENT_H
#define NTX_EVENT_H

#include "ntx.h"

/* Returns the descriptor, or -EMFILE, -ENFILE, -ENOMEM. */
int ntx_event_open(void);

/* Make fd readable.  Never blocks; any thread. */
void ntx_event_signal(int fd);

/* Make fd unreadable; true if it was readable.  Drain first, then look at what it was about. */
bool ntx_event_drain(int fd);

/* A negative fd is allowed. */
void ntx_event_close(int fd);

#endif
