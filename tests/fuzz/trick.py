"""What a hostile client is: a change to an honest shipment, and how the refusal must read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fuzz.shipment import Member, Shipment, digest, path


@dataclass(frozen=True)
class Trick:
    """`expected` is a regular expression for the verdict. `loads`: the engine may have seen honest bytes."""

    name: str
    expected: str
    play: Callable[[Shipment], Any]
    loads: bool = False
    options: tuple[str, ...] = ("--allow", "app:*")


TRICKS: list[Trick] = []


def trick(
    expected: str, *, loads: bool = False, options: tuple[str, ...] = ()
) -> Callable[[Callable[[Shipment], Any]], None]:
    def add(play: Callable[[Shipment], Any]) -> None:
        name = play.__name__.replace("_", " ").strip()
        TRICKS.append(Trick(name, expected, play, loads, ("--allow", "app:*", *options)))

    return add


def add_member(shipment: Shipment, member: Member, at: int = 1) -> None:
    shipment.bend_members = lambda members: members.insert(at, member)


def change(shipment: Shipment, name: str, bend: Callable[[Member], Any]) -> None:
    """Bend the members whose names start with `name`."""

    def bend_members(members: list[Member]) -> None:
        for member in members:
            if member.name.startswith(name):
                bend(member)

    shipment.bend_members = bend_members


def top(shipment: Shipment, bend: Callable[[Member], Any]) -> None:
    change(shipment, path(digest(shipment.images[0].blobs[-1])), bend)
