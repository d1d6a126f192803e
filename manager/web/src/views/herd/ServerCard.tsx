import { memo } from "react";
import { NodeMenu } from "../../actions/NodeActions";
import type { HerdNode } from "../../api/types";
import { count, millis, short } from "../../state/format";
import { visible } from "../../state/visible";
import { Badge, Dot, type Tone } from "../../ui/parts";
import { Cut } from "../../ui/Text";
import { placed } from "./EndpointCard";
import type { Box } from "./layout";

export function toneOf(node: HerdNode): Tone {
  if (!node.up) return "error";
  return node.used_for === "no" || node.why_not ? "warning" : "ok";
}

export const ServerCard = memo(
  function ServerCard({ node, box }: { node: HerdNode; box: Box }) {
    const tone = toneOf(node);
    const wrong = node.why_not ?? (node.up ? null : node.state);
    return (
      <article className={`card server-card ${tone} ${node.role}`} style={placed(box)} data-node={node.id} aria-label={`Server ${visible(node.name)}`}>
        <header>
          <Dot tone={tone} />
          <h3><Cut>{node.name}</Cut></h3>
          <Badge tone={node.role === "primary" ? "accent" : "plain"}>{node.role}</Badge>
          <NodeMenu node={node} />
        </header>
        <Cut className="server-host">{`${node.host}:${node.port}`}</Cut>
        {wrong ? <Cut className={`server-why ${tone}`}>{wrong}</Cut> : <Cut className="server-why faint">{`${node.state}, used for ${node.used_for}`}</Cut>}
        <dl className="tiny-facts across">
          <div><dt>lent</dt><dd className="number" title={`${node.lent} of ${node.connections} connections are lent`}>{count(node.lent)}/{count(node.connections)}</dd></div>
          <div><dt>reads/s</dt><dd className="number">{short(node.reads_per_second)}</dd></div>
          <div><dt>answers in</dt><dd className="number">{millis(node.round_trip_ms)}</dd></div>
          <div className="wide-only"><dt>timeline</dt><dd className="number">{node.timeline ?? "–"}</dd></div>
        </dl>
      </article>
    );
  },
  (a, b) => a.node === b.node && a.box.x === b.box.x && a.box.y === b.box.y && a.box.w === b.box.w && a.box.h === b.box.h,
);
