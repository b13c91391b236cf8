"""faultwire catalogue: pages in Markdown and HTML that say what the proto says."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from google.protobuf import descriptor_pb2

from faultwire.v1 import options_pb2

from .conftest import Run, descriptors

REASONS = ("BOOK_NOT_FOUND", "ORDER_INVALID", "OUT_OF_STOCK", "ORDER_QUOTA_EXCEEDED", "PRICES_UNAVAILABLE")


class Reader(HTMLParser):
    """Collects ids, links and text of a page, and checks that its elements nest."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name == "href" and value]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_markdown_has_a_part_for_each_reason(run: Run, folder: Path) -> None:
    """Each reason has an anchor that docs_url points to, its code, its advice and its metadata."""
    done = run("catalogue bookshop.binpb --title 'Errors of the bookshop'")
    assert done.code == 0
    assert done.out.startswith("# Errors of the bookshop\n")
    for reason in REASONS:
        assert f'<a id="{reason}"></a>' in done.out
        assert f"](#{reason}) |" in done.out
    assert "* **Retry:** Yes, the call, after 30 seconds at least.\n" in done.out
    assert "| `customer` | the server's log only |  |\n" in done.out
    assert "* **Methods:** `bookshop.v1.Bookshop/GetBook`\n" in done.out


def test_html_nests_and_its_links_lead_somewhere(run: Run, folder: Path) -> None:
    """The page is whole, every inner link has its target, and ids are there once."""
    assert run("catalogue --html -o errors.html bookshop.binpb").code == 0
    reader = Reader()
    reader.feed(Path("errors.html").read_text())
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert {link.removeprefix("#") for link in reader.links if link.startswith("#")} == set(reader.ids)
    assert set(REASONS) <= set(reader.ids)


def hostile(file: descriptor_pb2.FileDescriptorProto) -> None:
    """Declare what would be markup, and a link that would be a script; share a reason with another domain."""
    error = file.enum_type[0].value[1].options.Extensions[options_pb2.error]
    error.message = "<script>alert(1)</script> | **bold** {isbn}"
    error.docs_url = "javascript:alert(1)"
    file.enum_type.add().CopyFrom(file.enum_type[0])
    file.enum_type[1].name = "Other"
    file.enum_type[1].options.Extensions[options_pb2.catalogue].domain = "other.example.com"
    for value in file.enum_type[1].value:
        value.name = f"OTHER_{value.name}"
        if value.options.HasExtension(options_pb2.error):
            value.options.Extensions[options_pb2.error].reason = value.name.removeprefix("OTHER_BOOKSHOP_ERROR_")


def test_what_a_proto_says_is_text(run: Run, folder: Path) -> None:
    """Markup in messages stays text, scripts are no links, and a shared reason has an anchor in each domain."""
    Path("hostile.binpb").write_bytes(descriptors(hostile))
    page = run("catalogue --html hostile.binpb").out
    reader = Reader()
    reader.feed(page)
    assert "<script>" not in page
    assert "<script>alert(1)</script> | **bold** {isbn}" in reader.text
    assert [link for link in reader.links if link.startswith("javascript")] == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert "other.example.com-BOOK_NOT_FOUND" in reader.ids
    assert r"\<script\>alert(1)\</script\> \| \*\*bold\*\* \{isbn\}" in run("catalogue hostile.binpb").out


def test_comments_are_shown_where_the_descriptors_have_them(run: Run) -> None:
    """A set with source info gives the page the comments of the proto."""
    source = Path(__file__).resolve().parents[1] / "unit/codegen/shop.binpb"
    page = run(f"catalogue {source}").out
    assert "\nThe customer may not do this.\n" in page
    assert "Errors of one item." in page


def test_a_source_without_catalogues_gets_a_sentence(run: Run, folder: Path) -> None:
    """Where nothing is declared there is no page."""
    done = run("catalogue faultwire.v1.options_pb2")
    assert done.code == 2
    assert done.err == "faultwire: faultwire.v1.options_pb2: no enum in it has the option (faultwire.v1.catalogue)\n"


def test_a_page_that_cannot_be_written_gets_a_sentence(run: Run, folder: Path) -> None:
    """A folder that is not there is named."""
    done = run("catalogue bookshop.binpb -o nowhere/errors.md")
    assert (done.code, done.err) == (2, "faultwire: nowhere/errors.md cannot be written: No such file or directory\n")
