"""Rating sheets go through spreadsheets and come back; what raters say is counted as the literature does."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from services.cli.main import app
from services.cli.rating import agreement as agreements
from services.cli.rating.sample import sample
from services.cli.rating.sheet import COLUMNS, NoSheet, read, write
from services.common import kb
from services.common.postgres import migrate
from services.common.relations import RELATIONS
from services.kb_sink.committer import MIGRATIONS
from tests.explorer.conftest import insert_pair, insert_product

#: Krippendorff (2011), section C: four observers, twelve units; 0: not rated.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3),
    (0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0),
)


def test_alpha_is_that_of_its_authors_example() -> None:
    units = [[value for value in unit if value] for unit in zip(*OBSERVERS, strict=True)]
    assert agreements.agreement(units).alpha == pytest.approx(0.743, abs=0.0005)


def test_alpha_of_two_raters_and_two_values() -> None:
    """The same paper, section A: two observers, ten units, binary data."""
    meg, owen = (0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0)
    found = agreements.agreement(list(zip(meg, owen, strict=True)))
    assert found.observed == pytest.approx(0.6)
    assert found.alpha == pytest.approx(0.095, abs=0.0005)


ratings = st.lists(st.lists(st.booleans(), max_size=4), max_size=12)


@given(ratings, st.randoms(use_true_random=False))
def test_the_order_of_raters_and_things_says_nothing(units: list[list[bool]], chance: Any) -> None:
    mixed = [chance.sample(unit, len(unit)) for unit in units]
    chance.shuffle(mixed)
    before, after = agreements.agreement(units), agreements.agreement(mixed)
    assert after.observed == pytest.approx(before.observed)
    assert after.alpha == pytest.approx(before.alpha)


@given(st.lists(st.tuples(st.booleans(), st.integers(2, 4)), max_size=12))
def test_raters_who_agree_have_one_or_nothing(units: list[tuple[bool, int]]) -> None:
    found = agreements.agreement([[value] * raters for value, raters in units])
    assert found.observed == (pytest.approx(1) if units else None)
    assert found.alpha == (pytest.approx(1) if len({value for value, _ in units}) == 2 else None)


def test_the_filter_is_measured_against_the_majority() -> None:
    yes, no = [True, True, False], [False]
    found = agreements.verdicts(
        [(True, yes), (True, yes), (True, no), (False, yes), (False, no), (True, [True, False])]
    )
    assert (found.kept_right, found.kept_wrong, found.rejected_wrong, found.rejected_right) == (2, 1, 1, 1)
    assert found.undecided == 1
    assert (found.precision, found.recall, found.against.observed) == (2 / 3, 2 / 3, 3 / 5)


# -- sheets --------------------------------------------------------------------------------------------------------


def rows(*ids: str) -> list[dict[str, Any]]:
    return [{"pair_id": "a|b", "intention_id": one, "title_a": "A", "title_b": "B", "sentence": "s"} for one in ids]


def rated(path: Path, answers: dict[str, tuple[str, str]]) -> Path:
    """The sheet as a rater gives it back."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file))
    for row in found:
        row["plausible"], row["typical"] = answers.get(row["intention_id"], ("", ""))
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, found[0].keys())
        writer.writeheader()
        writer.writerows(found)
    return path


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
BEGINNING = st.sampled_from(["", "=", "+", "-", "@", "'", "\t", "\r", "\uff1d", "'="])


@given(st.builds(str.__add__, BEGINNING, TEXT), st.builds(str.__add__, BEGINNING, TEXT))
def test_no_cell_is_a_formula_and_every_id_comes_back(pair: str, title: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sheet.csv"
        assert write([{**rows("i")[0], "pair_id": pair, "title_a": title}], path, verdict=False) == 1
        with path.open(encoding="utf-8-sig", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not any(cell.startswith(tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")) for cell in cells)
        (key,) = read(rated(path, {"i": ("yes", "")})).places
        assert key == (pair, "i")


def test_a_sheet_is_blind_unless_asked(tmp_path: Path) -> None:
    row = {**rows("i")[0], "relation": "UsedFor", "score": 0.875, "accepted": True}
    write([row], tmp_path / "blind.csv", verdict=False)
    write([row], tmp_path / "seen.csv", verdict=True)
    assert "0.875" not in (tmp_path / "blind.csv").read_text("utf-8-sig")
    assert "UsedFor,0.875,True" in (tmp_path / "seen.csv").read_text("utf-8-sig")
    assert (tmp_path / "blind.csv").read_bytes().startswith(b"\xef\xbb\xbfpair_id,")
    with pytest.raises(FileExistsError):
        write([row], tmp_path / "blind.csv", verdict=False)


HEADER = ",".join(COLUMNS)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (f"{HEADER}\r\na|b,1,A,B,s,yes,no,\r\na|b,2,A,B,s,N,,well\r\n", "utf-8-sig"),
        (f"{HEADER}\na|b,1,A,B,s,1,0\na|b,2,A,B,s,FALSE\n,,,,,,,\n", "utf-8"),
        (f"{HEADER}\ra|b,1,A,B,s,TRUE,FALSE,\ra|b,2,A,B,s,no,,\r", "utf-8"),
        (f"{HEADER}\r\na|b,1,A,B,s,y,n,\r\na|b,2,A,B,s,no,,\r\n".replace(",", ";"), "utf-8"),
        (f"{HEADER}\r\na|b,1,A,B,s,yes,no,\r\na|b,2,A,B,s,no,,\r\n".replace(",", "\t"), "utf-16"),
        (f'{HEADER.title()},more\n"a|b","1","A ""x"", y","two\nlines",s,yes,no,,\na|b,2,A,B,s,no,,,\n', "utf-8"),
    ],
    ids=["excel", "trailing cells left out", "old mac", "semicolons", "unicode text", "quotes"],
)
def test_what_spreadsheets_make_of_a_sheet_is_read(text: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_bytes(text.encode(encoding))
    found = read(path)
    assert found.wrong == []
    assert found.ratings == {("a|b", "1"): {"plausible": True, "typical": False}, ("a|b", "2"): {"plausible": False}}
    assert found.places == {("a|b", "1"): 2, ("a|b", "2"): 3}


def test_each_wrong_row_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "anna.csv"
    lines = [
        HEADER,
        "a|b,1,A,B,s,yes,no,",
        "a|b,,A,B,s,yes,no,",
        "a|b,1,A,B,s,no,no,",
        "a|b,2,A,B,s,perhaps,3,",
        "a|b,3,A,B,s,yes,no,,moved,",
        "a|b,4,A,B,s,,,",
    ]
    path.write_text("\n".join(lines))
    assert read(path).wrong == [
        "anna.csv: row 3: pair_id or intention_id is empty",
        "anna.csv: row 4: the same intention as in row 2",
        "anna.csv: row 5: plausible is 'perhaps' and typical is '3', not yes, no or empty",
        "anna.csv: row 6: 10 cells, where the first row has 8",
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "does not name the columns"),
        (b"pair_id,intention_id,plausible\n", "does not name the columns"),
        (b"PK\x03\x04", "a workbook"),
        (b"\xe9\xff", "not UTF-8"),
        (f"{HEADER}\na|b,1,A,B,s,,,".encode(), "no row is rated"),
        (f'{HEADER}\na|b,1,A,B,"s,yes,no,'.encode(), "no CSV"),
        (f"{HEADER}\na\0|b,1,A,B,s,yes,no,".encode(), "no text"),
        (f"{HEADER}\na|b,1,A,B,s,yes,no,".encode("utf-16-le"), "no text"),
    ],
)
def test_what_is_no_sheet_is_said_in_one_line(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_bytes(content)
    with pytest.raises(NoSheet, match=f"sheet.csv: .*{why}"):
        read(path)


# -- the commands, on a KB -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(postgres: str) -> str:
    """Four pairs with a reason under every relation, the first half of them kept."""
    migrate(postgres, kb.SCHEMA, MIGRATIONS)
    with psycopg.connect(postgres) as connection:
        for product in "abcde":
            insert_product(connection, product, f"=cmd|'{product}'")
        for other in "bcde":
            insert_pair(connection, "a", other, 3, {"Open": ""})
    return postgres


@pytest.fixture
def run(filled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    monkeypatch.setenv("MINDSTREAM_POSTGRES_DSN", filled)
    monkeypatch.setenv("MINDSTREAM_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.chdir(tmp_path)

    def ratings(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["kb", "ratings", *map(str, arguments)])

    return ratings


@pytest.mark.integration
def test_a_sample_is_the_seeds_and_even(filled: str) -> None:
    with psycopg.connect(filled) as connection:
        first = sample(connection, 38, 1, "relation", accepted=False)
        assert first == sample(connection, 38, 1, "relation", accepted=False)
        assert first != sample(connection, 38, 2, "relation", accepted=False)
        # Every relation but the one without texts, twice, and not in the relations' order.
        counts = [row["relation"] for row in first]
        assert sorted(counts) == sorted([relation.name for relation in RELATIONS if relation.name != "Open"] * 2)
        assert counts != sorted(counts)
        assert len({row["intention_id"] for row in first}) == 38
        uneven = [row["relation"] for row in sample(connection, 38, 1, "nothing", accepted=False)]
        assert sorted(uneven) != sorted(counts)
        verdicts = [row["accepted"] for row in sample(connection, 10, 1, "verdict", accepted=False)]
        assert sum(verdicts) == 5
        assert all(row["accepted"] for row in sample(connection, 1000, 1, "relation", accepted=True))
        assert len(sample(connection, 1000, 1, "relation", accepted=False)) == 4 * 19


@pytest.mark.integration
def test_sheets_of_two_raters_come_back(run: Callable[..., Result], filled: str, tmp_path: Path) -> None:
    for name in ("anna.csv", "ben.csv"):
        assert run("export", "--out", name, "--sample", 20, "--by", "verdict", "--seed", 3).exit_code == 0
    assert (tmp_path / "anna.csv").read_bytes() == (tmp_path / "ben.csv").read_bytes()
    assert "'=cmd|" in (tmp_path / "anna.csv").read_text("utf-8-sig")
    with psycopg.connect(filled) as connection:
        drawn = sample(connection, 20, 3, "verdict", accepted=False)
    # Anna says what the filter said; Ben as well but for one, and one he leaves out.
    said = {row["intention_id"]: "yes" if row["accepted"] else "no" for row in drawn}
    other = {**said, drawn[0]["intention_id"]: "yes" if said[drawn[0]["intention_id"]] == "no" else "no"}
    del other[drawn[1]["intention_id"]]
    for name, answers in (("anna.csv", said), ("ben.csv", other)):
        rated(tmp_path / name, {one: (answer, answer) for one, answer in answers.items()})
    found = json.loads(run("import", "anna.csv", "ben.csv", "--json").stdout)
    assert found["raters"] == {"anna.csv": 20, "ben.csv": 19}
    assert found["questions"]["plausible"]["ratings"] == 39
    assert found["questions"]["typical"]["agree"] == pytest.approx(18 / 19)
    assert 0.8 < found["questions"]["plausible"]["alpha"] < 1
    assert found["filter"]["undecided"] == 1
    assert (found["filter"]["precision"], found["filter"]["recall"], found["filter"]["alpha"]) == (1, 1, 1)
    printed = run("import", "anna.csv", "ben.csv")
    assert printed.exit_code == 0
    assert "anna.csv: 20 rated, ben.csv: 19 rated" in printed.stdout
    assert "precision 100%, recall 100%" in printed.stdout
    alone = json.loads(run("import", "anna.csv", "--json").stdout)
    assert alone["questions"]["plausible"]["alpha"] is None


@pytest.mark.integration
def test_what_is_wrong_is_one_line_each(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "anna.csv").write_text(f"{HEADER}\na|b,strange,A,B,s,yes,no,\na|b,,A,B,s,yes,no,\n")
    for arguments, line in (
        (("import", "anna.csv"), "anna.csv: row 3: pair_id or intention_id is empty"),
        (("import", "missing.csv"), "mindstream: missing.csv: No such file or directory"),
        (("import", "anna.csv", "anna.csv"), "mindstream: a sheet is given twice: each is one rater's"),
        (("export", "--out", "anna.csv"), "mindstream: anna.csv: File exists"),
        (
            ("export", "--out", "x.csv", "--by", "colour"),
            "mindstream: a sample is stratified by relation, verdict, nothing, not by 'colour'",
        ),
    ):
        done = run(*arguments)
        assert (done.exit_code, done.stderr.strip()) == (2, line)
    (tmp_path / "anna.csv").write_text(f"{HEADER}\na|b,strange,A,B,s,yes,no,\n")
    done = run("import", "anna.csv")
    assert (done.exit_code, done.stderr) == (2, "anna.csv: row 2: the KB has no such intention\n")
