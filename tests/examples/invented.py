"""Twenty invented places, what their files say of them, and questions that have an answer there or have none."""

import random
from dataclasses import dataclass
from pathlib import Path

KINDS = [
    "lighthouse", "bakery", "railway", "orchard", "chess club", "reservoir", "orchestra", "ferry", "museum",
    "observatory", "vineyard", "clock tower", "school", "hospital", "market hall", "theatre", "weather station",
    "printing house", "botanical garden", "salt mine",
]  # fmt: skip

STARTS = ["Bra", "Cor", "Del", "Fen", "Gru", "Hal", "Jor", "Kes", "Lum", "Mor", "Nev", "Ost", "Pell", "Quil", "Tarn"]
ENDS = ["dale", "fjell", "gate", "holm", "mere", "nick", "over", "rith", "stad", "wick"]
FIRST = ["Ada", "Bela", "Casimir", "Dorothea", "Edwin", "Farida", "Gustav", "Hanne", "Ivo", "Jolanta", "Klaas", "Lena"]
LAST = ["Abend", "Brandt", "Corvin", "Dahl", "Eskola", "Fiori", "Grabow", "Hruska", "Ilves", "Jansen", "Kovar", "Lund"]
THINGS = ["a brass telescope", "a walnut harp", "an iron anchor", "a silver compass", "a painted globe", "a stone owl"]
COLOURS = ["crimson", "turquoise", "saffron", "violet", "emerald", "ivory"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday"]

#: What a file may say, and a question that this answers, in words that are not all the same.
FACTS = {
    "founder": ("It was founded in {year} by {person}, who had been a carpenter.", "Who founded the {name}?"),
    "year": (
        "The doors of the house were first opened in {year}.",
        "In what year did the {name} first open its doors?",
    ),
    "staff": (
        "{number} people are employed there, half of them in winter only.",
        "How many people does the {name} employ?",
    ),
    "fee": (
        "The entrance fee is {number} crowns, and children pay nothing.",
        "What is the entrance fee of the {name}?",
    ),
    "height": (
        "Its tallest part measures {number} metres above the ground.",
        "How tall is the {name} at its tallest part?",
    ),
    "treasure": (
        "The most precious possession is {thing}, kept behind glass.",
        "What is the most precious possession of the {name}?",
    ),
    "closed": ("Every {day} it stays closed for cleaning.", "On which day does the {name} stay closed?"),
    "paint": (
        "The shutters are painted {colour}, as the council prescribed.",
        "What colour are the shutters of the {name} painted?",
    ),
    "fire": (
        "A fire destroyed the roof in {year} and nobody was hurt.",
        "When was the roof of the {name} destroyed by fire?",
    ),
    "director": (
        "The present director, {person}, lives in the gatekeeper's lodge.",
        "Who is the present director of the {name}?",
    ),
    "animal": (
        "{number} goats graze on the meadow behind the main building.",
        "How many goats graze behind the {name}?",
    ),
    "supplier": (
        "All firewood is delivered by the company {person} and Sons.",
        "Which company delivers firewood to the {name}?",
    ),
}

FILLER = [
    "Visitors are asked to keep to the marked paths and to leave the gates as they were found.",
    "The building has been repaired several times, mostly with timber from the nearby forest.",
    "In spring the river rises and the road along the bank may be closed for a few days.",
    "A small collection of letters tells how people lived here a hundred years ago.",
    "The council pays for the upkeep, and a society of friends collects donations every autumn.",
    "Guided tours start at the main entrance; groups should write a week ahead.",
]

NOWHERE = [
    "What is the capital of Mongolia?",
    "How do I change the tyre of a bicycle?",
    "Who wrote the opera about the flying Dutchman?",
    "Which vitamin do lemons contain?",
]


@dataclass(frozen=True)
class Place:
    name: str
    file: str
    said: dict[str, str]
    text: str


@dataclass(frozen=True)
class Asked:
    """A question, and the file with its answer and a word of it, or None."""

    question: str
    file: str | None
    sentence: str = ""


def invent(seed: int) -> list[Place]:
    chance = random.Random(seed)
    towns = chance.sample([start + end for start in STARTS for end in ENDS], len(KINDS) // 2)
    return [_place(chance, f"{town} {kind}") for town, kind in zip(towns * 2, KINDS, strict=True)]


def write(places: list[Place], folder: Path) -> None:
    for place in places:
        (folder / place.file).write_text(place.text, encoding="utf-8")


def answerable(places: list[Place], seed: int) -> list[Asked]:
    chance = random.Random(seed)
    return [_ask(place, chance.choice(sorted(place.said))) for place in places]


def unanswerable(places: list[Place], seed: int) -> list[Asked]:
    """Of nothing that is there; of places that are not there; of what a file does not say and others do."""
    chance = random.Random(seed)
    unknown = [FACTS[fact][1].format(name="Zanzimar submarine yard") for fact in chance.sample(sorted(FACTS), 3)]
    silent = [
        FACTS[chance.choice(sorted(set(FACTS) - set(place.said)))][1].format(name=place.name)
        for place in chance.sample(places, 3)
    ]
    return [Asked(question, None) for question in NOWHERE + unknown + silent]


def _ask(place: Place, fact: str) -> Asked:
    return Asked(FACTS[fact][1].format(name=place.name), place.file, place.said[fact])


def _place(chance: random.Random, name: str) -> Place:
    said = {fact: FACTS[fact][0].format(**_values(chance)) for fact in chance.sample(sorted(FACTS), 6)}
    sentences = [*said.values(), *chance.sample(FILLER, 3)]
    chance.shuffle(sentences)
    style = chance.choice([_sections, _prose, _titled])
    suffix = "md" if style is _sections else "txt"
    return Place(name, f"{chance.randrange(10_000):04}.{suffix}", said, style(name, sentences))


def _values(chance: random.Random) -> dict[str, object]:
    return {
        "year": chance.randrange(1700, 1990),
        "number": chance.randrange(11, 99),
        "person": f"{chance.choice(FIRST)} {chance.choice(LAST)}",
        "thing": chance.choice(THINGS),
        "colour": chance.choice(COLOURS),
        "day": chance.choice(DAYS),
    }


def _sections(name: str, sentences: list[str]) -> str:
    parts = [f"# The {name}"]
    for number, title in enumerate(["Past", "Present", "Practical matters"]):
        parts += [f"## {title}", " ".join(sentences[3 * number : 3 * number + 3])]
    return "\n\n".join(parts) + "\n"


def _prose(name: str, sentences: list[str]) -> str:
    first = f"The {name} is known well beyond the valley. "
    return "\n\n".join([first + " ".join(sentences[:3]), " ".join(sentences[3:6]), " ".join(sentences[6:])]) + "\n"


def _titled(name: str, sentences: list[str]) -> str:
    return f"{name.upper()}\n\n" + "\n".join(f"- {sentence}" for sentence in sentences) + "\n"
