"""Uses a published folder as somebody else does: run by `python -I` in another working directory, without this repository.

    python -I elsewhere.py TASKS MADE

TASKS: of each family what was published (the card calls it "noise"), the backbone, and latents and settings of the test.
MADE: what this writes.

The CLIP and the sampler of ComfyUI are doubles: ComfyUI is under the GPL, and nothing of it is here. The double of CLIP
has the two methods that the node calls, over the text encoders of a diffusers pipeline; the sampler is that pipeline. They
cannot show what ComfyUI's own text encoders and samplers compute.
"""

import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from diffusers import ClassifierFreeGuidance, DiffusionPipeline, ModularPipeline
from diffusers.utils import logging

logging.disable_progress_bar()
TASKS, MADE = sys.argv[1:]
for name in ("core", "data", "studio"):
    assert importlib.util.find_spec(name) is None, f"{name} can be imported"


def each(options, prompt):
    """Arguments of a call, with a negative prompt for each prompt of several."""
    if isinstance(prompt, list) and "negative_prompt" in options:
        return {**options, "negative_prompt": [options["negative_prompt"]] * len(prompt)}
    return options


class Made(dict):
    """What one published folder made, by name."""

    def __init__(self, folder, backbone, given):
        super().__init__()
        self.folder, self.given, self.prompt = folder, given, given["prompt"]
        self.call = {"num_inference_steps": given["steps"], "output_type": "np", "height": 64, "width": 64}
        Path("noise").unlink(missing_ok=True)
        Path("noise").symlink_to(folder)
        self["card"], self.commands = self.examples(folder)
        if bare := given.get("bare"):
            self["bare card"], _ = self.examples(bare, {'"backbone"': repr(backbone)})
        self.classic = DiffusionPipeline.from_pretrained(backbone)
        self.custom(backbone)
        if (Path(folder) / "modular_config.json").is_file():
            self.modular()
        if (Path(folder) / "comfyui").is_dir():
            self.node()

    def examples(self, folder, places=()):
        """Sizes of the images of the card's examples, as they stand but for where things lie, and its commands."""
        sizes, commands = [], []
        card = (Path(folder) / "README.md").read_text()
        for name, place in {'"./noise"': repr(folder), **dict(places)}.items():
            card = card.replace(name, place)
        for language, text in re.findall(r"^```(\w+)\n(.*?)^```", card, re.MULTILINE | re.DOTALL):
            if language == "python":
                names = {}
                exec(text, names)  # noqa: S102
                sizes.append(names["image"].size)
            elif language == "bash":
                commands.append(text)
        return sizes, commands

    def image(self, pipe, prompt, **more):
        options = {**self.call, **self.given["options"], **more}
        return torch.from_numpy(pipe(prompt=prompt, **each(options, prompt)).images)

    def custom(self, backbone):
        given, prompt, classic = self.given, self.prompt, self.classic
        custom = DiffusionPipeline.from_pretrained(
            backbone, custom_pipeline=self.folder, trust_remote_code=True
        )
        custom.load_projector(self.folder)
        size = {"height": 64, "width": 96}

        def of(latents, **more):
            """An image of latents, with the seed's third stream for what is drawn at every step."""
            third = torch.Generator()
            third.set_state(given[f"after {latents}"])
            return self.image(classic, prompt, latents=given[latents], generator=third, **more)

        self["latents="], self["wide"], self["noise="] = of("latents"), of("wide", **size), of("noise")
        self["custom"] = self.image(custom, prompt, seed=7)
        self["custom, generator"] = self.image(custom, prompt, generator=torch.Generator().manual_seed(7))
        self["custom, wide"] = self.image(custom, prompt, seed=7, **size)
        self["custom, half"] = self.image(custom, prompt, seed=7, projection_strength=0.5)
        self["custom, off"] = self.image(custom, prompt, seed=7, projection_strength=0)
        self["plain"] = self.image(classic, prompt, generator=torch.Generator().manual_seed(7))
        # where a pipeline returns a mask, diffusers 0.42 mixes those of several prompts with two images each
        several = {"num_images_per_prompt": 2} if not given["masked"] else {}
        prompts = [text for text in (prompt, "a star") for _ in range(1 if several else 2)]
        self["custom, several"] = self.image(custom, prompts, seed=[7, 8, 9, 10], **several)
        third = torch.Generator()
        third.set_state(given["after latents"])
        self["given latents"] = self.image(custom, prompt, latents=given["latents"], generator=third)
        if "prompt_2" in inspect.signature(classic.__call__).parameters:
            try:
                custom(prompt, prompt_2="a star", seed=7)
            except ValueError as error:
                self["prompt_2"] = str(error)
        if embeds := given.get("embeds"):
            states = classic.encode_prompt(
                prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
            )
            try:
                custom(prompt_embeds=states[0], **embeds)
            except ValueError as error:
                self["embeds"] = str(error)

    def modular(self):
        given, prompt = self.given, self.prompt
        modular = ModularPipeline.from_pretrained(self.folder, trust_remote_code=True)
        modular.load_components(trust_remote_code=True)
        options = {
            name: value
            for name, value in given["options"].items()
            if name in ("negative_prompt", "guidance_scale")
        }
        if given["guider"]:
            modular.update_components(guider=ClassifierFreeGuidance(**given["guider"]))
            options.pop("guidance_scale", None)
        call = {**self.call, **options, "output": "images"}
        for name, more in (
            ("modular", {}),
            ("modular, wide", {"height": 64, "width": 96}),
            ("modular, half", {"projection_strength": 0.5}),
            ("modular, off", {"projection_strength": 0}),
        ):
            self[name] = torch.from_numpy(modular(prompt=prompt, seed=7, **{**call, **more}))
        # of two images for each prompt, diffusers 0.42 mixes the prompts' pooled embeddings: so the prompts are repeated
        several = [text for text in (prompt, "a star") for _ in range(2)]
        call = each(call, several)
        self["modular, several"] = torch.from_numpy(modular(prompt=several, seed=[7, 8, 9, 10], **call))

    def node(self):
        """The node in a folder of ComfyUI's."""
        shutil.rmtree("ComfyUI", ignore_errors=True)
        Path("ComfyUI/custom_nodes").mkdir(parents=True)
        for text in self.commands:
            subprocess.run(["bash", "-e", "-c", text], check=True)
        # a custom node is a package whose name is that of its folder
        place = Path("ComfyUI/custom_nodes/noise-projection").resolve()
        for name in [name for name in sys.modules if name.startswith(str(place))]:
            del sys.modules[name]
        spec = importlib.util.spec_from_file_location(str(place), place / "__init__.py")
        package = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = package
        spec.loader.exec_module(package)
        (node,) = (cls() for cls in package.NODE_CLASS_MAPPINGS.values())
        inputs = node.INPUT_TYPES()["required"]
        assert list(package.NODE_CLASS_MAPPINGS) == list(package.NODE_DISPLAY_NAME_MAPPINGS)
        assert node.RETURN_TYPES == ("NOISE",)
        shape = self.given["latents"].shape[1:]

        def noise(
            strength=1.0, batch=1, index=None, seed=7, projector=inputs["projector"][1]["default"], dtype=None
        ):
            values = (seed, Clip(self.classic), self.prompt, strength, projector)
            (result,) = getattr(node, node.FUNCTION)(**dict(zip(inputs, values, strict=True)))
            assert result.seed == seed
            latent = {"samples": torch.zeros(batch, *shape, dtype=dtype)}
            made = result.generate_noise(latent | ({} if index is None else {"batch_index": index}))
            self["next"] = torch.randn(3)  # what is drawn after it from the global generator
            return made

        self["node"] = noise()
        self["node, file"] = noise(projector=f"{self.folder}/projector/diffusion_pytorch_model.safetensors")
        self["node, batch"] = noise(batch=3)
        self["node, index"] = noise(batch=2, index=[2, 0])
        self["node, index off"] = noise(0.0, batch=2, index=[2, 0])
        self["node, half off"] = noise(0.0, batch=3, dtype=torch.half)
        self["node, large seed"] = noise(seed=2**64 - 1, batch=2)
        self["node, off"] = noise(0.0, batch=3)
        self["node, image"] = self.image(self.classic, self.prompt, latents=self["node"])
        try:
            noise(projector="nowhere")
        except ValueError as error:
            self["nowhere"] = str(error)


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


torch.save([dict(Made(**task)) for task in torch.load(TASKS)], MADE)
