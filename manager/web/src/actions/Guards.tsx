import type { Guard } from "../api/types";
import { Icon } from "../ui/icons";
import { Text } from "../ui/Text";

const icons = { holds: "check", waits: "wait", fails: "close" } as const;
const tones = { holds: "ok", waits: "warning", fails: "error" } as const;

export function Guards({ guards }: { guards: Guard[] }) {
  return (
    <ul className="guards">
      {guards.map((guard) => (
        <li key={guard.what} className={tones[guard.holds]}>
          <Icon name={icons[guard.holds]} />
          <div>
            <Text className="guard-what">{guard.what}</Text>
            <span className="unseen"> {guard.holds}. </span>
            {guard.why && <Text className="guard-why">{guard.why}</Text>}
          </div>
        </li>
      ))}
    </ul>
  );
}
