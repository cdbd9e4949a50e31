// What changes in another window, or elsewhere, as it happens.
import { type Task, currentToken, refresh } from "./api";

export type Update =
  | { kind: "hello" | "again" | "habits" | "logs" }
  | { kind: "task" | "reminder"; task: Task }
  | { kind: "task-gone"; id: string };

const LONGEST_PAUSE_MS = 10_000;
const TOKEN_REFUSED = 4401;

/** Listens until the function it gives is called; comes back by itself when the connection ends. */
export function listen(onUpdate: (update: Update) => void, onState: (isConnected: boolean) => void): () => void {
  let socket: WebSocket | undefined;
  let again: ReturnType<typeof setTimeout>;
  let pause = 250;
  let isOver = false;

  function open() {
    socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/api/live`);
    socket.onopen = () => socket?.send(currentToken() ?? "");
    socket.onmessage = (message) => {
      const update = JSON.parse(message.data) as Update;
      if (update.kind === "hello") {
        pause = 250;
        onState(true);
      }
      onUpdate(update);
    };
    socket.onclose = (event) => {
      onState(false);
      if (!isOver) again = setTimeout(() => back(event.code), pause);
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    };
  }

  async function back(code: number) {
    if (code === TOKEN_REFUSED) await refresh().catch(() => undefined);
    if (!isOver) open();
  }

  open();
  return () => {
    isOver = true;
    clearTimeout(again);
    socket?.close();
  };
}
