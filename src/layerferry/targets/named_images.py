"""What names stand for on a target, the images of a repository there, and their removal: questions and answers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from layerferry.ci.escape import beginning
from layerferry.errors import TargetError
from layerferry.oci import limits
from layerferry.oci.image import is_digest
from layerferry.protocol import Reply, Verb
from layerferry.targets.conversation import Conversation


@dataclass(slots=True)
class TargetImage:
    """An image of a target, by its ID there, with all of its names, as the engine writes them.

    `created` is what the engine says of when it was built, or empty. `diff_ids` are known where containers go by them.
    """

    id: str
    names: list[str] = field(default_factory=list)
    created: str = ""
    diff_ids: tuple[str, ...] = ()


@dataclass(slots=True)
class ImagesThere:
    """The images of some repositories, by ID; and of all containers the names, IDs or chain IDs that they use."""

    images: dict[str, TargetImage] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


def resolve(conversation: Conversation, names: Iterable[str]) -> dict[str, str]:
    """By full name, the image ID that the target shows under it; without those that are not there."""
    wanted = list(dict.fromkeys(names))
    found: dict[str, str] = {}
    for words in conversation.question((Verb.RESOLVE, *wanted), "what its names stand for", limits.ANSWERS):
        match words:
            case [Reply.RESOLVED, name, image_id] if name in wanted and name not in found and is_digest(image_id):
                found[name] = image_id
            case _:
                raise _odd(conversation, words)
    return found


def look(conversation: Conversation, repositories: Iterable[str], ids: Iterable[str]) -> ImagesThere:
    """The images of repositories, as the engine writes these, and those of some IDs."""
    there, size = ImagesThere(), 0
    words = (Verb.IMAGES, *dict.fromkeys([*repositories, *ids]))
    for number, line in enumerate(conversation.question(words, "its images and containers", limits.ANSWERS)):
        size += sum(len(word) + limits.WORD_HELD for word in line)
        if number > limits.IMAGES_TOLD or size > limits.IMAGES_SAID:
            raise TargetError(f"{conversation.target} tells of more images than any host has")
        _take(conversation, there, line)
    return there


def _take(conversation: Conversation, there: ImagesThere, line: Sequence[str]) -> None:
    match line:
        case [Reply.NAMED, image_id, *names] if is_digest(image_id):
            there.images.setdefault(image_id, TargetImage(image_id)).names += names
        case [Reply.CREATED, image_id, *time]:
            if image_id in there.images:
                there.images[image_id].created = " ".join(time)
        case [Reply.LAYERS, image_id, *diff_ids] if all(map(is_digest, diff_ids)) and len(diff_ids) <= limits.LAYERS:
            if image_id in there.images:
                there.images[image_id].diff_ids = tuple(diff_ids)
        case [Reply.USED, word]:
            there.used.add(word)
        case _:
            raise _odd(conversation, line)


def remove(conversation: Conversation, image: TargetImage) -> str:
    """Let an image go, with its names; why it stays, or nothing. What an engine refuses is never forced."""
    why = "it does not say what came of it"
    for words in conversation.question((Verb.REMOVE, image.id, *image.names), "it to remove an image", limits.NAMED):
        match words:
            case [Reply.REMOVED, image_id] if image_id == image.id:
                why = ""
            case [Reply.STAYS, image_id, *text] if image_id == image.id:
                why = beginning(" ".join(text), limits.SHOWN) or "the engine does not say why"
            case _:
                raise _odd(conversation, words)
    return why


def _odd(conversation: Conversation, words: Sequence[str]) -> TargetError:
    return TargetError(
        f"{conversation.target} says {beginning(' '.join(words), 200)!r} of its images, which has no meaning"
    )
