"""A Prism simulator on real disk files: Prism Central (v4) and a Prism Element (v2, v3, v4 content) over TLS.

It shares nothing with `ntxengine.prism`: a mistake made there must not be mirrored here.  It is no evidence about a
real cluster.

LIMIT: only volume groups that callers make are served over iSCSI; storage containers are folders, which are served over
NFS where that is asked for; recovery points are not restored or replicated; SAML is not played.  Where the public
record is silent the choice is ours: 428 and 412 for If-Match, the `rel` of a disk in a task, diskExtId being the vmdisk
uuid, what becomes of a guest that cannot quiesce (`cannot_quiesce`), the user of CHAP.
"""

from ntxengine.sim.config import SimConfig
from ntxengine.sim.simulator import Simulator, run_in_thread

__all__ = ["SimConfig", "Simulator", "run_in_thread"]
