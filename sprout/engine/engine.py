"""The engine: many conversations at once, each a row of one batch, joining and leaving at any step.

Every row has tokens that the model hasn't seen yet: at first its prompt, then the token just chosen, or what a tool
answered. A step feeds them all: single tokens together, longer stretches together. The cache belongs to the engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from sprout.common.errors import UserError
from sprout.common.messages import Message
from sprout.engine.sampling import Sampling, choose
from sprout.engine.tools import Toolbox, run_tool
from sprout.model import GPT, KVCache
from sprout.tokenizer import Tokenizer, parse_assistant, prompt_ids

MOST_CALLS = 4  # tool calls in one reply


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation to go on with, and the names of the tools it may use."""

    messages: tuple[Message, ...]
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A reply. `ids` is all that followed the prompt, `sampled` which of them the model chose (the others are tools'
    results and headers, placed by the engine), `logprobs` of the chosen ones (0 elsewhere). `finish`: 'stop' for an
    ended reply, 'length' at max_tokens, 'context' where the context was full."""

    prompt_ids: list[int]
    ids: list[int]
    sampled: list[bool]
    logprobs: list[float]
    messages: tuple[Message, ...]
    finish: str


@dataclass(slots=True)
class _Row:
    number: int
    prompt: Prompt
    sampling: Sampling
    prompt_ids: list[int]
    pending: list[int]
    seen: int = 0  # tokens in the cache
    ids: list[int] = field(default_factory=list)
    sampled: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    said: list[int] = field(default_factory=list)  # ids of the message being written
    calls: int = 0
    finish: str = ""


class Engine:
    """Generates with one model. `toolbox` holds the tools that prompts may name."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, toolbox: Toolbox | None = None, max_batch: int = 128) -> None:
        self.model, self.tokenizer, self.toolbox = model, tokenizer, toolbox or {}
        self.max_batch = max_batch
        special = tokenizer.specials
        self.end = special["<|end|>"]
        # Only the engine places headers and results; the model can't pass its words off as a tool's.
        self.forbidden = [special[f"<|{x}|>"] for x in ("endoftext", "system", "user", "assistant", "tool")]

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling | Sequence[Sampling], progress: Callable[[int], None] | None = None
    ) -> list[Completion]:
        """A completion for every prompt, in their order. With one Sampling for all, prompt i gets its seed + i."""
        settings = (
            [replace(sampling, seed=sampling.seed + i) for i in range(len(prompts))]
            if isinstance(sampling, Sampling)
            else list(sampling)
        )
        done: dict[int, Completion] = {}
        for row in self._run(prompts, settings):
            if row.finish:
                done[row.number] = _completion(row)
                if progress:
                    progress(1)
        return [done[i] for i in range(len(prompts))]

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[tuple[str, object]]:
        """One reply as it comes: ('text', piece), ('call', ToolCall), ('result', text), at last ('done', Completion)."""
        decoder, messages, shown, in_call = self.tokenizer.stream(), 0, 0, False
        call_id = self.tokenizer.specials["<|call|>"]
        for row in self._run([prompt], [sampling]):
            while shown < len(row.ids):
                token, chosen = row.ids[shown], row.sampled[shown]
                shown += 1
                if chosen and token == call_id:
                    in_call = True
                elif token == self.end or not chosen:
                    in_call = False
                elif not in_call and (piece := decoder.feed(token)):
                    yield "text", piece
            for message in row.messages[messages:]:
                if message.call:
                    yield "call", message.call
                if message.role == "tool":
                    yield "result", message.content
            messages = len(row.messages)
            if row.finish:
                if rest := decoder.flush():
                    yield "text", rest
                yield "done", _completion(row)

    def _run(self, prompts: Sequence[Prompt], settings: Sequence[Sampling]) -> Iterator[_Row]:
        """Yields a row after each token it got; `row.finish` is set on its last."""
        context = self.model.config.context
        waiting: deque[_Row] = deque()
        for i, (prompt, sampling) in enumerate(zip(prompts, settings, strict=True)):
            ids = prompt_ids(self.tokenizer, prompt.messages, prompt.tools)
            if len(ids) >= context:
                raise UserError(f"the prompt has {len(ids)} tokens and the model reads {context}; shorten it by {len(ids) - context + 1}.")
            waiting.append(_Row(i, prompt, sampling, ids, list(ids)))
        size = min(self.max_batch, len(waiting))
        cache = KVCache.empty(self.model.config, size)
        rows: list[_Row] = []
        dtype, self.model.dtype = self.model.dtype, torch.float32
        try:
            while rows or waiting:
                while waiting and len(rows) < size:
                    rows.append(waiting.popleft())
                logits = self._feed(rows, cache)
                logits[:, self.forbidden] = -torch.inf
                tokens, logprobs = choose(logits, [r.sampling for r in rows], [len(r.ids) for r in rows])
                for row, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist(), strict=True):
                    self._take(row, token, logprob)
                    yield row
                self._leave(rows, cache)
        finally:
            self.model.dtype = dtype

    @torch.no_grad()
    def _feed(self, rows: list[_Row], cache: KVCache) -> torch.Tensor:
        """Show every row its pending tokens; the logits (B, V) behind the last of them."""
        logits = torch.empty(len(rows), self.model.config.vocab_size)
        long = [i for i, row in enumerate(rows) if len(row.pending) > 1]
        for start in range(0, len(long), 32):
            part = sorted(long, key=lambda i: len(rows[i].pending))[start : start + 32]
            longest = max(len(rows[i].pending) for i in part)
            longest = min(longest, self.model.config.context - max(rows[i].seen for i in part)) if longest == 1 else longest
            ids = torch.zeros(len(part), longest, dtype=torch.int64)
            for r, i in enumerate(part):
                ids[r, : len(rows[i].pending)] = torch.tensor(rows[i].pending)
            seen = torch.tensor([rows[i].seen for i in part])
            if int(seen.max()) + longest > self.model.config.context:  # padding would run over: one by one
                for i in part:
                    one = torch.tensor([rows[i].pending])
                    logits[i] = self.model.step(one, cache, torch.tensor([i]), torch.tensor([rows[i].seen]))[0, -1]
                continue
            last = torch.tensor([len(rows[i].pending) - 1 for i in part])
            logits[part] = self.model.step(ids, cache, torch.tensor(part), seen, last)
        single = [i for i, row in enumerate(rows) if len(row.pending) == 1]
        if single:
            where = slice(0, len(rows)) if len(single) == len(rows) else torch.tensor(single)
            ids = torch.tensor([rows[i].pending for i in single])
            logits[single] = self.model.step(ids, cache, where, torch.tensor([rows[i].seen for i in single]))[:, -1]
        for row in rows:
            row.seen += len(row.pending)
            row.pending = []
        return logits

    def _take(self, row: _Row, token: int, logprob: float) -> None:
        """Add a chosen token to a row, run a tool where the message ends in a call, and see whether the row is done."""
        row.ids.append(token)
        row.sampled.append(True)
        row.logprobs.append(logprob)
        row.pending = [token]
        context = self.model.config.context
        if token != self.end:
            row.said.append(token)
            if sum(row.sampled) >= row.sampling.max_tokens:
                row.finish = "length"
        else:
            message = parse_assistant(self.tokenizer, row.said)
            row.messages.append(message)
            row.said = []
            if message.call is None:
                row.finish = "stop"
            else:
                self._call(row, message)
        if not row.finish and row.seen + len(row.pending) >= context:
            row.finish = "context"
        if row.finish and row.said:
            row.messages.append(parse_assistant(self.tokenizer, row.said))

    def _call(self, row: _Row, message: Message) -> None:
        """Run the tool and place its result and a new header behind the call."""
        assert message.call is not None
        row.calls += 1
        result = run_tool(self.toolbox, row.prompt.tools, message.call)
        row.messages.append(Message("tool", result))
        special = self.tokenizer.specials
        placed = [special["<|tool|>"], *self.tokenizer.encode(result), self.end, special["<|assistant|>"]]
        if row.calls > MOST_CALLS or sum(row.sampled) >= row.sampling.max_tokens:
            row.finish = "length"
            return
        row.pending += placed
        row.ids += placed
        row.sampled += [False] * len(placed)
        row.logprobs += [0.0] * len(placed)

    def _leave(self, rows: list[_Row], cache: KVCache) -> None:
        """Take finished rows out; the last row of the batch moves into the gap, its cache with it."""
        i = 0
        while i < len(rows):
            if not rows[i].finish:
                i += 1
                continue
            last = rows.pop()
            if i < len(rows):
                rows[i] = last
                cache.k[:, i, : last.seen] = cache.k[:, len(rows), : last.seen]
                cache.v[:, i, : last.seen] = cache.v[:, len(rows), : last.seen]


def _completion(row: _Row) -> Completion:
    return Completion(row.prompt_ids, row.ids, row.sampled, row.logprobs, tuple(row.messages), row.finish)
