"""The opening of a session: the preamble, whose script is skipped, and the ask, whose unknown words are."""

from collections.abc import Callable
from dataclasses import dataclass

from layerferry.oci.image import is_digest
from layerferry.protocol import VERSION, Verb
from layerferry.receive.frames import Client
from layerferry.receive.refusal import Refusal
from layerferry.receive.visible_images import Ask

LARGEST_SCRIPT = 1 << 20
#: Seconds to the preamble, which a client sends as soon as it is connected. Others, such as scp, wait for us to speak.
_HELLO = 30.0
MOST_IMAGES = 64
MOST_LAYERS = 512


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client asks for, and of which engine. In a dry run nothing is to be changed."""

    asks: list[Ask]
    engine: str
    dry_run: bool


def hello(client: Client) -> None:
    """Read the preamble, and greet."""
    match client.read_line(_HELLO).split(" "):
        case [":", "layerferry", version, length] if version.isdigit() and length.isdigit():
            client.say(f"layerferry {VERSION} receive")
            if version != str(VERSION):
                raise Refusal(f"this is protocol {VERSION}, not {version[:9]}")
            if len(length) > len(str(LARGEST_SCRIPT)) or int(length) > LARGEST_SCRIPT:
                raise Refusal("the script is too long")
            client.skip(int(length))
        case _:
            raise Refusal("here is `layerferry receive`, and nothing else")


def read_ask(client: Client, allowed: Callable[[str], object]) -> Opening:
    """Read the ask; `allowed` refuses names."""
    asks: list[tuple[str, list[str]]] = []
    engine, dry_run = "", False
    while (words := client.read_line().split(" ")) != [Verb.END]:
        match words:
            case [Verb.IMAGE, image_id] if is_digest(image_id) and len(asks) < MOST_IMAGES:
                asks.append((image_id, []))
            case [Verb.LAYER, diff_id] if is_digest(diff_id) and asks and len(asks[-1][1]) < MOST_LAYERS:
                asks[-1][1].append(diff_id)
            case [Verb.ENGINE, engine, *more]:
                if set(more) - {"-"}:  # a namespace, or whose images
                    raise Refusal(f"engine {' '.join(words[1:])[:40]} is not offered")
                engine = engine.removeprefix("-")
            case [Verb.DRY_RUN]:
                dry_run = True
            case [Verb.NAME, text]:
                allowed(text)
            case [Verb.IMAGE | Verb.LAYER, *_]:
                raise Refusal("the ask is broken")
    return Opening([Ask(image_id, tuple(diff_ids)) for image_id, diff_ids in asks], engine, dry_run)
