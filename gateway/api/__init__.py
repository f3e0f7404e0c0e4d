"""The GraphQL API: types and one-line resolvers by role, served over HTTP and WebSocket."""

from gateway.api import enums as enums
