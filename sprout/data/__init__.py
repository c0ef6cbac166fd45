"""From documents and conversations to batches. Read `packing.py`, then `batches.py`; `world_feed.py`, `local.py` and
`chats.py` are where the text comes from. What doesn't fit into memory comes through `shards.py` and `stream.py`."""

from sprout.data.batches import Batch, Resident, Source, batch_rows, get_batch
from sprout.data.chats import local_conversations
from sprout.data.local import Border, check_memory, local_texts, train_and_validation
from sprout.data.packing import Item, Packed, pack
from sprout.data.shards import Corpus, open_corpus, sample, text_bytes
from sprout.data.stream import Stream
from sprout.data.world_feed import (
    conversation_items,
    document_items,
    problem_items,
    world_problems,
    world_retellings,
    world_texts,
)

__all__ = [
    "Batch", "Border", "Corpus", "Item", "Packed", "Resident", "Source", "Stream", "batch_rows", "check_memory",
    "conversation_items", "document_items", "get_batch", "local_conversations", "local_texts", "open_corpus", "pack",
    "problem_items", "sample", "text_bytes", "train_and_validation", "world_problems", "world_retellings", "world_texts",
]  # fmt: skip
