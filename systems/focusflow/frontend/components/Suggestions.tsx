import type { Suggestion } from "../lib/api";

const TIME: Intl.DateTimeFormatOptions = { weekday: "long", hour: "2-digit", minute: "2-digit" };

/** Times to focus, or why there are none. */
export function Suggestions({ suggestions }: { suggestions: Suggestion[] | string }) {
  return (
    <section className="card" aria-label="Good times">
      <h2>Good times</h2>
      {typeof suggestions === "string" && <p>{suggestions}</p>}
      {suggestions.length === 0 && <p>Log some time, and you will see when you focus best.</p>}
      {typeof suggestions !== "string" && (
        <ul>
          {suggestions.map((one) => (
            <li key={one.starts_at}>
              <time>{new Date(one.starts_at).toLocaleString([], TIME)}</time>
              <span>{`${one.weeks} of the last ${one.of} weeks`}</span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
