"""Blind votes: nothing tells which image is which, each person is asked once a pair, and the last answer counts."""

import pytest

from studio.grids.axes import Variant

PROMPT = "a red circle"


@pytest.fixture
def grid(studio, sample_row):
    """A grid of 12 seeds x 2 variants whose images are there; its pairs, by seed."""
    folder = studio.settings.home / "images"
    folder.mkdir(parents=True)
    (folder / "one.png").write_bytes(b"")
    rows = [
        sample_row(prompt=PROMPT, n_words=3, seed=seed, method=method, strength=float(method != "none"))
        for seed in range(1, 13)
        for method in ("none", "projected")
    ]
    ids = studio.store.samples.add(rows)
    variants = [vars(Variant("none")), vars(Variant("projected", "projected", "", 1.0))]
    id = studio.store.grids.add({"prompt": PROMPT, "seeds": list(range(1, 13)), "variants": variants}, "ann")
    studio.store.grids.set_cells(id, dict(enumerate(ids)))
    return id


def test_a_question_tells_neither_method_nor_score(studio, grid):
    studio.annotation.correct(studio.store.grids.cells(grid)[0], 1, 7, "bob")
    for who in ("ann", "bob", "cyd"):
        vote = studio.votes.next(grid, who)
        for side in (vote.left, vote.right):
            assert [getattr(side, name) for name in ("method", "strength", "guidance", "steps")] == [
                "",
                0,
                0,
                0,
            ]
            assert side.total is None and side.prompt == PROMPT and side.image_path
            assert all(w.score is None and w.human is None and w.expected is None for w in side.words)
        assert vote.left.id != vote.right.id and vote.left.seed == vote.right.seed and vote.left_over == 12
        assert studio.votes.asked(grid, vote.id, who) == (vote.left.id, vote.right.id)
        for id, other in ((vote.id, "dan"), ("", who), (None, who), (["x"], who)):
            with pytest.raises(ValueError, match="not asked"):
                studio.votes.asked(grid, id, other)
        studio.votes.add(vote.left.id, vote.right.id, "tie", who)
        assert studio.votes.asked(grid, vote.id, who) == (vote.left.id, vote.right.id)


def test_sides_and_seeds_are_shuffled_for_each_person_and_stay_after_a_reload(studio, grid):
    def lefts(who):
        """Which variant lay left in each question that a person is asked; they vote for the left one."""
        found = []
        while vote := studio.votes.next(grid, who):
            assert vote == studio.votes.next(grid, who)
            found.append((vote.left.seed, studio.store.samples.get(vote.left.id)["method"]))
            studio.votes.add(vote.left.id, vote.right.id, "left", who)
        return found

    ann, bob = lefts("ann"), lefts("bob")
    assert sorted(seed for seed, _ in ann) == list(range(1, 13)) != [seed for seed, _ in ann]
    assert ann != bob and {method for _, method in ann + bob} == {"none", "projected"}


def test_the_votes_of_all_people_are_counted_whichever_side_they_lay_on_and_the_last_of_each_counts(
    studio, grid
):
    cells = studio.store.grids.cells(grid)
    studio.votes.add(cells[0], cells[1], "left", "ann")
    given = [
        (0, 1, "right", "ann"),
        (1, 0, "left", "ann"),
        (0, 1, "left", "ann"),
        (0, 1, "tie", "bob"),
        (1, 0, "none", "bob"),
    ]
    for seed, (left, right, choice, who) in enumerate(given):
        studio.votes.add(cells[2 * seed + left], cells[2 * seed + right], choice, who)
    found = studio.votes.tally(grid)
    assert [found[name] for name in ("base", "other", "tie", "none", "voters")] == [1, 2, 1, 1, 2]
    assert found["share"]["estimate"] == pytest.approx(2.5 / 4)
    assert 0 <= found["share"]["low"] < found["share"]["estimate"] < found["share"]["high"] <= 1
    assert studio.votes.tally(grid, 1, 0)["share"]["estimate"] == pytest.approx(1.5 / 4)
    id = studio.store.grids.add({**studio.store.grids.get(grid)["config"], "seeds": [1, 2]}, "ann")
    studio.store.grids.set_cells(
        id, {0: cells[0], 1: cells[0], 2: cells[2]}
    )  # no two different images of a seed
    assert studio.votes.next(id, "ann") is None and studio.votes.tally(id)["share"]["estimate"] is None


def test_bad_votes_are_answered_with_a_sentence(studio, grid):
    cells = studio.store.grids.cells(grid)
    for call in (
        lambda: studio.votes.add(cells[0], cells[1], "both", "ann"),
        lambda: studio.votes.add(cells[0], cells[0], "left", "ann"),
        lambda: studio.votes.add(cells[0], "nowhere", "left", "ann"),
        lambda: studio.votes.add(cells[0], cells[1], "left", "detector"),
        lambda: studio.votes.next("nowhere", "ann"),
        lambda: studio.votes.next(grid, "ann", 0, 5),
        lambda: studio.votes.tally(grid, 1, 1),
    ):
        with pytest.raises(ValueError, match=r"\.$"):
            call()
    assert studio.store.votes.find() == []
