import { type FormEvent } from "react";
import { type Task, call } from "../lib/api";
import type { Attempt } from "./Board";

export function Tasks({ tasks, attempt }: { tasks: Task[]; attempt: Attempt }) {
  async function add(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = event.currentTarget;
    const { title, remind_at } = Object.fromEntries(new FormData(form)) as Record<string, string>;
    const task = { id: crypto.randomUUID(), title, remind_at: remind_at ? new Date(remind_at).toISOString() : null };
    await attempt(async () => {
      await call("POST", "/tasks", task);
      form.reset();
    });
  }

  return (
    <section className="card" aria-label="Tasks">
      <h2>Tasks</h2>
      <form className="row" onSubmit={add}>
        <input name="title" placeholder="What is to be done?" aria-label="Title" required maxLength={500} />
        <input name="remind_at" type="datetime-local" aria-label="Remind me at" />
        <button>Add</button>
      </form>
      <ul>
        {tasks.map((task) => (
          <li key={task.id} className={task.done_at ? "done" : ""}>
            <label>
              <input
                type="checkbox"
                checked={task.done_at !== null}
                onChange={(event) => attempt(() => call("PATCH", `/tasks/${task.id}`, { done: event.target.checked }))}
              />
              {task.title}
            </label>
            {task.remind_at && <time>{new Date(task.remind_at).toLocaleString()}</time>}
            <button className="quiet" aria-label={`Delete ${task.title}`} onClick={() => attempt(() => call("DELETE", `/tasks/${task.id}`))}>
              ×
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
