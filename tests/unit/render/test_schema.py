"""The packaged schema keeps its own promises: constant shape, and a sentence for every key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from bnaudit.render.json_v1 import report_to_json
from bnaudit.render.schema import schema_text

from . import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = json.loads(schema_text())


def walk(node: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield path, node
        for key, child in node.items():
            yield from walk(child, f"{path}/{key}")
    elif isinstance(node, list):
        for place, child in enumerate(node):
            yield from walk(child, f"{path}/{place}")


OBJECTS = {path: node for path, node in walk(SCHEMA) if isinstance(node.get("properties"), dict)}


def test_it_is_a_valid_schema_of_its_draft() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", OBJECTS)
def test_every_key_is_required_and_no_other_is_allowed(path: str) -> None:
    node = OBJECTS[path]
    assert node["required"] == list(node["properties"])
    assert node["additionalProperties"] is False


@pytest.mark.parametrize("path", OBJECTS)
def test_every_key_is_described(path: str) -> None:
    for key, node in OBJECTS[path]["properties"].items():
        assert node.get("description", "").endswith("."), f"{path}/{key}"


def test_only_maps_with_keys_from_elsewhere_are_open() -> None:
    maps = {
        path.rpartition("/")[2]
        for path, node in walk(SCHEMA)
        if node.get("type") == "object" and "properties" not in node
    }
    assert maps == {"facts", "inputs", "versions", "seconds"}


def test_every_definition_is_used() -> None:
    used = {node["$ref"] for _, node in walk(SCHEMA) if isinstance(node.get("$ref"), str)}
    assert used == {f"#/$defs/{name}" for name in SCHEMA["$defs"]}


@pytest.mark.parametrize("key", ["schema", "run", "failure", "summary"])
def test_a_missing_key_is_noticed(key: str) -> None:
    document = json.loads(report_to_json(samples.healthy()))
    del document[key]
    with pytest.raises(ValidationError, match=key):
        Draft202012Validator(SCHEMA).validate(document)


def test_key_order_of_the_document_is_that_of_the_schema() -> None:
    def check(value: Any, node: dict[str, Any]) -> None:
        if "$ref" in node:
            node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
        if isinstance(value, dict) and "properties" in node:
            assert list(value) == list(node["properties"])
            for key, child in value.items():
                check(child, node["properties"][key])
        elif isinstance(value, list):
            for child in value:
                check(child, node["items"])

    check(json.loads(report_to_json(samples.not_finite(), channels=True)), SCHEMA)
