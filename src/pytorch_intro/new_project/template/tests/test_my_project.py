from pathlib import Path

from pytorch_intro import train


def test_the_recipe_runs_on_one_batch(tmp_path: Path) -> None:
    result, _ = train(["experiment=my_project", "trainer.fast_dev_run=true", f"outputs={tmp_path}"])
    assert 0 <= result["test/accuracy"] <= 1
