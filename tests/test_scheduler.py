"""Requests that come and go: whatever the schedule, a reply is what the model alone would have said."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sprout.common.errors import UserError
from sprout.common.messages import Message
from sprout.engine import (
    Busy,
    Completion,
    Decoder,
    Engine,
    Event,
    Prompt,
    Sampling,
    Scheduler,
    Tool,
    TooLong,
    json_grammar,
    json_object_grammar,
    toolbox_for,
)  # fmt: skip
from sprout.engine.batch import SHARE
from sprout.engine.decoder import KVCache
from sprout.engine.prefixes import BLOCK, PrefixStore
from sprout.engine.sampling import filter_logits, penalise
from sprout.engine.tools import one_text
from sprout.engine.writer import Writer
from sprout.model import GPT, GPTConfig
from sprout.tokenizer import Tokenizer
from tests.test_engine import WORDS, actor, call_ids, random_model, shape, text_ids, user

SLOW = one_text("text", "")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([WORDS] * 3, 300)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> GPT:
    return random_model(shape(tokenizer, 128))


@pytest.fixture(scope="module")
def engine(tokenizer: Tokenizer, model: GPT) -> Engine:
    return Engine(model, tokenizer, toolbox_for(None))


def finish(scheduler: Scheduler, most: int = 5000) -> tuple[dict[int, Completion], list[Event]]:
    """Step until nothing is left: completions by number, and all events."""
    events: list[Event] = []
    for _ in range(most):
        if not len(scheduler):
            return {e.number: e.completion for e in events if e.completion}, events
        events += scheduler.step()
    raise AssertionError("the scheduler never ends")


# ------------------------------------------------------------------------------------------------ schedules

request = st.tuples(
    st.integers(0, 60), st.integers(0, 60),  # a piece of the words as the prompt, so that beginnings are shared
    st.sampled_from([0.0, 0.9]), st.integers(1, 25), st.integers(0, 3), st.sampled_from([(), ("calculator",)]),
    st.sampled_from([(), ("a",), ("ox", "42")]), st.integers(0, 6),  # stop texts; steps until the next one comes
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    st.lists(request, min_size=1, max_size=9), st.integers(1, 4), st.sampled_from([0, 3, 40]), st.booleans(),
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 20)), max_size=3),
)  # fmt: skip
def test_any_schedule_gives_the_replies_of_each_alone(
    engine: Engine, asked: list[Any], rows: int, blocks: int, eager: bool, cancels: list[tuple[int, int]]
) -> None:
    scheduler = engine.scheduler(rows, blocks=blocks, eager=eager)
    wanted: dict[int, tuple[Prompt, Sampling]] = {}
    events: list[Event] = []
    gone = set()
    clock = 0
    for start, length, temperature, most, seed, tools, stop, pause in asked:
        prompt = Prompt((Message("user", WORDS[start : start + length] or "fox"),), tools)
        sampling = Sampling(temperature, max_tokens=most, seed=seed, stop=stop)
        wanted[scheduler.submit(engine.prepare(prompt, sampling), stream=True)] = (prompt, sampling)
        for _ in range(pause):
            events += scheduler.step()
            clock += 1
            for number, when in cancels:
                if when == clock and scheduler.cancel(number):
                    gone.add(number)
    events += finish(scheduler)[1]
    done = {e.number: e.completion for e in events if e.completion}
    assert set(done) == set(wanted) - gone
    for number, completion in done.items():
        (alone,) = engine.generate([wanted[number][0]], [wanted[number][1]])
        assert completion is not None
        assert (completion.ids, completion.messages, completion.finish) == (alone.ids, alone.messages, alone.finish)
        assert np.allclose(completion.logprobs, alone.logprobs, atol=1e-4)
        mine = [e for e in events if e.number == number]
        tokens = [t for e in mine for t in e.tokens]
        assert [t.id for t in tokens] == [i for i, s in zip(completion.ids, completion.sampled, strict=True) if s]
        said = "".join(e.text for e in mine if e.kind == "text")
        assert said == "".join(m.content for m in completion.messages if m.role == "assistant" and m.call is None and
                               "<|call|>" not in m.content) or any(e.kind == "call" for e in mine)  # fmt: skip


def test_requests_beyond_the_rows_wait_and_beyond_that_are_refused(engine: Engine) -> None:
    scheduler = engine.scheduler(2, waiting=1)
    sampling = Sampling(1.0, max_tokens=4)
    for _ in range(2):
        scheduler.submit(engine.prepare(user("fox"), sampling))
        scheduler.step()
    scheduler.submit(engine.prepare(user("fox"), sampling))
    assert (scheduler.running, scheduler.queued, len(scheduler)) == (2, 1, 3)
    with pytest.raises(Busy, match="try again"):
        scheduler.submit(engine.prepare(user("fox"), sampling))
    assert len(finish(scheduler)[0]) == 3
    assert len(scheduler) == 0


def test_cancelling_frees_the_row_at_once(engine: Engine) -> None:
    scheduler = engine.scheduler(1)
    first = scheduler.submit(engine.prepare(user("fox"), Sampling(1.0, max_tokens=90)), stream=True)
    second = scheduler.submit(engine.prepare(user("42"), Sampling(1.0, max_tokens=2)), stream=True)
    third = scheduler.submit(engine.prepare(user("42"), Sampling(1.0, max_tokens=2)), stream=True)
    scheduler.step()
    assert scheduler.cancel(third) and scheduler.cancel(first) and not scheduler.cancel(first)
    assert finish(scheduler)[0].keys() == {second}


def test_a_long_prompt_does_not_hold_up_the_others(tokenizer: Tokenizer) -> None:
    """Between two steps of a running reply at most SHARE tokens are read, and the long one is served all the same."""
    model = random_model(shape(tokenizer, 1500))
    shown: list[int] = []

    class Counting(Decoder):
        def step(self, ids: Tensor, *args: Any, **named: Any) -> Tensor:
            shown.append(ids.shape[0] * ids.shape[1])
            return super().step(ids, *args, **named)

    engine = Engine(model, tokenizer, decoder=Counting)
    scheduler = engine.scheduler(4)
    scheduler.submit(engine.prepare(user("fox"), Sampling(1.0, max_tokens=60, seed=3)), stream=True)
    scheduler.step()
    long = scheduler.submit(engine.prepare(user("1" * 1200), Sampling(1.0, max_tokens=5)), stream=True)
    first_long = None
    lengths = []
    for step in range(20):
        shown.clear()
        events = scheduler.step()
        assert sum(shown) <= SHARE + 2
        if first_long is None:
            lengths.append(int(scheduler.batch.rows["length"][0]))
            first_long = step if any(e.number == long for e in events) else None
    assert first_long == -(-1200 // SHARE) - 1
    assert np.diff(lengths).tolist() == [1] * (len(lengths) - 1)  # the other got its token at every step


def test_a_damaged_model_ends_in_an_error(tokenizer: Tokenizer) -> None:
    broken = random_model(shape(tokenizer))
    with torch.no_grad():
        broken.embed.fill_(float("nan"))
    engine = Engine(broken, tokenizer)
    scheduler = engine.scheduler(2)
    scheduler.submit(engine.prepare(user("fox"), Sampling()))
    with pytest.raises(UserError, match="damaged"):
        scheduler.step()


def test_a_prompt_over_the_context_says_by_how_much(engine: Engine) -> None:
    with pytest.raises(TooLong, match="shorten it by at least") as caught:
        engine.prepare(user("1" * 300), Sampling())
    assert caught.value.context == 128 and caught.value.tokens > 300


# ------------------------------------------------------------------------------------------------ prefixes


def test_a_second_turn_reads_only_what_is_new(engine: Engine) -> None:
    scheduler = engine.scheduler(2, blocks=40)
    first = user("The quick brown fox asked Mira what 12 + 30 may be.")
    (one,) = [e.completion for e in engine.stream(first, Sampling(max_tokens=30), scheduler) if e.completion]
    assert one.cached == 0
    again = replace(first, messages=(*first.messages, *one.messages, Message("user", "And Mira?")))
    (two,) = [e.completion for e in engine.stream(again, Sampling(max_tokens=30), scheduler) if e.completion]
    same = next(i for i, (a, b) in enumerate(zip(two.prompt_ids, [*one.prompt_ids, *one.ids, -1], strict=False)) if a != b)
    assert two.cached >= min(same, len(one.prompt_ids)) // BLOCK * BLOCK > 0
    (plain,) = engine.generate([again], Sampling(max_tokens=30))
    assert plain.ids == two.ids


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), min_size=0, max_size=4), max_size=12), st.integers(1, 6))
def test_the_store_gives_back_what_was_kept(rows: list[list[int]], blocks: int) -> None:
    """Against the definition: keys are a function of all ids up to their place; what comes back is exactly that."""
    config = GPTConfig(8, 4 * BLOCK, 1, 4, 1, 1, 4, 4)
    cache = KVCache.empty(config, 2)
    store = PrefixStore(cache, blocks)

    def keys(ids: np.ndarray) -> Tensor:
        return torch.tensor([float(hash(tuple(ids[: i + 1].tolist())) % 1000003) for i in range(len(ids))])

    for kinds in rows:
        ids = np.repeat(np.array(kinds, np.int64), BLOCK)
        n = store.fetch(ids, cache, 1)
        assert n % BLOCK == 0 and n <= len(ids)
        assert torch.equal(cache.k[0, 1, 0, :n, 0], keys(ids)[:n])
        cache.k[0, 0, 0, : len(ids), 0] = keys(ids)
        store.keep(ids, cache, 0)
        assert len(store.known) + len(store.free) == blocks
        assert len({slot for _, slot in store.known.values()} | set(store.free)) == blocks
        assert store.fetch(ids, cache, 1) == min(len(ids), blocks * BLOCK)  # what was last kept is there


def test_what_hangs_on_others_goes_first() -> None:
    config = GPTConfig(8, 8 * BLOCK, 1, 4, 1, 1, 4, 4)
    cache = KVCache.empty(config, 1)
    store = PrefixStore(cache, 4)
    long, other = np.repeat([1, 2, 3, 4], BLOCK), np.repeat([5, 6], BLOCK)
    store.keep(long, cache, 0)
    store.keep(other, cache, 0)
    assert store.fetch(long, cache, 0) == 2 * BLOCK and store.fetch(other, cache, 0) == 2 * BLOCK


def test_a_block_takes_what_was_told(engine: Engine) -> None:
    """Of a decoder's own cache, whatever its numbers are."""
    store = PrefixStore(Decoder(engine.model).cache(1), 7)
    assert store.k.nbytes + store.v.nbytes == 7 * PrefixStore.bytes(engine.model.config, torch.device("cpu"))


# ------------------------------------------------------------------------------------------------ sampling


def test_penalties_and_min_p_are_those_of_transformers() -> None:
    from transformers import MinPLogitsWarper, RepetitionPenaltyLogitsProcessor

    generator = torch.Generator().manual_seed(0)
    for trial in range(20):
        scores = torch.randn(30, generator=generator) * 4
        said = torch.randint(0, 30, (12,), generator=generator)
        want = RepetitionPenaltyLogitsProcessor(1.3)(said[None], scores[None].clone())[0]
        got = scores.clone()
        penalise(got, said.numpy(), np.array([], np.int64), 1.3, 0, 0)
        assert torch.allclose(got, want)
        share = 0.02 * (trial + 1)
        want = MinPLogitsWarper(share)(said[None], scores[None].clone())[0]
        one, none = torch.ones(1), torch.zeros(1, dtype=torch.long)
        got = filter_logits(scores[None], none, one, torch.tensor([share]))[0]
        assert torch.equal(got.isfinite(), want.isfinite())


def test_counted_penalties_by_definition() -> None:
    scores, reply = torch.zeros(6), np.array([2, 2, 4])
    penalise(scores, np.array([0, 2, 2, 4]), reply, 1.0, 0.5, 0.25)
    assert scores.tolist() == [0, 0, -1.25, 0, -0.75, 0]


def test_penalties_change_a_reply_and_leave_its_logprobs_those_of_the_model(engine: Engine, model: GPT, float32: None) -> None:
    plain = Sampling(max_tokens=40)
    (a,), (b,) = (engine.generate([user("fox")], s) for s in (plain, replace(plain, repetition_penalty=1.8)))
    assert len(set(b.ids)) > len(set(a.ids))
    whole = torch.tensor([b.prompt_ids + b.ids])
    with torch.no_grad():
        logp = model.logits(model(whole)).log_softmax(-1)[0]
    want = [float(logp[len(b.prompt_ids) - 1 + i, x]) for i, x in enumerate(b.ids)]
    assert np.allclose(b.logprobs, want, atol=1e-4)


def test_alternatives_are_the_likeliest(engine: Engine, model: GPT, float32: None) -> None:
    asked = [user("fox"), user("Mira"), user("42")]
    several = [Sampling(1.0, max_tokens=12, seed=1, alternatives=n) for n in (0, 3, 5)]
    for n, c in zip((0, 3, 5), engine.generate(asked, several), strict=True):
        assert len(c.alternatives) == (len(c.ids) if n else 0)
        with torch.no_grad():
            logp = model.logits(model(torch.tensor([c.prompt_ids + c.ids]))).log_softmax(-1)[0]
        for i, told in enumerate(c.alternatives):
            values, ids = logp[len(c.prompt_ids) - 1 + i].topk(n)
            assert [x for x, _ in told] == ids.tolist()
            assert np.allclose([v for _, v in told], values, atol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [{"min_p": 1.5}, {"repetition_penalty": 0.0}, {"repetition_penalty": 1e-46}, {"frequency_penalty": 3.0}, {"presence_penalty": -2.1}, {"stop": ("",)},
     {"stop": tuple("123456789")}, {"alternatives": 21}],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="expected"):
        Sampling(**wrong)


# ------------------------------------------------------------------------------------------------ stop texts


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "b", "ab", "Ü", "🦊", "fox "]), max_size=14).map("".join),
    st.lists(st.sampled_from(["ab", "ba", "aab", "Ü", "🦊f", "x a", "abab"]), min_size=0, max_size=3, unique=True),
)
def test_the_writer_tells_all_before_the_first_stop_text(tokenizer: Tokenizer, text: str, stop: list[str]) -> None:
    from sprout.engine import Token

    writer = Writer(tokenizer, 1, tuple(stop))
    ids = [*tokenizer.encode(text), tokenizer.specials["<|end|>"]]
    taken = 0
    for i in ids:
        writer.take(Token(i, 0.0), i == ids[-1])
        taken += 1
        if writer.stopped is not None:
            break
    writer.finish()
    told = "".join(e.text for e in writer.events)
    # The first to be complete ends it; of those that are complete with the same token, the one that begins first.
    complete = [tokenizer.decode(ids[:n]) for n in range(len(ids))]
    first = next((t for t in complete if any(s in t.rstrip("�") for s in stop)), None)
    want = text if first is None else first[: min(at for s in stop if (at := first.find(s)) >= 0)]
    assert told == want and (writer.stopped is None) == (first is None)
    assert [t.id for e in writer.events for t in e.tokens] == ids[:taken]


def test_a_stop_text_ends_a_reply(tokenizer: Tokenizer) -> None:
    engine = actor(tokenizer, shape(tokenizer), [text_ids(tokenizer, "The fox asked Mira and went.")])
    (got,) = engine.generate([user("?")], Sampling(stop=("Mira", "went")))
    assert got.text == "The fox asked " and got.finish == "stop"
    events = list(engine.stream(user("?"), Sampling(stop=("Mira", "went"))))
    assert "".join(e.text for e in events if e.kind == "text") == "The fox asked "


# ------------------------------------------------------------------------------------------------ grammars

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["fox", "Mira"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99},
                   "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}},
    "required": ["name", "age", "tags"], "additionalProperties": False,
}  # fmt: skip


def test_a_grammar_makes_even_a_random_model_write_what_fits(engine: Engine) -> None:
    grammar = json_grammar(SCHEMA)
    replies = engine.generate([user("fox")] * 12, Sampling(1.0, max_tokens=70, seed=5, grammar=grammar))
    assert {c.finish for c in replies} == {"stop"} and len({c.text for c in replies}) > 6
    for c in replies:
        jsonschema.validate(json.loads(c.text), SCHEMA)
    (alone,) = engine.generate([user("fox")], Sampling(1.0, max_tokens=70, seed=7, grammar=grammar))
    assert alone.ids == replies[2].ids
    (thing,) = engine.generate([user("fox")], Sampling(max_tokens=3, grammar=json_grammar(SCHEMA)))
    assert thing.text.startswith("{") and thing.finish == "length"
    (thing,) = engine.generate([user("fox")], Sampling(max_tokens=60, grammar=json_object_grammar()))
    assert thing.finish == "length" or isinstance(json.loads(thing.text), dict)


def test_strict_calls_are_well_formed_and_required_ones_come_first(engine: Engine) -> None:
    own = Tool("weather", "", {"type": "object", "properties": {"town": {"enum": ["Oslo", "Rome"]}}, "required": ["town"],
                               "additionalProperties": False})  # fmt: skip
    for call in ("required", "weather"):
        prompt = Prompt((Message("user", "fox"),), ("calculator",) if call == "weather" else (), own=(own,), call=call)
        for c in engine.generate([prompt] * 6, Sampling(1.0, max_tokens=60, seed=2)):
            assert c.finish == "call" and c.messages[-1].call is not None and c.text == ""
            assert c.messages[-1].call.name == "weather"
            jsonschema.validate(json.loads(c.messages[-1].call.arguments), own.parameters)
    # A tool of the house, any number of times, is called well-formed as well.
    house = Engine(engine.model, engine.tokenizer, {"weather": replace(own, run=lambda town: town * 2)})
    prompt = Prompt((Message("user", "fox"),), ("weather",), call="required")
    for c in house.generate([prompt] * 8, Sampling(1.0, max_tokens=60, strict=True)):
        assert c.messages[0].call is not None
        results = [m.content for m in c.messages if m.role == "tool"]
        assert results and set(results) <= {"OsloOslo", "RomeRome"}


def test_grammars_that_cannot_be_are_refused(engine: Engine) -> None:
    for schema in ({"type": "what"}, {"$ref": "http://example.com/x"}, {"type": "string", "pattern": "("}):
        with pytest.raises(UserError, match="can't be kept to"):
            json_grammar(schema)
    with pytest.raises(UserError, match="characters"):
        json_grammar({"enum": ["x" * 100_001]})
    bad = Tool('a" | b', "", {"type": "object"})
    with pytest.raises(UserError, match="a tool is called"):
        engine.prepare(Prompt((Message("user", "fox"),), own=(bad,)), Sampling(strict=True))
    with pytest.raises(UserError, match="one name"):
        Prompt((Message("user", "fox"),), ("calculator",), own=(replace(bad, name="calculator"),))
    with pytest.raises(UserError, match="must call"):
        Prompt((Message("user", "fox"),), ("calculator",), call="oven")


# ------------------------------------------------------------------------------------------------ tools


def test_a_slow_tool_holds_up_nobody(tokenizer: Tokenizer) -> None:
    gate = threading.Event()

    def wait_for_it(text: str) -> str:
        assert gate.wait(10)
        return text.upper()

    slow = {"slow": Tool("slow", "", SLOW, wait_for_it, slow=True)}
    lines = [call_ids(tokenizer, 'slow {"text": "fox"}'), text_ids(tokenizer, "It said FOX.")]
    engine = actor(tokenizer, shape(tokenizer), lines, slow)
    scheduler = engine.scheduler(1, blocks=10)  # one row: the other can only be written while this one is away
    first = scheduler.submit(engine.prepare(Prompt((Message("user", "?"),), ("slow",)), Sampling()), stream=True)
    second = scheduler.submit(engine.prepare(user("fox"), Sampling(max_tokens=5)), stream=True)
    done: dict[int, Completion] = {}
    for _ in range(60):  # many more than the second needs; where there is nothing to do, a step waits
        done |= {e.number: e.completion for e in scheduler.step() if e.completion}
    assert set(done) == {second} and scheduler.running == 1
    gate.set()
    done |= finish(scheduler)[0]
    got = done[first]
    assert [m.content for m in got.messages] == ["", "FOX", "It said FOX."] and got.finish == "stop"
    plain = actor(tokenizer, shape(tokenizer), lines, {"slow": Tool("slow", "", SLOW, str.upper)})
    plain.toolbox["slow"] = Tool("slow", "", SLOW, lambda text: text.upper())
    (want,) = plain.generate([Prompt((Message("user", "?"),), ("slow",))], Sampling())
    assert (want.ids, want.sampled, want.messages) == (got.ids, got.sampled, got.messages)
    scheduler.close()


def test_a_slow_tool_can_be_left(tokenizer: Tokenizer) -> None:
    slow = {"slow": Tool("slow", "", SLOW, lambda text: time.sleep(0.3) or text, slow=True)}
    engine = actor(tokenizer, shape(tokenizer), [call_ids(tokenizer, 'slow {"text": "fox"}')], slow)
    scheduler = engine.scheduler(1)
    number = scheduler.submit(engine.prepare(Prompt((Message("user", "?"),), ("slow",)), Sampling()))
    while not scheduler.away:
        scheduler.step()
    assert scheduler.cancel(number) and len(scheduler) == 0 and scheduler.step() == []


def test_those_who_wait_for_slow_tools_are_counted(tokenizer: Tokenizer) -> None:
    """They have no row, yet are refused like all others once there are too many; what they have read is not known from
    earlier when they come back."""
    gate = threading.Event()
    slow = {"slow": Tool("slow", "", SLOW, lambda text: str(gate.wait(10)), slow=True)}
    lines = [call_ids(tokenizer, 'slow {"text": "fox"}'), text_ids(tokenizer, "So it is.")]
    engine = actor(tokenizer, shape(tokenizer, 256), lines, slow)
    scheduler = engine.scheduler(1, waiting=1, blocks=40)
    # The two prompts share no block.
    for text in ("?" * 40, "fox" * 20):
        scheduler.submit(engine.prepare(Prompt((Message("user", text),), ("slow",)), Sampling()))
        while scheduler.queued or len(scheduler.batch):
            scheduler.step()
    assert len(scheduler.away) == 2
    with pytest.raises(Busy):
        scheduler.submit(engine.prepare(user("fox"), Sampling()))
    gate.set()
    assert [c.cached for c in finish(scheduler, 1000)[0].values()] == [0, 0]
    scheduler.close()


def test_a_tool_of_the_callers_ends_the_reply(tokenizer: Tokenizer) -> None:
    own = Tool("weather", "", one_text("town", ""))
    call = 'weather {"town": "Oslo"}'
    engine = actor(tokenizer, shape(tokenizer), [call_ids(tokenizer, call, "Let me see.")])
    prompt = Prompt((Message("user", "?"),), own=(own,))
    (got,) = engine.generate([prompt], Sampling())
    assert got.finish == "call" and got.messages == (Message("assistant", "Let me see.", got.messages[0].call),)
    events = list(engine.stream(prompt, Sampling()))
    assert [e.kind for e in events[-2:]] == ["call", "done"]
    assert [t.id for e in events for t in e.tokens] == got.ids
