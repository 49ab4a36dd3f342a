"""How to deploy on a device: what docs/deploy.md measured, and what was not measured."""

from collections.abc import Sequence

from src.advice.measurements import Evidence

RUN = "logs/train/runs/<run>"


def deployment(device: str, evidence: Sequence[Evidence]) -> list[str]:
    """Return advice and commands for a device, one a line."""
    openvino = f"python src/export.py run_dir={RUN} formats=[openvino] precisions=[fp32,int8]"
    onnx = f"python src/export.py run_dir={RUN} formats=[onnx] precisions=[fp32,int8]"
    return {
        "laptop": [
            f"int8 with OpenVINO, if the export finds its loss small on your data: {int8_figures(evidence)}.",
            openvino,
            f"python src/benchmark.py exported=[{RUN}/export/openvino_int8]",
        ],
        "server": [
            "OpenVINO for many images at once on CPUs, in int8 or bf16; compare them on the server itself: "
            f"{int8_figures(evidence)}.",
            f"python src/export.py run_dir={RUN} formats=[openvino] precisions=[fp32,bf16,int8]",
            f"python src/benchmark.py exported=[{RUN}/export/openvino_int8] inference_batch_sizes=[32,128]",
            "Inference on GPUs is not measured here.",
        ],
        "edge": [
            "ONNX, whose runtime is built for ARM too; the exported folder with its predict.py is all that is copied.",
            onnx,
            "Speed on ARM is not measured here, nor is int8 there: time predict.py on the device itself.",
        ],
    }[device]


def int8_figures(evidence: Sequence[Evidence]) -> str:
    """Say how much faster int8 is, and what it costs, over the nets of which both were measured."""
    known = [one for one in evidence if one.int8_speedup and one.int8_change is not None]
    if not known:
        return "its speed is not measured here"
    speeds = sorted(one.int8_speedup or 0.0 for one in known)
    changes = sorted(100 * (one.int8_change or 0.0) for one in known)
    return (
        f"{speeds[0]:.1f} to {speeds[-1]:.1f}× the images/s of torch in float32 at batches of 32, and "
        f"{changes[0]:+.2f} to {changes[-1]:+.2f} points of accuracy, for {len(known)} nets on {known[0].data}"
    )
