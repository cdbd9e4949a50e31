import { type Me, signOut } from "../lib/api";
import { useFocus } from "../lib/useFocus";
import { Habits } from "./Habits";
import { Suggestions } from "./Suggestions";
import { Tasks } from "./Tasks";
import { Timer } from "./Timer";

export function Board({ me, onSignedOut }: { me: Me; onSignedOut: () => void }) {
  const focus = useFocus(onSignedOut);
  return (
    <main>
      <div className="row status">
        <span>{me.email}</span>
        <span className={focus.isLive ? "live" : "away"}>{focus.isLive ? "live" : "connecting"}</span>
        <button className="quiet" onClick={() => focus.attempt(() => signOut().then(onSignedOut))}>Sign out</button>
      </div>
      {focus.notice && <p role="status" className="notice">{focus.notice}</p>}
      <div className="columns">
        <Tasks tasks={focus.tasks} attempt={focus.attempt} />
        <div>
          <Timer logs={focus.logs} attempt={focus.attempt} />
          <Suggestions suggestions={focus.suggestions} />
          <Habits habits={focus.habits} attempt={focus.attempt} />
        </div>
      </div>
    </main>
  );
}

/** Does something that may fail, and says so where it does. */
export type Attempt = (work: () => Promise<unknown>) => Promise<void>;
