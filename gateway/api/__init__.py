"""The GraphQL API: one schema, thin resolvers by role, and the HTTP endpoint that serves it."""
