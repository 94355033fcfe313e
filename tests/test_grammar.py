"""The grammar of config values, case by case, worked out by hand."""

from pathlib import Path

import pytest

from nst_jax import files
from nst_jax.config import grammar
from nst_jax.errors import UserError


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", []),
        (" , ,", []),
        ("a", ["a"]),
        (" a b ,c,, d ", ["a b", "c", "d"]),
        ("f(a, b), c", ["f(a, b)", "c"]),
        ("f:2(a:1, b(c, d)), e", ["f:2(a:1, b(c, d))", "e"]),
        ("f(a, b", ["f(a, b"]),
        ("a), b", ["a)", "b"]),
    ],
)
def test_words_stand_between_commas_outside_parentheses(spec, expected):
    assert grammar.words(spec) == expected


@pytest.mark.parametrize(("text", "expected"), [("2", 2.0), ("0", 0.0), ("1e-3", 0.001)])
def test_a_number(text, expected):
    assert grammar.number(text, "x has the weight") == expected


@pytest.mark.parametrize("text", ["", "two", "-1", "nan", "inf", "-inf", "1e39", "1,5"])
def test_no_number(text):
    with pytest.raises(UserError, match=r"^x has the weight .*(give a number|must be 0 or more)$"):
        grammar.number(text, "x has the weight")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", {}),
        (" relu1_1:0.2,conv3_1 ", {"relu1_1": 0.2, "conv3_1": 1.0}),
        ("relu5_4 : 1e2 , relu1_1:0", {"relu5_4": 100.0, "relu1_1": 0.0}),
    ],
)
def test_layers(spec, expected):
    assert grammar.parse_layers(spec, "vgg19") == expected


LOSSES = {"gram": "relu1_1:3, relu2_1", "sliced": "relu4_1", "w2": "relu5_1:7"}


@pytest.mark.parametrize(
    ("spec", "layers", "expected"),
    [
        ("", "relu1_1", {}),
        ("gram", "", {"gram": {"relu1_1": 3.0, "relu2_1": 1.0}}),
        ("gram:2", "", {"gram": {"relu1_1": 6.0, "relu2_1": 2.0}}),
        ("gram:0", "relu3_1:5", {"gram": {"relu3_1": 0.0}}),
        ("gram : 0.5 (relu1_1:2, relu1_2)", "", {"gram": {"relu1_1": 1.0, "relu1_2": 0.5}}),
        (
            "gram, sliced:4(relu2_1:0.5), w2",
            "relu3_1:2",
            {"gram": {"relu3_1": 2.0}, "sliced": {"relu2_1": 2.0}, "w2": {"relu3_1": 2.0}},
        ),
    ],
)
def test_losses(spec, layers, expected):
    assert grammar.parse_losses(spec, layers, LOSSES, "vgg19") == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", {}),
        ("day.jpg", {"day.jpg": 1.0}),
        ("day.jpg:0.5", {"day.jpg": 1.0}),
        ("night.jpg:3, day.jpg", {"night.jpg": 0.75, "day.jpg": 0.25}),
        ("a b.jpg , c(1, 2).jpg:0", {"a b.jpg": 1.0, "c(1, 2).jpg": 0.0}),
        ("C:/a.jpg, /d:x/b.jpg:1", {"C:/a.jpg": 0.5, "/d:x/b.jpg": 0.5}),
    ],
)
def test_pictures(spec, expected):
    assert grammar.parse_pictures(spec) == expected


def test_regions():
    assert grammar.parse_region_weights("") == {}
    assert grammar.parse_region_weights("sky:2, a house : 0.5, #ff0000:0") == {
        "sky": 2.0,
        "a house": 0.5,
        "#ff0000": 0.0,
    }


@pytest.mark.parametrize(
    ("parse", "spec", "names"),
    [
        ("layers", "relu6_1", "unknown layer 'relu6_1'; vgg19 has conv1_1"),
        ("layers", "relu1_1:2:3", "relu1_1 has the lambda '2:3'"),
        ("layers", "relu1_1, relu1_1:2", "layer relu1_1 is named twice"),
        ("layers", "relu1_1:", "relu1_1 has the lambda ''"),
        ("layers", "relu1_1:-0.1", "relu1_1 has the lambda -0.1; it must be 0 or more"),
        ("losses", "gramm", "unknown loss 'gramm'; there are gram, sliced, w2"),
        ("losses", "gram, gram:2", "loss gram is named twice"),
        ("losses", "gram:x", "loss gram has the weight 'x'"),
        ("losses", "gram:-1", "loss gram has the weight -1"),
        ("losses", "gram()", "loss gram has no layer"),
        ("losses", "gram(relu1_1:x)", "layer relu1_1 has the lambda 'x'"),
        ("losses", "gram(relu1_1)2", "unknown loss 'gram(relu1_1)2'"),
        ("losses", "gram(relu1_1", "unknown loss 'gram(relu1_1'"),
        ("pictures", "a.jpg, a.jpg:2", "picture a.jpg is named twice"),
        ("pictures", "a.jpg:-1", "picture a.jpg has the weight -1"),
        ("pictures", "a.jpg:nan", "picture a.jpg has the weight nan"),
        ("pictures", "a.jpg:0, b.jpg:0", "one must be above 0"),
        ("pictures", "a.jpg:3e38, b.jpg:3e38", "3e38"),
        ("regions", "sky", "region 'sky'"),
        ("regions", "sky:x", "region 'sky' has the weight 'x'"),
        ("regions", "sky:1, sky:2", "region 'sky' is named twice"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(parse, spec, names):
    parsers = {
        "layers": lambda: grammar.parse_layers(spec, "vgg19"),
        "losses": lambda: grammar.parse_losses(spec, "relu1_1", LOSSES, "vgg19"),
        "pictures": lambda: grammar.parse_pictures(spec),
        "regions": lambda: grammar.parse_region_weights(spec),
    }
    with pytest.raises(UserError) as caught:
        parsers[parse]()
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('"Monet, Impression.jpg":3, day.jpg', {"Monet, Impression.jpg": 0.75, "day.jpg": 0.25}),
        ("'a:2.jpg'", {"a:2.jpg": 1.0}),
        ("it's.jpg, b.jpg", {"it's.jpg": 0.5, "b.jpg": 0.5}),
        (("a, b.jpg", ("c:1.jpg", 3)), {"a, b.jpg": 0.25, "c:1.jpg": 0.75}),
        (["night.jpg:3", "day.jpg"], {"night.jpg": 0.75, "day.jpg": 0.25}),
        ((), {}),
    ],
)
def test_names_in_quotes_and_in_sequences(value, expected):
    assert grammar.parse_pictures(value) == expected


NAMES = [
    "Claude_Monet,_Impression,_soleil_levant.jpg",
    "a, b.jpg",
    "photo (1).jpg",
    "smile :(.jpg",
    "odd) paren.jpg",
    "a=b.jpg",
    "12:30.jpg",
    "ratio 4:3",
    "night:1e5",
    "x:nan",
    "a;b.jpg",
    "'quote'.jpg",
    'say "hi".jpg',
    "naïve café.jpg",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_written(name, tmp_path, monkeypatch):
    """In quotes; and without quotes where the file exists."""
    monkeypatch.chdir(tmp_path)
    written = grammar.quoted(name)
    assert grammar.parse_pictures(f"{written}:3, other.jpg") == {name: 0.75, "other.jpg": 0.25}
    assert grammar.parse_masks(f"sky={written}, ground=") == {"sky": name, "ground": ""}
    assert grammar.parse_files(f"content, {written}") == ["content", name]
    (tmp_path / name).touch()
    assert grammar.parse_pictures(name) == {name: 1.0}
    assert grammar.parse_pictures(f"other.jpg, {name}") == {"other.jpg": 0.5, name: 0.5}
    assert grammar.parse_pictures(f"{name}:3, other.jpg") == {name: 0.75, "other.jpg": 0.25}
    assert grammar.parse_masks(f"sky={name}, ground=") == {"sky": name, "ground": ""}
    assert grammar.parse_masks(name) == name
    assert grammar.parse_style_masks(name, 2) == [name, {}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("  ", {}),
        ("sky=masks/sky.png, house = b.png", {"sky": "masks/sky.png", "house": "b.png"}),
        ("sky=,", {"sky": ""}),
        ("#ff0000=a=b.png", {"#ff0000": "a=b.png"}),
        (" my, guide.png ", "my, guide.png"),
    ],
)
def test_masks(text, expected):
    assert grammar.parse_masks(text) == expected


def test_masks_of_several_styles():
    assert grammar.parse_style_masks("", 2) == [{}, {}]
    assert grammar.parse_style_masks("sky=a.png", 1) == [{"sky": "a.png"}]
    assert grammar.parse_style_masks("sky=a.png, hill=; ;c.png", 4) == [
        {"sky": "a.png", "hill": ""},
        {},
        "c.png",
        {},
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grammar.parse_masks("sky=a.png, sky=b.png"), "region 'sky' is named twice"),
        (lambda: grammar.parse_masks("sky=a.png, b.png"), "'b.png' names no region"),
        (lambda: grammar.parse_masks("=a.png"), "'=a.png' names no region"),
        (lambda: grammar.parse_style_masks("sky=;sky=;", 2), "for 3 style.* there are 2"),
        (
            lambda: grammar.parse_losses("gram:1e20(relu1_1:1e20)", "", LOSSES, "vgg19"),
            "loss gram at relu1_1 has the weight 1e.20 x 1e.20; it must be 3e.38 at most",
        ),
        (
            lambda: grammar.parse_losses(
                "w2(relu2_1:1, relu1_1)", "", LOSSES, "vgg19", {"w2": slice(-1, None)}
            ),
            "weighs relu2_1 together with the layers before it",
        ),
    ],
)
def test_mistakes_in_masks_and_weights(call, message):
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_file_of_the_whole_text_wins_with_spaces_and_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (" leading.jpg", "trailing .jpg ", "~nobody.jpg"):
        (tmp_path / name).write_bytes(b"")
        assert grammar.is_file(name)
        assert grammar.parse_pictures(name) == {name: 1.0}
        assert grammar.parse_masks(name) == name
        assert grammar.parse_files(name) == [name]
    assert not grammar.is_file("~no_such_user/else.jpg")
    assert files.named("~no_such_user/else.jpg") == Path("~no_such_user/else.jpg")
    assert files.named("~/x.jpg") == Path.home() / "x.jpg"
