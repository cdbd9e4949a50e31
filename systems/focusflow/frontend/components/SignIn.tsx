import { type FormEvent, useState } from "react";
import { type Me, register, signIn } from "../lib/api";

export function SignIn({ onSignedIn }: { onSignedIn: (me: Me) => void }) {
  const [trouble, setTrouble] = useState("");

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const isNew = (event.nativeEvent as SubmitEvent).submitter?.getAttribute("value") === "register";
    try {
      onSignedIn(await (isNew ? register : signIn)(String(form.get("email")), String(form.get("password"))));
    } catch (error) {
      setTrouble(error instanceof Error ? error.message : String(error));
    }
  }

  return (
    <form className="card sign-in" onSubmit={submit}>
      <label>
        E-mail
        <input name="email" type="email" autoComplete="username" required />
      </label>
      <label>
        Password
        <input name="password" type="password" autoComplete="current-password" minLength={8} required />
      </label>
      <div className="row">
        <button value="sign-in">Sign in</button>
        <button value="register" className="quiet">Register</button>
      </div>
      {trouble && <p role="alert">{trouble}</p>}
    </form>
  );
}
