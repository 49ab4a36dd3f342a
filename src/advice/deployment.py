"""How to deploy on a device: what docs/deploy.md measured, and what is not measured."""

from collections.abc import Sequence

from src.advice.measurements import Evidence

RUN = "logs/train/runs/<run>"


def deployment(device: str, evidence: Sequence[Evidence]) -> list[str]:
    """Return the lines of advice and commands for a device."""
    openvino = f"python src/export.py run_dir={RUN} formats=[openvino] precisions=[fp32,int8]"
    onnx = f"python src/export.py run_dir={RUN} formats=[onnx] precisions=[fp32,int8]"
    return {
        "laptop": [
            f"int8 with OpenVINO, if the export reports a small loss on your data: {int8_figures(evidence)}.",
            openvino,
            f"python src/benchmark.py exported=[{RUN}/export/openvino_int8]",
        ],
        "server": [
            "OpenVINO for batches of images on CPUs, in int8 or bf16; compare them on the server itself: "
            f"{int8_figures(evidence)}.",
            f"python src/export.py run_dir={RUN} formats=[openvino] precisions=[fp32,bf16,int8]",
            f"python src/benchmark.py exported=[{RUN}/export/openvino_int8] inference_batch_sizes=[32,128]",
            "Inference on GPUs is not measured here.",
        ],
        "edge": [
            "ONNX, whose runtime also supports ARM; copy only the exported folder, which contains predict.py.",
            onnx,
            "Speed on ARM is not measured here, with or without int8: time predict.py on the device itself.",
        ],
    }[device]


def int8_figures(evidence: Sequence[Evidence]) -> str:
    """Describe the speedup and loss by int8, over the nets for which both were measured."""
    known = [one for one in evidence if one.int8_speedup and one.int8_change is not None]
    if not known:
        return "speed not measured here"
    speeds = sorted(one.int8_speedup or 0.0 for one in known)
    changes = sorted(100 * (one.int8_change or 0.0) for one in known)
    return (
        f"{speeds[0]:.1f} to {speeds[-1]:.1f}× the images/s of torch in float32 at batches of 32, and "
        f"{changes[0]:+.2f} to {changes[-1]:+.2f} points of accuracy, for {len(known)} nets on {known[0].data}"
    )
