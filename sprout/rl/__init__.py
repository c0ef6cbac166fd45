"""Reinforcement learning from problems whose replies can be checked. Read `policy.py`, then `reinforce.py`."""

from sprout.rl.policy import advantages, policy_weights
from sprout.rl.reinforce import ReinforceConfig, reinforce

__all__ = ["ReinforceConfig", "advantages", "policy_weights", "reinforce"]
