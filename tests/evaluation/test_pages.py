"""Pages hold what they were given, as text, and need nothing from elsewhere."""

from base64 import b64decode
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidiff.evaluation import pages

PNG = b"\x89PNG\r\n\x1a\n"  # as far as a page looks into it
# What HTML cannot hold: NUL, lone surrogates, and carriage returns, which it reads as line feeds.
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), min_size=1)
nasty = st.one_of(
    texts, st.sampled_from(["</script><script>alert(1)</script>", '"><img onerror=x>', "&lt;", "'"])
)


class Elements(HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text = [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def everything(text):
    """A page with a text wherever one may stand."""
    blocks = [
        pages.heading(text),
        pages.paragraph(text),
        pages.table([(text, text)], (text, text)),
        pages.picture(PNG, text),
        pages.slider(text, [(PNG, text), (PNG, text)]),
    ]
    return Elements(pages.page(text, blocks, refresh=5))


@given(nasty)
def test_any_text_stays_text(text):
    page, harmless = everything(text), everything("x")
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]
    assert [attributes.keys() for _, attributes in page.elements] == [a.keys() for _, a in harmless.elements]
    texts = "".join(page.text)
    assert texts.count(text) >= "".join(harmless.text).split().count("x")
    assert {image["alt"] for image in page.named("img")} == {text}


def test_a_page_loads_nothing_from_elsewhere():
    page = everything("x")
    sources = [a[key] for _, a in page.elements for key in ("src", "href") if key in a]
    assert len(sources) == 4 and all(source.startswith("data:") for source in sources)
    assert "http" not in pages.STYLE + pages.SCRIPT and "url(" not in pages.STYLE
    images = [a["src"].removeprefix("data:image/png;base64,") for a in page.named("img")]
    assert [b64decode(image) for image in images] == [PNG] * 3


@pytest.mark.parametrize("count", [2, 3, 7])
def test_a_slider_shows_its_last_frame_first(count):
    page = Elements(pages.slider("name", [(PNG, f"caption {i}") for i in range(count)]))
    assert [("hidden" in a) for a in page.named("div")] == [True] * (count - 1) + [False]
    (control,) = page.named("input")
    assert (control["min"], control["max"], control["value"]) == ("0", str(count - 1), str(count - 1))
    assert [a["alt"] for a in page.named("img")] == [f"caption {i}" for i in range(count)]


def test_one_frame_needs_no_slider():
    assert pages.slider("name", [(PNG, "caption")]) == pages.picture(PNG, "caption")


def test_a_page_reloads_only_where_it_is_to():
    def reloads(page):
        return [a for a in Elements(page).named("meta") if a.get("http-equiv") == "refresh"]

    assert reloads(pages.page("title", [])) == []
    assert reloads(pages.page("title", [], refresh=7))[0]["content"] == "7"
