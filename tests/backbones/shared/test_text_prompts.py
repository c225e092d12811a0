"""Chats around texts: what the tokenizer makes of them, what is cut of them, and which are refused."""

import json

import pytest
from language_models import network, save, tokenizer

from probe.backbones.huggingface import load
from probe.core.errors import InputError
from probe.core.texts import Text

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
CHAT = (
    "{% for m in messages %}from {{ m.role }} {{ m.content | trim }} away {% endfor %}"
    "{% if add_generation_prompt %}from assistant{% endif %}"
)


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    """A decoder with a chat template, and its folder."""
    folder = tmp_path_factory.mktemp("chat")
    network("llama").save_pretrained(folder)
    words = tokenizer(special=False)
    words.add_tokens(["user", "assistant", "system"])
    words.chat_template = CHAT
    words.save_pretrained(folder)
    return folder, words


@pytest.mark.parametrize("system", [None, "the home"])
def test_a_chat_is_what_the_tokenizer_makes_of_it(chats, system):
    folder, words = chats
    backbone = load(str(folder), chat=True, system=system, template="one {text} ")
    said = [{"role": "system", "content": system}] * (system is not None)
    said += [{"role": "user", "content": "one the cat "}]
    expected = words.apply_chat_template(said, add_generation_prompt=True)["input_ids"]
    assert backbone.transform("the cat")["input_ids"].tolist() == expected
    row = backbone.transform(Text("the cat", span=(4, 7)))
    assert words.convert_ids_to_tokens(row["input_ids"][row["span"].bool()]) == ["cat"]
    assert backbone.as_read("the cat").endswith("user one the cat away from assistant")


@pytest.mark.parametrize(("side", "left"), [("right", ["one", "two"]), ("left", ["blue", "green"])])
def test_a_chat_that_is_too_long_keeps_its_frame(chats, side, left):
    folder, words = chats
    backbone = load(str(folder), chat=True, max_length=7, truncation_side=side)
    row = backbone.transform(Text("one two three red blue green", span=(0, 28)))
    found = words.convert_ids_to_tokens(row["input_ids"])
    assert found == ["from", "user", *left, "away", "from", "assistant"]
    assert row["span"].tolist() == [0, 0, 1, 1, 0, 0, 0]
    assert int(row["length"]) == 11
    with pytest.raises(InputError, match="takes 5 tokens around the text, max_length is 5: set"):
        load(str(folder), chat=True, max_length=5).transform("the cat")


def test_the_frame_of_a_chat_is_part_of_the_identity(chats, tmp_path):
    folder, words = chats
    given = [{}, {"chat": True}, {"chat": True, "system": "x"}, {"chat": True, "truncation_side": "left"}]
    identities = [json.dumps(load(str(folder), **options).identity()) for options in given]
    network("llama").save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(CHAT.replace("assistant", "dog"))
    other = json.dumps(load(str(tmp_path), chat=True).identity())
    assert len({*identities, other}) == 5
    assert json.dumps(load(str(tmp_path)).identity()) == identities[0]


def test_a_template_that_prints_the_day_reads_the_same_tomorrow(chats, tmp_path):
    _, words = chats
    network("llama").save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ strftime_now('%d %b %Y') }} " + CHAT)
    assert load(str(tmp_path), chat=True).as_read("a").startswith("26 Jul 2024 ")
    (tmp_path / "chat_template.jinja").write_text("{% set f = '%d' %}{{ strftime_now(f) }} " + CHAT)
    with pytest.raises(InputError, match="prints the day in a format of its own making"):
        load(str(tmp_path), chat=True)


def test_chats_that_cannot_be_had_are_refused(chats, tmp_path):
    folder, words = chats
    plain = str(save(tmp_path / "bert"))
    with pytest.raises(InputError, match=r"tokenizer of bert has no chat template.*backbone\.template"):
        load(plain, chat=True)
    with pytest.raises(InputError, match=r"system is 'x' and no chat is read: set backbone\.chat=true"):
        load(plain, system="x")
    with pytest.raises(InputError, match=r"a row has two texts and backbone\.chat=true reads one: leave"):
        load(str(folder), chat=True).transform(Text("a", "b"))
    network("llama").save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    refuse = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    (tmp_path / "chat_template.jinja").write_text(refuse + CHAT)
    with pytest.raises(InputError, match=r"refuses system and user \(no system\): set backbone\.system=null"):
        load(str(tmp_path), chat=True, system="x")
    assert load(str(tmp_path), chat=True).transform("a")["input_ids"].shape == (6,)
