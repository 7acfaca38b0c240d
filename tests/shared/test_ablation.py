"""An ablation is off unless a test switches it on, for one block; table, product and simulation name the same ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from echelon.shared.ablation import ABLATIONS, ablated, without
from tests.simulation.ablations import BEGIN_AT, OF_FAULTS, OF_LIVE_CONTROL

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = [path for folder in ("controller", "worker", "shared") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_mechanism_is_ablated_unless_a_test_asks_for_it() -> None:
    assert not any(ablated(name) for name in ABLATIONS)


def test_a_mechanism_is_ablated_within_the_block_alone_and_no_other_is() -> None:
    with without("claim_guard"):
        assert [name for name in ABLATIONS if ablated(name)] == ["claim_guard"]

    assert not ablated("claim_guard")


def test_a_mechanism_comes_back_when_the_block_raises() -> None:
    with pytest.raises(ZeroDivisionError), without("claim_guard"):
        raise ZeroDivisionError

    assert not ablated("claim_guard")


def test_blocks_within_each_other_add_up() -> None:
    with without("claim_guard"):
        with without("lease_fence"), without("claim_guard"):
            assert ablated("claim_guard") and ablated("lease_fence")
        assert ablated("claim_guard") and not ablated("lease_fence")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no ablation 'claim_gard'; there are: attempt_guard, "), without("claim_gard"):
        raise AssertionError

    with pytest.raises(KeyError):
        ablated("claim_gard")


def test_no_setting_can_switch_it_the_module_reads_nothing() -> None:
    tree = ast.parse((ROOT / "shared" / "ablation.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}

    assert modules == {"__future__", "collections.abc", "contextlib", "typing"}


def asked() -> set[str]:
    """Return the names that the product asks for."""
    found = set()
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "ablated":
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}: the name is not a literal"
                found.add(str(node.args[0].value))
    return found


def test_every_ablation_is_asked_for_in_the_product_and_tried_by_one_simulation() -> None:
    assert asked() == set(ABLATIONS)
    assert sorted([*OF_FAULTS, *OF_LIVE_CONTROL]) == sorted(ABLATIONS)
    assert set(BEGIN_AT) <= set(ABLATIONS)
    assert all(said.endswith(".") for said in ABLATIONS.values())


def test_the_product_only_asks_and_never_switches() -> None:
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom | ast.Import) and "ablation" in ast.unparse(node):
                assert ast.unparse(node).endswith("shared.ablation import ablated"), f"{path}:{node.lineno}"
