"""What was grown and how, as a page people like to read and as figures a program can."""

from sprout.report.build import build_report, collect

__all__ = ["build_report", "collect"]
