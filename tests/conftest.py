import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run two at a time


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of shared test data, named by SPROUT_DATA."""
    where = os.environ.get("SPROUT_DATA")
    if not where:
        pytest.skip("SPROUT_DATA does not name the folder of test data")
    return Path(where)


@pytest.fixture(scope="session")
def small_world():
    from sprout.world import WorldConfig, build_world

    return build_world(WorldConfig(people=12, strangers=200, places=4, shops=3, inventions=3))


@pytest.fixture(scope="session")
def tokenizer(small_world):
    import itertools

    from sprout.data import world_problems, world_texts
    from sprout.tokenizer import Tokenizer

    texts = list(itertools.islice(world_texts(small_world, 1), 400))
    for p in itertools.islice(world_problems(small_world, 1), 400):
        texts += [m.content for m in (*p.prompt, *p.reply)]
    return Tokenizer.train(texts, 800)
