"""The made-up shop: products with titles as shops write them, and pairs with the reason why they go together."""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from PIL.Image import Image

from models.demo import pictures, words
from models.demo.words import Part

#: Where a material comes from (for DerivedFrom); the others come from nothing that a shopper would name.
ORIGINS = {
    "cotton": "cotton plants", "wool": "sheep", "wood": "trees", "paper": "trees", "leather": "animal hides",
    "rubber": "rubber trees", "glass": "sand", "ceramic": "clay", "steel": "iron ore",
}  # fmt: skip
MATERIALS = (*ORIGINS, "plastic", "metal", "nylon", "foam", "wax")
ADJECTIVES = (
    "waterproof", "heavy duty", "lightweight", "portable", "adjustable", "rechargeable", "foldable", "compact",
    "premium", "professional", "non-slip", "reusable", "durable", "classic", "mini", "large", "deluxe", "soft",
    "extra strong", "washable", "organic", "handmade", "universal", "quick", "double", "original", "slim", "wide",
)  # fmt: skip
_SIZES = (
    "size s",
    "size m",
    "size l",
    "x-large",
    "medium",
    "small",
    "a4",
    "12 inch",
    "30 cm",
    "500 ml",
    "1 kg",
    "10x42",
)


@dataclass(frozen=True)
class Goal:
    """Why people buy; the fields are those of goals.toml."""

    name: str
    ing: str
    do: str
    result: str
    gear: str
    want: str
    symbol: str


@dataclass(frozen=True)
class Kind:
    """What a product is. One that no goal knows has no goals."""

    name: str
    shape: str
    materials: tuple[str, ...]
    goals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Product:
    """A product and the truth about it. Colour, pattern and material are told by the title only where `titled`."""

    title: str
    brand: str
    kind: Kind
    colour: str
    pattern: str
    material: str
    titled: frozenset[str]
    adjectives: tuple[str, ...]
    size: str
    count: str
    #: A word that the title ends in behind `for`, or none.
    purpose: str
    #: Whether it has a picture, and the seed of its drawing.
    pictured: bool
    seed: int

    def picture(self, side: int = 0) -> Image:
        """The drawing, `side` pixels square; without a side its size varies, as shops' pictures do."""
        side = side or (64, 96, 128)[self.seed % 3]
        return pictures.draw(self.kind.shape, self.colour, self.pattern, self.seed, side)

    @property
    def seen(self) -> frozenset[str]:
        """The attributes that the title or the picture shows."""
        return self.titled | ({"colour", "pattern"} if self.pictured else set())


#: What ties a pair: a known goal, an unknown topic that both titles name, one kind, nothing but their being bought
#: together, or (known kinds without a common goal) nothing at all.
Tie = Literal["goal", "topic", "same", "apart", "unrelated"]
TIES: dict[Tie, float] = {"goal": 0.38, "topic": 0.2, "same": 0.12, "apart": 0.18, "unrelated": 0.12}


@dataclass(frozen=True)
class Pair:
    """Two products bought together, and why."""

    a: Product
    b: Product
    tie: Tie
    goal: Goal | None = None
    topic: str = ""


@cache
def goals() -> dict[str, Goal]:
    """The goals by name."""
    return {
        name: Goal(name, **{key: value for key, value in fields.items() if key != "kinds"})
        for name, fields in _table().items()
    }


@cache
def kinds() -> dict[str, Kind]:
    """The known kinds by name."""
    found: dict[str, Kind] = {}
    for goal, fields in _table().items():
        for line in fields["kinds"]:
            name, shape, materials = (part.strip() for part in line.split("|"))
            before = found[name].goals if name in found else ()
            found[name] = Kind(name, shape, tuple(m.strip() for m in materials.split(",")), (*before, goal))
    return found


@cache
def kinds_of(goal: str) -> tuple[Kind, ...]:
    """The kinds that serve a goal."""
    return tuple(kind for kind in kinds().values() if goal in kind.goals)


@cache
def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads((resources.files("models.demo") / "goals.toml").read_text("utf-8"))


def unknown_kind(rng: random.Random, part: Part) -> Kind:
    """A kind that nobody has heard of, with the picture and material of some known one."""
    like = rng.choice(list(kinds().values()))
    return Kind(words.unknown(rng, part), like.shape, like.materials)


def pair(rng: random.Random, part: Part, tie: Tie | None = None, alike: float = 1.0) -> Pair:
    """A pair with its reason; brand, colour, pattern and material are shared now and then, `alike` times as often."""
    tie = tie or rng.choices(list(TIES), list(TIES.values()))[0]
    goal, topic = None, ""
    if tie == "goal":
        goal = rng.choice(list(goals().values()))
        first, second = rng.sample(kinds_of(goal.name), 2)
    elif tie == "same":
        first = second = _any_kind(rng, part, known=0.4)
        goal = goals()[first.goals[0]] if first.goals else None
    elif tie == "unrelated":
        first = _any_kind(rng, part, known=1)
        second = rng.choice([kind for kind in kinds().values() if not set(kind.goals) & set(first.goals)])
    else:
        # One known kind at the most: two would be bought for their goal, or for nothing.
        first, second = unknown_kind(rng, part), _any_kind(rng, part, known=0.25)
        if rng.random() < 0.5:
            first, second = second, first
        topic = words.unknown(rng, part) if tie == "topic" else ""
    a = product(rng, part, first, topic=topic)
    shared = {name for name, share in (("brand", 0.25), ("colour", 0.25), ("pattern", 0.2), ("material", 0.3))
              if rng.random() < share * alike}  # fmt: skip
    b = product(rng, part, second, topic=topic, like=a, alike=shared)
    return Pair(a, b, tie, goal, topic)


def _any_kind(rng: random.Random, part: Part, known: float) -> Kind:
    return rng.choice(list(kinds().values())) if rng.random() < known else unknown_kind(rng, part)


def product(
    rng: random.Random,
    part: Part,
    kind: Kind,
    topic: str = "",
    like: Product | None = None,
    alike: frozenset[str] | set[str] = frozenset(),
) -> Product:
    """A product of the kind; what `alike` names it has in common with `like`."""
    colour = rng.choice(list(pictures.COLOURS))
    pattern = "plain" if rng.random() < 0.25 else rng.choice(pictures.PATTERNS)
    material = rng.choice(kind.materials)
    brand = words.brand(rng, part)
    titled = {name for name, share in (("colour", 0.4), ("pattern", 0.1), ("material", 0.35)) if rng.random() < share}
    if like is not None:
        colour = like.colour if "colour" in alike else colour
        pattern = like.pattern if "pattern" in alike else pattern
        brand = like.brand if "brand" in alike else brand
        if "material" in alike and like.material in kind.materials:
            material = like.material
            titled |= {"material"} & like.titled
    if pattern == "plain":
        titled -= {"pattern"}
    adjectives = [
        words.unknown(rng, part) if rng.random() < 0.35 else rng.choice(ADJECTIVES)
        for _ in range(rng.choices((0, 1, 2, 3), (4, 4, 2, 1))[0])
    ]
    size = rng.choice(_SIZES) if rng.random() < 0.3 else ""
    number = rng.choice((2, 3, 4, 5, 6, 8, 10, 12, 20, 24, 50, 100))
    count = rng.choice(
        (f"pack of {number}", f"{number} count", f"set of {number}", f"{number} pack", f"{number} pieces")
    )
    purpose = ""
    if topic:
        if rng.random() < 0.4:
            purpose = topic
        else:
            adjectives.append(topic)
    elif rng.random() < 0.15:
        purpose = words.unknown(rng, part)
    made = Product(
        title="", brand=brand.lower(), kind=kind, colour=colour, pattern=pattern, material=material,
        titled=frozenset(titled), adjectives=tuple(adjectives), size=size,
        count=count if rng.random() < 0.3 else "", purpose=purpose, pictured=rng.random() < 0.7,
        seed=rng.getrandbits(31),
    )  # fmt: skip
    return Product(**{**made.__dict__, "title": _title(rng, part, made, brand)})


def _title(rng: random.Random, part: Part, made: Product, brand: str) -> str:
    """Brand, number, adjectives, kind, and a tail of purpose, size, count and colour in any order."""
    before, tail = list(made.adjectives), []
    for name in ("pattern", "material", "colour"):
        if name in made.titled:
            value = getattr(made, name)
            if rng.random() < 0.5:
                before.append(value)
            else:
                tail.append(_apart(rng, value))
    purpose = f" for {made.purpose}" if made.purpose else ""
    if rng.random() < 0.15:
        purpose += f" with {words.unknown(rng, part)} {words.unknown(rng, part)}"
    tail += [_apart(rng, value) for value in (made.size, made.count) if value]
    if rng.random() < 0.12:
        tail.append(_apart(rng, f"{rng.choice(ADJECTIVES)} {words.unknown(rng, part)}"))
    if rng.random() < 0.12:
        # Some shops' titles go on and on.
        tail.append(", " + " ".join(words.unknown(rng, part) for _ in range(rng.randint(4, 10))))
    rng.shuffle(tail)
    code = ""
    if rng.random() < 0.25:
        letters = rng.choice("ABCDGHKLMPRSTX") + rng.choice("ABCDEFX1234567890")
        code = f" {letters}{rng.choice(('', '-'))}{rng.randint(1, 9999)}"
    kind = made.kind.name + (rng.choice((" set", " kit")) if rng.random() < 0.06 else "")
    title = f"{brand}{code} {' '.join([*before, kind])}".replace("  ", " ")
    title = (title if rng.random() < 0.15 else title.title()) + purpose.title() + "".join(tail).title()
    return title.strip()


def _apart(rng: random.Random, value: str) -> str:
    return rng.choice((f", {value}", f", {value}", f" ({value})", f" - {value}", f" {value}"))
