"""Reads an offline W&B run back: LevelDB-style log blocks of protobuf records."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, FILE_HEADER, RECORD_HEADER = 32768, 7, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class Run:
    """What a run holds: identity, settings, history rows, summary, metric definitions, exit code."""

    id: str = ""
    group: str = ""
    project: str = ""
    entity: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None


def _payloads(data: bytes) -> Iterator[bytes]:
    position, pending = FILE_HEADER, b""
    while position + RECORD_HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < RECORD_HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + RECORD_HEADER])
        if kind == 0 or position + RECORD_HEADER + length > len(data):
            return  # still being written
        piece = data[position + RECORD_HEADER : position + RECORD_HEADER + length]
        position += RECORD_HEADER + length
        pending = piece if kind in (FULL, FIRST) else pending + piece
        if kind in (FULL, LAST):
            yield pending


def text(path: Path) -> str:
    """All that a ``.wandb`` file holds, record by record, when its run has ended."""
    from wandb.proto.wandb_internal_pb2 import Record

    read(path)
    return "\n".join(str(Record.FromString(payload)) for payload in _payloads(path.read_bytes()))


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def read(path: Path) -> Run:
    """The run in a ``.wandb`` file; waits until its exit record has reached the disk."""
    from wandb.proto.wandb_internal_pb2 import Record

    for _ in range(100):
        run = Run()
        for payload in _payloads(path.read_bytes()):
            record = Record()
            record.ParseFromString(payload)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run.id, run.group, run.job_type = record.run.run_id, record.run.run_group, record.run.job_type
                run.project, run.entity = record.run.project, record.run.entity
                run.tags = list(record.run.tags)
                run.config |= {_key(item): json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                run.history.append({_key(item): json.loads(item.value_json) for item in record.history.item})
            elif kind == "summary":
                run.summary |= {_key(item): json.loads(item.value_json) for item in record.summary.update}
            elif kind == "metric":
                run.steps[record.metric.name or record.metric.glob_name] = record.metric.step_metric
            elif kind == "exit":
                run.exit_code = record.exit.exit_code
        if run.exit_code is not None:
            return run
        time.sleep(0.05)
    raise AssertionError(f"{path} has no exit record")
