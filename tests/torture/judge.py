"""The judge: from what everybody wrote down, whether anything was lost, doubled or misreported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from remit import JobState
from remit._wire.states import NEXT
from torture.journal import Taken, read_notes, unreel
from torture.order import Order, heart_name, journal_path
from torture.script import Cancel, Plan, Script

Note = Mapping[str, Any]

# Faults that harm one job or none, and keep no marks from being written.
_HARMLESS = (
    *("kill-supervisor", "stall-supervisor", "kill-forkserver", "restart-sshd", "jump-clock"),
    "take-pid",
)
# While one lasts nothing more can be started or opened, a new link among it, and that is said.
_LIMITS = {"no-forks": "Resource temporarily unavailable", "few-files": "Too many open files"}
# All others may cost a link, but these.
_HARMLESS_TO_LINKS = (*_HARMLESS, *_LIMITS, "slow-disk")
# Faults that slow down the end of what is cancelled, and keep it from being begun.
_GENTLE = ("jump-clock", "restart-sshd", "take-pid", "slow-disk", *_LIMITS)
# What a caller may be told of what it began while something went wrong.
_ERRORS = ("RemitError", "LinkLost", "JobFailed", "JobStateError", "TargetError", "JobNotFound")
# How long after it a fault may still show, beside the silence that has to be noticed first.
_AFTERMATH = 15.0
# Seconds from when something was used up until the marks say so: a tenth, and a busy computer.
_MARKS_WITHIN = 1.0
# Seconds that a new link takes, with nothing in its way.
_RECONNECTED_WITHIN = 3.0
# Seconds for which the output of an ended job is waited for, and a busy computer.
_DRAINS_WITHIN = 3.0
# Seconds that something may run on once its caller was told that it was cancelled.
_RUNS_ON = 2.0


@attrs.define
class Judgement:
    complaints: list[str] = attrs.field(factory=list)
    doubled: int = 0


def judge(order: Order, directory: Path, diaries: Path) -> Judgement:
    notes = read_notes(journal_path(directory))
    judgement = Judgement()
    for plan in order.script.jobs:
        found = _JobCase(order, plan, notes, directory, diaries / str(plan.number))
        judgement.complaints += [f"job {plan.number} ({plan.id}): {c}" for c in found.complaints()]
        judgement.doubled += found.doubled
    for cancel in order.script.cancels:
        heart = diaries / heart_name(cancel)
        judgement.complaints += [
            f"cancelled {cancel.what} {cancel.number} ({cancel.id}): {complaint}"
            for complaint in _cancelled(order.script, cancel, notes, heart)
        ]
    judgement.complaints += [
        f"generation {note['generation']}: {note['text']}"
        for note in notes
        if note["what"] == "error" and note["job"] is None
    ]
    return judgement


def _cancelled(
    script: Script, cancel: Cancel, notes: list[dict[str, Any]], heart: Path
) -> Iterator[str]:
    """What was cancelled came to nothing: it ran no further, and nothing is kept of it."""
    its = [note for note in notes if note.get("cancel") == cancel.number]
    ends = [note for note in its if note["what"] == "cancelled"]
    if not ends:
        return  # its caller was killed meanwhile
    (end,) = ends
    faults = _faults(notes)
    hit = [fault for fault in faults if _hits(fault, end["begin"], end["at"], script.silence)]
    if "text" in end and not (hit and end["type"] in _ERRORS):
        yield f"it met {end['text']}"
    if any(fault["kind"] not in _GENTLE for fault in hit):
        return  # who can no longer be reached cannot be ended: what is left is ended by itself
    beats = [float(line.split()[1]) for line in _lines(heart) if line.startswith("beat")]
    longer = sum(fault["end"] - fault["begin"] for fault in hit)
    if beats and beats[-1] > end["at"] + _RUNS_ON + longer:
        yield f"it ran on for {beats[-1] - end['at']:.1f} s"
    if "text" not in end:
        yield from (
            f"it is still there, {note['state']}" for note in its if note["what"] == "still-there"
        )


def may_run_on(plan: Plan, notes: list[dict[str, Any]]) -> tuple[int, int]:
    """How many processes are left of it once all is over, at least and at most.

    What ended by itself took nothing with it, unless that was asked for; what was kept for longer
    than its session was stopped afterwards. A bare one may be another return job's as well.
    """
    bare = plan.daemons.count("bare") if plan.placement == "return" else 0
    if plan.leftovers == "stop" or plan.lifetime != "session":
        return 0, bare
    most = len(plan.daemons)
    ends = [
        note
        for note in notes
        if note.get("job") == plan.number and note["what"] in ("waited", "collected")
    ]
    if any(end["reason"] not in ("exited", "signalled") for end in ends):
        return 0, bare
    # The collector stops those that were kept, where it finds them.
    return (most if ends and plan.placement == "return" else 0), most


def _hits(fault: Note, begin: float, end: float, silence: float) -> bool:
    """Whether what lasts from begin to end may have felt it."""
    return bool(fault["begin"] <= end and begin <= fault["end"] + silence + _AFTERMATH)


def _lines(path: Path) -> list[str]:
    """The last may be cut off."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


class _JobCase:
    """All that is known of one job."""

    def __init__(
        self, order: Order, plan: Plan, notes: list[dict[str, Any]], directory: Path, diary: Path
    ) -> None:
        self._script = order.script
        self._plan = plan
        self._notes = [note for note in notes if note.get("job") == plan.number]
        self._faults = _faults(notes)
        # A state directory that is small need not fill up.
        self._full = order.script.small and any(map(_tells_of_no_space, notes))
        self._directory = directory
        self._output = plan.output
        lines = _lines(diary)
        self._began = [line for line in lines if line.startswith("began")]
        self._ended = [float(line.split()[1]) for line in lines if line.startswith("ended")]
        self._supervisor_killed = any(
            fault["kind"] == "kill-supervisor" and fault["of"] == plan.id for fault in self._faults
        )
        self.doubled = 0

    def complaints(self) -> Iterator[str]:
        if len(self._began) > 1:
            yield f"it was run {len(self._began)} times"
        yield from self._errors()
        yield from self._states()
        yield from self._moves()
        if self._plan.placement == "keep":
            yield from self._kept()
        else:
            yield from self._returned()

    def _of(self, what: str) -> list[dict[str, Any]]:
        return [note for note in self._notes if note["what"] == what]

    # -- what the callers met

    def _errors(self) -> Iterator[str]:
        for note in self._of("error"):
            if self._full and "No space left" in note["text"]:
                continue
            if self._never_started() or self._limited(note):
                continue
            returned = self._plan.placement == "return"
            if returned and note["type"] == "LinkLost" and self._disrupted_before(note["at"]):
                continue
            yield f"generation {note['generation']} met {note['text']}"

    def _never_started(self) -> bool:
        """Whether it was not run, for want of a supervisor, of space, of processes or of files, and
        its caller was told that. Its id is used up then."""
        errors = [note["text"] for note in self._of("error")]
        kinds = {fault["kind"] for fault in self._faults}
        unborn = "kill-forkserver" in kinds and any("was not run" in text for text in errors)
        full = self._full and any("No space left" in text for text in errors)
        limited = any(
            words in text for kind, words in _LIMITS.items() if kind in kinds for text in errors
        )
        return (unborn or full or limited) and not self._began

    def _limited(self, note: Note) -> bool:
        """Whether it tells of a limit that was met then."""
        return any(
            fault["begin"] <= note["at"] <= fault["end"] + _AFTERMATH
            and _LIMITS.get(fault["kind"], "\0") in note["text"]
            for fault in self._faults
        )

    def _found_no_process(self) -> bool:
        """Whether its supervisor could not start its program at the limit, and said so."""
        ends = self._of("waited") + self._of("collected")
        return not self._began and any(
            end["reason"] == "start-failed" and _LIMITS.get(fault["kind"], "\0") in end["error"]
            for end in ends
            for fault in self._faults
        )

    def _session_ended_on_it(self) -> bool:
        """Whether its session may have ended while its output was still waited for: a session that
        is over takes what such a job left behind with it."""
        return self._plan.lifetime == "session" and any(
            fault["begin"] <= ended + _DRAINS_WITHIN and ended <= fault["end"] + self._aftermath
            for ended in self._ended
            for fault in self._faults
            if fault["kind"] not in _HARMLESS_TO_LINKS
        )

    @property
    def _aftermath(self) -> float:
        return self._script.silence + _AFTERMATH

    def _disrupted_before(self, at: float) -> bool:
        return any(
            fault["begin"] <= at <= fault["end"] + self._aftermath
            for fault in self._faults
            if fault["kind"] not in _HARMLESS_TO_LINKS
        )

    def _moves(self) -> Iterator[str]:
        """Each that a caller was told of is in the table, and goes on where the last one led."""
        at: dict[int, str] = {}
        for note in self._of("move"):
            old, new, generation = note["old"], note["new"], note["generation"]
            if old is not None and new not in NEXT[old].values():
                yield f"it went from {old} to {new}"
            if generation in at and old not in (None, at[generation]):
                yield f"it was {at[generation]}, and went from {old} to {new}"
            at[generation] = new

    def _states(self) -> Iterator[str]:
        end: str | None = None
        for note in self._notes:
            if note["what"] not in ("state", "waited", "collected"):
                continue
            state = JobState(note["state"])
            if note["what"] == "waited" and not state.finished:
                yield f"wait() returned at {state}"
            if not state.finished:
                if end is not None and note["generation"] == self._generation_of(end):
                    yield f"it was {end}, then {state}"
                continue
            if end is not None:
                if end != state:
                    yield f"it was {end}, then {state}"
                continue
            end = state
            truly = state in (JobState.COMPLETED, JobState.FAILED) and not self._full
            if truly and not self._found_no_process():
                if not self._ended or note["at"] < self._ended[0]:
                    yield f"it was called {state} before it ended"
            elif state is JobState.LOST and not self._may_be_lost(note["at"]):
                yield "it was called LOST, and nothing had happened to it"

    def _generation_of(self, state: str) -> int | None:
        for note in self._notes:
            if note["what"] in ("state", "waited", "collected") and note["state"] == state:
                return int(note["generation"])
        return None

    def _may_be_lost(self, at: float) -> bool:
        if self._plan.placement == "keep":
            return self._supervisor_killed
        return self._disrupted_before(at)

    # -- its end

    def _kept(self) -> Iterator[str]:
        collected = self._of("collected")
        if not collected:
            if not self._of("not-found"):
                yield "it was not collected"
            elif self._plan.lifetime == "detached" and not self._never_started():
                yield "it is not there any more"
            return
        end = collected[-1]
        kept = self._whole_pass("collect")
        yield from self._ending(end, kept)
        yield from self._reels("keep", kept)
        yield from self._reels("collect", kept)
        yield from self._consumed(kept)
        if end["has_more"] and not self._full:
            yield "all was used up, and there is said to be more"
        for note in self._of("stopped"):
            if note["survivors"]:
                yield f"stop left {note['survivors']}"

    def _returned(self) -> Iterator[str]:
        waited = self._of("waited")
        for end in waited:
            if end["state"] == JobState.LOST:
                if end["reason"] != "link-lost":
                    yield f"it is LOST for the reason {end['reason']}"
                yield from self._consumed(None)
                yield from self._reels("keep", None)
            else:
                yield from self._ending(end, self._output)
                yield from self._consumed(self._output)
                yield from self._reels("keep", self._output)
        crashed = any(fault["kind"] == "kill-caller" for fault in self._faults)
        if not waited and not self._of("error") and not crashed:
            yield "nobody heard how it ended"

    def _ending(self, end: Note, got: Mapping[str, bytes]) -> Iterator[str]:
        whole = got == self._output
        if self._truly_ended(end):
            named = [kind for kind in self._plan.daemons if kind != "bare"]
            unnamed = len(end["left_behind"]) < len(named) and not self._session_ended_on_it()
            if self._plan.leftovers == "leave" and unnamed:
                yield f"it left {self._plan.daemons}, and {end['left_behind']} is named"
            if not whole:
                yield f"it is {end['state']}, and of its output {_difference(got, self._output)}"
            return
        if end["state"] == JobState.LOST:
            excused = self._supervisor_killed
        elif end["reason"] == "session-ended":
            excused = self._plan.lifetime == "session" and end["state"] == JobState.STOPPED
        elif end["reason"] == "no-space":
            excused = self._full and end["state"] == JobState.FAILED
        elif end["reason"] == "start-failed":
            excused = self._found_no_process() and end["state"] == JobState.FAILED
        else:
            excused = False
        if not excused:
            yield f"it ended as {dict(end)}, which is not so"
        elif not all(self._output[stream].startswith(data) for stream, data in got.items()):
            yield f"it was cut short, and of its output {_difference(got, self._output)}"

    def _truly_ended(self, end: Note) -> bool:
        plan = self._plan
        success = not plan.ending and plan.status == 0
        return dict(end) == dict(
            end,
            state=JobState.COMPLETED if success else JobState.FAILED,
            exit_status=None if plan.ending else plan.status,
            signal=plan.ending or None,
            reason="signalled" if plan.ending else "exited",
        )

    # -- its output

    def _paths(self, kind: str) -> list[Path]:
        return sorted(self._directory.glob(f"reel-{self._plan.number}-{kind}-*"))

    def _whole_pass(self, kind: str) -> dict[str, bytes]:
        pieces: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        for path in self._paths(kind)[-1:]:
            for stream, _, data, _ in unreel(path):
                pieces[stream].append(data)
        return {stream: b"".join(data) for stream, data in pieces.items()}

    def _reels(self, kind: str, kept: Mapping[str, bytes] | None) -> Iterator[str]:
        """Passes of readers who use nothing up: each from the start, without gap or repetition."""
        for path in self._paths(kind):
            at = {"stdout": 0, "stderr": 0}
            yield from self._records(path, at)
            if self._came_to_the_end(path) and _elsewhere(at, kept):
                yield f"{path.name} came to its end at {at}"

    def _consumed(self, kept: Mapping[str, bytes] | None) -> Iterator[str]:
        """All passes of consuming readers, one after another: nothing left out, and twice only
        what was in hand, or was used up a moment before a crash."""
        at = {"stdout": 0, "stderr": 0}
        earlier: list[tuple[list[Taken], float]] = []  # passes, and when they came to the end
        for path in self._paths("consume"):
            taken = list(unreel(path))
            firsts = {record.stream: record for record in reversed(taken)}
            end = dict(at)
            for stream, first in firsts.items():
                end[stream] = first.offset
                if first.offset > at[stream]:
                    yield f"{path.name} leaves out {stream} {at[stream]} to {first.offset}"
                twice = at[stream] - first.offset
                used_at = _used_at(earlier, stream, first.offset)
                if twice <= 0 or used_at is None:
                    continue
                if self._excused(used_at):
                    self.doubled += twice
                else:
                    yield f"{path.name} gives {stream} {first.offset} to {at[stream]} again"
            yield from self._records(path, end)
            at = {stream: max(at[stream], end[stream]) for stream in at}
            earlier.append((taken, self._note_of(path, "read")["at"]))
            if self._came_to_the_end(path) and _elsewhere(end, kept):
                yield f"{path.name} came to its end at {end}"
        if self._paths("consume") and not self._full and _elsewhere(at, kept):
            yield f"of its output was consumed {at}"

    def _records(self, path: Path, at: dict[str, int]) -> Iterator[str]:
        """Moves ``at`` to the end of the pass."""
        for stream, offset, data, _ in unreel(path):
            if offset != at[stream]:
                yield f"{path.name} goes on at {stream} {offset}, not {at[stream]}"
                return
            if self._output[stream][offset : offset + len(data)] != data:
                yield f"{path.name} has other bytes at {stream} {offset}"
                return
            at[stream] += len(data)

    def _note_of(self, path: Path, what: str) -> dict[str, Any]:
        _, _, kind, generation, number = path.name.split("-")
        for note in self._of(what):
            if (note["kind"], note["generation"], note["number"]) == (
                kind,
                int(generation),
                int(number),
            ):
                return note
        return {"at": 0.0}

    def _came_to_the_end(self, path: Path) -> bool:
        return bool(self._note_of(path, "read")["at"])

    def _excused(self, used_at: float) -> bool:
        """Whether what was used up then may come again: something kept the marks from being
        written, or they could not be written on a full disk."""
        return self._full or any(
            fault["begin"] - _MARKS_WITHIN <= used_at <= self._link_is_back(fault)
            for fault in self._faults
            if fault["kind"] not in _HARMLESS
        )

    def _link_is_back(self, fault: Note) -> float:
        """When, at the latest, news of what is used up pass again after this fault."""
        if fault["kind"] == "kill-caller":
            return float(fault["begin"])  # the next one has a link of its own
        noticed = self._script.silence if fault["end"] > fault["begin"] else 0.0
        return float(fault["end"] + noticed + _RECONNECTED_WITHIN)


def _faults(notes: list[dict[str, Any]]) -> list[Note]:
    """A caller that is killed is stalled no longer; a link that is lost at a limit stays lost until
    that is lifted."""
    faults = [note for note in notes if note["what"] == "fault"]
    limits = [fault for fault in faults if fault["kind"] in _LIMITS]
    faults = [
        {**fault, "end": max([fault["end"], *(limit["end"] for limit in _during(limits, fault))])}
        if fault["kind"] not in _HARMLESS_TO_LINKS and fault["kind"] != "kill-caller"
        else fault
        for fault in faults
    ]
    killed = [fault["begin"] for fault in faults if fault["kind"] == "kill-caller"]
    return [
        {**fault, "end": min([fault["end"], *(at for at in killed if at > fault["begin"])])}
        if fault["kind"] == "stall-caller"
        else fault
        for fault in faults
    ]


def _during(limits: list[dict[str, Any]], fault: Note) -> list[dict[str, Any]]:
    """Limits that a link which this fault costs may meet as it comes again."""
    return [
        limit
        for limit in limits
        if limit["begin"] <= fault["end"] + _AFTERMATH and fault["begin"] <= limit["end"]
    ]


def _tells_of_no_space(note: Note) -> bool:
    return note.get("reason") == "no-space" or "No space left" in note.get("text", "")


def _used_at(passes: list[tuple[list[Taken], float]], stream: str, offset: int) -> float | None:
    """When that byte was used up for the last time: as the record after its own came, or at the
    end of its pass. None where it was not, but in hand."""
    for taken, ended_at in reversed(passes):
        for number, record in reversed(list(enumerate(taken))):
            if record.stream == stream and record.offset <= offset < record.offset + len(
                record.data
            ):
                return taken[number + 1].at if number + 1 < len(taken) else ended_at or None
    return None


def _elsewhere(at: Mapping[str, int], output: Mapping[str, bytes] | None) -> bool:
    """Whether that is not the end of the output, where one is known."""
    return output is not None and any(at[stream] != len(data) for stream, data in output.items())


def _difference(got: Mapping[str, bytes], right: Mapping[str, bytes]) -> str:
    words = []
    for stream, data in right.items():
        if got[stream] != data:
            pairs = zip(got[stream], data, strict=False)
            common = next((n for n, (a, b) in enumerate(pairs) if a != b), None)
            where = min(len(got[stream]), len(data)) if common is None else common
            words.append(
                f"{stream} has {len(got[stream])} of {len(data)} bytes, right up to {where}"
            )
    return "; ".join(words)
