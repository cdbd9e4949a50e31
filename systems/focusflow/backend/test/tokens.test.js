import assert from "node:assert/strict";
import { test } from "node:test";
import { SignJWT } from "jose";
import { tokens } from "../src/tokens.js";
import { settings } from "../src/settings.js";

const environment = {
  PORT: "1", DATABASE_URL: "postgres://h/d", REDIS_URL: "redis://h", AI_URL: "http://h",
  JWT_SECRET: "a key of the access tokens, long enough", JWT_REFRESH_SECRET: "a key of the refresh tokens, long enough",
};
const made = (more = {}) => tokens(settings("api", { ...environment, ...more }));

test("a token is read by whoever has the key, and says who it is", async () => {
  const token = await made().access.issue("ana");
  assert.equal((await made().access.read(token)).sub, "ana");
  assert.equal(await made({ JWT_SECRET: "another key, which is as long as it" }).access.read(token), undefined);
});

test("a refresh token is no access token, and the other way round", async () => {
  const same = made({ JWT_REFRESH_SECRET: environment.JWT_SECRET });
  assert.equal(await same.access.read(await same.refresh.issue("ana")), undefined);
  assert.equal(await same.refresh.read(await same.access.issue("ana")), undefined);
});

test("the key before is accepted while it is named, and signs nothing", async () => {
  const old = await made().access.issue("ana");
  const rotated = made({ JWT_SECRET: "the new key, which signs from now on", JWT_SECRET_PREVIOUS: environment.JWT_SECRET });
  assert.equal((await rotated.access.read(old)).sub, "ana");
  assert.equal(await made().access.read(await rotated.access.issue("ana")), undefined);
});

test("what is unsigned, signed in another way, expired, of another issuer or cut off is nobody's", async () => {
  const key = new TextEncoder().encode(environment.JWT_SECRET);
  const sign = (change, alg = "HS256") =>
    change(new SignJWT({}).setProtectedHeader({ alg }).setSubject("ana").setIssuer("focusflow")
      .setAudience("focusflow-api").setExpirationTime("1h")).sign(key);
  const whole = await sign((token) => token);
  assert.equal((await made().access.read(whole)).sub, "ana");
  const parts = whole.split(".");
  const named = (alg) => Buffer.from(JSON.stringify({ alg })).toString("base64url");
  const none = named("none");
  const bad = [
    `${none}.${parts[1]}.`, `${none}.${parts[1]}.${parts[2]}`, parts.slice(0, 2).join("."), "", undefined,
    `${named("RS256")}.${parts[1]}.${parts[2]}`, await sign((token) => token, "HS512"),
    await sign((token) => token.setExpirationTime("-1s")),
    await sign((token) => token.setIssuer("somebody")),
    await sign((token) => token.setAudience("focusflow-refresh")),
  ];
  for (const token of bad) assert.equal(await made().access.read(token), undefined, token);
});

test("everything that is not set is named at once", () => {
  assert.throws(() => settings("api", { PORT: "1" }), /DATABASE_URL, REDIS_URL, AI_URL, JWT_SECRET, JWT_REFRESH_SECRET/);
});
