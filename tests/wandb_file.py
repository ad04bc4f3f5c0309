"""Reading what W&B writes offline: a log of records in the format of LevelDB, each a protocol buffer."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, FILE_HEADER, CHUNK_HEADER = 2**15, 7, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Record]:
    """All records of a ``run-ID.wandb`` file."""
    data, at, parts = path.read_bytes(), FILE_HEADER, b""
    while at + CHUNK_HEADER <= len(data):
        if BLOCK - at % BLOCK < CHUNK_HEADER:  # the rest of a block that no header fits in is padding
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + CHUNK_HEADER])
        parts += data[at + CHUNK_HEADER : at + CHUNK_HEADER + length]
        at += CHUNK_HEADER + length
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def read(folder: Path) -> dict[str, Any]:
    """What the offline run in ``<run>/wandb`` holds: id, group, config, the last values of its
    history, artifacts, exit code."""
    (path,) = folder.glob("offline-run-*/run-*.wandb")
    found: dict[str, Any] = {"config": {}, "history": {}, "artifacts": []}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found |= {"id": record.run.run_id, "group": record.run.run_group, "tags": list(record.run.tags)}
            found |= {"name": record.run.display_name, "project": record.run.project}
        elif kind == "config":
            found["config"] |= {item.key: json.loads(item.value_json) for item in record.config.update if item.key}
        elif kind == "history":
            for item in record.history.item:
                if name := item.key or item.nested_key[0]:  # of a picture one item each for its path, its size, …
                    found["history"].setdefault(name, {})[".".join(item.nested_key[1:])] = json.loads(item.value_json)
        elif kind == "artifact":
            found["artifacts"].append(record.artifact)
        elif kind == "exit":
            found["exit_code"] = record.exit.exit_code
    return found
