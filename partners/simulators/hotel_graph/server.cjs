/**
 * The hotel group's own GraphQL service: a federation subgraph in JavaScript.
 *
 *   node server.cjs --config FILE --state FILE --ports-file FILE
 *
 * `python -m partners.simulators.hotel_graph` is the same service in Python: same schema, answers,
 * state file and control calls. Its packages are looked for where NODE_PATH says.
 */
"use strict";

const { createHash, timingSafeEqual } = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { buildSubgraphSchema } = require("@apollo/subgraph");
const { GraphQLError, graphql, parse } = require("graphql");

const LONGEST = 1 << 20; // bytes of a request
const SEEN = 100; // calls that are remembered
const SCOPE = "offers";
const FAULTS = ["latency", "error_5xx", "malformed_body", "connection_refused"];

const read = (name) => fs.readFileSync(path.join(__dirname, name), "utf8");
const SDL = read("schema.graphql");
const BOOK = JSON.parse(read("houses.json"));

/** What is kept across restarts: the door of each stay, and planted faults. */
class Desk {
  constructor(file) {
    this.file = file;
    this.kept = fs.existsSync(file)
      ? JSON.parse(fs.readFileSync(file, "utf8"))
      : { doors: {}, faults: [] };
    this.seen = [];
  }

  save() {
    fs.writeFileSync(`${this.file}.new`, JSON.stringify(this.kept), { mode: 0o600 });
    fs.renameSync(`${this.file}.new`, this.file);
  }

  /** The door of a redemption's room; the next free one the first time. */
  door(redemption) {
    const { doors } = this.kept;
    if (!Object.hasOwn(doors, redemption)) {
      doors[redemption] = String(BOOK.stay.firstDoor + Object.keys(doors).length);
      this.save();
    }
    return doors[redemption];
  }

  plant({ fault, value = null, count = null }) {
    if (!FAULTS.includes(fault)) throw new Error(`no such fault: ${fault}`);
    this.kept.faults.push({ fault, value, left: count });
    this.save();
  }

  clear() {
    this.kept.faults = [];
    this.save();
  }

  /** A planted fault of that name, one of its times used up. */
  take(name) {
    const found = this.kept.faults.find((one) => one.fault === name && one.left !== 0);
    if (found && found.left !== null) {
      found.left -= 1;
      this.save();
    }
    return found;
  }
}

const house = (id) => BOOK.houses.find((one) => one.id === id) ?? null;
const room = (code, of) =>
  BOOK.rooms.find((one) => one.code === code && (of === undefined || one.house === of)) ?? null;
const sold = (id) => (Object.hasOwn(BOOK.offers, id) ? BOOK.offers[id] : null);
const reference = (id) => ({ __typename: "Offer", id });

const ROOM = {
  house: (one) => house(one.house),
  __resolveReference: ({ code, house: { id } }) => room(code, id),
};
const RESOLVERS = {
  Query: {
    yunqi_houses: (_, { city }) => BOOK.houses.filter((one) => !city || one.city === city),
  },
  Yunqi_Room: { __resolveType: (one) => one.type },
  Yunqi_Standard: ROOM,
  Yunqi_Suite: ROOM,
  Yunqi_House: {
    rooms: (one) => BOOK.rooms.filter((each) => each.house === one.id),
    __resolveReference: ({ id }) => house(id),
  },
  Offer: {
    yunqi_rooms: ({ id }, { beds }) =>
      sold(id)
        ?.rooms.map((code) => room(code))
        .filter((one) => !beds || one.beds === beds) ?? null,
    yunqi_depositFen: ({ id, cashFen }) => {
      const found = sold(id);
      if (!found) return null;
      if (!Number.isInteger(cashFen)) throw new GraphQLError("cashFen was not sent");
      return Math.floor((cashFen * found.depositPercent) / 100);
    },
    yunqi_evening: ({ id }) => sold(id)?.evening.map(reference) ?? null,
    __resolveReference: (given) => given,
  },
  Merchant: {
    yunqi_welcome: ({ id, nameZh }) => {
      if (id !== BOOK.merchant) return null;
      if (!nameZh) throw new GraphQLError("nameZh was not sent");
      return `${nameZh}欢迎您`;
    },
    __resolveReference: (given) => given,
  },
  Redemption: {
    yunqi_stay: ({ id }, _, { desk }) => ({
      door: desk.door(id),
      offers: BOOK.stay.offers.map(reference),
    }),
    __resolveReference: (given) => given,
  },
};
const SCHEMA = buildSubgraphSchema({ typeDefs: parse(SDL), resolvers: RESOLVERS });

const sha256 = (text) => createHash("sha256").update(text).digest();
const same = (one, other) => timingSafeEqual(sha256(one), sha256(other));

/** Whose token it is, asked of the group's own issuer (RFC 7662); null: not a good one. */
async function holder(config, authorization) {
  const [kind, token] = (authorization ?? "").split(" ");
  if (kind.toLowerCase() !== "bearer" || !token) return null;
  const basic = Buffer.from(`${config.client_id}:${config.secret}`).toString("base64");
  const answer = await fetch(`${config.issuer}/oauth/introspect`, {
    method: "POST",
    headers: { authorization: `Basic ${basic}` },
    body: new URLSearchParams({ token }),
    signal: AbortSignal.timeout(5_000),
  });
  if (answer.status !== 200) throw new Error(`issuer: HTTP ${answer.status}`);
  const found = await answer.json();
  return found.active ? { client: found.client_id, scopes: found.scope.split(" ") } : null;
}

async function body(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > LONGEST) throw new RangeError("too long");
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

function reply(response, status, document, headers = {}) {
  const text = typeof document === "string" ? document : JSON.stringify(document);
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(text);
}

/** `POST /subgraph`: one GraphQL request of somebody whose token is good. */
async function subgraph(place, request, response) {
  const text = await body(request);
  let who;
  try {
    who = await holder(place.config, request.headers.authorization);
  } catch {
    return reply(response, 503, { error: "temporarily_unavailable" });
  }
  if (!who) return reply(response, 401, { error: "invalid_token" });
  if (!who.scopes.includes(SCOPE)) return reply(response, 403, { error: "insufficient_scope" });
  const { authorization, ...headers } = request.headers;
  place.desk.seen.push({ client: who.client, headers, body: text });
  place.desk.seen.splice(0, place.desk.seen.length - SEEN);
  if (place.desk.take("connection_refused")) return request.socket.destroy();
  const slow = place.desk.take("latency");
  if (slow) await new Promise((done) => setTimeout(done, slow.value * 1_000));
  if (place.desk.take("error_5xx")) return reply(response, 500, { error: "server_error" });
  if (place.desk.take("malformed_body")) return reply(response, 200, '{"data": {');
  let asked;
  try {
    asked = JSON.parse(text);
  } catch {
    return reply(response, 400, { errors: [{ message: "not JSON" }] });
  }
  const found = await graphql({
    schema: SCHEMA,
    source: String(asked?.query ?? ""),
    variableValues: asked?.variables,
    operationName: asked?.operationName,
    contextValue: { desk: place.desk },
  });
  return reply(response, 200, found);
}

/** What tests and the demo make the service do, as at the other stand-ins' control port. */
async function control(place, request, response) {
  if (!same(request.headers.authorization ?? "", `Bearer ${place.config.control_token}`)) {
    return reply(response, 401, { error: "invalid_token" });
  }
  const call = `${request.method} ${request.url}`;
  if (call === "GET /control/seen") return reply(response, 200, place.desk.seen);
  try {
    if (call === "POST /control/faults") place.desk.plant(JSON.parse(await body(request)));
    else if (call === "DELETE /control/faults") place.desk.clear();
    else return reply(response, 404, { error: "not_found" });
  } catch (error) {
    return reply(response, 400, { error: String(error.message) });
  }
  return reply(response, 200, {});
}

async function answer(place, request, response) {
  try {
    if (request.url.startsWith("/control/")) return await control(place, request, response);
    if (request.method === "POST" && request.url === "/subgraph") {
      return await subgraph(place, request, response);
    }
    return reply(response, 404, { error: "not_found" });
  } catch (error) {
    if (response.headersSent) return response.destroy();
    const status = error instanceof RangeError ? 413 : 500;
    return reply(response, status, { error: "server_error" }, { connection: "close" });
  }
}

function options(given) {
  const found = {};
  for (let n = 0; n < given.length; n += 2) found[given[n].replace(/^--/, "")] = given[n + 1];
  return found;
}

function main() {
  const { config, state, "ports-file": ports } = options(process.argv.slice(2));
  const place = { config: JSON.parse(fs.readFileSync(config, "utf8")), desk: new Desk(state) };
  const server = http.createServer((request, response) => answer(place, request, response));
  server.keepAliveTimeout = 75_000; // Longer than clients keep a connection.
  server.listen(0, "127.0.0.1", () => {
    const url = `http://127.0.0.1:${server.address().port}`;
    const library = `@apollo/subgraph ${require("@apollo/subgraph/package.json").version}`;
    const told = { url, runs: `Node ${process.version}, ${library}` };
    fs.writeFileSync(`${ports}.new`, JSON.stringify(told));
    fs.renameSync(`${ports}.new`, ports);
  });
  for (const signal of ["SIGTERM", "SIGINT"]) {
    process.on(signal, () => {
      server.close(() => process.exit(0));
      server.closeAllConnections();
    });
  }
}

main();
