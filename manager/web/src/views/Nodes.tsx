import type { Checks, NodeChecks } from "../api/reports";
import type { HerdNode } from "../api/types";
import { HerdMenu, NodeMenu } from "../actions/NodeActions";
import { bytes, count, millis, percent } from "../state/format";
import { useManaged } from "../state/manager";
import { type Resource, useResource } from "../state/resource";
import { visible } from "../state/visible";
import { Icon } from "../ui/icons";
import { Badge, Dot, Facts, Meter, Note, PageHead, Panel, Skeleton, type Tone } from "../ui/parts";
import { Ago, Bytes, Cut, Text } from "../ui/Text";
import { ordered } from "./herd/layout";
import { toneOf } from "./herd/ServerCard";

export function Nodes() {
  const nodes = useManaged((s) => s.known.herd?.nodes);
  const checks = useResource<Checks>("checks", 10);
  return (
    <>
      <PageHead title="Nodes" about="Each server: what runs there, what repmgr says of it, and how full its disks are.">
        <HerdMenu text="Actions on the herd" />
      </PageHead>
      {checks.error && <Note tone="error"><Text>{checks.error}</Text></Note>}
      {nodes ? ordered(nodes).map((node) => <Node key={node.id} node={node} checks={checks} />) : <Skeleton rows={8} />}
    </>
  );
}

function Node({ node, checks }: { node: HerdNode; checks: Resource<Checks> }) {
  const mine = checks.data?.nodes.find((n) => n.node === node.id);
  return (
    <Panel
      className="node"
      title={
        <>
          <Dot tone={toneOf(node)} /> <Cut>{node.name}</Cut>
          <Badge tone={node.role === "primary" ? "accent" : "plain"}>{node.role}</Badge>
          {node.detached && <Badge tone="warning">detached</Badge>}
          {node.discovered && <Badge>found in repmgr.nodes</Badge>}
        </>
      }
      aside={<NodeMenu node={node} text="Actions" />}
    >
      {(node.why_not || !node.up) && <Note tone={node.up ? "warning" : "error"}><Text>{node.why_not ?? node.state}</Text></Note>}
      <Facts
        rows={[
          ["Address", <Text key="a" className="mono">{`${node.host}:${node.port}`}</Text>],
          ["State", <span key="s"><Text>{node.state}</Text> {node.since && <span className="faint">for <Ago at={node.since} plain /></span>}</span>],
          ["Used for", node.used_for],
          ["Lag", <Bytes key="l" value={node.lag_bytes} />],
          ["Position", <span key="p"><Text className="mono">{node.lsn}</Text> {node.timeline !== null && <span className="faint">on {node.timeline}</span>}</span>],
          ["Connections", <span key="c" className="number">{`${count(node.lent)} of ${count(node.connections)} lent`}</span>],
          ["Answers in", millis(node.round_trip_ms)],
          ["Weight", node.weight],
        ]}
      />
      {mine ? <Checked checks={mine} /> : !checks.error && <Skeleton rows={3} />}
    </Panel>
  );
}

function Checked({ checks }: { checks: NodeChecks }) {
  return (
    <>
      {checks.error && <Note tone="warning"><Text>{checks.error}</Text></Note>}
      <div className="check-columns">
        <section>
          <h3>Programs</h3>
          {checks.programs.length === 0 && <Nothing why={checks.programs_error} />}
          <ul className="check-list">
            {checks.programs.map((program) => (
              <li key={program.name}>
                <Dot tone={programTone(program.state)} />
                <Cut className="check-name">{program.name}</Cut>
                <Text className="check-state">{program.state.toLowerCase()}</Text>
                {program.detail && <Cut className="check-detail">{program.detail}</Cut>}
              </li>
            ))}
          </ul>
        </section>
        <section>
          <h3>repmgr</h3>
          {checks.repmgr.length === 0 && <Nothing why={checks.repmgr_error} />}
          <ul className="check-list">
            {checks.repmgr.map((check) => (
              <li key={check.check} className={check.ok ? "" : "error"}>
                <Icon name={check.ok ? "check" : "close"} className={check.ok ? "ok-text" : "error-text"} />
                <Cut className="check-name">{check.check}</Cut>
                <span className="unseen">{check.ok ? "in order" : "not in order"}</span>
                {check.detail && <Cut className="check-detail">{check.detail}</Cut>}
              </li>
            ))}
          </ul>
        </section>
        <section>
          <h3>Disks</h3>
          {checks.disks.length === 0 && <Nothing why={checks.disks_error} />}
          <ul className="disks">
            {checks.disks.map((disk) => (
              <li key={disk.path}>
                <div className="disk-head">
                  <b>{disk.what}</b>
                  <Cut className="mono faint">{disk.path}</Cut>
                  <span className={`number disk-percent ${disk.level}`}>{percent(Math.round(disk.percent))}</span>
                </div>
                <Meter percent={disk.percent} level={disk.level} label={`${disk.what} on ${visible(disk.path)}`} />
                <span className="number faint" title={`${disk.used} of ${disk.size} bytes`}>{bytes(disk.used)} of {bytes(disk.size)}{disk.level !== "ok" && ` – ${disk.level}`}</span>
              </li>
            ))}
          </ul>
        </section>
      </div>
    </>
  );
}

/** Why there is nothing to show. */
function Nothing({ why }: { why: string | null | undefined }) {
  return <p className="faint">{why ? <Text>{why}</Text> : "Nothing is known."}</p>;
}

function programTone(state: string): Tone {
  switch (state.toUpperCase()) {
    case "RUNNING":
      return "ok";
    case "STOPPED":
    case "EXITED":
      return "plain";
    case "STARTING":
    case "STOPPING":
      return "warning";
    default:
      return "error";
  }
}
