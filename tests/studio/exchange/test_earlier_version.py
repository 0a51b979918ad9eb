"""What an earlier version (commit 0f19a43) wrote opens as it is: a store, the folder of a run, and labels in five formats.

`earlier_version.zip` is a STUDIO_HOME of that commit on its tiny random models: ten scored images, corrections of two people,
gold, a flag and a note, and a whole cycle that was promoted.
"""

import zipfile
from pathlib import Path

import pytest

from studio.exchange import transfer
from studio.images.views import check_request
from tests import tiny

HOME = Path(__file__).with_name("earlier_version.zip")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory, model_folder):
    home = tmp_path_factory.mktemp("earlier") / "home"
    with zipfile.ZipFile(HOME) as packed:
        packed.extractall(home)
    studio = tiny.studio_at(home, model_folder)
    studio.load()
    return studio


def test_its_labels_stand(earlier):
    labels = earlier.store.labels.current()
    sources = [label["source"] for label in labels]
    assert earlier.store.samples.count() == 10 and len(labels) == 39
    assert {source: sources.count(source) for source in set(sources)} == {
        "human": 18, "simulated": 7, "vlm": 14,
    }  # fmt: skip
    assert [remark["text"] for remark in earlier.store.remarks.find()] == ["look again", "half a shape"]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "richhf", "rapidata"])
def test_its_label_files_say_what_its_store_says(earlier, kind):
    path = earlier.settings.home / f"labels.{kind}"
    counts = transfer.import_file(earlier, kind, path, "Ann", dry_run=True).counts
    if kind == "jsonl":
        assert not any(counts[name] for name in ("runs", "samples", "events", "words_new", "words_changed"))
        assert counts["samples_known"] == 10 and counts["events_known"] == 71
    else:
        assert (counts["words"], counts["new"], counts["changed"]) == (39, 0, 0)


def test_its_run_has_its_page_and_its_models_are_in_use(earlier):
    (run,) = earlier.runs.find(kind="cycle")
    page = earlier.runs.page(run["id"])
    assert (
        page["bytes"]
        and run["promoted"]
        and {child["kind"] for child in page["children"]} == {"reward", "projector"}
    )
    assert earlier.runs.status(run["id"])["history"] and "noise-projection" in earlier.runs.model_card(
        run["id"]
    )
    *_, last = earlier.comparison.compare(check_request("a red circle", [3], tiny.STEPS))
    (pair,) = last.pairs
    assert (last.stage, pair.projected.method) == ("done", "projected")
    assert earlier.store.samples.get(pair.projected.id)["projector_run"] == f"{run['id']}-projector"
    assert earlier.models.using("reward").model is not None
