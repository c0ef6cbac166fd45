"""The engine: whatever the batch, a reply is what the model alone would have said; tools, limits, streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sprout.common.errors import UserError
from sprout.common.messages import Message, ToolCall
from sprout.engine import Completion, Decoder, Engine, KVCache, Prompt, Sampling, Tool, Toolbox, toolbox_for
from sprout.engine.batch import MOST_CALLS, Batch
from sprout.engine.tools import MALFORMED, one_text
from sprout.model import GPT, GPTConfig
from sprout.tokenizer import Tokenizer, prompt_ids, render

WORDS = "The quick brown fox asked Mira what 12 + 30 may be. Ünïcode 🦊 calculator expression lookup name answer is 42."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([WORDS] * 3, 300)


def shape(tokenizer: Tokenizer, context: int = 96, **other: int) -> GPTConfig:
    return GPTConfig(tokenizer.vocab_size, context, 2, 32, 4, 2, 8, 64, **other)  # type: ignore[arg-type]


def random_model(config: GPTConfig, seed: int = 0) -> GPT:
    """A model all of whose matrices are random, so that every part matters."""
    model = GPT(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.3, generator=generator)
    return model


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> GPT:
    return random_model(shape(tokenizer))


def user(text: str) -> Prompt:
    return Prompt((Message("user", text),))


def prompts(n: int) -> list[Prompt]:
    """n prompts of very different lengths."""
    return [user((WORDS * 2)[i : i + 1 + (i * 37) % 60]) for i in range(n)]


class Actor(Decoder):
    """Says what it is told: `lines` are the replies' ids in turn, each ending in <|end|>; after the n-th header comes
    the n-th line. It knows where it is from the tokens in front of it, which it keeps by row and position."""

    def play(self, tokenizer: Tokenizer, lines: Sequence[Sequence[int]]) -> Actor:
        self.lines, self.header = [list(line) for line in lines], tokenizer.specials["<|assistant|>"]
        self.memory: dict[int, dict[int, int]] = {}
        return self

    def step(self, ids: Tensor, cache: KVCache, rows: Tensor | slice, starts: Tensor, last: Tensor) -> Tensor:
        out = torch.zeros(len(ids), self.config.vocab_size)
        for b, row in enumerate(torch.arange(cache.k.shape[1])[rows].tolist()):
            memory = self.memory.setdefault(row, {})
            memory.update({int(starts[b]) + t: int(x) for t, x in enumerate(ids[b])})
            past = [memory[i] for i in range(int(starts[b]) + int(last[b]) + 1)]
            headers = [i for i, x in enumerate(past) if x == self.header]
            if headers:
                line = self.lines[min(len(headers), len(self.lines)) - 1]
                out[b, line[min(len(past) - headers[-1] - 1, len(line) - 1)]] = 50
        return out


def actor(tokenizer: Tokenizer, config: GPTConfig, lines: Sequence[Sequence[int]], toolbox: Toolbox | None = None) -> Engine:
    """An engine whose model says `lines`."""
    return Engine(GPT(config), tokenizer, toolbox, decoder=lambda model: Actor(model).play(tokenizer, lines))


def call_ids(tokenizer: Tokenizer, text: str, before: str = "") -> list[int]:
    special = tokenizer.specials
    return [*tokenizer.encode(before), special["<|call|>"], *tokenizer.encode(text), special["<|end|>"]]


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return [*tokenizer.encode(text), tokenizer.specials["<|end|>"]]


def act(
    tokenizer: Tokenizer, lines: Sequence[Sequence[int]], context: int = 256, tools: tuple[str, ...] = ("calculator",)
) -> Completion:
    engine = actor(tokenizer, shape(tokenizer, context), lines, toolbox_for(None))
    return engine.generate([Prompt((Message("user", "12 + 30?"),), tools)], Sampling(max_tokens=200))[0]


# ------------------------------------------------------------------------------------------------ cache and batch


@torch.inference_mode()
def test_cached_logits_are_the_uncached_ones(tokenizer: Tokenizer, model: GPT, float32: None) -> None:
    """Rows of different lengths, filled in groups with padding and then token by token, against whole forwards."""
    generator = np.random.default_rng(0)
    batch = Batch(Decoder(model), tokenizer, {}, 6)
    lengths = [3, 40, 41, 7, 90, 1]
    rows = [generator.integers(0, 256, n) for n in lengths]
    for i, ids in enumerate(rows):
        batch.rows["ids"][i, : len(ids)], batch.rows["length"][i] = ids, len(ids)
    batch.requests = [None] * 6  # type: ignore[list-item]
    batch._fill()
    assert (batch.rows["seen"] == batch.rows["length"] - 1).all()
    for _ in range(5):
        seen = batch.rows["seen"]
        last = batch.rows["ids"][np.arange(6), seen][:, None]
        got = batch._forward(last, slice(0, 6), seen, np.zeros(6, np.int64))
        for i in range(6):
            whole = model.logits(model(torch.from_numpy(batch.rows["ids"][i : i + 1, : seen[i] + 1].copy())))[0, -1]
            assert torch.allclose(got[i], whole, atol=1e-4), f"row {i}"
        batch.rows["seen"] += 1
        batch.rows["ids"][np.arange(6), batch.rows["seen"]] = generator.integers(0, 256, 6)
        batch.rows["length"] += 1


@pytest.mark.parametrize(
    "sampling",
    [Sampling(max_tokens=30), Sampling(1.0, max_tokens=30, seed=7), Sampling(0.8, 20, 0.9, max_tokens=30, seed=2**63)],
)
def test_a_reply_is_the_same_alone_and_in_any_batch(tokenizer: Tokenizer, model: GPT, sampling: Sampling) -> None:
    asked = prompts(12)
    alone = [
        Engine(model, tokenizer).generate([p], replace(sampling, seed=sampling.seed + i))[0]
        for i, p in enumerate(asked)
    ]
    for size in (3, 12):
        together = Engine(model, tokenizer, max_batch=size).generate(asked, sampling)
        for a, b in zip(alone, together, strict=True):
            assert a.ids == b.ids and a.messages == b.messages and a.finish == b.finish
            assert np.allclose(a.logprobs, b.logprobs, atol=1e-4)


def test_seeds(tokenizer: Tokenizer, model: GPT) -> None:
    engine, sampling = Engine(model, tokenizer), Sampling(1.0, max_tokens=20, seed=5)
    first, second = engine.generate([user("fox")] * 2, sampling)
    assert first.ids != second.ids  # the same prompt twice is two tries
    assert [c.ids for c in engine.generate([user("fox")] * 2, sampling)] == [first.ids, second.ids]
    same = engine.generate([user("fox")] * 2, [sampling, sampling])
    assert same[0].ids == same[1].ids == first.ids


def test_logprobs_are_those_of_the_model_alone(tokenizer: Tokenizer, model: GPT, float32: None) -> None:
    """At temperature 1 without filters, whatever the reply was sampled with."""
    for completion in Engine(model, tokenizer).generate(prompts(4), Sampling(0.7, 10, 0.9, max_tokens=25)):
        whole = torch.tensor([completion.prompt_ids + completion.ids])
        with torch.no_grad():
            logp = model.logits(model(whole)).log_softmax(-1)[0]
        want = [float(logp[len(completion.prompt_ids) - 1 + i, x]) for i, x in enumerate(completion.ids)]
        assert np.allclose(completion.logprobs, want, atol=1e-4)
        assert len(completion.ids) == len(completion.sampled) == len(completion.logprobs)


def test_prompt_ids_are_those_of_the_chat_format(tokenizer: Tokenizer, model: GPT) -> None:
    messages = (Message("system", "Be kind."), Message("user", "fox <|end|>"))
    (got,) = Engine(model, tokenizer, toolbox_for(None)).generate(
        [Prompt(messages, ("calculator",))], Sampling(max_tokens=1)
    )
    assert got.prompt_ids == prompt_ids(tokenizer, messages, ("calculator",))


def test_control_tokens_are_never_chosen(tokenizer: Tokenizer) -> None:
    """A model that wants nothing but headers gets none of them; without tools no call either; padding ids never."""
    config = GPTConfig(tokenizer.vocab_size + 9, 96, 2, 32, 4, 2, 8, 64)
    special = tokenizer.specials

    class Eager(Decoder):
        def step(self, *args: object, **named: object) -> Tensor:  # type: ignore[override]
            logits = torch.zeros(len(args[0]), config.vocab_size)  # type: ignore[arg-type]
            logits[:, [i for name, i in special.items() if name not in ("<|end|>", "<|call|>")]] = 30
            logits[:, tokenizer.vocab_size :] = 30
            logits[:, special["<|call|>"]] = 20
            return logits

    engine = Engine(GPT(config), tokenizer, toolbox_for(None), decoder=Eager)
    plain, tooled = engine.generate(
        [user("fox"), Prompt((Message("user", "fox"),), ("calculator",))], Sampling(1.0, max_tokens=40)
    )
    assert not set(plain.ids) & {*special.values()} - {special["<|end|>"]}
    assert max(plain.ids + tooled.ids) < tokenizer.vocab_size
    chosen = {x for x, s in zip(tooled.ids, tooled.sampled, strict=True) if s}
    assert special["<|call|>"] in chosen and not chosen & {
        special[f"<|{x}|>"] for x in ("tool", "user", "system", "assistant")
    }


# ------------------------------------------------------------------------------------------------ tools


def test_a_call_is_run_and_its_result_is_placed(tokenizer: Tokenizer) -> None:
    call = ToolCall.of("calculator", expression="12 + 30")
    got = act(tokenizer, [call_ids(tokenizer, f"calculator {call.arguments}"), text_ids(tokenizer, "It is 42.")])
    want = (Message("assistant", "", call), Message("tool", "42"), Message("assistant", "It is 42."))
    assert got.messages == want and got.finish == "stop" and got.text == "It is 42."
    ids, mask = render(tokenizer, (Message("user", "12 + 30?"), *want), ("calculator",))
    assert got.prompt_ids + got.ids == ids
    assert got.sampled == mask[len(got.prompt_ids) :]  # what is trained on is what was sampled
    assert all(p == 0 for p, s in zip(got.logprobs, got.sampled, strict=True) if not s)


def test_wrong_calls_are_answered_and_the_reply_goes_on(tokenizer: Tokenizer) -> None:
    lines = [
        call_ids(tokenizer, 'oven {"heat": 3}'), call_ids(tokenizer, "calculator {broken", "Let me see."),
        call_ids(tokenizer, 'calculator {"expression": "1/0"}'), text_ids(tokenizer, "No."),
    ]  # fmt: skip
    got = act(tokenizer, lines)
    results = [m.content for m in got.messages if m.role == "tool"]
    assert results == ["Error: there is no tool oven", MALFORMED, "Error: division by zero"]
    assert got.finish == "stop" and got.text == "No."
    assert got.messages[2] == Message("assistant", "Let me see.<|call|>calculator {broken")


def test_a_call_that_is_cut_off_is_none(tokenizer: Tokenizer) -> None:
    """Even where all but its end is there."""
    call = 'calculator {"expression": "1"}'
    ids = call_ids(tokenizer, call, "So: ")
    engine = actor(tokenizer, shape(tokenizer, 256), [ids], toolbox_for(None))
    prompt = Prompt((Message("user", "?"),), ("calculator",))
    *_, called, last = engine.stream(prompt, Sampling(max_tokens=len(ids) - 1))
    assert (called.kind, called.call, called.text) == ("call", None, call)
    assert last.completion is not None and last.completion.finish == "length"
    assert last.completion.messages == (Message("assistant", f"So: <|call|>{call}"),)


def test_a_tool_can_harm_nobody(tokenizer: Tokenizer) -> None:
    """Half a surrogate pair, which JSON can spell, in a result; a tool that wants to end the process."""
    got = act(tokenizer, [call_ids(tokenizer, 'calculator {"expression": "\\ud800"}'), text_ids(tokenizer, "ok")])
    assert got.messages[1].content == "Error: did not expect ?" and got.text == "ok"

    def leave(text: str) -> str:
        raise SystemExit(3)

    engine = actor(tokenizer, shape(tokenizer), [call_ids(tokenizer, 'leave {"text": ""}'), text_ids(tokenizer, "ok")],
                   {"leave": Tool("leave", "", one_text("text", ""), leave)})  # fmt: skip
    (got,) = engine.generate([Prompt((Message("user", "?"),), ("leave",))], Sampling())
    assert [m.content for m in got.messages] == ["", "Error: 3", "ok"]


def test_calls_are_limited(tokenizer: Tokenizer) -> None:
    got = act(tokenizer, [call_ids(tokenizer, 'calculator {"expression": "1"}')], context=512)
    assert sum(m.role == "tool" for m in got.messages) == MOST_CALLS
    assert sum(x == tokenizer.specials["<|call|>"] for x in got.ids) == MOST_CALLS


def test_a_result_that_does_not_fit_ends_the_reply(tokenizer: Tokenizer) -> None:
    line = call_ids(tokenizer, 'calculator {"expression": "1"}')
    prompt = Prompt((Message("user", "12 + 30?"),), ("calculator",))
    tight = (
        len(prompt_ids(tokenizer, prompt.messages, prompt.tools)) + len(line) + 4
    )  # 4: <|tool|> 1 <|end|> <|assistant|>
    got = act(tokenizer, [line, text_ids(tokenizer, "1")], context=tight)
    assert got.finish == "context" and len(got.messages) == 1 and all(got.sampled)
    got = act(tokenizer, [line, text_ids(tokenizer, "1")], context=tight + 2)
    assert got.finish == "stop" and len(got.prompt_ids) + len(got.ids) == tight + 2


def test_many_rows_with_tools_at_different_times(tokenizer: Tokenizer) -> None:
    """Rows that read results token by token, beside others that write, say the same as alone."""
    box = {"echo": Tool("echo", "", one_text("text", ""), lambda text: text * 7)}

    class Caller(Decoder):
        """A random model that likes to call."""

        def step(self, ids: Tensor, *args: object, **named: object) -> Tensor:  # type: ignore[override]
            logits = super().step(ids, *args, **named)  # type: ignore[arg-type]
            logits[:, tokenizer.specials["<|call|>"]] += 9
            logits[:, tokenizer.specials["<|end|>"]] += 9
            return logits

    caller = random_model(shape(tokenizer, 160))
    asked = [replace(p, tools=("echo",)) for p in prompts(16)]
    sampling = Sampling(1.0, max_tokens=60, seed=3)
    together = Engine(caller, tokenizer, box, 8, Caller).generate(asked, sampling)
    assert sum(m.role == "tool" for c in together for m in c.messages) > 10
    for i, (p, c) in enumerate(zip(asked, together, strict=True)):
        (alone,) = Engine(caller, tokenizer, box, decoder=Caller).generate([p], replace(sampling, seed=3 + i))
        assert alone.ids == c.ids and alone.messages == c.messages and alone.sampled == c.sampled


# ------------------------------------------------------------------------------------------------ limits


def test_finish_reasons(tokenizer: Tokenizer, model: GPT) -> None:
    (long,) = Engine(model, tokenizer).generate([user("fox")], Sampling(1.0, max_tokens=7, seed=1))
    assert long.finish == "length" and len(long.ids) == 7
    endless = actor(tokenizer, shape(tokenizer, 40), [tokenizer.encode("a") * 99])
    (full,) = endless.generate([user("fox")], Sampling(max_tokens=500))
    assert full.finish == "context" and len(full.prompt_ids) + len(full.ids) == 40
    assert act(tokenizer, [text_ids(tokenizer, "ok")], tools=()).finish == "stop"
    cut = actor(tokenizer, shape(tokenizer), [call_ids(tokenizer, "calculator {}")], toolbox_for(None))
    prompt = Prompt((Message("user", "?"),), ("calculator",))
    n = len(call_ids(tokenizer, "calculator {}"))
    (at_call,) = cut.generate([prompt], Sampling(max_tokens=n))
    assert at_call.finish == "length" and at_call.messages[-1].call is not None


def test_what_cannot_work_is_said_before_work_begins(tokenizer: Tokenizer, model: GPT) -> None:
    engine = Engine(model, tokenizer, toolbox_for(None))
    with pytest.raises(UserError, match=r"prompt 1 has \d+ tokens and the model reads 96"):
        engine.generate([user("fox"), user("1" * 200)], Sampling())
    with pytest.raises(UserError, match=r"'oven'.*calculator"):
        engine.generate([Prompt((Message("user", "hi"),), ("oven",))], Sampling())
    with pytest.raises(UserError, match="2 prompts and 1 sampling"):
        engine.generate([user("fox")] * 2, [Sampling()])
    with pytest.raises(UserError, match="don't belong together"):
        Engine(random_model(GPTConfig(50, 16, 1, 8, 1, 1, 8, 8)), tokenizer)
    with pytest.raises(UserError, match="max_batch"):
        Engine(model, tokenizer, max_batch=0)
    assert engine.generate([], Sampling()) == []


def test_a_damaged_model_is_an_error_and_not_a_reply(tokenizer: Tokenizer) -> None:
    broken = random_model(shape(tokenizer))
    with torch.no_grad():
        broken.blocks[1].down.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(UserError, match="weights are damaged"):
        Engine(broken, tokenizer).generate([user("fox")], Sampling())


def test_a_longest_prompt_has_room_for_one_token(tokenizer: Tokenizer, model: GPT) -> None:
    engine = Engine(model, tokenizer)
    prompt = user("1" * (96 - len(prompt_ids(tokenizer, user("").messages)) - 1))
    assert engine.room(prompt) == 1
    (got,) = engine.generate([prompt], Sampling(1.0))
    assert len(got.ids) == 1
    assert engine.room(user("1" * 200)) < 1


def test_training_settings_are_left_alone(tokenizer: Tokenizer, model: GPT) -> None:
    model.dtype = torch.bfloat16
    try:
        got = Engine(model, tokenizer).generate([user("fox")], Sampling(max_tokens=9))
        assert model.dtype == torch.bfloat16
    finally:
        model.dtype = torch.float32
    assert got == Engine(model, tokenizer).generate([user("fox")], Sampling(max_tokens=9))
    assert not torch.is_inference_mode_enabled()


def test_progress_counts_replies(tokenizer: Tokenizer, model: GPT) -> None:
    counts: list[int] = []
    Engine(model, tokenizer, max_batch=4).generate(prompts(10), Sampling(1.0, max_tokens=20), counts.append)
    assert sum(counts) == 10


# ------------------------------------------------------------------------------------------------ stream and documents


def test_the_stream_is_the_reply(tokenizer: Tokenizer, model: GPT) -> None:
    engine = Engine(model, tokenizer)
    for seed in range(4):
        sampling = Sampling(1.0, max_tokens=60, seed=seed)
        (whole,) = engine.generate([user("fox")], sampling)
        events = list(engine.stream(user("fox"), sampling))
        assert events[-1].kind == "done" and events[-1].completion == whole
        assert "".join(e.text for e in events if e.kind == "text") == whole.text


def test_the_stream_tells_of_tools_and_splits_no_character(tokenizer: Tokenizer) -> None:
    call = ToolCall.of("calculator", expression="12 + 30")
    lines = [
        call_ids(tokenizer, f"calculator {call.arguments}", "Wait 🦊"),
        call_ids(tokenizer, "oops"),
        text_ids(tokenizer, "Ü 42 🦊"),
    ]
    engine = actor(tokenizer, shape(tokenizer, 256), lines, toolbox_for(None))
    events = list(engine.stream(Prompt((Message("user", "?"),), ("calculator",)), Sampling()))
    told = [(e.kind, e.call or e.text) for e in events if e.kind in ("call", "result")]
    assert told == [("call", call), ("result", "42"), ("call", "oops"), ("result", MALFORMED)]
    texts = [e.text for e in events if e.kind == "text"]
    assert "".join(texts) == "Wait 🦊Ü 42 🦊" and not any("�" in t for t in texts)
    kinds = [e.kind for e in events]
    assert kinds.index("call") > kinds.index("text") and kinds[-1] == "done"


def test_a_stream_can_be_left(tokenizer: Tokenizer, model: GPT) -> None:
    stream = Engine(model, tokenizer).stream(user("fox"), Sampling(1.0))
    next(stream)
    assert not torch.is_inference_mode_enabled()  # between two events the caller's world is unchanged
    stream.close()  # type: ignore[attr-defined]


def test_a_document_goes_on_until_its_end(tokenizer: Tokenizer, model: GPT) -> None:
    (got,) = Engine(model, tokenizer).generate([Prompt(text="The quick")], Sampling(1.0, max_tokens=80, seed=2))
    start = tokenizer.specials["<|endoftext|>"]
    assert got.prompt_ids == [start, *tokenizer.encode("The quick")]
    assert not set(got.ids) & {i for name, i in tokenizer.specials.items() if name != "<|endoftext|>"}
    assert (got.finish == "stop") == (got.ids[-1] == start)
