"""The mutants: what could be wrong in a saga, each as one small change of the source."""

from tests.simulation.mutants import Mutant

SAGA = "gateway.redemption.saga"
EFFECTS = "gateway.redemption.effects"
MODEL = "gateway.redemption.model"
INBOX = "gateway.redemption.inbox"
REDEEMING = "gateway.redemption.redeeming"
POINTS = "gateway.points.model"
CLAIMS = "gateway.settlement.claims"
TERMS = "gateway.settlement.model"
HOLDING = "gateway.points.holding"
QUEUE = "gateway.redemption.queue"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "void on timeout",
        SAGA,
        "        if current.state in (State.HOLDING, State.CONFIRMING, State.CANCELLING):\n",
        """        if current.state in (State.HOLDING, State.CONFIRMING):
            return await effects.release(tx, current, reason="TIMEOUT", now=now)
        if current.state is State.CANCELLING:
""",
        60,
    ),
    Mutant(
        "released without asking the partner",
        SAGA,
        "        return await self._fence(redemption, Step.HOLD)\n",
        """        now = self.clock.now()
        async with self.database.transaction() as tx:
            return await effects.move(tx, redemption, State.RELEASED, now=now, released_at=now)
""",
        60,
    ),
    Mutant(
        "a fence without an answer counts",
        SAGA,
        """        answer = await self._ask(redemption, step, ask, verb="fence")
        if answer.fact is None:
""",
        """        answer = await self._ask(redemption, step, ask, verb="fence")
        answer = replace(answer, fact=answer.fact or Fact(op_key, Outcome.FENCED))
        if answer.fact is None:
""",
        60,
    ),
    Mutant(
        "compensation of another epoch",
        EFFECTS,
        "        tx, cause_id=redemption.id, epoch=redemption.epoch, fault=fault, at=now\n",
        "        tx, cause_id=redemption.id, epoch=1, fault=fault, at=now\n",
        200,
        weather={"change_mind": 0.9, "refuse_confirm": 0.6, "partner_cancels": 0.6},
    ),
    Mutant(
        "the last lot goes first",
        POINTS,
        "sorted(lots, key=lambda lot: (place.get(lot.id, len(place)), *_age(lot)))",
        "sorted(lots, key=lambda lot: (place.get(lot.id, len(place)), *_age(lot)))[::-1]",
        60,
    ),
    Mutant(
        "rounding drifts",
        TERMS,
        "    settlement = bps_half_up(face_fen, agreement.settlement_bps)\n",
        "    settlement = face_fen * agreement.settlement_bps // 10_000\n",
        60,
    ),
    Mutant(
        "cover is not released",
        CLAIMS,
        "        moves.add(row.issuer, reserved_fen=-(row.settlement_fen + row.fee_fen))\n",
        "        moves.add(row.issuer, reserved_fen=-row.settlement_fen)\n",
        60,
    ),
    Mutant(
        "the cap is not given back",
        CLAIMS,
        "        back[row.agreement_id, row.usage_month] -= row.settlement_fen\n",
        "        back[row.agreement_id, row.usage_month] -= 0\n",
        60,
    ),
    Mutant(
        "a cut window still grows",
        CLAIMS,
        "    window = window or await _window(tx, at)\n    moved = await store.clear(",
        "    window = (await store.find_windows(tx))[0]\n    moved = await store.clear(",
        60,
        weather={"consume": 0.6},
    ),
    Mutant(
        "burned while the partner decides",
        SAGA,
        "return await self._postpone(tx, redemption, now=now), answer.refusal\n",
        """return (
                    await effects.commit(tx, redemption, fact, now=now),
                    answer.refusal,
                )
""",
        60,
        weather={"pending": 0.5},
    ),
    Mutant(
        "an unknown outcome is forgotten",
        SAGA,
        """            if answer.state is CallState.NOT_SENT and not await store.may_have_acted(
                tx, op_key=op_key, verb=verb, but=attempt
            ):""",
        "            if answer.state is CallState.NOT_SENT:",
        100,
        weather={"crash": 0.3, "not_sent": 0.3},
    ),
    Mutant(
        "settled without looking at the state",
        EFFECTS,
        "    waiting = redemption.state is State.CONFIRMING or doubts(redemption, Step.CONFIRM)\n",
        "    waiting = True\n",
        60,
    ),
    Mutant(
        "points returned while the cancellation is in doubt",
        SAGA,
        """        body = {"cancel_quote": partner_quote}
        attempt = await self.queue(tx, redemption, Step.CANCEL, "cancel", body)
        return moved, attempt""",
        """        body = {"cancel_quote": partner_quote}
        attempt = await self.queue(tx, redemption, Step.CANCEL, "cancel", body)
        back = {leg.leg_no: leg.points for leg in redemption.legs}
        await store.add_returned(tx, redemption.id, back)
        return moved, attempt""",
        60,
    ),
    Mutant(
        "the fact is not stored",
        EFFECTS,
        "    await record(tx, redemption, fact, source=source, now=now)\n",
        "",
        100,
        weather={"answer_lost": 0.2, "refuse_confirm": 0.4},
    ),
    Mutant(
        "a booking after the fence is burned",
        EFFECTS,
        "    if await races.fenced(tx, redemption):\n",
        "    if False:\n",
        100,
        weather={"ignore_fence": 1.0, "pending": 0.9, "jump": 0.9},
    ),
    Mutant(
        "a fence acknowledged after the release is forgotten",
        EFFECTS,
        "    if await races.fenced(tx, redemption):\n",
        "    if redemption.fenced:\n",
        100,
        weather={"ignore_fence": 1.0, "pending": 1.0, "jump": 0.9, "slow_disk": 0.5},
    ),
    Mutant(
        "a late confirmation is ignored",
        EFFECTS,
        """        if redemption.state in (State.RELEASED, State.RELEASING):
            return await confirmed_late(""",
        """        if redemption.state is State.RELEASING:
            return await confirmed_late(""",
        60,
        weather={"change_mind": 0.9, "refuse_confirm": 0.5},
    ),
    Mutant(
        "a confirmation older than its cancellation is taken",
        EFFECTS,
        "    if not await races.overtaken(tx, redemption, fact.version):\n",
        "    if True:\n",
        100,
        weather={
            "change_mind": 0.9,
            "refuse_confirm": 0.9,
            "partner_cancels": 0.9,
            "hook_late": 0.7,
        },
    ),
    Mutant(
        "the postponed webhook stays postponed",
        EFFECTS,
        "    await store.reopen_events(tx, redemption.id)\n",
        "",
        200,
        weather={"consume": 0.6, "refuse_cancel": 0.4, "answer_late": 0.3},
    ),
    Mutant(
        "the member is not given all legs back",
        EFFECTS,
        "leg.points - leg.returned_points for leg in redemption.legs}\n",
        "leg.points - leg.returned_points for leg in redemption.legs[:1]}\n",
        60,
    ),
    Mutant(
        "the fare is taken off the first leg",
        MODEL,
        "    for leg in sorted(legs, key=lambda leg: -leg.leg_no):\n",
        "    for leg in sorted(legs, key=lambda leg: leg.leg_no):\n",
        100,
        weather={"ride": 0.5, "consume": 0.7},
    ),
    Mutant(
        "a webhook is answered before it is stored",
        INBOX,
        """            if not await event_rows.add_event(tx, row | {"received_at": now}):
                return False""",
        "            del row",
        60,
    ),
    Mutant(
        "the key is not kept with the effect",
        REDEEMING,
        "            await db.take_key(tx, claim, object_id=redemption.id, now=now)\n",
        "",
        60,
        weather={"lost_reply": 0.3},
    ),
    Mutant(
        "a duplicate webhook is applied twice",
        INBOX,
        """        if redemption.state not in (State.COMMITTED, State.LATE_CONFIRMED):
            return f"ignored: {redemption.state}"
""",
        "",
        60,
        more=(
            ("        if version < known or (version == known and", "        if version < 0 and ("),
        ),
        weather={"partner_cancels": 0.6, "hook_renamed": 0.6},
    ),
    Mutant(
        "a lower version is accepted",
        INBOX,
        "        if version < known or (version == known and event.kind is EventKind.CANCELLED):\n",
        "        if version < 0:\n",
        60,
        weather={"old_news": 0.5},
    ),
    Mutant(
        "a hold is let go without looking at the state",
        SAGA,
        """            if current.state is not State.HELD:
                return
            try:""",
        "            try:",
        200,
        weather={"crawl": 0.9, "short_hold": 0.9},
    ),
    Mutant(
        "a lease that has not ended is taken",
        QUEUE,
        "    where = [_worked, _r.due_at <= now, free]\n",
        "    where = [_worked, _r.due_at <= now, sa.or_(free, sa.true())]\n",
        60,
    ),
    Mutant(
        "a stale driver's write is not refused",
        SAGA,
        """        if not current.waits_for(step):
            return current  # Another answer was first: nothing is asked under this key now.
""",
        "",
        100,
        weather={"contest": 1.0, "crawl": 0.5},
    ),
    Mutant(
        "the fence leaves before its outbox row",
        SAGA,
        """        attempt = await expected.tried(
            self, lambda tx: self.queue(tx, redemption, step, "fence", body)
        )

        async def ask() -> Fact:
            return await self._partner(redemption).fence(op_key)

        answer = await self._ask(redemption, step, ask, verb="fence")
""",
        """
        async def ask() -> Fact:
            return await self._partner(redemption).fence(op_key)

        answer = await self._ask(redemption, step, ask, verb="fence")
        attempt = await expected.tried(
            self, lambda tx: self.queue(tx, redemption, step, "fence", body)
        )
""",
        60,
    ),
    Mutant(
        "a call is sent again before its outbox row is committed",
        SAGA,
        "        await (self.hold if step is Step.HOLD else self.confirm)(current, attempt)\n",
        "            await (self.hold if step is Step.HOLD else self.confirm)(current, attempt)\n",
        60,
    ),
    Mutant(
        "no fence at a confirm after its deadline",
        SAGA,
        """            case Next.FENCE:
                await self._fence(redemption, step)
""",
        """            case Next.FENCE if step is Step.CONFIRM:
                async with self.database.transaction() as tx:
                    current = await store.find(tx, redemption.id, lock=True)
                    assert current
                    if current.waits_for(step):
                        await effects.release(
                            tx, current, reason="DEADLINE", tell_partner=True, now=now
                        )
            case Next.FENCE:
                await self._fence(redemption, step)
""",
        60,
        weather={"request_lost": 0.35, "busy_status": 0.9},
    ),
)
