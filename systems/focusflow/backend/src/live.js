// The WebSocket: what changes for somebody reaches all their windows. A browser cannot give a header to a WebSocket, so
// its first message is the token; the socket ends when that does, and the window comes back with a new one.
import { WebSocketServer } from "ws";

const PATH = "/api/live";
const TO_SAY_WHO_MS = 5_000;
const ALIVE_MS = 20_000;

export class Live {
  constructor(server, tokens) {
    this.tokens = tokens;
    this.sockets = new Map();
    this.server = new WebSocketServer({ noServer: true, maxPayload: 8_192 });
    server.on("upgrade", (request, socket, head) => {
      if (request.url.split("?")[0] !== PATH) return socket.destroy();
      this.server.handleUpgrade(request, socket, head, (opened) => this.opened(opened));
    });
    this.beat = setInterval(() => this.ping(), ALIVE_MS);
  }

  opened(socket) {
    const late = setTimeout(() => socket.close(4401, "who is it?"), TO_SAY_WHO_MS);
    socket.isAlive = true;
    socket.on("pong", () => (socket.isAlive = true));
    socket.on("error", () => {});
    socket.on("close", () => clearTimeout(late));
    socket.once("message", async (data) => {
      clearTimeout(late);
      const claims = await this.tokens.access.read(data.toString());
      if (!claims) return socket.close(4401, "sign in again");
      this.join(socket, claims);
    });
  }

  join(socket, { sub, exp }) {
    if (socket.readyState !== socket.OPEN) return;
    const mine = this.sockets.get(sub) ?? new Set();
    this.sockets.set(sub, mine.add(socket));
    const end = setTimeout(() => socket.close(4401, "the token is too old"), exp * 1000 - Date.now());
    socket.on("close", () => {
      clearTimeout(end);
      mine.delete(socket);
      if (mine.size === 0 && this.sockets.get(sub) === mine) this.sockets.delete(sub);
    });
    socket.send(JSON.stringify({ kind: "hello" }));
  }

  /** Tells all windows of a user. */
  tell(user, update) {
    for (const socket of this.sockets.get(user) ?? []) socket.send(JSON.stringify(update));
  }

  /** Something may have been missed: everybody looks again. */
  again() {
    for (const user of this.sockets.keys()) this.tell(user, { kind: "again" });
  }

  // A browser that went away without a word is found here.
  ping() {
    for (const socket of this.server.clients) {
      if (!socket.isAlive) socket.terminate();
      socket.isAlive = false;
      socket.ping();
    }
  }

  close() {
    clearInterval(this.beat);
    for (const socket of this.server.clients) socket.close(1012, "back in a moment");
  }
}
