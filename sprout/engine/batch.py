"""The rows of a batch: conversations that are being written at the same time, each with its own place in the cache.

All that is known about a row is one record of a structured array, so that a step works on whole columns and moving a
row is one assignment. A row's `ids` are prompt and reply together; of these the cache has `seen`, `length` are there.
Usually one token is left to show to the model; after a prompt or a tool's result there are more. The running rows are
always the first ones: the last row moves into the gap that a finished one leaves.

Letters: B running rows, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sprout.common.errors import UserError
from sprout.common.messages import Message
from sprout.engine.sampling import choose, log_probability, uniform
from sprout.engine.tools import Toolbox, run_tool
from sprout.engine.types import Completion, Prompt, Sampling
from sprout.model import GPT, KVCache
from sprout.tokenizer import Tokenizer, parse_assistant

MOST_CALLS = 4  # tool calls in a reply; after these the model can't choose <|call|>
CHUNK = 512  # tokens of a row that a fill shows at once
WASTE = 32  # tokens of padding that cost as much as another call (1.2 ms against 0.04 ms a token, 1.2M parameters)
LARGEST_SCORES = 1 << 26  # numbers in a fill's attention scores: 256 MB


@dataclass(slots=True)
class Request:
    """What is asked of a row, and the messages written so far."""

    number: int
    prompt: Prompt
    prompt_ids: list[int]
    sampling: Sampling
    messages: list[Message] = field(default_factory=list)


def row_type(context: int) -> np.dtype:
    """What is known about a row."""
    return np.dtype(
        [
            ("ids", np.int64, (context,)), ("sampled", np.bool_, (context,)), ("logprobs", np.float32, (context,)),
            ("length", np.int64),  # tokens that are there
            ("seen", np.int64),  # tokens in the cache
            ("turn", np.int64),  # where the message being written starts
            ("left", np.int64),  # tokens that the model may still choose
            ("calls", np.int64),  # tool calls so far
            ("calling", np.bool_),  # the message being written has a call
            ("tools", np.bool_), ("stop", np.int64),  # may call tools; the id that ends a message
            ("temperature", np.float32), ("top_k", np.int64), ("top_p", np.float32), ("seed", np.uint64),
        ],
        align=True,
    )  # fmt: skip


class Batch:
    """Up to `size` conversations. `add` takes them in, `step` gives each a token and hands out the finished ones."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, toolbox: Toolbox, size: int) -> None:
        config, special = model.config, tokenizer.specials
        self.model, self.tokenizer, self.toolbox, self.size = model, tokenizer, toolbox, size
        self.device = model.embed.device
        self.rows = np.zeros(size, row_type(config.context))
        self.requests: list[Request] = []
        with torch.inference_mode():
            cache = KVCache.empty(config, size)
            self.cache = KVCache(cache.k.to(self.device), cache.v.to(self.device))
        self.call, self.end, self.start = special["<|call|>"], special["<|end|>"], special["<|endoftext|>"]
        # Headers and results are placed here alone: the model can't pass its words off as a tool's or the user's.
        never = [special[f"<|{role}|>"] for role in ("system", "user", "assistant", "tool")]
        self.never = torch.tensor([*never, *range(tokenizer.vocab_size, config.vocab_size)], device=self.device)

    def __len__(self) -> int:
        return len(self.requests)

    def add(self, requests: Sequence[Request]) -> None:
        """Take in new conversations; there must be room, and their prompts must be shorter than the context."""
        for request in requests:
            row, n, sampling = self.rows[len(self.requests)], len(request.prompt_ids), request.sampling
            row["ids"][:n] = request.prompt_ids
            row["sampled"], row["logprobs"] = False, 0
            row["length"], row["seen"], row["turn"] = n, 0, n
            row["left"], row["calls"], row["calling"] = sampling.max_tokens, 0, False
            row["tools"] = bool(request.prompt.tools)
            row["stop"] = self.end if request.prompt.text is None else self.start
            row["temperature"], row["top_k"], row["top_p"] = sampling.temperature, sampling.top_k, sampling.top_p
            row["seed"] = sampling.seed % 2**64
            self.requests.append(request)

    @torch.inference_mode()
    def step(self) -> list[tuple[Request, Completion]]:
        """Show every row one token more and choose the next where that was its last; the rows that this finished."""
        self._fill()
        B = len(self.requests)
        r, every = self.rows[:B], np.arange(B)
        ids = r["ids"][every, r["seen"]][:, None]
        logits = self._forward(ids, slice(0, B), r["seen"], np.zeros(B, np.int64))
        r["seen"] += 1
        ready = np.flatnonzero(r["seen"] == r["length"])  # the others are still reading what a tool answered
        chosen, logprobs = self._choose(logits if len(ready) == B else logits[self._tensor(ready)], r[ready])
        at = r["length"][ready]
        r["ids"][ready, at], r["logprobs"][ready, at], r["sampled"][ready, at] = chosen, logprobs, True
        r["length"][ready] += 1
        r["left"][ready] -= 1
        r["calling"][ready] |= chosen == self.call
        halted = (chosen == r["stop"][ready]) | (r["left"][ready] == 0) | (at + 1 == self.model.config.context)
        finished = [(int(i), finish) for i in ready[halted] if (finish := self._halt(int(i)))]
        done = [(self.requests[i], self._completion(i, finish)) for i, finish in finished]
        for i, _ in reversed(finished):
            self._remove(i)
        return done

    def _forward(self, ids: np.ndarray, rows: Tensor | slice, seen: np.ndarray, last: np.ndarray) -> Tensor:
        """Show ids (B, T) to the model, which has seen `seen` (B,) tokens of each row: logits (B, V) at `last` (B,).

        Always in float32, whatever the model was trained in: a reply and its log-probabilities then depend on the
        weights alone.
        """
        dtype, self.model.dtype = self.model.dtype, torch.float32
        try:
            return self.model.step(self._tensor(ids), self.cache, rows, self._tensor(seen), self._tensor(last))
        finally:
            self.model.dtype = dtype

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _fill(self) -> None:
        """Show the model what waits in front of every row's last token, if it is worth it.

        A token that waits costs its row one step in which it gets no new one; a fill holds up all B rows for about one
        step. So it pays once more than B tokens wait.
        """
        while True:
            r = self.rows[: len(self.requests)]
            waits = np.minimum(r["length"] - r["seen"] - 1, CHUNK)
            if waits.sum() <= len(r):
                return
            for group in self._groups(waits):
                seen, count = r["seen"][group], waits[group]
                T = int(count.max())
                places = np.minimum(seen[:, None] + np.arange(T), self.model.config.context - 1)
                ids = r["ids"][group[:, None], places]  # behind a row's own tokens is padding, overwritten later
                self._forward(ids, self._tensor(group), seen, count - 1)
                r["seen"][group] += count

    def _groups(self, waits: np.ndarray) -> list[np.ndarray]:
        """Rows with waiting tokens, in groups of similar numbers of these, so that padding and scores stay small."""
        config, groups = self.model.config, []
        group: list[int] = []
        furthest = 0  # where the longest row of the group has got to
        for i in np.argsort(waits, kind="stable")[int((waits == 0).sum()) :].tolist():
            T, seen = int(waits[i]), int(self.rows["seen"][i])
            reach = max(furthest, seen) + T
            padding = (T - int(waits[group[-1]])) * len(group) if group else 0
            scores = (len(group) + 1) * T * reach * config.heads
            if group and (padding > WASTE or reach > config.context or scores > LARGEST_SCORES):
                groups.append(np.array(group))
                group, furthest = [], 0
            group.append(i)
            furthest = max(furthest, seen)
        return [*groups, np.array(group)] if group else groups

    def _choose(self, logits: Tensor, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Next ids (B,) and their log-probabilities (B,) from logits (B, V) and the records of the rows."""
        allowed = logits.index_fill(1, self.never, -torch.inf)
        # A document ends in <|endoftext|> and a message in <|end|>; only a row with tools may start a call.
        document = self._tensor(r["stop"] == self.start)
        allowed[:, self.start].masked_fill_(~document, -torch.inf)
        allowed[:, self.end].masked_fill_(document, -torch.inf)
        allowed[:, self.call].masked_fill_(self._tensor(~r["tools"] | (r["calls"] >= MOST_CALLS)), -torch.inf)
        temperature, top_k, top_p = (self._tensor(r[name]) for name in ("temperature", "top_k", "top_p"))
        chosen = choose(allowed, temperature, top_k, top_p, self._tensor(uniform(r["seed"], r["length"])))
        logprobs = log_probability(logits, chosen).cpu().numpy()
        if not np.isfinite(logprobs).all():
            raise UserError("the model's scores are not numbers; its weights are damaged. Go back to an earlier stage.")
        return chosen.cpu().numpy(), logprobs

    def _halt(self, i: int) -> str:
        """Why row i ends here; empty if it goes on because a tool was called."""
        row, request = self.rows[i], self.requests[i]
        if row["ids"][row["length"] - 1] != row["stop"]:
            request.messages.append(self._message(row["ids"][row["turn"] : row["length"]]))
            return "length" if row["left"] == 0 else "context"
        message = self._message(row["ids"][row["turn"] : row["length"] - 1])
        request.messages.append(message)
        if not row["calling"]:
            return "stop"
        if row["left"] == 0:
            return "length"
        result = run_tool(self.toolbox, request.prompt.tools, message.call)
        special = self.tokenizer.specials
        placed = [special["<|tool|>"], *self.tokenizer.encode(result), self.end, special["<|assistant|>"]]
        start, end = int(row["length"]), int(row["length"]) + len(placed)
        if end >= self.model.config.context:
            return "context"
        request.messages.append(Message("tool", result))
        row["ids"][start:end] = placed
        row["length"], row["turn"], row["calling"] = end, end, False
        row["calls"] += 1
        return ""

    def _message(self, ids: np.ndarray) -> Message:
        return parse_assistant(self.tokenizer, ids.tolist())

    def _completion(self, i: int, finish: str) -> Completion:
        row, request = self.rows[i], self.requests[i]
        reply = slice(len(request.prompt_ids), int(row["length"]))
        ids, sampled, logprobs = (row[name][reply].tolist() for name in ("ids", "sampled", "logprobs"))
        return Completion(request.prompt_ids, ids, sampled, logprobs, tuple(request.messages), finish)

    def _remove(self, i: int) -> None:
        last, request = len(self.requests) - 1, self.requests.pop()
        if i < last:
            self.rows[i], self.requests[i] = self.rows[last], request
            seen = int(self.rows["seen"][i])
            for kept in (self.cache.k, self.cache.v):
                kept[:, i, :, :seen] = kept[:, last, :, :seen]
