"""studio/experiments/evaluation.py: the judge of everything is judged itself."""

from studio.experiments.evaluation import evaluate


def test_the_detector_is_judged_on_fresh_renders_and_after_a_vae_round_trip(studio):
    seen = []
    report = evaluate(studio, "detector", {"renders": 3, "seed": 5}, on_progress=seen.append)
    assert report["renders"]["images"] == report["round_trip"]["images"] == 3
    assert report["renders"]["right"] == 1.0
    # the tiny autoencoder is random: what comes out of it shows nothing of what went in
    assert report["round_trip"]["right"] < 1.0
    assert (seen[-1]["step"], seen[-1]["total"]) == (6, 6)
    assert studio.runs.get(report["run"])["metrics"]["evaluation"] == "detector"
