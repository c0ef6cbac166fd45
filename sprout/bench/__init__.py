"""Speed, side by side with others' own code in the same run: what is ours is a ratio, never a time by itself.

Read `training.py` and `contenders.py` (who trains, a process each), `quality.py`, `decoding.py`, `tokenizers.py`; `run.py` is the
command, `parts.py` and `worker.py` are the processes, `tables.py` and `pictures.py` what it leaves."""
