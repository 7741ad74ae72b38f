"""pool-headroom in Python: a pool keeps as many warm Sandboxes as claims came lately, and some percent more."""

import json
from pathlib import Path

from componentize_py_types import Err
from wit_world.exports.pool_size import Answer, Question

# The module runs when the component is built, and the component contains its result. A plugin reads no files.
SCHEMA = (Path(__file__).parent / "settings.schema.json").read_text()
DEFAULTS = {"headroomPercent": 50, "windowSeconds": 60}


class Settings:
    def schema(self, hook) -> str:
        return SCHEMA

    def validate_settings(self, hook, settings: str) -> None:
        # The schema says everything. A plugin with more rules does `raise Err("field: what is right")`.
        json.loads(settings)


class PoolSize:
    def decide(self, question: Question, settings: str) -> Answer:
        try:
            return decide(question, DEFAULTS | json.loads(settings))
        except ValueError as error:
            raise Err(str(error)) from error


def decide(question: Question, settings: dict) -> Answer:
    headroom, window = settings["headroomPercent"], settings["windowSeconds"]
    bucket = max(question.bucket_seconds, 1)
    claims = sum(question.arrivals[-div_ceil(window, bucket) :])
    wanted = div_ceil(claims * (100 + headroom), 100)
    return Answer(
        desired=min(max(wanted, question.min), question.max),
        next_check=question.now + bucket * 1000,
        reason=f"{claims} claims in {window} s, and {headroom} % headroom",
        state=None,
    )


def div_ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)
