"""A frozen diffusion pipeline makes images of latents that are given to it; from a local folder with safe weights only."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import brainalign as ba
from brainalign.adapters.networks.diffusion import _seed

QUICK = {"num_inference_steps": 2, "guidance_scale": 2.0}


@pytest.fixture(scope="module")
def diffusers():
    """Imported where it is used, not where tests are collected: that takes ten seconds."""
    return pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def from_embedding(diffusers, tmp_path_factory):
    """A pipeline that takes an image embedding, and one for none; random weights."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        in_channels=4,
        out_channels=8,
        addition_embed_type="image",
        block_out_channels=(8,),
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("SimpleCrossAttnDownBlock2D",),
        up_block_types=("SimpleCrossAttnUpBlock2D",),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        encoder_hid_dim=6,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=6,
        layers_per_block=1,
    )
    coder = diffusers.VQModel(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    folder = tmp_path_factory.mktemp("from-embedding")
    diffusers.KandinskyV22Pipeline(unet=unet, scheduler=diffusers.DDIMScheduler(), movq=coder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def generator(diffusion_folder):
    return ba.adapters.DiffusersGenerator(diffusion_folder, **QUICK)


def latent(width, n=5, seed=0):
    values = np.random.default_rng(seed).random((n, width)).astype("float32")
    return ba.responses(values, stimulus_id=[f"s{i}" for i in range(n)], neuroid_id=range(width), modality="ann", system="net")


def test_images_of_latents_under_their_labels(generator):
    assert isinstance(generator, ba.protocols.Generator)
    text, random = latent(3 * 8), torch.random.get_rng_state()
    made = generator.generate({"prompt_embeds": text}, seed=3)
    assert torch.equal(random, torch.random.get_rng_state())
    assert dict(made.sizes) == {"presentation": 5, "y": 16, "x": 16, "channel": 3}
    assert made.stimulus_id.values.tolist() == text.stimulus_id.values.tolist()
    assert len(set(made.sha256.values.tolist())) == 5
    assert made["values"].min() >= 0
    assert made["values"].max() <= 1
    eye = ba.TorchResponder(torch.nn.Sequential(torch.nn.Flatten()), layers="0", system="net")
    assert ba.record(eye, made, progress=False).shape == (5, 768)
    np.testing.assert_array_equal(made["values"], generator.generate(text, seed=3)["values"])  # alone, it is of the prompt
    for other in ({"seed": 4}, {"latents": {"prompt_embeds": text[:, ::-1].assign_coords(neuroid_id=text.neuroid_id)}}):
        assert abs(generator.generate(**{"latents": text, "seed": 3} | other)["values"] - made["values"]).max() > 1e-3


def test_an_image_depends_on_its_row_and_stimulus_alone(generator, diffusion_folder):
    """Not on batches, order, or which others there are; rounding differs."""
    both = {"prompt_embeds": latent(3 * 8), "image": latent(4 * 64, seed=1)}
    made = generator.generate(both)["values"]
    ones = ba.adapters.DiffusersGenerator(diffusion_folder, batch_size=1, **QUICK).generate(both)["values"]
    np.testing.assert_allclose(ones, made, atol=1e-4)
    some = generator.generate({name: x[[4, 2]] for name, x in both.items()})["values"]
    np.testing.assert_allclose(some, made[[4, 2]], atol=1e-4)
    alike = {name: x[[0, 0]].assign_coords(stimulus_id=("presentation", ["one", "other"])) for name, x in both.items()}
    one, other = generator.generate(alike)["values"]
    assert abs(one - other).max() > 1e-3


def test_an_image_to_start_from_as_by_hand(diffusers, diffusion_folder):
    """Pixels, or what the autoencoder makes of them."""
    pixels, text = latent(768, n=3), latent(24, n=3)
    options = {"num_inference_steps": 10, "guidance_scale": 2.0, "strength": 0.4}
    generator = ba.adapters.DiffusersGenerator(diffusion_folder, **options)
    by_hand = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(diffusion_folder)
    shown = torch.as_tensor(pixels.values).reshape(3, 16, 16, 3).permute(0, 3, 1, 2)
    with torch.no_grad():
        code = by_hand.vae.encode(2 * shown - 1).latent_dist.mode() * by_hand.vae.config.scaling_factor
    for start, given in ((shown, pixels), (code, latent(256, n=3).copy(data=code.reshape(3, -1).numpy()))):
        noise = [torch.Generator().manual_seed(_seed(2, name)) for name in pixels.stimulus_id.values.tolist()]
        embeds = torch.as_tensor(text.values).reshape(3, 3, 8)
        want = by_hand(image=start, prompt_embeds=embeds, generator=noise, output_type="np", **options).images
        made = generator.generate({"image": given, "prompt_embeds": text}, seed=2)
        np.testing.assert_allclose(made["values"], want, atol=1e-5)


def test_what_was_done_is_told(diffusion_folder):
    generator = ba.adapters.DiffusersGenerator(diffusion_folder, num_inference_steps=2, strength=0.5)
    step = ba.core.provenance(generator.generate({"image": latent(768)}, seed=2)).steps[-1]  # without a prompt
    told = step["params"]
    assert (step["verb"], step["seed"], told["pipeline"]) == ("generate", 2, "StableDiffusionImg2ImgPipeline")
    assert told["options"] == {"num_inference_steps": 2, "guidance_scale": 7.5, "strength": 0.5}  # one by default
    assert told["network"] == generator.fingerprint()


def test_the_fingerprint_is_of_weights_and_configuration_and_not_of_the_place(diffusers, generator, diffusion_folder, tmp_path):
    again = ba.adapters.DiffusersGenerator(shutil.copytree(diffusion_folder, tmp_path / "copy"))
    first = again.fingerprint()
    assert first == generator.fingerprint()
    again.pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(again.pipeline.scheduler.config)
    second = again.fingerprint()
    with torch.no_grad():
        again.pipeline.unet.conv_in.weight.add_(1)
    assert len({first, second, again.fingerprint()}) == 3


def test_weights_in_half_precision_are_worked_with_in_single(diffusers, diffusion_folder, tmp_path):
    diffusers.DiffusionPipeline.from_pretrained(diffusion_folder).to(torch.float16).save_pretrained(tmp_path)
    generator = ba.adapters.DiffusersGenerator(tmp_path, **QUICK)
    assert generator.pipeline.text_encoder.dtype == generator.pipeline.unet.dtype == torch.float32
    assert generator.generate(latent(24, n=2))["values"].std() > 0


def test_from_an_image_embedding(from_embedding):
    embeds = latent(6)
    generator = ba.adapters.DiffusersGenerator(from_embedding, **QUICK, height=8, width=8)
    none = embeds.copy(data=0 * embeds.values)
    made = generator.generate({"image_embeds": embeds, "negative_image_embeds": none})
    assert made["values"].std("presentation").max() > 1e-3
    with pytest.raises(ba.errors.AlignmentError, match="lacks 'negative_image_embeds'"):
        generator.generate({"image_embeds": embeds})


def test_latents_and_options_that_the_pipeline_does_not_take_are_named(generator, diffusion_folder):
    text, made = latent(24), ba.adapters.DiffusersGenerator
    with pytest.raises(
        ba.errors.AlignmentError,
        match=r"does not take 'clip' of them and lacks none. Expected names among 'prompt_embeds', 'negative_prompt_embeds'",
    ):
        generator.generate({"prompt_embeds": text, "clip": text})
    with pytest.raises(ba.errors.AlignmentError, match="of different stimuli"):
        generator.generate({"prompt_embeds": text, "negative_prompt_embeds": text[::-1]})
    with pytest.raises(ba.errors.ParameterError, match="got the options 'steps', which a StableDiffusionPipeline does not have"):
        made(diffusion_folder, steps=3).generate(text)
    with pytest.raises(
        ba.errors.CapabilityError, match=r"'prompt_embeds' with 23 neuroids. Expected whole tokens, 8 numbers each"
    ):
        generator.generate(text[:, :23])
    with pytest.raises(ba.errors.CapabilityError, match=r"'image' with 700 neuroids.*\(y, x, 3\).*\(4, y, x\)"):
        generator.generate({"image": latent(700)})
    with pytest.raises(ba.errors.CapabilityError, match=r"refused: .*[Tt]he value of strength"):
        made(diffusion_folder, strength=3.0, num_inference_steps=2).generate({"image": latent(768)})
    holed = text.where(text.neuroid_id != 5)
    with pytest.raises(ba.errors.CapabilityError, match=r"NaN or infinity in 1 of 24 neuroids, first at 5\. .*fillna"):
        generator.generate(holed)
    np.testing.assert_array_equal(holed.fillna(text.mean("presentation"))[:, 5], np.full(5, text[:, 5].mean()))


@pytest.mark.parametrize(("part", "safe"), [("unet", "diffusion_pytorch_model"), ("text_encoder", "model")])
def test_weights_that_could_run_code_are_refused(diffusion_folder, tmp_path, part, safe):
    folder = shutil.copytree(diffusion_folder, tmp_path / "copy")
    weights = folder / part / f"{safe}.safetensors"
    weights.unlink()
    for name in (f"{safe}.bin", "pytorch_model.bin", f"{safe}.pkl"):
        torch.save({}, folder / part / name)
    with pytest.raises(ba.errors.ParameterError, match=rf"could not load .*{safe}\.safetensors.* its weights as safetensors"):
        ba.adapters.DiffusersGenerator(folder)


def taken_out(folder, to):
    """The weights of a part beside a table of shards that names another file."""
    state = load_file(folder / "model.safetensors")
    (torch.save if to.endswith(".bin") else save_file)(state, folder / to)
    (folder / "model.safetensors").unlink()
    table = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(state, to)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(table))


@pytest.mark.parametrize("to", ["weights.bin", "../../elsewhere.safetensors"])
def test_weights_of_another_kind_or_place_are_refused(diffusion_folder, tmp_path, to):
    folder = shutil.copytree(diffusion_folder, tmp_path / "copy")
    taken_out(folder / "text_encoder", to)
    with pytest.raises(ba.errors.ParameterError, match=rf"could not load .*: weights in '{to}'\. .* as safetensors"):
        ba.adapters.DiffusersGenerator(folder)


@pytest.mark.parametrize(
    "changed",
    [
        {"vae": ["diffusers", "StableDiffusionPipeline"]},  # which would take pickles
        {"_class_name": "KandinskyV22CombinedPipeline"},  # which would read what a README names
        {"_class_name": "NoSuchPipeline"},
        {"scheduler": ["copy.own", "Own"]},
        {"scheduler": ["own", "Own"]},
    ],
)
def test_a_pipeline_with_other_pipelines_or_modules_is_refused(diffusion_folder, tmp_path, monkeypatch, changed):
    folder = shutil.copytree(diffusion_folder, tmp_path / "copy")
    for name in ("own.py", "scheduler/own.py"):
        (folder / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom diffusers import DDIMScheduler as Own\n")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | changed))
    for place in (tmp_path, folder):
        monkeypatch.syspath_prepend(place)
    with pytest.raises(ba.errors.CapabilityError, match=r"never runs. Expected a stock architecture of diffusers"):
        ba.adapters.DiffusersGenerator(folder)
    assert not (tmp_path / "ran").exists()


def test_code_of_its_own_is_not_run_and_nothing_is_downloaded(diffusion_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(diffusion_folder, tmp_path / "copy")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": ["own", "Own"]}))
    with pytest.raises(ba.errors.CapabilityError, match=r"never runs. Expected a stock architecture of diffusers"):
        ba.adapters.DiffusersGenerator(folder)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ba.errors.ParameterError, match="which is no folder"):
        ba.adapters.DiffusersGenerator("some/name-on-the-hub")
    with pytest.raises(ba.errors.ParameterError, match="Expected a pipeline as diffusers saves it"):
        ba.adapters.DiffusersGenerator(tmp_path)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(
        ba.errors.OptionalDependencyError, match=r"DiffusersGenerator needs diffusers.*brainalign\[transformers\]"
    ):
        ba.adapters.DiffusersGenerator(diffusion_folder)
