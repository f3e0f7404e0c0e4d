"""A demo installation: one private folder, a migrated and seeded database, people who can log in.

<home>/gateway.db       the database, unless another is named
<home>/demo.json        the one password of the demo's people, as long as the folder lives
<home>/sandbox/         the partners' side: simulators.json, their state, each merchant's key
<home>/partners.json    the gateway's connections to them
<home>/*.log            what the processes log
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import migrations
from gateway.catalog import service as catalog_service
from gateway.db import Clock, Database, system_now
from gateway.demo import sandbox, seed
from gateway.demo.data import catalog, demo_day
from gateway.merchants import service as merchants
from gateway.oauth import passwords
from gateway.oauth import service as oauth
from gateway.oauth.keys import Vault
from gateway.oauth.scopes import Role
from gateway.settings import Settings
from gateway.settlement import service as settlement

STARTS_AT = datetime.fromisoformat(f"{demo_day()['business_date']}T08:00:00+08:00")
OFFERS = len(catalog()["offers"])
STAFF_ZH = {
    "usr_fin_maker": "财务经办",
    "usr_fin_checker": "财务复核",
    "usr_operator": "运营经办",
    "usr_operator_checker": "运营复核",
    "usr_compliance": "合规专员",
    "usr_regulator": "监管人员",
    "usr_m05_engineer": "星汇影城工程师",
    "usr_m09_till": "惠瑞超市收银台",
}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of the demo who can log in."""

    login: str
    role: Role
    name_zh: str
    merchant_id: str | None = None

    @property
    def is_member(self) -> bool:
        return self.role is Role.MEMBER


@dataclass(frozen=True, slots=True)
class Install:
    """What an installation's owner may know."""

    home: Path
    password: str

    @property
    def sandbox(self) -> Path:
        return self.home / "sandbox"

    @property
    def simulators_file(self) -> Path:
        return self.sandbox / "simulators.json"

    @property
    def ports_file(self) -> Path:
        return self.sandbox / "ports.json"

    def merchant_key(self, merchant_id: str) -> dict[str, Any]:
        """A merchant's private key: it belongs to the merchant, not to the gateway."""
        found: dict[str, Any] = json.loads(
            (self.sandbox / "keys" / f"{merchant_id}.json").read_text(encoding="utf-8")
        )
        return found

    def control(self) -> tuple[str, str]:
        """Address and token of the simulators' control port, while they run."""
        ports = json.loads(self.ports_file.read_text(encoding="utf-8"))
        return ports["control"], ports["control_token"]


def people() -> list[Person]:
    """Everybody who can log in: the catalog's members and staff."""
    found = [
        Person(row["id"], Role.MEMBER, row["name_zh"])
        for row in (*catalog()["members"], *catalog()["demo_members"])
    ]
    for row in catalog()["staff"]:
        role, _, merchant_id = row["role"].partition(":")
        found.append(Person(row["id"], Role(role), STAFF_ZH[row["id"]], merchant_id or None))
    return found


def prepare(settings: Settings, *, port: int) -> Install:
    """Make the folder with the partners' side where it is new; safe to repeat.

    Args:
        port: Where the gateway will listen: the partners send their webhooks there.
    """
    made = _open(settings.home)
    _write_sandbox(made, settings, port)
    return made


async def seeded(settings: Settings, made: Install) -> bool:
    """Bring the database to the newest schema, and seed it if it is empty.

    Returns:
        Whether it was.
    """
    database = Database(settings.url)
    try:
        await migrations.upgrade(database)
        return await _seed(database, settings, made)
    finally:
        await database.close()


def opened(home: Path) -> Install:
    """An installation that is there already.

    Raises:
        FileNotFoundError: There is none in that folder.
    """
    document = json.loads((home / "demo.json").read_text(encoding="utf-8"))
    return Install(home, document["password"])


def _open(home: Path) -> Install:
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    for folder in (home / "sandbox", home / "sandbox/keys", home / "sandbox/state"):
        folder.mkdir(exist_ok=True)
    if not (home / "demo.json").exists():
        sandbox.write_secret(home / "demo.json", {"password": secrets.token_urlsafe(12)})
    return opened(home)


def _write_sandbox(made: Install, settings: Settings, port: int) -> None:
    """The partners' side with its secrets, once; the webhooks' address at every start."""
    gateway_url = f"http://127.0.0.1:{port}"
    connections_file = made.sandbox / "connections.json"
    if connections_file.exists():
        document = json.loads(made.simulators_file.read_text(encoding="utf-8"))
        for stand in document["merchants"] if port else ():  # 0: it is not known here.
            stand["webhook"]["url"] = f"{gateway_url}/events/{stand['id']}"
        sandbox.write_secret(made.simulators_file, document)
    else:
        secret = Vault.open(settings.vault_key_path).derive("pseudonym")
        document, connections = sandbox.build(pseudonym_secret=secret, gateway_url=gateway_url)
        sandbox.write_secret(made.simulators_file, document)
        sandbox.write_secret(connections_file, connections)


def _own_key(made: Install, merchant_id: str) -> Mapping[str, Any]:
    """The public half of a merchant's own key."""
    path = made.sandbox / "keys" / f"{merchant_id}.json"
    if not path.exists():
        key = ECKey.generate_key("P-256", auto_kid=True)
        sandbox.write_secret(path, key.as_dict(private=True))
        return key.as_dict(private=False)
    whole = json.loads(path.read_text(encoding="utf-8"))
    return {name: value for name, value in whole.items() if name != "d"}


async def _seed(database: Database, settings: Settings, made: Install) -> bool:
    """Everything that is there before the first request, in one transaction, once."""
    vault = Vault.open(settings.vault_key_path)
    # A random password needs no slow hash; with one, everybody's login would take the demo's time.
    hashed = await passwords.hashed(made.password, log_n=12, p=1)
    async with database.transaction() as tx:
        await oauth.bootstrap(tx, vault, settings=settings, now=system_now())
        if await merchants.find(tx):
            return False
        await Clock().set(tx, STARTS_AT)
        await seed.seed_reference(tx, now=STARTS_AT)
        await seed.seed_members(tx, now=STARTS_AT)
        await settlement.ensure_window(tx, now=STARTS_AT)
        for merchant in await merchants.find(tx):
            await oauth.register_key(
                tx,
                merchant_id=merchant.id,
                jwk=_own_key(made, merchant.id),
                name_zh=merchant.name_zh,
                name_en=merchant.name_en,
                now=system_now(),
            )
        for person in people():
            await _person(tx, person, hashed)
    return True


async def _person(tx: AsyncConnection, person: Person, password_hash: str) -> None:
    staff = not person.is_member
    await oauth.seed_user(
        tx,
        user_id=person.login if staff else f"usr_{person.login}",
        login=person.login,
        password_hash=password_hash,
        role=person.role,
        name_zh=person.name_zh,
        member_id=None if staff else person.login,
        merchant_id=person.merchant_id,
        limit_fen=seed.STAFF_LIMIT_FEN if staff else 0,
        now=system_now(),
    )


def announcement(settings: Settings, made: Install) -> list[str]:
    """Where it is, and how the demo's people log in."""
    members = [person.login for person in people() if person.is_member]
    staff = [person.login for person in people() if not person.is_member]
    return [
        f"API       {settings.base_url}/graphql",
        f"login     {settings.base_url}/oauth/authorize",
        f"errors    {settings.base_url}/errors",
        f"members   {' '.join(members)}",
        f"staff     {' '.join(staff)}",
        f"password  {made.password}  (the same for all of them)",
    ]


async def price_book(database: Database) -> bool:
    """Set the price book once the partners' feeds are read; False while they are not."""
    wanted = [row["id"] for row in catalog()["offers"]]
    async with database.reading() as tx:
        if len(await catalog_service.offers(tx, wanted)) < OFFERS:
            return False
    async with database.transaction() as tx:
        await seed.seed_price_book(tx)
    return True


def connect(made: Install, settings: Settings, ports: Mapping[str, Any]) -> None:
    """Tell the gateway where the simulators listen this time."""
    connections = json.loads((made.sandbox / "connections.json").read_text(encoding="utf-8"))
    numbers = {name: int(url.rpartition(":")[2]) for name, url in ports["merchants"].items()}
    sandbox.write_secret(settings.partners_path, sandbox.connect(connections, numbers))
