// Use the service through openapi-fetch, with the types that openapi-typescript generates: `tsc` checks every call.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

type Item = components["schemas"]["ItemResponse"];
type User = components["schemas"]["UserResponse"];
type Problem = components["schemas"]["Problem"];

const client = createClient<paths>({ baseUrl: process.argv[2] });
// Arrays in a query are written with commas.
const ids = { querySerializer: { array: { style: "form", explode: false } } } as const;

function equal(found: unknown, expected: unknown): void {
  const texts = [found, expected].map((value) => JSON.stringify(value));
  if (texts[0] !== texts[1]) throw new Error(`${texts[0]} is not ${texts[1]}`);
}

function one<T>(value: T | T[] | undefined): T {
  if (value === undefined || Array.isArray(value)) throw new Error(`${JSON.stringify(value)} is not one`);
  return value;
}

function several<T>(value: T | T[] | undefined): T[] {
  if (!Array.isArray(value)) throw new Error(`${JSON.stringify(value)} is not an array`);
  return value;
}

function refused(result: { error?: Problem; response: Response }, status: number, code: Problem["code"]): void {
  equal([result.response.status, result.error?.code], [status, code]);
}

async function useItems(): Promise<void> {
  const big = 9_007_199_254_740_993 / 4;
  const lamp = one<Item>((await client.POST("/items", { body: { name: "lamp", price: 9.5, in_stock: true } })).data);
  const [desk, chair] = several<Item>(
    (await client.POST("/items", { body: [{ name: "desk", price: big }, { name: "chair", price: 45, in_stock: false }] })).data,
  );
  equal([desk.price, chair.in_stock], [big, false]);
  const here = { path: { id: lamp.id } };
  equal((await client.GET("/items/{id}", { params: here })).data, lamp);
  equal((await client.GET("/items", { params: { query: { order: "-price", limit: 2 } } })).data?.[0], desk);
  const asked = { query: { ids: [chair.id, lamp.id] } };
  equal((await client.GET("/items", { params: asked, ...ids })).data, [chair, lamp]);
  const header = { "If-Match": '"1-json"', "X-Request-Timeout": 2.5 };
  const change = { params: { ...here, header }, body: { price: 8, owner_id: null } };
  equal(one<Item>((await client.PATCH("/items/{id}", change)).data).version, 2);
  refused(await client.PATCH("/items/{id}", change), 412, "stale");
  const body = { name: "lantern", price: 7 };
  equal(one<Item>((await client.PUT("/items/{id}", { params: here, body })).data).name, "lantern");
  const patches = [chair, desk].map(({ id }) => ({ id, price: 1 }));
  equal((await client.PATCH("/items", { body: patches })).data?.map(({ price }) => price), [1, 1]);
  equal((await client.DELETE("/items/{id}", { params: here })).response.status, 204);
  refused(await client.GET("/items/{id}", { params: here }), 404, "item-not-found");
  equal((await client.DELETE("/items", { params: asked, ...ids })).data, [chair.id]);
  equal((await client.DELETE("/items", { params: { query: { ids: [desk.id] } }, ...ids })).data, [desk.id]);
}

async function useUsers(): Promise<void> {
  const named = (name: string) => ({ username: name, email: `${name}@example.org`, name });
  const ada = one<User>((await client.POST("/users", { body: named("ada") })).data);
  const [bob, eve] = several<User>((await client.POST("/users", { body: [named("bob"), named("eve")] })).data);
  refused(await client.POST("/users", { body: named("ada") }), 409, "already-exists");
  const here = { path: { id: ada.id } };
  equal((await client.GET("/users/{id}", { params: here })).data, ada);
  const lamp = one<Item>((await client.POST("/items", { body: { name: "lamp", price: 9.5, owner_id: ada.id } })).data);
  const embedded = (await client.GET("/users/{id}", { params: { ...here, query: { include: "items" } } })).data;
  equal(embedded && "items" in embedded && embedded.items, [lamp]);
  const asked = { query: { ids: [eve.id, bob.id] } };
  equal((await client.GET("/users", { params: asked, ...ids })).data, [eve, bob]);
  const there = { path: { id: bob.id } };
  equal((await client.PATCH("/users/{id}", { params: there, body: { role: "admin" } })).data?.role, "admin");
  equal((await client.PUT("/users/{id}", { params: there, body: named("rob") })).data?.username, "rob");
  const patches = [bob, eve].map(({ id }) => ({ id, is_active: false }));
  equal((await client.PATCH("/users", { body: patches })).data?.map(({ is_active }) => is_active), [false, false]);
  const reassigned = { ...here, query: { reassign_to: bob.id } };
  equal((await client.DELETE("/users/{id}", { params: reassigned })).response.status, 204);
  equal((await client.DELETE("/items", { params: { query: { ids: [lamp.id] } }, ...ids })).data, [lamp.id]);
  equal((await client.DELETE("/users", { params: asked, ...ids })).data, [eve.id, bob.id]);
}

await useItems();
await useUsers();
