"""The commands as a person types them: exit codes, what is said, what is left untouched."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from maekit.build.weights import read_weights
from maekit.cli.main import main
from maekit.config.load import load_recipe
from maekit.errors import UserError
from maekit.runs.evaluate import evaluate
from maekit.runs.report import report
from maekit.runs.train import finetune, pretrain
from maekit.studies import study
from maekit.studies.page import terminal_tables

LABELLED = ["task=regression", "name=tuned"]


def maekit(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "maekit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)  # type: ignore[call-overload]


def failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[object, str]:
    """Exit code and stderr of a command that fails, run in this process."""
    monkeypatch.setattr(sys, "argv", ["maekit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr().err


def test_help_is_quick() -> None:
    maekit("--help")
    took = []
    for _ in range(3):
        began = time.perf_counter()
        assert maekit("--help").returncode == 0
        took.append(time.perf_counter() - began)
    assert min(took) < 0.5


def test_mistakes_get_one_paragraph_and_exit_code_2(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    cases: list[tuple[list[object], str]] = [
        (["pretrain", "hart_rate/demo_pretrain", "--runs", runs], "Did you mean 'heart_rate/demo_pretrain'?"),
        (["pretrain", tiny, "--set", "model.mask_ration=0.5", "--runs", runs], "Did you mean 'mask_ratio'?"),
        (["pretrain", tiny, "--set", "task=regression", "--runs", runs], "Use `maekit finetune`"),
        (["finetune", tiny, "--from", "random", "--runs", runs], "Use `maekit pretrain`"),
        (["finetune", tiny, "--from", "runs/none", "--set", "task=regression", "--runs", runs], "no checkpoint here"),
        (["evaluate", runs / "none"], "no run here"),
        (["report", tmp_path], "no run here"),
        (["data", "inspect", tmp_path / "none.h5"], "no such file"),
        (["data", "check", "radar_phase_eg"], "Did you mean 'radar_phase_ecg'?"),
        (
            ["data", "convert", "radar_phase_ecg", "--from", tmp_path, "--to", tmp_path / "out"],
            "no source file matches",
        ),
        (["data", "simulate", "image_folder", "--to", tmp_path / "out"], "no adapter of this name"),
        (["recipe", "check", tmp_path / "none.yaml"], "no such recipe"),
        (["pretrian", tiny], "Did you mean 'pretrain'?"),
        (["recipe", "shw"], "Did you mean 'show'?"),
        (["study", tiny, "--over", "mask_ratio=0.5"], "--over: no such option. It is now called '--sweep'."),
        (["study", tiny, "--beside", tiny], "--beside: no such option. It is now called '--compare'."),
        (["pretrain", tiny, "--sets", "seed=1"], "Did you mean '--set'?"),
        (["pretrain", tiny, "--resume", "nver"], "Did you mean 'never'?"),
        (["finetune", tiny], "missing option '--from'"),
        (["study", tiny, "--seeds", "many"], "'--seeds'"),
    ]
    for arguments, message in cases:
        code, said = failure(capsys, monkeypatch, *arguments)
        assert code == 2, (arguments, said)
        assert message in said, (arguments, said)
        assert len(said.splitlines()) == 1, said
    assert not list(runs.rglob("*.safetensors"))


def test_a_bug_has_exit_code_1_and_leaves_its_traceback_in_a_file(tmp_path: Path) -> None:
    code = (
        "import sys, maekit.config.shipped as shipped, maekit.cli.main as main\n"
        "def broken(folder): raise KeyError('inside')\n"
        "shipped.list_recipes = broken\n"
        "main.main()"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    for arguments in (["recipe", "list"], ["--verbose", "recipe", "list"]):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 1
        assert "KeyError: 'inside'. This is a bug in maekit: please report it" in done.stderr
        assert ("Traceback" in done.stderr) == ("--verbose" in arguments)
    (file,) = tmp_path.glob("maekit-traceback-*")
    assert "in broken" in file.read_text()


@pytest.mark.parametrize("arguments", [["--help"], ["data", "schema"]])
def test_output_that_is_not_read_to_its_end_is_no_bug(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "maekit", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_messages_on_a_full_disk_do_not_hide_that_it_was_a_mistake() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "maekit", "recipe", "show", "nothing"]
        assert subprocess.run(command, stderr=full, check=False).returncode == 2


def test_a_working_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    command = f"cd {tmp_path}; mkdir x; cd x; rmdir ../x; exec {sys.executable} -P -m maekit recipe list"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error the working folder cannot be used (No such file or directory)")
    assert len(ended.stderr.splitlines()) == 1


def test_version() -> None:
    import maekit as package

    assert maekit("--version").stdout == f"maekit {package.__version__}\n"


LOADED_WHERE_USED = {
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "sympy",
    "timm",
    "torchvision",
}
LOADED_WHERE_USED |= {"scipy", "sklearn", "pandas", "matplotlib", "tensorboard", "distributed", "maekit.adapters"}
"""What takes long to import, and the public functions do without until they are called."""


def test_the_package_has_the_public_functions_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, maekit\n"
        "heavy = {'torch', 'numpy', 'h5py', 'pydantic'} & set(sys.modules)\n"
        "functions = [getattr(maekit, name) for name in maekit.__all__]\n"
        "assert all(map(callable, functions)) and set(maekit.__all__) <= set(dir(maekit))\n"
        "import maekit.api\n"
        "assert functions == [getattr(maekit.api, name) for name in maekit.__all__] and set(maekit.__all__) == set(maekit.api.__all__)\n"
        f"heavy |= {LOADED_WHERE_USED} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_whole_life(tiny: Path, tmp_path: Path) -> None:
    """Pretrain, fine-tune, probe, evaluate, embed, reconstruct, report, as the README does it."""
    runs = tmp_path / "runs"
    done = maekit("pretrain", tiny, "--runs", runs)
    assert done.returncode == 0, done.stderr
    assert "mean patch" in done.stderr
    base = runs / "tiny"
    assert {p.name for p in base.iterdir()} >= {
        "recipe.yaml",
        "data_spec.yaml",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
        "report.html",
    }
    rows = [json.loads(line) for line in (base / "metrics.jsonl").read_text().splitlines()]
    assert {
        "loss",
        "loss_mean_patch",
        "loss_interpolation",
        "embedding_std",
        "effective_rank",
        "lr",
        "grad_norm",
    } <= set(rows[0])
    page = (base / "report.html").read_text()
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page)
    assert "Predictions are" in page or "Normalised predictions" in page
    for tune in ("full", "partial", "frozen"):
        options = ["--set", f"task={{name: regression, tune: {tune}, tuned_blocks: 1}}", "--set", f"name=tuned_{tune}"]
        if tune != "partial":
            options[1] = f"task={{name: regression, tune: {tune}}}"
        done = maekit("finetune", tiny, "--from", base, "--runs", runs, *options)
        assert done.returncode == 0, done.stderr
    done = maekit("evaluate", runs / "tuned_full")
    assert set(json.loads(done.stdout)) == {"loss", "mae", "rmse", "bias", "mape", "within", "r", "lower", "upper"}
    done = maekit("probe", tiny, "--from", base, "--set", "task=regression")
    assert "spectral peak" in done.stdout, done.stderr
    done = maekit("embed", base, tmp_path / "features.h5")
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "features.h5") as file:
        assert file["train/features"].shape == (20, 16)
        assert set(file["test/group"][:]) == {b"p001"}
    assert maekit("embed", base, tmp_path / "features.h5").returncode == 2
    with pytest.raises(UserError, match="no such device"):
        report(base, device="cuda:77")
    done = maekit("reconstruct", base, tmp_path / "pictures", "--count", "2", "--statistics", "true")
    assert len(list((tmp_path / "pictures").glob("*.svg"))) == 2, done.stderr
    done = maekit("recipe", "show", tiny)
    assert "tiny.yaml:" in done.stdout
    assert "default" in done.stdout


def test_frozen_means_frozen(tiny: Path, tmp_path: Path) -> None:
    base = pretrain(tiny, runs=tmp_path).folder
    before = read_weights(base)
    for tune, blocks in (("frozen", 0), ("partial", 1), ("full", 2)):
        task = f"task={{name: regression, tune: {tune}, tuned_blocks: 1, head_std: 0.02}}"
        after = read_weights(finetune(tiny, base, runs=tmp_path, overrides=[task, f"name={tune}"]).folder)
        changed = {
            int(name.split(".")[2])
            for name in after
            if name.startswith("encoder.blocks") and not torch.equal(after[name], before[f"model.{name}"])
        }
        assert len(changed) == blocks, tune
        assert torch.equal(after["front.mean"], before["front.mean"])


def test_weights_that_do_not_fit(tiny: Path, tmp_path: Path) -> None:
    base = pretrain(tiny, runs=tmp_path).folder
    with pytest.raises(UserError, match=r"of another shape.*expected weights of the same model"):
        finetune(tiny, base, runs=tmp_path, overrides=[*LABELLED, "model.encoder.width=32"])
    stated = (base / "recipe.yaml").read_text()
    (base / "recipe.yaml").write_text(
        stated.replace("name: heart_rate", "name: spectrogram")
        .replace("patch_s", "n_fft")
        .replace("rate_hz: 10", "hop: 3")
    )
    with pytest.raises(UserError, match="weights of another modality"):
        finetune(tiny, base, runs=tmp_path, overrides=LABELLED)
    for name, content in {"a.pth": pickle.dumps({"a": 1}), "b.bin": b"PK\x03\x04rest"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="a pickle"):
            finetune(tiny, tmp_path / name, runs=tmp_path, overrides=LABELLED)
    save_file({"encoder.cls_token": torch.zeros(1, 1, 16)}, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match="missing"):
        finetune(tiny, tmp_path / "part.safetensors", runs=tmp_path, overrides=LABELLED)
    assert not (tmp_path / "tuned/checkpoints").exists()


def test_sigterm_from_outside(tiny: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "maekit",
        "pretrain",
        str(tiny),
        "--runs",
        str(tmp_path),
        "--set",
        "schedule.epochs=5000",
    ]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "tiny/metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and metrics.stat().st_size > 1000:
            break
        time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 143
    assert "run the same command again to continue" in (child.stderr.read() if child.stderr else "")


def test_class_names_are_shown_literally(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["<script>alert(1)", "[red]no[", "$x_1^"]
    for side in ("train", "test"):
        for i, name in enumerate(names):
            (tmp_path / "data" / side / name).mkdir(parents=True)
            for k in range(8):
                picture = (rng.integers(0, 60, (16, 16, 3)) + 60 * i).astype(np.uint8)
                Image.fromarray(picture).save(tmp_path / "data" / side / name / f"{k}.png")
    (tmp_path / "spec.yaml").write_text("name: odd\nkind: image_folder\nsplit: {train: [train], test: [test]}\n")
    (tmp_path / "recipe.yaml").write_text(f"""\
name: odd
adapter: {{name: image, size: 16, patch: 8, crop_ratio: 1.0, normalisation: fit}}
data: {{spec: spec.yaml, root: {tmp_path / "data"}}}
model: {{encoder: {{width: 16, depth: 1, heads: 2}}}}
task: classification
schedule: {{epochs: 2}}
training: {{batch_size: 8}}
""")
    run = finetune(tmp_path / "recipe.yaml", "random", runs=tmp_path / "runs").folder
    page = report(run).read_text()
    assert "<script>" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 1
    assert "[red]no[" in page
    assert "$x_1^" in page
    done = maekit("data", "check", tmp_path / "spec.yaml", "--root", tmp_path / "data")
    assert "[red]no[ 16" in done.stdout, done.stderr
    assert "<script>alert(1) 16" in done.stdout


def test_study_compares_all_ways(cohort: Path, tmp_path: Path) -> None:
    common = [
        "schedule.epochs=1",
        "schedule.warmup_epochs=0",
        "training.batch_size=4",
        f"data.root={cohort}",
        "data.window={seconds: 10, hop_seconds: 5}",
        "data.split={folds: 2}",
        "data.labelled_groups=2",
    ]
    options: dict[str, Any] = {
        "seeds": 2,
        "runs": tmp_path,
        "overrides": [*common[3:6], *common[:3], common[6], "task.bins=20"],
    }
    with pytest.raises(UserError, match="--track"):
        study.study("heart_rate/demo_finetune", track_s=float("nan"), **options)
    result = study.study("heart_rate/demo_finetune", track_s=10.0, smoothing=3, **options)
    (point,) = result.points
    plain = [
        method.name
        for method in point.methods
        if method.kind != "oracle" and not method.name.endswith((", followed", " of 3"))
    ]
    assert {method.name for method in point.methods if method.name.endswith(", followed")} == {
        f"{name}, followed" for name in plain[:-1]
    }
    one, other = (point.method(f"from scratch, fine-tuned{end}") for end in ("", ", followed"))
    assert one is not None
    assert other is not None
    assert one.mean("mae") != other.mean("mae")
    assert 0 <= other.mean("covered") <= 1
    assert [found.one for found in point.differences] == [
        f"pretrained, {way}{end}" for end in ("", ", followed") for way in ("fine-tuned", "linear probe")
    ]
    assert plain == [
        "pretrained, fine-tuned",
        "from scratch, fine-tuned",
        "pretrained, linear probe",
        "pretrained, nearest neighbours",
        "random weights, linear probe",
        "random weights, nearest neighbours",
        "raw input, linear model",
        "spectral peak",
        "autocorrelation",
        "harmonic sum",
        "constant (median of training)",
    ]
    assert point.samples == 30
    assert all(len(method.per_seed) == 2 for method in point.methods)
    assert "±" in terminal_tables(result)[0].rows[0][1]
    written = json.loads((tmp_path / "heart_rate/demo_finetune/study.json").read_text())
    assert [method["name"] for method in written["points"][0]["methods"]] == [method.name for method in point.methods]


def test_evaluation_is_deterministic_and_ignores_augmentation(tiny: Path, tmp_path: Path) -> None:
    run = pretrain(tiny, runs=tmp_path, overrides=["augment=[{name: gain, db: 6}]"]).folder
    assert evaluate(run) == evaluate(run)
    assert load_recipe(run / "recipe.yaml").recipe.name == "tiny"
