"""Write a bundle as an ONNX model

The model takes `images`, uint8 [n, height, width, channels] in the bundle's own size, and gives `probabilities`, float32 [n, classes], in the
order of the class names in its metadata. Scaling of pixels, the network, the classifier and the softmax are inside.

examples:
  carryover export data/bundle.safetensors --onnx digits.onnx
"""

from __future__ import annotations

import argparse

import shtab


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("bundle", metavar="BUNDLE", help="the bundle").complete = shtab.FILE  # type: ignore[attr-defined]
    parser.add_argument("--onnx", required=True, metavar="OUT", help="the file to write").complete = shtab.FILE  # type: ignore[attr-defined]


def run(options: argparse.Namespace) -> None:
    """Write the model, and say what it takes and gives."""
    # Imported here, for torch comes with them.
    from carryover.bundle import load
    from carryover.export import export_onnx

    bundle = load(options.bundle)
    export_onnx(bundle, options.onnx)
    sides = ", ".join(map(str, bundle.shape))
    print(f"{options.onnx}: images uint8 [n, {sides}] -> probabilities float32 [n, {len(bundle.classes)}]")
