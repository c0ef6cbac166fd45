"""A small corpus of shards of every kind, for the tests of what streams."""

import gzip
import json
import random
from pathlib import Path

from sprout.data import Border


def quiet(strict: bool = False) -> Border:
    return Border(strict, lambda sentence: None)


def text(i: int) -> str:
    """Document i, which no other resembles."""
    dice = random.Random(i)
    return f"document {i}: " + " ".join(dice.choice(("the", "rain", "sings", "älter", "of", "seven", "hats")) for _ in range(dice.randrange(60)))


def write_corpus(to: Path) -> None:
    """300 documents as shards of six kinds; 50 of each."""
    import pyarrow
    import pyarrow.parquet
    from pyarrow import ipc

    parts = [[text(i) for i in range(k * 50, k * 50 + 50)] for k in range(6)]
    jsonl = [b"".join(json.dumps({"text": x}).encode() + b"\n" for x in part) for part in parts]
    pyarrow.parquet.write_table(pyarrow.table({"text": parts[0]}), to / "a.parquet", row_group_size=12)
    (to / "deep").mkdir()
    (to / "deep" / "b.jsonl").write_bytes(jsonl[1])
    (to / "c.jsonl.gz").write_bytes(gzip.compress(jsonl[2]))
    with pyarrow.output_stream(str(to / "d.jsonl.zst"), compression="zstd") as out:
        out.write(jsonl[3])
    for name, part, write in (("e", parts[4], ipc.new_stream), ("f", parts[5], ipc.new_file)):
        table = pyarrow.table({"id": list(range(50)), "text": part})
        with write(str(to / f"{name}.arrow"), table.schema) as writer:
            writer.write_table(table, max_chunksize=20)
