"""What is to stay of each VM: policies, and forgetting.  What is forgotten is removed by pruning, not here.

policy.py      which points stay, and why: rules alone, without a repository
forget.py      forgetting what no rule keeps, or what is named; bringing it back
"""

from ntxengine.retention.forget import (
    Forgotten,
    PointDecision,
    VmDecision,
    bring_back,
    forget_by_policy,
    forget_points,
)
from ntxengine.retention.policy import Candidate, Decision, Policy, decide

__all__ = [
    "Candidate",
    "Decision",
    "Forgotten",
    "PointDecision",
    "Policy",
    "VmDecision",
    "bring_back",
    "decide",
    "forget_by_policy",
    "forget_points",
]
