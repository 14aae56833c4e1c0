"""The audit table of a Django guard: derive a model from `MoveModel`, and give it to ``guard(..., audit=...)``.

Django makes models only once its settings are there, so the class is made when it is first asked for.
"""

from __future__ import annotations

from typing import Any

__all__ = ["MoveModel"]  # noqa: F822  made below


def __getattr__(name: str) -> Any:
    if name != "MoveModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()[name] = _move_model()
    return made


def _move_model() -> Any:
    from django.db import models

    class MoveModel(models.Model):  # type: ignore[misc, unused-ignore]  # Django is untyped
        """A row for every move and creation of a guarded record, written in the caller's own transaction.

        ``seq`` (ascending key), ``at`` (UTC), ``machine``, ``record`` (its primary key as text, several columns joined by a comma),
        ``came_from`` (NULL for a creation), ``went_to``, ``by`` and ``reason`` (what `interlock.because` said).
        """

        seq = models.BigAutoField(primary_key=True)
        at = models.DateTimeField()
        machine = models.CharField(max_length=255)
        record = models.TextField()
        came_from = models.TextField(null=True)
        went_to = models.TextField()
        by = models.TextField()
        reason = models.TextField()

        class Meta:
            abstract = True

        def __str__(self) -> str:
            return f"{self.record}: {self.came_from or '(created)'} -> {self.went_to}"

    MoveModel.__qualname__ = "MoveModel"
    return MoveModel
