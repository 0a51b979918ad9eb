"""The form of Train."""

from __future__ import annotations

from studio.pages import train
from studio.training.configs import FIELDS


def test_every_setting_stands_under_one_head_of_the_form():
    for kind in train.KINDS:
        grouped = [name for names in train._groups(FIELDS[kind]).values() for name in names]
        assert sorted(grouped) == sorted(name for name in FIELDS[kind] if name != "sources")
    assert list(train._groups(FIELDS["calibrator"])) == ["Labels", train.LAST]
