"""Checks for duplicates: within a role they count twice, and across roles they inflate the test results."""

from __future__ import annotations

from collections.abc import Iterator

from vlm_ft.data.checks.fault import Fault, Severity
from vlm_ft.data.checks.index import Index, file_of
from vlm_ft.data.checks.pictures import ORIENTATIONS

TOGETHER = "give both the same group, or remove one"
MIN_VALUES, MAX_SHARE = 5, 0.5  # a kind with fewer values, or with one on more than half of the rows, names no groups


def leaks(index: Index) -> Iterator[Fault]:
    """Identical picture files in two roles; an error if one of the roles is `test`."""
    query = """
        SELECT pictures.number, picture, role, content FROM pictures JOIN placed ON placed.number = item
        WHERE content IN (
            SELECT content FROM pictures JOIN placed ON placed.number = item
            GROUP BY content HAVING count(DISTINCT role) > 1)
        ORDER BY content, pictures.number"""
    first: tuple[str, str, bytes] = ("", "", b"")
    seen_roles: set[str] = set()
    for _, picture, role, content in index.rows(query):
        if content != first[2]:
            first, seen_roles = (picture, role, content), {role}
        elif role not in seen_roles:
            seen_roles.add(role)
            value = f"in {role}, and the same picture is in {first[1]}: {file_of(first[0])}"
            severity: Severity = "error" if "test" in (role, first[1]) else "warning"
            yield Fault(severity, str(file_of(picture)), value, TOGETHER, (picture, first[0]))


def duplicates(index: Index) -> Iterator[Fault]:
    """The same picture and text more than once in a role."""
    query = """
        SELECT placed.shown, placed.role, place, images, number FROM placed JOIN (
            SELECT shown, role FROM placed GROUP BY shown, role HAVING count(*) > 1
        ) AS twice ON placed.shown = twice.shown AND placed.role = twice.role
        ORDER BY placed.shown, placed.role, number"""
    first: tuple[bytes, str, str, int] = (b"", "", "", 0)
    for shown, role, place, images, number in index.rows(query):
        if (shown, role) != first[:2]:
            first = (shown, role, place, number)
            continue
        what = "picture" if images else "text"
        yield Fault(
            "warning",
            place,
            f"the same {what} as {first[2]}, both in {role}",
            "remove one, or keep both if the example should count twice",
            index.pictures_of(number, first[3]),
        )


def near_leaks(index: Index) -> Iterator[Fault]:
    """Pictures in two roles that look the same, in any orientation."""
    yield from _lookalikes(index, same_role=False)


def near_duplicates(index: Index) -> Iterator[Fault]:
    """Pictures of different groups in one role that look the same, in any orientation."""
    yield from _lookalikes(index, same_role=True)


def _lookalikes(index: Index, *, same_role: bool) -> Iterator[Fault]:
    query = """
        SELECT one.picture, two.picture, place_one.role, place_two.role, turned, distance
        FROM lookalikes JOIN pictures AS one ON one.number = later JOIN pictures AS two ON two.number = earlier
        JOIN placed AS place_one ON place_one.number = one.item JOIN placed AS place_two ON place_two.number = two.item
        WHERE same_role = ? ORDER BY distance, -likeness"""
    for picture, other, role, other_role, orientation, bits in index.rows(query, same_role):
        roles = f"both in {role}" if same_role else f"this one in {role}, that one in {other_role}"
        value = f"looks like {file_of(other)}, {ORIENTATIONS[orientation]} ({bits} of 64 bits differ), {roles}"
        yield Fault("warning", str(file_of(picture)), value, TOGETHER, (picture, other))


def texts(index: Index) -> Iterator[Fault]:
    """The same text, without an image, in two roles; first, the share of `test` that is affected."""
    tested = index.one("SELECT count(*) FROM placed WHERE role = 'test'")
    known = index.one(
        """SELECT count(*) FROM placed WHERE role = 'test' AND images = 0
        AND text IN (SELECT text FROM placed WHERE role = 'train' AND images = 0)"""
    )
    if known:
        value = f"{known} of {tested} test examples ({known / tested:.1%}) share their text with a training example"
        yield Fault(
            "warning",
            "test",
            value,
            "expect worse results on new texts; group_by the text's column, or remove the repeats",
        )
    query = """
        SELECT min(place), group_concat(DISTINCT role), count(*), max(place) FROM placed
        WHERE images = 0 AND text IS NOT NULL GROUP BY text HAVING count(DISTINCT role) > 1"""
    for place, roles, count, other in index.rows(query):
        value = f"this text appears {count} times, in {' and '.join(roles.split(','))}; also in {other}"
        yield Fault("warning", place, value, TOGETHER)


def groups(index: Index) -> Iterator[Fault]:
    """A claim, aircraft, patient or board with examples in two roles."""
    for place, problem, remedy in index.rows("SELECT * FROM split_groups"):
        yield Fault("error", place, problem, remedy)
    kinds = index.rows("SELECT kind, count(DISTINCT word), count(*) FROM hints GROUP BY kind").fetchall()
    for kind, words, count in kinds:
        if words < MIN_VALUES or words == count:
            continue
        most = index.one("SELECT max(n) FROM (SELECT count(*) AS n FROM hints WHERE kind = ? GROUP BY word)", kind)
        if most > MAX_SHARE * count:
            continue
        yield from _split_groups(index, kind, words)


def _split_groups(index: Index, kind: str, words: int) -> Iterator[Fault]:
    """One fault per kind of group: how many groups are in more than one role, with an example."""
    query = """
        SELECT count(*), word, place, roles FROM (
            SELECT word, min(place) AS place, group_concat(DISTINCT role) AS roles FROM hints
            JOIN placed ON number = item WHERE kind = ? GROUP BY word HAVING count(DISTINCT role) > 1)"""
    count, word, place, roles = index.rows(query, kind).fetchone()
    if count:
        both_roles = " and ".join(roles.split(","))
        value = f"{kind}: {count} of {words} appear in more than one role, such as {word!r} in {both_roles}"
        yield Fault("warning", place, value, "set the source's group (a regex on the id) or group_by (a column)")
