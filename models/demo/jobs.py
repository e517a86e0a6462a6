"""The three jobs on one engine, as the pipeline does them, over pairs of the shop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mindstream.inference.v1.common_pb2 import ProductView
from PIL.Image import Image

from models.demo import trees
from models.demo.lessons import Judgement
from models.demo.shop import Pair, Product
from models.demo.trees import Tree
from services.common.relations import RELATIONS
from services.common.settings import Settings
from services.extractor.server import parsed
from services.generator.server import branch, completed
from services.lvlm.engine import Branch, Engine, Prefix, Usage


@dataclass(frozen=True)
class Answer:
    """A generated intention and its judgement: P(yes), or 0 for an empty text, which is not asked about."""

    titles: tuple[str, str]
    relation: str
    text: str
    score: float
    #: 0 is greedy, the others are sampled.
    sample: int = 0


@dataclass
class Model:
    """The three jobs; settings say how long answers may be, and how they are sampled."""

    engine: Engine
    settings: Settings = field(default_factory=Settings)

    def features(self, product: Product, picture: Image | None) -> ProductView:
        """What the extractor says of the title and that picture."""
        tree = trees.of_product(replace(product, pictured=picture is not None))
        answers, _ = self.engine.complete(
            _prefix(replace(tree, picture=picture)), _branches(tree), self.settings.features_max_new_tokens
        )
        found = parsed(answers)
        return ProductView(title=product.title, description=found.description, features=found.features, uses=found.uses)

    def views(self, pair: Pair) -> trees.Views:
        """Both products as the extractor sees them."""
        a, b = (self.features(p, p.picture() if p.pictured else None) for p in (pair.a, pair.b))
        return a, b

    def generated(self, pair: Pair, views: trees.Views, samples: int = 1, seed: int = 0) -> tuple[list[Answer], Usage]:
        """Candidates under all relations, not judged yet."""
        places = [(relation.name, sample) for relation in RELATIONS for sample in range(samples)]
        asked = [branch(relation, sample, seed) for relation, sample in places]
        told, usage = self.engine.complete(
            _prefix(trees.of_intentions(pair, views)), asked, self.settings.max_new_tokens
        )
        titles = (pair.a.title, pair.b.title)
        return [
            Answer(titles, relation, completed(answer.text), 0.0, sample)
            for (relation, sample), answer in zip(places, told, strict=True)
        ], usage

    def judged(self, pair: Pair, candidates: Sequence[Answer], views: trees.Views) -> tuple[list[Answer], Usage]:
        """The candidates with their scores."""
        asked = [Judgement(one.relation, one.text, True) for one in candidates if one.text]
        if not asked:
            return list(candidates), Usage(0, 0)
        tree = trees.of_judgements(pair, asked, views)
        scores, usage = self.engine.score(_prefix(tree), _branches(tree))
        left = iter(scores)
        return [replace(one, score=next(left)) if one.text else one for one in candidates], usage

    def intentions(self, pair: Pair) -> list[Answer]:
        """All relations' intentions with their scores, features first."""
        views = self.views(pair)
        return self.judged(pair, self.generated(pair, views)[0], views)[0]

    def scores(self, pair: Pair, asked: Sequence[Judgement], views: trees.Views | None = None) -> list[float]:
        """P(yes) of candidates."""
        tree = trees.of_judgements(pair, asked, views)
        return self.engine.score(_prefix(tree), _branches(tree))[0]


def _prefix(tree: Tree) -> Prefix:
    return Prefix(tree.text, (tree.picture,) if tree.picture else ())


def _branches(tree: Tree) -> list[Branch]:
    return [Branch(lesson.question, lesson.begun) for lesson in tree.branches]
