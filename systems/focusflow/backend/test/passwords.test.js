import assert from "node:assert/strict";
import { test } from "node:test";
import { hash, matches } from "../src/passwords.js";

test("a password matches its own hash only", async () => {
  const stored = await hash("correct horse");
  assert.ok(await matches("correct horse", stored));
  assert.ok(!(await matches("correct horse ", stored)));
  assert.notEqual(stored, await hash("correct horse"));
});

test("nobody matches somebody who does not exist", async () => {
  assert.ok(!(await matches("", undefined)));
  assert.ok(!(await matches("anything", undefined)));
});
