/* checkpoint.c: see checkpoint.h. */
#include "checkpoint.h"

#include "bytes.h"

bool ntx_checkpoint_ask(struct ntx_checkpoint *checkpoint, unsigned workers, uint64_t low)
{
    if (workers == 0 || checkpoint->asked != checkpoint->made)
        return false;
    checkpoint->asked++;
    checkpoint->missing = workers;
    checkpoint->low = low;
    return true;
}

bool ntx_checkpoint_tell(struct ntx_checkpoint *checkpoint, uint64_t low)
{
    checkpoint->low = ntx_min64(checkpoint->low, low);
    return --checkpoint->missing == 0;
}

void ntx_checkpoint_make(struct ntx_checkpoint *checkpoint)
{
    checkpoint->made = checkpoint->asked;
    checkpoint->stored_to = ntx_max64(checkpoint->stored_to, checkpoint->low);
}
