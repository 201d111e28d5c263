"""The config node `sweep` is validated by the sweeps package, not by the core."""

import pytest
from omegaconf import OmegaConf

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.validate import check_config
from pytorch_intro.sweeps.folder import check_settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "test/accuracy"}, r"^sweep\.objective=test/accuracy: "),
        ({"fail_fast": "no"}, r"^sweep\.fail_fast=no: "),
        ({"objectiv": "val/loss"}, r"^sweep\.objectiv: unknown setting; did you mean sweep\.objective"),
    ],
)
def test_sweep_node_is_validated_by_the_sweeps_package_only(change: dict[str, object], message: str) -> None:
    valid = {"objective": "val/loss", "fail_fast": False}
    check_settings(OmegaConf.create({"sweep": valid}))
    invalid = OmegaConf.create({"sweep": {**valid, **change}})
    check_config(invalid)
    with pytest.raises(UserError, match=message):
        check_settings(invalid)
