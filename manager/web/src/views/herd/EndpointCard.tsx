import { count, millis, short } from "../../state/format";
import { useManaged } from "../../state/manager";
import { Mark } from "../../app/Mark";
import { Icon } from "../../ui/icons";
import { Badge } from "../../ui/parts";
import type { Box } from "./layout";

export const placed = ({ x, y, w, h }: Box) => ({ left: x, top: y, width: w, height: h });

export function AppsCard({ box }: { box: Box }) {
  const clients = useManaged((s) => s.known.herd?.traffic?.clients ?? null);
  const waiting = useManaged((s) => s.known.herd?.traffic?.waiting ?? null);
  return (
    <article className="card apps-card" style={placed(box)}>
      <h3><Icon name="apps" /> Applications</h3>
      <p className="number"><b>{count(clients)}</b> clients</p>
      <p className={`number ${waiting ? "warn-text" : "faint"}`}>{count(waiting)} waiting</p>
    </article>
  );
}

export function EndpointCard({ box }: { box: Box }) {
  const open = useManaged((s) => s.known.herd?.writes.open ?? false);
  const queries = useManaged((s) => s.known.herd?.traffic?.queries ?? null);
  const p99 = useManaged((s) => s.known.herd?.traffic?.p99_ms ?? null);
  const active = useManaged((s) => s.known.herd?.traffic?.active ?? null);
  const idle = useManaged((s) => s.known.herd?.traffic?.idle ?? null);
  return (
    <article className="card endpoint-card" style={placed(box)}>
      <h3><Mark /> pgherd</h3>
      <Badge tone={open ? "ok" : "error"}>{open ? "writes open" : "writes wait"}</Badge>
      <dl className="tiny-facts">
        <div><dt>queries/s</dt><dd className="number">{short(queries)}</dd></div>
        <div><dt>p99</dt><dd className="number">{millis(p99)}</dd></div>
        <div><dt>servers</dt><dd className="number" title={`${active ?? "?"} active, ${idle ?? "?"} idle server connections`}>{count(active)} / {count(active === null || idle === null ? null : active + idle)}</dd></div>
      </dl>
    </article>
  );
}
