"""The parts of the recipe that `sprout/grow.py` puts in order. Read `config.py`, then `stages.py`; `sources.py` is what goes
in, `plan.py` turns minutes into steps, `samples.py` is what the model says, `practice.py` is reinforcement."""

from sprout.recipe.config import STAGES, GrowConfig, Plan, Say, Session
from sprout.recipe.plan import REINFORCE_STEP, evaluation_seconds, loop_config, make_plan, measure
from sprout.recipe.practice import reinforce_bytes, run_reinforce
from sprout.recipe.sources import check_lengths, feed, make_tokenizer, read_local
from sprout.recipe.stages import code_version, done, run_stage

__all__ = [
    "REINFORCE_STEP", "STAGES", "GrowConfig", "Plan", "Say", "Session", "check_lengths", "code_version", "done", "evaluation_seconds", "feed", "loop_config", "make_plan",
    "make_tokenizer", "measure", "read_local", "reinforce_bytes", "run_reinforce", "run_stage",
]  # fmt: skip
