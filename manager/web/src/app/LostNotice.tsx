import { duration } from "../state/format";
import { useManaged, useManager } from "../state/manager";
import { useNow } from "../state/now";
import { Button } from "../ui/controls";
import { Icon } from "../ui/icons";

/** Lies over the page, so that nothing moves when the connection goes or comes. */
export function LostNotice() {
  const link = useManaged((s) => s.link);
  if (link.state !== "lost") return null;
  return <Lost retryAt={link.retryAt} />;
}

function Lost({ retryAt }: { retryAt: number }) {
  const manager = useManager();
  const now = useNow();
  const heard = useManaged((s) => s.known.heard);
  const wait = Math.max(0, Math.ceil((retryAt - now) / 1000));
  return (
    <div className="lost">
      <Icon name="warning" />
      <div>
        <strong role="alert">The connection to pgherd is lost.</strong>
        <span className="number">
          {heard !== null && ` What you see is ${duration(Math.floor(Math.max(0, now - heard) / 1000))} old.`}
          {wait > 0 ? ` Next try in ${wait} s.` : " Trying…"}
        </span>
      </div>
      <Button small onClick={() => manager.retry()}>Try now</Button>
    </div>
  );
}
