import { type FormEvent } from "react";
import { type Habit, call } from "../lib/api";
import type { Attempt } from "./Board";

/** The last seven days, today last, in UTC as everywhere. */
function week(): string[] {
  return [6, 5, 4, 3, 2, 1, 0].map((ago) => new Date(Date.now() - ago * 86_400_000).toISOString().slice(0, 10));
}

export function Habits({ habits, attempt }: { habits: Habit[]; attempt: Attempt }) {
  async function add(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = event.currentTarget;
    const name = new FormData(form).get("name");
    await attempt(async () => {
      await call("POST", "/habits", { id: crypto.randomUUID(), name });
      form.reset();
    });
  }

  return (
    <section className="card" aria-label="Habits">
      <h2>Habits</h2>
      <ul>
        {habits.map((habit) => (
          <li key={habit.id}>
            <span>{habit.name}</span>
            <span className="days">
              {week().map((day) => {
                const isKept = habit.days.includes(day);
                const method = isKept ? "DELETE" : "PUT";
                return (
                  <button
                    key={day}
                    className={isKept ? "day kept" : "day"}
                    aria-label={`${habit.name} on ${day}`}
                    aria-pressed={isKept}
                    onClick={() => attempt(() => call(method, `/habits/${habit.id}/days/${day}`))}
                  />
                );
              })}
            </span>
          </li>
        ))}
      </ul>
      <form className="row" onSubmit={add}>
        <input name="name" placeholder="A new habit" aria-label="Habit" required maxLength={100} />
        <button>Add</button>
      </form>
    </section>
  );
}
