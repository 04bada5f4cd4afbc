"""The schemas: made from the records, of constant shape, a sentence for every key, and open to new keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from bnaudit.render import formats
from bnaudit.render.json_v1 import DOCUMENTS, LINES, document_text, schema_text
from bnaudit.render.text import document_to_text
from tests.golden.documents import FOLDER, UPDATE

from . import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = [*DOCUMENTS, *LINES]
SCHEMAS = {name: json.loads(schema_text(name)) for name in NAMES}


def walk(node: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield path, node
        for key, child in node.items():
            yield from walk(child, f"{path}/{key}")
    elif isinstance(node, list):
        for place, child in enumerate(node):
            yield from walk(child, f"{path}/{place}")


OBJECTS = {
    f"{name}{path}": node
    for name, schema in SCHEMAS.items()
    for path, node in walk(schema)
    if isinstance(node.get("properties"), dict) and "type" in node
}


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    """A change of a record changes what users' readers rely on: it shows here."""
    path = FOLDER / f"schema_{name}.json"
    if UPDATE:
        path.write_text(schema_text(name), encoding="utf-8", newline="\n")
    assert schema_text(name) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_valid_schema_of_its_draft(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])


@pytest.mark.parametrize("path", OBJECTS)
def test_every_key_is_required_and_others_are_allowed(path: str) -> None:
    node = OBJECTS[path]
    assert node["required"] == list(node["properties"])
    assert "additionalProperties" not in node


@pytest.mark.parametrize("path", OBJECTS)
def test_every_key_is_described(path: str) -> None:
    for key, node in OBJECTS[path]["properties"].items():
        assert node.get("description", "").endswith("."), f"{path}/{key}"


def test_symbols_keep_their_case() -> None:
    order = SCHEMAS["report"]["$defs"]["second_order"]["properties"]
    assert order["measured"]["description"].startswith("g'Hx g")
    assert order["rayleigh"]["description"].startswith("rho = g'Hx g / |g|^2")


def test_only_maps_with_keys_from_elsewhere_have_no_shape() -> None:
    maps = {
        path.rpartition("/")[2]
        for path, node in walk(SCHEMAS["report"])
        if node.get("type") == "object" and "properties" not in node
    }
    assert maps == {"facts", "inputs", "options", "versions", "seconds"}


@pytest.mark.parametrize("name", NAMES)
def test_every_definition_is_used(name: str) -> None:
    used = {node["$ref"] for _, node in walk(SCHEMAS[name]) if isinstance(node.get("$ref"), str)}
    assert used == {f"#/$defs/{key}" for key in SCHEMAS[name]["$defs"]}


@pytest.mark.parametrize("key", ["schema", "run", "failure", "summary"])
def test_a_missing_key_is_noticed(key: str) -> None:
    document = json.loads(document_text(samples.healthy()))
    del document[key]
    with pytest.raises(ValidationError, match=key):
        Draft202012Validator(SCHEMAS["report"]).validate(document)


def test_a_key_of_a_later_version_is_no_error() -> None:
    document = json.loads(document_text(samples.healthy()))
    document["landscape"] = {"loss": 1.0}
    document["layers"][0]["landscape"] = None
    Draft202012Validator(SCHEMAS["report"]).validate(document)


def test_key_order_of_the_document_is_that_of_the_schema() -> None:
    schema = SCHEMAS["report"]

    def check(value: Any, node: dict[str, Any]) -> None:
        node = next((part for part in node.get("anyOf", ()) if part != {"type": "null"}), node)
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        if isinstance(value, dict) and "properties" in node:
            assert list(value) == list(node["properties"])
            for key, child in value.items():
                check(child, node["properties"][key])
        elif isinstance(value, list):
            for child in value:
                check(child, node["items"])

    check(json.loads(document_text(samples.not_finite(), channels=True)), schema)


def test_formats_and_schemas_know_the_same_documents() -> None:
    assert set(formats.DOCUMENTS) == set(DOCUMENTS)


def test_a_record_without_a_page_is_no_empty_page() -> None:
    with pytest.raises(TypeError, match="has no page"):
        document_to_text(object())
