"""Packing, batches, and files that are not what they should be."""

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sprout.common.errors import UserError
from sprout.common.messages import Message, ToolCall
from sprout.data import (
    Border,
    batch_rows,
    check_memory,
    get_batch,
    local_conversations,
    local_texts,
    pack,
    problem_items,
    train_and_validation,
    world_problems,
)
from sprout.data.chats import alternates, conversation_of
from sprout.data.gsm8k import check_gsm8k, gsm8k_problem, load_gsm8k
from sprout.data.local import pieces
from sprout.model import GPT, GPTConfig, token_losses
from sprout.tokenizer import render
from sprout.world import Problem


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.integers(8, 40))
def test_every_token_of_every_document_is_packed_once(lengths, context):
    counter = iter(range(1, 10**6))
    items = [([next(counter) for _ in range(n)], None) for n in lengths]
    if max(lengths) < 2:
        return
    packed = pack(items, context, pad=0)
    kept = packed.tokens[packed.segments > 0]
    everything = {i for ids, _ in items for i in ids}
    assert len(kept) == len(set(kept.tolist())) and set(kept.tolist()) <= everything
    # What is missing stood alone in a row with nothing to learn.
    assert len(everything) - len(kept) <= sum(1 for n in lengths if n % (context + 1) == 1)
    for tokens, segments, counted in zip(packed.tokens, packed.segments, packed.counted, strict=True):
        used = segments > 0
        assert (np.diff(segments[used]) >= 0).all() and not used[used.sum() :].any()
        same = segments[1:] == segments[:-1]
        assert not counted[1:][~same].any()  # no target across a border
        assert (np.diff(tokens[used].astype(int))[np.diff(segments[used]) == 0] == 1).all()


def test_long_conversations_keep_whole_exchanges_or_go():
    end = 9
    two = [1, 2, end, 3, 4, end, 1, 2, 2, 2, end, 3, 4, 4, 4, 4, end]
    mask = [x in (4, end) and i in (4, 5, 12, 13, 14, 15, 16) for i, x in enumerate(two)]
    packed = pack([(two, mask)], 10, 0, end)
    assert packed.dropped == {"shortened": 1} and (packed.segments > 0).sum() == 6
    with pytest.raises(UserError, match="nothing to learn"):
        pack([([1] * 40, [False] * 39 + [True])], 10, 0, end)


END = 9
MESSAGES = st.lists(st.lists(st.integers(1, 8), max_size=12), min_size=1, max_size=6)  # user and assistant in turn


def conversation(messages):
    """Ids and loss mask as the chat format has them: a start, and each message with a header and an end."""
    ids, mask = [10], [False]
    for i, said in enumerate(messages):
        ids += [11 + i % 2, *said, END]
        mask += [False, *[i % 2 == 1] * (len(said) + 1)]
    return ids, mask


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.one_of(MESSAGES.map(conversation), st.lists(st.integers(1, 8), max_size=40).map(lambda x: (x, None))), min_size=1, max_size=12),
    st.integers(2, 16),
    st.booleans(),
)  # fmt: skip
def test_whatever_is_packed_the_loss_is_a_number_and_all_that_is_lost_is_counted(items, context, every_token):
    try:
        packed = pack(items, context, 0, END, every_token)
    except UserError as error:
        assert "nothing to learn" in str(error)
        packed = None
    talks = [(ids, mask) for ids, mask in items if mask]
    fitting = sum(len(ids) <= context + 1 and any(mask) for ids, mask in talks)
    if packed is None:
        # Nothing fits: no reply, and no document of two tokens.
        assert not fitting and all(len(ids) < 2 for ids, mask in items if mask is None)
        return
    assert (packed.counted[:, 1:].sum(axis=1) > 0).all(), "a row with nothing to learn would divide by zero"
    lost = packed.dropped
    assert sum(lost.get(k, 0) for k in ("shortened", "too_long")) == sum(len(ids) > context + 1 for ids, _ in talks)
    assert lost.get("cut", 0) == sum(len(ids) > context + 1 for ids, mask in items if mask is None)
    torch.manual_seed(0)
    model = GPT(GPTConfig(16, context, 1, 16, 1, 1, 16, 16))
    batch = get_batch(packed, np.arange(len(packed)))
    losses = token_losses(model.logits(model(batch.ids, batch.segments)).flatten(0, 1), batch.targets.flatten())
    loss = losses.sum() / (batch.targets >= 0).sum()
    loss.backward()
    assert loss.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_midtraining_learns_the_users_words_too():
    ids, mask = conversation([[1, 2], [3]])
    assert get_batch(pack([(ids, mask)], 10, 0, END), np.array([0])).targets[0].tolist().count(-1) == 8
    assert (get_batch(pack([(ids, mask)], 10, 0, END, every_token=True), np.array([0])).targets[0, : len(ids) - 1] >= 0).all()


def test_replies_alone_are_learned():
    packed = pack([([1, 2, 3, 4, 5], [False, False, False, True, True])], 6, 0)
    batch = get_batch(packed, np.array([0]))
    assert batch.targets.tolist() == [[-1, -1, 4, 5, -1, -1]]


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 30))
def test_an_epoch_shows_every_row_once(n, rows, seed):
    seen = np.concatenate([batch_rows(n, rows, step, seed) for step in range(-(-n // rows))])[:n]
    assert sorted(seen.tolist()) == list(range(n))


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.txt", b"", "empty"),
        ("a.TXT", b"ab\0cd", "binary"),
        ("a.txt", b"good\nbad \xff\n", "line 2: byte 0xff is not UTF-8"),
        ("a.exe", b"x", "no .txt"),
        ("a.parquet", b"no parquet at all", "no parquet file"),
        ("a.PARQUET", b"PAR1 begins well PAR1", "no parquet file"),
        ("a.jsonl", b"\x89PNG\0\0\0", "binary"),
    ],
)
def test_bad_text_is_refused_with_a_sentence(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=match):
        list(local_texts([str(tmp_path / name)], Border()))


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        list(local_texts([str(tmp_path / "nothing.txt")], Border()))
    with pytest.raises(UserError, match="there is no file"):
        list(local_texts(["folder/nothing.txt"], Border()))
    with pytest.raises(UserError, match="holds no"):
        list(local_texts([str(tmp_path)], Border()))
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="there is no file"):
        list(local_texts([str(tmp_path / "gone.txt")], Border()))


def test_links_and_any_case_of_a_files_kind_are_read(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"n": [1, 2], "text": ["one", None]}), tmp_path / "A.Parquet")
    (tmp_path / "B.JSONL").write_text('\ufeff{"text": "two"}\n', encoding="utf-8")
    (tmp_path / "there.MD").write_text("three")
    (tmp_path / "c.txt").symlink_to(tmp_path / "there.MD")
    border = Border()
    assert sorted(t for _, t in local_texts([str(tmp_path)], border)) == ["one", "three", "three", "two"]
    assert border.dropped == {"no_text": 1}
    assert [t for _, t in local_texts([str(tmp_path / "c.txt")], border)] == ["three"]


def test_one_bad_file_of_a_folder_is_skipped_or_stops(tmp_path):
    (tmp_path / "a.txt").write_text("good")
    (tmp_path / "b.txt").write_bytes(b"\0binary")
    (tmp_path / "c.txt").write_bytes(b"\xff")
    (tmp_path / "d.parquet").write_bytes(b"torn")
    said: list[str] = []
    border = Border(say=said.append)
    assert [t for _, t in local_texts([str(tmp_path)], border)] == ["good"]
    assert border.dropped == {"unreadable_file": 3}
    assert "b.txt looks like a binary" in said[0] and "c.txt line 1" in said[1] and "d.parquet" in said[2]
    with pytest.raises(UserError, match=r"b\.txt"):
        list(local_texts([str(tmp_path)], Border(strict=True)))


def test_bad_lines_are_said_and_counted_or_stop(tmp_path):
    path = tmp_path / "chat.jsonl"
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    twice = {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}
    half = {"messages": [{"role": "user", "content": "\ud800"}, {"role": "assistant", "content": "b"}]}
    lines = [json.dumps(x).encode() for x in (good, twice, {"x": 1}, half, [], 7)] + [b"{broken", b"[" * 100_000, b'"\xff"']
    path.write_bytes(b"\n".join(lines))
    said: list[str] = []
    border = Border(say=said.append)
    assert len(list(local_conversations([str(path)], border))) == 1
    assert border.dropped == {"malformed_JSON": 2, "not_alternating": 1, "no_conversation": 3, "half_a_character": 1, "not_UTF-8": 1}
    assert any("chat.jsonl line 7: malformed JSON; expected one JSON value a line, got '{broken'" in line for line in said)
    for bad in lines[1:]:
        path.write_bytes(lines[0] + b"\n\n" + bad)
        with pytest.raises(UserError, match=r"chat\.jsonl line 3: .* expected"):
            list(local_conversations([str(path)], Border(strict=True)))


def test_many_bad_lines_are_not_all_said(tmp_path):
    (tmp_path / "a.jsonl").write_text("x\n" * 50)
    said: list[str] = []
    border = Border(say=said.append)
    assert not list(local_texts([str(tmp_path / "a.jsonl")], border))
    assert border.dropped == {"malformed_JSON": 50} and len(said) == 3 and "only counted" in said[-1]


def test_files_that_memory_can_not_hold_are_refused_unread(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 5000)
    check_memory([str(tmp_path)], [], 6000)
    with pytest.raises(UserError, match="GB are free"):
        check_memory([str(tmp_path)], [], 4000)


@settings(deadline=None)
@given(st.text(st.sampled_from("ab \n"), max_size=400), st.integers(5, 40))
def test_a_text_in_pieces_is_the_same_text(text, size):
    parts = list(pieces(text, size))
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(len(part) <= 3 * size + 4 for part in parts)


def test_too_little_to_hold_any_out_is_in_both_splits():
    assert train_and_validation([("train", 1), ("test", 2)]) == {"train": [1, 2], "validation": [1, 2]}
    assert train_and_validation([("validation", 1)]) == {"train": [1], "validation": [1]}
    assert train_and_validation([("validation", 1), ("train", 2)]) == {"train": [2], "validation": [1]}


def test_all_usual_conversation_forms(tmp_path):
    rows = [
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"instruction": "a", "input": "c", "output": "b"},
        {"prompt": "a", "response": "b"},
        {"question": "a", "answer": "b"},
    ]
    rows += [
        {"instruction": "a", "instances": [{"input": "c", "output": "b"}]},
        {"prompt": {"role": "prompter", "text": "a", "replies": [
            {"role": "assistant", "text": "no", "rank": 1, "replies": []},
            {"role": "assistant", "text": "b", "rank": 0, "replies": [{"role": "prompter", "text": "unanswered", "replies": []}]},
        ]}},
    ]  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(rows))
    found = [m for _, m in local_conversations([str(tmp_path / "c.json")], Border())]
    a, b = Message("user", "a"), Message("assistant", "b")
    with_input = (Message("user", "a\nc"), b)
    assert found == [(a, b), (a, b), with_input, (a, b), (a, b), with_input, (a, b)]


def test_tool_calls_are_kept_where_their_result_is_there(tmp_path):
    call = {"function": {"name": "calculator", "arguments": '{"expression": "1 + 2"}'}}
    asked, said = {"role": "user", "content": "1 + 2?"}, {"role": "assistant", "content": "It is 3."}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    whole = conversation_of({"messages": [asked, calling, {"role": "tool", "content": "3"}, said]})
    assert whole is not None and alternates(whole)
    assert whole[1] == Message("assistant", "", ToolCall("calculator", '{"expression": "1 + 2"}'))
    rows = [{"messages": [asked, {**said, "tool_calls": [call]}]}, {"messages": [asked, said, {"role": "tool", "content": "3"}]}]
    (tmp_path / "c.json").write_text(json.dumps(rows))
    border = Border()
    assert [m for _, m in local_conversations([str(tmp_path / "c.json")], border)] == [
        (Message("user", "1 + 2?"), Message("assistant", "It is 3."))
    ]
    assert border.dropped == {"tool_call_without_result": 1, "not_alternating": 1}


@pytest.mark.parametrize(
    ("line", "match"),
    [(b"{torn", "line 2"), (b'{"question": "q"}', "line 2"), (b"[]", "line 2"), (b'"\xff"', "line 2"), (b'{"question": 1, "answer": 2}', "line 2")],
)  # fmt: skip
def test_a_damaged_benchmark_is_refused(tmp_path, line, match):
    good = json.dumps({"question": "q", "answer": "1\n#### 1"}).encode()
    (tmp_path / "train.jsonl").write_bytes(good + b"\n" + line)
    (tmp_path / "test.jsonl").write_bytes(good)
    with pytest.raises(UserError, match=match):
        load_gsm8k(tmp_path)


def test_gsm8k_answers_are_checked():
    problem = gsm8k_problem("q", "He has <<1200-2=1198>>1198.\n#### 1,198")
    assert problem.answer == "1198" and "<<" not in problem.reply[0].content
    assert check_gsm8k(problem, problem.reply).right
    assert check_gsm8k(problem, [Message("assistant", "so it is $1,198.00")]).right
    assert not check_gsm8k(problem, [Message("assistant", "so it is 1199")]).right


def test_shared_chats_and_novels_load(data):
    border = Border(strict=True)
    for path in sorted((data / "chat").glob("*.json*")):
        assert list(local_conversations([str(path)], border)), path.name
    assert set(border.dropped) == {"tool_call_without_result"}
    texts = list(local_texts([str(data / "text" / "eltec_eng")], border))
    assert {"train", "validation", "test"} == {split for split, _ in texts} and len(texts) > 500
    problems = load_gsm8k(data / "tasks" / "gsm8k")
    assert len(problems["test"]) == 660 and all(isinstance(p, Problem) for p in problems["train"][:5])
    assert all(check_gsm8k(p, p.reply).right for p in problems["test"])


def test_conversations_change_the_subject(small_world, tokenizer):
    """Several problems in a conversation, no longer than asked, none lost but the few that still wait for another."""
    problems = list(itertools.islice(world_problems(small_world, 5), 300))
    alone = [render(tokenizer, (*p.prompt, *p.reply), p.tools) for p in problems]
    longest, user = 200, tokenizer.specials["<|user|>"]
    made = list(problem_items(iter(problems), tokenizer, 10**9, longest))
    asked, made_asked = (sum(ids.count(user) for ids, _ in items) for items in (alone, made))
    assert asked - 12 <= made_asked <= asked
    assert 0.4 * len(problems) < len(made) < 0.9 * len(problems)
    for ids, mask in made:
        assert len(ids) <= longest or (ids, mask) in alone
        assert ids.count(tokenizer.specials["<|system|>"]) <= 1 and any(mask) and not mask[0]
