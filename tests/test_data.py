"""Packing, batches, and files that are not what they should be."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sprout.common.errors import UserError
from sprout.data import batch_rows, get_batch, local_conversations, local_texts, pack
from sprout.data.gsm8k import check_gsm8k, gsm8k_problem, load_gsm8k
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


def test_replies_alone_are_learned():
    packed = pack([([1, 2, 3, 4, 5], [False, False, False, True, True])], 6, 0)
    batch = get_batch(packed, np.array([0]))
    assert batch.targets.tolist() == [[-1, -1, 4, 5, -1, -1]]


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 30))
def test_an_epoch_shows_every_row_once(n, rows, seed):
    seen = np.concatenate([batch_rows(n, rows, step, seed) for step in range(-(-n // rows))])[:n]
    assert sorted(seen.tolist()) == list(range(n))


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.txt", b"", "empty"),
        ("a.txt", b"ab\0cd", "binary"),
        ("a.txt", b"good\nbad \xff\n", "line 2"),
        ("a.exe", b"x", "no .txt"),
        ("a.parquet", b"no parquet at all", "no parquet file"),
    ],
)
def test_bad_text_is_refused_with_a_sentence(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=match):
        list(local_texts([str(tmp_path / name)], {}))


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        list(local_texts([str(tmp_path / "nothing.txt")], {}))
    with pytest.raises(UserError, match="holds no"):
        list(local_texts([str(tmp_path)], {}))


def test_bad_lines_are_counted_or_stop(tmp_path):
    path = tmp_path / "chat.jsonl"
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    twice = {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}
    path.write_text("\n".join([json.dumps(good), "{broken", json.dumps(twice), json.dumps({"x": 1})]))
    dropped: dict[str, int] = {}
    assert len(list(local_conversations([str(path)], dropped))) == 1
    assert dropped == {"malformed_json": 1, "not_alternating": 1, "no_conversation": 1}
    with pytest.raises(UserError, match="line 2"):
        list(local_conversations([str(path)], {}, strict=True))


def test_all_usual_conversation_forms(tmp_path):
    rows = [
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"instruction": "a", "input": "c", "output": "b"},
        {"prompt": "a", "response": "b"},
        {"question": "a", "answer": "b"},
    ]
    (tmp_path / "c.json").write_text(json.dumps(rows))
    assert len(list(local_conversations([str(tmp_path / "c.json")], {}))) == 5


def test_gsm8k_answers_are_checked():
    problem = gsm8k_problem("q", "He has <<1200-2=1198>>1198.\n#### 1,198")
    assert problem.answer == "1198" and "<<" not in problem.reply[0].content
    assert check_gsm8k(problem, problem.reply).right
    from sprout.common.messages import Message

    assert check_gsm8k(problem, [Message("assistant", "so it is $1,198.00")]).right
    assert not check_gsm8k(problem, [Message("assistant", "so it is 1199")]).right


def test_shared_chats_and_novels_load(data):
    dropped: dict[str, int] = {}
    for path in sorted((data / "chat").glob("*.jsonl")):
        if path.name not in (
            "oasst_en_100_tree.jsonl",
            "self_instruct_seed_tasks.jsonl",
        ):  # trees, and tasks without talk
            assert list(local_conversations([str(path)], dropped)), path.name
    texts = list(local_texts([str(data / "text" / "eltec_eng")], dropped))
    assert {"train", "validation", "test"} == {split for split, _ in texts} and len(texts) > 500
    problems = load_gsm8k(data / "tasks" / "gsm8k")
    assert len(problems["test"]) == 660 and all(isinstance(p, Problem) for p in problems["train"][:5])
    assert all(check_gsm8k(p, p.reply).right for p in problems["test"])
