"""The optimizer. `muon.py` and `adamw.py` are the two updates, `schedule.py` the learning rate over time, `exchange.py`
what processes tell each other, `optimizer.py` all of it in one `step()`."""

from sprout.common.processes import world
from sprout.optim.optimizer import OptimConfig, Optimizer, parameter_groups
from sprout.optim.schedule import schedule

__all__ = ["OptimConfig", "Optimizer", "parameter_groups", "schedule", "world"]
