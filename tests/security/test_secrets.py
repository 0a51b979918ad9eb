"""What is secret reaches no file: tokens, keys and signing secrets are looked for in all that a studio has written."""

import json
import time

from tests import tiny
from tests.browser.conftest import serving
from tests.judge import Judge, as_reply
from tests.visitors import Person

SECRETS = {
    "STUDIO_TOKEN": "sentinel-of-the-administrators",
    "STUDIO_SCORER_KEY": "sentinel-of-the-scoring-server",
    "STUDIO_WEBHOOK_SECRET": "sentinel-of-the-webhook",
    "HF_TOKEN": "hf_sentinel_of_the_hub",
}
GIVEN = "hf_sentinel_of_a_visitor"  # to `push`


def test_no_file_that_the_studio_writes_has_a_secret_in_it(tmp_path, model_folder):
    refusal = {"error": {"message": f"Bearer {SECRETS['STUDIO_SCORER_KEY']} is no key of ours"}}
    with Judge() as judge:
        judge.reply = lambda payload: as_reply(refusal, 401)
        env = SECRETS | {
            "GRADIO_SERVER_NAME": "0.0.0.0",
            "STUDIO_SCORER": f"{judge.url}/v1",
            "STUDIO_BACKUP": str(tmp_path / "copies"),
            "STUDIO_WEBHOOK": "https://127.0.0.1:9/",
        }
        with serving(tmp_path / "home", model_folder, **env) as running:
            admin = Person(running, "ann", {"Authorization": f"Bearer {SECRETS['STUDIO_TOKEN']}"})
            admin.ask("compare", prompt="a red circle", seeds="7", steps=tiny.STEPS, guidance=4)
            ((sample,),) = admin.rows("SELECT id FROM samples WHERE method = 'none' LIMIT 1")
            admin.ask("set_score", sample=sample, word=1, score=5)  # goes to the webhook
            admin.ask("push", repository="ann/words", token=GIVEN, private=True)
            admin.ask("backup")
            admin.ask("export", format="jsonl")
            admin.http.get("/", params={"token": SECRETS["STUDIO_TOKEN"]})
            started = admin.ask("start_training", kind="warmup", config={"prompts": 8, "warmup_steps": 1})
            for _ in range(600):
                ((state,),) = admin.rows("SELECT state FROM runs WHERE kind = 'warmup'")
                if state not in ("queued", "running"):
                    break
                time.sleep(0.1)
            pages = [admin.http.get(path).text for path in ("/", "/config")]
            pages += [json.dumps(admin.ask(name)) for name in ("status", "webhook", "audit", "runs")]
    assert state == "done", started
    assert any(SECRETS["STUDIO_SCORER_KEY"] in headers["Authorization"] for headers, _ in judge.asked)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {".db", ".log", ".png"} and len(written) > 10
    for secret in (*SECRETS.values(), GIVEN):
        assert [path for path in written if secret.encode() in path.read_bytes()] == [], secret
        assert not any(secret in page for page in pages), secret
