"""What a run on one machine hears of its roles, and when the failure of one ends it.

On secret shares every role is needed. A federated training goes on without clients that fail, as long as its first
aggregator does: that one decides by `min_clients`. Only a table that is refused before the training has begun ends
the run at once, since somebody sits in front of it who can mend the table.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence

from veilboost.errors import VeilboostError
from veilboost.jobs.children import Child, Events, cause
from veilboost.jobs.job import Job

_LOOK_SECONDS = 0.5

#: A client that fails may be the first sign of the lead's own end, so its loss is told only after this time.
_TELL_SECONDS = 5.0

#: How long clients may take to store the model when the other roles are done.
LEAVE_SECONDS = 30.0


class Following:
    """Follows children to their end.

    Parameters
    ----------
    on_tree
        Called with the number of trees done: after the setup, then after every tree.
    on_progress
        Called now and then with what the lead does and the bytes that all roles have sent.
    on_notice
        Called with sentences for the operator.
    leave_seconds
        See `LEAVE_SECONDS`.

    Attributes
    ----------
    seconds_setup
        From the start to the first tree.
    dropped
        Why clients of a federated job have failed, by name.
    """

    def __init__(
        self,
        job: Job,
        on_tree: Callable[[int], None],
        on_progress: Callable[[str, int], None],
        on_notice: Callable[[str], None],
        leave_seconds: float = LEAVE_SECONDS,
    ) -> None:
        self._job = job
        self._on_tree, self._on_progress, self._on_notice = on_tree, on_progress, on_notice
        self._leave_seconds = leave_seconds
        self._started = time.perf_counter()
        self._begun = False
        self._untold: list[tuple[float, str]] = []
        self.seconds_setup = 0.0
        self.dropped: dict[str, str] = {}

    def follow(self, children: Sequence[Child], events: Events) -> dict[str, dict[str, object]]:
        """Wait until all children have ended.

        Returns
        -------
        outcomes
            By role, of those that were successful.

        Raises
        ------
        InputError
            When something that was given is wrong, at any role.
        ParticipantError
            When a role dies that the training needs.
        """
        lead = next((one for one in children if one.role == self._job.lead), None)
        left = {one.role: one for one in children}
        deadline = float("inf")
        while left:
            self._tell(time.monotonic() - _TELL_SECONDS)
            try:
                one, event = events.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                if time.monotonic() > deadline:
                    self._give_up(left)
                continue
            if event is not None:
                self._hear(children, one, event, one is lead)
                continue
            del left[one.role]
            if one.process.wait() != 0:
                self._ended_badly(children, one)
            if self._job.federated is not None and set(left) <= set(self._job.party_names):
                deadline = min(deadline, time.monotonic() + self._leave_seconds)
        self._tell(time.monotonic())
        return {one.role: one.outcome for one in children if one.outcome is not None}

    def _hear(self, children: Sequence[Child], one: Child, event: Mapping[str, object], is_lead: bool) -> None:
        match event:
            case {"event": "tree", "number": int(number)} if is_lead:
                if not self._begun:
                    self.seconds_setup = time.perf_counter() - self._started
                self._begun = True
                self._tell(time.monotonic())
                self._on_tree(number)
            case {"event": "progress", "phase": str(phase), "bytes_sent": int(bytes_sent)}:
                one.phase, one.bytes_sent = phase, bytes_sent
                leading = next((other.phase for other in children if other.role == self._job.lead), phase)
                self._on_progress(leading, sum(other.bytes_sent for other in children))
            case {"event": "notice", "message": str(message)} if is_lead and self._job.federated is not None:
                self._on_notice(message)
            case {"event": "done", "outcome": dict(outcome)}:
                one.outcome = outcome

    def _ended_badly(self, children: Sequence[Child], one: Child) -> None:
        job = self._job
        if job.federated is None or one.role not in job.party_names:
            raise self._cause(children, one)
        complaint = one.complaint()
        self.dropped.setdefault(one.role, complaint["message"])
        one.outcome = None
        too_few = len(job.parties) - len(self.dropped) < job.federated.min_clients
        if not self._begun and (complaint["kind"] == "InputError" or (complaint["kind"] == "died" and too_few)):
            raise cause([one], one)
        text = f"{one.role} is lost, and the training goes on without it: {self.dropped[one.role]}"
        self._untold.append((time.monotonic(), text))

    def _cause(self, children: Sequence[Child], first: Child) -> VeilboostError:
        """Why a role has failed that the training needs; clients are to blame only where too few are left."""
        error = cause([one for one in children if one.role not in self.dropped], first)
        spec = self._job.federated
        if spec is not None and len(self._job.parties) - len(self.dropped) < spec.min_clients:
            lost = [one.complaint() for one in children if one.role in self.dropped]
            reasons = [complaint["message"] for complaint in lost if complaint["kind"] in ("died", "InputError")]
            if reasons:
                return type(error)(f"{error} ({'; '.join(reasons)})")
        return error

    def _tell(self, until: float) -> None:
        """Tell of clients that were lost before some time."""
        while self._untold and self._untold[0][0] <= until:
            self._on_notice(self._untold.pop(0)[1])

    def _give_up(self, left: Mapping[str, Child]) -> None:
        for name, one in left.items():
            self.dropped.setdefault(name, f"{name} did not end within {self._leave_seconds:g} seconds of the training")
            one.process.kill()
