"""Uses a published folder as somebody else does: run by `python -I` in another working directory, without this repository.

    python -I elsewhere.py FOLDER BACKBONE GIVEN MADE

FOLDER: what was published, which the card calls "noise". GIVEN: latents and settings of the test. MADE: what this writes.

The CLIP and the sampler of ComfyUI are doubles: ComfyUI is under the GPL, and nothing of it is here. The double of CLIP
has the two methods that the node calls, over the text encoders of a diffusers pipeline; the sampler is that pipeline. They
cannot show what ComfyUI's own text encoders and samplers compute.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import torch
from diffusers import ClassifierFreeGuidance, DiffusionPipeline, ModularPipeline

FOLDER, BACKBONE, GIVEN, MADE = sys.argv[1:]
given, made = torch.load(GIVEN), {}
PROMPT, GUIDANCE = given["prompt"], given["guidance"]
CALL = {"num_inference_steps": given["steps"]}

for name in ("core", "data", "studio"):
    assert importlib.util.find_spec(name) is None, f"{name} can be imported"

card = (Path(FOLDER) / "README.md").read_text()
blocks = dict.fromkeys(("python", "bash"), ())
for language, text in re.findall(r"^```(\w+)\n(.*?)^```", card, re.MULTILINE | re.DOTALL):
    blocks[language] += (text,)

made["card"] = []
for text in blocks["python"]:
    names = {}
    exec(text.replace('"./noise"', repr(FOLDER)), names)  # noqa: S102
    made["card"].append(names["image"].size)

classic = DiffusionPipeline.from_pretrained(BACKBONE)
custom = DiffusionPipeline.from_pretrained(BACKBONE, custom_pipeline=FOLDER, trust_remote_code=True)
custom.load_projector(FOLDER)
options = {**CALL, "guidance_scale": GUIDANCE, "output_type": "np"}


def image(pipe, *prompt, **more):
    return torch.from_numpy(pipe(*prompt, **{**options, **more}).images)


made["latents="] = image(classic, PROMPT, latents=given["latents"])
made["custom"] = image(custom, PROMPT, seed=7)
made["custom, generator"] = image(custom, PROMPT, generator=torch.Generator().manual_seed(7))
made["custom, half"] = image(custom, PROMPT, seed=7, projection_strength=0.5)
made["custom, off"] = image(custom, PROMPT, seed=7, projection_strength=0)
made["plain"] = image(classic, PROMPT, generator=torch.Generator().manual_seed(7))
several = [PROMPT, "a star"]
made["custom, several"] = image(custom, several, seed=[7, 8, 9, 10], num_images_per_prompt=2)
made["given latents"] = image(custom, PROMPT, latents=given["latents"])
try:
    custom(
        prompt_embeds=classic.encode_prompt(
            PROMPT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )[0],
        **given["embeds"],
    )
except ValueError as error:
    made["embeds"] = str(error)

if (Path(FOLDER) / "modular_config.json").is_file():
    modular = ModularPipeline.from_pretrained(FOLDER, trust_remote_code=True)
    modular.load_components(trust_remote_code=True)
    modular.update_components(guider=ClassifierFreeGuidance(guidance_scale=GUIDANCE))
    call = {**CALL, "output_type": "np", "output": "images"}
    for name, more in (
        ("modular", {}),
        ("modular, half", {"projection_strength": 0.5}),
        ("modular, off", {"projection_strength": 0}),
    ):
        made[name] = torch.from_numpy(modular(prompt=PROMPT, seed=7, **more, **call))
    # of two images for each prompt, diffusers 0.42 mixes the prompts' pooled embeddings: so the prompts are repeated
    each = [prompt for prompt in several for _ in range(2)]
    made["modular, several"] = torch.from_numpy(modular(prompt=each, seed=[7, 8, 9, 10], **call))


# ---- ComfyUI ------------------------------------------------------------------------------------------------------


class Clip:
    """The double of a CLIP: rows of (token, weight) by encoder, and their hidden states."""

    def __init__(self, pipe):
        self.pipe, self.texts = pipe, {}
        self.tokenizers = [pipe.tokenizer, getattr(pipe, "tokenizer_2", None)]

    def tokenize(self, text):
        rows = {}
        for name, tokenizer in zip("lg", self.tokenizers, strict=True):
            if tokenizer is not None:
                ids = tokenizer(text, padding="max_length", max_length=77, truncation=True)["input_ids"]
                rows[name] = [
                    [(token, 1.3) for token in ids],
                    [(ids[0], 1.0)] * 77,
                ]  # a second window is left out
        self.texts[tuple(token for token, _ in rows["l"][0])] = text
        return dict(reversed(rows.items()))

    def encode_from_tokens(self, tokens, return_dict=False):
        assert return_dict and all(len(rows) == 1 for rows in tokens.values())
        assert {weight for rows in tokens.values() for row in rows for _, weight in row} == {1.0}
        text = self.texts[tuple(token for token, _ in tokens["l"][0])]
        states = self.pipe.encode_prompt(
            text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return {"cond": states[0], "pooled_output": None}


Path("ComfyUI/custom_nodes").mkdir(parents=True)
Path("noise").symlink_to(FOLDER)
for text in blocks["bash"]:
    subprocess.run(["bash", "-e", "-c", text], check=True)
# a custom node is a package whose name is that of its folder
place = Path("ComfyUI/custom_nodes/noise-projection").resolve()
spec = importlib.util.spec_from_file_location(str(place), place / "__init__.py")
package = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = package
spec.loader.exec_module(package)
(node,) = (cls() for cls in package.NODE_CLASS_MAPPINGS.values())
inputs = node.INPUT_TYPES()["required"]
assert list(package.NODE_CLASS_MAPPINGS) == list(package.NODE_DISPLAY_NAME_MAPPINGS)
assert node.RETURN_TYPES == ("NOISE",)


def noise(strength=1.0, batch=1, index=None, seed=7, projector=inputs["projector"][1]["default"]):
    arguments = dict(zip(inputs, (seed, Clip(classic), PROMPT, strength, projector), strict=True))
    (result,) = getattr(node, node.FUNCTION)(**arguments)
    assert result.seed == seed
    latent = {"samples": torch.zeros(batch, *given["latents"].shape[1:])}
    values = result.generate_noise(latent | ({} if index is None else {"batch_index": index}))
    made["next"] = torch.randn(3)  # what is drawn after it from the global generator
    return values


made["node"] = noise()
made["node, file"] = noise(projector=f"{FOLDER}/projector/diffusion_pytorch_model.safetensors")
made["node, batch"] = noise(batch=3)
made["node, index"] = noise(batch=2, index=[2, 0])
made["node, index off"] = noise(0.0, batch=2, index=[2, 0])
made["node, large seed"] = noise(seed=2**64 - 1, batch=2)
made["node, off"] = noise(0.0, batch=3)
made["node, image"] = image(classic, PROMPT, latents=made["node"])
try:
    noise(projector="nowhere")
except ValueError as error:
    made["nowhere"] = str(error)
torch.save(made, MADE)
