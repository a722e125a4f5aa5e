from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaserver.kernel.errors import BadInput
from mediaserver.web.upload_metadata import UNTITLED, parse_metadata, title_of


def pair(name: str, value: str) -> str:
    return f"{name} {b64encode(value.encode()).decode()}"


@pytest.mark.parametrize("header", ["", "   "])
def test_nothing_said_is_no_metadata(header: str) -> None:
    assert parse_metadata(header) == {}
    assert title_of(header) == UNTITLED


def test_names_and_values_are_read_and_values_may_be_missing() -> None:
    header = f"{pair('title', 'Größe, 1 = 2')}, is_confidential,{pair('filename', 'a.mp4')}"
    assert parse_metadata(header) == {
        "title": "Größe, 1 = 2",
        "is_confidential": "",
        "filename": "a.mp4",
    }


@pytest.mark.parametrize(
    "header",
    [
        "title nothing_of_base64",
        "title QQ",
        "title QQ== QQ==",
        "title /w==",  # not UTF-8
        "title 7aCA",  # half a surrogate pair
        "title QQ==,title Qg==",
        ",",
        "title QQ==,",
        "tïtle QQ==",
        "title\tQQ==",
    ],
)
def test_what_is_not_metadata_is_refused(header: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_metadata(header)
    assert refused.value.specific_code == "bad_metadata"
    assert "QQ" not in refused.value.detail


@pytest.mark.parametrize(
    ("file_name", "title"),
    [
        ("film.mp4", "film"),
        ("/home/ann/My film.final.mkv", "My film.final"),
        ("C:\\Videos\\film.avi", "film"),
        (".mp4", ".mp4"),
        ("film", "film"),
        ("..", "."),
        ("a\x00b\nc\u202e.mp4", "a b c"),
        ("x" * 300 + ".mp4", "x" * 200),
        ("/", UNTITLED),
    ],
)
def test_without_a_title_the_file_gives_it(file_name: str, title: str) -> None:
    assert title_of(pair("filename", file_name)) == title
    assert title_of(f"{pair('title', '  ')},{pair('filename', file_name)}") == title


def test_markup_is_only_text() -> None:
    assert title_of(pair("title", " <b>x</b> & 'y' ")) == "<b>x</b> & 'y'"


@pytest.mark.parametrize("title", ["a\x00b", "a\nb", "a\x7fb", "x" * 201])
def test_titles_with_control_characters_or_too_long_are_refused(title: str) -> None:
    with pytest.raises(BadInput) as refused:
        title_of(pair("title", title))
    assert refused.value.specific_code == "bad_title"


@given(st.text(max_size=80))
def test_any_header_is_read_or_refused(header: str) -> None:
    try:
        title = title_of(header)
    except BadInput:
        return
    assert 1 <= len(title) <= 200


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_file_name_gives_a_title(name: str) -> None:
    title = title_of(pair("filename", name))
    assert 1 <= len(title) <= 200
    assert title.isprintable()
