import { useLayoutEffect, useMemo, useRef, useState } from "react";
import type { HerdNode } from "../../api/types";
import { bytes, duration, short } from "../../state/format";
import { useManaged } from "../../state/manager";
import { Skeleton } from "../../ui/parts";
import { AppsCard, EndpointCard } from "./EndpointCard";
import { ServerCard } from "./ServerCard";
import { type Picture as Layout, layout } from "./layout";

const none: HerdNode[] = [];

/** Applications, pgherd and the servers; who writes, reads and follows where. */
export function Picture() {
  const nodes = useManaged((s) => s.known.herd?.nodes) ?? none;
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const place = box.current;
    if (!place) return;
    const measure = () => setWidth(Math.floor(place.clientWidth));
    const sized = new ResizeObserver(measure);
    sized.observe(place);
    measure();
    return () => sized.disconnect();
  }, []);
  const shape = nodes.map((n) => `${n.id} ${n.role} ${n.upstream ?? ""}`).join();
  const picture = useMemo(
    () => layout(width, nodes),
    // Only what is in `shape` moves anything.
    [width, shape],
  );
  return (
    <div ref={box} className={`picture ${picture.narrow ? "narrow" : ""}`} role="group" aria-label="The herd" style={{ height: nodes.length ? picture.height : undefined }}>
      {nodes.length === 0 ? (
        <Skeleton rows={6} />
      ) : width > 0 && (
        <>
          <Arrows picture={picture} nodes={nodes} width={width} />
          <AppsCard box={picture.apps} />
          <EndpointCard box={picture.endpoint} />
          {nodes.map((node) => {
            const place = picture.servers.get(node.id);
            return place && <ServerCard key={node.id} node={node} box={place} />;
          })}
        </>
      )}
    </div>
  );
}

function Arrows({ picture, nodes, width }: { picture: Layout; nodes: HerdNode[]; width: number }) {
  const node = (id: number) => nodes.find((n) => n.id === id);
  return (
    <svg className="arrows" width={width} height={picture.height} viewBox={`0 0 ${width} ${picture.height}`} role="img" aria-label={inWords(nodes)}>
      <defs>
        {(["line", "accent", "reads", "warning", "error", "muted"] as const).map((tone) => (
          <marker key={tone} id={`head-${tone}`} className={`head ${tone}`} viewBox="0 0 8 8" refX="1" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto-start-reverse">
            <path d="M0 0 8 4 0 8z" />
          </marker>
        ))}
      </defs>
      <Inbound picture={picture} />
      {picture.routes.map((arrow) => {
        const to = node(arrow.node);
        return to && <Route key={`${arrow.node}`} path={arrow.path} label={picture.narrow ? null : arrow.label} node={to} />;
      })}
      {picture.replication.map((arrow) => {
        const to = node(arrow.node);
        return to && <Replicates key={arrow.node} path={arrow.path} label={arrow.label} node={to} narrow={picture.narrow} />;
      })}
    </svg>
  );
}

function Inbound({ picture }: { picture: Layout }) {
  const rate = useManaged((s) => s.known.herd?.traffic?.transactions ?? null);
  const clients = useManaged((s) => s.known.herd?.traffic?.clients ?? null);
  const { path, label } = picture.inbound;
  return (
    <g>
      <path className="arrow line" d={path} markerEnd="url(#head-line)" strokeWidth={thickness(rate)} />
      <text className="arrow-label" x={label.x} y={label.y} textAnchor={picture.narrow ? "start" : "middle"}>
        {short(rate)} tx/s
      </text>
      {!picture.narrow && (
        <text className="arrow-label faint" x={label.x} y={label.y + 26} textAnchor="middle">
          {short(clients)} clients
        </text>
      )}
    </g>
  );
}

function Route({ path, label, node }: { path: string; label: { x: number; y: number } | null; node: HerdNode }) {
  const open = useManaged((s) => s.known.herd?.writes.open ?? false);
  const rate = useManaged((s) => s.known.herd?.traffic?.transactions ?? null);
  const primary = node.role === "primary";
  const writes = node.used_for === "writes";
  const reads = node.used_for === "reads";
  if (node.used_for === "no" && !primary) return null;
  const tone = primary ? (writes && open ? "accent" : node.up ? "warning" : "error") : "reads";
  const says = primary ? (writes && open ? "writes" : "writes wait") : reads ? "reads" : node.used_for;
  const count = primary ? `${short(node.lent)} lent` : `${short(node.reads_per_second)}/s`;
  return (
    <g>
      <path className={`arrow ${tone}`} d={path} markerEnd={`url(#head-${tone})`} strokeWidth={thickness(primary ? rate : node.reads_per_second)} />
      {label && (
        <>
          <text className={`arrow-label ${tone}`} x={label.x} y={label.y} textAnchor="middle">{says}</text>
          <text className="arrow-label faint" x={label.x} y={label.y + 26} textAnchor="middle">{count}</text>
        </>
      )}
    </g>
  );
}

function Replicates({ path, label, node, narrow }: { path: string; label: { x: number; y: number }; node: HerdNode; narrow: boolean }) {
  const flows = node.up && node.receiver === "streaming";
  const tone = flows ? "line" : node.up ? "warning" : "muted";
  const lag = node.replay_lag_bytes ?? node.lag_bytes;
  return (
    <g>
      <path className={`arrow ${tone} replication`} d={path} markerEnd={`url(#head-${tone})`} />
      {flows || node.lag_bytes !== null ? (
        <>
          <text className="arrow-label start" x={label.x} y={label.y - 2}>{bytes(lag)}</text>
          <text className={`arrow-label start ${flows ? "faint" : "warning"}`} x={label.x} y={label.y + 13}>
            {flows ? (narrow ? duration(node.replay_lag_seconds) : [duration(node.replay_lag_seconds), node.sync_state].filter((t) => t && t !== "async").join(" · ")) : (node.receiver ?? "stopped").slice(0, 12)}
          </text>
        </>
      ) : (
        <text className="arrow-label start warning" x={label.x} y={label.y + 4}>{narrow ? "cut" : "not streaming"}</text>
      )}
    </g>
  );
}

/** The thicker the more goes there, by powers of ten. */
function thickness(perSecond: number | null): number {
  return 1.5 + Math.min(2.5, Math.log10(1 + Math.max(0, perSecond ?? 0)) * 0.6);
}

function inWords(nodes: HerdNode[]): string {
  const name = (id: number | null) => nodes.find((n) => n.id === id)?.name ?? "nobody";
  return nodes.map((n) => (n.role === "primary" ? `${n.name} takes ${n.used_for}` : `${n.name} follows ${name(n.upstream)}, ${bytes(n.lag_bytes)} behind, used for ${n.used_for}`)).join("; ");
}
