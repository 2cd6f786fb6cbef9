"""Export: ONNX Runtime gives the bundle's own answers, for any number of images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from test_bundle import CPU, NAMES, bundle, images

from carryover import export
from carryover.bundle import Bundle
from carryover.errors import ArtefactError

FITTED = [("softmax", "linear"), ("cosine", "linear"), ("gaussian", "linear"), ("head", "cosine")]


@pytest.mark.parametrize(("name", "head"), FITTED)
def test_the_module_gives_the_bundle_s_probabilities(name: str, head: str) -> None:
    import torch

    made = bundle(name, head)
    found = export.Model(made).eval()(torch.from_numpy(images(5)))
    assert np.allclose(found.detach().numpy(), made.predict_proba(images(5)), atol=1e-5)


def test_onnx_runtime_gives_the_bundle_s_answers_for_any_number_of_images(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = bundle()
    export.export_onnx(made, tmp_path / "b.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "b.onnx", providers=["CPUExecutionProvider"])
    for n in (1, 2, 7, 12):
        (found,) = session.run(["probabilities"], {"images": images(n)})
        assert found.dtype == np.float32 and np.allclose(found, made.predict_proba(images(n)), atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == NAMES and json.loads(metadata["origin"]) == made.origin
    assert [path.name for path in tmp_path.iterdir()] == ["b.onnx"], "one file, no data beside it"
    assert capfd.readouterr() == ("", "")


def test_a_model_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Program:
        class model:  # noqa: N801
            metadata_props: dict[str, str] = {}  # noqa: RUF012

        def save(self, *_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.torch.onnx, "export", lambda *_, **__: Program())
    made: Bundle = bundle()
    with pytest.raises(ArtefactError, match="No space left"):
        export.export_onnx(made, tmp_path / "b.onnx")
    assert list(tmp_path.iterdir()) == [] and made.predict(images(1)) and CPU
