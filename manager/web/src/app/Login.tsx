import { type FormEvent, useEffect, useRef, useState } from "react";
import { ApiError } from "../api/client";
import { useManaged, useManager } from "../state/manager";
import { Button, Field } from "../ui/controls";
import { Note } from "../ui/parts";
import { Text } from "../ui/Text";
import { Mark } from "./Mark";

export function Login() {
  const manager = useManager();
  const session = useManaged((s) => s.session);
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const first = useRef<HTMLInputElement>(null);
  useEffect(() => first.current?.focus(), []);

  const send = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await manager.login(user, password);
    } catch (failed) {
      setError(sentence(failed as Error));
      setPassword("");
      setBusy(false);
    }
  };

  return (
    <main className="gate">
      <form className="gate-card" onSubmit={(event) => void send(event)}>
        <Mark />
        <h1>Log in to pgherd</h1>
        {session?.cluster && <p className="gate-about"><Text>{session.cluster}</Text></p>}
        <Field label="User">
          <input ref={first} name="user" value={user} onChange={(event) => setUser(event.target.value)} autoComplete="username" autoCapitalize="none" spellCheck={false} required />
        </Field>
        <Field label="Password">
          <input name="password" type="password" value={password} onChange={(event) => setPassword(event.target.value)} autoComplete="current-password" required />
        </Field>
        <div className="gate-error" aria-live="assertive">{error && <Note tone="error"><Text>{error}</Text></Note>}</div>
        <Button type="submit" kind="primary" disabled={busy}>{busy ? "Logging in…" : "Log in"}</Button>
        {session?.anonymous && <Button kind="quiet" onClick={() => manager.askLogin(false)}>Look without logging in</Button>}
        {session && <p className="gate-foot"><Text>{`pgherd ${session.version.replace(/^pgherd /, "")}`}</Text></p>}
      </form>
    </main>
  );
}

function sentence(error: Error): string {
  if (error instanceof ApiError && error.status === 429 && error.retryAfter) return `${error.message} Try again in ${error.retryAfter} s.`;
  return error.message;
}
