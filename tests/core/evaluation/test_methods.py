import numpy as np
import pytest
import torch

from core.adapter import Adapter
from core.evaluation import choosing
from core.evaluation import methods as m
from core.evaluation.base import Method, Settings
from core.noise import SEED_LIMIT, draw
from core.progress import Stopped
from core.training.lora import LoraConfig, train_lora

SHORT = Settings(steps=2, batch=3)
PROMPTS, SEEDS = ["a red circle", "a blue square above a red star", "a red circle", "a star"], [3, 4, 5, 3]


@pytest.fixture(scope="module")
def plain(diffuser):
    return Method().run(diffuser, PROMPTS, SEEDS, SHORT)


def test_none_starts_from_the_noise_of_its_seeds_and_its_calls_are_counted_at_the_network(plain, diffuser):
    assert torch.equal(plain.noise, draw(SEEDS, diffuser.latent_shape()))
    assert plain.network_calls == 4 * 2 * 2  # items, steps, passes of guidance
    assert plain.other_calls == {} and plain.seeds == SEEDS
    assert plain.images.shape == (4, 32, 32, 3) and plain.images.dtype == np.uint8
    assert plain.peak_memory is None or plain.peak_memory > 10_000_000
    result = Method().run(diffuser, PROMPTS[:1], [1], Settings(steps=2, guidance=1.0))
    assert result.network_calls == 2
    with pytest.raises(Stopped):
        Method().run(diffuser, PROMPTS, SEEDS, SHORT, stop=lambda: True)


def test_the_projector_changes_the_noise_is_counted_apart_and_at_strength_0_is_none(
    plain, diffuser, networks
):
    off = m.Projected(networks[0], 0.0).run(diffuser, PROMPTS, SEEDS, SHORT)
    assert torch.equal(off.latents, plain.latents) and (off.images == plain.images).all()
    assert off.other_calls == {}
    method = m.Projected(networks[0])
    result = method.run(diffuser, PROMPTS, SEEDS, SHORT)
    assert not torch.equal(result.noise, plain.noise)
    assert result.other_calls == {"projector": 4} and result.network_calls == plain.network_calls
    alone = method.run(diffuser, PROMPTS[1:2], SEEDS[1:2], SHORT)
    assert torch.allclose(result.latents[1:2], alone.latents, atol=1e-4)


def test_the_first_candidate_is_the_base_seed_and_the_others_have_fixed_values():
    assert [choosing.candidate(7, k) for k in range(3)] == [7, 3617640167, 2374935413]
    assert all(0 <= choosing.candidate(SEED_LIMIT - 1, k) < SEED_LIMIT for k in range(50))
    assert len({choosing.candidate(s, k) for s in range(20) for k in range(8)}) == 160


def test_best_noise_of_n_makes_one_image_of_the_noise_that_the_reward_model_prefers(diffuser, networks):
    choose = choosing.by_reward(networks[1])
    result = m.BestOfNoise(3, choose).run(diffuser, PROMPTS[:2], SEEDS[:2], SHORT)
    text = diffuser.encode(PROMPTS[:2])
    tried = [
        draw([choosing.candidate(seed, k) for seed in SEEDS[:2]], diffuser.latent_shape()) for k in range(3)
    ]
    best = np.stack([choose(noise, text) for noise in tried]).argmax(0)
    assert result.seeds == [choosing.candidate(SEEDS[i], int(best[i])) for i in range(2)]
    assert result.network_calls == 2 * 2 * 2 and result.other_calls == {"reward": 6}


def test_the_reward_model_predicts_scored_words_and_nothing_else(diffuser, networks):
    p, words = choosing.predict(
        networks[1], draw([1, 2], diffuser.latent_shape()), diffuser.encode(PROMPTS[:2])
    )
    assert p.shape == (2, 8, 10) and [sorted(row) for row in words] == [[1, 2, 3], [1, 2, 3, 5, 6, 7]]
    assert all(0 <= value <= 1 for row in words for value in row.values())


def test_one_missing_word_counts_against_the_whole_image():
    assert choosing.whole([0.6, 0.6]) > choosing.whole([1.0, 0.3])
    assert (
        choosing.whole([0.6], "a red circle") == -np.inf
    )  # two words and *nothing else* should have a score


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda d: Method().run(d, ["a star"], [1, 2]), "1 prompts but 2 seeds"),
        (lambda d: Method().run(d, ["a star"], [-1]), "-1"),
        (lambda d: Method().run(d, ["a star"], [1], Settings(batch=0)), "batch is 0"),
        (lambda d: m.BestOf(0), "best of 0"),
        (lambda d: m.BestOf(2).run(d, ["a star"], [1]), "makes no images"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(diffuser, call, says):
    with pytest.raises(ValueError, match=says):
        call(diffuser)


# ---- combinations


@pytest.fixture(scope="module")
def adapter(diffuser, tmp_path_factory):
    """A LoRA of a few steps."""
    folder = tmp_path_factory.mktemp("lora") / "lora"
    latents = draw([1, 2], diffuser.latent_shape())
    config = LoraConfig(rank=2, steps=4, batch=2, rate=1e-2)
    train_lora(diffuser, latents, PROMPTS[:2], [1.0, 1.0], config, folder)
    return Adapter.load(folder)


def test_guidance_and_projection_combine_and_each_is_charged(diffuser, networks, plain):
    both = m.Guidance("pag", base=m.Projected(networks[0]))
    result = both.run(diffuser, PROMPTS, SEEDS, SHORT)
    assert both.name == "pag + projected" and both.moves
    assert result.network_calls == 4 * 2 * 3 and result.other_calls == {"projector": 4}
    alone = m.Projected(networks[0]).run(diffuser, PROMPTS, SEEDS, SHORT)
    assert torch.equal(result.noise, alone.noise) and not torch.equal(result.latents, alone.latents)
    again = Method().run(diffuser, PROMPTS, SEEDS, SHORT)
    assert torch.equal(again.latents, plain.latents)


def test_fine_tuning_and_guidance_are_the_same_in_either_order(diffuser, adapter, plain):
    result = [
        method.run(diffuser, PROMPTS[:2], SEEDS[:2], SHORT).latents
        for method in (m.Tuned(adapter, base=m.Guidance("pag")), m.Guidance("pag", base=m.Tuned(adapter)))
    ]
    assert torch.equal(*result)
    for other in (Method(), m.Tuned(adapter), m.Guidance("pag")):
        assert not torch.allclose(
            result[0], other.run(diffuser, PROMPTS[:2], SEEDS[:2], SHORT).latents, atol=1e-5
        )
    assert torch.equal(Method().run(diffuser, PROMPTS, SEEDS, SHORT).latents, plain.latents)


def test_noise_is_chosen_among_projected_noises_or_projected_after_it_was_chosen(diffuser, networks):
    choose, project = choosing.by_reward(networks[1]), m.Projected(networks[0])
    text, shape = diffuser.encode(PROMPTS[:2]), diffuser.latent_shape()
    tried = [
        project.start(text, [choosing.candidate(seed, k) for seed in SEEDS[:2]], shape).noise
        for k in range(3)
    ]
    best = np.stack([choose(noise, text) for noise in tried]).argmax(0)
    result = m.BestOfNoise(3, choose, project).start(text, SEEDS[:2], shape)
    assert torch.equal(result.noise, torch.stack([tried[k][i] for i, k in enumerate(best)]))
    assert result.calls == {"reward": 6, "projector": 6}
    after = m.Projected(networks[0], base=m.BestOfNoise(3, choose)).start(text, SEEDS[:2], shape)
    assert after.calls == {"reward": 6, "projector": 2}
    assert torch.equal(after.noise, project.start(text, after.seeds, shape).noise)


def test_best_of_wraps_any_method_and_no_method_wraps_it(networks):
    best = m.BestOf(2, m.Guidance("autoguidance", 3.0))
    assert best.name == "best-of-2 + autoguidance-3 (layer drop)"
    with pytest.raises(ValueError, match="put the best-of-N first"):
        m.Projected(networks[0], base=best)
    with pytest.raises(ValueError, match="both guidance"):
        m.Guidance("pag", base=m.Tuned(None, base=m.Guidance("autoguidance")))


def test_the_fingerprint_of_a_combination_follows_all_its_parts_and_their_weights(networks):
    def prints():
        moved, weak = m.Projected(networks[0]), m.Projected(networks[0], 0.5)
        methods = (
            moved,
            weak,
            m.Guidance("pag"),
            m.Guidance("pag", base=moved),
            m.Guidance("pag", 2.0, moved),
        )
        return [method.fingerprint for method in (*methods, m.Guidance("pag", base=weak))]

    first, bias = prints(), next(networks[0].parameters())
    assert first == prints() and len(set(first)) == 6
    with torch.no_grad():
        bias.add_(1)
        changed = [a != b for a, b in zip(first, prints(), strict=True)]
        bias.sub_(1)
    assert changed == [True, True, False, True, True, True]
