"""The rows of a batch: conversations that are being written at the same time, each with its own place in the cache.

What is known about a row stands in `rows.py`. Usually one token is left to show to the model; after a prompt or a tool's
result there are more. The running rows are always the first ones: the last row moves into the gap that a finished one leaves.

Letters: B running rows, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sprout.common.errors import UserError
from sprout.common.messages import Message
from sprout.engine import native
from sprout.engine.constraint import Guide
from sprout.engine.decoder import Decoder
from sprout.engine.filling import groups, waiting
from sprout.engine.prefixes import PrefixStore
from sprout.engine.rows import CALLABLE, DOCUMENT, SETTINGS, Request, completion, row_type
from sprout.engine.sampling import choose, log_probability, penalise, uniform
from sprout.engine.tools import run_tool
from sprout.engine.types import Completion, Token, Toolbox
from sprout.tokenizer import Tokenizer, parse_assistant

MOST_CALLS = 4  # tool calls in a reply; after these the model can't choose <|call|>
SHARE = 256  # tokens that wait and are shown between two steps, so that a long prompt doesn't hold up the others
STRETCH, MOST_ROWS = 16, 256  # tokens of a row that are written at a stretch where nobody waits; rows of which they can be
DAMAGED = "the model's scores are not numbers; its weights are damaged. Go back to an earlier stage."
CHOOSING = ("kind", "stop", "must", "guided", "penalised", "followed", *SETTINGS, "alternatives", "seed", "length")


class Batch:
    """Up to `size` conversations. `add` takes them in, `step` gives each a token and hands out those that end.

    With `eager`, what waits is shown to the model soon, at most SHARE tokens between two steps: each reply begins
    early. Without, it is shown once that pays for all together.
    """

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer, toolbox: Toolbox, size: int, blocks: int = 0, eager: bool = False
    ) -> None:
        config, special = decoder.config, tokenizer.specials
        self.decoder, self.tokenizer, self.toolbox, self.size, self.eager = decoder, tokenizer, toolbox, size, eager
        self.config, self.device = config, decoder.device
        self.rows = np.zeros(size, row_type(config.context))
        self.requests: list[Request] = []
        with torch.inference_mode():
            self.cache = decoder.cache(size)
            self.prefixes = PrefixStore(self.cache, blocks) if blocks else None
        self.call, self.end, self.start = special["<|call|>"], special["<|end|>"], special["<|endoftext|>"]
        # Headers and results are placed here alone: the model can't pass its words off as a tool's or the user's.
        never = [special[f"<|{role}|>"] for role in ("system", "user", "assistant", "tool")]
        # What is forbidden, by kind of row. A document ends in <|endoftext|> and a message in <|end|>; only a row with
        # tools may start a call.
        self.masks = np.zeros((4, config.vocab_size), np.bool_)
        self.masks[:, [*never, *range(tokenizer.vocab_size, config.vocab_size)]] = True
        self.masks[:DOCUMENT, self.start] = self.masks[DOCUMENT:, self.end] = True
        self.masks[::CALLABLE + 1, self.call] = True

    def __len__(self) -> int:
        return len(self.requests)

    @torch.inference_mode()
    def add(self, requests: Sequence[Request]) -> None:
        """Take in conversations; there must be room, and their prompts must be shorter than the context."""
        for request in requests:
            i, sampling, prompt = len(self.requests), request.sampling, request.prompt
            row, n = self.rows[i], len(request.prompt_ids)
            if request.away is not None:  # it comes back with a result, and with all that is known about it
                self.rows[i] = request.away
                request.away = None
                row["seen"] = 0
            else:
                row["ids"][:n] = request.prompt_ids
                row["sampled"], row["logprobs"] = False, 0
                row["length"], row["seen"], row["turn"], row["number"] = n, 0, n, request.number
                row["left"], row["calls"], row["calling"], row["kept"] = sampling.max_tokens, 0, False, False
                row["kind"] = CALLABLE * bool(prompt.names) + DOCUMENT * (prompt.text is not None)
                row["stop"], row["must"] = self.end if prompt.text is None else self.start, prompt.call != "auto"
                for name in ("temperature", "top_k", "top_p", "min_p", "alternatives"):
                    row[name] = getattr(sampling, name)
                row["penalised"] = (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty) != (1, 0, 0)
                row["seed"] = sampling.seed % 2**64
                row["followed"] = bool(request.writer or request.form or request.calls)
                self._guide(row, request, request.form)
            if self.prefixes:
                row["seen"] = self.prefixes.fetch(row["ids"][: row["length"] - 1], self.cache, i)
                if not row["kept"]:  # else it comes back, and its prompt is known because it was read for this reply
                    request.cached = int(row["seen"])
            self.requests.append(request)

    def _guide(self, row: np.void, request: Request, at_beginning: Guide | None) -> None:
        request.guide = at_beginning.copy() if at_beginning else None
        row["guided"] = at_beginning is not None

    @torch.inference_mode()
    def step(self) -> list[tuple[Request, Completion | None]]:
        """Show every row one token more and choose the next where that was its last. The rows that this ended, each
        with its completion, or None where a slow tool has to be run before it goes on."""
        self._fill()
        B = len(self.requests)
        r = self.rows[:B]
        if n := self._stretch(r):
            ready, column = np.arange(B), {name: r[name] for name in CHOOSING}
            chosen, logprobs = self._write(r, n)
        else:
            ids = r["ids"][np.arange(B), r["seen"]][:, None]
            logits = self._forward(ids, slice(0, B), r["seen"], np.zeros(B, np.int64))
            r["seen"] += 1
            ready = np.flatnonzero(r["seen"] == r["length"])  # the others are still reading
            if len(ready) < B:
                logits = logits[self._tensor(ready)]
            if self.prefixes:
                for i in ready[~r["kept"][ready]].tolist():
                    self._keep(i)
            # Where all are ready their columns are looked at in place, which is a third of the time of a copy.
            column = {name: r[name] if len(ready) == B else r[name][ready] for name in CHOOSING}
            chosen, logprobs = (a[None] for a in self._choose(logits, ready, column))
        n, start = len(chosen), r["length"][ready]
        at = start + np.arange(n)[:, None]  # (n, B), as chosen and logprobs are
        r["ids"][ready, at], r["logprobs"][ready, at], r["sampled"][ready, at] = chosen, logprobs, True
        r["left"][ready] -= n
        r["must"][ready] = False
        r["calling"][ready] |= (chosen == self.call).any(0)
        halted = (chosen[-1] == column["stop"]) | (r["left"][ready] == 0) | (start + n == self.config.context)
        r["length"][ready] += n
        if column["followed"].any():
            halted |= self._follow(ready, chosen[0], logprobs[0])
        ended = [(i, finish) for i in ready[halted].tolist() if (finish := self._halt(i))]
        done = []
        for i, finish in ended:
            request = self.requests[i]
            if request.writer and finish != "away":
                request.writer.finish()
            if self.prefixes:
                self._keep(i)
            if finish == "away":
                request.away = self.rows[i].copy()
            done.append((request, None if finish == "away" else self._completion(i, finish)))
        for i, _ in reversed(ended):
            self._remove(i)
        return done

    def _stretch(self, r: np.ndarray) -> int:
        """How many tokens all rows can be given at a stretch, without a look at what each is; 0 where that can't be."""
        if self.eager or self.prefixes or not self.decoder.writes or len(r) > MOST_ROWS:
            return 0
        if (r["followed"] | r["penalised"] | r["must"] | (r["alternatives"] > 0) | (r["seen"] + 1 < r["length"])).any():
            return 0
        return min(STRETCH, int(r["left"].min()), self.config.context - int(r["length"].max()))

    def _write(self, r: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """At most n tokens for each row: ids and log-probabilities, (n, B)."""
        last, settings = r["ids"][np.arange(len(r)), r["seen"]], [r[name] for name in SETTINGS]
        of = (r["seen"], self.masks, r["kind"], settings, r["seed"], r["length"], r["stop"])
        chosen, logprobs = native.write(self.decoder.core, n, last, self.cache, *of)
        if not np.isfinite(logprobs).all():
            raise UserError(DAMAGED)
        r["seen"] += len(chosen)
        return chosen, logprobs

    def cancel(self, number: int) -> bool:
        """Let a conversation go; whether it was here."""
        for i, request in enumerate(self.requests):
            if request.number == number:
                self._remove(i)
                return True
        return False

    def _forward(self, ids: np.ndarray, rows: Tensor | slice, seen: np.ndarray, last: np.ndarray) -> Tensor:
        """Show ids (B, T) to the model, which has seen `seen` (B,) tokens of each row: logits (B, V) at `last` (B,)."""
        return self.decoder.step(torch.from_numpy(ids), self.cache, rows, torch.from_numpy(np.ascontiguousarray(seen)), torch.from_numpy(last))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _fill(self) -> None:
        """Show the model what waits in front of every row's last token, as far as that is worth it now."""
        left = SHARE if self.eager else 1 << 62
        while left:
            r = self.rows[: len(self.requests)]
            waits = waiting(r, left, self.eager)
            if not waits.any():
                return
            left -= int(waits.sum())
            for group in groups(waits, r["seen"], self.config):
                seen, count = r["seen"][group], waits[group]
                places = np.minimum(seen[:, None] + np.arange(int(count.max())), self.config.context - 1)
                ids = r["ids"][group[:, None], places]  # behind a row's own tokens is padding, overwritten later
                self._forward(ids, self._tensor(group), seen, count - 1)
                r["seen"][group] += count

    def _choose(self, logits: Tensor, ready: np.ndarray, r: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Next ids (B,) and their log-probabilities (B,) from logits (B, V) of the rows `ready` (B,), whose columns r has."""
        scores, settings = logits, [r[name] for name in SETTINGS]
        bound = r["guided"] | r["must"]
        if (bound | r["penalised"]).any():
            scores = logits.clone()
            for b in np.flatnonzero(r["penalised"]).tolist():
                self._penalise(scores[b], int(ready[b]))
            for b in np.flatnonzero(bound).tolist():
                scores[b].masked_fill_(self._tensor(~self._possible(int(ready[b]))), -torch.inf)
        if self.decoder.core:
            chosen, logprobs = native.choose(self.decoder.core, logits, scores, self.masks, r["kind"], settings, r["seed"], r["length"])
        else:
            allowed = scores.masked_fill(self._tensor(self.masks[r["kind"]]), -torch.inf)
            luck = self._tensor(uniform(r["seed"], r["length"]))
            temperature, top_k, top_p, min_p = map(self._tensor, settings)
            ids = choose(allowed, temperature, top_k, top_p, min_p, luck)
            chosen, logprobs = ids.cpu().numpy(), log_probability(logits, ids).cpu().numpy()
        if not np.isfinite(logprobs).all():
            raise UserError(DAMAGED)
        if most := int(r["alternatives"].max(initial=0)):
            told = np.flatnonzero(r["alternatives"])
            values, ids = logits[self._tensor(told)].log_softmax(-1).topk(min(most, logits.shape[1]), sorted=True)
            for b, mine, theirs in zip(told.tolist(), ids.tolist(), values.tolist(), strict=True):
                n = int(r["alternatives"][b])
                self.requests[int(ready[b])].alternatives.append(tuple(zip(mine[:n], theirs[:n], strict=True)))
        return chosen, logprobs

    def _penalise(self, scores: Tensor, i: int) -> None:
        row, sampling = self.rows[i], self.requests[i].sampling
        said = row["ids"][: row["length"]]
        reply = said[row["sampled"][: row["length"]]]
        penalise(scores, said, reply, sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty)

    def _possible(self, i: int) -> np.ndarray:
        """Which ids may follow in row i by its grammar, or since it must call a tool: (V,) bool."""
        row, request = self.rows[i], self.requests[i]
        possible = np.zeros(self.config.vocab_size, np.bool_)
        if row["must"]:
            possible[self.call] = True
            return possible
        assert request.guide is not None
        allowed = request.guide.allowed()
        if allowed is None or not allowed.any():
            request.stuck, possible[row["stop"]] = True, True
            return possible
        possible[: len(allowed)] = allowed
        possible[self.call] = row["kind"] & CALLABLE and request.guide.fresh and not row["calling"]  # a call instead of the text
        return possible

    def _follow(self, ready: np.ndarray, chosen: np.ndarray, logprobs: np.ndarray) -> np.ndarray:
        """Take grammars and writers along to the chosen tokens; (B,) bool, which rows met a stop text."""
        met = np.zeros(len(ready), np.bool_)
        for b in np.flatnonzero(self.rows["followed"][ready]).tolist():
            i = int(ready[b])
            request, token = self.requests[i], int(chosen[b])
            if token == self.call and not (request.guide and not request.guide.fresh):
                self._guide(self.rows[i], request, request.calls)
            elif request.guide:
                request.guide.take(token)
            if request.writer:
                alternatives = request.alternatives[-1] if request.sampling.alternatives else ()
                request.writer.take(Token(token, float(logprobs[b]), alternatives), token == self.rows["stop"][i])
                met[b] = request.writer.stopped is not None
        return met

    def _halt(self, i: int) -> str:
        """Why row i ends here; 'away' if it waits for a slow tool; empty if it goes on because a tool was called."""
        row, request = self.rows[i], self.requests[i]
        if request.writer and request.writer.stopped is not None:
            request.messages.append(Message("assistant", request.writer.stopped))
            return "stop"
        if row["ids"][row["length"] - 1] != row["stop"]:
            # A call that is cut off is none, even where what is there of it could be one.
            ids = row["ids"][row["turn"] : row["length"]].tolist()
            request.messages.append(Message("assistant", self.tokenizer.decode(ids)))
            if request.writer and row["calling"]:
                request.writer.call(None, self.tokenizer.decode(ids[ids.index(self.call) + 1 :]))
            return "length" if row["left"] == 0 else "context"
        message = self._message(row["ids"][row["turn"] : row["length"] - 1])
        request.messages.append(message)
        if request.stuck:
            return "grammar"
        if not row["calling"]:
            return "stop"
        if request.writer:
            request.writer.call(message.call, message.content.partition("<|call|>")[2])
        if request.own(message.call):
            return "call"
        if row["left"] == 0:
            return "length"
        tool = self.toolbox.get(message.call.name) if message.call else None
        if tool is not None and tool.slow and tool.name in request.prompt.tools:
            return "away"
        return self.place(self.rows[i], request, run_tool(self.toolbox, request.prompt.tools, message.call))

    def place(self, row: np.void | np.ndarray, request: Request, result: str) -> str:
        """Write a tool's result and the next header behind a row's call; 'context' if it doesn't fit, else empty."""
        special = self.tokenizer.specials
        placed = [special["<|tool|>"], *self.tokenizer.encode(result), self.end, special["<|assistant|>"]]
        start, end = int(row["length"]), int(row["length"]) + len(placed)
        if end >= self.config.context:
            return "context"
        request.messages.append(Message("tool", result))
        if request.writer:
            request.writer.result(result)
        row["ids"][start:end] = placed
        row["sampled"][start:end], row["logprobs"][start:end] = False, 0
        row["length"], row["turn"], row["calling"] = end, end, False
        row["calls"] += 1
        if row["calls"] == MOST_CALLS:
            row["kind"] &= ~CALLABLE
        self._guide(row, request, request.form)  # type: ignore[arg-type]
        return ""

    def _message(self, ids: np.ndarray) -> Message:
        return parse_assistant(self.tokenizer, ids.tolist())

    def _completion(self, i: int, finish: str) -> Completion:
        return completion(self.rows[i], self.requests[i], finish)

    def _keep(self, i: int) -> None:
        """Put what row i has in the cache into the prefix store."""
        assert self.prefixes is not None
        row = self.rows[i]
        self.prefixes.keep(row["ids"][: row["seen"]], self.cache, i)
        row["kept"] = True

    def _remove(self, i: int) -> None:
        last, request = len(self.requests) - 1, self.requests.pop()
        if i < last:
            self.rows[i], self.requests[i] = self.rows[last], request
            seen = int(self.rows["seen"][i])
            with torch.inference_mode():
                for kept in (self.cache.k, self.cache.v):
                    kept[:, i, :, :seen] = kept[:, last, :, :seen]
