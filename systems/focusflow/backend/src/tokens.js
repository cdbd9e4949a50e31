// Two kinds of tokens: a short one for each request, and a long one, in a cookie, that brings a new short one.
import { SignJWT, jwtVerify } from "jose";

export const ACCESS_SECONDS = 15 * 60;
export const REFRESH_SECONDS = 30 * 24 * 60 * 60;
const ISSUER = "focusflow";

export class Tokens {
  /** The first key signs, all of them are accepted. */
  constructor(keys, audience, seconds) {
    Object.assign(this, { keys, audience, seconds });
  }

  issue(user, claims = {}) {
    const token = new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).setSubject(user).setIssuer(ISSUER);
    return token.setAudience(this.audience).setIssuedAt().setExpirationTime(`${this.seconds}s`).sign(this.keys[0]);
  }

  /** Its claims, or undefined. */
  async read(token) {
    for (const key of this.keys) {
      const options = { algorithms: ["HS256"], issuer: ISSUER, audience: this.audience, requiredClaims: ["sub", "exp"] };
      const read = await jwtVerify(token ?? "", key, options).catch(() => undefined);
      if (read) return read.payload;
    }
  }
}

export function tokens({ accessKeys, refreshKeys }) {
  return {
    access: new Tokens(accessKeys, "focusflow-api", ACCESS_SECONDS),
    refresh: new Tokens(refreshKeys, "focusflow-refresh", REFRESH_SECONDS),
  };
}
