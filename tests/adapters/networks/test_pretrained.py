"""What is loaded from disk or from the hub, and what is refused."""

import json

import pytest
import torch

from brainalign.adapters.networks import hub
from brainalign.adapters.networks.pretrained import from_pretrained
from brainalign.core.errors import ParameterError

transformers = pytest.importorskip("transformers")


def test_a_network_that_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(ParameterError, match=r"could not load '.*nothing' with AutoModel"):
        hub.load(tmp_path / "nothing", pretrained=True, seed=None, inputs=None, dtype="float32", device="cpu")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ParameterError, match=r"Expected a folder with config\.json"):
        hub.load(tmp_path, pretrained=True, seed=None, inputs=None, dtype="float32", device="cpu")


@pytest.mark.parametrize(
    ("error", "cut_off"), [("ConnectError", True), ("ConnectTimeout", True), ("ReadTimeout", False), (None, False)]
)
def test_without_a_connection_only_what_is_on_disk_is_looked_for(monkeypatch, error, cut_off):
    import huggingface_hub

    def answered(url):
        assert url.endswith("some/network/resolve/main/config.json")
        if error is not None:
            raise type(error, (Exception,), {})("no route to host")

    def loaded(source, **options):
        assert options.get("local_files_only", False) == cut_off  # else each file would be asked for six times
        raise OSError("it is not on disk")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", answered)
    monkeypatch.setattr("transformers.utils.cached_file", lambda *names, local_files_only, **_: None)
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", loaded)
    with pytest.raises(
        ParameterError, match=r"could not load 'some/network' with AutoModel: it is not on disk Expected a folder"
    ):
        hub.load("some/network", pretrained=True, seed=None, inputs=None, dtype="float32", device="cpu")


def test_weights_that_are_pickled_are_not_read(tmp_path):
    model = transformers.BertModel(
        transformers.BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    )
    model.save_pretrained(tmp_path)
    assert from_pretrained(transformers.AutoModel, tmp_path, use_safetensors=True).config.hidden_size == 8
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ParameterError, match=r"could not load .* weights as safetensors .*save_pretrained"):
        hub.load(tmp_path, pretrained=True, seed=None, inputs=None, dtype="float32", device="cpu")
    table = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(model.state_dict(), "pytorch_model.bin")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(table))  # which transformers would follow
    with pytest.raises(ParameterError, match=r"weights in 'pytorch_model\.bin'\. .* as safetensors"):
        hub.load(tmp_path, pretrained=True, seed=None, inputs=None, dtype="float32", device="cpu")
