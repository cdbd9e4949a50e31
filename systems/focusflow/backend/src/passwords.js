// Passwords, as scrypt makes them: `scrypt$SALT$HASH`, both in base64.
import { randomBytes, scrypt, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";

const derive = promisify(scrypt);
const LENGTH = 32;

export async function hash(password) {
  const salt = randomBytes(16);
  return `scrypt$${salt.toString("base64")}$${(await derive(password, salt, LENGTH)).toString("base64")}`;
}

/** Takes as long for somebody who does not exist (`stored` undefined) as for somebody who does. */
export async function matches(password, stored = "scrypt$AAAAAAAAAAAAAAAAAAAAAA==$") {
  const [, salt, hashed] = stored.split("$");
  const wanted = Buffer.from(hashed, "base64");
  const given = await derive(password, Buffer.from(salt, "base64"), LENGTH);
  return wanted.length === LENGTH && timingSafeEqual(wanted, given);
}
