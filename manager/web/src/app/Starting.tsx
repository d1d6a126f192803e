import { useManaged } from "../state/manager";
import { Text } from "../ui/Text";
import { Mark } from "./Mark";

export function Starting() {
  const error = useManaged((s) => s.sessionError);
  return (
    <main className="gate">
      <div className="gate-card" role="status">
        <Mark />
        {error ? (
          <>
            <h1>pgherd does not answer</h1>
            <p className="gate-about"><Text>{error}</Text> It is asked again every three seconds.</p>
          </>
        ) : (
          <p className="gate-about">Asking pgherd…</p>
        )}
      </div>
    </main>
  );
}
