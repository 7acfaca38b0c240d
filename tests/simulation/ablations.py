"""Mechanisms taken away one by one, to show that the checker would notice.

Each names a function of the product and a piece of its text with what stands there instead. A piece that is not found
any more is an error: then the mechanism has moved, and its ablation has to follow.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from unittest import mock


@dataclass(frozen=True, slots=True)
class Cut:
    """One piece of text that is replaced in one function, for as long as a run takes."""

    #: "module:name" or "module:Class.name".
    where: str
    old: str
    new: str


_JOBS = "echelon.controller.engine.jobs:Jobs"
_LOOP = "echelon.controller.engine.turn.loop:Engine"
_INTAKE = "echelon.controller.engine.turn.intake"
_ORDERS = "echelon.worker.orders:OrderBook"

ABLATIONS: dict[str, tuple[Cut, ...]] = {
    "the attempt guard": (
        Cut(f"{_INTAKE}:_match", " or task.attempt != finished.attempt or task.worker != worker", ""),
    ),
    "the claim guard": (
        Cut(
            "echelon.controller.datastore.writes_claims:ClaimWrites.claim",
            "self._session.rows(sql.CLAIM, parameters)",
            "self._session._connection.execute(sql.CLAIM.sqlite.replace(\"= 'QUEUED'\", \"IN ('QUEUED', 'RUNNING')\"),"
            " parameters).fetchall()",
        ),
    ),
    "the fence of a lease that runs out": (
        Cut("echelon.worker.agent:Agent._mind_leases", "if now < end_by:", "if True:"),
    ),
    "the refusal of grants that are too old": (
        Cut(f"{_ORDERS}._wanted", "return now < fence(held, self._settings)", "return True"),
    ),
    "the memory of what was granted": (
        Cut(f"{_ORDERS}._fresh", "held.ref in self._granted or held.ref in self._holdings", "False"),
    ),
    "the refusal of renewals": (Cut(f"{_INTAKE}:Intake._renew", "ref not in kept and ref not in ended", "False"),),
    "the limit of lost workers": (
        Cut("echelon.controller.engine.base.settle:Settler._judge", "max_losses=self._max_losses", "max_losses=10**9"),
    ),
    "the isolation of suspects": (
        Cut(
            "echelon.controller.engine.turn.dispatcher:Dispatcher.__init__",
            "max_losses=max_losses)",
            "max_losses=10**9)",
        ),
    ),
    "the burial of earlier lives": (Cut(f"{_INTAKE}:gone", "departed.update(report.buried)", "pass"),),
    "the return of orders that nobody took": (
        Cut("echelon.controller.engine.turn.sending:_handed_back", "if refs else None", "if False else None"),
    ),
    "the doubt about orders that were not confirmed": (
        Cut(
            "echelon.controller.engine.turn.sending:Sender._hear",
            "_orders(unconfirmed.refused)",
            "_orders(unconfirmed.messages)",
        ),
    ),
    "the expander's look at what there is": (
        Cut("echelon.controller.engine.upkeep.expander:Expander._expand", "!= expansion.created", "< 0"),
    ),
    "the idempotency key": (
        Cut(f"{_JOBS}._known", "if submission.idempotency_key is None:", "if True:"),
        Cut(f"{_JOBS}._accept", "if submission.idempotency_key else None", "if False else None"),
        Cut(f"{_JOBS}._plan", "idempotency_key=submission.idempotency_key", "idempotency_key=None"),
    ),
    "the withdrawal of tasks": (
        Cut(
            "echelon.controller.engine.base.board:Board._carry_out",
            "self.tx.withdraw(job_id, stage, running=running, by=by)",
            "()",
        ),
    ),
    "the watchdog of leases": (
        Cut(
            "echelon.controller.engine.upkeep.watchdog:Watchdog._expire",
            "found = tx.expired(limit=_BATCH)",
            "found = []",
        ),
    ),
    "the moment as of which a worker has spoken": (
        Cut(
            "echelon.controller.engine.upkeep.watchdog:Watchdog._spoke_without",
            "return heard[task.worker] >=",
            "return True or",
        ),
    ),
    "the watchdog of retries": (
        Cut(
            "echelon.controller.engine.upkeep.watchdog:Watchdog._release_due",
            "found = tx.due(limit=_BATCH, expire=expire)",
            "found = []",
        ),
    ),
    "the publishing of files after the commit": (
        Cut(
            f"{_LOOP}._take_in",
            'failpoint("settle.before_commit")\n',
            'failpoint("settle.before_commit")\n            self._parts.publisher._publish(board.unpublished)\n',
        ),
    ),
    "the wait for the files of the stages in front": (
        Cut(
            "echelon.controller.engine.turn.dispatcher:Dispatcher._share_out",
            "lacks_files(board, self._snapshots, job_id, number)",
            "False",
        ),
    ),
    "the sweep for files that nobody has published": (
        Cut(f"{_LOOP}._sweep", "self._publishing or chores.unpublished", "self._publishing"),
    ),
    "commit before publish": (
        Cut(
            f"{_LOOP}._work",
            "            wait = None if taken.due is None else taken.due - tx.now()\n",
            "            wait = None if taken.due is None else taken.due - tx.now()\n"
            "            self._after(board, taken, wait)\n",
        ),
    ),
    "the etag of what is kept in memory": (
        Cut("echelon.controller.datastore.cache:JobCache.get", "entry is None or entry.etag != etag", "entry is None"),
    ),
    "the limit of parallel tasks": (
        Cut("echelon.controller.core.model:Stage.claimable", "if self.max_parallel is None:", "if True:"),
    ),
    "the wait for all tasks of a stage": (
        Cut("echelon.controller.core.model:Stage.at_rest", "and self.filled and not self.tally.open", ""),
    ),
    "the wait for the stages in front": (
        Cut("echelon.controller.core.flow:_advance", "if stage.order == order]", "]"),
        Cut("echelon.controller.core.flow:_block", "stage.order > order", "False"),
    ),
    "the erasure of secrets": (
        Cut("echelon.controller.datastore.writes_jobs:JobWrites.save_job", "if after.state in ENDED:", "if False:"),
    ),
}

#: Where the search for a seed that notices begins, for those that few seeds notice. Only a matter of speed: when the
#: product changes, another seed of the three hundred after it will do.
BEGIN_AT = {
    "the expander's look at what there is": 140,
    "the fence of a lease that runs out": 195,
    "the moment as of which a worker has spoken": 774,
    "the refusal of grants that are too old": 62,
    "the refusal of renewals": 95,
}


@contextlib.contextmanager
def without(cuts: Sequence[Cut]) -> Iterator[None]:
    """Take one mechanism away."""
    with contextlib.ExitStack() as stack:
        for cut in cuts:
            stack.enter_context(_taken_away(cut))
        yield


def _taken_away(cut: Cut) -> contextlib.AbstractContextManager[object]:
    """Put another text in the place of a piece of a function, for a while."""
    module_name, path = cut.where.split(":")
    module = importlib.import_module(module_name)
    *owners, attribute = path.split(".")
    owner: object = module
    for one in owners:
        owner = getattr(owner, one)
    found = inspect.getattr_static(owner, attribute)
    if isinstance(found, property):
        assert found.fget is not None
        return mock.patch.object(owner, attribute, property(_rewritten(found.fget, cut)))
    return mock.patch.object(owner, attribute, _rewritten(found, cut))


def _rewritten(function: Callable[..., object], cut: Cut) -> Callable[..., object]:
    """Return a function with another text in its place."""
    assert isinstance(function, types.FunctionType)
    source = inspect.getsource(function)
    if cut.old not in source:
        raise LookupError(f"{cut.where} does not contain {cut.old!r} any more")
    text = textwrap.dedent(source.replace(cut.old, cut.new)).replace("@property\n", "")
    # This module's own `from __future__ import annotations` holds for the text as well.
    module = compile(text, f"<without {cut.where}>", "exec")
    code = next(one for one in module.co_consts if isinstance(one, types.CodeType))
    made = types.FunctionType(code, function.__globals__, cut.where, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made
