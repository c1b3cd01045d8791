"""Which sequences are computed next: batches by token budget, filled by turns with sequences of many requests.

An engine thread takes batches; a second thread makes results of them, unless there is no other work to do meanwhile.
Neither holds Python's lock while the engine computes. Packed batches waste nothing on unequal lengths, so sequences are
not sorted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

from bothways.server.jobs import Batch, Job, Lane
from bothways.tasks.plan import Computed
from bothways.tokenizer_files import is_panic

__all__ = ["Scheduler"]

# How long, in seconds of computing, a request's turn is; what a request has left in less than that, a turn ends.
_TURN = 0.002

# How long a batch is: of small requests; of large ones, long enough that it costs hardly more than it must; and of
# large ones while small ones come too, short, as the next one waits for it.
_SMALL = 0.05
_ALONE = 0.1
_BESIDE = 0.004

# For so long after a small request another one is expected.
_EXPECT = 1.0

# Tokens a second, until the first batches have been timed.
_FIRST_RATE = 5000.0

# Batches of fewer tokens say little about the rate.
_TIMED = 32

# Lanes whose rates are remembered.
_RATES = 256

# Texts whose results are made at once; between two such pieces it is looked whether anybody still waits for them.
_PIECE = 64

# Sequences of a batch whose results are made at once, in the engine thread.
_FEW = 16

# Batches that wait for their results to be made.
_AHEAD = 4

_log = logging.getLogger("bothways.server")


# Texts whose sequences are all computed.
_Whole = list[tuple[Job, list[Computed[Any]]]]


class Scheduler:
    """Computes jobs in batches, in a thread of its own.

    Args:
        batch_tokens: The most tokens of a batch.
        observe: Called after each batch, from an engine thread.
    """

    def __init__(self, batch_tokens: int, observe: Callable[[Batch], None] = lambda batch: None) -> None:
        self._batch_tokens = batch_tokens
        self._observe = observe
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()  # in the order of their turns
        self._rates: dict[Lane, float] = {}
        self._small_seen = -_EXPECT
        self._apart = False  # the last batch was of small jobs alone, though large ones waited
        self._stopping = False
        self._computed: SimpleQueue[_Whole | None] = SimpleQueue()
        self._room = threading.Semaphore(_AHEAD)
        self._threads: dict[str, threading.Thread] = {}
        self.deaths = 0
        self.start()

    def start(self) -> None:
        """Start the engine threads that are not running; called again after one has died."""
        for name, work in (("engine", self._compute_batches), ("results", self._make_results)):
            thread = self._threads.get(name)
            if thread is None or not thread.is_alive():
                self._threads[name] = threading.Thread(
                    target=self._until_death, args=(work,), name=f"bothways-{name}", daemon=True
                )
                self._threads[name].start()

    @property
    def alive(self) -> bool:
        """Whether all engine threads run."""
        return all(thread.is_alive() for thread in self._threads.values())

    def submit(self, job: Job) -> None:
        """Queue a job; its `finished` is called when it has ended."""
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()

    def rate(self, lane: Lane) -> float:
        """Tokens that are computed in a second."""
        return self._rates.get(lane, _FIRST_RATE)

    def rates(self) -> list[float]:
        """Tokens that are computed in a second, in every lane that has been timed."""
        return list(self._rates.values())

    @property
    def oldest(self) -> float:
        """Seconds that the job that waits longest has waited for its first batch."""
        with self._changed:
            created = [job.created for job in self._waiting if not job.begun]
        return time.perf_counter() - min(created) if created else 0.0

    @property
    def waiting_tokens(self) -> int:
        """Tokens that are not computed yet."""
        with self._changed:
            return sum(job.left for job in self._waiting if not job.dropped)

    def stop(self) -> None:
        """End the threads when what they are doing is done; jobs that wait are not computed."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.start()  # the engine thread may wait for the other one, which may have died
        self._threads["engine"].join()
        self._computed.put(None)
        self._threads["results"].join()

    def _until_death(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:
            self.deaths += 1
            _log.critical("an engine thread died; requests wait until it is started again", exc_info=True)

    def _compute_batches(self) -> None:
        while (batch := self._next()) is not None:
            try:
                try:
                    rows = self._compute(batch)
                except Exception as error:
                    rows = self._compute_apart(batch, error)
            except BaseException as death:
                self._put_back(batch, death)
                raise
            self._tell(batch)
            try:
                whole = _split(batch, rows)
            except Exception as error:
                for job in batch.parts:
                    job.end(error)
                raise
            # Where nothing else waits, or only what can, there is no reason to pass on results that are soon made.
            if len(batch) <= _FEW and (self._apart or not self._waiting):
                self._finish(whole)
            else:
                self._room.acquire()
                self._computed.put(whole)

    def _tell(self, batch: Batch) -> None:
        try:
            self._observe(batch)
        except Exception:
            _log.exception("a batch could not be counted")

    def _make_results(self) -> None:
        while (whole := self._computed.get()) is not None:
            self._room.release()
            self._finish(whole)

    def _next(self) -> Batch | None:
        """Wait for work and fill the next batch; None in the end."""
        with self._changed:
            while True:
                if self._stopping:
                    return None
                while self._waiting and self._waiting[0].dropped:
                    self._waiting.popleft()
                if not self._waiting:
                    self._changed.wait()
                elif (batch := self._fill(time.perf_counter())).parts:  # else its only job was dropped just now
                    return batch

    def _fill(self, now: float) -> Batch:
        """Fill a batch for the lane whose turn it is: a turn of every job, then more of large ones while there is room.

        Where small jobs and large ones wait, every other batch is of small ones alone: they came while a large one's
        was computed, and need not wait for another. Where some are there, or have been a moment ago, large ones get
        little room. A job that has seen an engine thread die is computed alone, as another one may be why.
        """
        waiting = [job for job in self._waiting if not job.dropped]
        if not waiting:
            return Batch(self._waiting[0].lane)
        small = [job for job in waiting if not self._is_large(job)]
        if small:
            self._small_seen = now
        self._apart = 0 < len(small) < len(waiting) and not self._apart
        if self._apart:
            waiting = small
        first = waiting[0]
        lane = first.lane
        rate = self.rate(lane)
        turn = rate * _TURN
        most = min(rate * _SMALL, self._batch_tokens)
        jobs = [first] if first.attempts else [job for job in waiting if job.lane == lane and not job.attempts]
        large = set(filter(self._is_large, jobs))
        expecting = now - self._small_seen < _EXPECT
        room = min(rate * (_BESIDE if expecting else _ALONE), self._batch_tokens)
        batch = Batch(lane)
        for job in jobs:
            limit = room if job in large else most
            if batch.tokens < limit or not batch.parts:
                _add(batch, job, min(turn, limit - batch.tokens))
        if len(large) == len(jobs):
            _fill_up(batch, jobs, room, turn)
        self._take_turns(batch, now)
        return batch

    def _is_large(self, job: Job) -> bool:
        """Whether a job has more left than a turn ends; one of a single sequence is small, however long."""
        return job.left > self.rate(job.lane) * _TURN and len(job.sequences) - job.taken > 1

    def _take_turns(self, batch: Batch, now: float) -> None:
        """Put jobs that had their turn behind the others, and let go of those that are all handed out."""
        for job in batch.parts:
            if not job.begun:
                job.begun = now
                batch.waited = max(batch.waited, now - job.created)
        waiting = [job for job in self._waiting if job not in batch.parts]
        self._waiting = deque(waiting + [job for job in batch.parts if job.left])

    def _compute(self, batch: Batch) -> list[Any]:
        sequences = [sequence for job, part in batch.parts.items() for sequence in job.sequences[part]]
        begin = time.perf_counter()
        rows = list(next(iter(batch.parts)).plan.compute(sequences))
        batch.seconds = time.perf_counter() - begin
        if batch.tokens >= _TIMED:
            rate = batch.tokens / max(batch.seconds, 1e-6)
            known = self._rates.pop(batch.lane, rate)
            self._rates[batch.lane] = 0.9 * known + 0.1 * rate
            if len(self._rates) > _RATES:  # lanes may be of options that nobody uses again
                del self._rates[next(iter(self._rates))]
        return rows

    def _compute_apart(self, batch: Batch, error: Exception) -> list[Any]:
        """Compute again job by job, as one request's failure must not be another's; those that fail are left out."""
        if not isinstance(error, MemoryError):
            _log.error("a batch failed while it was computed; its requests are tried one by one", exc_info=error)
        rows: list[Any] = []
        for job, part in list(batch.parts.items()):
            try:
                rows += _compute_halves(job, job.sequences[part])
            except Exception as own:
                job.end(own)
                del batch.parts[job]
        return rows

    def _finish(self, whole: _Whole) -> None:
        """Make results of texts. Those of one plan are finished together, some at a time."""
        plans: dict[int, _Whole] = {}
        for job, texts in whole:
            for begin in range(0, len(texts), _PIECE):
                plans.setdefault(id(job.plan), []).append((job, texts[begin : begin + _PIECE]))
        pieces = [piece for together in plans.values() for piece in _pieces(together)]
        while pieces:
            piece = [(job, texts) for job, texts in pieces.pop() if not job.dropped]
            try:
                self._finish_piece(piece)
            except BaseException as death:
                # What others wait for is for the thread that comes after this one.
                self._room.acquire(blocking=False)
                self._computed.put([one for rest in pieces for one in rest])
                for job, _ in piece:
                    job.end(RuntimeError(f"an engine thread died: {death!r}"))
                raise

    def _finish_piece(self, piece: _Whole) -> None:
        try:
            self._finish_together(piece)
        except BaseException as error:
            # A panic of Rust's is no Exception, and no reason for a thread to die.
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            if len(piece) == 1:
                _log.error("a request failed when its results were made", exc_info=error)
                piece[0][0].end(error if isinstance(error, Exception) else RuntimeError(repr(error)))
                return
            for one in piece:
                self._finish_piece([one])

    def _finish_together(self, piece: _Whole) -> None:
        if not piece:
            return
        texts = [text for _, own in piece for text in own]
        results = piece[0][0].plan.finish(texts)
        if len(results) != len(texts):
            raise RuntimeError(f"{len(results)} results were made of {len(texts)} texts")
        each = iter(results)
        rendered = [[job.render(next(each)) for _ in own] for job, own in piece]
        for (job, own), done in zip(piece, rendered, strict=True):
            with self._changed:
                last = job.fill_in(own, done)
            if last:
                job.end()

    def _put_back(self, batch: Batch, death: BaseException) -> None:
        """Put a batch back whose thread dies; a job that has seen two die is given up."""
        lost = []
        with self._changed:
            for job, part in batch.parts.items():
                job.attempts += 1
                job.give_back(part)
                if job in self._waiting:
                    self._waiting.remove(job)
                if job.attempts < 2:
                    self._waiting.appendleft(job)
                else:
                    lost.append(job)
        for job in lost:
            job.end(RuntimeError(f"an engine thread died twice on this request: {death!r}"))


def _add(batch: Batch, job: Job, tokens: float) -> None:
    before = job.left
    part = job.take(tokens)
    begun = batch.parts.get(job)
    batch.parts[job] = part if begun is None else slice(begun.start, part.stop)
    batch.tokens += before - job.left


def _fill_up(batch: Batch, jobs: list[Job], room: float, turn: float) -> None:
    """Give jobs one turn after the other until the room is full."""
    while batch.tokens < room and (jobs := [job for job in jobs if job.left]):
        for job in jobs:
            if batch.tokens < room:
                _add(batch, job, min(turn, room - batch.tokens))


def _pieces(together: _Whole) -> Iterator[_Whole]:
    """Cut what one plan finishes into pieces, the last ones first."""
    piece: _Whole = []
    size = 0
    for one in reversed(together):
        piece.insert(0, one)
        size += len(one[1])
        if size >= _PIECE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _split(batch: Batch, rows: list[Any]) -> _Whole:
    """Give every job its rows, in the order of its sequences; return the texts that are whole now."""
    whole: _Whole = []
    begin = 0
    for job, part in batch.parts.items():
        end = begin + part.stop - part.start
        job.computing += batch.seconds
        if not job.dropped and (texts := job.whole_texts(rows[begin:end])):
            whole.append((job, texts))
        begin = end
    return whole


def _compute_halves(job: Job, sequences: list[Any]) -> list[Any]:
    try:
        return list(job.plan.compute(sequences))
    except MemoryError:
        if len(sequences) == 1:
            raise
    middle = len(sequences) // 2
    return _compute_halves(job, sequences[:middle]) + _compute_halves(job, sequences[middle:])
