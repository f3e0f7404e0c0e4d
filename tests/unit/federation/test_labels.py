"""Progressive overrides: labels that are on for all requests, and shares of requests."""

import dataclasses

from gateway.federation.machinery import Planned
from gateway.federation.requests import Request
from gateway.federation.supergraph import Supergraph
from tests.support.subgraphs import SUPERGRAPH


def planned(*labels: str, active: frozenset[str] = frozenset()) -> Planned:
    supergraph = dataclasses.replace(Supergraph.parse(SUPERGRAPH), labels=frozenset(labels))
    return Planned(supergraph, {}, active=active)


def test_labels_of_the_configuration_are_on_where_the_supergraph_has_them():
    made = planned("early", "late", active=frozenset({"early", "other"}))
    assert (made.labelled, made.labels(Request(None))) == (False, {"early"})


def test_shares_of_requests_are_drawn():
    made = planned("percent(0)", "percent(100)", "percent(50.5)", "late")
    assert made.labelled
    drawn = [made.labels(Request(None)) for _ in range(2_000)]
    assert all("percent(100)" in one and not one & {"percent(0)", "late"} for one in drawn)
    assert 800 < sum("percent(50.5)" in one for one in drawn) < 1_220
