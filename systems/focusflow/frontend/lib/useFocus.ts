import { useCallback, useEffect, useState } from "react";
import { type Habit, type Log, type Suggestion, type Task, Failed, call } from "./api";
import { type Update, listen } from "./live";

/** Everything that is shown of whoever is signed in, kept current. */
export function useFocus(onSignedOut: () => void) {
  const [tasks, setTasks] = useState<Task[]>([]);
  const [habits, setHabits] = useState<Habit[]>([]);
  const [logs, setLogs] = useState<Log[]>([]);
  const [suggestions, setSuggestions] = useState<Suggestion[] | string>([]);
  const [isLive, setIsLive] = useState(false);
  const [notice, setNotice] = useState("");

  /** Does it, and says what went wrong. */
  const attempt = useCallback(
    async (work: () => Promise<unknown>) => {
      try {
        await work();
        setNotice("");
      } catch (error) {
        if (error instanceof Failed && error.status === 401) onSignedOut();
        else setNotice(error instanceof Error ? error.message : String(error));
      }
    },
    [onSignedOut],
  );

  const loadTasks = useCallback(async () => setTasks((await call<{ tasks: Task[] }>("GET", "/tasks")).tasks), []);
  const loadHabits = useCallback(async () => setHabits((await call<{ habits: Habit[] }>("GET", "/habits")).habits), []);
  const loadLogs = useCallback(async () => {
    setLogs((await call<{ logs: Log[] }>("GET", "/logs")).logs);
    // The rest works without the service that makes them.
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const asked = call<{ suggestions: Suggestion[] }>("GET", `/suggestions?zone=${encodeURIComponent(zone)}`);
    setSuggestions(await asked.then((answer) => answer.suggestions, (error: Error) => error.message));
  }, []);

  const onUpdate = useCallback(
    (update: Update) => {
      switch (update.kind) {
        case "task":
          return setTasks((old) => merged(old, update.task));
        case "task-gone":
          return setTasks((old) => old.filter((task) => task.id !== update.id));
        case "reminder":
          setTasks((old) => merged(old, update.task));
          return setNotice(`It is time: ${update.task.title}`);
        case "habits":
          return void attempt(loadHabits);
        case "logs":
          return void attempt(loadLogs);
        case "hello":
        case "again":
          return void attempt(() => Promise.all([loadTasks(), loadHabits(), loadLogs()]));
      }
    },
    [attempt, loadTasks, loadHabits, loadLogs],
  );

  useEffect(() => {
    // Shown even where no WebSocket comes about.
    onUpdate({ kind: "again" });
    return listen(onUpdate, setIsLive);
  }, [onUpdate]);

  return { tasks, habits, logs, suggestions, isLive, notice, attempt };
}

function merged(old: Task[], task: Task): Task[] {
  const others = old.filter((one) => one.id !== task.id);
  return [...others, task].sort((a, b) => b.created_at.localeCompare(a.created_at));
}
