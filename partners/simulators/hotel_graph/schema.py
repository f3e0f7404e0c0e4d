"""The hotel group's subgraph on Strawberry. Names are those of schema.graphql."""

from enum import Enum
from typing import TYPE_CHECKING, Any, NewType, Self, cast

import strawberry
from graphql import GraphQLError
from strawberry import UNSET, federation
from strawberry.schema.config import StrawberryConfig

from partners.simulators.hotel_graph.desk import BOOK, Desk

if TYPE_CHECKING:
    Fen = int
else:
    Fen = NewType("Fen", int)

Info = strawberry.Info[Desk, None]


@strawberry.enum(name="Yunqi_Beds")
class Beds(Enum):
    TWIN = "TWIN"
    KING = "KING"


@strawberry.interface(name="Yunqi_Room")
class Room:
    code: strawberry.ID
    house: "House"
    squareMetres: int
    beds: Beds

    @classmethod
    def resolve_reference(cls, code: str, house: dict[str, Any]) -> "Room | None":
        return next(
            (
                room(row)
                for row in BOOK["rooms"]
                if (row["code"], row["house"]) == (code, house["id"])
            ),
            None,
        )


@federation.type(name="Yunqi_Standard", keys=["code house { id }"])
class Standard(Room):
    desk: bool


@federation.type(name="Yunqi_Suite", keys=["code house { id }"])
class Suite(Room):
    view: str


@federation.type(name="Yunqi_House", keys=["id"])
class House:
    id: strawberry.ID
    nameZh: str
    city: str

    @strawberry.field
    def rooms(self) -> list[Room]:
        return [room(row) for row in BOOK["rooms"] if row["house"] == self.id]

    @classmethod
    def resolve_reference(cls, id: str) -> Self | None:
        return next((cls(**row) for row in BOOK["houses"] if row["id"] == id), None)


@strawberry.type(name="Yunqi_Stay")
class Stay:
    door: str
    offers: list["Offer"]


@federation.type(keys=["id"])
class Offer:
    id: strawberry.ID
    cashFen: Fen = federation.field(external=True, default=None)

    @strawberry.field
    def yunqi_rooms(self, beds: Beds | None = UNSET) -> list[Room] | None:
        if (sold := self._sold()) is None:
            return None
        found = [_by_code(code) for code in sold["rooms"]]
        return [each for each in found if not beds or each.beds is beds]

    @federation.field(requires=["cashFen"])
    def yunqi_depositFen(self) -> Fen | None:
        if (sold := self._sold()) is None:
            return None
        if not isinstance(self.cashFen, int):
            raise GraphQLError("cashFen was not sent")
        percent: int = sold["depositPercent"]
        return self.cashFen * percent // 100

    @strawberry.field
    def yunqi_evening(self) -> list["Offer"] | None:
        sold = self._sold()
        return None if sold is None else [Offer(id=each) for each in sold["evening"]]

    def _sold(self) -> dict[str, Any] | None:
        return cast("dict[str, Any] | None", BOOK["offers"].get(self.id))

    @classmethod
    def resolve_reference(cls, id: str, cashFen: Any = None) -> Self:
        return cls(id=strawberry.ID(id), cashFen=cashFen)


@federation.type(keys=["id"])
class Merchant:
    id: strawberry.ID
    nameZh: str = federation.field(external=True, default="")

    @federation.field(requires=["nameZh"])
    def yunqi_welcome(self) -> str | None:
        if self.id != BOOK["merchant"]:
            return None
        if not self.nameZh:
            raise GraphQLError("nameZh was not sent")
        return f"{self.nameZh}欢迎您"

    @classmethod
    def resolve_reference(cls, id: str, nameZh: str = "") -> Self:
        return cls(id=strawberry.ID(id), nameZh=nameZh)


@federation.type(keys=["id"])
class Redemption:
    id: strawberry.ID

    @strawberry.field
    def yunqi_stay(self, info: Info) -> Stay | None:
        offers = [Offer(id=strawberry.ID(each)) for each in BOOK["stay"]["offers"]]
        return Stay(door=info.context.door(self.id), offers=offers)

    @classmethod
    def resolve_reference(cls, id: str) -> Self:
        return cls(id=strawberry.ID(id))


@strawberry.type
class Query:
    @strawberry.field
    def yunqi_houses(self, city: str | None = UNSET) -> list[House] | None:
        return [House(**row) for row in BOOK["houses"] if not city or row["city"] == city]


def room(row: dict[str, Any]) -> Room:
    """A room as the group's book has it."""
    kind = {"Yunqi_Standard": Standard, "Yunqi_Suite": Suite}[row["type"]]
    facts = {name: value for name, value in row.items() if name != "type"}
    house = House.resolve_reference(row["house"])
    made: Room = kind(**facts | {"house": house, "beds": Beds(row["beds"])})
    return made


def _by_code(code: str) -> Room:
    return next(room(row) for row in BOOK["rooms"] if row["code"] == code)


SCHEMA = federation.Schema(
    query=Query,
    types=[Offer, Merchant, Redemption, Standard, Suite],
    config=StrawberryConfig(
        auto_camel_case=False, scalar_map={Fen: strawberry.scalar(name="Fen", serialize=int)}
    ),
    federation_version="2.5",
)
