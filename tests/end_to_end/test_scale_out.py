"""Many processes (gloo, on the CPU) do what one does: losses, statistics, checkpoints, and going on after a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from processes import forked

from maekit.errors import UserError
from maekit.runs.evaluate import evaluate
from maekit.runs.train import finetune, pretrain
from maekit.tasks.shared_norm import SharedBatchNorm
from maekit.training import checkpoint
from maekit.training.run import Run

STILL = ["model.encoder.drop_path=0"]


def rows(folder: Path, kind: str = "train", name: str = "loss") -> list[float]:
    return [row[name] for row in Run(folder).rows() if row["kind"] == kind]


def torchrun(processes: int, *arguments: str, options: tuple[str, ...] = ()) -> str:
    """The real launcher; what was said on stderr."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(processes),
        "--standalone",
        "--local-addr",
        "127.0.0.1",
        *options,
        "-m",
        "maekit",
        *arguments,
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def sets(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


@pytest.fixture
def one(tiny: Path, tmp_path: Path) -> Path:
    """Ten steps on one process."""
    return pretrain(tiny, runs=tmp_path / "one", overrides=STILL).folder


@pytest.mark.parametrize(
    ("processes", "options"),
    [
        (2, ["training.gradient_accumulation_steps=2", "training.ema=0.9"]),
        (
            2,
            [
                "training.gradient_accumulation_steps=2",
                "training.parallel=fsdp2",
                "training.activation_checkpointing=true",
            ],
        ),
        (4, []),
    ],
)
def test_many_processes_equal_one(tiny: Path, tmp_path: Path, one: Path, processes: int, options: list[str]) -> None:
    """Same samples, same masks: losses agree to 1e-4, which float32 sums in another order explain."""
    assert not any(forked(processes, partial(pretrain, tiny, runs=tmp_path / "many", overrides=[*STILL, *options])))
    many = tmp_path / "many/tiny"
    assert rows(many, name="step") == rows(one, name="step")
    assert rows(many) == pytest.approx(rows(one), rel=1e-4)
    assert rows(many, name="grad_norm") == pytest.approx(rows(one, name="grad_norm"), rel=1e-3)
    trivial = "loss_mean_patch"
    assert rows(many, "validation", trivial) == pytest.approx(rows(one, "validation", trivial), rel=1e-4)
    # What many processes saved opens in one.
    if "training.ema=0.9" not in options:
        assert evaluate(many)["loss"] == pytest.approx(evaluate(one)["loss"], rel=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        ["model.encoder_mask_tokens=true"],
        ["model.encoder_mask_tokens=true", "training.parallel=fsdp2"],
        ["model.decoder_attention=cross", "model.cross_mask_ratio=0.5"],
        ["task={name: tokenizer, width: 16, heads: 2}"],
    ],
)
def test_every_parameter_that_trains_has_a_gradient(tiny: Path, tmp_path: Path, options: list[str]) -> None:
    """DistributedDataParallel waits for each; and the options of pretraining too are the same on two processes."""
    options = [*STILL, "schedule.epochs=1", *options]
    alone = pretrain(tiny, runs=tmp_path / "one", overrides=options).folder
    assert not any(forked(2, partial(pretrain, tiny, runs=tmp_path / "two", overrides=options)))
    assert rows(tmp_path / "two/tiny") == pytest.approx(rows(alone), rel=1e-4)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
@pytest.mark.parametrize(
    "task",
    [
        [
            "task={name: regression, tune: frozen, pooling: class}",
            "optimizer={name: lars, weight_decay: 0, base_lr: 10}",
        ],
        ["task={name: regression, tune: partial, tuned_blocks: 0.5}", "training.activation_checkpointing=true"],
        ["task=regression", "optimizer={layer_decay: 0.7, clip_grad: 0.1, base_lr: 0.01}"],
    ],
)
def test_fine_tuning_on_two_processes(tiny: Path, tmp_path: Path, one: Path, task: list[str], parallel: str) -> None:
    """Statistics of a probe, LARS, half a block, layer decay and clipping: as on one process, evaluation included."""
    options = [*STILL, *task, "schedule.warmup_epochs=0"]
    alone = finetune(tiny, one, runs=tmp_path / "alone", overrides=options).folder
    spread = [*options, f"training.parallel={parallel}"]
    assert not any(forked(2, partial(finetune, tiny, one, runs=tmp_path / "two", overrides=spread)))
    assert rows(tmp_path / "two/tiny") == pytest.approx(rows(alone), rel=1e-3)
    mae = rows(alone, "validation", "mae")
    assert mae[0] != mae[-1]
    assert rows(tmp_path / "two/tiny", "validation", "mae") == pytest.approx(mae, rel=1e-3)


def test_a_run_goes_on_at_another_world_size(tiny: Path, tmp_path: Path, one: Path) -> None:
    """Steps 1 to 3 on one process, to 6 on four, to 9 on two (sharded), the last on one, beside ten steps on one."""
    folder = tmp_path / "parts/tiny"
    keep = [*STILL, "training.keep_checkpoints=20", "training.parallel=fsdp2"]

    def until(step: int) -> None:
        """As if the run had been stopped there."""
        for later in checkpoint.steps(folder / "checkpoints"):
            if later > step:
                location = folder / f"checkpoints/step-{later:09d}"
                location.rename(tmp_path / f"{step}-{later}")

    pretrain(tiny, runs=tmp_path / "parts", overrides=keep)
    for processes, reached in ((4, 3), (2, 6), (1, 9)):
        until(reached)
        assert not any(forked(processes, partial(pretrain, tiny, runs=tmp_path / "parts", overrides=keep)))
        assert checkpoint.steps(folder / "checkpoints")[-1] == 10
    assert rows(folder) == pytest.approx(rows(one), rel=1e-4)


def test_the_command_on_two_processes(tmp_path: Path) -> None:
    """`torchrun ... maekit finetune` with everything of a published fine-tuning: it ends, with a report, and speaks once."""
    from maekit.adapters.image.image import ImageAdapter

    spec = ImageAdapter.simulate(tmp_path / "data", seed=0)
    recipe = tmp_path / "fine.yaml"
    recipe.write_text(f"""\
name: fine
adapter: {{name: image, size: 16, patch: 4}}
data: {{spec: {spec}, root: {tmp_path / "data"}, split: {{validation: [painter1], test: [painter2]}}}}
model: {{encoder: {{width: 16, depth: 2, heads: 2, drop_path: 0.1}}}}
task: {{name: classification, smoothing: 0.1, mixup: 0.8, cutmix: 1.0}}
optimizer: {{layer_decay: 0.75, betas: [0.9, 0.999]}}
schedule: {{epochs: 2, warmup_epochs: 1}}
training: {{batch_size: 32, micro_batch: 8, ema: 0.9}}
""")
    said = torchrun(2, "finetune", str(recipe), "--from", "random", "--runs", str(tmp_path / "runs"))
    assert said.count("validation epoch 2.00") == 1
    assert "Metrics on the test split" in (tmp_path / "runs/fine/report.html").read_text()
    metrics = evaluate(tmp_path / "runs/fine", side="validation")
    assert metrics["accuracy"] == pytest.approx(rows(tmp_path / "runs/fine", "validation", "accuracy")[-1])


def test_one_signal_stops_all_at_one_step(tiny: Path, tmp_path: Path, one: Path) -> None:
    """SIGTERM to the second of two processes: both end with its code after the same step, which is saved."""

    def train() -> None:
        def stop(progress: object) -> None:
            if progress.step == 4 and os.environ["RANK"] == "1":  # type: ignore[attr-defined]
                os.kill(os.getpid(), signal.SIGTERM)

        pretrain(tiny, runs=tmp_path, overrides=STILL, watch=stop)

    assert forked(2, train) == [143, 143]
    assert checkpoint.steps(tmp_path / "tiny/checkpoints")[-1] == 5
    pretrain(tiny, runs=tmp_path, overrides=STILL)
    assert rows(tmp_path / "tiny") == pytest.approx(rows(one), rel=1e-4)


def test_machines_that_do_not_share_the_run_folder(tiny: Path, tmp_path: Path) -> None:
    pretrain(tiny, runs=tmp_path / "0", overrides=STILL)

    def train() -> None:
        with pytest.raises(UserError, match="different checkpoints") as raised:
            pretrain(tiny, runs=tmp_path / os.environ["RANK"], overrides=STILL)
        assert "steps 0 and 10" in str(raised.value)

    assert forked(2, train) == [0, 0]


LONG = ["schedule.epochs=500", "training.workers=2"]


def started(tiny: Path, runs: Path) -> int:
    """A run with worker processes in a process group of its own, some steps in."""
    child = os.fork()
    if child == 0:
        os.setsid()
        code = 1
        try:
            pretrain(tiny, runs=runs, overrides=LONG)
        except BaseException as error:
            code = getattr(error, "exit_code", 1)
        finally:
            os._exit(code)
    deadline = time.monotonic() + 60
    while len(Run(runs / "tiny").rows()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    return child


def test_a_signal_to_all_processes_of_a_run(tiny: Path, tmp_path: Path) -> None:
    """As clusters send it, and terminals: the workers stay until the main process has saved."""
    child = started(tiny, tmp_path)
    os.killpg(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
    assert checkpoint.steps(tmp_path / "tiny/checkpoints")[-1] == rows(tmp_path / "tiny", name="step")[-1]


def test_workers_that_outlive_a_killed_run_hold_no_lock(tiny: Path, tmp_path: Path) -> None:
    child = started(tiny, tmp_path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with Run(tmp_path / "tiny").owned():
        pass
    os.killpg(child, signal.SIGKILL)


STAND_INS = {
    "srun": 'shift; exec "$@"',
    "scontrol": 'if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> asked; fi',
    ".venv/bin/torchrun": f'exec {sys.executable} -m torch.distributed.run --local-addr 127.0.0.1 "$@"',
}


def test_the_cluster_script_saves_and_goes_back_into_the_queue(tiny: Path, tmp_path: Path) -> None:
    """With stand-ins for the cluster's own commands; the launcher, its processes and the signal are real."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name, does in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    script = Path(__file__).parents[2] / "docs/slurm.sh"
    variables = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "a",
        "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "2",
    }
    job = subprocess.Popen(
        ["bash", str(script), str(tiny), "--runs", str(tmp_path), "--device", "cpu", *sets("schedule.epochs=500")],
        cwd=tmp_path,
        env={**os.environ, **variables, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    run = Run(tmp_path / "tiny")
    deadline = time.monotonic() + 120
    while not (run.folder.is_dir() and len(run.rows()) > 3) and time.monotonic() < deadline and job.poll() is None:
        time.sleep(0.1)
    job.send_signal(signal.SIGTERM)
    said = job.communicate(timeout=60)[1]
    assert job.returncode == 0, said[-3000:]
    assert (tmp_path / "asked").read_text() == f"requeue {os.getpid()}\n"
    assert checkpoint.steps(run.folder / "checkpoints")[-1] == rows(run.folder, name="step")[-1] > 0


CRASH = """\
import os, signal
from maekit.training import loop

train = loop.train
def dying(*args, watch=None, **kwargs):
    def die(progress):
        if progress.step == 5 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
    return train(*args, watch=die, **kwargs)
loop.train = dying
"""


@pytest.mark.slow  # gloo at times needs a second restart, or minutes, to connect again after a peer was killed
def test_torchrun_restarts_after_a_killed_worker(tiny: Path, tmp_path: Path, one: Path) -> None:
    """`--max-restarts`: one of two workers dies without a word in its first life; the run ends as if nothing had been."""
    (tmp_path / "crash.py").write_text(CRASH)
    said = torchrun(
        2,
        "--plugin",
        str(tmp_path / "crash.py"),
        "pretrain",
        str(tiny),
        "--runs",
        str(tmp_path / "two"),
        *sets(*STILL),
        options=("--max-restarts", "5"),
    )
    assert "SIGKILL" in said or "Signal 9" in said
    assert rows(tmp_path / "two/tiny", name="step") == rows(one, name="step")
    assert rows(tmp_path / "two/tiny") == pytest.approx(rows(one), rel=1e-4)


def far_from_zero() -> torch.Tensor:
    """Three batches of nine; the last of the five numbers hardly varies beside its mean."""
    torch.manual_seed(0)
    spread, centre = torch.tensor([3.0, 3, 3, 1, 0.01]), torch.tensor([0.0, 1, -1, 5, 100])
    return torch.randn(3, 9, 5) * spread + centre


def test_statistics_are_of_all_processes(tmp_path: Path) -> None:
    """Batches of five and four samples in two processes are normalised as torch's BatchNorm does the nine together."""

    def normalise() -> None:
        rank = int(os.environ["RANK"])
        dist.init_process_group("gloo")
        norm = SharedBatchNorm(5).train()
        out = [norm(batch[rank::2]) for batch in far_from_zero()]
        torch.save({"out": out[-1], "mean": norm.running_mean, "var": norm.running_var}, tmp_path / f"{rank}.pt")
        dist.destroy_process_group()

    assert forked(2, normalise) == [0, 0]
    reference, alone = torch.nn.BatchNorm1d(5, affine=False, eps=1e-6).double().train(), SharedBatchNorm(5).train()
    expected = [reference(batch.double()) for batch in far_from_zero()][-1].float()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    found.append(
        {"out": [alone(batch) for batch in far_from_zero()][-1], "mean": alone.running_mean, "var": alone.running_var}
    )
    assert reference.running_mean is not None
    assert reference.running_var is not None
    for part, whole in zip(found, (expected[0::2], expected[1::2], expected), strict=True):
        torch.testing.assert_close(part["out"], whole)
        torch.testing.assert_close(part["mean"], reference.running_mean.float())
        torch.testing.assert_close(part["var"], reference.running_var.float())
    torch.testing.assert_close(alone.eval()(far_from_zero()[0]), reference.eval()(far_from_zero()[0].double()).float())
    with pytest.raises(UserError, match="a batch of one"):
        alone.train()(torch.zeros(1, 5))


def test_a_batch_that_cannot_be_dealt_out_is_refused(tiny: Path, tmp_path: Path) -> None:
    def train() -> None:
        with pytest.raises(UserError, match="the batch does not divide into 3 processes x 1 accumulated"):
            pretrain(tiny, runs=tmp_path)

    assert forked(3, train) == [0, 0, 0]
    assert not list(tmp_path.glob("tiny/checkpoints/*"))
