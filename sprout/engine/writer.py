"""From chosen tokens to what a reader sees: whole characters, calls apart from text, nothing behind a stop text."""

from __future__ import annotations

from sprout.common.messages import ToolCall
from sprout.engine.types import Event, Token
from sprout.tokenizer import Tokenizer


class Writer:
    """Unfolds one reply. `events` collects what is to be told; `stopped` is the text of the message that is being
    written, cut before a stop text, once it met one."""

    def __init__(self, tokenizer: Tokenizer, number: int, stop: tuple[str, ...], tell: bool = True) -> None:
        self.number, self.stop, self.tell = number, stop, tell
        self.events: list[Event] = []
        self.stopped: str | None = None
        self._decoder = tokenizer.stream()
        self._call = tokenizer.specials["<|call|>"]
        self._longest = max(map(len, stop), default=0)
        self._start_message()

    def _start_message(self) -> None:
        self._text, self._told, self._in_call = "", 0, False  # of the message; characters of it told
        self._tokens: list[Token] = []  # chosen, not told yet

    def take(self, token: Token, ends: bool) -> None:
        """One more chosen token; `ends` says that it ends the message."""
        self._tokens.append(token)
        if ends or token.id == self._call:
            if not self._in_call:
                self._add(self._decoder.flush())
                if token.id == self._call and self.stopped is None:
                    self._tell(len(self._text), len(self._tokens) - 1)
            self._in_call |= token.id == self._call
        elif not self._in_call:
            self._add(self._decoder.feed(token.id))

    def _add(self, piece: str) -> None:
        """Text that became complete; what may be the beginning of a stop text is held back."""
        if self.stopped is not None or not piece:
            return
        self._text += piece
        if self._longest:
            start = max(0, len(self._text) - len(piece) - self._longest + 1)
            found = [at for s in self.stop if (at := self._text.find(s, start)) >= 0]
            if found:
                self.stopped = self._text[: min(found)]
                self._tell(min(found))
                return
        self._tell(len(self._text) - self._held())

    def _held(self) -> int:
        """Characters at the text's end with which a stop text may begin."""
        for n in range(min(self._longest - 1, len(self._text)), 0, -1):
            if any(s.startswith(self._text[-n:]) for s in self.stop):
                return n
        return 0

    def _tell(self, end: int, tokens: int | None = None) -> None:
        """Tell the text up to `end`, and with it all tokens, or the first so many, that were chosen since."""
        if end > self._told:
            piece, self._told = self._text[self._told : end], end
            self.events.append(Event("text", piece, tokens=tuple(self._tokens[:tokens]), number=self.number))
            self._tokens = [] if tokens is None else self._tokens[tokens:]

    def call(self, call: ToolCall | None, raw: str) -> None:
        """The message ended in a call; `raw` spells a malformed one."""
        text = "" if call else raw
        self.events.append(Event("call", text, call, tokens=tuple(self._tokens), number=self.number))
        self._start_message()

    def result(self, text: str) -> None:
        """A tool answered, and the next message begins."""
        self.events.append(Event("result", text, number=self.number))

    def finish(self) -> None:
        """The reply is over: what was held back comes out."""
        if not self._in_call:
            self._add(self._decoder.flush())
        if self.stopped is None:
            self._tell(len(self._text))
        if self._tokens:
            self.events.append(Event("text", "", tokens=tuple(self._tokens), number=self.number))
            self._tokens = []

    def drain(self) -> list[Event]:
        """What is to be told by now; nothing unless somebody reads along."""
        events, self.events = self.events, []
        return events if self.tell else []
