"""What the tabs that start jobs share."""

from __future__ import annotations

import pytest

from studio.configs import FIELDS
from studio.tabs import runs


def test_a_number_of_the_form_is_refused_by_our_own_check_which_names_the_field():
    """Gradio's own "Value -3 is less than minimum value 1.0." names none."""
    for name, field in FIELDS["cycle"].items():
        part = runs.setting(name, field, name)
        assert getattr(part, "minimum", None) is None and getattr(part, "maximum", None) is None
    with pytest.raises(ValueError, match="The reward steps -3 is out of range: use a whole number from 1 to"):
        FIELDS["cycle"]["reward_steps"].check("reward_steps", -3)
