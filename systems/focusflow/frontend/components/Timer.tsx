import { useState } from "react";
import { type Log, call } from "../lib/api";
import type { Attempt } from "./Board";

export function Timer({ logs, attempt }: { logs: Log[]; attempt: Attempt }) {
  const [started, setStarted] = useState<Date>();

  async function stop() {
    const log = { id: crypto.randomUUID(), started_at: started?.toISOString(), ended_at: new Date().toISOString() };
    await attempt(async () => {
      await call("POST", "/logs", log);
      setStarted(undefined);
    });
  }

  return (
    <section className="card" aria-label="Focus">
      <h2>Focus</h2>
      <p className="row">
        {started ? <button onClick={stop}>Stop</button> : <button onClick={() => setStarted(new Date())}>Start</button>}
        <span>{started ? `since ${started.toLocaleTimeString()}` : `${minutes(logs)} minutes in the last seven days`}</span>
      </p>
    </section>
  );
}

function minutes(logs: Log[]): number {
  const week = logs.filter((log) => Date.parse(log.ended_at) > Date.now() - 7 * 86_400_000);
  const spent = week.map((log) => Date.parse(log.ended_at) - Date.parse(log.started_at));
  return Math.round(spent.reduce((sum, one) => sum + one, 0) / 60_000);
}
