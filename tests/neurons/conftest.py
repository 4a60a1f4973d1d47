"""A stock language model with words for tokens, and texts for it."""

import numpy as np
import pytest

import brainalign as ba

WORDS = [f"w{i}" for i in range(39)]


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory):
    """Folder of a GPT-2 of three blocks, whose first MLP writes more than the embeddings hold, as that of the real one does."""
    transformers = pytest.importorskip("transformers")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("models") / "words-gpt2"
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*WORDS, "[UNK]"])}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=40, n_embd=32, n_layer=3, n_head=4, n_positions=16, initializer_range=0.3, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2Model(config)
    with torch.no_grad():
        for table in (model.wte, model.wpe):
            table.weight.normal_(0, 0.02)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def texts():
    """From a number of texts, a seed and a number of words to a stimulus table."""

    def made(n, seed, length=7):
        rng = np.random.default_rng(seed)
        rows = [" ".join(rng.choice(WORDS, length)) for _ in range(n)]
        return ba.stimuli.table(rows, stimulus_id=[f"s{i}" for i in range(n)], kind="text")

    return made


@pytest.fixture(scope="session")
def table():
    """From a number of stimuli and of features to a table of random ones."""

    def made(n=40, width=6):
        values = np.random.default_rng(0).normal(size=(n, width))
        return ba.stimuli.table(values, stimulus_id=[f"s{i}" for i in range(n)], kind="array")

    return made


@pytest.fixture
def net():
    """A network of two hidden layers; the responder answers for the last."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4), torch.nn.Tanh())
    return ba.TorchResponder(model, "3", system="net")
