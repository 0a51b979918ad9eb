"""The app as its users start it, on tiny models, spoken to over plain HTTP: a component on the page is no boundary."""

import pytest

from tests import tiny
from tests.browser.conftest import serving
from tests.visitors import Visitor


@pytest.fixture(scope="package")
def app(tmp_path_factory, model_folder):
    """A visitor of an app that has compared one pair."""
    with serving(tmp_path_factory.mktemp("security") / "home", model_folder) as running:
        visitor = Visitor(running)
        event, _ = visitor.call(
            "compare", ["a red circle", "7", 1, tiny.STEPS, 4, "projected", None, None, "", False]
        )
        assert event == "complete"
        yield visitor
