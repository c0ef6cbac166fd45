"""The engine: any number of prompts in, their replies out; or one reply as it is being written; or a scheduler, for
those who come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from sprout.common.errors import UserError
from sprout.engine.constraint import Grammars, calls_grammar
from sprout.engine.decoder import Decoder
from sprout.engine.rows import Request
from sprout.engine.scheduler import Scheduler
from sprout.engine.types import Completion, Event, Prompt, Sampling, Tool, Toolbox, TooLong
from sprout.model import GPT
from sprout.tokenizer import Tokenizer, prompt_ids


class Engine:
    """Generates with one model, at most `max_batch` replies at a time. Prompts may name the tools in `toolbox`.

    `decoder` prepares the model for writing; the weights are those of the moment in which a generation begins.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        toolbox: Toolbox | None = None,
        max_batch: int = 128,
        decoder: Callable[[GPT], Decoder] = Decoder,
    ) -> None:
        if max_batch < 1:
            raise UserError(f"max_batch is {max_batch}; expected at least 1 reply at a time.")
        if tokenizer.vocab_size > model.config.vocab_size:
            raise UserError(
                f"the tokenizer has {tokenizer.vocab_size} tokens and the model knows {model.config.vocab_size}; "
                "they don't belong together. Name a folder that holds both."
            )
        self.model, self.tokenizer, self.toolbox, self.max_batch = model, tokenizer, toolbox or {}, max_batch
        self.decoder, self.grammars = decoder, Grammars(tokenizer)

    def scheduler(self, rows: int, waiting: int | None = None, blocks: int = 0, eager: bool = True) -> Scheduler:
        """A scheduler over the model as it is now."""
        return Scheduler(self.decoder(self.model), self.tokenizer, self.toolbox, rows, waiting, blocks, eager)

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
        if not prompts:
            return []
        pairs = enumerate(zip(prompts, sampling, strict=True))
        requests = [(i, self.prepare(prompt, s, f"prompt {i}")) for i, (prompt, s) in pairs]
        scheduler = self.scheduler(min(self.max_batch, len(prompts)), eager=False)
        # Neighbours are of like length then, and a batch's attention reaches no further than it must.
        requests.sort(key=lambda request: -len(request[1].prompt_ids))
        places = {scheduler.submit(request): i for i, request in requests}
        done: dict[int, Completion] = {}
        while len(scheduler):
            finished = scheduler.step()
            done.update((places[e.number], e.completion) for e in finished if e.completion)
            if progress and finished:
                progress(len(finished))
        scheduler.close()
        return [done[i] for i in range(len(prompts))]

    def stream(self, prompt: Prompt, sampling: Sampling, scheduler: Scheduler | None = None) -> Iterator[Event]:
        """One reply as it comes. Leaving the iterator early stops the work; no character is ever cut in two. With a
        scheduler of one's own, which keeps what it has read, the next turn of a conversation begins sooner."""
        request = self.prepare(prompt, sampling)
        mine = self.scheduler(1) if scheduler is None else scheduler
        number = mine.submit(request, stream=True)
        return self._stream(mine, number)

    def _stream(self, scheduler: Scheduler, number: int) -> Iterator[Event]:
        try:
            while True:
                for event in scheduler.step():
                    yield event
                    if event.kind == "done":
                        return
        finally:
            scheduler.cancel(number)

    @property
    def context(self) -> int:
        """Tokens that the model reads, its reply included."""
        return self.model.config.context

    def room(self, prompt: Prompt) -> int:
        """How many tokens a reply to the prompt can have; below 1 if the prompt doesn't fit into the context."""
        return self.context - len(self.prompt_ids(prompt))

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """The prompt as the model reads it."""
        if prompt.text is not None:
            return [self.tokenizer.specials["<|endoftext|>"], *self.tokenizer.encode(prompt.text)]
        return prompt_ids(self.tokenizer, prompt.messages, prompt.names)

    def tools(self, prompt: Prompt) -> list[Tool]:
        """The tools that a reply to the prompt may call."""
        return [*(self.toolbox[name] for name in prompt.tools), *prompt.own]

    def prepare(self, prompt: Prompt, sampling: Sampling, what: str = "the prompt") -> Request:
        """A request for a scheduler. Any thread may do this; a new grammar can take 0.1 s and more.

        Raises UserError for a tool that isn't there or a grammar that nothing can be made of, TooLong for a prompt that
        leaves no room for a reply.
        """
        if missing := [name for name in prompt.tools if name not in self.toolbox]:
            there = ", ".join(self.toolbox) or "none"
            raise UserError(f"{what} names the tool {missing[0]!r}, which isn't there; expected of: {there}.")
        ids, context = self.prompt_ids(prompt), self.context
        if len(ids) >= context:
            raise TooLong(what, len(ids), context)
        form = self.grammars.guide(sampling.grammar) if sampling.grammar else None
        calls = None
        if prompt.names and (sampling.strict or prompt.call != "auto"):
            only = "" if prompt.call in ("auto", "required") else prompt.call
            calls = self.grammars.guide(calls_grammar(self.tools(prompt), only))
        return Request(prompt, ids, sampling, form, calls)
