"""Rules as Markdown: `bnaudit rules --format markdown` writes docs/rules.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnaudit.render.text.rules import NEEDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnaudit.judge.rule import Entry, RuleList

_INTRODUCTION = """\
<!-- Written by `bnaudit rules --format markdown`. The rules themselves are in src/bnaudit/judge/rules/. -->

# Rules

A rule looks for one thing that goes wrong with BatchNorm. Its finding says what was observed, what it was
compared with, how sure that is, which layer and channels, and one remedy. `bnaudit explain ID` prints a
section of this page.

| severity | meaning |
| --- | --- |
| error | the network computes something else than what was trained, or the audit's own numbers are wrong |
| warning | unlikely to be meant, or wrong under conditions that the file does not tell |
| info | true and worth knowing; asks for nothing by itself |

**One finding a layer.** Where more than 3/4 of at least 4 layers share a fact, or more than 5 an info, it
is one finding about the model.

**What is not judged.** Scaling the weights before a layer by k, with the statistics that belong to it,
leaves the network as it was and divides \\|gamma\\|/sigma by k
([gauge](theory.md#what-is-not-a-property-of-the-function)). No rule gates on the absolute size of
\\|gamma\\|/sigma, and a channel whose ratio stands out for that reason is an info.
"""

_SURVEY = """\
## The survey

Thresholds that are "seen" are read from trained networks whose weights packages ship, all healthy:
torchvision's MobileNetV2 (52 layers), EfficientNet-Lite0 (49, with its eps of 1e-3, which the checkpoint
does not store), CREPE full and tiny (6 each, likewise), PP-OCR's classifier (35), recogniser (6) and
detector (3), CenterFace (3), and the two networks of `fixtures/` (10 and 3). On all of them together the
rules for files give no error and no warning. What they do get, as info: variances of exactly 0 (BN007, 28
layers of EfficientNet-Lite0), channels whose variance is below eps (BN018, 10 layers of MobileNetV2 and 7
of EfficientNet-Lite0), variances beyond float16 (BN011, one layer of CREPE and one of the PP-OCR detector),
redundant biases (BN014, the MLP of `fixtures/`).

The light models of the onnx package (`light_resnet50.onnx` and others) keep a network's graph and replace
tensors of more than 64 values by 0.02, which the graph computes. Those layers store nothing to judge; where a
reader fills them in, BN005 says that no data gives equal values in all channels. The layers of at most 64
channels hold trained values, and get the infos that those deserve: channels that gamma switched off in two
layers of DenseNet-121 (10 of 64 in one) and one of ShuffleNet (BN009), variances below eps in 4 of 24
channels there (BN018), and one bias that BatchNorm subtracts again (BN014).
"""


def rules_to_markdown(catalogue: RuleList) -> str:
    """The whole page."""
    index = _table(
        ("id", "name", "severity", "needs", "looks for"),
        [
            (
                f"[{rule.id}](#{rule.id.lower()}-{rule.name})",
                rule.name,
                rule.severity.label,
                rule.needs.value,
                rule.summary,
            )
            for rule in (entry.rule for entry in catalogue.rules)
        ],
    )
    lines = [_INTRODUCTION, *index, _SURVEY, *_sections(catalogue.rules)]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(map(_prose, cells)) + " |"
    yield ""


def _sections(entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries:
        rule, fix = entry.rule, entry.rule.fix
        sentence = f"{fix[:1].upper()}{fix[1:]}" + ("" if fix.endswith(".") else ".")
        yield f"## {rule.id} {rule.name}\n"
        yield f"Severity: {rule.severity.label}. Needs: {NEEDS[rule.needs.value]}.\n"
        yield f"**What it does.** {_prose(rule.summary)}\n"
        yield f"**Why it is bad.** {_prose(rule.why)}\n"
        yield f"**How to fix it.** {_prose(sentence)}\n"
        if rule.thresholds:
            yield from _table(
                ("threshold", "default", "compared with", "origin"),
                [
                    (f"`{limit.name}`", f"{limit.value:g}", limit.meaning, limit.origin)
                    for limit in rule.thresholds
                ],
            )
        found = entry.example
        if found is not None:
            yield "Example, on the sick file that the tests run:\n"
            yield "```text"
            yield f"{found.severity.label} {found.rule} {found.layer or 'model'}: {found.message}"
            yield f"  fix: {found.fix}"
            if found.confidence:
                yield f"  how sure: {found.confidence}"
            yield "```\n"
        if rule.references:
            yield "References: " + ", ".join(f"<{url}>" for url in rule.references) + "\n"


def _prose(text: str) -> str:
    """Bars end a table cell and underscores begin emphasis; identifiers keep theirs."""
    return text.replace("|", "\\|").replace("_", "\\_").replace("*", "\\*")
