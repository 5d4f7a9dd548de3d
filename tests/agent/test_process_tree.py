"""Which processes are a job's: nobody else's is ever chosen, whatever happened before."""

from __future__ import annotations

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remit._agent.base.news import Lifetimes
from remit._agent.base.process_tree import chosen
from remit._jobdir.proc import Process

INIT, AGENT, HELPER, SHELL = 1, 2, 3, 90
# More than are ever in use. Who is born gets one of the lowest: they are used again soon.
PIDS = range(4, 84)
indexes = st.integers(0, 1 << 16)


@attrs.define
class Living:
    parent: int
    sid: int
    start: int
    bears: str | None  # the job in its environment
    of: str | None  # the job that it is of in truth
    supervisor: bool = False


class Computer(RuleBasedStateMachine):
    """A kernel's view of an agent that adopts orphans, some jobs, and bystanders."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0
        self.jobs = 0
        self.living = {
            INIT: Living(0, 0, 0, None, None),
            AGENT: Living(INIT, AGENT, 0, None, None),
            HELPER: Living(AGENT, AGENT, 0, None, None),
            SHELL: Living(INIT, SHELL, 0, None, None),
        }
        self.roots: dict[str, tuple[int, int]] = {}
        self.lifetimes = Lifetimes()
        self.stopped: set[str] = set()

    # -- what processes do

    def born(self, parent: int, which: int, bears: str | None, of: str | None) -> int:
        # As the kernel's: no pid that is one's, or names a session that somebody is in.
        used = set(self.living).union(one.sid for one in self.living.values())
        free = [pid for pid in PIDS if pid not in used]
        self.clock += 1
        pid = free[which % 3]
        self.living[pid] = Living(parent, self.living[parent].sid, self.clock, bears, of)
        return pid

    @property
    def others(self) -> list[int]:
        """All that came later, but for supervisors, which nobody kills here."""
        found = [pid for pid, one in self.living.items() if not one.supervisor]
        return sorted(set(found) - {INIT, AGENT, HELPER, SHELL})

    def one(self, which: int) -> int:
        return self.others[which % len(self.others)]

    def has_others(self) -> bool:
        return bool(self.others)

    def has_running(self) -> bool:
        return bool(self.lifetimes.running)

    @rule(which=indexes, pid=indexes)
    def a_job_starts(self, which: int, pid: int) -> None:
        self.jobs += 1
        job = f"j{self.jobs}"
        self.lifetimes.began(job, self.clock)
        root = self.born(AGENT, pid, job, job)
        self.living[root].sid = root
        self.roots[job] = (root, self.living[root].start)

    @precondition(has_others)
    @rule(which=indexes, pid=indexes)
    def a_process_forks(self, which: int, pid: int) -> None:
        parent = self.one(which)
        self.born(parent, pid, self.living[parent].bears, self.living[parent].of)

    @precondition(has_others)
    @rule(which=indexes, pid=indexes, own=st.booleans(), drops=st.booleans())
    def a_process_makes_a_daemon(self, which: int, pid: int, own: bool, drops: bool) -> None:
        parent = self.one(which)
        between = self.born(parent, pid, self.living[parent].bears, self.living[parent].of)
        if own:
            self.living[between].sid = between
        daemon = self.born(between, pid, self.living[between].bears, self.living[between].of)
        if drops:
            self.living[daemon].bears = None
        self.ends(between)

    @rule(pid=indexes, own=st.booleans())
    def a_bystander_comes(self, pid: int, own: bool) -> None:
        stranger = self.born(INIT, pid, None, None)
        self.living[stranger].sid = stranger if own else 0

    @precondition(has_running)
    @rule(pid=indexes, which=indexes, outside=st.booleans())
    def a_bystander_takes_on_the_environment_of_a_job(
        self, pid: int, which: int, outside: bool
    ) -> None:
        job = self.running(which)
        actor = self.born(INIT if outside else SHELL, pid, job, f"as {job}")
        self.living[actor].sid = 0 if outside else SHELL

    @precondition(has_others)
    @rule(which=indexes, pid=indexes)
    def a_job_starts_a_kept_one(self, which: int, pid: int) -> None:
        parent = self.one(which)
        if self.living[parent].of is None:
            return
        supervisor = self.born(parent, pid, None, None)
        self.living[supervisor].sid = supervisor
        self.living[supervisor].supervisor = True
        of = f"kept{self.clock}"
        inner = self.born(supervisor, pid, of, of)
        self.living[inner].sid = inner

    @precondition(has_others)
    @rule(which=indexes)
    def a_process_begins_a_session(self, which: int) -> None:
        pid = self.one(which)
        self.living[pid].sid = pid

    @precondition(has_others)
    @rule(which=indexes)
    def a_process_drops_its_environment(self, which: int) -> None:
        self.living[self.one(which)].bears = None

    @precondition(has_others)
    @rule(which=indexes)
    def a_process_ends(self, which: int) -> None:
        self.ends(self.one(which))

    def ends(self, pid: int) -> None:
        reaper = AGENT if self.descends(pid, AGENT) else INIT
        reaper = next((up for up in self.above(pid) if self.living[up].supervisor), reaper)
        for other in self.living.values():
            if other.parent == pid:
                other.parent = reaper
        del self.living[pid]

    def above(self, pid: int) -> list[int]:
        found = []
        while (pid := self.living[pid].parent) in self.living:
            found.append(pid)
        return found

    def descends(self, pid: int, ancestor: int) -> bool:
        return ancestor in self.above(pid)

    # -- what becomes of jobs

    def running(self, which: int) -> str:
        jobs = sorted(self.lifetimes.running)
        return jobs[which % len(jobs)]

    @precondition(has_running)
    @rule(which=indexes)
    def a_job_ends_by_itself(self, which: int) -> None:
        job = self.running(which)
        if self.is_root(job):
            self.ends(self.roots[job][0])
        left = any(one.parent == AGENT and pid != HELPER for pid, one in self.living.items())
        self.lifetimes.ended(job, left)

    @precondition(has_running)
    @rule(which=indexes)
    def a_job_is_stopped(self, which: int) -> None:
        job = self.running(which)
        for pid in self.found(job, with_strays=True):
            if pid in self.living:
                self.ends(pid)
        self.lifetimes.ended(job, False)
        self.stopped.add(job)

    def is_root(self, job: str) -> bool:
        pid, start = self.roots[job]
        return pid in self.living and self.living[pid].start == start

    # -- the choice

    def found(self, job: str, *, with_strays: bool, by_session: bool = True) -> set[int]:
        everyone = {
            pid: Process(pid, one.parent, one.sid, one.sid, "S", one.start)
            for pid, one in self.living.items()
        }
        certain = [pid for pid, one in self.living.items() if one.bears == job]
        if self.is_root(job):
            certain.append(self.roots[job][0])
        if with_strays:
            certain += [
                pid
                for pid, one in self.living.items()
                if one.parent == AGENT
                and pid != HELPER
                and one.bears is None
                and not one.supervisor
                and self.lifetimes.may_only_be_of([job], one.start)
            ]
        ancestors = {INIT, AGENT, HELPER}
        return chosen(
            everyone, certain, ancestors, lambda pid: self.living[pid].supervisor, by_session
        )

    @invariant()
    def nobody_elses_is_chosen(self) -> None:
        for job in self.roots:
            for pid in self.found(job, with_strays=False):
                assert self.living[pid].of in (job, f"as {job}")
        for job in self.lifetimes.running:
            for pid in self.found(job, with_strays=True):
                of = self.living[pid].of
                assert of in (job, f"as {job}", *self.stopped)

    @invariant()
    def who_bears_the_job_and_who_descends_from_it_is(self) -> None:
        for job in self.roots:
            found = self.found(job, with_strays=False)
            for pid, one in self.living.items():
                line = [pid, *self.above(pid)]
                shielded = any(self.living[up].supervisor for up in line)
                if one.bears == job or (
                    not shielded and any(self.living[up].bears == job for up in line)
                ):
                    assert pid in found


Computer.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestComputer = Computer.TestCase
