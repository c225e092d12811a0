"""Learning by teaching: of the classes that a teacher thinks of, the one that students do best in an exam after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from probe.core.base import IntArray
from probe.core.errors import InputError
from probe.heads.shared.head import FloatArray, Head, Validation, check_lazy
from probe.heads.shared.neighbours import Neighbours

SELECTIONS = ("max", "sum")
TIE = 1e-9
"""What a place in the teacher's order is worth where students do alike."""


class LearningByTeaching(Head):
    """A nearest-mean teacher whose m likeliest classes c are each taught to students, who then sit an exam.

    A student is ridge regression on +-1 (features centred and scaled, penalty alpha) on a few demonstrations, random
    training rows; teaching it adds the row itself as one of class c, with weight w. With u = A^-1 z, A the student's
    scatter, z the row and f(z) what the student says of it, its scores of an exam row e become

        f(e) + w (e.u) / (1 + w z.u) (t_c - f(z)),    t_c = +1 for c and -1 for the others.

    The exam are the k rows nearest to the row among labelled ones that are no demonstrations: the validation rows, or
    without any every other training row of each class, which then teach nobody. LbT(c) is the mean accuracy of the
    students there; `max` takes the class of the largest, `sum` of the largest p_T(c) LbT(c); ties go to the teacher's
    order. The labels of the exam decide a good deal by themselves, so that a run always shows the vote of the same k
    rows, `knn`, and the teacher alone beside it.

    Source: Ning, Wang, Li, Lin et al., "Can LLMs Learn by Teaching for Better Reasoning? A Preliminary Study", NeurIPS
    2024, arXiv 2406.14629 (M1). Departures: heads on frozen features in the place of language models; the control.

    Args:
        candidates: m, how many classes are tried.
        students: How many.
        demonstrations: Training rows of each student; all of them where there are fewer.
        weight: w, of the row that is taught; 0 teaches nothing.
        exam: k, rows of the exam.
        select: `max` or `sum`.
        alpha: Penalty of the students.
        random_state: Draws the demonstrations.

    Attributes:
        centroids_: (K, D) of the teacher, of features as they come; nan for a class without rows.
        exam_rows_, exam_codes_: (E, D) and (E,) labelled rows to draw exams from.
        inverses_, students_: (S, D + 1, D + 1) A^-1 and (S, D + 1, K) weights of the untaught students.
        centre_, scale_: What their features are brought to.
    """

    log_probabilities: bool = False
    centroids_: NDArray[np.float64]
    exam_rows_: FloatArray
    exam_codes_: IntArray
    inverses_: NDArray[np.float64]
    students_: NDArray[np.float64]
    centre_: NDArray[np.float64]
    scale_: float
    spread_: float

    def __init__(
        self,
        candidates: int = 3,
        students: int = 3,
        demonstrations: int = 20,
        weight: float = 5.0,
        exam: int = 10,
        select: str = "max",
        alpha: float = 1.0,
        random_state: int | None = 0,
    ):
        self.candidates = candidates
        self.students = students
        self.demonstrations = demonstrations
        self.weight = weight
        self.exam = exam
        self.select = select
        self.alpha = alpha
        self.random_state = random_state

    def check_parameters(self) -> None:
        counts = {name: getattr(self, name) for name in ("candidates", "students", "demonstrations", "exam")}
        wrong = [f"{name} is {n!r}, expected a whole number from 1" for name, n in counts.items() if n < 1 or n % 1]
        wrong += [] if self.weight >= 0 else [f"weight is {self.weight!r}, expected a number from 0"]
        wrong += [] if self.alpha > 0 else [f"alpha is {self.alpha!r}, expected a positive number"]
        wrong += [] if self.select in SELECTIONS else [f"select is {self.select!r}, expected max or sum"]
        if wrong:
            raise InputError("; ".join(wrong) + ": change the parameters of the head")

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Fits teacher and untaught students on X (N, D), y (N,); `validation` holds the rows of the exams."""
        self.check_parameters()
        if validation is not None and not len(np.asarray(validation[1])):
            validation = None
        parts = []
        for given, labels in self._check_parts(X, y, validation):
            check_lazy(given)
            array = np.asarray(given[:], dtype=np.float64)
            order = in_order(array, labels)
            parts.append((array[order], labels[order]))
        train, exam = (parts[0], parts[1]) if len(parts) > 1 else every_other(*parts[0])
        self.exam_rows_, self.exam_codes_ = exam
        rows, codes = train
        n_classes = len(self.classes_)
        own = np.eye(n_classes)[codes]
        with np.errstate(invalid="ignore", divide="ignore"):
            self.centroids_ = np.asarray((own.T @ rows) / own.sum(axis=0)[:, None], dtype=np.float64)
        self.spread_ = float(np.square(rows - self.centroids_[codes]).sum(axis=1).mean())
        self.centre_ = np.asarray(rows.mean(axis=0), dtype=np.float64)
        self.scale_ = float(np.sqrt(np.square(rows - self.centre_).mean())) or 1.0
        z, targets = self._scaled(rows), 2 * own - 1
        chosen = list(self._demonstrations(len(rows)))
        scatters = [z[of].T @ z[of] + self.alpha * np.eye(z.shape[1]) for of in chosen]
        self.inverses_ = np.asarray(np.linalg.inv(scatters), dtype=np.float64)
        self.students_ = np.stack([a @ (z[of].T @ targets[of]) for a, of in zip(self.inverses_, chosen, strict=True)])
        return self

    def _demonstrations(self, n_rows: int) -> Iterator[IntArray]:
        rng = np.random.default_rng(self.random_state)
        for _ in range(self.students):
            yield np.sort(rng.permutation(n_rows)[: self.demonstrations])

    def _scaled(self, rows: FloatArray) -> FloatArray:
        """(n, D + 1) what students read, a one behind the features."""
        return np.column_stack([(rows - self.centre_) / self.scale_, np.ones(len(rows))])

    def _teacher(self, rows: FloatArray) -> FloatArray:
        """(n, K) minus half the squared distance from each mean, in units of the spread within classes."""
        there: NDArray[np.bool_] = np.asarray(np.isfinite(self.centroids_).all(axis=1))
        means = np.where(there[:, None], self.centroids_, 0) - self.centre_
        of_rows = rows - self.centre_
        found = of_rows @ means.T - np.square(means).sum(axis=1) / 2 - np.square(of_rows).sum(axis=1)[:, None] / 2
        found = found / (self.spread_ or self.scale_**2)
        return np.where(there, found, found.min(axis=1, keepdims=True) - 1)

    def _exams(self, rows: FloatArray) -> IntArray:
        """(n, k) numbers of the exam rows of each row."""
        return Neighbours(self.exam_rows_).nearest(rows, self.exam, ["euclidean"])["euclidean"].rows

    def lbt(self, X: Any) -> tuple[IntArray, FloatArray]:
        """The candidates of each row in the teacher's order, (N, m), and how well students did after each, (N, m)."""
        rows = np.asarray(X, dtype=np.float64)
        m = min(self.candidates, len(self.classes_))
        order = np.argsort(-self._teacher(rows), axis=1, kind="stable")[:, :m]
        if not len(self.exam_rows_):
            return order, np.ones(order.shape)
        exams = self._exams(rows)
        return order, np.mean([self._taught(s, rows, order, exams) for s in range(len(self.students_))], axis=0)

    def _taught(self, student: int, rows: FloatArray, order: IntArray, exams: IntArray) -> FloatArray:
        """(n, m) accuracy of one student in each row's exam after each candidate."""
        z, e = self._scaled(rows), self._scaled(self.exam_rows_)
        u, before = z @ self.inverses_[student], e @ self.students_[student]
        says, q = z @ self.students_[student], np.einsum("nd,nd->n", z, u)
        reach = np.einsum("nkd,nd->nk", e[exams], u) * (self.weight / (1 + self.weight * q))[:, None]
        right = np.empty(order.shape)
        for place in range(order.shape[1]):
            target = 2 * np.eye(len(self.classes_))[order[:, place]] - 1
            scores = before[exams] + reach[..., None] * (target - says)[:, None]
            right[:, place] = (scores.argmax(axis=2) == self.exam_codes_[exams]).mean(axis=1)
        return right

    def _logits(self, X: Any) -> FloatArray:
        rows = np.asarray(X, dtype=np.float64)
        order, lbt = self.lbt(rows)
        teacher = self._teacher(rows)
        places = np.argsort(np.argsort(-teacher, axis=1, kind="stable"), axis=1)
        worth = lbt * np.take_along_axis(softmax(teacher, axis=1), order, axis=1) if self.select == "sum" else lbt
        found = -1.0 - places / len(self.classes_)
        np.put_along_axis(found, order, worth - TIE * np.arange(order.shape[1]), axis=1)
        return found

    def beside(self, X: Any) -> Mapping[str, FloatArray]:
        """What stands beside it in every run: the vote of the same exam rows, and the teacher alone, (N, K) each."""
        rows = np.asarray(self._check_rows(X, reset=False)[:], dtype=np.float64)
        teacher = self._teacher(rows)
        if not len(self.exam_rows_):
            return {"teacher": teacher}
        votes = np.eye(len(self.classes_))[self.exam_codes_[self._exams(rows)]].mean(axis=1)
        # Of equal votes the first neighbour's class would do as well; the teacher's order is the better tie.
        ranks = np.argsort(np.argsort(-teacher, axis=1, kind="stable"), axis=1)
        return {"knn": votes - TIE * ranks, "teacher": teacher}


def in_order(rows: FloatArray, codes: IntArray) -> IntArray:
    """An order of rows that does not depend on the one that they come in, but for equal ones."""
    return np.lexsort([*rows.T[::-1], codes])


def every_other(rows: FloatArray, codes: IntArray) -> tuple[tuple[FloatArray, IntArray], tuple[FloatArray, IntArray]]:
    """Rows that teach and rows of exams: every other one of each class, the only one of a class teaches."""
    ranks = np.arange(len(codes)) - np.searchsorted(codes, codes)
    exam = ranks % 2 == 1
    return (rows[~exam], codes[~exam]), (rows[exam], codes[exam])
