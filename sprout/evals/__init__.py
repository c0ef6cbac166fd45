"""How good a model is: bits per byte, skills, public benchmarks."""

from sprout.evals.bits_per_byte import bits_per_byte
from sprout.evals.intervals import wilson
from sprout.evals.skills import Score, SkillResults, evaluate_skills, problems_for
from sprout.evals.tasks import evaluate_tasks

__all__ = ["Score", "SkillResults", "bits_per_byte", "evaluate_skills", "evaluate_tasks", "problems_for", "wilson"]
