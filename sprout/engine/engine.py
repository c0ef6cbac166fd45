"""The engine: any number of prompts in, their replies out; or one reply as it is being written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from sprout.common.errors import UserError
from sprout.engine.batch import Batch, Request
from sprout.engine.tools import Toolbox
from sprout.engine.types import Completion, Event, Prompt, Sampling
from sprout.model import GPT
from sprout.tokenizer import Tokenizer, prompt_ids


class Engine:
    """Generates with one model, at most `max_batch` replies at a time. Prompts may name the tools in `toolbox`."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, toolbox: Toolbox | None = None, max_batch: int = 128) -> None:
        if max_batch < 1:
            raise UserError(f"max_batch is {max_batch}; expected at least 1 reply at a time.")
        if tokenizer.vocab_size > model.config.vocab_size:
            raise UserError(
                f"the tokenizer has {tokenizer.vocab_size} tokens and the model knows {model.config.vocab_size}; "
                "they don't belong together. Name a folder that holds both."
            )
        self.model, self.tokenizer, self.toolbox, self.max_batch = model, tokenizer, toolbox or {}, max_batch

    def generate(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling | Sequence[Sampling],
        progress: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """A completion for every prompt, in their order. With one Sampling for all, prompt i gets its seed + i.

        `progress` is called with the number of replies that have just been finished. Raises UserError, before any work,
        for a prompt that leaves no room for a reply or names a tool that isn't there.
        """
        if isinstance(sampling, Sampling):
            sampling = [replace(sampling, seed=sampling.seed + i) for i in range(len(prompts))]
        if len(sampling) != len(prompts):
            raise UserError(f"there are {len(prompts)} prompts and {len(sampling)} samplings; give one or as many.")
        requests = [self._request(i, prompt, s) for i, (prompt, s) in enumerate(zip(prompts, sampling, strict=True))]
        # Neighbours are of like length then, and a batch's attention reaches no further than it must.
        waiting = deque(sorted(requests, key=lambda request: -len(request.prompt_ids)))
        size = min(self.max_batch, len(waiting))
        batch = Batch(self.model, self.tokenizer, self.toolbox, size)
        done: dict[int, Completion] = {}
        while waiting or len(batch):
            free = min(size - len(batch), len(waiting))
            if free and (free >= size // 8 or free == len(waiting)):  # prompts are read several at a time
                batch.add([waiting.popleft() for _ in range(free)])
            finished = batch.step()
            done.update((request.number, completion) for request, completion in finished)
            if progress and finished:
                progress(len(finished))
        return [done[i] for i in range(len(prompts))]

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[Event]:
        """One reply as it comes. Leaving the iterator early stops the work; no character is ever cut in two."""
        request = self._request(0, prompt, sampling)
        batch = Batch(self.model, self.tokenizer, self.toolbox, 1)
        batch.add([request])
        return self._stream(batch, request)

    def _stream(self, batch: Batch, request: Request) -> Iterator[Event]:
        decoder, shown, told = self.tokenizer.stream(), len(request.prompt_ids), 0
        in_call = False
        while len(batch):
            was_call = in_call
            finished = batch.step()
            row = batch.rows[0]  # a finished row keeps its place until another needs it
            for i in range(shown, int(row["length"])):
                token = int(row["ids"][i])
                if not row["sampled"][i]:
                    in_call = False
                elif token == batch.call or token == row["stop"]:
                    in_call = token == batch.call or in_call
                    if rest := decoder.flush():
                        yield Event("text", rest)
                elif not in_call and (piece := decoder.feed(token)):
                    yield Event("text", piece)
            shown = int(row["length"])
            for message in request.messages[told:]:
                if message.role == "tool":
                    yield Event("result", message.content)
                elif message.call or was_call or in_call:
                    raw = "" if message.call else message.content.partition("<|call|>")[2]
                    yield Event("call", raw, message.call)
            told = len(request.messages)
            for _, completion in finished:
                if rest := decoder.flush():
                    yield Event("text", rest)
                yield Event("done", completion=completion)

    def room(self, prompt: Prompt) -> int:
        """How many tokens a reply to the prompt can have; below 1 if the prompt doesn't fit into the context."""
        return self.model.config.context - len(self._ids(prompt))

    def _ids(self, prompt: Prompt) -> list[int]:
        if prompt.text is not None:
            return [self.tokenizer.specials["<|endoftext|>"], *self.tokenizer.encode(prompt.text)]
        return prompt_ids(self.tokenizer, prompt.messages, prompt.tools)

    def _request(self, number: int, prompt: Prompt, sampling: Sampling) -> Request:
        if missing := [name for name in prompt.tools if name not in self.toolbox]:
            there = ", ".join(self.toolbox) or "none"
            raise UserError(f"prompt {number} names the tool {missing[0]!r}, which isn't there; expected of: {there}.")
        ids, context = self._ids(prompt), self.model.config.context
        if len(ids) >= context:
            raise UserError(
                f"prompt {number} has {len(ids)} tokens and the model reads {context}, its reply included; "
                f"shorten it by at least {len(ids) - context + 1}."
            )
        return Request(number, prompt, ids, sampling)
