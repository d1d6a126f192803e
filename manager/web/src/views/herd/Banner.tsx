import { plural } from "../../state/format";
import { useManaged } from "../../state/manager";
import { Icon, type IconName } from "../../ui/icons";
import { Text } from "../../ui/Text";

/** One sentence that says what is wrong, and one what to do. It always has its place, so that nothing moves. */
export function Banner() {
  const herd = useManaged((s) => s.known.herd);
  if (!herd) return <div className="banner plain"><span className="banner-text">Asking for the state of the herd…</span></div>;
  const { alert, writes, nodes } = herd;
  const primary = nodes.find((n) => n.id === writes.node);
  const readers = nodes.filter((n) => n.used_for === "reads").length;
  const level = alert?.level ?? (writes.open ? "ok" : "error");
  const icon: IconName = level === "ok" ? "ok" : level;
  return (
    <div className={`banner ${level}`} role={level === "error" ? "alert" : "status"}>
      <Icon name={icon} />
      <div className="banner-text">
        {alert ? (
          <>
            <strong><Text>{alert.text}</Text></strong>
            {alert.advice && <span><Text>{alert.advice}</Text></span>}
          </>
        ) : writes.open ? (
          <>
            <strong>All is well.</strong>
            <span>
              Writes go to <Text>{primary?.name ?? "the primary"}</Text>, reads to {readers > 0 ? plural(readers, "standby", "standbys") : "the primary, too"}.
            </span>
          </>
        ) : (
          <>
            <strong>Writes wait.</strong>
            <span><Text>{writes.reason}</Text></span>
          </>
        )}
      </div>
    </div>
  );
}
