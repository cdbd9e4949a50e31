"use client";
import { useCallback, useEffect, useState } from "react";
import { type Me, refresh } from "../lib/api";
import { ENVIRONMENT } from "../lib/environment";
import { Board } from "./Board";
import { SignIn } from "./SignIn";

type Who = { kind: "unknown" } | { kind: "nobody" } | { kind: "somebody"; me: Me };

export function App() {
  const [who, setWho] = useState<Who>({ kind: "unknown" });
  const leave = useCallback(() => setWho({ kind: "nobody" }), []);
  const enter = useCallback((me: Me) => setWho({ kind: "somebody", me }), []);

  // A cookie of an earlier visit signs in.
  useEffect(() => void refresh().then(enter, leave), [enter, leave]);

  return (
    <>
      <header>
        <h1>FocusFlow</h1>
        {ENVIRONMENT !== "production" && <span className="environment">{ENVIRONMENT}</span>}
      </header>
      {who.kind === "nobody" && <SignIn onSignedIn={enter} />}
      {who.kind === "somebody" && <Board me={who.me} onSignedOut={leave} />}
    </>
  );
}
